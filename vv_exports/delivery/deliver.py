"""One delivery: files to a destination such that a reader of its log sees all of them or none.

The order is the promise: claim the subpath, upload finished files under names that hold their content's hash, write
the log entry if there is none, and only then remove what it superseded. Killed anywhere, running it again completes it.

Only the log decides what may be removed: an entry names what it supersedes and what dead deliveries left, and a path
that was abandoned like this is never used again. So a deletion may come at any time, repeated and late. What a dead
delivery left is known by its name, which carries the hash of its content; any other file is somebody's, and stays.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import msgspec
from msgspec import UNSET

from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.lease import Lease, only_writer
from vv_exports.connectors.spool import at_a_time, check_room, has_room, spool_folder
from vv_exports.connectors.uploads import UploadsBehind
from vv_exports.content.files import ForeseenFile, LocalFile
from vv_exports.delivery.checksums import write_checksums
from vv_exports.delivery.content import Content
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import (
    DeliveredFile,
    DeliveredRun,
    Erasure,
    ExportReference,
    LogEntry,
    Provenance,
    Reason,
    RowCounts,
    TableColumns,
    format_version_of,
    read_entry,
    write_entry,
)
from vv_exports.delivery.log import keep_checkpoint, read_log
from vv_exports.delivery.ownership import check_log, claim
from vv_exports.delivery.plan import plan
from vv_exports.delivery.provenance import delivery_id, provenance_of
from vv_exports.delivery.state import CommittedRun, LogState
from vv_exports.delivery.survey import of_one_run, survey_runs
from vv_exports.domain.destinations import LOG_FOLDER, part_name, possible_folders, run_folder, video_file_name
from vv_exports.domain.progress import Report, Work, silent, unseen
from vv_exports.domain.tables import DELIVERED_TABLES, TableName, rows_by_table
from vv_exports.errors import (
    DeliveryConflictError,
    OutcomeUnknownError,
    SelectionError,
    StorageSetBackError,
    VVExportsError,
)
from vv_exports.printable import one_line
from vv_exports.snapshots.broken_rows import checked
from vv_exports.snapshots.store import Snapshot, SnapshotStore

_ATTEMPTS = 5
_NAMED = 10
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeliveryRequest:
    """What to deliver, to where, for whom. ``dagster_run_id`` is recorded, and is no part of the delivery's id."""

    destination: Destination
    export: ExportReference
    content: Content
    snapshots: Sequence[Snapshot]
    dagster_run_id: str | None = None
    damaged: frozenset[str] = frozenset()
    """Paths of committed files that were found to be of another content: they are written again."""
    moves_on_to: str | None = None
    """The address to which the files move on from the destination, as a download's do."""

    retain_superseded: timedelta | None = None
    """How long superseded files are kept, for readers that began before."""
    erased_since: str | None = None
    """The reason, where the delivery takes away rows of erased media."""
    on_commit: Callable[[LogState], None] | None = None
    """Told what the destination holds after the commit, before what that superseded is removed. Raises nothing."""

    @property
    def uri(self) -> str:
        """Where the files are in the end."""
        return self.moves_on_to or self.destination.uri


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
    """The outcome. ``committed`` is False where everything was there already and nothing was written. ``removed`` are
    the paths that were superseded, or left by deliveries that died. ``tables`` are the columns of the files that were
    written. ``page`` is where people look at the destination in their browser, where there is such a page."""

    delivery_id: str
    sequence: int
    committed: bool
    uri: str
    prompt_runs: tuple[DeliveredPromptRun, ...]
    removed: tuple[str, ...] = ()
    tables: tuple[TableColumns, ...] = ()
    page: str | None = None

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


