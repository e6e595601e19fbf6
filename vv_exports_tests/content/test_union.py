"""Columns of several schemas of a prompt as one: what joins, what stays, and what no column holds."""

from decimal import Decimal
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.content.column_json import column_id
from vv_exports.content.union import Joined, join
from vv_exports.snapshots.columns import Boolean, Integer, Json, List, Number, Object, Text, Timestamp
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.rebuild import rebuild_documents, rescue_columns
from vv_exports_tests.generated_documents import ROOTS, documents_like, strict

_TEXT = {"type": "string"}
_INTEGER = {"type": "integer"}


def _object(**properties):
    return {"type": "object", "properties": properties}


def _column(schema):
    """The column of a property with this schema."""
    return compile_schema(_object(p=schema)).column.fields["p"]


def _nullable(schema):
    return {"anyOf": [schema, {"type": "null"}]}


@pytest.mark.parametrize(
    ("there", "new", "joined"),
    [
        (_TEXT, _TEXT, Text()),
        (_TEXT, _nullable(_TEXT), Text(nullable=True)),
        (_nullable(_TEXT), _TEXT, Text(nullable=True)),
        (_INTEGER, {"type": "number"}, Number()),
        ({"type": "number"}, _nullable(_INTEGER), Number(nullable=True)),
        (_object(a=_TEXT), _object(b=_TEXT), Object({"a": Text(), "b": Text()})),
        (_object(a=_INTEGER), _object(b=_TEXT, a={"type": "number"}), Object({"a": Number(), "b": Text()})),
        (_object(a=_TEXT), _nullable(_object(a=_TEXT)), Object({"a": Text()}, nullable=True)),
        ({"items": _object(a=_TEXT)}, {"items": _object(b=_TEXT)}, List(Object({"a": Text(), "b": Text()}))),
        ({"items": _INTEGER}, _nullable({"items": {"type": "number"}}), List(Number(), nullable=True)),
        (_TEXT, {"enum": ["a", "b"], "description": "other words"}, Text()),
        # What was kept as JSON text holds everything.
        ({}, _TEXT, Json()),
        ({"type": ["string", "integer"]}, _object(a=_TEXT), Json()),
        ({"type": "object"}, _object(a=_TEXT), Json()),
        # A schema that does not say the type does not contradict the one that is there.
        (_TEXT, {}, Text(nullable=True)),
        (_TEXT, {"description": "any"}, Text(nullable=True)),
        (_INTEGER, {"type": "null"}, Integer(nullable=True)),
        (_INTEGER, False, Integer(nullable=True)),
        (_object(a=_TEXT), {"type": "object"}, Object({"a": Text()}, nullable=True)),
        (_object(a=_TEXT), {"type": ["null", "object"]}, Object({"a": Text()}, nullable=True)),
        ({"items": _TEXT}, {"type": "array"}, List(Text(), nullable=True)),
        ({"items": _TEXT}, {"type": ["array", "null"]}, List(Text(), nullable=True)),
        ({"items": _TEXT}, {"anyOf": [{"type": "null"}, {"type": "array"}]}, List(Text(), nullable=True)),
        ({"items": _TEXT}, {"items": {"description": "any"}}, List(Text(nullable=True))),
    ],
)  # fmt: skip
def test_columns_that_one_column_holds_join(there, new, joined):
    found = join(_column(there), _column(new))
    assert (found.column, found.conflicts) == (joined, ())


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (_TEXT, _INTEGER),
        (_INTEGER, _TEXT),
        ({"type": "boolean"}, {"type": "number"}),
        (_TEXT, _object(a=_TEXT)),
        (_object(a=_TEXT), _TEXT),
        (_object(a=_TEXT), {"items": _object(a=_TEXT)}),
        (_TEXT, {"items": _TEXT}),
        (_TEXT, {"type": ["string", "integer"]}),
        (_TEXT, {"type": "object"}),
        (_TEXT, {"type": "array"}),
        (_object(a=_TEXT), {"type": "array"}),
        ({"items": _TEXT}, {"type": "object"}),
        ({"items": _TEXT}, {"type": ["array", "string"]}),
        ({"items": _TEXT}, {"type": ["string", "array"]}),
        ({"items": _TEXT}, {"anyOf": [{"type": "array"}, _object(a=_TEXT)]}),
        ({"items": _TEXT}, {"prefixItems": [_TEXT]}),
        (_object(a=_TEXT), {"anyOf": [_object(a=_TEXT), _TEXT]}),
        (_object(a=_TEXT), {"$ref": "#"}),
    ],
)
def test_two_types_in_one_place_that_no_column_holds_are_a_conflict(there, new):
    found = join(_column(there), _column(new))
    [conflict] = found.conflicts
    assert (conflict.place, conflict.there, conflict.new) == ("", _column(there), _column(new))
    assert found.column == Json(), "where a text is what is wanted, that is what both are together"


