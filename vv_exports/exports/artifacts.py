"""Downloads: an export's folder packed into one zip file in the pipeline's storage, and copied from there.

Layout::

    exports/downloads/<2 hex>/<export id>.zip
    exports/downloads/<2 hex>/<export id>.zip.readers/<began>-<random>.json    who copies it at the moment

A reader leaves its mark before it looks whether the artifact is still promised; whoever takes one away says so in the
record first, and looks for marks after that. So one of them sees the other, and no file is taken from under a reader.
"""

import hashlib
import logging
import os
import re
import secrets
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase
from pathlib import Path

import msgspec

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import DeliveredDataError, RequestError, VVExportsError
from vv_exports.exports.records import shard

_FOLDER = "exports/downloads"
_BEGAN = "%Y%m%dT%H%M%SZ"
_MARK = re.compile(r"(?P<artifact>.+)\.readers/(?P<began>[0-9]{8}T[0-9]{6}Z)-[0-9a-f]{16}\.json")
_READER_DIED_AFTER = timedelta(days=1)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact in the storage, and the marks of those who copy it, or died while they did."""

    export_id: str
    key: str
    bytes: int
    readers: tuple[str, ...]
    left_marks: tuple[str, ...]


def artifact_key(export_id: str) -> str:
    """Where the artifact of an export is."""
    return f"{_FOLDER}/{shard(export_id)}/{export_id}.zip"


def artifact_of(storage: Connector, export_id: str, now: datetime) -> StoredArtifact | None:
    """The artifact of an export; None where there is none."""
    found = _artifacts(storage.files(f"{_FOLDER}/{shard(export_id)}"), now)
    return next((one for one in found if one.key == artifact_key(export_id)), None)


def artifacts(storage: Connector, now: datetime) -> list[StoredArtifact]:
    """Every artifact, and every other zip file among them, from one listing."""
    return _artifacts(storage.files(_FOLDER), now)


def remove_artifact(storage: Connector, artifact: StoredArtifact) -> None:
    """Remove an artifact, and what readers that died left beside it."""
    storage.delete([artifact.key, *artifact.left_marks])


def copy_artifact(storage: Connector, export_id: str, target: Path) -> bool:
    """Copy an artifact to a local file, atomically. False where the file is there already, the same.

    Raises DeliveredDataError where it is gone, or no whole zip file.
    """
    with opened_artifact(storage, export_id) as content:
        if _is_same(content, target):
            return False
        folder = LocalConnector("download", target.parent)
        folder.put_stream(content, target.name)
        folder.sweep()
    return True


def compare_artifact(storage: Connector, export_id: str, target: Path | None) -> tuple[int, bool]:
    """The size of an artifact, and whether a local file is the same already. Raises what ``copy_artifact`` raises."""
    with opened_artifact(storage, export_id) as content:
        return content.seek(0, os.SEEK_END), target is not None and _is_same(content, target)


@contextmanager
def opened_artifact(storage: Connector, export_id: str, *, sparsely: bool = False) -> Iterator[BufferedIOBase]:
    """An artifact, opened for reading; ``sparsely`` for a look at what is in it. Raises DeliveredDataError where it is
    gone or no whole zip file, also when that shows while what is in it is read."""
    key = artifact_key(export_id)
    try:
        opened = storage.open(key, sparsely=sparsely)
    except DeliveredDataError as error:
        raise DeliveredDataError(
            f"{storage.uri(key)} is not there: it was deleted, or a backup of `storage` from before it was restored. "
            "Make the export again, with the same idempotency key where it had one."
        ) from error
    with opened as content:
        try:
            if not sparsely:
                zipfile.ZipFile(content).close()  # reads its end, which one that was cut short has not
            yield content
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _no_zip_file(storage, export_id, error) from error


def _is_same(content: BufferedIOBase, target: Path) -> bool:
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256").digest()
    if not target.is_file():
        return False
    with target.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").digest() == digest


def check_target(target: Path) -> None:
    """Raise RequestError where no download can be put."""
    if target.exists() and not target.is_file():
        raise RequestError(f"{target} is not a file, so no download can be put there; choose another path")
    if not target.parent.is_dir():
        raise RequestError(f"{target.parent} is not a folder, so no download can be put there; create it first")


@contextmanager
def being_read(storage: Connector, export_id: str, now: datetime) -> Iterator[None]:
    """Around the reading of an artifact: nobody takes it away meanwhile."""
    name = f"{now.astimezone(UTC).strftime(_BEGAN)}-{secrets.token_hex(8)}.json"
    mark = f"{artifact_key(export_id)}.readers/{name}"
    who = msgspec.json.encode({"host": socket.gethostname(), "process_id": os.getpid()})
    try:
        storage.create(mark, who, durable=False)
    except RequestError as error:  # whoever may read there, and not write, reads as well
        _LOG.info("%s is read without a mark that says so: %s", storage.uri(artifact_key(export_id)), error)
        yield
        return
    try:
        yield
    finally:
        try:
            storage.delete([mark])
        except VVExportsError as error:  # what was copied is copied, and the mark counts for a day
            _LOG.warning("%s stays, and keeps the download from being deleted for a day: %s", storage.uri(mark), error)


def pack(folder: Path, archive: Path) -> None:
    """The same folder gives the same bytes: names sorted, no times. Files that are compressed already are stored. Each
    file is removed once it is packed, so that there need not be room for all of them twice."""
    with zipfile.ZipFile(archive, "x") as zipped:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            stored = path.suffix in {".parquet", ".zst", ".gz"}
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size  # tells zipfile in advance where it needs its 64-bit form
            with path.open("rb") as content, zipped.open(entry, "w") as out:
                while block := content.read(1 << 20):
                    out.write(block)
            path.unlink()


def unpack(storage: Connector, export_id: str, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack the wanted files of an artifact."""
    key = artifact_key(export_id)
    try:
        with storage.open(key) as content, zipfile.ZipFile(content) as zipped:
            for name in filter(wanted, zipped.namelist()):
                zipped.extract(name, folder)
    except zipfile.BadZipFile as error:
        raise _no_zip_file(storage, export_id, error) from error


def _no_zip_file(storage: Connector, export_id: str, error: Exception) -> DeliveredDataError:
    return DeliveredDataError(
        f"{storage.uri(artifact_key(export_id))} is no zip file any more ({error}). Restore it; or remove it, and make "
        "the export again, with the same idempotency key where it had one."
    )


def _artifacts(files: Sequence[StoredFile], now: datetime) -> list[StoredArtifact]:
    marks: dict[str, dict[str, datetime]] = {}
    for file in files:
        match = _MARK.fullmatch(file.key)
        if match is not None and (began := _moment(match["began"])) is not None:
            marks.setdefault(match["artifact"], {})[file.key] = began
    found = []
    for file in files:
        if not file.key.endswith(".zip"):
            continue
        mine = marks.get(file.key, {})
        left = tuple(mark for mark, began in mine.items() if now - began > _READER_DIED_AFTER)
        readers = tuple(mark for mark in mine if mark not in left)
        export_id = file.key.rpartition("/")[2].removesuffix(".zip")
        found.append(StoredArtifact(export_id, file.key, file.size, readers, left))
    return found


def _moment(began: str) -> datetime | None:
    try:
        return datetime.strptime(began, _BEGAN).replace(tzinfo=UTC)
    except ValueError:  # no reader left that mark
        return None
