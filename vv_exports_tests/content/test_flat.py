"""CSV rows: a column for each scalar leaf, and documents that come back all the same."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings

from vv_exports.content.flat import Flat
from vv_exports.errors import DeliveredDataError
from vv_exports.snapshots.columns import Object
from vv_exports.snapshots.tables import table_of
from vv_exports_tests.content.documents import ROOTS, RUN

TYPE = {"type": ["string", "null"]}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string"},
        "shot": {
            "type": "object",
            "nullable": True,
            "properties": {"type": TYPE, "by": PERSON},
        },
        "people": {"type": "array", "items": PERSON},
        "anything": {},
    },
}
TABLE = table_of("segments", SCHEMA)


def flat(*answers, table=TABLE):
    documents = [{"metadata": answer} for answer in answers]
    return Flat(table).rows(table.batch(documents, RUN), None)


def cells(*answers):
    """What the columns of each answer's row hold, those that hold something."""
    beside = {"index_id", "prompt_id", "prompt_run_id"}
    return [
        {name: value for name, value in row.items() if value is not None and name not in beside}
        for row in flat(*answers).to_pylist()
    ]


def back(*answers):
    found = Flat(TABLE).documents(flat(*answers))
    return [one["metadata"] for one in found]


def test_scalars_have_columns_and_lists_and_untyped_parts_are_json():
    answer = {
        "mood": "calm",
        "shot": {"type": "close", "by": {"name": "A", "age": 3}},
        "people": [{"name": "B", "age": 4}],
        "anything": {"a": "=1"},
    }
    assert cells(answer) == [
        {
            "metadata.mood": "calm",
            "metadata.shot.type": "close",
            "metadata.shot.by.name": "A",
            "metadata.shot.by.age": 3,
            "metadata.people": '[{"name":"B","age":4}]',
            "metadata.anything": '{"a":"=1"}',
        }
    ]


def test_an_object_that_its_cells_do_not_show_is_said_in_rescued():
    assert cells({"shot": {"type": None, "by": {"name": "A"}}}) == [{"metadata.shot.by.name": "A"}]
    assert cells({"shot": {"type": None}, "mood": "x"}) == [
        {"metadata.mood": "x", "rescued": '{"/metadata/shot":{"type":null}}'}
    ]
    assert cells({"shot": None, "mood": "x"}) == [{"metadata.mood": "x"}]
    assert cells({"mood": "x"}) == [{"metadata.mood": "x", "absent": '["/metadata/shot"]'}]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"mood": "x"},
        {"shot": None},
        {"shot": {}},
        {"shot": {"type": None}},
        {"shot": {"by": {}}},
        {"shot": {"type": None, "by": {}}},
        {"shot": {"type": "a", "by": {}}},
        {"shot": {"by": {"age": "old", "other": None}}},
        {"shot": 5, "people": [None, {}, {"name": 1}]},
        {"people": [], "anything": None},
        {"shot/": {}, "shot": {}},
        None,
        5,
        "=1",
    ],
    ids=json.dumps,
)
def test_null_absent_and_empty_objects_are_different_things(answer):
    assert back(answer, {"mood": "beside"}) == [answer, {"mood": "beside"}]


def test_a_name_with_a_mark_of_paths_in_it_is_quoted():
    names = ["a.b", "a[]", 'say "a"', "plain", "é x"]
    table = table_of("segments", {"type": "object", "properties": {name: {"type": "string"} for name in names}})
    found = [name for name in Flat(table).schema.names if name.startswith("metadata.")]
    assert found == [
        'metadata."a.b"',
        'metadata."a[]"',
        'metadata."say \\"a\\""',
        "metadata.plain",
        "metadata.é x",
    ]


def siblings_differ(column):
    fields = column.fields if isinstance(column, Object) else {}
    names = [name.casefold() for name in fields]
    return len(names) == len(set(names)) and all(map(siblings_differ, fields.values()))


@settings(max_examples=300, deadline=None)
@given(schema=ROOTS)
def test_no_two_columns_have_one_name_even_for_readers_that_ignore_case(schema):
    table = table_of("segments", schema)
    assert siblings_differ(table.column)
    names = [name.casefold() for name in Flat(table).schema.names]
    assert len(names) == len(set(names))


def test_a_cell_that_is_not_json_is_refused():
    rows = flat({"people": []})
    broken = rows.set_column(rows.schema.get_field_index("metadata.people"), "metadata.people", pa.array(["["]))
    with pytest.raises(DeliveredDataError, match="a cell is not JSON"):
        Flat(TABLE).documents(broken)
