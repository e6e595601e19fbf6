"""The record of each export on demand, in the pipeline's storage. It outlives Dagster's database.

Layout::

    exports/records/<2 hex>/<export id>.<created>.<version>.<status>.<index>.json

Each version of a record is a file of its own that nobody changes, written if there is none; the newest one holds, and
whoever writes it removes those before it. What a list asks for is in the names: the newest exports, the failed ones,
those of an index are found by listing names, and only what is shown is read. There is no index beside the records that
could disagree with them, and no moment between two writes at which a process could die.

Of two writers that meet at one version, what became of the export decides: one that is completed is so, whatever its
twin says.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports.connectors.base import Connector
from vv_exports.domain.exports import Export, ExportRequest, ExportStatus
from vv_exports.domain.tables import TableName
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError, TransientError, VVExportsError, first_few
from vv_exports.exports.stored_requests import restored, stored

_FOLDER = "exports/records"
_ATTEMPTS = 30
_READ_AT_ONCE = 20
_CREATED = "%Y%m%dT%H%M%S%fZ"
_SHARD = re.compile("[0-9a-f]{2}")
_NAME = re.compile(
    r"(?P<export_id>exp_[^./]+)\.(?P<created>[0-9]{8}T[0-9]{12}Z)\.(?P<version>[0-9]{4,})\."
    r"(?P<status>pending|processing|failed|completed|deleted)\.(?P<index>[0-9a-f]{8})\.json"
)
_BEGINNING = re.compile(r"[\w-]+")
DELETED = "deleted"
"""In the name of a record: it is completed, and its artifact was deleted."""
_RANK = {status: rank for rank, status in enumerate(("pending", "processing", "failed", "completed", DELETED))}
_LOG = logging.getLogger(__name__)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One Dagster run that makes an export, or tries to. ``launched_by`` is ``client`` (the command line, Python),
    ``dagster`` (its UI), or the backfill, schedule or sensor there; ``process`` is the one that carries it out."""

    dagster_run_id: str
    began_at: datetime
    launched_by: str
    process: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an export came to. ``bytes`` are those of the files, or of a download's artifact. Records of earlier
    versions do not tell the rows of each table."""

    destination_uri: str
    rows: int
    files: int
    bytes: int
    delivery_id: str
    rows_by_table: dict[TableName, int] | UnsetType = UNSET


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an export. ``launch`` is the Dagster run that it was first asked for in. ``prompt_run_ids`` are
    decided once: None as long as they are not."""

    export_id: str
    launch: str
    request: ExportRequest
    prompt_run_ids: tuple[str, ...] | None
    created_at: datetime
    status: ExportStatus
    attempts: tuple[Attempt, ...]
    completed_at: datetime | None = None
    outcome: Outcome | None = None
    error: str | None = None
    artifact_deleted_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is neither completed nor failed."""
        return self.status in {ExportStatus.PENDING, ExportStatus.PROCESSING}

    @property
    def is_download(self) -> bool:
        """Whether it makes an artifact in the pipeline's storage."""
        return self.request.destination_connector_id is None

    @property
    def has_artifact(self) -> bool:
        """Whether it is a completed download whose artifact was not deleted."""
        return self.is_download and self.status == ExportStatus.COMPLETED and self.artifact_deleted_at is None

    def export(self) -> Export:
        """As people and programs see it."""
        request, outcome, attempt = self.request, self.outcome, self.attempts[-1]
        return Export(
            export_id=self.export_id,
            export_type=request.export_type,
            index_id=request.index_id,
            target_id=request.target_id,
            status=self.status,
            format=request.format,
            content=request.content.chosen,
            bag=request.bag,
            dataset_card=request.dataset_card,
            all_prompt_runs=request.prompt_run_ids is None,
            prompt_run_ids=self.prompt_run_ids,
            destination_type="download" if self.is_download else "connector",
            destination_connector_id=request.destination_connector_id,
            destination_subpath=request.destination_subpath,
            destination_uri=None if outcome is None else outcome.destination_uri,
            rows=None if outcome is None else outcome.rows,
            rows_by_table=None if outcome is None or outcome.rows_by_table is UNSET else outcome.rows_by_table,
            files=None if outcome is None else outcome.files,
            bytes=None if outcome is None else outcome.bytes,
            delivery_id=None if outcome is None else outcome.delivery_id,
            artifact="available" if self.has_artifact else "deleted" if self.artifact_deleted_at is not None else None,
            artifact_deleted_at=_text(self.artifact_deleted_at),
            launched_by=attempt.launched_by,
            dagster_run_id=attempt.dagster_run_id,
            dagster_run_ids=tuple(one.dagster_run_id for one in self.attempts),
            error_message=self.error,
            created_at=_text(self.created_at),
            started_at=_text(attempt.began_at),
            completed_at=_text(self.completed_at),
        )


