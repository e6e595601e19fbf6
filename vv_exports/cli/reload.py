"""Having a Dagster that runs take over the configuration."""

import click

from vv_exports.cli.commands import command, open_client
from vv_exports.console import Console


@command(
    "reload",
    click.option(
        "--url",
        default="http://127.0.0.1:3000",
        show_default=True,
        metavar="URL",
        help="Where Dagster's webserver is.",
    ),
    click.option(
        "--location",
        default="vv_exports",
        show_default=True,
        metavar="NAME",
        help="The code location, where your own workspace calls it otherwise.",
    ),
)
def reload(console: Console, url: str, location: str) -> None:
    """Have the Dagster that runs take over the configuration as it is now, like *Reload* in its UI."""
    open_client().reload(url, location)
    if console.as_json:
        console.document({"reloaded": True, "url": url})
    console.line(f"the Dagster at {url} has taken over the configuration")
