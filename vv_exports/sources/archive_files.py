"""The files of an archive, wherever fsspec can read: addresses, listings, and JSON Lines page by page.

It knows compressions and lines, and nothing of indexes, runs or results.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
from fsspec.core import url_to_fs

from vv_exports.domain.json_text import JsonLineError, decode_lines
from vv_exports.domain.prompt_runs import JsonValue
from vv_exports.errors import RequestError, SourceDataError, TransientError
from vv_exports.sources.base import Page

COMPRESSIONS: dict[str, str | None] = {".jsonl": None, ".jsonl.zst": "zstd", ".jsonl.gz": "gzip"}
"""How a file of results ends -> its compression."""
BOM = b"\xef\xbb\xbf"
_BLOCK = 4 << 20
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
_Read = Callable[[int], bytes]


class ArchiveFiles:
    """The files below the archive's folder; paths are relative to it. Storage errors come out as ours."""

    def __init__(self, path_or_url: str) -> None:
        try:
            # A listing that fsspec remembered would hide the runs that were written since.
            self._fs, root = url_to_fs(path_or_url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise RequestError(f"The archive {path_or_url!r} cannot be opened: {error}. Check source.path.") from error
        self._root = root.rstrip("/")

    def show(self, path: str) -> str:
        """The full address, for messages."""
        full = self._full(path)
        return full if "file" in self._fs.protocol else str(self._fs.unstrip_protocol(full))

    def names(self, folder: str) -> list[str] | None:
        """What a folder holds, sorted; None where there is no such folder."""
        with self._translated(folder):
            try:
                found = self._fs.ls(self._full(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found})

    def versions(self, folder: str) -> dict[str, JsonValue]:
        """Of every file in a folder, by name: its size, and what the storage has to tell it from another."""
        with self._translated(folder):
            found = self._fs.ls(self._full(folder), detail=True)
        files = sorted((info for info in found if info["type"] == "file"), key=lambda info: str(info["name"]))
        return {
            info["name"].rpartition("/")[2]: [
                info["size"],
                next((str(info[name]) for name in _VERSIONS if name in info), None),
            ]
            for info in files
        }

    def read(self, path: str) -> bytes | None:
        """A small file, None where there is none."""
        return self.read_all([path])[0]

    def read_all(self, paths: list[str]) -> list[bytes | None]:
        """Small files, at the same time where the storage can; None for each that does not exist."""
        # cat_ranges and not cat, which takes a "[" in a path for a pattern.
        with self._translated(""):
            found = self._fs.cat_ranges([self._full(path) for path in paths], None, None, on_error="return")
        return [self._content(path, data) for path, data in zip(paths, found, strict=True)]

    def pages(self, path: str) -> Iterator[Page]:
        """The documents of a file of JSON lines. Raises SourceDataError with the line that is not JSON."""
        where, first = self.show(path), 1
        for block in self._blocks(path):
            text = block.removeprefix(BOM) if first == 1 else block
            try:
                lines = decode_lines(text)
            except JsonLineError as error:
                raise SourceDataError(
                    f"{where}, line {first + error.line_index}: expected one JSON document: {error.reason}"
                ) from error
            if lines.values:
                yield Page(lines.values, partial(_line, where, first, lines.indexes))
            first += block.count(b"\n")

    def _blocks(self, path: str) -> Iterator[bytes]:
        """The text of a file, cut after newlines."""
        with self._reader(path) as read:
            parts: list[bytes] = []
            while data := read(_BLOCK):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*parts, data[:cut]))
                    parts = []
                parts.append(data[cut:])
            if any(parts):
                yield b"".join(parts)

    @contextmanager
    def _reader(self, path: str) -> Iterator[_Read]:
        """What reads the next bytes of a file's text, empty at its end."""
        with self._translated(path):
            file = self._fs.open(self._full(path), "rb")

        def read(size: int) -> bytes:
            with self._translated(path):
                return bytes(file.read(size))

        compression = COMPRESSIONS[path[path.rindex(".jsonl") :]]
        try:
            yield read if compression is None else _decompressed(read, compression, self.show(path))
        finally:
            file.close()

    def _content(self, path: str, data: bytes | Exception) -> bytes | None:
        if isinstance(data, bytes):
            return data
        if isinstance(data, FileNotFoundError | NotADirectoryError):
            return None
        with self._translated(path):
            raise data

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Around one call of the storage: each has its own exceptions, and many are no OSError."""
        try:
            yield
        except PermissionError as error:
            raise RequestError(
                f"{self.show(path)} may not be read: {error}. Mend the permissions or the credentials."
            ) from error
        except Exception as error:
            raise TransientError(f"{self.show(path)} could not be read: {error!r}. Try again later.") from error


class _RawBytes:
    """A stored file as pyarrow wants it. Its storage errors are ours: any other one is the compression's."""

    closed = False

    def __init__(self, read: _Read) -> None:
        self._read = read
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self.size += len(data)
        return data

    def close(self) -> None:
        self.closed = True


def _decompressed(read: _Read, compression: str, where: str) -> _Read:
    """A reader of a compressed file's text. Raises SourceDataError where the stream is cut or damaged."""
    raw = _RawBytes(read)
    stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)

    def read_text(size: int) -> bytes:
        try:
            data = bytes(stream.read(size))
        except OSError as error:
            raise SourceDataError(
                f"{where}: the {compression} stream is cut short or damaged ({error}): write the file again"
            ) from error
        if not raw.size:  # pyarrow takes it for the end of an empty text
            raise SourceDataError(f"{where}: the file is empty, which no {compression} stream is: write it again")
        return data

    return read_text


def _line(where: str, first: int, indexes: Sequence[int], i: int) -> str:
    return f"{where}, line {first + indexes[i]}"
