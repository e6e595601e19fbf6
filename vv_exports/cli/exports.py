"""Exports on demand: making them, and what was made."""

import time
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, RUNS, command, listing, open_client, record
from vv_exports.console import Console
from vv_exports.errors import RequestError

_DESTINATION = (
    click.option(
        "--connector",
        "connector_id",
        metavar="ID",
        help="Deliver to this connector; without it, make a download.",
    ),
    click.option("--subpath", metavar="P", help="Folder below the connector's export_base_path."),
    click.option(
        "--format",
        "format_name",
        metavar="F",
        default="parquet",
        show_default=True,
        help="parquet, jsonl, csv or json.",
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


@command("list")
def list_(console: Console) -> None:
    """List exports, newest first."""
    found = [one.to_json() for one in open_client().exports.list()]
    names = ("export_id", "export_type", "target_id", "status", "destination_uri", "rows", "files", "bytes")
    listing(console, found, names, empty="no exports were made in this Dagster instance")


@command("show", click.argument("export_id"))
def show(console: Console, export_id: str) -> None:
    """Show one export."""
    record(console, open_client().exports.retrieve(export_id).to_json())


@command(
    "download",
    click.argument("export_id"),
    click.option("--to", metavar="PATH", help="File or folder; default: here."),
)
def download(console: Console, export_id: str, to: str | None) -> None:
    """Copy the artifact of a download export to a file."""
    download = open_client().exports.download(export_id, to)
    if console.as_json:
        console.document(download)
    _downloaded(console, download)


def _export(
    console: Console,
    export_type: Any,
    index: str,
    run_ids: tuple[str, ...] | None,
    *,
    connector_id: str | None,
    subpath: str | None,
    format_name: str,
    idempotency_key: str | None,
    to: str | None,
    dry_run: bool,
) -> int:
    from vv_exports.domain.exports import ExportRequest, ExportStatus

    request = ExportRequest(export_type, index, run_ids, connector_id, subpath, format_name)
    if to is not None and connector_id is not None:
        raise RequestError(
            "--to copies a download; an export to a connector makes none. Leave out --to or --connector."
        )
    if dry_run:
        return _dry_run(console, request)
    with console.progress() as progress:
        client = open_client(progress)
        started = time.time()
        made = client.exports.create(request, idempotency_key=idempotency_key)
    completed = made.status == ExportStatus.COMPLETED
    # Before the document is printed: an error prints one of its own.
    download = client.exports.download(made.export_id, to) if completed and to is not None else None
    if console.as_json:
        console.document(made.to_json())
    if not completed:
        console.note(f"Error: export {made.export_id} failed: {made.error_message}")
        return FAILED
    earlier = " (made earlier; nothing written)" if made.created_before(started) else ""
    console.line(
        f"{made.export_id}: {made.rows:,} rows, {made.files} files, {made.bytes:,} bytes "
        f"in {made.destination_uri}{earlier}"
    )
    if download is not None:
        _downloaded(console, download)
    elif made.destination_type == "download":
        console.line(f"get it with: vv-exports exports download {made.export_id}")
    return DONE


def _dry_run(console: Console, request: Any) -> int:
    client = open_client()
    chosen = client.exports.check(request)
    where = "a download"
    if request.destination_connector_id is not None:
        boundary = client.connectors.retrieve(request.destination_connector_id).uri
        where = "/".join(filter(None, (boundary, request.destination_subpath)))
    rows = [
        {"run_id": run.run_id, "status": str(run.status), "total_segments": run.count("total_segments")}
        for run in chosen
    ]
    if console.as_json:
        console.document(
            {
                "dry_run": True,
                "export_type": request.export_type,
                "target_id": request.target_id,
                "format": request.format,
                "destination": where,
                "prompt_runs": rows,
            }
        )
    console.line(f"would export {len(rows)} prompt runs as {request.format} to {where}:")
    if not console.as_json:
        console.table(rows, empty="")
    return DONE


def _downloaded(console: Console, download: Any) -> None:
    console.line(
        f"{download.path} ({download.bytes:,} bytes)"
        + ("" if download.written else " was there already; nothing written")
    )


EXPORT = click.Group(
    "export", help="Export on demand, to a connector or as a download.", commands=[export_index, export_run]
)
EXPORTS = click.Group("exports", help="Exports that were made on demand.", commands=[list_, show, download])
