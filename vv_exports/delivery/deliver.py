"""One delivery: files to a destination such that a reader of its log sees all of them or none.

The order is the promise: claim the subpath, upload finished files under names that hold their content's hash, write
the log entry if there is none, and only then remove what it superseded. Killed anywhere, running it again completes it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from vv_exports import __version__
from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.log import (
    FORMAT_VERSION,
    DeliveredFile,
    DeliveredRun,
    ExportReference,
    LogEntry,
    LogState,
    Provenance,
    RowCounts,
    RunProvenance,
    encode_entry,
    read_entry,
    read_log,
    unlisted,
)
from vv_exports.delivery.ownership import Owner, claim
from vv_exports.domain.destinations import log_entry_name, part_name, table_folder
from vv_exports.domain.json_text import encode_sorted
from vv_exports.errors import DeliveryConflictError, OutcomeUnknownError, SelectionError
from vv_exports.formats.base import Format
from vv_exports.snapshots.store import Part, Snapshot, SnapshotStore
from vv_exports.snapshots.tables import LAYOUT_VERSION, TableName

_TABLES: tuple[TableName, ...] = ("segments", "videos", "failures")
_ATTEMPTS = 5

Progress = Callable[[str, int], None]
"""Called with (what, rows) after each file."""


@dataclass(frozen=True)
class DeliveryRequest:
    """What to deliver, to where, for whom. ``dagster_run_id`` is recorded, and is no part of the delivery's id."""

    connector: Connector
    subpath: str
    owner: Owner
    export: ExportReference
    format: Format
    snapshots: Sequence[Snapshot]
    dagster_run_id: str | None = None
    destination_uri: str | None = None
    """Set where the files move on from the connector, as a download's do."""

    @property
    def uri(self) -> str:
        """The destination's address."""
        return self.destination_uri or self.connector.uri(self.subpath)


@dataclass(frozen=True)
class DeliveredPromptRun:
    """What a destination holds of one requested run after the delivery."""

    run_id: str
    data_version: str
    files: tuple[DeliveredFile, ...]
    written: bool

    def rows(self, table: TableName | None = None) -> int:
        """Rows of one table, or of all."""
        return sum(file.rows for file in self.files if table in {None, file.table})

    @property
    def bytes(self) -> int:
        """Size of the run's files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Delivery:
    """The outcome. ``committed`` is False where everything was there already and nothing was written."""

    delivery_id: str
    sequence: int
    committed: bool
    uri: str
    prompt_runs: tuple[DeliveredPromptRun, ...]

    @property
    def files(self) -> tuple[DeliveredFile, ...]:
        """All files of the requested runs."""
        return tuple(file for run in self.prompt_runs for file in run.files)

    @property
    def rows(self) -> int:
        """Rows in all tables of the requested runs."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Size of the requested runs' files."""
        return sum(file.bytes for file in self.files)


def is_delivered(state: LogState, snapshot: Snapshot, format_name: str) -> bool:
    """Whether a destination holds this content in this format already."""
    held = state.runs.get(snapshot.run_id)
    return (
        held is not None
        and (held.run.data_version, held.run.status) == (snapshot.data_version, snapshot.status)
        and held.entry.provenance.format == format_name
        and held.entry.provenance.layout_version == LAYOUT_VERSION
    )


def deliver(
    request: DeliveryRequest,
    store: SnapshotStore,
    clock: Callable[[], datetime],
    progress: Progress | None = None,
) -> Delivery:
    """Deliver the snapshots that the destination does not hold yet, in one commit.

    Raises DestinationError (someone else's subpath, nothing written), DeliveryConflictError (another delivery
    committed other content of the same runs meanwhile; nothing of ours is committed), TransientError (nothing is
    committed) and OutcomeUnknownError.
    """
    if not request.snapshots:
        raise SelectionError(f"nothing selected to deliver to {request.uri}")
    claim(request.connector, request.subpath, request.owner)
    for _ in range(_ATTEMPTS):
        outcome = _Attempt(request, store, clock, progress or _silent).run()
        if outcome is not None:
            return outcome
    raise DeliveryConflictError(f"{request.uri}: {_ATTEMPTS} other deliveries of the same runs came first; try again")


