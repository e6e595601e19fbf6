"""What is at a connector's destinations: whether it is what was committed, and what else is there."""

import os
from pathlib import Path
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, command, open_client, read_config
from vv_exports.cli.repairs import repaired, verified
from vv_exports.console import Console
from vv_exports.errors import RequestError
from vv_exports.printable import counted, one_line


@command(
    "verify",
    click.argument("target", metavar="ID|INDEX|PATH|ZIP|URL"),
    click.argument("name", metavar="[NAME]", required=False),
    click.option("--subpath", metavar="P", help="Of a connector, only this destination; without it, all of them."),
    click.option(
        "--repair",
        is_flag=True,
        help="Deliver again what is missing or altered in collections of automations, and make their log and owner "
        "file whole. It deletes nothing that is not the pipeline's.",
    ),
    click.option("--dry-run", is_flag=True, help="With --repair: say what would be done; write nothing."),
)
def verify(console: Console, target: str, name: str | None, subpath: str | None, *, repair: bool, dry_run: bool) -> int:
    """Re-read every committed file at a destination, compare it with the delivery log, and name what readers take
    beside it. A destination is one of a configured connector; the collection of an automation (INDEX NAME); or, without
    any configuration, a folder, the zip file of a download, or an address (s3://, gs://, az://, with the environment's
    credentials). A folder of the same name as a connector is ./NAME."""
    if dry_run and not repair:
        raise RequestError("--dry-run belongs to --repair: without that, nothing is written")
    if name is not None and subpath is not None:
        raise RequestError("--subpath is of a connector; an automation's collection is named by INDEX NAME alone")
    if repair:
        if name is None and _is_a_place(target):
            raise RequestError(
                f"{target} is repaired by whoever delivers it: name the automation, INDEX NAME, or the connector. A "
                "copy cannot be repaired: get it again from where it came"
            )
        return repaired(console, target, name, subpath, dry_run=dry_run)
    with console.progress() as progress:
        found = _verified(target, name, subpath, progress)
    if console.as_json:
        console.document(found)
    for one in found:
        verified(console, one)
    if not found:
        console.line(f"nothing was delivered to connector {one_line(target)} yet")
    return FAILED if any(one.problems for one in found) else DONE


def _verified(target: str, name: str | None, subpath: str | None, progress: Any) -> Any:
    if name is not None:
        return [open_client(progress).repairs.verify(target, name)]
    if not _is_a_place(target):
        return open_client(progress).verify(target, subpath)
    if subpath is not None:
        raise RequestError(f"--subpath is of a connector; name the folder itself: {target.rstrip('/')}/{subpath}")

    from vv_exports.client.anywhere import verify_at  # Dagster takes a second to import

    return verify_at(target, progress=progress)


def _is_a_place(target: str) -> bool:
    """Whether a path or an address is meant: a name alone is a connector's, where there is a configuration."""
    if "/" in target or os.sep in target or target in {".", ".."} or target.endswith(".zip"):
        return True
    if not Path(target).exists():
        return False

    from vv_exports.config import is_packaged_demo

    # Whoever received a delivery has no configuration, and no connectors of the demo.
    return is_packaged_demo() or target not in read_config().connectors


@command(
    "vacuum",
    click.argument("connector_id", metavar="ID"),
    click.option("--subpath", metavar="P", help="The destination: a folder that an export owns."),
    click.option("--dry-run", is_flag=True, help="Say what would be removed; write nothing."),
    click.option("--without-log", is_flag=True, help="Also where nothing was ever committed: all data files go."),
    click.option(
        "--abandoned",
        is_flag=True,
        help="Collections that their automations have left for another place, of all the connector or at --subpath.",
    ),
)
def vacuum(
    console: Console, connector_id: str, subpath: str | None, *, dry_run: bool, without_log: bool, abandoned: bool
) -> None:
    """Remove what was superseded or left over at a destination, and nothing else. With --abandoned, remove collections
    that were left: see with --dry-run first which."""
    if abandoned:
        if without_log:
            raise RequestError("--abandoned is of collections that have a log; leave out --without-log")
        _vacuum_abandoned(console, connector_id, subpath, dry_run=dry_run)
        return
    if subpath is None:
        raise RequestError("say which destination with --subpath, or --abandoned for collections that were left")
    done = open_client().vacuum(connector_id, subpath, dry_run=dry_run, without_log=without_log)
    if console.as_json:
        console.document(done)
    verb = "would remove" if dry_run else "removed"
    kept = f"; left alone, since not the pipeline's: {len(done.left_alone)}" if done.left_alone else ""
    console.line(
        f"{done.uri}: {verb} {len(done.superseded)} superseded and {counted(len(done.strays), 'stray file')} "
        f"({counted(done.bytes, 'byte')}) and {counted(len(done.uploads), 'unfinished upload')}{kept}"
    )
    for path in (*done.superseded, *done.strays, *done.checkpoints, *done.uploads):
        console.line(f"  {one_line(path)}")
    for path in done.retained:
        console.line(f"  kept for readers that began before: {one_line(path)}")
    for path in done.left_alone:
        console.line(f"  stays: {one_line(path)}")


def _vacuum_abandoned(console: Console, connector_id: str, subpath: str | None, *, dry_run: bool) -> None:
    removed = open_client().vacuum_abandoned(connector_id, subpath, dry_run=dry_run)
    if console.as_json:
        console.document(removed)
    verb = "would remove" if dry_run else "removed"
    for one in removed:
        console.line(
            f"{one.uri}: {verb} {counted(len(one.files), 'file')} ({counted(one.bytes, 'byte')}), which is all, and "
            f"{counted(len(one.uploads), 'unfinished upload')} of {one_line(str(one.owner))}, {one_line(str(one.left))}"
        )
        for path in one.left_alone:
            console.line(f"  stays: {one_line(path)}")
    if not removed:
        console.line(f"no automation has left a collection at connector {one_line(connector_id)}")
