"""CSV after RFC 4180, for spreadsheets and databases: nested values are JSON text in their cell."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_text import joined, json_text, parsed_values, timestamp_text
from vv_exports.formats.reading import readable, row_blocks

_LINE_END = "\r\n"
_MUST_BE_QUOTED = '^$|[",\r\n]'


class Csv:
    """A header row, then one record a row. A null is an empty cell, an empty string is ``""``."""

    name: Final = "csv"
    suffix: Final = ".csv"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        return FileWriter(path, schema, partial(_CsvEncoder, schema), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        header = _header(schema)
        with readable(path, self.name), path.open("rb") as file:
            if (found := file.read(len(header))) != header:
                raise DeliveredDataError(f"{path} begins with {found!r} instead of {header!r}. Deliver again.")
            for records in row_blocks(file, path, _end_of_records):
                yield from _parsed(records, schema)


class _CsvEncoder:
    def __init__(self, schema: pa.Schema, file: BinaryIO) -> None:
        self._file = file
        self._file.write(_header(schema))

    def write(self, block: pa.RecordBatch) -> None:
        records = pc.binary_join_element_wise(*(_cells(column) for column in block.columns), ",")
        self._file.write(joined(records, _LINE_END))
        self._file.write(_LINE_END.encode())

    def finish(self) -> None:
        """A CSV file has no end mark."""

    def discard(self) -> None:
        """Nothing is held back."""


def _header(schema: pa.Schema) -> bytes:
    names = _cells(pa.array(schema.names, pa.string()))
    return bytes(joined(names, ",")) + _LINE_END.encode()


def _cells(column: pa.Array) -> pa.Array:
    text = _text(column)
    if pa.types.is_string(column.type) or pa.types.is_nested(column.type):
        text = _quoted(text)
    return pc.fill_null(text, "")


def _quoted(text: pa.Array) -> pa.Array:
    """Quotes around the values that need them. A null stays null."""
    needed = pc.match_substring_regex(text, _MUST_BE_QUOTED)
    if not pc.any(needed).as_py():
        return text
    return pc.if_else(needed, pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', ""), text)


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_timestamp(column.type):
        return timestamp_text(column)
    return json_text(column)


def _end_of_records(text: bytes) -> int:
    """Where the last complete record ends: at a line end with an even number of quotes before it."""
    line_end = _LINE_END.encode()
    outside = text.count(b'"') % 2 == 0
    end = len(text)
    while (at := text.rfind(line_end, 0, end)) >= 0:
        outside ^= text.count(b'"', at, end) % 2 == 1
        if outside:
            return at + len(line_end)
        end = at
    return 0


def _parsed(records: bytes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    kinds = {field.name: pa.string() if pa.types.is_nested(field.type) else field.type for field in schema}
    table = pyarrow.csv.read_csv(
        pa.BufferReader(records),
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(records), column_names=schema.names),
        # An empty line is a row whose only cell is null.
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=kinds,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["true"],
            false_values=["false"],
        ),
    )
    for batch in table.to_batches():
        columns = [
            parsed_values(column, field.type) if pa.types.is_nested(field.type) else column
            for column, field in zip(batch.columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
