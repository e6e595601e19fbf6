"""The command line. It parses, calls the client, prints; whatever it does can be done from Python too.

A module for each group of commands. Exit codes: 0 done, 1 the work failed, 2 the request or the configuration is wrong.
"""

import gc

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

_NEW_OBJECTS = 20_000
"""So many before Python looks for cycles among them. Else it looks several times at all that is imported, a quarter of
a million objects that stay: a seventh of the time that a command takes to start."""


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
    gc.set_threshold(_NEW_OBJECTS)
    context.obj = Settings(as_json, debug)
