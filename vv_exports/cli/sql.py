"""Views of a collection, for the databases that read it."""

from typing import Any

import click

from vv_exports.cli.commands import INDEX, command, open_client
from vv_exports.console import Console


@command(
    "sql",
    INDEX,
    click.argument("name"),
    click.option("--engine", type=click.Choice(["duckdb"]), required=True, help="The database that is to read it."),
    click.option("--view", type=click.Choice(["current", "latest"]), help="Only this view; without it, both."),
)
def sql(console: Console, index: str, name: str, engine: str, view: Any) -> None:
    """Print the SQL that makes views of an automation's collection: of each prompt and table, all rows that are there
    (schema NAME_current), and those of the latest complete run of each prompt (NAME_latest). It is of the files that
    are there now: print it again after each delivery."""
    script = open_client().automations.sql(index, name, (view,) if view else ("current", "latest"))
    if console.as_json:
        console.document({"index_id": index, "automation": name, "engine": engine, "sql": script})
    console.line(script)
