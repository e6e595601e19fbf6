"""The delivery log: the numbered entries under ``_vv/log/`` that say what a destination holds.

Writing an entry is the commit. The state of a destination is the replay of its entries: for each prompt run, the
last entry wins. The JSON Schema of an entry ships beside this module as ``log_entry.schema.json``.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from vv_exports.connectors.lease import Lease
from vv_exports.delivery.destination import Destination
from vv_exports.domain.destinations import LOG_FOLDER, hash_in_name, log_entry_name, log_sequence, table_folder
from vv_exports.domain.names import path_segment
from vv_exports.domain.tables import TABLES, TableName
from vv_exports.errors import (
    DeliveredDataError,
    DeliveryConflictError,
    DestinationError,
    OutcomeUnknownError,
    UnusableEntryError,
    VVExportsError,
)
from vv_exports.formats.registry import FORMATS
from vv_exports.printable import one_line

FORMAT_VERSION = 1
_SUFFIXES = frozenset(one.suffix for one in FORMATS.values())
_READ_AT_ONCE = 8


Reason = Literal["new", "changed", "reformatted", "mended"]
"""Of a run: not held before; other rows or another status than before; the same in another format or layout; the same,
since files were missing, damaged or left over."""


class ExportReference(msgspec.Struct, frozen=True, kw_only=True):
    """Which export wrote an entry. ``began_at`` is when an automation began, where it had begun by itself: so that the
    log can tell it where the pipeline's storage was lost."""

    id: str
    type: Literal["index", "prompt_run", "automation"]
    index_id: str
    automation: str | None = None
    began_at: datetime | None = None


class DeliveredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One committed file. ``path`` is relative to the destination; ``sha256`` is of its bytes, in hex."""

    path: str
    table: TableName
    prompt_id: str
    prompt_run_id: str
    rows: int
    bytes: int
    sha256: str


class RowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Segments of a run: stated by its record (None where it states none), delivered, failed."""

    expected: int | None
    delivered: int
    failed: int


