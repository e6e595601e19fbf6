"""The source of prompt runs."""

import click

from vv_exports.cli.commands import command, open_client
from vv_exports.cli.findings import steps, told
from vv_exports.console import Console


@command("check")
def check(console: Console) -> int:
    """Try credentials, scopes and the configured indexes at the source, reading only."""
    code, findings = told(console, open_client().source.check())
    if console.as_json:
        console.document(steps(findings))
    return code


GROUP = click.Group("source", help="The source of prompt runs.", commands=[check])
