"""A document that several processes change: every version is a file of its own, written if there is none.

A change is made to the newest version and tried again where another process was faster, so no change is lost. The
document says nothing of who may change it, or what it means.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa
from msgspec import UNSET

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.errors import DeliveredDataError, TransientError, VVExportsError

_ATTEMPTS = 30
_KEPT = 3  # a reader that has just listed the folder still finds what it saw
_LONGEST_WAIT_SECONDS = 0.2
_VERSION = re.compile(r"([0-9]{10,})\.json\.zst")
_T = TypeVar("_T")
_MEMBERS_AT_A_TIME = 1_000
_LOG = logging.getLogger(__name__)
NOT_PACKED = (msgspec.MsgspecError, UnicodeDecodeError, OSError, pa.ArrowException)
"""What ``unpacked`` raises for anything else."""


def packed(document: object) -> bytes:
    """A document as compressed JSON, as ``zstd -d`` reads it."""
    sink = _Sink()  # one of Arrow's doubles itself as it grows, and is copied in the end
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for piece in pieces(document):
            stream.write(piece)
    return sink.getvalue()


class _Sink(BytesIO):
    def close(self) -> None:
        """Stay: what was written is wanted after that."""


def pieces(document: object) -> Iterator[bytes]:
    """The JSON of a document, of which long mappings come a part at a time: all of it at once would be as large as what
    it is made of."""
    members = _members_of(document)
    if not members:
        yield msgspec.json.encode(document)
        return
    before = b"{"
    for name, value in members.items():
        yield before + msgspec.json.encode(name) + b":"
        if type(value) is dict and value:
            yield from _pieces_of(value)
        else:
            yield msgspec.json.encode(value)
        before = b","
    yield b"}"


def _members_of(document: object) -> dict[str, Any]:
    """Those that a structure has as JSON; none where it is none, or they depend on their values."""
    if not isinstance(document, msgspec.Struct):
        return {}
    config = document.__struct_config__
    members = {field.encode_name: getattr(document, field.name) for field in msgspec.structs.fields(document)}
    depends = (
        config.array_like
        or config.omit_defaults
        or config.tag is not None
        or any(value is UNSET for value in members.values())
    )
    return {} if depends else members


def _pieces_of(mapping: dict[Any, Any]) -> Iterator[bytes]:
    members = iter(mapping.items())
    before = b"{"
    while some := dict(islice(members, _MEMBERS_AT_A_TIME)):
        yield before + msgspec.json.encode(some)[1:-1]
        before = b","
    yield b"}"


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
