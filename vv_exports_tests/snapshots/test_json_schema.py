"""JSON Schema to columns: what is typed, what stays JSON and why, and that no schema raises."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.snapshots.columns import Boolean, Integer, Json, List, Number, Object, Text
from vv_exports.snapshots.json_schema import MAX_DEPTH, compile_schema

_TEXT = {"type": "string"}


def _object(**properties):
    return {"type": "object", "properties": properties}


def _property(schema, **beside):
    """The column of a property with this schema, and why it is kept as JSON, if it is."""
    compiled = compile_schema({**_object(p=schema), **beside})
    return compiled.column.fields["p"], compiled.kept_as_json.get("/p")


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        ({"type": "string"}, Text()),
        ({"type": "string", "format": "date-time"}, Text()),
        ({"type": "integer"}, Integer()),
        ({"type": "number"}, Number()),
        ({"type": "boolean"}, Boolean()),
        ({"type": ["string", "null"]}, Text(nullable=True)),
        ({"type": ["null", "integer", "number"]}, Number(nullable=True)),
        ({"type": "string", "nullable": True}, Text(nullable=True)),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, Integer(nullable=True)),
        ({"oneOf": [_TEXT, {"type": "string", "maxLength": 3}]}, Text()),
        ({"oneOf": [_TEXT, {"type": ["string", "null"]}]}, Text(nullable=True)),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, Number()),
        ({"type": "string", "anyOf": [{"minLength": 3}, {"pattern": "x"}]}, Text()),
        ({"enum": ["a", "b", None]}, Text(nullable=True)),
        ({"enum": [1, 2.5]}, Number()),
        ({"enum": [True, False]}, Boolean()),
        ({"const": 5}, Integer()),
        ({"const": True}, Boolean()),
        ({"type": "array", "items": _TEXT}, List(Text())),
        ({"items": {"type": ["integer", "null"]}}, List(Integer(nullable=True))),
        ({"type": "array", "items": {"type": "array", "items": _TEXT}}, List(List(Text()))),
        ({"type": ["object", "null"], "properties": {"a": _TEXT}}, Object({"a": Text()}, nullable=True)),
        ({"properties": {"a": _TEXT}, "additionalProperties": _TEXT}, Object({"a": Text()})),
        ({"allOf": [_TEXT], "description": "d"}, Text()),
        ({"allOf": [_TEXT], "nullable": True}, Text(nullable=True)),
        ({"allOf": [{"type": ["string", "null"]}, _TEXT]}, Text()),
        ({"allOf": [_object(a=_TEXT), {"properties": {"b": {"const": 1}}, "required": ["a"]}]},
         Object({"a": Text(), "b": Integer()})),
        ({"type": "object", "anyOf": [_object(a=_TEXT), {"type": "null"}]}, Object({"a": Text()})),
        ({**_object(a=_TEXT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, Object({"a": Text()})),
    ],
)  # fmt: skip
def test_a_schema_that_names_one_type_has_its_column(schema, column):
    assert _property(schema) == (column, None)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, "does not say which type"),
        (True, "does not say which type"),
        (False, "allows no value"),
        ({"description": "x"}, "does not say which type"),
        ({"type": "null"}, "nothing but null"),
        ({"type": "date"}, "'date' is not a type"),
        ({"type": []}, "alternatives that is empty"),
        ({"type": ["string", 5]}, "'5' is not a type"),
        ({"type": ["string", "integer"]}, "different types: Integer, Text"),
        ({"anyOf": [_TEXT, {"type": "object", "properties": {"a": _TEXT}}]}, "different types: Object, Text"),
        ({"anyOf": [_object(a=_TEXT), _object(b=_TEXT)]}, "different types: Object"),
        ({"anyOf": "x"}, "anyOf is not a list"),
        ({"allOf": [_TEXT, {"type": "integer"}]}, "Text and Integer at once"),
        ({"enum": ["a", 1]}, "different types: Integer, Text"),
        ({"enum": [{"a": 1}]}, "an object among the allowed values"),
        ({"enum": 5}, "enum is a number"),
        ({"type": "object"}, "without declared properties"),
        ({"type": "object", "properties": {}}, "without declared properties"),
        ({"type": "object", "properties": [1]}, "properties is an array"),
        ({"type": "object", "properties": {"a\nb": _TEXT}}, "cannot be a column's name"),
        ({"type": "object", "properties": {"\ud800": _TEXT}}, "cannot be a column's name"),
        ({"type": "array"}, "does not say what its items are"),
        ({"type": "array", "items": True}, "does not say what its items are"),
        ({"type": "array", "items": [_TEXT]}, "types by position"),
        ({"type": "array", "prefixItems": [_TEXT], "items": _TEXT}, "types by position"),
        ({"properties": {"a": _TEXT}, "items": _TEXT}, "different types: List, Object"),
        ({"$ref": "https://example.com/schema"}, "leaves the schema"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"$ref": 5}, "leaves the schema"),
        ([], "the schema is an array"),
        (None, "the schema is null"),
        ("string", "the schema is a string"),
    ],
)
def test_a_schema_that_names_no_single_type_stays_json_and_says_why(schema, reason):
    column, why = _property(schema)
    assert column == Json()
    assert reason in why


@pytest.mark.parametrize("schema", [True, None, 5, "x", [], {}, _TEXT, {"type": "array", "items": _TEXT}])
def test_a_root_that_describes_no_object_is_json(schema):
    compiled = compile_schema(schema)
    assert compiled.column == Json()
    assert set(compiled.kept_as_json) == {""}


def test_the_root_is_never_null():
    assert compile_schema({**_object(a=_TEXT), "type": ["object", "null"]}).column == Object({"a": Text()})


@pytest.mark.parametrize(
    ("reference", "beside"),
    [
        ("#/$defs/a~1b~0c", {"$defs": {"a/b~c": _TEXT}}),
        ("#/definitions/a%20b%25", {"definitions": {"a b%": _TEXT}}),
        ("#/$defs/x/anyOf/1", {"$defs": {"x": {"anyOf": [{}, _TEXT]}}}),
        ("#/$defs/one", {"$defs": {"one": {"$ref": "#/$defs/two"}, "two": _TEXT}}),
        ("#/$defs/%C3%A9", {"$defs": {"é": _TEXT}}),
    ],
)
def test_a_local_reference_is_followed(reference, beside):
    assert _property({"$ref": reference}, **beside) == (Text(), None)


def test_recursion_is_json_where_it_recurs():
    node = _object(name=_TEXT, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
    compiled = compile_schema({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert compiled.column == Object({"name": Text(), "children": List(Json())})
    assert compiled.kept_as_json == {"/children/*": "the schema contains itself"}
    assert compile_schema({"$ref": "#"}).column == Json()


def test_a_definition_used_twice_is_no_recursion():
    schema = {**_object(a={"$ref": "#/$defs/t"}, b={"$ref": "#/$defs/t"}), "$defs": {"t": _TEXT}}
    assert compile_schema(schema).column == Object({"a": Text(), "b": Text()})


def test_names_are_kept_as_they_are():
    names = ["a.b", "with space", "é", " ", "a/b", "*", "a" * 70_000]
    compiled = compile_schema(_object(**dict.fromkeys(names, _TEXT), **{"x/y~": True}))
    assert list(compiled.column.fields) == [*names, "x/y~"]
    assert set(compiled.kept_as_json) == {"/x~1y~0"}


def test_of_names_that_readers_do_not_tell_apart_the_first_has_the_column():
    names = ["Name", "name", "n", "é", "E\u0301", "", "\ud800", "a\nb"]
    compiled = compile_schema(_object(p={"items": _object(**dict.fromkeys(names, _TEXT))}))
    assert compiled.column == Object({"p": List(Object({"Name": Text(), "n": Text(), "é": Text()}))})
    assert compiled.kept_as_json == {
        "/p/*/name": "'Name' and 'name' differ in case alone, and some readers do not tell such names apart: "
        "'Name' came first and has the column",
        "/p/*/E\u0301": "'é' and 'E\u0301' differ in case or the composition of characters alone, and some readers "
        "do not tell such names apart: 'é' came first and has the column",
        "/p/*/": "the property name '' is empty, and some readers drop such a column",
        "/p/*/\\ud800": "the property name '\\ud800' cannot be a column's name",
        "/p/*/a\nb": "the property name 'a\\nb' cannot be a column's name",
    }
    misfits = compiled.column.build([{"p": [{"Name": "x", "name": "y", "": "z", "\ud800": 1}]}]).misfits
    assert {misfit.pointer: misfit.value for misfit in misfits} == {"/p/0/name": "y", "/p/0/": "z", "/p/0/\ud800": 1}


def test_names_that_meet_in_parts_of_a_schema_are_not_told_apart_either():
    compiled = compile_schema({"allOf": [_object(Name=_TEXT), _object(name={"type": "integer"})]})
    assert compiled.column == Object({"Name": Text()})


def test_an_object_of_names_without_columns_is_json():
    compiled = compile_schema(_object(p=_object(**{"": _TEXT})))
    assert compiled.column == Object({"p": Json()})
    assert compiled.kept_as_json == {"/p": "the property name '' is empty, and some readers drop such a column"}


def test_the_first_layout_had_a_column_for_every_name_or_none():
    twins = _object(Name=_TEXT, name=_TEXT, **{"": _TEXT})
    assert compile_schema(twins, layout_version=1).column == Object({"Name": Text(), "name": Text(), "": Text()})
    assert compile_schema(twins, layout_version=1).kept_as_json == {}
    broken = compile_schema(_object(p=_object(**{"a": _TEXT, "a\nb": _TEXT})), layout_version=1)
    assert broken.kept_as_json == {"/p": "the property name 'a\\nb' cannot be a column's name"}


def test_what_is_deeper_than_32_levels_is_json():
    schema = _TEXT
    for _ in range(100):
        schema = _object(a={"anyOf": [schema, {"type": "null"}]})
    compiled = compile_schema(schema)
    assert list(compiled.kept_as_json) == ["/a" * (MAX_DEPTH + 1)]
    assert isinstance(compiled.column.arrow_type, pa.DataType)


def test_a_small_schema_that_describes_billions_of_columns_is_cut_off():
    defs = {f"d{n}": _object(a={"$ref": f"#/$defs/d{n + 1}"}, b={"$ref": f"#/$defs/d{n + 1}"}) for n in range(31)}
    compiled = compile_schema({"$ref": "#/$defs/d0", "$defs": {**defs, "d31": _TEXT}})
    assert "the schema is too large" in compiled.kept_as_json.values()


def test_combinators_nested_without_end_are_cut_off():
    schema = _TEXT
    for _ in range(5000):
        schema = {"anyOf": [schema]}
    assert _property(schema) == (Json(), "the schema is too large")


_KEYWORDS = [
    "type",
    "properties",
    "items",
    "anyOf",
    "allOf",
    "oneOf",
    "enum",
    "const",
    "$ref",
    "nullable",
    "$defs",
]
_WORDS = [
    "object",
    "array",
    "string",
    "number",
    "integer",
    "null",
    "boolean",
    "#",
    "#/$defs/a",
    "#/properties/a",
]
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(_WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*_KEYWORDS, "a", "b"]) | st.text(max_size=2), inner, max_size=5)
    ),
    max_leaves=40,
)


@settings(max_examples=300)
@given(_ANY_JSON)
def test_any_json_value_is_a_schema_and_no_schema_raises(schema):
    for candidate in (schema, _object(a=schema)):
        compiled = compile_schema(candidate)
        assert isinstance(compiled.column.arrow_type, pa.DataType)
        assert compiled == compile_schema(candidate)