def deliver(
    request: DeliveryRequest,
    store: SnapshotStore,
    clock: Callable[[], datetime],
    progress: Report = silent,
    state: LogState | None = None,
    *,
    work: Work = unseen,
) -> Delivery:
    """Deliver the snapshots that the destination does not hold yet, in one commit.

    Raises DestinationError (someone else's subpath, nothing written), DeliveryConflictError (another delivery
    committed other content of the same runs meanwhile; nothing of ours is committed), StorageSetBackError (the
    destination holds revisions that are above all of the store; nothing is committed), TransientError (nothing is
    committed) and OutcomeUnknownError.

    ``progress`` is told (run id and table, rows) after each file, ``work`` how much is to be encoded and uploaded, and
    was. ``state`` is what the log said a moment ago, where that is known: it saves reading all of it. Where others have
    delivered since, the commit fails and the log is read.
    """
    if not request.snapshots:
        raise SelectionError(f"nothing selected to deliver to {request.uri}")
    destination = request.destination
    with only_writer(destination.connector, destination.subpath) as lease:
        claimed = claim(destination, expected=state is not None and state.last is not None)
        there = claimed.files if claimed.is_new else None
        if there is not None and not any(path.startswith(f"{LOG_FOLDER}/") for path in there):
            state = LogState()
        known = state.copy() if state is not None else read_log(destination, listed=claimed.files)
        for _ in range(_ATTEMPTS):
            outcome = Attempt(request, store, clock, progress, lease, state=known, there=there, work=work).run()
            if outcome is not None:
                return outcome
            known, there = read_log(destination), None
    raise DeliveryConflictError(f"{request.uri}: {_ATTEMPTS} other deliveries of the same runs came first; try again")


