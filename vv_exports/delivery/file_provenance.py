"""Where a delivered file comes from, told from the delivery log beside it alone: whoever has the folder can ask."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, RunProvenance
from vv_exports.delivery.log import LogFault, entries_and_faults
from vv_exports.delivery.survey import sha256_of
from vv_exports.domain.destinations import log_entry_name
from vv_exports.errors import DeliveredDataError, DestinationError, NotFoundError

Standing = Literal["current", "superseded"]
"""Whether the delivery holds the file, or a later entry put another one in its place."""


@dataclass(frozen=True)
class FileProvenance:
    """A file, and the chain behind it.

    ``is_as_delivered`` compares size and hash with the log; ``found_sha256`` is None where the file is not there, or
    ``problem`` says why it cannot be read. ``log_problem`` is of an entry that cannot be read, and may tell more.
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
    problem: str | None = None
    log_problem: str | None = None


def provenance_of_file(destination: Destination, path: str) -> FileProvenance:
    """The chain of a file at ``path`` below a destination. Reads every entry of its log, and the file once.

    Raises NotFoundError where no entry names the file.
    """
    naming: LogEntry | None = None
    superseded_by: int | None = None
    faults: list[LogFault] = []
    for entry in entries_and_faults(destination):
        if isinstance(entry, LogFault):
            faults.append(entry)
        elif any(file.path == path for file in entry.files):
            naming, superseded_by = entry, None
        elif naming is not None and superseded_by is None and _replaces(entry, _run_of(naming, path)):
            superseded_by = entry.sequence
    if naming is None:
        raise NotFoundError(
            f"{destination.uri_of(path)} is in no entry of the delivery log of {destination.uri}: the pipeline did not "
            "deliver it, or its entry cannot be read (`vv-exports verify` says so)"
        )
    entry, file = naming, next(one for one in naming.files if one.path == path)
    run = next((one for one in entry.prompt_runs if one.run_id == file.prompt_run_id), None)
    if run is None:
        raise DeliveredDataError(
            f"{destination.uri_of(log_entry_name(entry.sequence))} names {destination.uri_of(path)}, and not the "
            f"prompt run {file.prompt_run_id!r} that it is of: somebody has changed it"
        )
    found, problem = _found(destination, path)
    source = next((one for one in entry.provenance.prompt_runs if one.run_id == file.prompt_run_id), None)
    schema = None
    if source is not None:
        key = source.video_level_schema_sha256 if file.table == "videos" else source.schema_sha256
        schema = entry.provenance.json_schemas.get(key or "")
    return FileProvenance(
        uri=destination.uri_of(path),
        is_as_delivered=found == (file.bytes, file.sha256),
        standing="current" if superseded_by is None else "superseded",
        superseded_by=superseded_by,
        file=file,
        found_sha256=None if found is None else found[1],
        entry=entry.sequence,
        committed_at=entry.committed_at,
        delivery_id=entry.delivery_id,
        export=msgspec.to_builtins(entry.export),
        prompt_run=run,
        source=source,
        json_schema=schema,
        vv_exports_version=entry.provenance.vv_exports_version,
        dagster_run_id=entry.provenance.dagster_run_id,
        snapshot_store=entry.provenance.snapshot_store,
        problem=problem,
        log_problem=faults[0].problem if faults else None,
    )


def _replaces(entry: LogEntry, run_id: str) -> bool:
    return run_id in entry.erased_runs or any(run.run_id == run_id for run in entry.prompt_runs)


def _run_of(entry: LogEntry, path: str) -> str:
    return next(file.prompt_run_id for file in entry.files if file.path == path)


def _found(destination: Destination, path: str) -> tuple[tuple[int, str] | None, str | None]:
    """Size and hash of a file, or what is wrong with it; neither where it is not there."""
    try:
        return sha256_of(destination, path), None
    except DestinationError as error:  # a link was put in its place
        return None, str(error)
    except DeliveredDataError as error:
        is_there = path in destination.files(path.rpartition("/")[0])
        return None, str(error) if is_there else None
