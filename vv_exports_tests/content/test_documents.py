"""JSON rows: the document as the model answered, beside the ids of its run."""

import json
from decimal import Decimal

import pyarrow as pa
import pytest

from vv_exports.content.documents import Documents
from vv_exports.errors import DeliveredDataError
from vv_exports.snapshots.tables import prepare, table_of
from vv_exports_tests.content.documents import RUN, answers_of, strict

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": ["integer", "null"]}, "shot": {"type": "object", "properties": {"x": {}}}},
}


def rows(*documents, table="segments"):
    """The text of each document's row."""
    columns = table_of(table, SCHEMA)
    prepare(list(documents), RUN, table)
    answers = answers_of(list(documents)) if table != "failures" else None
    return Documents(columns).rows(columns.batch(list(documents), RUN), answers).column(0).to_pylist()


def read(*texts, table="segments"):
    return Documents(table_of(table, SCHEMA)).documents(pa.record_batch({"document": list(texts)}))


def test_the_answer_stands_in_the_row_as_it_was():
    answer = {
        "z": 5,
        "n": 5.0,
        "big": 2**63,
        "long": Decimal("0.12345678901234567890123"),
        "none": None,
        "half": "\ud800",
        "shot": {},
    }
    (text,) = rows({"metadata": answer})
    assert text.endswith(
        ',"metadata":{"big":9223372036854775808,"half":"\\ud800","long":0.12345678901234567890123,'
        '"n":5.0,"none":null,"shot":{},"z":5}}'
    )
    assert strict(read(text)[0]["metadata"]) == strict(answer)


def test_null_and_absent_properties_are_told_apart():
    texts = rows({"metadata": {"n": None}}, {"metadata": {}}, {"metadata": None}, {})
    assert [json.loads(text).get("metadata", "absent") for text in texts] == [{"n": None}, {}, None, "absent"]
    assert [one.get("metadata", "absent") for one in read(*texts)] == [{"n": None}, {}, None, "absent"]


def test_every_row_names_the_ids_and_fields_in_one_order_and_nothing_else():
    table = table_of("segments", SCHEMA)
    texts = rows(
        {"metadata": {}}, {"video_id": "v", "metadata": {"undeclared": 1}}, {"start_time": "x", "metadata": {}}
    )
    wanted = [name for name in table.schema.names if name not in {"rescued", "absent"}]
    assert [list(json.loads(text)) for text in texts] == [wanted] * 3


def test_a_field_that_does_not_fit_its_column_stands_in_its_place():
    record = {
        "start_time": "00:10",
        "executed_at": "today",
        "video_id": 7,
        "gif_available": 2**63,
        "metadata": {"n": 1},
    }
    texts = rows(record, {"executed_at": "2026-11-23T11:00:00+01:00", "metadata": {"n": "x"}})
    found = [json.loads(text) for text in texts]
    assert {name: found[0][name] for name in record} == record
    assert found[1]["executed_at"] == "2026-11-23T10:00:00.000000Z"
    assert read(texts[1])[0]["executed_at"] == "2026-11-23T10:00:00Z"


def test_a_field_that_has_no_column_stands_in_the_row():
    (text,) = rows({"rescued": "a", "new": {"a": [1]}, "metadata": {}})
    assert {"rescued": "a", "new": {"a": [1]}}.items() <= json.loads(text).items()


def test_a_list_with_an_item_that_does_not_fit_is_whole():
    (text,) = rows({"failed_operations": ["a", 1, None]}, table="failures")
    assert json.loads(text)["failed_operations"] == ["a", 1, None]


def test_metadata_of_a_failure_has_no_column_and_is_there():
    (text,) = rows({"metadata": {"a": 1}}, table="failures")
    assert json.loads(text)["metadata"] == {"a": 1}


@pytest.mark.parametrize("name", ["prompt_run_id", "stated_prompt_run_id", "stated_stated_index_id", "stated_x"])
def test_what_a_result_states_of_another_run_does_not_hide_the_runs_own_ids(name):
    (text,) = rows({name: "other", "metadata": {}})
    found = json.loads(text)
    assert (found["index_id"], found["prompt_id"], found["prompt_run_id"]) == ("idx_1", "prm_1", "run_1")
    assert found[name if name == "stated_x" else f"stated_{name}"] == "other"
    assert read(text)[0][name] == "other"


def test_rows_without_answers_are_refused_where_there_are_any():
    table = table_of("segments", SCHEMA)
    with pytest.raises(ValueError, match="made of the answers' JSON text"):
        Documents(table).rows(table.batch([{"metadata": {}}], RUN), None)


@pytest.mark.parametrize("text", ["{", "[]", '{"index_id":"a"}'])
def test_a_row_that_is_no_document_is_refused(text):
    with pytest.raises(DeliveredDataError, match="Deliver again"):
        read(text)
