"""The command line. It parses, calls the client, prints; whatever it does can be done from Python too.

A module for each group of commands. Exit codes: 0 done, 1 the work failed, 2 the request or the configuration is wrong.
"""

import click

from vv_exports import __version__
from vv_exports.cli import (
    automations,
    checks,
    config,
    connectors,
    demo,
    destinations,
    erasure,
    exports,
    indexes,
    init,
    log,
    metrics,
    notifications,
    provenance,
    reload,
    report,
    runs,
    source,
    sql,
    status,
    tables,
    ui,
)
from vv_exports.cli.commands import COMMON, Commands, Settings
from vv_exports.own_process import settle


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        demo.demo,
        init.init,
        config.GROUP,
        source.GROUP,
        runs.GROUP,
        exports.EXPORT,
        exports.EXPORTS,
        status.status,
        metrics.metrics,
        automations.GROUP,
        automations.backfill,
        connectors.GROUP,
        indexes.GROUP,
        reload.reload,
        ui.ui,
        destinations.verify,
        provenance.provenance,
        report.report,
        sql.sql,
        tables.GROUP,
        log.GROUP,
        checks.checks,
        notifications.GROUP,
        destinations.vacuum,
        erasure.erase,
    ],
)
@click.version_option(__version__, prog_name="vv-exports")
@COMMON[0]
@COMMON[1]
@click.pass_context
def main(context: click.Context, as_json: bool, debug: bool) -> None:
    """Deliver VideoVector prompt runs: complete, typed, in the right folder."""
    settle()
    context.obj = Settings(as_json, debug)
