"""The pipeline's own copy of each prompt run: typed tables, written once, found again by content.

Layout in the pipeline's storage::

    snapshots/<index>/<run>/revisions/00000001.json    what a snapshot holds; written last, put-if-absent
    snapshots/<index>/<run>/parts/segments-00000-<first 16 hex of sha256>.parquet …
    snapshots/<index>/<run>/parts/segments-00000-<first 16 hex of sha256>.answers.parquet …
    snapshots/<index>/<run>/fingerprint.json           when to look again; a hint, its loss costs one reading
    snapshots/<index>/<run>/staging/…                  what was read of a run that is not read to its end yet
    snapshots/store.json                               the store's own id
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import spool_folder
from vv_exports.domain.json_text import encode_each_sorted, encode_sorted
from vv_exports.domain.names import storage_segment
from vv_exports.domain.progress import Work, unseen
from vv_exports.domain.prompt_runs import Prompt, PromptRun, RunStatus
from vv_exports.domain.selection import check_deliverable
from vv_exports.domain.tables import TABLES, TableName
from vv_exports.errors import (
    DeliveredDataError,
    DeliveryConflictError,
    DestinationError,
    SelectionError,
    SnapshotDamagedError,
    SourceChangedError,
    SourceDataError,
    TransientError,
)
from vv_exports.snapshots.completeness import Completeness
from vv_exports.snapshots.contract import contract_of
from vv_exports.snapshots.contract_report import ContractReport
from vv_exports.snapshots.erasures import Excluded, Tombstones
from vv_exports.snapshots.reading import (
    HASHED_AS,
    Reading,
    Spooled,
    failures_first,
    read_run,
    reports_of,
    spool_rows,
    version_of,
)
from vv_exports.snapshots.run_faults import faults_of_run
from vv_exports.snapshots.schemas import Schemas, schemas_of
from vv_exports.snapshots.staging import STAGED, StoredStage
from vv_exports.snapshots.stored_parts import PART_FILE, Answers, Part, PartUploads
from vv_exports.snapshots.tables import LAYOUT_VERSION, Table, layouts_like, table_of, tables_of
from vv_exports.snapshots.typed_pages import ANSWER
from vv_exports.sources.base import Page, Results, Source

_REVISION = re.compile(r"revisions/[0-9]{8}\.json")
_KEPT = re.compile(rf"{_REVISION.pattern}|fingerprint\.json|{PART_FILE}|staging/{STAGED.pattern}")
"""What this module, and staging, write of a run, relative to its folder."""
_NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError)
_ATTEMPTS = 20
_BATCH_ROWS = 8_192
_READINGS = 3
MARKERS = ("video_id", "video_name", "gcs_uri", "thumbnail_gcs_uri", "gif_gcs_uri")
"""Columns that name a medium."""
_LOG = logging.getLogger(__name__)


class Rows(NamedTuple):
    """Some rows of a table, typed, and the answers that belong to them: the ``metadata`` of each as JSON text."""

    batch: pa.RecordBatch
    answers: pa.StringArray | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt run's results as they were when they were read.

    ``data_version`` is the hash of the rows and the prompt's schemas, as they were hashed when the run had this content
    first; ``content_hash`` is that of layout 3. ``revision`` counts the contents that a run has had, from 1.
    ``layout_version`` says how its tables are typed, and ``kept_as_json`` which places of the
    prompt's schemas have no typed column, and why. ``partly_failed`` counts the segments that have a result and are
    among the failures too. ``contract`` says which rows break the prompt's schemas, by table; a table that is not there
    was not checked, since an earlier version took the snapshot. ``erased`` are the rows by table that
    were left out, since their media were erased.
    """

    index_id: str
    run_id: str
    prompt_id: str
    prompt_name: str
    status: RunStatus
    executed_at: datetime
    revision: int
    data_version: str
    taken_at: datetime
    run: dict[str, Any]
    prompt_text: str
    json_schema: Any
    video_level_schema: Any
    tables: dict[str, list[Part]]
    kept_as_json: dict[str, str]
    rescued_rows: int
    layout_version: int = 1
    content_hash: str | None = None
    partly_failed: int = 0
    contract: dict[TableName, ContractReport] = {}
    erased: dict[str, int] = {}

    def rows(self, table: TableName) -> int:
        """Rows of one table; 0 where the run has no such table."""
        return sum(part.rows for part in self.tables.get(table, ()))

    @property
    def broken_rows(self) -> int | None:
        """Rows whose answer breaks the prompt's schema; None where they were not checked, or not all of them."""
        if not self.contract or any(report.problem is not None for report in self.contract.values()):
            return None
        return sum(report.broken for report in self.contract.values())

    @property
    def completeness(self) -> Completeness:
        """Whether its segments add up to those that the run states."""
        return Completeness.of_rows(
            self.prompt_run,
            segments=self.rows("segments"),
            failures=self.rows("failures"),
            partly=self.partly_failed,
            erased=self.erased,
        )

    def has_file(self, key: str) -> bool:
        """Whether this is the place of one of its files."""
        return any(file.key == key for parts in self.tables.values() for part in parts for file in part.files)

    @property
    def has_answers(self) -> bool:
        """Whether it has the answers as they were; version 0.1 did not keep them."""
        return self.layout_version > 1

    def table(self, name: TableName) -> Table:
        """The table with the columns that its own files have."""
        return table_of(name, self.schema_of(name), self.layout_version)

    def schema_of(self, name: TableName) -> Any:
        """The JSON Schema of a table's ``metadata``, as its prompt has it."""
        return self.video_level_schema if name == "videos" else self.json_schema

    @property
    def prompt(self) -> Prompt:
        """The prompt that the tables were typed with."""
        return Prompt(self.prompt_id, self.prompt_name, self.prompt_text, self.json_schema, self.video_level_schema)

    @property
    def prompt_run(self) -> PromptRun:
        """The run as it was when the snapshot was taken."""
        return PromptRun(
            self.run_id,
            self.index_id,
            self.prompt_id,
            self.prompt_name,
            self.status,
            self.executed_at,
            self.run,
        )


