"""Delta and Iceberg tables of collections."""

from collections.abc import Sequence
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, command, listing, open_client
from vv_exports.console import Console


@command("list", INDEX, click.argument("name"))
def list_(console: Console, index: str, name: str) -> int:
    """List the tables of an automation: what a reader is given, and which entry of the delivery log each shows. Exits
    with 1 where one is behind."""
    return _told(console, open_client().tables.list(index, name))


@command("rebuild", INDEX, click.argument("name"))
def rebuild(console: Console, index: str, name: str) -> int:
    """Drop the tables of an automation, and make them of its delivery log as it is now. No data file is touched;
    earlier versions of the tables are gone."""
    return _told(console, open_client().tables.rebuild(index, name))


def _told(console: Console, found: Sequence[Any]) -> int:
    names = ("format", "table", "version", "entry", "location", "behind")
    listing(console, [vars(one) for one in found], names, empty="there is no table yet: nothing was delivered")
    return FAILED if any(one.behind for one in found) else DONE


GROUP = click.Group("tables", help="Delta and Iceberg tables of collections.", commands=[list_, rebuild])
