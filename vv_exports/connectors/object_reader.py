"""An object of a store as a file that can be read anywhere."""

import io
from typing import Any, Protocol

READ_AT_ONCE = 8 * 2**20
READ_SPARSELY = 64 * 2**10


class _Ranges(Protocol):
    def read_range(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        """Bytes ``[start, end)`` of an object, and the size of the whole."""


class ObjectReader(io.RawIOBase):
    """An object as a file, read in ranges, each of them tried again where it may pass."""

    def __init__(self, store: _Ranges, key: str, at_once: int = READ_AT_ONCE) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._at = 0
        self._first, self._size = store.read_range(key, 0, at_once)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        end = self._at + wanted
        if end <= len(self._first):
            data = self._first[self._at : end]
        else:
            data, _ = self._store.read_range(self._key, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """The rest, in one request. The base class would ask for it in small pieces."""
        rest = bytearray(max(0, self._size - self._at))
        self.readinto(rest)
        return bytes(rest)
