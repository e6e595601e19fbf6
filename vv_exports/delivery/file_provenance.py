"""Where a delivered file comes from, told from the delivery log beside it alone: whoever has the folder can ask."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, RunProvenance
from vv_exports.delivery.log import entries_since
from vv_exports.delivery.survey import sha256_of
from vv_exports.errors import DeliveredDataError, NotFoundError

Standing = Literal["current", "superseded"]
"""Whether the delivery holds the file, or a later entry put another one in its place."""


@dataclass(frozen=True)
class FileProvenance:
    """A file, and the chain behind it.

    ``is_as_delivered`` compares size and hash with the log; ``found_sha256`` is None where the file is not there.
    ``superseded_by`` is the number of the entry that put another one in its place. ``source`` is what is known of the
    prompt run: prompt, hashes of its text and schema, model, segmentation; ``json_schema`` is the schema itself."""

    uri: str
    is_as_delivered: bool
    standing: Standing
    superseded_by: int | None
    file: DeliveredFile
    found_sha256: str | None
    entry: int
    committed_at: str
    delivery_id: str
    export: dict[str, Any]
    prompt_run: DeliveredRun
    source: RunProvenance | None
    json_schema: Any
    vv_exports_version: str
    dagster_run_id: str | None
    snapshot_store: str


def provenance_of_file(destination: Destination, path: str) -> FileProvenance:
    """The chain of a file at ``path`` below a destination. Reads every entry of its log, and the file once.

    Raises NotFoundError where no entry names the file.
    """
    entries = entries_since(destination, 0)
    naming = [entry for entry in entries if any(file.path == path for file in entry.files)]
    if not naming:
        raise NotFoundError(
            f"{destination.uri_of(path)} is in no entry of the delivery log of {destination.uri}: the pipeline did not "
            "deliver it, or its entry cannot be read (`vv-exports verify` says so)"
        )
    entry = naming[-1]
    file = next(one for one in entry.files if one.path == path)
    later = [one.sequence for one in entries if one.sequence > entry.sequence and _replaces(one, file.prompt_run_id)]
    found = _found(destination, path)
    source = next((one for one in entry.provenance.prompt_runs if one.run_id == file.prompt_run_id), None)
    schema = None
    if source is not None:
        key = source.video_level_schema_sha256 if file.table == "videos" else source.schema_sha256
        schema = entry.provenance.json_schemas.get(key or "")
    return FileProvenance(
        uri=destination.uri_of(path),
        is_as_delivered=found == (file.bytes, file.sha256),
        standing="superseded" if later else "current",
        superseded_by=later[0] if later else None,
        file=file,
        found_sha256=None if found is None else found[1],
        entry=entry.sequence,
        committed_at=entry.committed_at,
        delivery_id=entry.delivery_id,
        export=msgspec.to_builtins(entry.export),
        prompt_run=next(one for one in entry.prompt_runs if one.run_id == file.prompt_run_id),
        source=source,
        json_schema=schema,
        vv_exports_version=entry.provenance.vv_exports_version,
        dagster_run_id=entry.provenance.dagster_run_id,
        snapshot_store=entry.provenance.snapshot_store,
    )


def _replaces(entry: LogEntry, run_id: str) -> bool:
    return any(run.run_id == run_id for run in entry.prompt_runs)


def _found(destination: Destination, path: str) -> tuple[int, str] | None:
    try:
        return sha256_of(destination, path)
    except DeliveredDataError:
        return None