Take = Callable[[PromptRun, datetime], Snapshot]
"""Reads a run and keeps it, as ``SnapshotStore.take`` does."""


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a run looked like before it was read, and the revision that the reading gave.

    Of two takes at once, the one that read older content may record its revision last. The other one's note does
    not speak for that revision, so the run is read again.
    """

    fingerprint: str
    revision: int = 0


_STORE = "snapshots/store.json"


class _StoreId(msgspec.Struct, frozen=True):
    store_id: str


@dataclass(frozen=True)
class KeptRun:
    """What is kept of a run: every revision that can be read, the oldest first, and the places of all files.
    ``run_id`` is None where no newest revision tells it: left by a reading that died, or damaged. Nobody uses that but
    a reading that begins again."""

    run_id: str | None
    revisions: tuple[Snapshot, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class _Revisions:
    """The newest revision of a run, None where there is none or it cannot be used; and its number, 0 where none is."""

    current: Snapshot | None
    newest: int


class SnapshotStore:
    """Snapshots in the pipeline's storage. Safe with several writers: a revision is written if there is none."""

    def __init__(self, storage: Connector, work: Work = unseen) -> None:
        self._storage = storage
        self._work = work
        self.schemas = Schemas(storage)
        self.tombstones = Tombstones(storage)

    @property
    def store_id(self) -> str:
        """Tells this storage from one that was set up anew: revisions are comparable within one store only."""
        if (found := self.known_id) is not None:
            return found
        self._storage.create(_STORE, msgspec.json.encode({"store_id": secrets.token_hex(8)}))
        if (found := self.known_id) is None:
            raise TransientError(f"{self._storage.uri(_STORE)} was written and cannot be read back; try again")
        return found

    @property
    def known_id(self) -> str | None:
        """The same, None where it has none yet. Writes nothing."""
        if (data := self._storage.read(_STORE)) is None:
            return None
        try:
            return msgspec.json.decode(data, type=_StoreId).store_id
        except _NO_JSON as error:
            raise DeliveredDataError(
                f"{self._storage.uri(_STORE)} does not hold the store's id: {error}. Restore it, or remove it: the "
                "store then gets another id, and what differs from it at a destination is delivered."
            ) from error

    def current(self, index_id: str, run_id: str) -> Snapshot | None:
        """The newest snapshot of a run, or None where none was taken, or it is damaged: then the run is read again."""
        return self._revisions(index_id, run_id).current

    def _revisions(self, index_id: str, run_id: str) -> "_Revisions":
        top = f"{_folder(index_id, run_id)}/"
        there = self._storage.files(f"{top}revisions")
        keys = sorted(file.key for file in there if _REVISION.fullmatch(file.key.removeprefix(top)))
        return _Revisions(self._revision(keys[-1]), int(PurePosixPath(keys[-1]).stem)) if keys else _Revisions(None, 0)

    def _revision(self, key: str) -> Snapshot | None:
        """One revision; None where it is damaged, or not the pipeline's: then the run has to be read again."""
        try:
            data = self._storage.read(key)
            if data is not None:
                return msgspec.json.decode(data, type=Snapshot)
        except (*_NO_JSON, DestinationError, DeliveredDataError) as error:
            _LOG.warning(
                "%s is no revision of a snapshot, so that the run is read again: %s", self._storage.uri(key), error
            )
            return None
        raise TransientError(f"{self._storage.uri(key)} vanished while it was read; try again")

    def ensure(
        self, source: Source, run: PromptRun, now: datetime, *, answers: bool = False, take: Take | None = None
    ) -> Snapshot:
        """The snapshot of a run: the current one while the run looks unchanged, otherwise one taken now, by ``take``
        where that is given; with ``answers``, also where the current one has not kept them.

        Raises SelectionError for a run that is not finished.
        """
        current = self.unchanged(source, run)
        if current is not None and (current.has_answers or not answers):
            return current
        return (take or partial(self.take, source))(run, now)

    def unchanged(self, source: Source, run: PromptRun) -> Snapshot | None:
        """The current snapshot while the run looks as it did when that was taken; None: it is time to look again."""
        note = self._note(run.index_id, run.run_id)
        if note is None or note.fingerprint != fingerprint_of(source, run):
            return None
        current = self.current(run.index_id, run.run_id)
        return current if current is not None and current.revision == note.revision else None

    def fingerprint(self, snapshot: Snapshot) -> str | None:
        """What the run looked like when this snapshot was last found to be its content; None where that is unknown."""
        note = self._note(snapshot.index_id, snapshot.run_id)
        return note.fingerprint if note is not None and note.revision == snapshot.revision else None

    def _note(self, index_id: str, run_id: str) -> _Note | None:
        """A hint: one that is damaged is as good as none."""
        data = self._storage.read(f"{_folder(index_id, run_id)}/fingerprint.json")
        try:
            return msgspec.json.decode(data, type=_Note) if data is not None else None
        except _NO_JSON:
            return None

    def take(self, source: Source, run: PromptRun, now: datetime, above: int = 0) -> Snapshot:
        """Read a run and keep it. The same content as the current snapshot gives the current snapshot, where its
        revision is greater than ``above``, which a destination holds that outlived a part of this store.

        A run that changes while it is read is read again. Raises SourceChangedError where it never stays still.
        """
        for _ in range(_READINGS):
            check_deliverable(run)
            # Before the reading: a change that comes while we read must look like a change afterwards.
            fingerprint = fingerprint_of(source, run)
            excluded = self.tombstones.excluded(run.index_id)
            stage = StoredStage(self._storage, _folder(run.index_id, run.run_id), fingerprint)
            before = self.current(run.index_id, run.run_id)
            # Rows that are as they were keep the data version that an earlier version of the pipeline gave them.
            earlier = before is not None and before.content_hash is None
            with spool_folder() as spool, self._uploads(run, before, anew=above > 0) as uploads:
                try:
                    with faults_of_run(run.index_id, run.run_id), source.results(run, stage) as results:
                        reading = read_run(
                            self._watched(results), run, spool, parts=uploads, earlier=earlier, excluded=excluded
                        )
                    problem, ask_again = None, results.run_afterwards
                except SourceDataError as error:
                    stage.clear()  # what does not add up must not be the start of the next reading
                    uploads.remove_others({})
                    problem, ask_again = error, partial(source.prompt_run, run.index_id, run.run_id)
                run = ask_again()
                if fingerprint_of(source, run) == fingerprint:
                    if problem is not None:
                        raise problem
                    with self._storage.many_writes():
                        snapshot = self._keep(reading, run, now, above, excluded, uploads)
                        uploads.remove_others(snapshot.tables)
                        stage.clear()  # before the note: whoever is killed in between clears it at the next reading
                        self._write_note(_Note(fingerprint=fingerprint, revision=snapshot.revision), run, spool)
                    # An erasure that began meanwhile looked at what was kept before, or is seen here.
                    if self.tombstones.excluded(run.index_id) == excluded:
                        return snapshot
                    self.erase_media(run.index_id, run.run_id, now)
                    self.forget_earlier(run.index_id, run.run_id)
        raise SourceChangedError(
            f"prompt run {run.run_id!r} of index {run.index_id!r} changed during each of {_READINGS} readings; it is "
            "read again when it is asked for the next time"
        )

    def _uploads(self, run: PromptRun, before: Snapshot | None, *, anew: bool = False) -> PartUploads:
        """What takes the parts of a reading of a run away, of which ``before`` is the snapshot."""
        known = [] if before is None else [part for parts in before.tables.values() for part in parts]

        def held() -> set[str] | None:
            top = f"{_folder(run.index_id, run.run_id)}/"
            keys = [file.key for file in self._storage.files(f"{top}revisions")]
            read = [self._revision(key) for key in keys if _REVISION.fullmatch(key.removeprefix(top))]
            if None in read:  # one is damaged, and nobody knows its files
                return None
            tables = [one.tables for one in read if one is not None]
            return {f.key for each in tables for parts in each.values() for part in parts for f in part.files}

        return PartUploads(self._storage, _folder(run.index_id, run.run_id), known, held, anew=anew)

    def _watched(self, results: Results) -> Results:
        """The same, whose segments are told as they come."""

        def segments() -> Iterator[Page]:
            for page in results.segments():
                yield page
                self._work("reading", page.rows, 0)

        return replace(results, segments=segments)

    def _write_note(self, note: _Note, run: PromptRun, spool: Path) -> None:
        local = spool / "fingerprint.json"
        local.write_bytes(msgspec.json.encode(note))
        # A hint: the disk is not waited for.
        self._storage.put(local, f"{_folder(run.index_id, run.run_id)}/fingerprint.json", durable=False)

    def _keep(  # noqa: PLR0917
        self,
        reading: Reading,
        run: PromptRun,
        now: datetime,
        above: int,
        excluded: Excluded,
        uploads: PartUploads,
    ) -> Snapshot:
        """Record what was read, unless it is what the current snapshot holds."""
        there = self._revisions(run.index_id, run.run_id)
        current = there.current
        is_known = current is not None and _holds(current, reading)
        data_version = current.data_version if current is not None and is_known else reading.data_version
        if current is None or current.revision <= above or not _same(current, data_version, run):
            tables: dict[str, list[Part]] = {
                name: [uploads.part_of(file) for file in files] for name, files in reading.files.items()
            }
            uploads.check_all_there(tables)
            self.schemas.note(run.index_id, schemas_of(reading.prompt))  # before: whoever is killed here has noted it
            current = self._record(
                Snapshot(
                    index_id=run.index_id,
                    run_id=run.run_id,
                    prompt_id=run.prompt_id,
                    prompt_name=run.prompt_name,
                    status=run.status,
                    executed_at=run.executed_at,
                    revision=max(there.newest, above) + 1,
                    data_version=data_version,
                    taken_at=now,
                    run=excluded.scrubbed(_stated(run)),
                    prompt_text=reading.prompt.prompt_text,
                    json_schema=reading.prompt.json_schema,
                    video_level_schema=reading.prompt.video_level_schema,
                    tables=tables,
                    kept_as_json=reading.kept_as_json,
                    rescued_rows=reading.rescued_rows,
                    layout_version=LAYOUT_VERSION,
                    content_hash=reading.data_version,
                    partly_failed=reading.completeness.partly,
                    contract=dict(reading.contract),
                    erased={str(name): rows for name, rows in reading.erased.items()},
                ),
                above,
            )
        return current

    def count_files(self, index_id: str, run_id: str) -> int:
        """How many files are kept of a run."""
        return len(self._kept(index_id, run_id))

    def forget(self, index_id: str, run_id: str) -> int:
        """Delete all that is kept of a run, and no other file. Returns the number of files."""
        keys = self._kept(index_id, run_id)
        self._storage.delete(keys)
        return len(keys)

    def erase_media(self, index_id: str, run_id: str, now: datetime) -> Snapshot | None:
        """Let the current snapshot of a run hold no row of erased media: a revision of its own, made of the rows that
        are kept, without asking the source. Returns it, or the current one where that holds none; None where there is
        no snapshot. Earlier revisions stay: see ``forget_earlier``."""
        current, excluded = self.current(index_id, run_id), self.tombstones.excluded(index_id)
        if current is None or not self.holds_erased(current, excluded):
            return current
        fingerprint = self.fingerprint(current)
        with spool_folder() as spool, self._uploads(current.prompt_run, current) as uploads:

            def spooled(name: TableName) -> Spooled:
                table = current.table(name)
                return spool_rows(
                    map(_with_answers, self.rows(current, name, answers=table.has_answers)),
                    table,
                    contract_of(current.schema_of(name)) if table.has_answers else None,
                    spool,
                    excluded,
                    parts=uploads,
                    failures=found.get("failures"),
                )

            found: dict[TableName, Spooled] = {}
            for name in failures_first(tables_of(current.prompt, current.layout_version)):
                found[name] = spooled(name)
            found = {name: found[name] for name in tables_of(current.prompt, current.layout_version)}
            version = version_of(HASHED_AS, current.prompt, {n: one.hash.digest().hex() for n, one in found.items()})
            erased = {n: current.erased.get(n, 0) + one.erased for n, one in found.items()}
            snapshot = self._record(
                msgspec.structs.replace(
                    current,
                    revision=current.revision + 1,
                    data_version=version,
                    content_hash=None if current.content_hash is None else version,
                    taken_at=now,
                    run=excluded.scrubbed(current.run),
                    tables={
                        n: [uploads.part_of(file) for file in one.files]
                        for n, one in found.items()
                        if one.rows or n == "segments"
                    },
                    rescued_rows=sum(one.rescued for one in found.values()),
                    partly_failed=found["segments"].partly_failed,
                    contract=reports_of(found),  # examples of what breaks it may be of those media
                    erased={n: rows for n, rows in erased.items() if rows},
                ),
                current.revision,
            )
            if fingerprint is not None:
                note = _Note(fingerprint=fingerprint, revision=snapshot.revision)
                self._write_note(note, snapshot.prompt_run, spool)
        return snapshot

    def check_not_erased(self, snapshots: Iterable[Snapshot]) -> None:
        """Raise SelectionError where a run was erased, DeliveryConflictError where snapshots are of before media of
        theirs were."""
        found: dict[str, Excluded] = {}
        for one in snapshots:
            if one.index_id not in found:
                found[one.index_id] = self.tombstones.excluded(one.index_id)
            excluded = found[one.index_id]
            if excluded.has_run(one.run_id):
                raise SelectionError(
                    f"prompt run {one.run_id!r} was erased; `vv-exports erase --list` says when and why"
                )
            if self.is_before_erasure(one, excluded):
                raise DeliveryConflictError(
                    f"media of prompt run {one.run_id!r} were erased meanwhile; start again with the current snapshot"
                )

    def is_before_erasure(self, snapshot: Snapshot, excluded: Excluded) -> bool:
        """Whether a snapshot has, or had, rows of erased media: files of one that was current may be gone."""
        if not excluded.videos:
            return False
        current = self.current(snapshot.index_id, snapshot.run_id)
        is_newer = current is not None and current.revision > snapshot.revision
        if current is not None and is_newer and current.erased != snapshot.erased:
            return True
        return self.holds_erased(snapshot, excluded)

    def holds_erased(self, snapshot: Snapshot, excluded: Excluded) -> bool:
        """Whether a snapshot has rows of erased media. Of each file, only the ids of media are read."""
        return any(self._has_erased(part.key, excluded) for parts in snapshot.tables.values() for part in parts)

    def media(self, snapshot: Snapshot) -> dict[str, str | None]:
        """The media that a snapshot has rows of: id -> name. Raises DeliveredDataError where a file of it is gone."""
        found: dict[str, str | None] = {}
        for part in (part for parts in snapshot.tables.values() for part in parts):
            with self._storage.open(part.key) as file, pq.ParquetFile(file) as opened:
                there = [name for name in ("video_id", "video_name") if name in opened.schema_arrow.names]
                for batch in opened.iter_batches(_BATCH_ROWS, columns=there):
                    for row in batch.to_pylist():
                        if row["video_id"] is not None and found.get(row["video_id"]) is None:
                            found[row["video_id"]] = row.get("video_name")
        return dict(sorted(found.items()))

    def markers(self, snapshot: Snapshot, excluded: Excluded) -> set[str]:
        """Texts in the rows of erased media by which people know them: ids, names and addresses."""
        found: set[str] = set()
        for name in TABLES:
            for rows in self.rows(snapshot, name):
                batch = rows.batch
                here = [one for one in MARKERS if one in batch.schema.names]
                for row in batch.select(here).to_pylist():
                    if row["video_id"] is not None and excluded.has_video(row["video_id"]):
                        found.update(value for value in row.values() if value)
        return found

    def _has_erased(self, key: str, excluded: Excluded) -> bool:
        try:
            with self._storage.open(key) as file, pq.ParquetFile(file) as opened:
                return any(
                    excluded.without(batch).num_rows < batch.num_rows
                    for batch in opened.iter_batches(_BATCH_ROWS, columns=["video_id"])
                )
        except (DeliveredDataError, pa.ArrowException):
            return False  # it is gone, or no file of ours that can be read: ``earlier`` names what is removed unread

    def kept_runs(self, index_id: str) -> list[str]:
        """The runs of an index of which anything is kept, as far as a revision tells the id."""
        top = f"snapshots/{storage_segment(index_id)}/"
        newest: dict[str, str] = {}
        for file in self._storage.files(top.removesuffix("/")):
            folder, _, rest = file.key.removeprefix(top).partition("/")
            if _REVISION.fullmatch(rest) and not file.is_link:
                newest[folder] = max(newest.get(folder, ""), file.key)
        found = [one.run_id for key in newest.values() if (one := self._revision(key)) is not None]
        return sorted(found)

    def kept_of_index(self, index_id: str) -> Iterator[KeptRun]:
        """All that is kept of an index, run by run: one listing, and each revision is read."""
        top = f"snapshots/{storage_segment(index_id)}/"
        folders: dict[str, list[str]] = {}
        for file in self._storage.files(top.removesuffix("/")):
            folder, _, rest = file.key.removeprefix(top).partition("/")
            if _KEPT.fullmatch(rest) and not file.is_link:
                folders.setdefault(folder, []).append(file.key)
        for folder, keys in sorted(folders.items()):
            named = sorted(key for key in keys if _REVISION.fullmatch(key.removeprefix(f"{top}{folder}/")))
            read = [self._revision(key) for key in named]
            newest = read[-1] if read else None
            held = tuple(one for one in read if one is not None)
            yield KeptRun(None if newest is None else newest.run_id, held, tuple(keys))

    def remove(self, keys: list[str]) -> None:
        """Delete files that were found here."""
        self._storage.delete(keys)

    def index_of(self, folder: str) -> str | None:
        """The id of the index whose folder has this name, as far as a revision tells it."""
        for file in self._storage.files(f"snapshots/{folder}"):
            if _REVISION.fullmatch(file.key.partition(f"snapshots/{folder}/")[2].partition("/")[2]):
                found = self._revision(file.key)
                if found is not None:
                    return found.index_id
        return None

    def earlier(self, index_id: str, run_id: str) -> list[str]:
        """The places of all that is kept of a run beside its current snapshot: earlier revisions and their files,
        files of readings that died, and what is staged."""
        current = self.current(index_id, run_id)
        if current is None:
            return self._kept(index_id, run_id)
        stays = {f"{_folder(index_id, run_id)}/revisions/{current.revision:08}.json"}
        return [
            key
            for key in self._kept(index_id, run_id)
            if key not in stays and not key.endswith("/fingerprint.json") and not current.has_file(key)
        ]

    def left_over(self, kept: KeptRun, excluded: Excluded) -> bool:
        """Whether files that no revision holds have rows of erased media, or are staged and may have."""
        return any(
            "/staging/" in key or (not key.endswith(".json") and self._has_erased(key, excluded))
            for key in kept.keys
            if not key.endswith(".answers.parquet") and not any(one.has_file(key) for one in kept.revisions)
        )

    def kept(self, index_id: str, run_id: str) -> list[str]:
        """The places of all that is kept of a run."""
        return self._kept(index_id, run_id)

    def forget_earlier(self, index_id: str, run_id: str) -> list[str]:
        """Delete that. Returns what was deleted."""
        keys = self.earlier(index_id, run_id)
        self._storage.delete(keys)
        return keys

    def look_again(self, index_id: str, run_id: str) -> None:
        """Forget what a run looked like, so that it is read again when it is asked for."""
        self._storage.delete([f"{_folder(index_id, run_id)}/fingerprint.json"])

    def _kept(self, index_id: str, run_id: str) -> list[str]:
        top = f"{_folder(index_id, run_id)}/"
        keys = [file.key for file in self._storage.files(top.removesuffix("/")) if not file.is_link]
        return [key for key in keys if _KEPT.fullmatch(key.removeprefix(top))]

    def rows(self, snapshot: Snapshot, table: TableName, *, answers: bool = False) -> Iterator[Rows]:
        """The rows of a table, in order; with their answers, where asked for. Raises SnapshotDamagedError where a file
        is gone or damaged."""
        for part in snapshot.tables.get(table, ()):
            yield from self.rows_of_part(snapshot.table(table), part, answers=answers)

    def rows_of_part(self, typed: Table, part: Part, *, answers: bool = False, metadata: bool = True) -> Iterator[Rows]:
        """Those of one part of a table that has these columns; without that of ``metadata`` where it is not asked for,
        and the answers were kept."""
        columns = None
        if not metadata and part.answers is not None:
            columns = [name for name in typed.schema.names if name != "metadata"]
        with spool_folder() as spool:
            batches = self._batches(part, spool / "rows", columns)
            if not answers:
                yield from (Rows(batch, None) for batch in batches)
            elif part.answers is None:
                yield from (Rows(batch, _answers_of(typed, batch)) for batch in batches)
            else:
                yield from _aligned(batches, self._batches(part.answers, spool / "answers"))

    def _batches(self, file: Part | Answers, path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a file, or some columns of them, from a copy of it that was compared with its hash."""
        self.copy(file, path)
        with pq.ParquetFile(path) as opened:
            for group in range(opened.num_row_groups):  # which is what is held in memory
                yield from opened.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)

    def head(
        self, snapshot: Snapshot, table: TableName, rows: int, names: Sequence[str] | None = None
    ) -> pa.RecordBatch:
        """The first rows of a table, all their columns or those of ``names`` that it has, for showing: reads no more
        than it needs, so it does not check the file."""
        for part in snapshot.tables.get(table, [])[:1]:
            with self._opened(part) as file:
                opened = pq.ParquetFile(file, buffer_size=1 << 20)
                there = None if names is None else [name for name in names if name in opened.schema_arrow.names]
                for batch in opened.iter_batches(rows, columns=there, use_threads=False):
                    return batch
        return pa.RecordBatch.from_pylist([], schema=snapshot.table(table).schema)

    def columns(self, snapshot: Snapshot, table: TableName, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows of a table, for showing: the rest is not read, so the files are not checked."""
        for part in snapshot.tables.get(table, ()):
            with self._opened(part) as file:
                opened = pq.ParquetFile(file, buffer_size=1 << 20)
                yield from opened.iter_batches(_BATCH_ROWS, columns=list(names), use_threads=False)

    def copy(self, part: Part | Answers, target: Path) -> None:
        """The bytes of one part, as a local file. Raises SnapshotDamagedError where the part is gone or damaged."""
        digest = hashlib.sha256()
        with self._opened(part) as file, target.open("wb") as out:
            while block := file.read(1 << 20):
                digest.update(block)
                out.write(block)
        self._check_whole(part, digest.hexdigest())

    def _opened(self, part: Part | Answers) -> BufferedIOBase:
        try:
            return self._storage.open(part.key)
        except DeliveredDataError as error:
            raise self._damaged(part, f"{self._storage.uri(part.key)} is not there") from error

    def _check_whole(self, part: Part | Answers, sha256: str) -> None:
        if sha256 != part.sha256:
            what = f"its sha256 is {sha256[:16]}…, written was {part.sha256[:16]}…"
            raise self._damaged(part, f"{self._storage.uri(part.key)} was damaged: {what}")

    def _damaged(self, part: Part | Answers, what: str) -> SnapshotDamagedError:
        revisions = self._storage.uri(f"{part.key.rsplit('/', 2)[0]}/revisions")
        return SnapshotDamagedError(
            f"{what}. Delete the newest file in {revisions}, and the run is read again.", part.key
        )

    def _record(self, snapshot: Snapshot, above: int) -> Snapshot:
        """Write the revision, or the next free one where another process took the number."""
        folder = _folder(snapshot.index_id, snapshot.run_id)
        for _ in range(_ATTEMPTS):
            key = f"{folder}/revisions/{snapshot.revision:08}.json"
            if self._storage.create(key, msgspec.json.format(msgspec.json.encode(snapshot), indent=1)):
                return snapshot
            there = self._revisions(snapshot.index_id, snapshot.run_id)
            other = there.current
            if (
                other is not None
                and other.revision > above
                and _same(other, snapshot.data_version, snapshot.prompt_run)
            ):
                return other
            revision = max(snapshot.revision, there.newest, above)
            snapshot = msgspec.structs.replace(snapshot, revision=revision + 1)
        raise TransientError(f"{folder}: {_ATTEMPTS} other snapshots of this run were taken meanwhile; try again")


def _with_answers(rows: Rows) -> pa.RecordBatch:
    """Typed rows with a column of their answers, as they come from a reading."""
    return rows.batch if rows.answers is None else rows.batch.append_column(ANSWER, rows.answers)


def _aligned(batches: Iterator[pa.RecordBatch], answers: Iterator[pa.RecordBatch]) -> Iterator[Rows]:
    """Rows with their answers, though the two files are cut into batches at other places."""
    texts = pa.array([], pa.string())
    for batch in batches:
        at = 0
        while at < batch.num_rows:
            if not len(texts):
                texts = next(answers).column(0)
            count = min(batch.num_rows - at, len(texts))
            yield Rows(batch.slice(at, count), texts.slice(0, count))
            at, texts = at + count, texts.slice(count)


def _answers_of(table: Table, batch: pa.RecordBatch) -> pa.StringArray | None:
    """Answers as the typed rows tell them, where they were not kept: 5 and 5.0 are one number there."""
    if not table.has_answers:
        return None
    documents = table.documents(batch)
    return pa.array(encode_each_sorted([document["metadata"] for document in documents]), pa.string())


def fingerprint_of(source: Source, run: PromptRun) -> str:
    """A cheap hash of what says that a run may have changed: its record and the source's own hint."""
    return hashlib.sha256(encode_sorted([_stated(run), source.change_hint(run)])).hexdigest()


def _stated(run: PromptRun) -> Mapping[str, Any]:
    """The run's record without people's marks and the bill, which change after the run and say nothing of results."""
    left_out = _left_out(tuple(run.record))
    if not left_out:
        return run.record
    stated = dict(run.record)
    for name in left_out:
        del stated[name]
    return stated


@lru_cache(64)
def _left_out(names: tuple[str, ...]) -> tuple[str, ...]:
    """Remembered, since the records of an index have the same names."""
    return tuple(name for name in names if name.startswith(("marker", "billing_")))


def _holds(snapshot: Snapshot, reading: Reading) -> bool:
    """Whether a snapshot is of the rows that were read."""
    if snapshot.content_hash is not None:
        return snapshot.content_hash == reading.data_version
    return snapshot.data_version == reading.earlier_version


def _same(snapshot: Snapshot, data_version: str, run: PromptRun) -> bool:
    is_equal = (snapshot.data_version, snapshot.status) == (data_version, run.status)
    return is_equal and snapshot.layout_version in layouts_like(LAYOUT_VERSION)


def _folder(index_id: str, run_id: str) -> str:
    return f"snapshots/{storage_segment(index_id)}/{storage_segment(run_id)}"
