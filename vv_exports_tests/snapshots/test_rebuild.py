"""Whatever comes, under whatever schema: documents are typed, stored, and rebuilt as they were."""

import io
import json
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

_NAMES = st.sampled_from(["a", "b", "A", "a/b", "~", "x.y", "é", "", "0"])
_OTHER_NAMES = _NAMES | st.sampled_from(["undeclared", "\ud800", "c"])
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**53 + 1, 2**63, -(2**63), 10**30, 5.0, -0.0, 1e300, Decimal("1e400"), "\ud800", "null"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_OTHER_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _nullable(schema):
    return st.sampled_from([schema, {"anyOf": [schema, {"type": "null"}]}, {**schema, "nullable": True}])


_SCHEMAS = st.recursive(
    st.sampled_from(["string", "integer", "number", "boolean"]).map(lambda name: {"type": name})
    | st.just({})
    | st.just({"type": "object"}),
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        st.dictionaries(_NAMES, inner, min_size=1, max_size=3).map(lambda p: {"type": "object", "properties": p}),
    ).flatmap(_nullable),
    max_leaves=8,
)
_ROOTS = st.dictionaries(_NAMES, _SCHEMAS, min_size=1, max_size=4).map(
    lambda properties: {"type": "object", "properties": properties}
)


@st.composite
def _documents_like(draw, schema):
    """A value that mostly, but not always, conforms to the schema."""
    if draw(st.integers(0, 9)) == 0:
        return draw(_VALUES)
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if "properties" in schema:
        present = {
            name: draw(_documents_like(part)) for name, part in schema["properties"].items() if draw(st.integers(0, 4))
        }
        return {
            **present,
            **(draw(st.dictionaries(_OTHER_NAMES, _VALUES, max_size=1)) if draw(st.booleans()) else {}),
        }
    if "items" in schema:
        return draw(st.lists(_documents_like(schema["items"]), max_size=3))
    plain = {"string": st.text(max_size=3), "integer": st.integers(), "boolean": st.booleans()}
    plain["number"] = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
    return draw(plain.get(schema.get("type"), _VALUES))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_documents_come_back_as_they_were_whatever_the_schema(data):
    schema = data.draw(_ROOTS)
    documents = data.draw(st.lists(_documents_like(schema).filter(lambda d: isinstance(d, dict)), max_size=5))
    column = compile_schema(schema).column
    batch = _batch(column, documents)
    assert _strict(rebuild_documents(batch, column)) == _strict(documents)
    assert _strict(rebuild_documents(_through_parquet(batch), column)) == _strict(documents)
    assert _strict(rebuild_documents(_through_json(batch), column)) == _strict(documents)


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
    assert _strict(rebuild_documents(_batch(column, documents), column)) == _strict(documents)


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


def _strict(value):
    """The value with its types told apart; 5.0 and 5 are one number, but -0.0 is another than 0."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and value.is_integer() and json.dumps(value) != "-0.0":
        return int, int(value)
    return type(value), json.dumps(value) if isinstance(value, float) else value