@dataclass(frozen=True)
class Entry:
    """What the name of a record's version says. ``index`` is short for the index id: others may share it."""

    key: str
    export_id: str
    created: str
    version: int
    status: str
    index: str

    @property
    def age(self) -> tuple[str, str]:
        """Greater for what is newer; no two exports have the same."""
        return self.created, self.export_id


class Records:
    """The records of a storage. Usable from several processes."""

    def __init__(self, storage: Connector) -> None:
        self._storage = storage

    def find(self, export_id: str) -> Record | None:
        """An export's record, by its whole id. Raises DeliveredDataError where it cannot be read."""
        found = self._newest(export_id)
        return found[1] if found is not None else None

    def entry(self, beginning: str) -> Entry:
        """The export whose id begins like this, with or without the ellipsis of the documentation. Raises
        NotFoundError, and RequestError where there are several."""
        text = beginning.removesuffix("…").removesuffix("...")
        # A beginning of that length is in one folder; a shorter one may be in any.
        folder = _folder(text) if len(text) >= len("exp_00") else _FOLDER
        there = self._entries(folder) if _BEGINNING.fullmatch(text) else ()  # else it could name any folder
        found = {one.export_id: one for one in there if one.export_id.startswith(text)}
        if len(found) > 1 and text not in found:
            newest = sorted(found.values(), key=lambda one: one.age, reverse=True)
            listed = "\n".join(f"  {line}" for line in first_few([f"{one.export_id} ({one.status})" for one in newest]))
            raise RequestError(f"{len(found)} exports have an id that begins with {text!r}; give more of it:\n{listed}")
        if not found:
            raise NotFoundError(
                f"export {beginning!r} does not exist; `vv-exports exports list` lists those that do. Where a backup "
                "of `storage` from before it was restored, the same request makes it again."
            )
        return found.get(text) or next(iter(found.values()))

    def of(self, entry: Entry) -> Record:
        """The record of an entry, or what came after it. Raises DeliveredDataError, and NotFoundError where both are
        gone."""
        record = self._read(entry) or self.find(entry.export_id)
        if record is None:
            raise NotFoundError(f"export {entry.export_id!r} does not exist any more")
        return record

    def entries(self) -> list[Entry]:
        """The newest version of every record, the newest export first. One listing, and no record is read. Raises
        DeliveredDataError where a file is in the place of their folder."""
        found = sorted(self._entries(_FOLDER), key=lambda one: one.age, reverse=True)
        if not found:
            self._check_folder()
        return found

    def read(self, entries: Iterable[Entry]) -> Iterator[Record]:
        """The records of some entries, as they are consumed. One that cannot be read is named in the log."""
        waiting, at_once = list(entries), self._storage.uploads_at_once
        with ThreadPoolExecutor(at_once) as pool:
            some = pool.map if at_once > 1 else map
            for start in range(0, len(waiting), _READ_AT_ONCE):
                found = some(self._readable, waiting[start : start + _READ_AT_ONCE])
                yield from (record for record in found if record is not None)

    def begin(self, record: Record) -> Record:
        """Write the first version of a record, unless there is one. Returns what there is then. Of those who begin the
        same export at once, all have to say that it was asked for at the same moment."""
        there = self.find(record.export_id)
        if there is None and self._storage.create(_key(record, 1), _encoded(record)):
            return record
        return there or self.update(record.export_id, lambda _: None)

    def update(self, export_id: str, change: Callable[[Record], Record | None]) -> Record:
        """Replace a record by what ``change`` makes of it; None: leave it. ``change`` may be called again."""
        for _ in range(_ATTEMPTS):
            found = self._newest(export_id)
            if found is None:
                raise DeliveredDataError(
                    f"{self._storage.uri(_folder(export_id))} holds no record of export {export_id!r} any more: "
                    "somebody removed it, or restored a backup, while the export was made. Make it again."
                )
            versions, before = found
            after = change(before)
            if after is None or after == before:
                return before
            if self._storage.create(_key(after, max(one.version for one in versions) + 1), _encoded(after)):
                self._forget(versions)
                return after
        raise TransientError(f"the record of export {export_id!r} kept changing while it was written; try again")

    def _check_folder(self) -> None:
        """Nothing is listed below a file, just as where there is no folder."""
        for place in (_FOLDER.partition("/")[0], _FOLDER):
            try:
                content = self._storage.read(place)
            except DeliveredDataError:
                continue  # it is the folder that it should be
            if content is not None:
                raise self._no_folder(place)

    def _no_folder(self, place: str) -> DeliveredDataError:
        return DeliveredDataError(
            f"{self._storage.uri(place)} is a file, and belongs to be a folder with the records of exports: somebody "
            "put it there. Move it away; restore the folder from a backup where there was one."
        )

    def _forget(self, old: Iterable[Entry]) -> None:
        """Remove old versions. The change is made, whether that succeeds or not; whoever makes the next tries again."""
        try:
            self._storage.delete([one.key for one in old])
        except VVExportsError as error:
            _LOG.warning("old versions of an export's record stay in %s: %s", self._storage.uri(_FOLDER), error)

    def _newest(self, export_id: str) -> tuple[list[Entry], Record] | None:
        for _ in range(_ATTEMPTS):
            versions = self._versions(_folder(export_id), export_id)
            if not versions:
                return None
            newest = max(versions, key=_precedence)
            record = self._read(newest)
            if record is not None:  # else there is a newer one by now
                return versions, record
        raise TransientError(f"the record of export {export_id!r} kept changing while it was read; try again")

    def _readable(self, entry: Entry) -> Record | None:
        try:
            return self.of(entry)
        except (DeliveredDataError, NotFoundError) as error:
            _LOG.warning("export %s is left out: %s", entry.export_id, error)
            return None

    def _read(self, entry: Entry) -> Record | None:
        data = self._storage.read(entry.key)
        if data is None:
            return None
        try:
            record = _decoded(data)
            if not record.attempts or _key(record, entry.version) != entry.key:
                raise msgspec.ValidationError("it is not the record that its name says")
        except (msgspec.MsgspecError, UnicodeDecodeError, RequestError) as error:
            raise DeliveredDataError(
                f"{self._storage.uri(entry.key)} does not say what became of export {entry.export_id}: {error}. "
                "Restore it; or remove it, and make the export again."
            ) from error
        return record

    def _entries(self, folder: str) -> list[Entry]:
        newest: dict[str, Entry] = {}
        for one in self._versions(folder):
            other = newest.get(one.export_id)
            if other is None or _precedence(one) > _precedence(other):
                newest[one.export_id] = one
        return list(newest.values())

    def _versions(self, folder: str, export_id: str | None = None) -> list[Entry]:
        found = []
        for file in self._storage.files(folder):
            holding, _, name = file.key.rpartition("/")
            match = _NAME.fullmatch(name)
            if holding == _FOLDER and _SHARD.fullmatch(name):
                raise self._no_folder(file.key)
            if match is None or file.is_link or holding != _folder(match["export_id"]):
                continue  # a copy that lies elsewhere is nobody's, and a link is never read
            if export_id in {None, match["export_id"]}:
                id_, created, version, status, index = match.groups()
                found.append(Entry(file.key, id_, created, int(version), status, index))
        return found


