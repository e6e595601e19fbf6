"""Exports on demand: making them, and what was made."""

from datetime import UTC, datetime
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, RUNS, Time, command, open_client, record
from vv_exports.cli.content import CONTENT, content_of
from vv_exports.cli.plans import planned
from vv_exports.cli.rows import rows_in_words
from vv_exports.console import Console
from vv_exports.domain.exports import BESIDE, ExportStatus
from vv_exports.errors import RequestError
from vv_exports.printable import counted, one_line

_NEWEST = 50
_NAMED_RUNS = 3
_EXPORT_ID = click.argument("export_id")

_DESTINATION = (
    click.option(
        "--connector",
        "connector_id",
        metavar="ID",
        help="Deliver to this connector; without it, make a download.",
    ),
    click.option("--subpath", metavar="P", help="Folder below the connector's export_base_path."),
    *CONTENT,
    click.option("--bag", is_flag=True, help="Make it a bag of BagIt, which archives take in."),
    click.option(
        "--dataset-card",
        is_flag=True,
        help="Put a dataset card beside the tables: README.md, for Hugging Face too, and croissant.json.",
    ),
    click.option("--idempotency-key", metavar="KEY", help="The same key and request give the earlier export."),
    click.option(
        "--to",
        metavar="PATH",
        help="Copy the download here as well: a file, or a folder with a trailing slash.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be exported; write nothing."),
)


@command("index", INDEX, RUNS, *_DESTINATION)
def export_index(console: Console, index: str, run_ids: tuple[str, ...], **options: Any) -> int:
    """Export an index: all finished prompt runs, or those named with --run."""
    return _export(console, "index", index, run_ids or None, **options)


@command("run", INDEX, click.argument("run"), *_DESTINATION)
def export_run(console: Console, index: str, run: str, **options: Any) -> int:
    """Export one prompt run."""
    return _export(console, "prompt_run", index, (run,), **options)


@command(
    "list",
    click.option("--status", type=click.Choice([str(one) for one in ExportStatus]), help="Only those in this status."),
    click.option("--index", "index_id", metavar="INDEX", help="Only those of this index."),
    click.option("--since", type=Time(), metavar="T", help="Only those that were asked for at T or later."),
    click.option("--limit", type=click.IntRange(min=1), default=_NEWEST, show_default=True, help="At most so many."),
    click.option("--after", metavar="EXPORT_ID", help="Go on behind this one, the last of the page before."),
)
def list_(console: Console, *, limit: int, **chosen: Any) -> None:
    """List exports, newest first."""
    found = open_client().exports.list(limit=limit + 1, **chosen)
    rows = [one.to_json() | {"prompt_runs": _runs_of(one), "status": _status_of(one)} for one in found[:limit]]
    if console.as_json:
        console.document([one.to_json() for one in found[:limit]])
    names = (
        *("export_id", "created_at", "status", "index_id", "prompt_runs", "format", "destination_uri"),
        *("rows", "files", "bytes"),
    )
    console.table(
        [{name: row[name] for name in names} for row in rows],
        empty="no exports are like this" if any(chosen.values()) else "no exports were made",
    )
    if len(found) > limit:
        console.note(
            f"These are the newest {limit} of more: --after {found[limit - 1].export_id} goes on, and --limit lists "
            "more at a time."
        )


@command("show", _EXPORT_ID)
def show(console: Console, export_id: str) -> None:
    """Show one export."""
    record(console, open_client().exports.retrieve(export_id).to_json())


@command(
    "download",
    _EXPORT_ID,
    click.option("--to", metavar="PATH", help="File or folder; default: here."),
    click.option("--dry-run", is_flag=True, help="Say what would be copied to where; write nothing."),
)
def download(console: Console, export_id: str, to: str | None, *, dry_run: bool) -> None:
    """Copy the artifact of a download export to a file."""
    download = open_client().exports.download(export_id, to, dry_run=dry_run)
    if console.as_json:
        console.document({"dry_run": True, **vars(download)} if dry_run else download)
    _downloaded(console, download, dry_run=dry_run)


@command(
    "delete", _EXPORT_ID, click.option("--dry-run", is_flag=True, help="Say what would be deleted; write nothing.")
)
def delete(console: Console, export_id: str, *, dry_run: bool) -> None:
    """Delete the artifact of a download. Its record stays, and says so. Files at a connector are their readers'."""
    done = open_client().exports.delete(export_id, dry_run=dry_run)
    if console.as_json:
        console.document({"dry_run": True, **vars(done)} if dry_run else done)
    if dry_run:
        said = f"{done.bytes:,} bytes" if done.bytes else "it is gone already"
        read = "; it is being copied at the moment, so that the next vacuum would remove it" * done.is_being_read
        console.line(f"{done.export_id}: the artifact would be deleted ({said}{read}); the record stays")
        return
    if done.is_being_read:
        said = "it is being copied at the moment; nobody can begin to any more, and the next vacuum removes the file"
    else:
        said = f"{done.bytes:,} bytes" if done.bytes else "it was gone already"
    console.line(f"{done.export_id}: the artifact is deleted ({said}); the record stays")


