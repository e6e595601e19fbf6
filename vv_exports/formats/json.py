"""One JSON document: an array of row objects, for tools that read a file as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, ClassVar

import pyarrow as pa

from vv_exports.domain.content_options import Compression
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.compression import SUFFIXES, compressed, uncompressed
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_rows import lines, require_one_column, rows_of
from vv_exports.formats.reading import end_of_lines, readable, row_blocks

_BEGIN = b"[\n"
_END = b"]\n"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class JsonDocument:
    """``[``, one row a line, ``]``. ``read`` relies on these lines, so it streams with no tokenizer.

    Takes one column of strings: each is the JSON object of a row.
    """

    compression: Compression = "none"
    name: ClassVar[str] = "json"

    @property
    def suffix(self) -> str:
        """See ``Format.suffix``."""
        return f".json{SUFFIXES[self.compression]}"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_one_column(schema, self.name)
        return FileWriter(path, schema, partial(_JsonDocumentEncoder, self.compression), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        require_one_column(schema, self.name)
        with readable(path, self), uncompressed(path, self.compression) as stream:
            complete = False
            if stream.read(len(_BEGIN)) != _BEGIN:
                raise DeliveredDataError(f"{path} does not begin like a json file of ours. Deliver again.")
            for text in row_blocks(stream, path, end_of_lines):
                complete = text.endswith(_END)  # a row's line ends in ``}`` or ``},``
                rows = text.removesuffix(_END).replace(b",\n", b"\n")
                if rows:
                    yield rows_of(rows, schema)
            if not complete:
                raise DeliveredDataError(f"{path} has no end: it was cut off. Deliver again.")


def length_of_rows(length: int) -> int:
    """How many bytes the rows of an uncompressed file of ours take, with the commas between them: of a file of
    ``length`` bytes. 0 where it has none."""
    return max(0, length - len(_BEGIN) - len(b"\n" + _END))


def rows_between_brackets(stream: IO[bytes], length: int) -> Iterator[bytes]:
    """Those rows as they stand there, in blocks that end anywhere. Raises DeliveredDataError for another file."""
    left = length_of_rows(length)
    whole = stream.read(len(_BEGIN)) == _BEGIN
    while whole and left:
        block = stream.read(min(left, _BLOCK))
        whole, left = bool(block), left - len(block)
        yield block
    if not whole or stream.read() != (b"\n" + _END if length_of_rows(length) else _END):
        raise DeliveredDataError("a json file does not begin and end like one of ours. Deliver again.")


class _JsonDocumentEncoder:
    def __init__(self, compression: Compression, file: BinaryIO) -> None:
        self._sink = compressed(file, compression)
        self.discard = self._sink.discard
        self._before = _BEGIN

    def write(self, block: Block) -> None:
        self._sink.write(self._before)
        self._sink.write(lines(block.join(), ",\n"))
        self._before = b",\n"

    def finish(self) -> None:
        self._sink.write(_BEGIN + _END if self._before == _BEGIN else b"\n" + _END)
        self._sink.finish()
