"""The indexes that are followed."""

import click

from vv_exports.cli import changes
from vv_exports.cli.commands import INDEX, command, open_client
from vv_exports.console import Console


@command(
    "add",
    INDEX,
    click.option(
        "--discovery-interval-seconds", type=int, metavar="N", help="How often it is looked at, 30 by default."
    ),
    changes.RUN_TAG,
    changes.DRY_RUN,
)
def add(
    console: Console, index: str, *, discovery_interval_seconds: int | None, run_tags: tuple[str, ...], dry_run: bool
) -> None:
    """Have the configuration's file follow an index of the source."""
    client = open_client()
    tags = changes.pairs("--run-tag", run_tags)
    change = client.indexes.add(
        index, discovery_interval_seconds=discovery_interval_seconds, run_tags=tags, dry_run=dry_run
    )
    changes.told(console, change)


GROUP = click.Group("indexes", help="The indexes that are followed.", commands=[add])
