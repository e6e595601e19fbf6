"""JSON Lines: one object a line, for programs that read row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa

from vv_exports.domain.content_options import Compression
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.compression import SUFFIXES, compressed, uncompressed
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_rows import lines, require_one_column, rows_of
from vv_exports.formats.reading import end_of_lines, readable, row_blocks


@dataclass(frozen=True)
class JsonLines:
    """Takes one column of strings: each is the JSON object of a row, and becomes a line that ends in a line feed."""

    compression: Compression = "zstd"
    name: ClassVar[str] = "jsonl"

    @property
    def suffix(self) -> str:
        """See ``Format.suffix``."""
        return f".jsonl{SUFFIXES[self.compression]}"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_one_column(schema, self.name)
        return FileWriter(path, schema, partial(_JsonLinesEncoder, self.compression), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        require_one_column(schema, self.name)
        plain = self.compression == "none"
        with readable(path, self, may_be_empty=plain), uncompressed(path, self.compression) as stream:
            for text in row_blocks(stream, path, end_of_lines):
                yield rows_of(text, schema)


class _JsonLinesEncoder:
    def __init__(self, compression: Compression, file: BinaryIO) -> None:
        self._sink = compressed(file, compression)
        self.discard = self._sink.discard
        self.finish = self._sink.finish

    def write(self, block: Block) -> None:
        self._sink.write(lines(block.join(), "\n"))
        self._sink.write(b"\n")
