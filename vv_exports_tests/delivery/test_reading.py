"""What was delivered reads back to the documents that the source has, in every format, by what the log says."""

import json

import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.reading import documents
from vv_exports.domain.content_options import TABLE_FORMATS
from vv_exports.domain.destinations import log_entry_name
from vv_exports.errors import DeliveredDataError
from vv_exports_tests.archives import segment

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "score": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "shot": {"type": "object", "properties": {"type": {"type": "string"}, "mm": {"type": ["number", "null"]}}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "any": {},
    },
}
ANSWERS = [
    {
        "title": "a",
        "score": 5,
        "count": None,
        "shot": {"type": "wide", "mm": None},
        "tags": ["x", ""],
        "any": {"b": [1]},
    },
    {"title": "b", "score": 5.0},
    {"title": 7, "score": 2**63, "count": 2**70, "shot": {}, "tags": None, "any": None},
    {"score": 0.1, "undeclared": {"x": None}, "shot": {"type": "=1+1"}},
    {},
]
WIDER = {"type": "object", "properties": {**SCHEMA["properties"], "mood": {"type": "string"}}}


def strict(value):
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("format_name", TABLE_FORMATS)
def test_documents_come_back_from_files_of_any_format(deployment, clock, format_name):
    old = deployment.snapshot(
        "run_1", schema=SCHEMA, segments=[segment(number, metadata=one) for number, one in enumerate(ANSWERS)]
    )
    new = deployment.snapshot(
        "run_2",
        schema=WIDER,
        segments=[segment(0, metadata={"mood": "calm"})],
        video_level_schema=SCHEMA,
        videos=[{"video_id": "vid_1", "metadata": {"title": "whole"}}],
        failures=[{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}],
    )
    for snapshot in (old, new, old):
        deliver(deployment.request(snapshot, format_name=format_name), deployment.store, clock)
    found = {}
    for one in documents(deployment.destination()):
        found.setdefault((one.prompt_run_id, one.table), []).append(one.document)
    metadata = [document["metadata"] for document in found["run_1", "segments"]]
    assert metadata == ANSWERS
    if format_name in {"jsonl", "json"}:
        assert list(map(strict, metadata)) == list(map(strict, ANSWERS)), "integers and doubles are told apart"
    assert [document["metadata"] for document in found["run_2", "segments"]] == [{"mood": "calm"}]
    assert [document["metadata"] for document in found["run_2", "videos"]] == [{"title": "whole"}]
    assert found["run_2", "failures"][0]["failed_operations"] == ["transcription"]
    assert found["run_1", "segments"][0]["start_time"] == 0.0


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda entry: entry["tables"][0]["columns"].update(metadata={"type": "colour"}), "its type is 'colour'"),
        (lambda entry: entry["provenance"]["content"].update(format={"name": "stone"}), "'stone'"),
    ],
)
def test_an_entry_that_says_no_format_or_columns_is_named(deployment, clock, edit, problem):
    deliver(deployment.request(deployment.snapshot("run_1")), deployment.store, clock)
    destination = deployment.destination()
    path = deployment.folder / "deliveries/exports/team" / log_entry_name(0)
    entry = json.loads(path.read_text())
    edit(entry)
    path.write_text(json.dumps(entry))
    with pytest.raises(DeliveredDataError, match=f"What entry 0 says of segments/.*{problem}.*Deliver again"):
        list(documents(destination))