def index_digest(index_id: str) -> str:
    """What stands for an index in the names of records."""
    return hashlib.sha256(index_id.encode()).hexdigest()[:8]


def created_text(moment: datetime) -> str:
    """A moment as names of records have it."""
    return moment.astimezone(UTC).strftime(_CREATED)


def _encoded(record: Record) -> bytes:
    return msgspec.json.encode(msgspec.structs.asdict(record) | {"request": stored(record.request)})


def _decoded(data: bytes) -> Record:
    kept = msgspec.json.decode(data, type=dict[str, Any])
    return msgspec.convert(kept | {"request": asdict(restored(kept.get("request")))}, Record)


def shard(export_id: str) -> str:
    """The folder that what belongs to an export is in, among 256: to find one export, only its like are listed."""
    return export_id[len("exp_") : len("exp_00")]


def _precedence(entry: Entry) -> tuple[int, int]:
    return entry.version, _RANK[entry.status]


def _folder(export_id: str) -> str:
    return f"{_FOLDER}/{shard(export_id)}"


def _key(record: Record, version: int) -> str:
    index = index_digest(record.request.index_id)
    status = DELETED if record.artifact_deleted_at is not None else record.status
    name = f"{record.export_id}.{created_text(record.created_at)}.{version:04}.{status}.{index}.json"
    return f"{_folder(record.export_id)}/{name}"


def _text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
