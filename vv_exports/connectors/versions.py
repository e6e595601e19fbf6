"""A document that several processes change: every version is a file of its own, written if there is none.

A change is made to the newest version and tried again where another process was faster, so no change is lost. The
document says nothing of who may change it, or what it means.
"""

import random
import re
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
import pyarrow as pa

from vv_exports.connectors.base import Connector
from vv_exports.errors import DeliveredDataError, TransientError

_ATTEMPTS = 30
_KEPT = 3  # a reader that has just listed the folder still finds what it saw
_LONGEST_WAIT_SECONDS = 0.2
_VERSION = re.compile(r"([0-9]{10,})\.json\.zst")
_T = TypeVar("_T")


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
        self._newest: tuple[int, _T] | None = None

    def read(self) -> _T:
        """The newest version. Not to be changed in place: it is kept until there is a newer one."""
        return self._read()[1]

    def update(self, change: Callable[[_T], _T | None]) -> _T:
        """Replace the newest version by what ``change`` makes of it; None: leave it. ``change`` may be called again."""
        for _ in range(_ATTEMPTS):
            version, before = self._read()
            after = change(before)
            if after is None:
                return before
            if self._storage.create(self._key(version + 1), packed(after)):
                # Where we were slow, this number was taken, and tidied away again: then the change is made once more.
                versions = self._versions()
                if versions[-1] == version + 1:
                    self._newest = version + 1, after
                    self._storage.delete([self._key(one) for one in versions[:-_KEPT]])
                    return after
            time.sleep(random.uniform(0, _LONGEST_WAIT_SECONDS))  # noqa: S311
        raise TransientError(
            f"{self._storage.uri(self._folder)}: {_ATTEMPTS} other changes were made meanwhile; try again"
        )

    def _read(self) -> tuple[int, _T]:
        for _ in range(_ATTEMPTS):
            versions = self._versions()
            if not versions:
                return 0, self._empty()
            if self._newest is not None and self._newest[0] == versions[-1]:
                return self._newest
            data = self._storage.read(self._key(versions[-1]))
            if data is not None:
                self._newest = versions[-1], self._unpacked(versions[-1], data)
                return self._newest
        raise TransientError(f"{self._storage.uri(self._folder)} kept changing while it was read; try again")

    def _unpacked(self, version: int, data: bytes) -> _T:
        try:
            return unpacked(data, self._kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError, pa.ArrowException) as error:
            raise DeliveredDataError(
                f"{self._storage.uri(self._key(version))} is no version of this document: {error}. Remove it: the "
                "version before it then holds, where there is one."
            ) from error

    def _versions(self) -> list[int]:
        names = (file.key.removeprefix(f"{self._folder}/") for file in self._storage.files(self._folder))
        return sorted(int(found[1]) for name in names if (found := _VERSION.fullmatch(name)))

    def _key(self, version: int) -> str:
        return f"{self._folder}/{version:010}.json.zst"
