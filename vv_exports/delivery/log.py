"""The delivery log: the numbered entries under ``_vv/log/`` that say what a destination holds.

Writing an entry is the commit. The state of a destination is the replay of its entries: for each prompt run, the
last entry wins. The JSON Schema of an entry ships beside this module as ``log_entry.schema.json``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.domain.destinations import LOG_FOLDER, log_entry_name, log_sequence
from vv_exports.errors import DeliveredDataError

FORMAT_VERSION = 1


class ExportReference(msgspec.Struct, frozen=True, kw_only=True):
    """Which export wrote an entry."""

    id: str
    type: Literal["index", "prompt_run", "automation"]
    index_id: str
    automation: str | None = None


class DeliveredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One committed file. ``path`` is relative to the destination; ``sha256`` is of its bytes, in hex."""

    path: str
    table: Literal["segments", "videos", "failures"]
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
    paths that deliveries which died had uploaded for it, and that go together with the superseded ones."""

    run_id: str
    prompt_id: str
    status: str
    revision: int
    data_version: str
    counts: RowCounts
    supersedes: int | None
    abandoned: list[str] = []


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
    """How an entry was made. ``json_schemas`` maps a schema's hash to it, so that the folder explains itself."""

    vv_exports_version: str
    dagster_run_id: str | None
    snapshot_store: str
    format: str
    layout_version: int
    prompt_runs: list[RunProvenance]
    json_schemas: dict[str, Any]


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery. ``committed_at`` is RFC 3339 in UTC and says nothing about order: ``sequence`` does."""

    format_version: int
    delivery_id: str
    sequence: int
    committed_at: str
    export: ExportReference
    files: list[DeliveredFile]
    prompt_runs: list[DeliveredRun]
    provenance: Provenance


@dataclass(frozen=True)
class CommittedRun:
    """What a destination holds of one prompt run."""

    entry: LogEntry
    run: DeliveredRun
    files: tuple[DeliveredFile, ...]


@dataclass
class LogState:
    """The replay of a log. ``given_up`` are the paths of each run that were committed or uploaded once and never will
    be again: whoever still deletes one of them, however late, harms nobody."""

    next_sequence: int = 0
    runs: dict[str, CommittedRun] = field(default_factory=dict)
    entries: list[LogEntry] = field(default_factory=list)
    given_up: dict[str, set[str]] = field(default_factory=dict)

    @property
    def files(self) -> list[DeliveredFile]:
        """All files that are committed now."""
        return [file for run in self.runs.values() for file in run.files]

    def copy(self) -> "LogState":
        """The same state, to move on from while others still use this one."""
        given_up = {run_id: set(paths) for run_id, paths in self.given_up.items()}
        return LogState(self.next_sequence, dict(self.runs), list(self.entries), given_up)

    def apply(self, entry: LogEntry) -> None:
        """Move on by one entry."""
        by_run: dict[str, list[DeliveredFile]] = {}
        for file in entry.files:
            by_run.setdefault(file.prompt_run_id, []).append(file)
        for run in entry.prompt_runs:
            files = tuple(by_run.get(run.run_id, ()))
            before = self.runs.get(run.run_id)
            gone = self.given_up.setdefault(run.run_id, set())
            gone.update(run.abandoned, (file.path for file in before.files) if before else ())
            gone.difference_update(file.path for file in files)
            self.runs[run.run_id] = CommittedRun(entry, run, files)
        self.entries.append(entry)
        self.next_sequence = entry.sequence + 1


def read_log(connector: Connector, subpath: str, state: LogState | None = None) -> LogState:
    """Replay the log of a destination, from the start or on from an earlier state.

    Raises DeliveredDataError where an entry is missing, is not one of ours or was written by a newer layout.
    """
    state = LogState() if state is None else state
    while True:
        while (entry := read_entry(connector, subpath, state.next_sequence)) is not None:
            state.apply(entry)
        behind = [number for number in _sequences(connector, subpath) if number >= state.next_sequence]
        if not behind:
            return state
        if state.next_sequence not in behind:
            # An entry that took the free number would be overruled by the older ones behind it.
            raise DeliveredDataError(
                f"{connector.uri(f'{subpath}/{log_entry_name(state.next_sequence)}')} is missing, while entry "
                f"{max(behind)} is there: somebody deleted it. Restore it, or move the whole folder away and deliver "
                "again."
            )


def _sequences(connector: Connector, subpath: str) -> Iterator[int]:
    for file in connector.files(f"{subpath}/{LOG_FOLDER}"):
        if (number := log_sequence(file.key.removeprefix(f"{subpath}/"))) is not None:
            yield number


def read_entry(connector: Connector, subpath: str, sequence: int) -> LogEntry | None:
    """One entry, or None where the log ends before it."""
    key = f"{subpath}/{log_entry_name(sequence)}"
    data = connector.read(key)
    if data is None:
        return None
    try:
        entry = msgspec.json.decode(data, type=LogEntry)
    except msgspec.MsgspecError as error:
        raise DeliveredDataError(f"{connector.uri(key)} is not a delivery log entry: {error}") from error
    if entry.format_version > FORMAT_VERSION:
        raise DeliveredDataError(
            f"{connector.uri(key)} has format_version {entry.format_version}; this version reads up to "
            f"{FORMAT_VERSION}. Upgrade vv_exports."
        )
    if entry.sequence != sequence:
        raise DeliveredDataError(
            f"{connector.uri(key)} says that it is entry {entry.sequence}: somebody copied or renamed it. Remove it."
        )
    return entry


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
