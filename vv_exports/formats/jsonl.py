"""JSON Lines in one zstd frame: one object a line, for programs that read row by row."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa

from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_text import joined, json_text, parsed_rows
from vv_exports.formats.reading import end_of_lines, readable, row_blocks


class JsonLines:
    """Every row is an object with all columns, in schema order; a line ends in a line feed."""

    name: Final = "jsonl"
    suffix: Final = ".jsonl.zst"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        return FileWriter(path, schema, _JsonLinesEncoder, Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        with readable(path, self.name), pa.CompressedInputStream(str(path), "zstd") as stream:
            for lines in row_blocks(stream, path, end_of_lines):
                yield from parsed_rows(lines, schema)


class _JsonLinesEncoder:
    def __init__(self, file: BinaryIO) -> None:
        # Arrow's stream has one compression level, 1: as small as level 3 on nested rows. Its codec has
        # them all but makes a frame of each call, and common zstd readers stop after the first frame.
        self._stream = pa.CompressedOutputStream(file, "zstd")

    def write(self, block: pa.RecordBatch) -> None:
        self._stream.write(joined(json_text(block.to_struct_array()), "\n"))
        self._stream.write(b"\n")

    def finish(self) -> None:
        self._stream.close()

    def discard(self) -> None:
        with suppress(OSError, ValueError):  # the file is closed: this only keeps the destructor quiet
            self._stream.close()
