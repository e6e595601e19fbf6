"""All files of a prompt's table in a folder have the same columns, and a run goes where they can hold it."""

import pytest

from vv_exports.content.shapes import OwnColumn, shaped
from vv_exports.errors import SchemaConflictError
from vv_exports.snapshots.json_schema import compile_schema

OBJECT = {"type": "object", "properties": {"c": {"type": "string"}}}
WIDER_OBJECT = {"type": "object", "properties": {"c": {"type": "string"}, "d": {"type": "string"}}}


def column(**properties):
    return compile_schema(
        {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}
    ).column


def fields(shapes, folder="segments"):
    return {name: type(one).__name__ for name, one in shapes.columns[folder].fields.items()}


def run(run_id, held_in=(), **properties):
    return OwnColumn(run_id, column(**properties), frozenset(held_in))


def test_the_first_run_brings_the_columns():
    found = shaped("segments", {}, [run("a", x="string")], "new_version")
    assert (fields(found), found.folders, found.changes) == ({"x": "Text"}, {"a": "segments"}, {})


def test_a_run_with_more_fields_gives_them_to_all_and_says_so():
    found = shaped("segments", {"segments": column(x="string")}, [run("b", x="string", y="integer")], "new_version")
    assert fields(found) == {"x": "Text", "y": "Integer"}
    assert found.changes["segments"] == "prompt run 'b' needs more: /y is new"


@pytest.mark.parametrize(
    "properties", [{}, {"y": "integer"}, {"x": "string", "y": "integer"}, {"y": "integer", "x": "string"}]
)
def test_a_run_with_no_more_fields_changes_nothing(properties):
    there = {"segments": column(x="string", y="integer")}
    found = shaped("segments", there, [run("b", **properties)], "new_version") if properties else None
    assert found is None or (found.columns == there and found.changes == {})


def test_what_each_run_of_a_delivery_needs_is_told_place_by_place():
    there = {
        "segments": compile_schema(
            {"type": "object", "properties": {"x": {"type": "integer"}, "list": {"type": "array", "items": OBJECT}}}
        ).column
    }
    wider = {
        "type": "object",
        "properties": {"x": {"type": ["number", "null"]}, "list": {"type": "array", "items": WIDER_OBJECT}},
    }
    found = shaped(
        "segments", there, [OwnColumn("b", compile_schema(wider).column), run("c", z="boolean")], "new_version"
    )
    assert found.changes["segments"] == (
        "prompt run 'b' needs more: /x is a number by now, and was an integer; /x may be null; /list/*/d is new; "
        "prompt run 'c' needs more: /z is new"
    )


def test_a_type_that_no_column_holds_goes_to_a_version_of_its_own_and_others_like_it_go_there_too():
    runs = [run("b", x="string"), run("c", x="string", z="boolean"), run("d", x="integer"), run("e", z="boolean")]
    found = shaped("segments", {"segments": column(x="integer")}, runs, "new_version")
    assert found.folders == {"b": "segments.v2", "c": "segments.v2", "d": "segments", "e": "segments.v2"}
    assert fields(found, "segments.v2") == {"x": "Text", "z": "Boolean"}
    assert fields(found) == {"x": "Integer"}
    assert "/x" in found.changes["segments.v2"]


def test_a_third_type_goes_to_a_third_version():
    there = {"segments": column(x="integer"), "segments.v2": column(x="string")}
    assert shaped("segments", there, [run("c", x="boolean")], "new_version").folders == {"c": "segments.v3"}


def test_a_run_stays_where_it_is_while_that_can_hold_it():
    there = {"segments": column(x="integer"), "segments.v2": column(x="string")}
    assert shaped("segments", there, [run("a", ["segments"], y="string")], "new_version").folders == {"a": "segments"}
    assert shaped("segments", there, [run("a", ["segments"], x="string")], "new_version").folders == {
        "a": "segments.v2"
    }
    assert shaped("segments", there, [run("new", y="string")], "new_version").folders == {"new": "segments.v2"}


def test_as_text_the_place_becomes_json_text_for_all_and_stays_so():
    there = {"segments": column(x="integer", y="string")}
    found = shaped("segments", there, [run("b", x="string", z="string")], "text")
    assert found.folders == {"b": "segments"}
    assert fields(found) == {"x": "Json", "y": "Text", "z": "Text"}
    assert "/x" in found.changes["segments"]
    again = shaped("segments", found.columns, [run("c", x="boolean")], "text")
    assert (again.columns, again.changes) == (found.columns, {})


def test_to_hold_it_is_an_error_of_the_run_that_says_where():
    with pytest.raises(SchemaConflictError, match=r"prompt run b waits.*/x.*on_schema_conflict"):
        shaped("segments", {"segments": column(x="integer")}, [run("b", x="string")], "hold")


def test_tables_have_versions_of_their_own():
    there = {"segments": column(x="integer"), "videos": column(x="string"), "videos.v2": column(x="integer")}
    found = shaped("segments", there, [run("b", x="string")], "new_version")
    assert found.folders == {"b": "segments.v2"}
    assert found.columns.keys() == {"segments", "segments.v2"}
