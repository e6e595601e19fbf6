"""The form of delivery logs, for those who read them without this package."""

import click

from vv_exports.cli.commands import command
from vv_exports.console import Console


@command("schema")
def schema(console: Console) -> None:
    """Print the JSON Schema of an entry of a delivery log (_vv/log/), for whoever reads deliveries without this
    package."""
    from vv_exports.client.anywhere import log_schema

    console.document(log_schema())


GROUP = click.Group("log", help="Delivery logs.", commands=[schema])
