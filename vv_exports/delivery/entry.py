"""One entry of a delivery log: its form, reading one, and writing one, which is the commit. The JSON Schema of an entry
ships beside this module as ``log_entry.schema.json``.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports import __version__
from vv_exports.connectors.lease import Lease
from vv_exports.content.column_json import column_from_json
from vv_exports.content.shapes import Effect
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.domain.destinations import hash_in_name, log_entry_name
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.tables import TableName
from vv_exports.errors import (
    DeliveredDataError,
    DeliveryConflictError,
    DestinationError,
    OutcomeUnknownError,
    UnusableEntryError,
    VVExportsError,
)
from vv_exports.formats.registry import SUFFIXES
from vv_exports.snapshots.tables import LAYOUT_VERSION

FORMAT_VERSION = 3
"""The newest of an entry. Entries of version 1 do not say which columns files have; those of version 3 have files of
the table ``quarantine``, which earlier versions of the package do not know. An entry without such is of version 2."""
FORMAT_WITHOUT_QUARANTINE = 2

Reason = Literal["new", "changed", "reshaped", "reformatted", "mended"]
"""Of a run: not held before; other rows or another status than before; the same in other columns, another format or
layout, or with other fields, which entries of version 1 call reformatted; the same, since files were missing, damaged
or left over."""


class ExportReference(msgspec.Struct, frozen=True, kw_only=True):
    """Which export wrote an entry. ``began_at`` is when an automation began, where it had begun by itself: so that the
    log can tell it where the pipeline's storage was lost. ``bag`` is told of an export that is the payload of a bag."""

    id: str
    type: Literal["index", "prompt_run", "automation"]
    index_id: str
    automation: str | None = None
    began_at: datetime | None = None
    bag: bool | UnsetType = UNSET

    @property
    def owner(self) -> Owner:
        """Who makes this export."""
        if self.type == "automation":
            return Owner(type="automation", index_id=self.index_id, automation=self.automation)
        return Owner(type="export", index_id=self.index_id, export_id=self.id)


class DeliveredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One committed file. ``path`` is relative to the destination; ``sha256`` is of its bytes, in hex. ``rows`` are
    those of the table that it brings: of several files of the same rows, as of markers, the first alone counts them."""

    path: str
    table: TableName
    prompt_id: str
    prompt_run_id: str
    rows: int
    bytes: int
    sha256: str

    @property
    def folder(self) -> str:
        """The first part of its path: the table's name, or that and a version, as in ``segments.v2``."""
        return self.path.partition("/")[0]


class RowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Segments of a run: stated by its record (None where it states none), delivered, failed; ``erased`` were left out,
    since their media were erased. ``quarantined`` have a result that is in the table ``quarantine``; left out where
    that is not asked for."""

    expected: int | None
    delivered: int
    failed: int
    erased: int | UnsetType = UNSET
    quarantined: int | UnsetType = UNSET


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


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an entry takes rows away: somebody erased prompt runs or media. ``runs`` are those that are in the collection
    no more; they stand among the entry's prompt runs without files, and readers find no rows of them."""

    reason: str
    runs: list[str] = []


