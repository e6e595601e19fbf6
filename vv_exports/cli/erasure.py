"""Forgetting a prompt run or a medium."""

from typing import Any

import click
import msgspec

from vv_exports.cli.commands import DONE, FAILED, command, listing, open_client
from vv_exports.console import Console
from vv_exports.errors import RequestError
from vv_exports.printable import counted, one_line


@command(
    "erase",
    click.option("--run", "run_id", multiple=True, metavar="ID", help="A prompt run; repeat for more."),
    click.option(
        "--video", "video_id", multiple=True, metavar="ID", help="A medium, in all prompt runs; repeat for more."
    ),
    click.option("--index", "index_ids", multiple=True, metavar="I", help="Only in this index; repeat for more."),
    click.option("--reason", metavar="TEXT", default="", help="Why. It stands in the logs of the collections."),
    click.option("--dry-run", is_flag=True, help="Name every file and place; write nothing."),
    click.option("--list", "lists", is_flag=True, help="What was erased, and why."),
    click.option("--undo", "undoes", is_flag=True, help="Let it come back, as the source has it."),
)
def erase(
    console: Console,
    *,
    run_id: tuple[str, ...],
    video_id: tuple[str, ...],
    index_ids: tuple[str, ...],
    reason: str,
    dry_run: bool,
    lists: bool,
    undoes: bool,
) -> int:
    """Take prompt runs or media out of collections, exports, downloads, snapshots and Dagster's history, and keep
    it from coming back. Names what could not be reached."""
    client = open_client()
    if lists:
        rows = [msgspec.to_builtins(one) for one in client.erasure.list()]
        listing(console, rows, ("kind", "digest", "index_ids", "reason", "at", "completed_at"), empty="nothing")
        return DONE
    if undoes:
        if dry_run:
            raise RequestError("--undo removes one tombstone and no file; leave out --dry-run")
        again = client.erasure.undo(run_id=run_id, video_id=video_id)
        if console.as_json:
            console.document({"read_again": list(again)})
        console.line(f"it may come back; {counted(len(again), 'prompt run')} will be read again")
        return DONE
    done = client.erasure.erase(run_id=run_id, video_id=video_id, index_ids=index_ids, reason=reason, dry_run=dry_run)
    if console.as_json:
        console.document(done)
    _print(console, done)
    return FAILED if done.unreached and not dry_run else DONE


def _print(console: Console, done: Any) -> None:
    rewrite, remove = ("would rewrite", "would remove") if done.dry_run else ("rewrote", "removed")
    for place in done.places:
        console.line(f"{place.what} {one_line(place.uri)}")
        for verb, paths in ((rewrite, place.rewritten), (remove, place.removed)):
            for path in paths:
                console.line(f"  {verb} {one_line(path)}")
    if not done.places:
        console.line(f"nothing of {done.kind} {', '.join(map(one_line, done.ids))} was found")
    for one in done.unreached:
        console.line(f"not reached: {one_line(one)}")
    for one in done.out_of_reach:
        console.line(f"out of reach of this command: {one}")
    console.line(f"stays: {done.stays}")
