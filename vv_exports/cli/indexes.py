"""The indexes that are followed."""

import click

from vv_exports.cli import changes
from vv_exports.cli.commands import INDEX, command, listing, open_client
from vv_exports.console import Console
from vv_exports.printable import counted, one_line


@command(
    "add",
    INDEX,
    click.option(
        "--discovery-interval-seconds",
        type=int,
        metavar="N",
        help="How often it is looked at; by default every 30 s, or less often with very many.",
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


@command("list")
def list_(console: Console) -> None:
    """List the indexes that are followed, and by which template."""
    found = open_client().indexes.list()
    rows = [{**vars(one), "automations": list(one.automations)} for one in found]
    listing(console, rows, empty="No index is followed: `vv-exports indexes add` follows one.")


@command("sync", click.option("--dry-run", is_flag=True, help="Say what would be followed; write nothing."))
def sync(console: Console, *, dry_run: bool) -> None:
    """Ask the source which indexes it has, for the templates of the configuration."""
    done = open_client().indexes.sync(dry_run=dry_run)
    if console.as_json:
        console.document(done)
        return
    would = " would be" if dry_run else ""
    console.line(f"{counted(done.followed, 'index', 'indexes')}{would} followed by templates; {len(done.new)} new.")
    for what, index_ids in (("new", done.new), ("back at the source", done.back), ("gone from the source", done.gone)):
        for index_id in index_ids:
            console.line(f"{one_line(index_id)}: {what}")
    if done.gone:
        console.note("An index that is gone keeps its automations until `exclude` of its template names it.")
    if done.new and not dry_run:
        console.note("A Dagster that runs follows the new ones after `vv-exports reload`; commands do at once.")


GROUP = click.Group("indexes", help="The indexes that are followed.", commands=[add, list_, sync])
