"""Columns are described by what the prompt's schema says, and what it leaves unsaid costs nothing."""

import pytest

from vv_exports.content.described import RECORD, described
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.snapshots.tables import table_of


def of(schema, **how):
    return {one.path: one for one in described(table_of("segments", schema), schema, **how)}


@pytest.mark.parametrize("name", DELIVERED_TABLES)
def test_every_column_that_is_the_same_for_all_prompts_is_described(name):
    table = table_of(name, {"type": "object"})
    assert {one.path for one in described(table, None) if not one.description} == set()
    assert set(table.schema.names) <= RECORD.keys()


def test_what_people_came_for_is_first():
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    first = ["video_name", "segment_id", "start_time", "end_time", "metadata.title"]
    assert list(of(schema))[: len(first)] == first


def test_places_are_named_as_elsewhere_and_say_what_the_schema_says_of_them():
    person = {"type": "object", "properties": {"name": {"$ref": "#/$defs/a~1name"}, "a.b": {"type": "integer"}}}
    schema = {
        "type": "object",
        "properties": {
            "people": {"type": "array", "items": {"$ref": "#/$defs/person"}},
            "mood": {"description": "How it feels", "anyOf": [{"type": "string", "enum": ["calm", "tense"]}]},
            "any": {"title": "Whatever"},
        },
        "$defs": {"person": person, "a/name": {"type": "string", "description": "As it is said"}},
    }
    found = of(schema)
    assert found["metadata.people[].name"] == ("metadata.people[].name", "string", "As it is said")
    assert found['metadata.people[]."a.b"'].type == "int64"
    assert found["metadata.mood"].description == "How it feels; one of calm, tense"
    assert found["metadata.any"][1:] == ("JSON text", "Whatever")
    assert of(schema, values=False)["metadata.mood"].description == "How it feels"


@pytest.mark.parametrize(
    "place",
    [
        {"$ref": "#/$defs/loop"},
        {"$ref": "#/nowhere/0"},
        {"$ref": "#/required/first"},
        {"$ref": "http://elsewhere/"},
        {"$ref": 5},
        {"description": {"no": "text"}, "enum": "no list", "allOf": 1},
        {"allOf": [{"$ref": "#/$defs/wide"}] * 40},
    ],
)
def test_a_schema_that_says_nothing_sensible_describes_nothing(place):
    defs = {"loop": {"allOf": [{"$ref": "#/$defs/loop"}] * 2}, "wide": {"anyOf": [{"$ref": "#/$defs/wide"}] * 40}}
    schema = {"type": "object", "properties": {"x": place}, "required": ["x"], "$defs": defs}
    assert of(schema)["metadata.x"].description == ""
