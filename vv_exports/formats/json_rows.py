"""Rows that are JSON objects already, as lines of text: what JSON Lines and a JSON document share."""

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.formats.json_text import joined, stored_text


def require_one_column(schema: pa.Schema, format_name: str) -> None:
    """Raises ValueError where a schema has anything but one column of strings."""
    if len(schema) != 1 or not pa.types.is_string(schema.field(0).type):
        raise ValueError(f"a {format_name} file takes one column, with each row's JSON object as text, not\n{schema}")


def lines(block: pa.RecordBatch, separator: str) -> pa.Buffer:
    """The rows of a block, joined. Raises ValueError for a row that would not be one line with one object."""
    rows = block.column(0)
    if rows.null_count or not pc.all(pc.and_(pc.starts_with(rows, "{"), pc.ends_with(rows, "}"))).as_py():
        raise ValueError("a row is no JSON object")
    if b"\n" in stored_text(rows):
        raise ValueError("a row's JSON goes over more than one line")
    return joined(rows, separator)


def rows_of(lines: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in complete lines, which end in a line feed."""
    return pa.record_batch([pa.array(lines.removesuffix(b"\n").split(b"\n"), pa.string())], schema=schema)
