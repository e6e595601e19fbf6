"""Blocks end where the rows say, however they come in."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.formats.blocks import Blocks, all_bytes, row_bytes
from vv_exports_tests.formats.tables import split, tables


def regrouped(blocks, batches):
    for batch in batches:
        yield from (block.join() for block in blocks.add(batch))
    yield from (block.join() for block in blocks.rest())


@pytest.mark.slow
@settings(deadline=None)
@given(tables(), st.lists(st.integers(1, 11)), st.integers(1, 12), st.integers(1, 200))
def test_the_same_rows_make_the_same_blocks(table, places, max_rows, max_bytes):
    whole = list(regrouped(Blocks(max_rows, max_bytes), table.to_batches()))
    parts = list(regrouped(Blocks(max_rows, max_bytes), split(table, places)))
    assert [block.num_rows for block in parts] == [block.num_rows for block in whole]
    assert pa.Table.from_batches(parts, table.schema).equals(table)


@settings(max_examples=40, deadline=None)
@given(tables(), st.lists(st.integers(1, 11)), st.integers(1, 12), st.integers(1, 200))
def test_a_block_ends_with_the_row_that_fills_it_and_no_sooner(table, places, max_rows, max_bytes):
    sizes = [size for batch in table.to_batches() for size in row_bytes(batch.to_struct_array()).to_pylist()]
    ends, rows, nbytes = [], 0, 0
    for size in sizes:
        rows, nbytes = rows + 1, nbytes + size
        if rows == max_rows or nbytes >= max_bytes:
            ends.append(rows)
            rows, nbytes = 0, 0
    blocks = list(regrouped(Blocks(max_rows, max_bytes), split(table, places)))
    assert [block.num_rows for block in blocks] == ends + [rows] * (rows > 0)
    assert pa.Table.from_batches(blocks, table.schema).equals(table)


@pytest.mark.slow
@settings(deadline=None)
@given(tables(), st.integers(1, 12), st.integers(1, 200))
def test_a_block_exceeds_its_bytes_by_less_than_a_row(table, max_rows, max_bytes):
    for block in regrouped(Blocks(max_rows, max_bytes), table.to_batches()):
        *before, _last = row_bytes(block.to_struct_array()).to_pylist()
        assert sum(before) < max_bytes
        assert block.num_rows <= max_rows


@settings(max_examples=25, deadline=None)
@given(tables())
def test_the_size_of_all_is_that_of_each_together(table):
    for batch in table.to_batches():
        for part in (batch, batch.slice(1, 3)):
            values = part.to_struct_array()
            assert all_bytes(values) == sum(row_bytes(values).to_pylist())


def test_a_size_counts_values_and_not_what_lies_below_a_null():
    below = pa.array(["hidden", "abc"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), below, mask=pa.array([True, False]))
    assert row_bytes(lists).to_pylist() == [4, 4 + 4 + 3]
    assert all_bytes(lists) == 4 + 4 + 4 + 3
