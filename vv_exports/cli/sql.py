"""Views of a collection, for the databases that read it."""

from typing import Any

import click

from vv_exports.cli.commands import INDEX, command, open_client
from vv_exports.console import Console

_ENGINES = ("duckdb", "athena", "bigquery", "snowflake", "spark")  # named here, since --help imports no pipeline


@command(
    "sql",
    INDEX,
    click.argument("name"),
    click.option("--engine", type=click.Choice(_ENGINES), required=True, help="The database that is to read it."),
    click.option("--view", type=click.Choice(["current", "latest"]), help="Only this view; without it, both."),
    click.option("--location", help="Where the database finds a copy of the collection, such as s3://bucket/reviews."),
)
def sql(  # noqa: PLR0917 - click names them
    console: Console, index: str, name: str, engine: Any, view: Any, location: str | None
) -> None:
    """Print the SQL that makes views of an automation's collection in a database: of each prompt and table, all rows
    that are there (schema NAME_current), and those of the latest complete run of each prompt (NAME_latest). It is of
    the files that are there now: print it again after each delivery."""
    views = (view,) if view else ("current", "latest")
    script = open_client().automations.sql(index, name, views, engine=engine, location=location)
    if console.as_json:
        console.document({"index_id": index, "automation": name, "engine": engine, "sql": script})
    console.line(script)
