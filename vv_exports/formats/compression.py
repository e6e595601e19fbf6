"""Compressed streams for the text formats. The same bytes in give the same bytes out: no header holds a time."""

import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from vv_exports.domain.content_options import Compression

SUFFIXES: dict[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
"""What the compressions of text add to a file's name."""

_GZIP_LEVEL = 6  # Arrow's stream is fixed to 9: three times slower for a hundredth of the size
_GZIP_HEADER = 16 + zlib.MAX_WBITS


class Sink(Protocol):
    """Takes the bytes of a file in order. The file itself is closed by whoever opened it."""

    def write(self, data: bytes | pa.Buffer, /) -> object:
        """Append bytes."""

    def finish(self) -> None:
        """Write what completes the compressed stream."""

    def discard(self) -> None:
        """Write nothing more, not even when garbage collected. The file is closed already."""


def compressed(file: BinaryIO, compression: Compression) -> Sink:
    """A sink that writes into an open file."""
    match compression:
        case "gzip":
            return _Gzip(file)
        case "zstd":
            return _Zstd(file)
    return _Plain(file)


def uncompressed(path: Path, compression: Compression) -> pa.NativeFile:
    """The file's content, as a stream that fails at its end where it was cut off."""
    if compression == "none":
        return pa.OSFile(str(path))
    return pa.CompressedInputStream(str(path), compression)


class _Plain:
    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write

    def finish(self) -> None:
        """Nothing is held back."""

    def discard(self) -> None:
        """Nothing is held back."""


class _Gzip:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._deflate = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_HEADER)

    def write(self, data: bytes | pa.Buffer, /) -> None:
        self._file.write(self._deflate.compress(data))

    def finish(self) -> None:
        self._file.write(self._deflate.flush())

    def discard(self) -> None:
        """Nothing is written unasked."""


class _Zstd:
    def __init__(self, file: BinaryIO) -> None:
        # Arrow's stream has one compression level, 1: as small as level 3 on nested rows. Its codec has
        # them all but makes a frame of each call, and common zstd readers stop after the first frame.
        self._stream = pa.CompressedOutputStream(file, "zstd")
        self.write = self._stream.write

    def finish(self) -> None:
        self._stream.close()

    def discard(self) -> None:
        with suppress(OSError, ValueError):  # the file is closed: this only keeps the destructor quiet
            self._stream.close()