class _Attempt:
    """One reading of the log and what follows from it."""

    def __init__(
        self,
        request: DeliveryRequest,
        store: SnapshotStore,
        clock: Callable[[], datetime],
        progress: Progress,
    ) -> None:
        self.request = request
        self.store = store
        self.clock = clock
        self.progress = progress
        self.state = read_log(request.connector, request.subpath)
        self.pending = [s for s in request.snapshots if not is_delivered(self.state, s, request.format.name)]

    def run(self) -> Delivery | None:
        """The outcome, or None where the log has moved on and must be read again."""
        if not self.pending:
            return self._finish(written=False, strays=[])
        self._refuse_older_content()
        # Listed before the commit: whoever uploads these must have read the log before us, so cannot commit after us.
        strays = unlisted(self._files_of_pending_runs(), self.state)
        files = self._upload()
        try:
            if not self._commit(self._entry(files)):
                return None
        except DeliveryConflictError:
            # Certain not to have landed, so what nobody else committed may go.
            self._delete(
                unlisted((file.path for file in files), read_log(self.request.connector, self.request.subpath))
            )
            raise
        return self._finish(written=True, strays=strays)

    def _refuse_older_content(self) -> None:
        """A late twin holds a snapshot that a newer one has replaced, here and in the pipeline."""
        for snapshot in self.pending:
            held = self.state.runs.get(snapshot.run_id)
            if (
                held is not None
                and held.run.revision > snapshot.revision
                and held.entry.provenance.snapshot_store == self.store.store_id
            ):
                raise DeliveryConflictError(
                    f"{self.request.uri} holds revision {held.run.revision} of prompt "
                    f"run {snapshot.run_id!r}, newer than revision {snapshot.revision}; start again with the "
                    "current snapshot"
                )

    def _upload(self) -> list[DeliveredFile]:
        files = []
        for snapshot in self.pending:
            for table in _TABLES:
                for number, part in enumerate(snapshot.tables.get(table, ())):
                    files.append(self._upload_part(snapshot, table, number, part))
                    self.progress(f"{snapshot.run_id} {table}", part.rows)
        return files

    def _upload_part(self, snapshot: Snapshot, table: TableName, number: int, part: Part) -> DeliveredFile:
        request = self.request
        with spool_folder() as spool:
            path = spool / f"part{request.format.suffix}"
            if request.format.name == "parquet":
                # A snapshot's parts are written by the same format: its bytes are the delivery's.
                self.store.copy(part, path)
            else:
                writer = request.format.open(path, self.store.schema(snapshot, table))
                for batch in self.store.read(part):
                    writer.write(batch)
                writer.close()
            with path.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            folder = table_folder(table, snapshot.prompt_id, snapshot.run_id)
            file = DeliveredFile(
                path=f"{folder}/{part_name(number, sha256, request.format.suffix)}",
                table=table,
                prompt_id=snapshot.prompt_id,
                prompt_run_id=snapshot.run_id,
                rows=part.rows,
                bytes=path.stat().st_size,
                sha256=sha256,
            )
            request.connector.put(path, f"{request.subpath}/{file.path}")
        return file

    def _commit(self, entry: LogEntry) -> bool:
        """Write the entry. False where the log has moved on with the same content; then it must be read again."""
        connector, subpath = self.request.connector, self.request.subpath
        while True:
            if self._create(f"{subpath}/{log_entry_name(entry.sequence)}", encode_entry(entry)):
                return True
            other = read_entry(connector, subpath, entry.sequence)
            if other is None:
                raise OutcomeUnknownError(
                    f"{connector.uri(subpath)}: log entry {entry.sequence} could neither be written nor read; "
                    "read the log before trying again"
                )
            if other.delivery_id == entry.delivery_id:
                return True  # a lost reply, or a twin: this delivery is committed
            if self._shares_runs(other):
                return False
            entry = msgspec.structs.replace(entry, sequence=entry.sequence + 1)

    def _create(self, key: str, data: bytes) -> bool:
        try:
            return self.request.connector.create(key, data)
        except OutcomeUnknownError:
            if self.request.connector.read(key) == data:
                return True
            raise

    def _shares_runs(self, other: LogEntry) -> bool:
        """Whether the other entry holds runs of ours with the same content. Raises where the content differs."""
        ours = {snapshot.run_id: snapshot for snapshot in self.pending}
        shared = [run for run in other.prompt_runs if run.run_id in ours]
        for run in shared:
            if run.data_version != ours[run.run_id].data_version:
                raise DeliveryConflictError(
                    f"{self.request.uri}: delivery {other.delivery_id} committed other "
                    f"content of prompt run {run.run_id!r} meanwhile; start again with the current snapshot"
                )
        return bool(shared)

    def _finish(self, *, written: bool, strays: list[str]) -> Delivery:
        request = self.request
        state = read_log(request.connector, request.subpath, self.state) if written else self.state
        self._tidy(state, strays)
        fresh = {snapshot.run_id for snapshot in self.pending}
        held = [state.runs[snapshot.run_id] for snapshot in request.snapshots]
        newest = max(held, key=lambda run: run.entry.sequence).entry
        runs = tuple(
            DeliveredPromptRun(run.run.run_id, run.run.data_version, run.files, run.run.run_id in fresh) for run in held
        )
        return Delivery(newest.delivery_id, newest.sequence, written, request.uri, runs)

    def _tidy(self, state: LogState, strays: list[str]) -> None:
        """Remove what the log says is superseded and what attempts that died left. Anyone may repeat it."""
        request = self.request
        superseded = [p for s in request.snapshots for p in state.superseded.get(s.run_id, ())]
        self._delete(unlisted({*superseded, *strays}, state))
        request.connector.sweep()

    def _delete(self, paths: Sequence[str]) -> None:
        if paths:
            self.request.connector.delete([f"{self.request.subpath}/{path}" for path in paths])

    def _files_of_pending_runs(self) -> list[str]:
        paths = []
        for snapshot in self.pending:
            for table in _TABLES:
                folder = f"{self.request.subpath}/{table_folder(table, snapshot.prompt_id, snapshot.run_id)}"
                paths += [f.key.removeprefix(f"{self.request.subpath}/") for f in self.request.connector.files(folder)]
        return paths

    def _entry(self, files: list[DeliveredFile]) -> LogEntry:
        request = self.request
        return LogEntry(
            format_version=FORMAT_VERSION,
            delivery_id=delivery_id(request.uri, request.format.name, self.pending),
            sequence=self.state.next_sequence,
            committed_at=self.clock().isoformat().replace("+00:00", "Z"),
            export=request.export,
            files=files,
            prompt_runs=[self._delivered_run(snapshot) for snapshot in self.pending],
            provenance=Provenance(
                vv_exports_version=__version__,
                dagster_run_id=request.dagster_run_id,
                snapshot_store=self.store.store_id,
                format=request.format.name,
                layout_version=LAYOUT_VERSION,
                prompt_runs=[_run_provenance(snapshot) for snapshot in self.pending],
                json_schemas={
                    _hash(schema): schema
                    for snapshot in self.pending
                    for schema in (snapshot.json_schema, snapshot.video_level_schema)
                    if schema is not None
                },
            ),
        )

    def _delivered_run(self, snapshot: Snapshot) -> DeliveredRun:
        before = self.state.runs.get(snapshot.run_id)
        return DeliveredRun(
            run_id=snapshot.run_id,
            prompt_id=snapshot.prompt_id,
            status=snapshot.status,
            revision=snapshot.revision,
            data_version=snapshot.data_version,
            counts=RowCounts(
                expected=snapshot.prompt_run.count("total_segments"),
                delivered=snapshot.rows("segments"),
                failed=snapshot.rows("failures"),
            ),
            supersedes=None if before is None else before.entry.sequence,
        )


