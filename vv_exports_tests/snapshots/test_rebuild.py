"""Whatever comes, under whatever schema: documents are typed, stored, and rebuilt as they were."""

import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.domain.json_text import decode, encode_text
from vv_exports.snapshots.columns import Built, Integer, Json, List, Misfit, Number, Object, Text, Timestamp
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.rebuild import rebuild_documents, rescue_columns
from vv_exports_tests.generated_documents import ROOTS, documents_like, strict


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_documents_come_back_as_they_were_whatever_the_schema(data):
    schema = data.draw(ROOTS)
    documents = data.draw(st.lists(documents_like(schema).filter(lambda d: isinstance(d, dict)), max_size=5))
    documents = [{"metadata": document} for document in documents]
    column = Object({"metadata": compile_schema(schema, data.draw(st.sampled_from([1, 2]))).column})
    batch = _batch(column, documents)
    assert strict(rebuild_documents(batch, column)) == strict(documents)
    assert strict(rebuild_documents(_through_parquet(batch), column)) == strict(documents)
    assert strict(rebuild_documents(_through_json(batch), column)) == strict(documents)


def test_null_absent_and_misfit_are_three_things():
    column = Object({"n": Integer(nullable=True), "t": Text(), "j": Json()})
    documents = [
        {"n": None, "t": "x", "j": None},
        {},
        {"n": "x", "t": None, "j": 1, "new": [Decimal("0.12345678901234567890123")]},
    ]
    batch = _batch(column, documents)
    assert batch["rescued"].to_pylist() == [
        None,
        None,
        '{"/n":"x","/new":[0.12345678901234567890123],"/t":null}',
    ]
    assert batch["absent"].to_pylist() == [None, ["/n"], None]
    assert rebuild_documents(batch, column) == documents


def test_misfits_inside_lists_return_to_their_place():
    column = Object({"a": List(Object({"b": Number()}))})
    documents = [{"a": [{"b": 1.5}, "x", {"b": 2**53 + 1, "~/": {}}, None]}, {"a": 5}, {"a": []}]
    assert strict(rebuild_documents(_batch(column, documents), column)) == strict(documents)


def test_an_instant_comes_back_in_utc_and_keeps_its_fraction():
    column = Object({"at": Timestamp()})
    documents = [{"at": "2026-11-23T11:00:00.250000+01:00"}, {"at": "2026-11-23T10:00:00Z"}, {"at": "today"}]
    assert rebuild_documents(_batch(column, documents), column) == [
        {"at": "2026-11-23T10:00:00.250000Z"},
        {"at": "2026-11-23T10:00:00Z"},
        {"at": "today"},
    ]


def test_rescued_text_does_not_depend_on_the_order_of_misfits():
    one, other = Misfit(1, "/a", {"y": 1, "x": 2}), Misfit(1, "/b", None)
    array = pa.nulls(2)
    for misfits in ([one, other], [other, one]):
        rescued, absent = rescue_columns(Built(array, misfits), 2)
        assert rescued.to_pylist() == [None, '{"/a":{"x":2,"y":1},"/b":null}']
        assert absent.to_pylist() == [None, None]


def _batch(column, documents):
    built = column.build(documents)
    built.array.validate(full=True)
    rescued, absent = rescue_columns(built, len(documents))
    names = [*column.fields, "rescued", "absent"]
    return pa.RecordBatch.from_arrays([*built.array.flatten(), rescued, absent], names=names)


def _through_parquet(batch):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), file)
    table = pq.read_table(file).combine_chunks()
    return pa.RecordBatch.from_arrays([c.combine_chunks() for c in table.columns], schema=table.schema)


def _through_json(batch):
    """Rows as dicts that a reader of JSON lines would give."""
    return [decode(encode_text(row).encode()) for row in batch.to_pylist()]
