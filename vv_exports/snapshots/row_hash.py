"""A hash of typed rows that depends neither on how they are batched nor on how Arrow lays them out.

The definition is in docs/data-version.md. Every column is up to three streams of bytes over all its rows: which values
are there, how long they are, and what they are.
"""

import hashlib
import sys
from array import array
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_Place = tuple[str, ...]


class RowHash:
    """Of the rows of some columns. Text, int64, float64, booleans, timestamps, and lists and structs of those."""

    def __init__(self) -> None:
        self._rows = 0
        self._streams: dict[_Place, Any] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows. A few thousand at a time are best: each stream costs some calls."""
        self._rows += batch.num_rows
        for field, column in zip(batch.schema, batch.columns, strict=True):
            self._add((field.name,), column)

    def digest(self) -> bytes:
        """The SHA-256 of the number of rows and of all streams."""
        whole = hashlib.sha256(f"{self._rows}\n".encode())
        for place, stream in sorted(self._streams.items()):
            whole.update("\0".join(place).encode() + b"\n" + stream.digest())
        return whole.digest()

    def _add(self, place: _Place, values: pa.Array) -> None:
        self._feed((*place, "there"), b"\1" * len(values) if not values.null_count else _flags(values.is_valid()))
        if values.null_count == len(values):
            return
        if values.null_count:
            values = values.drop_null()
        kind = values.type
        if pa.types.is_struct(kind):
            for field, member in zip(kind, values.flatten(), strict=True):
                self._add((*place, "field", field.name), member)
        elif pa.types.is_list(kind):
            self._feed((*place, "lengths"), _fixed(pc.list_value_length(values), "i"))
            self._add((*place, "items"), values.flatten())
        elif pa.types.is_string(kind):
            self._feed((*place, "lengths"), _fixed(pc.binary_length(values), "i"))
            self._feed((*place, "bytes"), text_of(values))
        elif pa.types.is_boolean(kind):
            self._feed((*place, "bytes"), _flags(values))
        else:
            self._feed((*place, "bytes"), _fixed(values, "q"))

    def _feed(self, place: _Place, data: Any) -> None:
        stream = self._streams.get(place)
        if stream is None:
            stream = self._streams[place] = hashlib.sha256()
        stream.update(data)


def text_of(values: pa.StringArray) -> memoryview:
    """The bytes of texts without nulls, one after the other."""
    _, offsets, text = values.buffers()
    if text is None:
        return memoryview(b"")
    starts = memoryview(offsets).cast("i")
    return memoryview(text)[starts[values.offset] : starts[values.offset + len(values)]]


def _flags(values: pa.BooleanArray) -> memoryview:
    return _fixed(values.cast(pa.uint8()), "B")


def _fixed(values: pa.Array, code: str) -> memoryview:
    """The bytes of values of one width without nulls, each in little-endian order."""
    width = array(code).itemsize
    data = memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]
    if sys.byteorder == "little":
        return data
    turned = array(code, bytes(data))
    turned.byteswap()
    return memoryview(turned).cast("B")
