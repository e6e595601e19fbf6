"""Rows regrouped into blocks whose ends depend on the rows alone. It knows nothing of files.

A format encodes block by block. Were the blocks the batches that came in, the page size of a source would
show in the bytes of the file, and the same rows would have two hashes.
"""

from collections.abc import Iterator
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc


class Block:
    """Consecutive rows, in the pieces in which they came."""

    def __init__(self, pieces: list[pa.RecordBatch]) -> None:
        self._pieces = pieces
        self.num_rows = sum(piece.num_rows for piece in pieces)
        self.nbytes = sum(piece.nbytes for piece in pieces)

    def join(self) -> pa.RecordBatch:
        """The rows. The pieces are let go, so it is called once: what is put together is a copy."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)


class Blocks:
    """Collects batches of any size. A block ends at ``max_rows`` rows, or before that with the row that
    brings it to ``max_bytes`` of values.

    The defaults are for formats that turn a block into text: smaller ones pay for the calls, larger ones
    leave the processor's cache (measured: 512 and 4096 rows are both slower).
    """

    def __init__(self, max_rows: int = 2_048, max_bytes: int = 2 << 20) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._begun: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[Block]:
        """Take a batch in; give the blocks that are complete now."""
        while batch.num_rows:
            piece = batch.slice(0, self._max_rows - self._rows)
            values = piece.to_struct_array()
            nbytes = all_bytes(values)
            end = piece.num_rows
            if is_full := self._bytes + nbytes >= self._max_bytes:
                sizes = pc.cumulative_sum(row_bytes(values))
                end = pc.index(pc.greater_equal(sizes, self._max_bytes - self._bytes), True).as_py() + 1
            self._begun.append(piece.slice(0, end))
            self._rows += end
            self._bytes += nbytes
            batch = batch.slice(end)
            if is_full or self._rows == self._max_rows:
                yield self._ended()

    def rest(self) -> Iterator[Block]:
        """The rows that are left at the end."""
        if self._begun:
            yield self._ended()

    def _ended(self) -> Block:
        pieces, self._begun, self._rows, self._bytes = self._begun, [], 0, 0
        return Block(pieces)


def row_bytes(array: pa.Array) -> pa.Array:
    """The size of each value, in bytes, as int64 without nulls.

    Counted from the values: ``nbytes`` counts validity bitmaps, which are there or not depending on how the
    rows were batched.
    """
    if pa.types.is_struct(array.type):
        flags = _constant(1, len(array))
        return reduce(pc.add, (row_bytes(member) for member in array.flatten()), flags)
    if pa.types.is_list(array.type):
        ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0))
        sums = pa.concat_arrays([_constant(0, 1), pc.cumulative_sum(row_bytes(array.flatten()))])
        upto = sums.take(ends)
        before = pa.concat_arrays([_constant(0, min(1, len(array))), upto[:-1]])
        return pc.add(pc.subtract(upto, before), 4)
    if pa.types.is_string(array.type):
        return pc.add(pc.fill_null(pc.binary_length(array), 0).cast(pa.int64()), 4)
    return _constant((array.type.bit_width + 7) // 8, len(array))


def all_bytes(array: pa.Array) -> int:
    """The sum of ``row_bytes``, for a fraction of its work: most blocks are not full of bytes."""
    if pa.types.is_struct(array.type):
        return len(array) + sum(map(all_bytes, array.flatten()))
    if pa.types.is_list(array.type):
        return 4 * len(array) + all_bytes(array.flatten())
    if pa.types.is_string(array.type):
        return 4 * len(array) + _text_bytes(array)
    return int((array.type.bit_width + 7) // 8 * len(array))


def _text_bytes(array: pa.Array) -> int:
    if array.null_count == len(array):
        return 0
    if array.null_count:  # below a null may lie anything
        return int(pc.sum(pc.binary_length(array)).as_py())
    starts = memoryview(array.buffers()[1]).cast("i")
    return int(starts[array.offset + len(array)] - starts[array.offset])


def _constant(value: int, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.int64()), length)
