"""Where a delivered file, or a prompt run, comes from, for people."""

import os
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, command, open_client
from vv_exports.console import Console
from vv_exports.errors import RequestError
from vv_exports.printable import counted, one_line


@command(
    "provenance",
    click.argument("target", metavar="FILE|URL|RUN"),
    click.option("--index", metavar="INDEX", help="TARGET is a prompt run of this index."),
    click.option("--media", is_flag=True, help="Of a prompt run: name all its media, however many there are."),
)
def provenance(console: Console, target: str, index: str | None, *, media: bool) -> int:
    """Say where a delivered file comes from, and whether it is what was delivered: by the delivery log above it, with
    nothing configured; also of a file in a zip file, FILE.zip/PATH. Exit code 1: it is not what was delivered. Or, with
    a configuration, where a prompt run comes from, what is kept of it, and each delivery of it."""
    if index is not None or not ("/" in target or os.path.lexists(target)):
        _run(console, target, index, media=media)
        return DONE
    if media:
        raise RequestError("--media is of a prompt run; of one whose id looks like a path, say --index, too")
    return _file(console, target)


def _run(console: Console, run_id: str, index: str | None, *, media: bool) -> None:
    found = open_client().provenance.of_run(run_id, index, all_media=media)
    if console.as_json:
        console.document(found)
    for name, value in _chain(found).items():
        console.line(f"{name}: {one_line(str(value))}")
    for one in found.deliveries:
        for line in _delivery(one):
            console.line(one_line(line))
    for one in found.downloads:
        gone = f", deleted {one.artifact_deleted_at}" if one.artifact_deleted_at else ""
        console.line(f"download {one.export_id}: {one.completed_at}{gone}, Dagster run {one.dagster_run_id}, {one.uri}")
    if not (found.deliveries or found.downloads):
        console.line("delivered: nowhere")
    for problem in found.problems:
        console.note(f"Warning: more may have been delivered: {one_line(problem)}")


def _chain(found: Any) -> dict[str, str]:
    record = {
        "prompt_run": f"{found.run_id} of index {found.index_id}" + (f" ({found.status})" if found.status else ""),
        "source": f"{found.source_kind} {found.source}",
    }
    if found.erased is not None:
        record["erased"] = found.erased
    if (origin := found.origin) is not None:
        record |= {
            "executed": f"{origin.executed_at}, model {origin.processing_model or 'not stated'}",
            "prompt": f"{origin.prompt_id} {origin.prompt_name}, sha256 of its text {origin.prompt_text_sha256}",
            "schema": f"sha256 {origin.schema_sha256}",
        }
    if (kept := found.snapshot) is None:
        record["snapshot"] = "there is none (any more)"
    else:
        record["snapshot"] = (
            f"revision {kept.revision} of {kept.taken_at}, data version {kept.data_version}, {_rows(kept.rows)}"
        )
        names = [one if name is None else f"{one} ({name})" for one, name in kept.media.items()]
        more = (kept.media_count or 0) - len(names)
        record["media"] = f"{kept.media_count if kept.media_count is not None else 'not known'}: {', '.join(names)}" + (
            f" and {more} more (--media names all)" if more else ""
        )
    return record


def _delivery(one: Any) -> list[str]:
    standing = "held there now" if one.superseded_by is None else f"superseded by entry {one.superseded_by}"
    if one.is_erased:
        standing = f"taken out, since erased: {one.erasure}"
    elif one.erasure is not None:
        standing += f", without the rows of erased media: {one.erasure}"
    by = f"by {one.export}, vv_exports {one.vv_exports_version}, Dagster run {one.dagster_run_id or '-'}"
    held = f"{_rows(one.rows)} in {counted(len(one.paths), 'file')}, {one.format}"
    why = f"{one.status}, {one.reason or 'no reason stated'}"
    return [
        f"delivered: {one.committed_at} to {one.uri}, {standing}",
        f"  entry {one.entry}, delivery {one.delivery_id}, {by}",
        f"  {why}, revision {one.revision}, data version {one.data_version or '-'}, {held}",
    ]


def _rows(rows: Any) -> str:
    return ", ".join(f"{counted(count, 'row')} of {table}" for table, count in rows.items()) or "no rows"


def _file(console: Console, file: str) -> int:
    from vv_exports.client.anywhere import provenance_at  # Dagster takes a second to import

    found = provenance_at(file)
    if console.as_json:
        console.document(found)
    run, source = found.prompt_run, found.source
    verdict = "is what was delivered" if found.is_as_delivered else "is NOT what was delivered"
    if found.problem is not None:
        verdict = f"cannot be read: {found.problem}"
    elif found.found_sha256 is None:
        verdict = "is not there any more"
    record = {
        "file": f"{found.uri} {verdict}",
        "sha256": found.file.sha256,
        "standing": found.standing if found.superseded_by is None else f"superseded by entry {found.superseded_by}",
        "holds": f"{counted(found.file.rows, 'row')} of {found.file.table}, {counted(found.file.bytes, 'byte')}",
        "delivered": f"{found.committed_at} by entry {found.entry}, delivery {found.delivery_id}",
        "by": f"vv_exports {found.vv_exports_version}, Dagster run {found.dagster_run_id or '-'}",
        "prompt_run": f"{run.run_id} ({run.status}), revision {run.revision}, data version {run.data_version}",
    }
    if source is not None:
        schema = source.video_level_schema_sha256 if found.file.table == "videos" else source.schema_sha256
        record |= {
            "executed": f"{source.executed_at}, model {source.processing_model or 'not stated'}",
            "prompt": f"{source.prompt_id} {source.prompt_name}, sha256 of its text {source.prompt_text_sha256}",
            "schema": f"sha256 {schema}",
        }
    for name, value in {**record, "export": found.export["automation"] or found.export["id"]}.items():
        console.line(f"{name}: {one_line(str(value))}")
    if found.log_problem is not None:
        console.note(f"Warning: the log may tell more: {one_line(found.log_problem)}")
    return DONE if found.is_as_delivered else FAILED
