"""Dagster's UI."""

import click

from vv_exports.cli.commands import command, open_client
from vv_exports.console import Console


@command(
    "ui",
    click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, metavar="N"),
    click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="The address that it listens at."),
)
def ui(console: Console, port: int, host: str) -> None:
    """Start Dagster's UI with its daemon, on this configuration and its Dagster instance. Stop it with Ctrl-C."""
    client = open_client()
    console.note(f"The UI will be at http://{host}:{port} in half a minute, and deliver while it runs.")
    client.ui(host=host, port=port)