class DeliveredRun(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt run of an entry. ``supersedes`` is the sequence of the entry that held it before; ``abandoned`` are
    paths that deliveries which died had uploaded for it, and that go together with the superseded ones. ``reason`` says
    why it was delivered; where it is ``mended``, no row changed. Entries of earlier versions have none."""

    run_id: str
    prompt_id: str
    status: str
    revision: int
    data_version: str
    counts: RowCounts
    supersedes: int | None
    abandoned: list[str] = []
    reason: Reason | None = None


class RunProvenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run's rows come from. ``schema_sha256`` is a key of ``Provenance.json_schemas``."""

    run_id: str
    executed_at: str
    prompt_id: str
    prompt_name: str
    prompt_text_sha256: str
    schema_sha256: str
    video_level_schema_sha256: str | None
    processing_model: str | None
    segmentation: dict[str, Any]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """How an entry was made. ``json_schemas`` maps a schema's hash to it, so that the folder explains itself.
    ``commit`` says whether the store itself decided that no other writer had this entry's number, or whether it cannot,
    and only one writer at a time was let at the destination."""

    vv_exports_version: str
    dagster_run_id: str | None
    snapshot_store: str
    format: str
    layout_version: int
    prompt_runs: list[RunProvenance]
    json_schemas: dict[str, Any]
    commit: Literal["put_if_absent", "single_writer"] = "put_if_absent"


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, or one vacuum. ``committed_at`` is RFC 3339 in UTC and says nothing about order: ``sequence``
    does. ``abandoned`` are paths of files that no delivery committed and that a vacuum removes; a delivery that is
    about to commit one of them fails."""

    format_version: int
    delivery_id: str
    sequence: int
    committed_at: str
    export: ExportReference
    files: list[DeliveredFile]
    prompt_runs: list[DeliveredRun]
    provenance: Provenance
    abandoned: list[str] = []


@dataclass(frozen=True)
class CommittedRun:
    """What a destination holds of one prompt run."""

    entry: LogEntry
    run: DeliveredRun
    files: tuple[DeliveredFile, ...]


@dataclass
class LogState:
    """The replay of a log. ``given_up`` are the paths that were committed or uploaded once and never will be again:
    whoever still deletes one of them, however late, harms nobody. Paths that no delivery makes are not among them,
    though earlier versions took any file beside a run's own for one that a delivery had left."""

    next_sequence: int = 0
    runs: dict[str, CommittedRun] = field(default_factory=dict)
    entries: list[LogEntry] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)

    @property
    def files(self) -> list[DeliveredFile]:
        """All files that are committed now."""
        return [file for run in self.runs.values() for file in run.files]

    def began_at(self, export_id: str) -> datetime | None:
        """When an automation began, as its first entry that knows says; None where no entry does."""
        of_export = (entry.export for entry in self.entries if entry.export.id == export_id)
        return next((export.began_at for export in of_export if export.began_at is not None), None)

    def folders_of(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The folders in which files of these runs are, or were, with the run: where its prompt changed, that was
        another."""
        names = {f"prompt_run_id={path_segment(run_id)}": run_id for run_id in run_ids}
        folders = {
            table_folder(table, self.runs[run_id].run.prompt_id, run_id): run_id
            for run_id in names.values()
            if run_id in self.runs
            for table in TABLES
        }
        for path in self.given_up:
            folder = path.rpartition("/")[0]
            if (run_id := names.get(folder.rpartition("/")[2])) is not None:
                folders[folder] = run_id
        return folders

    def copy(self) -> "LogState":
        """The same state, to move on from while others still use this one."""
        return LogState(self.next_sequence, dict(self.runs), list(self.entries), set(self.given_up))

    def apply(self, entry: LogEntry) -> None:
        """Move on by one entry."""
        by_run: dict[str, list[DeliveredFile]] = {}
        for file in entry.files:
            by_run.setdefault(file.prompt_run_id, []).append(file)
        for run in entry.prompt_runs:
            files = tuple(by_run.get(run.run_id, ()))
            before = self.runs.get(run.run_id)
            self.given_up.update(filter(named_hash, run.abandoned))
            if before is not None:
                self.given_up.update(file.path for file in before.files)
            self.given_up.difference_update(file.path for file in files)
            self.runs[run.run_id] = CommittedRun(entry, run, files)
        self.given_up.update(filter(named_hash, entry.abandoned))
        self.entries.append(entry)
        self.next_sequence = entry.sequence + 1


def named_hash(path: str) -> str | None:
    """The hash that a path of the form of a data file carries (16 hex characters); None for any other path."""
    return hash_in_name(path, _SUFFIXES)


@dataclass(frozen=True)
class LogFault:
    """An entry that is missing, or that cannot be used. ``newer`` where a later version of the package wrote it."""

    sequence: int
    problem: str
    newer: bool = False


def read_log(destination: Destination, state: LogState | None = None) -> LogState:
    """Replay the log of a destination, from the start or on from an earlier state.

    Raises DeliveredDataError where an entry is missing, is not one of ours or was written by a newer layout.
    """
    state, faults = scan_log(destination, state)
    if faults:
        raise broken_log(destination, state, faults)
    return state


def scan_log(destination: Destination, state: LogState | None = None) -> tuple[LogState, list[LogFault]]:
    """The same as far as it can be read: the replay of the entries that can be used, and what is wrong with others."""
    state = LogState() if state is None else state
    behind = [number for number in _sequences(destination) if number >= state.next_sequence]
    faults: list[LogFault] = []
    expected = state.next_sequence
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for number, found in zip(behind, pool.map(lambda n: _entry_or_fault(destination, n), behind), strict=True):
            if number != expected:
                # An entry that took the free number would be overruled by the older ones behind it.
                faults.append(
                    LogFault(expected, f"{_missing(destination, expected)}, while entry {behind[-1]} is there")
                )
            expected = number + 1
            if isinstance(found, LogFault):
                faults.append(found)
            else:
                state.apply(found)
    return state, faults


def broken_log(destination: Destination, state: LogState, faults: Sequence[LogFault]) -> DeliveredDataError:
    """What is wrong with a log, what is known all the same, and the way out. ``state`` is of the entries that can be
    used."""
    first = faults[0]
    more = f" ({len(faults) - 1} more of its entries are missing or unusable.)" if len(faults) > 1 else ""
    known = (
        f"The entries that can be read, {len(state.entries)}, hold {len(state.runs)} prompt runs in "
        f"{len(state.files)} files."
    )
    if first.newer:
        return DeliveredDataError(f"{first.problem}. Upgrade vv_exports.{more} {known}")
    return DeliveredDataError(
        f"{first.problem}.{more} {known} Nothing is delivered there until this is mended. Restore the entry from a "
        f"backup. Or, while nothing delivers there, move every entry from {log_entry_name(first.sequence)} on out of "
        f"{destination.uri}, and {_again(state)}: what they held is delivered again, files that are as they "
        "should be are kept, and prompt runs that the source has no more are lost to the log."
    )


def _again(state: LogState) -> str:
    export = state.entries[-1].export if state.entries else None
    if export is None:
        return "deliver there again (`vv-exports automations run`; of an export on demand, make a new one)"
    if export.automation is not None:
        return f"run `vv-exports automations run {one_line(export.index_id)} {one_line(export.automation)}`"
    return "make a new export in place of this one"


def _missing(destination: Destination, number: int) -> str:
    return f"{destination.uri_of(log_entry_name(number))} is missing"


def _sequences(destination: Destination) -> list[int]:
    names = destination.files(LOG_FOLDER)
    return sorted(number for name in names if (number := log_sequence(name)) is not None)


def _entry_or_fault(destination: Destination, sequence: int) -> LogEntry | LogFault:
    try:
        entry = read_entry(destination, sequence)
    except UnusableEntryError as error:
        return LogFault(sequence, str(error), error.is_newer)
    return entry or LogFault(sequence, f"{_missing(destination, sequence)}, and was there a moment ago")


class _Version(msgspec.Struct, frozen=True):
    """What entries of all versions have."""

    format_version: int


def read_entry(destination: Destination, sequence: int) -> LogEntry | None:
    """One entry, or None where the log ends before it. Raises UnusableEntryError."""
    path = log_entry_name(sequence)
    uri = destination.uri_of(path)
    try:
        data = destination.read(path)
    except (DestinationError, DeliveredDataError) as error:
        problem = f"{uri} is not a delivery log entry, but a link, a folder or a device"
        raise UnusableEntryError(problem) from error
    if data is None:
        return None
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            problem = f"{uri} has format_version {version}; this version reads up to {FORMAT_VERSION}"
            raise UnusableEntryError(problem, is_newer=True)
        entry = msgspec.json.decode(data, type=LogEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnusableEntryError(f"{uri} is not a delivery log entry: {error}") from error
    if entry.sequence != sequence:
        problem = f"{uri} says that it is entry {entry.sequence}: somebody copied or renamed it"
        raise UnusableEntryError(problem)
    return entry


def write_entry(destination: Destination, entry: LogEntry, lease: Lease) -> bool:
    """Write an entry if there is none of its number. A reply that was lost is found out by reading.

    Raises OutcomeUnknownError where nothing tells whether it landed, or what it replaced; TransientError where the
    lease was lost before; DeliveryConflictError where another writer, which took the lease over, replaced it.
    """
    path, data = log_entry_name(entry.sequence), encode_entry(entry)
    lease.check()
    with lease.committing():
        try:
            written = destination.connector.create(destination.key(path), data)
        except OutcomeUnknownError:
            if destination.read(path) != data:
                raise
            written = True
    if written and (loss := lease.loss()) is not None:
        raise _written_without_lease(destination, path, data, loss)
    return written


def _written_without_lease(destination: Destination, path: str, data: bytes, loss: str) -> VVExportsError:
    """What to say of an entry at whose writing another writer may have been there."""
    uri = destination.uri_of(path)
    try:
        is_there = destination.read(path) == data
    except VVExportsError as error:
        return OutcomeUnknownError(
            f"{uri} was written. But {loss}; and what is there now cannot be read: {error} Read the log "
            "before trying again."
        )
    if not is_there:
        return DeliveryConflictError(
            f"{uri} was written, and replaced by another writer's entry: {loss}. Nothing of this "
            "delivery is committed; start again."
        )
    return OutcomeUnknownError(
        f"{uri} is committed. But {loss}. If that one wrote an entry of the same number, it is "
        "replaced, and what it delivered is in no entry: automations deliver it again by themselves, an export on "
        "demand has to be made again."
    )


def encode_entry(entry: LogEntry) -> bytes:
    """The entry's file: indented JSON, since people open it."""
    return msgspec.json.format(msgspec.json.encode(entry), indent=1) + b"\n"


def log_entry_schema() -> dict[str, Any]:
    """JSON Schema of an entry, from the types above."""
    (reference,), definitions = msgspec.json.schema_components([LogEntry], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vv_exports delivery log entry",
        **reference,
        "$defs": definitions,
    }
