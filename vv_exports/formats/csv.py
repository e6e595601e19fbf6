"""CSV after RFC 4180, for spreadsheets and databases: flat rows, a cell for each value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from vv_exports.domain.content_options import Compression, Formulas
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.compression import SUFFIXES, compressed, uncompressed
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.json_text import joined, json_text, stored_text, timestamp_text
from vv_exports.formats.reading import readable, row_blocks

JSON_CELLS = {b"vv_exports": b"json"}
"""The metadata of a string field whose values are JSON text: no JSON text is a formula."""

_BLOCK_BYTES = 2 << 20
_COLUMN_BYTES = 8 << 10
_LINE_END = "\r\n"
_BYTE_ORDER_MARK = "\ufeff".encode()
_FORMULA = r"^('*[=+\-@\t\r])"
_FORMULA_CHARACTERS = (b"=", b"+", b"-", b"@", b"\t", b"\r")
_FORMULA_BEGINS = b"'".join((b"", *_FORMULA_CHARACTERS))
_ESCAPED_FORMULA = r"^'('*[=+\-@\t\r])"


@dataclass(frozen=True)
class Csv:
    """A header row, then one record a row. A null is an empty cell, an empty string is ``""``.

    Columns are strings, int64, float64, bool and timestamps. ``formulas``: text that a spreadsheet would take for a
    formula gets an apostrophe before it, or is left alone; ``excel`` begins the file with a byte order mark.
    """

    compression: Compression = "none"
    delimiter: str = ","
    excel: bool = False
    formulas: Formulas = "escape"
    name: ClassVar[str] = "csv"

    @property
    def suffix(self) -> str:
        """See ``Format.suffix``."""
        return f".csv{SUFFIXES[self.compression]}"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        for field in schema:
            if pa.types.is_nested(field.type):
                raise ValueError(f"a csv file takes flat columns, and {field.name!r} is {field.type}")
        # Each column of a block costs some calls, whatever it holds: blocks of wide rows are larger.
        blocks = Blocks(max_bytes=max(_BLOCK_BYTES, _COLUMN_BYTES * len(schema)))
        return FileWriter(path, schema, partial(_CsvEncoder, self, schema), blocks)

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        header = self.header(schema)
        with readable(path, self), uncompressed(path, self.compression) as stream:
            if (found := stream.read(len(header))) != header:
                raise DeliveredDataError(
                    f"{path} begins with {found[:_SHOWN]!r} instead of {header[:_SHOWN]!r}. Deliver again."
                )
            for records in row_blocks(stream, path, _end_of_records):
                yield from self._parsed(records, schema)

    def header(self, schema: pa.Schema) -> bytes:
        """How a file with this schema begins."""
        mark = _BYTE_ORDER_MARK if self.excel else b""
        names = self._text_cells(pa.array(schema.names, pa.string()))
        return mark + bytes(joined(names, self.delimiter)) + _LINE_END.encode()

    def records(self, block: pa.RecordBatch) -> pa.Buffer:
        """The rows of a block."""
        parts: list[str | pa.Array] = []
        for column, field in zip(block.columns, block.schema, strict=True):
            if column.null_count < len(column):
                parts.append(self._cells(column, field))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += self.delimiter  # each part costs the kernel the same, however many cells it holds
            else:
                parts.append("")
        if not any(isinstance(part, pa.Array) for part in parts):
            return joined(pa.repeat(self.delimiter.join(map(str, parts)), block.num_rows), _LINE_END)
        # A null is an empty cell.
        records = pc.binary_join_element_wise(*parts, self.delimiter, null_handling="replace", null_replacement="")
        return joined(records, _LINE_END)

    def _cells(self, column: pa.Array, field: pa.Field) -> pa.Array:
        if pa.types.is_string(field.type):
            return self._quoted(column) if field.metadata == JSON_CELLS else self._text_cells(column)
        return timestamp_text(column) if pa.types.is_timestamp(field.type) else json_text(column)

    def _text_cells(self, text: pa.Array) -> pa.Array:
        if self.formulas == "escape" and _may_begin_formulas(text):
            text = pc.replace_substring_regex(text, _FORMULA, r"'\1")
        return self._quoted(text)

    def _quoted(self, text: pa.Array) -> pa.Array:
        """Quotes around the values that need them."""
        stored = stored_text(text)
        has_quotes = b'"' in stored
        if has_quotes or b"\r" in stored or b"\n" in stored or self.delimiter.encode() in stored:
            needed = pc.match_substring_regex(text, f'^$|[{re.escape(self.delimiter)}"\\r\\n]')
        elif pc.min(pc.binary_length(text)).as_py() == 0:
            needed = pc.equal(text, "")
        else:
            return text
        doubled = pc.replace_substring(text, '"', '""') if has_quotes else text
        return pc.if_else(needed, pc.binary_join_element_wise('"', doubled, '"', ""), text)

    def _parsed(self, records: bytes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(records),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(records), column_names=schema.names),
            # An empty line is a row whose only cell is null.
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={field.name: field.type for field in schema},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["true"],
                false_values=["false"],
            ),
        )
        for batch in table.to_batches():
            columns = [self._unescaped(column, field) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _unescaped(self, column: pa.Array, field: pa.Field) -> pa.Array:
        if self.formulas == "keep" or not pa.types.is_string(field.type) or field.metadata == JSON_CELLS:
            return column
        return pc.replace_substring_regex(column, _ESCAPED_FORMULA, r"\1")


_SHOWN = 1_000


class _CsvEncoder:
    def __init__(self, form: Csv, schema: pa.Schema, file: BinaryIO) -> None:
        self._form = form
        self._sink = compressed(file, form.compression)
        self.discard = self._sink.discard
        self.finish = self._sink.finish  # a CSV file has no end mark
        self._sink.write(form.header(schema))

    def write(self, block: Block) -> None:
        self._sink.write(self._form.records(block.join()))
        self._sink.write(_LINE_END.encode())


def _may_begin_formulas(text: pa.Array) -> bool:
    """Whether any value may begin like a formula, told by the byte where each begins."""
    stored = stored_text(text)
    if not any(character in stored for character in _FORMULA_CHARACTERS):
        return False
    begins = pa.Array.from_buffers(pa.int32(), len(text), [None, text.buffers()[1]], offset=text.offset)
    # One byte more: that is where an empty value at the end begins.
    in_all = pa.Array.from_buffers(pa.uint8(), len(stored) + 1, [None, pa.py_buffer(stored + b"x")])
    first = bytes(in_all.take(pc.subtract(begins, begins[0])).buffers()[1])
    return len(first.translate(None, _FORMULA_BEGINS)) < len(first)


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