def delivery_id(uri: str, format_name: str, snapshots: Sequence[Snapshot]) -> str:
    """A hash of what is delivered and to where, never of the clock: 32 hex characters."""
    content = sorted((snapshot.run_id, snapshot.data_version, snapshot.status) for snapshot in snapshots)
    return _hash([LAYOUT_VERSION, format_name, uri, content])[:32]


def _run_provenance(snapshot: Snapshot) -> RunProvenance:
    record = snapshot.run
    segmentation = {
        name: value for name, value in sorted(record.items()) if "segmentation" in name or "_duration" in name
    }
    model = record.get("processing_model")
    return RunProvenance(
        run_id=snapshot.run_id,
        executed_at=snapshot.executed_at.isoformat().replace("+00:00", "Z"),
        prompt_id=snapshot.prompt_id,
        prompt_name=snapshot.prompt_name,
        prompt_text_sha256=hashlib.sha256(snapshot.prompt_text.encode()).hexdigest(),
        schema_sha256=_hash(snapshot.json_schema),
        video_level_schema_sha256=None if snapshot.video_level_schema is None else _hash(snapshot.video_level_schema),
        processing_model=model if isinstance(model, str) else None,
        segmentation=segmentation,
    )


def _hash(value: object) -> str:
    return hashlib.sha256(encode_sorted(value)).hexdigest()


def _silent(what: str, rows: int) -> None:
    """No progress wanted."""
    del what, rows