class TableColumns(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of one prompt in one folder of an entry have in common. ``folder`` is the table's name, or that
    and a version, as in ``segments.v2``. ``columns`` are the columns by name, None for documents. ``metadata`` is the
    column of that name with all fields that runs of the prompt have there, also those that are not delivered;
    ``shape`` is an id of the columns that are. Both are None where there is no such column. ``kept_as_json`` says which
    places have no typed column, and why. ``change`` says what is different from before, where something is, and
    ``effect`` what that is to readers, in entries that tell it."""

    prompt_id: str
    table: TableName
    folder: str
    columns: dict[str, Any] | None
    metadata: Any
    shape: str | None
    kept_as_json: dict[str, str]
    change: str | None = None
    effect: Effect | UnsetType = UNSET


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
    ``content`` is what was chosen of format, tables, fields and redaction, and ``content_id`` tells it, with the
    layout, from any other. ``commit`` says whether the store itself decided that no other writer had this entry's
    number, or whether it cannot, and only one writer at a time was let at the destination."""

    vv_exports_version: str
    dagster_run_id: str | None
    snapshot_store: str
    format: str
    layout_version: int
    prompt_runs: list[RunProvenance]
    json_schemas: dict[str, Any]
    commit: Literal["put_if_absent", "single_writer"] = "put_if_absent"
    content_id: str | UnsetType = UNSET
    content: dict[str, Any] | UnsetType = UNSET


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """That an entry stands in the place of another one, which was missing, could not be used, or was somebody else's.
    ``kept_at`` is where in the collection the bytes of that one are, where there were some."""

    why: Literal["missing", "unusable", "foreign"]
    kept_at: str | None = None


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, one vacuum, or what stands in the place of an entry that was lost. ``committed_at`` is RFC 3339 in
    UTC and says nothing about order: ``sequence`` does. ``abandoned`` are paths of files that no delivery committed and
    that a vacuum removes; a delivery that is about to commit one of them fails. ``tables`` say which columns its files
    have. Files that it supersedes are kept for so many seconds, for readers that began before.

    What version 1 had not is left out where it is not set, so that such an entry keeps its hash, on which checkpoints
    stand."""

    format_version: int
    delivery_id: str
    sequence: int
    committed_at: str
    export: ExportReference
    files: list[DeliveredFile]
    prompt_runs: list[DeliveredRun]
    provenance: Provenance
    abandoned: list[str] = []
    tables: list[TableColumns] | UnsetType = UNSET
    retain_superseded_seconds: int | UnsetType = UNSET
    erasure: Erasure | UnsetType = UNSET
    replaces: Replaced | UnsetType = UNSET

    @property
    def erased_runs(self) -> list[str]:
        """The runs that are in the collection no more."""
        return [] if self.erasure is UNSET else self.erasure.runs

    @property
    def moment(self) -> datetime:
        """``committed_at``. Raises ValueError where that is no moment."""
        moment = datetime.fromisoformat(self.committed_at)
        if moment.tzinfo is None:
            raise ValueError(f"committed_at is {self.committed_at!r}, which has no time zone")
        return moment

    @property
    def kept_until(self) -> datetime | None:
        """Until when the files that it supersedes are kept; None where they are not. Raises ValueError where that is no
        moment."""
        if self.retain_superseded_seconds is UNSET:
            return None
        try:
            return self.moment + timedelta(seconds=self.retain_superseded_seconds)
        except OverflowError as error:
            problem = f"retain_superseded_seconds is {self.retain_superseded_seconds}, which ends at no moment"
            raise ValueError(problem) from error


def bare_entry(
    destination: Destination, sequence: int, export: ExportReference, committed_at: datetime, *named: object
) -> LogEntry:
    """An entry that delivers nothing. ``named`` is what tells it from others, beside where it is."""
    delivery_id = hashlib.sha256(encode_sorted([*named[:1], destination.uri, sequence, *named[1:]])).hexdigest()[:32]
    return LogEntry(
        format_version=FORMAT_WITHOUT_QUARANTINE,
        delivery_id=delivery_id,
        sequence=sequence,
        committed_at=committed_at.isoformat().replace("+00:00", "Z"),
        export=export,
        files=[],
        prompt_runs=[],
        provenance=Provenance(
            vv_exports_version=__version__,
            dagster_run_id=None,
            snapshot_store="",
            format="",
            layout_version=LAYOUT_VERSION,
            prompt_runs=[],
            json_schemas={},
        ),
    )


def format_version_of(files: Iterable[DeliveredFile]) -> int:
    """The lowest version that an entry with these files can be of, so that earlier versions of the package read it."""
    return FORMAT_VERSION if any(file.table == "quarantine" for file in files) else FORMAT_WITHOUT_QUARANTINE


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
        raise UnusableEntryError(problem, is_no_file=True) from error
    if data is None:
        return None
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            problem = f"{uri} has format_version {version}; this version reads up to {FORMAT_VERSION}"
            raise UnusableEntryError(problem, is_newer=True)
        entry = msgspec.json.decode(data, type=LogEntry)
        _check(entry)
    except (ValueError, RecursionError) as error:
        raise UnusableEntryError(f"{uri} is not a delivery log entry: {error}") from error
    if entry.sequence != sequence:
        problem = f"{uri} says that it is entry {entry.sequence}: somebody copied or renamed it"
        raise UnusableEntryError(problem)
    return entry


def _check(entry: LogEntry) -> None:
    """What types do not tell, and everybody who replays a log relies on. Raises ValueError."""
    _ = entry.moment, entry.kept_until
    for table in entry.tables or ():
        if table.shape is not None:
            try:
                column_from_json(table.metadata)
            except ValueError as error:
                raise ValueError(f"the metadata of {table.folder} of the prompt {table.prompt_id}: {error}") from error


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


def entry_hash(entry: LogEntry) -> str:
    """64 hex characters that tell an entry from any other of its number."""
    return hashlib.sha256(encode_entry(entry)).hexdigest()


def log_entry_schema() -> dict[str, Any]:
    """JSON Schema of an entry, from the types above."""
    (reference,), definitions = msgspec.json.schema_components([LogEntry], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vv_exports delivery log entry",
        **reference,
        "$defs": definitions,
    }


def named_hash(path: str) -> str | None:
    """The hash that a path of the form of a data file carries (16 hex characters); None for any other path."""
    return hash_in_name(path, SUFFIXES)
