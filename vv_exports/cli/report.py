"""A page about a collection."""

from pathlib import Path

import click

from vv_exports.cli.commands import INDEX, command, open_client
from vv_exports.console import Console
from vv_exports.errors import RequestError


@command(
    "report",
    INDEX,
    click.argument("name"),
    click.option("--to", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."),
)
def report(console: Console, index: str, name: str, to: Path) -> None:
    """Write a page in HTML about what an automation delivered: its prompt runs, deliveries and checks, and how segments
    cover the media. One file that loads nothing, to mail."""
    page = open_client().automations.report(index, name)
    try:
        to.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{to} cannot be written: {error.strerror or error}") from error
    if console.as_json:
        console.document({"index_id": index, "automation": name, "path": str(to), "bytes": len(page.encode())})
    console.line(f"{to} ({len(page.encode()):,} bytes)")
