"""A document that several processes change: every version is a file of its own, written if there is none.

A change is made to the newest version and tried again where another process was faster, so no change is lost. The
document says nothing of who may change it, or what it means.
"""

import logging
import random
import re
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
import pyarrow as pa

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.errors import DeliveredDataError, TransientError, VVExportsError

_ATTEMPTS = 30
_KEPT = 3  # a reader that has just listed the folder still finds what it saw
_LONGEST_WAIT_SECONDS = 0.2
_VERSION = re.compile(r"([0-9]{10,})\.json\.zst")
_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
NOT_PACKED = (msgspec.MsgspecError, UnicodeDecodeError, OSError, pa.ArrowException)
"""What ``unpacked`` raises for anything else."""


def packed(document: object) -> bytes:
    """A document as compressed JSON, as ``zstd -d`` reads it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(msgspec.json.encode(document))
    return bytes(sink.getvalue().to_pybytes())


def unpacked(data: bytes, kind: type[_T]) -> _T:
    """The document that was packed."""
    return msgspec.json.decode(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(), type=kind)


class VersionedDocument(Generic[_T]):
    """``folder`` holds the versions; what else lies there is left alone. ``empty`` makes the document that nobody has
    changed yet."""

    def __init__(self, storage: Connector, folder: str, kind: type[_T], empty: Callable[[], _T]) -> None:
        self._storage = storage
        self._folder = folder
        self._kind = kind
        self._empty = empty
        # With the versions that were there: numbers go back where a backup is restored, and then are given once more.
        self._newest: tuple[list[StoredFile], _T] | None = None

    def read(self) -> _T:
        """The newest version. Not to be changed in place: it is kept until there is a newer one."""
        return self._read()[1]

    @property
    def as_read(self) -> _T | None:
        """The version that this process read or wrote last, without asking the storage. None where it did neither, or
        nobody has changed the document yet."""
        newest = self._newest
        return None if newest is None else newest[1]

    def update(self, change: Callable[[_T], _T | None]) -> _T:
        """Replace the newest version by what ``change`` makes of it; None: leave it. ``change`` may be called again."""
        for _ in range(_ATTEMPTS):
            version, before = self._read()
            after = change(before)
            if after is None:
                return before
            if self._storage.create(self._key(version + 1), packed(after)):
                # Where we were slow, this number was taken, and tidied away again: then the change is made once more.
                there = self._versions()
                if there and _number(there[-1]) == version + 1:
                    self._newest = there, after
                    if len(there) > _KEPT:
                        self._newest = there[-_KEPT:], after
                        self._forget([file.key for file in there[:-_KEPT] if not file.is_link])
                    return after
            time.sleep(random.uniform(0, _LONGEST_WAIT_SECONDS))  # noqa: S311
        raise TransientError(
            f"{self._storage.uri(self._folder)}: {_ATTEMPTS} other changes were made meanwhile; try again"
        )

    def settle(self) -> None:
        """Remove the earlier versions that are kept for readers that have just listed them."""
        self._storage.delete([file.key for file in self._versions()[:-1] if not file.is_link])

    def _forget(self, keys: list[str]) -> None:
        """Remove old versions. The change is made, whether that succeeds or not; whoever makes the next tries again."""
        try:
            self._storage.delete(keys)
        except VVExportsError as error:
            _LOG.warning("%d old versions in %s stay: %s", len(keys), self._storage.uri(self._folder), error)

    def _read(self) -> tuple[int, _T]:
        for _ in range(_ATTEMPTS):
            there = self._versions()
            if not there:
                return 0, self._empty()
            newest = self._newest
            if newest is None or newest[0] != there:
                data = self._storage.read(there[-1].key)
                if data is None:
                    continue
                newest = self._newest = there, self._unpacked(there[-1].key, data)
            return _number(there[-1]), newest[1]
        raise TransientError(f"{self._storage.uri(self._folder)} kept changing while it was read; try again")

    def _unpacked(self, key: str, data: bytes) -> _T:
        try:
            return unpacked(data, self._kind)
        except NOT_PACKED as error:
            raise DeliveredDataError(
                f"{self._storage.uri(key)} is no version of this document: {error}. Remove it: the "
                "version before it then holds, where there is one."
            ) from error

    def _versions(self) -> list[StoredFile]:
        top = f"{self._folder}/"
        found = [file for file in self._storage.files(self._folder) if _VERSION.fullmatch(file.key.removeprefix(top))]
        return sorted(found, key=_number)

    def _key(self, version: int) -> str:
        return f"{self._folder}/{version:010}.json.zst"


def _number(file: StoredFile) -> int:
    return int(file.key.rpartition("/")[2].removesuffix(".json.zst"))
