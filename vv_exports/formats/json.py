"""One JSON document: an array of row objects, for tools that read a file as a whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_text import joined, json_text, parsed_rows
from vv_exports.formats.reading import end_of_lines, readable, row_blocks


class JsonDocument:
    """``[``, one row a line, ``]``. ``read`` relies on these lines, so it streams with no tokenizer."""

    name: Final = "json"
    suffix: Final = ".json"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        return FileWriter(path, schema, _JsonDocumentEncoder, Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        with readable(path, self.name), path.open("rb") as file:
            complete = False
            if file.readline(2) != b"[\n":
                raise DeliveredDataError(f"{path} does not begin like a json file of ours. Deliver again.")
            for lines in row_blocks(file, path, end_of_lines):
                complete = lines.endswith(b"]\n")  # a row's line ends in ``}`` or ``},``
                rows = lines.removesuffix(b"]\n").replace(b",\n", b"\n")
                if rows:
                    yield from parsed_rows(rows, schema)
            if not complete:
                raise DeliveredDataError(f"{path} has no end: it was cut off. Deliver again.")


class _JsonDocumentEncoder:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before = b"[\n"

    def write(self, block: pa.RecordBatch) -> None:
        self._file.write(self._before)
        self._file.write(joined(json_text(block.to_struct_array()), ",\n"))
        self._before = b",\n"

    def finish(self) -> None:
        self._file.write(b"[\n]\n" if self._before == b"[\n" else b"\n]\n")

    def discard(self) -> None:
        """Nothing is held back."""