def test_a_conflict_tells_its_place_and_both_types():
    there = compile_schema(_object(people={"items": _object(age=_INTEGER, **{"a/b": _TEXT})})).column
    new = compile_schema(
        _object(people={"items": _object(age=_TEXT, **{"a/b": {"type": ["string", "integer"]}})})
    ).column
    why = "its alternatives have different types: Integer, Text"
    found = join(there, new)
    assert [str(conflict) for conflict in found.conflicts] == [
        "the property /people/*/age is an integer in the files, and a string in the schema of the run",
        f"the property /people/*/a~1b is a string in the files, and JSON text ({why}) in the schema of the run",
    ]
    age = found.column.fields["people"].item.fields["age"]
    assert age == Json()
    assert age.reason == "its type differs between runs of the prompt: integer, string"
    assert join(found.column, new) == Joined(found.column), "text holds what comes later, too"


def test_the_whole_document_can_be_in_conflict_and_become_text():
    there, new = compile_schema(_object(a=_TEXT)).column, compile_schema(_TEXT).column
    found = join(there, new)
    assert str(found.conflicts[0]).startswith("the document is an object in the files, and JSON text (")
    assert found.column == Json()


def test_a_document_whose_schema_says_nothing_is_no_null_and_changes_nothing():
    there = compile_schema(_object(a=_TEXT)).column
    for schema in ({}, True, {"type": "object"}, False):
        assert join(there, compile_schema(schema).column).column == there


def test_fields_keep_the_order_in_which_they_came():
    joined = join(Object({"b": Text(), "a": Text()}), Object({"c": Text(), "a": Text(), "0": Text()}))
    assert list(joined.column.fields) == ["b", "a", "c", "0"]


def test_a_name_that_is_there_in_another_case_gets_no_column_and_no_conflict():
    there = Object({"name": Text(), "é": Text()})
    new = Object({"Name": Integer(), "E\u0301": Integer(), "name": Text()}, left_out={"NAME": "twins in the schema"})
    joined = join(there, new)
    assert joined.column == there
    assert not joined.conflicts
    assert set(joined.column.left_out) == {"Name", "E\u0301", "NAME"}
    assert "'name' and 'Name' differ in case alone" in joined.column.left_out["Name"]
    assert join(joined.column, new).column.left_out == joined.column.left_out


def test_a_name_that_was_left_out_in_a_run_has_the_column_that_it_has_in_the_files():
    there, new = Object({"Name": Text()}), Object({"name": Text()}, left_out={"Name": "came second"})
    assert join(there, new).column == there
    assert set(join(there, new).column.left_out) == {"name"}


def test_columns_that_come_one_after_the_other_join_in_their_order_and_each_tells_its_own_conflicts():
    first, *others = [
        Object({"a": Text()}),
        Object({"a": Integer(), "b": Text()}),
        Object({"b": Integer(), "c": Object({"x": Timestamp()})}),
        Object({"c": Object({"y": Boolean()})}),
    ]
    told = list(accumulate(others, lambda there, new: join(there.column, new), initial=Joined(first)))
    assert [[conflict.place for conflict in one.conflicts] for one in told] == [[], ["/a"], ["/b"], []]
    assert told[-1].column == Object({"a": Json(), "b": Json(), "c": Object({"x": Timestamp(), "y": Boolean()})})


@settings(max_examples=50)
@given(ROOTS, ROOTS, ROOTS)
def test_joining_again_changes_nothing(one, other, third):
    a, b, c = (compile_schema(schema).column for schema in (one, other, third))
    assert join(a, a).column == a
    joined = join(a, b)
    again = join(joined.column, b)
    assert (column_id(again.column), again.conflicts) == (column_id(joined.column), ())
    assert column_id(join(joined.column, a).column) == column_id(joined.column)
    all_three = join(joined.column, c).column
    assert [column_id(join(all_three, column).column) for column in (a, b, c)] == [column_id(all_three)] * 3


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_documents_of_both_schemas_come_back_from_the_joined_column(data):
    schemas = data.draw(ROOTS), data.draw(ROOTS)
    column = join(*(compile_schema(schema).column for schema in schemas)).column
    documents = [data.draw(documents_like(schema).filter(lambda d: isinstance(d, dict))) for schema in schemas]
    built = Object({"metadata": column}).build([{"metadata": document} for document in documents])
    rescued, absent = rescue_columns(built, 2)
    rows = [
        {"metadata": value, "rescued": text, "absent": places}
        for value, text, places in zip(
            built.array.field(0).to_pylist(), rescued.to_pylist(), absent.to_pylist(), strict=True
        )
    ]
    found = [document["metadata"] for document in rebuild_documents(rows, Object({"metadata": column}))]
    assert strict(found) == strict(documents)


def test_an_integer_that_a_double_does_not_hold_is_rescued_where_another_run_has_numbers():
    joined = join(Object({"n": Integer()}), Object({"n": Number()})).column
    built = joined.build([{"n": 2**53 + 1}, {"n": 2**53}, {"n": Decimal("1e400")}])
    assert [(m.position, m.value) for m in built.misfits] == [(0, 2**53 + 1), (2, Decimal("1e400"))]
