"""Rows regrouped into blocks whose ends depend on the rows alone. It knows nothing of files.

A format encodes block by block. Were the blocks the batches that came in, the page size of a source would
show in the bytes of the file, and the same rows would have two hashes.
"""

from collections.abc import Iterator
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc


class Blocks:
    """Collects batches of any size. A block ends at ``max_rows`` rows, or before that with the row that
    brings it to ``max_bytes`` of values.

    The defaults are for formats that turn a block into text: smaller ones pay for the calls, larger ones
    leave the processor's cache (measured: 512 and 4096 rows are both slower).
    """

    def __init__(self, max_rows: int = 2_048, max_bytes: int = 2 << 20) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Take a batch in; give the blocks that are complete now."""
        if batch.num_rows:
            self._hold(batch, batch.nbytes)
        # ``nbytes`` only says when to look: it is cheap, but differs with the split. The cuts are exact.
        if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
            yield from self._complete_blocks()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The rows that are left at the end, in blocks of which the last may be smaller."""
        if self._waiting:
            yield from self._complete_blocks()
        yield from self._release()

    def _complete_blocks(self) -> Iterator[pa.RecordBatch]:
        *begun, rows = self._release()
        while begun or rows.num_rows:
            before = sum(batch.num_rows for batch in begun)
            # Only a block that was begun is put together with what ends it: the other ones are cut out, not copied.
            ending = rows.slice(0, self._max_rows - before)
            block = pa.concat_batches([*begun, ending]) if begun else ending
            values = block.to_struct_array()
            nbytes = all_bytes(values)
            end = block.num_rows
            if nbytes >= self._max_bytes:
                sizes = pc.cumulative_sum(row_bytes(values))
                end = pc.index(pc.greater_equal(sizes, self._max_bytes), True).as_py() + 1
            elif end < self._max_rows:
                self._hold(block, nbytes)
                return
            if end < before:
                begun, rows = [block.slice(end)], rows.slice(ending.num_rows)
            else:
                begun, rows = [], rows.slice(end - before)
            yield block.slice(0, end)

    def _hold(self, batch: pa.RecordBatch, nbytes: int) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += nbytes

    def _release(self) -> list[pa.RecordBatch]:
        held, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        return held


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