class Attempt:
    """One reading of the log and what follows from it. What writes is in methods of its own: a rehearsal has others."""

    def __init__(
        self,
        request: DeliveryRequest,
        store: SnapshotStore,
        clock: Callable[[], datetime],
        progress: Report,
        lease: Lease,
        *,
        state: LogState,
        there: Mapping[str, StoredFile] | None,
        work: Work = unseen,
    ) -> None:
        self.request = request
        self.destination = request.destination
        self.store = store
        self.clock = clock
        self.progress = progress
        self.work = work
        self.lease = lease
        self.state = state
        check_log(self.destination, state)
        # Whoever uploads what is there now has read the log before us, so cannot commit after us: it conflicts.
        content = request.content
        fresh = [self._checked(one) for one in request.snapshots if not content.is_delivered(state, one)]
        self.plan = plan(state, content, fresh)
        self.there = survey_runs(self.destination, state, self._folders(), there, damaged=request.damaged, now=clock())
        to_mend = {run_id for run_id, found in self.there.items() if found.beside.strays or found.missing}
        pending = to_mend.union(one.run_id for one in fresh)
        known = {one.run_id: one for one in fresh}
        self.pending = [
            known.get(one.run_id) or self._checked(one) for one in request.snapshots if one.run_id in pending
        ]
        if len(self.pending) > len(fresh):
            self.plan = plan(state, content, self.pending)

    def run(self) -> Delivery | None:
        """The outcome, or None where the log has moved on and must be read again."""
        if not self.pending:
            return self._finish(None)
        self._check_current()
        # After the log was read: an erasure that this does not see yet commits later, and one of both conflicts.
        self.store.check_not_erased(self.pending)
        self._check_room()
        for made in self.plan.files.values():
            made.check(self.store)
        files = self._upload()
        try:
            entry = self._commit(self._entry(files))
            if entry is None:
                return None
        except DeliveryConflictError:
            self._delete_outdated(files)
            raise
        return self._finish(entry)

    def _checked(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot of which is known what breaks its contract, where that decides what is delivered."""
        return snapshot if self.request.content.options.contract == "warn" else checked(self.store, snapshot)

    def _check_current(self) -> None:
        """Nothing older than what is there may be delivered, by a process that was held up, say. A lower revision that
        is the newest of all is not older: the store was set back."""
        newer = {s.run_id: (s, held.run.revision) for s in self.pending if (held := self._newer(self.state, s))}
        set_back = {}
        for run_id, (snapshot, revision) in newer.items():
            current = self.store.current(snapshot.index_id, run_id)
            if current is None or current.revision < revision:
                set_back[run_id] = revision
        if set_back:
            named = ", ".join(f"{one_line(run_id)} (revision {revision})" for run_id, revision in set_back.items())
            raise StorageSetBackError(
                f"{self.request.uri} holds newer snapshots than the pipeline's `storage` of the prompt runs {named}: a "
                "backup of `storage` was restored. They have to be read again.",
                set_back,
            )
        for run_id, (snapshot, revision) in newer.items():
            raise DeliveryConflictError(
                f"{self.request.uri} holds revision {revision} of prompt run {run_id!r}, newer than revision "
                f"{snapshot.revision}; start again with the current snapshot"
            )

    def _newer(self, state: LogState, snapshot: Snapshot) -> CommittedRun | None:
        """What the destination holds of a run, where that is a later reading of it than this snapshot."""
        held = state.runs.get(snapshot.run_id)
        if held is None or held.run.revision <= snapshot.revision:
            return None
        return held if held.entry.snapshot_store == self.store.known_id else None

    def _delete_outdated(self, files: Sequence[DeliveredFile]) -> None:
        """Remove what was uploaded of content that is out of date. Newer content stays: a twin of ours may be about to
        commit the same files, and if none is, whoever delivers the run next removes them."""
        state = read_log(self.destination)
        outdated = {snapshot.run_id for snapshot in self.pending if self._newer(state, snapshot)}
        committed = {file.path for file in state.files}
        ours = [file.path for file in files if file.prompt_run_id in outdated and file.path not in committed]
        self._delete(ours)
        _LOG.info("%s: deleted %s, whose content is out of date", self.request.uri, _listed(ours))

    def _tables(self) -> list[tuple[Snapshot, TableName]]:
        return [
            (snapshot, table)
            for snapshot in self.pending
            for table in DELIVERED_TABLES
            if (snapshot.run_id, table) in self.plan.files
        ]

    def _check_room(self) -> None:
        """Raise NoRoomError, before anything is written, where the spool has no room for a file of a run."""
        needed = {key: made.spooled_bytes for key, made in self.plan.files.items()}
        if needed:
            run_id, table = max(needed, key=needed.__getitem__)
            check_room(needed[run_id, table], f"a file of the {table} of prompt run {one_line(run_id)}")

    def _upload(self) -> list[DeliveredFile]:
        tables = self._tables()
        files = []
        self.work("encoding", 0, sum(one.rows(table) for one, table in tables if table != "quarantine"))
        # Files of a table may be two at a time: one is made while the one before it is uploaded.
        room = 2 * max((made.spooled_bytes for made in self.plan.files.values()), default=0)
        threads = at_a_time(room, self.destination.connector.uploads_at_once)
        with self._many_writes(), ThreadPoolExecutor(threads) as pool:
            for (snapshot, table), uploaded in zip(tables, pool.map(self._upload_table, tables), strict=True):
                files += uploaded
                self.progress(f"{snapshot.run_id} {table}", sum(file.rows for file in uploaded))
        return files

    def _many_writes(self) -> AbstractContextManager[None]:
        return self.destination.connector.many_writes()

    def _upload_table(self, of: tuple[Snapshot, TableName]) -> list[DeliveredFile]:
        snapshot, table = of
        made = self.plan.files[snapshot.run_id, table]
        files: list[DeliveredFile] = []
        taken: set[str] = set()
        committed = frozenset(self._committed(snapshot.run_id))
        with spool_folder() as spool, UploadsBehind() as behind:
            for local in made.make(self.store, spool, behind.wait):
                file = self._file(snapshot, table, local, taken)
                files.append(file)
                if made.parts == 1:
                    self._put(local, file, committed)
                    continue
                behind.begin(partial(self._put, local, file, committed))
                if not has_room(made.spooled_bytes):
                    behind.wait()
        return files

    def _put(self, local: LocalFile, file: DeliveredFile, committed: Collection[DeliveredFile]) -> None:
        """Upload a file, unless it is there, and let it go. A delivery that died has left it there, where it is a file
        of which the content was found to be what its name says."""
        self.work("encoding", local.rows, 0)
        found = self.there[file.prompt_run_id]
        is_there = file in committed and file.path not in found.missing
        if not is_there and found.beside.strays.get(file.path) != file.bytes:
            self.work("uploading", 0, local.bytes)
            with of_one_run():
                self.destination.connector.put(local.path, self.destination.key(file.path), sha256=local.sha256)
            self.work("uploading", local.bytes, 0)
        local.path.unlink()

    def _file(
        self, snapshot: Snapshot, table: TableName, content: LocalFile | ForeseenFile, taken: set[str]
    ) -> DeliveredFile:
        """A file of a run, as the log names it. ``taken`` are the paths of those of the table before it."""
        path = self._free_path(snapshot, table, content, taken)
        taken.add(path)
        return DeliveredFile(
            path=path,
            table=table,
            prompt_id=snapshot.prompt_id,
            prompt_run_id=snapshot.run_id,
            rows=content.rows,
            bytes=content.bytes,
            sha256=content.sha256,
        )

    def _free_path(
        self, snapshot: Snapshot, table: TableName, content: LocalFile | ForeseenFile, taken: Collection[str]
    ) -> str:
        """Where a file goes. Content that returns gets the next free number: its old path may still be deleted. So does
        what would write over a file that is not ours."""
        folder = run_folder(
            self.plan.folders[snapshot.run_id, table], snapshot.prompt_id, snapshot.run_id, self.state.segment_of
        )
        if content.stem is None:
            names = (part_name(n, content.sha256, content.suffix) for n in itertools.count(len(taken)))
        else:
            names = (video_file_name(content.stem, n, content.sha256, content.suffix) for n in itertools.count())
        paths = (f"{folder}/{name}" for name in names)
        foreign = self.there[snapshot.run_id].beside.foreign
        return next(
            path for path in paths if path not in self.state.abandoned and path not in foreign and path not in taken
        )

    def _commit(self, entry: LogEntry) -> LogEntry | None:
        """Write the entry, and return it as it stands in the log. None where the log has moved on with the same
        content; then it must be read again."""
        while True:
            if write_entry(self.destination, entry, self.lease):
                return entry
            other = read_entry(self.destination, entry.sequence)
            if other is None:
                raise OutcomeUnknownError(
                    f"{self.destination.uri}: log entry {entry.sequence} could neither be written nor read; "
                    "read the log before trying again"
                )
            if other.delivery_id == entry.delivery_id:
                return other  # a lost reply, or a twin: this delivery is committed
            if lost := {file.path for file in entry.files}.intersection(other.abandoned):
                raise DeliveryConflictError(
                    f"{self.request.uri}: {min(lost)} was taken for left over and removed by `vv-exports vacuum` "
                    "before it was committed; start again"
                )
            if self._shares_runs(other) or self._moves_columns(other):
                return None
            entry = msgspec.structs.replace(entry, sequence=entry.sequence + 1)

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

    def _moves_columns(self, other: LogEntry) -> bool:
        """Whether the other entry gives files in folders of ours columns that we have not planned with."""
        ours = {(one.prompt_id, one.folder): one.shape for one in self.plan.tables}
        for one in other.tables or ():
            planned = ours.get((one.prompt_id, one.folder))
            before = self.state.shapes_of(one.prompt_id).get(one.folder)
            if None not in {one.shape, planned} and one.shape not in {planned, before and before.id}:
                return True
        return False

    def _finish(self, written: LogEntry | None) -> Delivery:
        request, state = self.request, self.state
        # The entry forgets them. Without one they stay known: whoever looks for what is left over removes them.
        expired = state.expired(self.clock()) if written is not None else frozenset[str]()
        if written is not None and written.sequence == state.next_sequence:
            state.apply(written)
        elif written is not None:
            state = read_log(self.destination, state)
        if written is not None:
            self._tell_of_commit(state)
        self._write_checksums(state)
        removed = self._remove_abandoned(state, expired)
        if written is not None:
            self._keep_checkpoint(state, written)
        fresh = {snapshot.run_id for snapshot in self.pending}
        held = [state.runs[snapshot.run_id] for snapshot in request.snapshots]
        newest = max(held, key=lambda run: run.entry.sequence).entry
        runs = tuple(
            DeliveredPromptRun(run.run.run_id, run.run.data_version, run.files, run.run.run_id in fresh) for run in held
        )
        tables = () if written is None or written.tables is UNSET else tuple(written.tables)
        self._warn_of_changes(tables)
        return Delivery(
            newest.delivery_id,
            newest.sequence,
            written is not None,
            request.uri,
            runs,
            removed=removed,
            tables=tables,
            page=None if request.moves_on_to is not None else self.destination.page,
        )

    def _tell_of_commit(self, state: LogState) -> None:
        if self.request.on_commit is not None:
            self.request.on_commit(state)

    def _write_checksums(self, state: LogState) -> None:
        write_checksums(self.destination, state)

    def _keep_checkpoint(self, state: LogState, written: LogEntry) -> None:
        keep_checkpoint(self.destination, state, written.sequence)

    def _warn_of_changes(self, tables: Sequence[TableColumns]) -> None:
        for table in tables:
            if table.change is not None:
                _LOG.warning(
                    "%s/%s of prompt %s: %s", self.request.uri, table.folder, one_line(table.prompt_id), table.change
                )

    def _over(self, state: LogState, expired: Collection[str]) -> tuple[str, ...]:
        """The paths that the log abandons, as far as there is something."""
        there = {path for run in self.there.values() for path in run.sizes.keys() - run.links}
        return tuple(sorted((there & state.abandoned) - state.retained_at(self.clock()) | set(expired)))

    def _remove_abandoned(self, state: LogState, expired: Collection[str]) -> tuple[str, ...]:
        """Remove what the log abandons, and say what. Anyone may repeat it, so a delivery that is committed does
        not fail for it: credentials may deliver and not delete, and the store may be away by now."""
        over = self._over(state, expired)
        try:
            self._delete(over)
            left = [path for path in over if any(path in run.beside.strays for run in self.there.values())]
            if left:
                _LOG.warning("%s: removed %s, left by a delivery that died", self.request.uri, _listed(left))
            if superseded := sorted(set(over).difference(left)):
                _LOG.info("%s: removed %s, superseded", self.request.uri, _listed(superseded))
            self.destination.connector.sweep()
        except VVExportsError as error:
            _LOG.warning(
                "what was superseded stays until the next delivery or `vv-exports vacuum` removes it: %s", error
            )
            return ()
        return over

    def _delete(self, paths: Sequence[str]) -> None:
        if paths:
            self.destination.connector.delete([self.destination.key(path) for path in paths])

    def _folders(self) -> dict[str, str]:
        """Every folder of the requested runs, with its run."""
        tables = {*DELIVERED_TABLES, *self.plan.folders.values()}
        return self.state.folders_of(one.run_id for one in self.request.snapshots) | {
            folder: one.run_id
            for one in self.request.snapshots
            for folder in possible_folders(one.prompt_id, one.run_id, tables)
        }

    def _committed(self, run_id: str) -> tuple[DeliveredFile, ...]:
        held = self.state.runs.get(run_id)
        return () if held is None else held.files

    def _abandoned(self, run_id: str, ours: Sequence[DeliveredFile]) -> list[str]:
        """What was there of a run that the log knows nothing of: deliveries died, or are about to conflict."""
        return sorted(self.there[run_id].beside.strays.keys() - {file.path for file in ours})

    def _reason(self, snapshot: Snapshot) -> Reason:
        """Why a run is delivered."""
        held = self.state.runs.get(snapshot.run_id)
        if held is None:
            return "new"
        if not held.holds(snapshot.data_version, snapshot.status):
            return "changed"
        return "mended" if self.request.content.is_delivered(self.state, snapshot) else "reshaped"

    def _entry(self, files: list[DeliveredFile]) -> LogEntry:
        request, retained = self.request, self.request.retain_superseded
        return LogEntry(
            format_version=format_version_of(files),
            delivery_id=delivery_id(request.uri, request.content, self.pending, self.plan.shape_ids()),
            sequence=self.state.next_sequence,
            committed_at=self.clock().isoformat().replace("+00:00", "Z"),
            export=request.export,
            files=files,
            prompt_runs=[self._delivered_run(snapshot, files) for snapshot in self.pending],
            provenance=self._provenance(),
            tables=list(self.plan.tables) or UNSET,
            retain_superseded_seconds=UNSET if retained is None else int(retained.total_seconds()),
            erasure=UNSET if request.erased_since is None else Erasure(reason=request.erased_since),
        )

    def _provenance(self) -> Provenance:
        return provenance_of(
            self.request.content,
            self.pending,
            snapshot_store=self.store.store_id,
            dagster_run_id=self.request.dagster_run_id,
            commit="put_if_absent" if self.destination.connector.decides_among_writers() else "single_writer",
        )

    def _delivered_run(self, snapshot: Snapshot, files: Sequence[DeliveredFile]) -> DeliveredRun:
        before = self.state.runs.get(snapshot.run_id)
        delivered, quarantined = snapshot.rows("segments"), 0
        if (snapshot.run_id, "segments") in self.plan.files:
            ours = rows_by_table(one for one in files if one.prompt_run_id == snapshot.run_id)
            segments, delivered = delivered, ours.get("segments", 0)
            # Files of videos leave out more: what has no times has no place in any.
            by_video = self.request.content.options.format.is_by_video
            quarantined = ours.get("quarantine", 0) if by_video else segments - delivered
        return DeliveredRun(
            run_id=snapshot.run_id,
            prompt_id=snapshot.prompt_id,
            status=snapshot.status,
            revision=snapshot.revision,
            data_version=snapshot.data_version,
            counts=RowCounts(
                expected=snapshot.prompt_run.count("total_segments"),
                delivered=delivered,
                failed=snapshot.rows("failures"),
                erased=snapshot.erased.get("segments") or UNSET,
                quarantined=quarantined if self.request.content.options.contract == "quarantine" else UNSET,
            ),
            supersedes=None if before is None else before.entry.sequence,
            abandoned=self._abandoned(snapshot.run_id, files),
            reason=self._reason(snapshot),
        )


def _listed(paths: Sequence[str]) -> str:
    """Paths for a line of a log: the first few of many."""
    more = f" and {len(paths) - _NAMED} more files" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"
