"""Delta and Iceberg tables of collections."""

from collections.abc import Sequence
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, command, listing, open_client
from vv_exports.console import Console
from vv_exports.printable import one_line


@command("list", INDEX, click.argument("name"))
def list_(console: Console, index: str, name: str) -> int:
    """List the tables of an automation: what a reader is given, and which entry of the delivery log each shows. Exits
    with 1 where one is behind."""
    return _told(console, open_client().tables.list(index, name))


@command(
    "rebuild",
    INDEX,
    click.argument("name"),
    click.option("--dry-run", is_flag=True, help="List the tables that would be made anew; write nothing."),
)
def rebuild(console: Console, index: str, name: str, *, dry_run: bool) -> int:
    """Drop the tables of an automation, and make them of its delivery log as it is now. No data file is touched;
    earlier versions of the tables are gone."""
    return _told(console, open_client().tables.rebuild(index, name, dry_run=dry_run))


@command(
    "drop",
    INDEX,
    click.argument("name"),
    click.option("--dry-run", is_flag=True, help="Say what would be dropped; write nothing."),
)
def drop(console: Console, index: str, name: str, *, dry_run: bool) -> None:
    """Remove the tables of an automation, and no data file. Those that the configuration chooses are made again by the
    next delivery; Delta tables go also where it does not choose them any more."""
    dropped = open_client().tables.drop(index, name, dry_run=dry_run)
    if console.as_json:
        console.document(dropped)
        return
    for location in dropped:
        would = "would be" if dry_run else "is"
        console.line(f"{one_line(location)} {would} no table any more; its data files stay")
    if not dropped:
        console.line("there is no table; nothing to drop")


def _told(console: Console, found: Sequence[Any]) -> int:
    names = ("format", "table", "version", "entry", "location", "behind")
    listing(console, [vars(one) for one in found], names, empty="there is no table yet: nothing was delivered")
    return FAILED if any(one.behind for one in found) else DONE


GROUP = click.Group("tables", help="Delta and Iceberg tables of collections.", commands=[list_, rebuild, drop])