@command("vacuum", click.option("--dry-run", is_flag=True, help="Say what would be deleted; write nothing."))
def vacuum(console: Console, *, dry_run: bool) -> None:
    """Delete the artifacts of downloads that are older than exports_keep in the configuration. Records stay."""
    done = open_client().exports.vacuum(dry_run=dry_run)
    if console.as_json:
        console.document({**vars(done), "bytes": done.bytes, "dry_run": dry_run})
    verb = "would delete" if dry_run else "deleted"
    kept = "exports_keep is not set, so artifacts are kept for ever" if done.keep is None else f"kept for {done.keep}"
    console.line(
        f"{verb} the artifacts of {counted(len(done.deleted), 'download')} ({counted(done.bytes, 'byte')}); {kept}"
    )
    for one in done.deleted:
        console.line(
            f"  {one.export_id}: "
            + ("is being read; the next vacuum removes it" if one.is_being_read else f"{one.bytes:,} bytes")
        )
    for key in done.unknown:
        console.line(f"  stays, since no record tells of it: {one_line(key)}")


def _status_of(export: Any) -> str:
    return f"{export.status}, artifact deleted" if export.artifact == "deleted" else str(export.status)


def _runs_of(export: Any) -> str:
    """Which prompt runs an export is about: all of its index, or how many and which."""
    ids = export.prompt_run_ids or ()
    if export.all_prompt_runs:
        return f"all {len(ids)}" if ids else "all"
    more = f" and {len(ids) - _NAMED_RUNS} more" if len(ids) > _NAMED_RUNS else ""
    return f"{len(ids)}: {', '.join(ids[:_NAMED_RUNS])}{more}"


def _export(
    console: Console,
    export_type: Any,
    index: str,
    run_ids: tuple[str, ...] | None,
    *,
    connector_id: str | None,
    subpath: str | None,
    idempotency_key: str | None,
    to: str | None,
    dry_run: bool,
    bag: bool,
    dataset_card: bool,
    **content: Any,
) -> int:
    from vv_exports.domain.exports import ExportRequest

    chosen = content_of(**content)
    request = ExportRequest(export_type, index, run_ids, connector_id, subpath, chosen, bag, dataset_card)
    if to is not None and connector_id is not None:
        raise RequestError(
            "--to copies a download; an export to a connector makes none. Leave out --to or --connector."
        )
    if dry_run:
        return _dry_run(console, request, idempotency_key, to)
    with console.progress() as progress:
        client = open_client(progress)
        started = datetime.now(UTC)
        made = client.exports.create(request, idempotency_key=idempotency_key)
    completed = made.status == ExportStatus.COMPLETED
    # Before the document is printed: an error prints one of its own.
    download = client.exports.download(made.export_id, to) if completed and to is not None else None
    if console.as_json:
        console.document(made.to_json())
    if not completed:
        console.note(f"Error: export {made.export_id} failed: {made.error_message}")
        return FAILED
    earlier = " (made earlier; nothing written)" if made.was_over(started) else ""
    console.line(
        f"{made.export_id}: {_rows(made)}; {counted(made.files, 'file')}, {counted(made.bytes, 'byte')} "
        f"in {made.destination_uri}{earlier}"
    )
    if download is not None:
        _downloaded(console, download)
    elif made.destination_type == "download":
        console.line(f"get it with: vv-exports exports download {made.export_id}")
    return DONE


def _rows(made: Any) -> str:
    return counted(made.rows, "row") if made.rows_by_table is None else rows_in_words(made.rows_by_table)


def _dry_run(console: Console, request: Any, idempotency_key: str | None, to: str | None) -> int:
    plan = open_client().exports.plan(request, idempotency_key=idempotency_key)
    if console.as_json:
        console.document(plan.document | {"to": to})
    planned(console, plan)
    chosen = {name: value for name, value in plan.content.items() if name != "format" or value != request.format}
    console.record(chosen | {name: True for name in BESIDE if getattr(plan, name)})
    if to is not None:
        console.line(f"would copy the download to {to}")
    return FAILED if plan.is_stopped else DONE


def _downloaded(console: Console, download: Any, *, dry_run: bool = False) -> None:
    there = "is there already; nothing would be written" if dry_run else "was there already; nothing written"
    console.line(
        f"{'would write ' if dry_run and download.written else ''}{download.path} ({download.bytes:,} bytes)"
        + ("" if download.written else f" {there}")
    )


EXPORT = click.Group(
    "export", help="Export on demand, to a connector or as a download.", commands=[export_index, export_run]
)
EXPORTS = click.Group(
    "exports", help="Exports that were made on demand.", commands=[list_, show, download, delete, vacuum]
)
