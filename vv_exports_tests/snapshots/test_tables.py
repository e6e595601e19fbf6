"""The columns of the three tables, and what of a result never gets into them."""

import copy
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from vv_exports.domain.prompt_runs import VOLATILE, Prompt, PromptRun, RunStatus
from vv_exports.snapshots.tables import prepare, table_of, tables_of
from vv_exports_tests.archives import SCHEMA, read_archived_run, segment, write_run

RUN = PromptRun("run_1", "idx", "prm", "Mood", RunStatus.COMPLETED, datetime(2026, 10, 1, tzinfo=UTC), {})
TIME = pa.timestamp("us", "UTC")


def test_segments_have_the_documented_columns():
    schema = table_of("segments", SCHEMA).schema
    documented = ["index_id", "prompt_id", "prompt_run_id", "video_id", "video_name", "segment_id"]
    documented += ["start_time", "end_time", "executed_at"]
    assert schema.names[: len(documented)] == documented
    assert schema.names[-4:] == ["metadata_text", "metadata", "rescued", "absent"]
    operations = ("field_extraction", "transcription", "image_embedding")
    assert {f"{name}_{end}" for name in operations for end in ("succeeded", "error")} <= set(schema.names)
    assert {"processing_warning", "gcs_uri", "result_id", "source_index_id"} <= set(schema.names)
    types = {name: schema.field(name).type for name in schema.names}
    assert {types[name] for name in documented[:6]} == {pa.string()}
    assert (types["start_time"], types["end_time"], types["executed_at"]) == (pa.float64(), pa.float64(), TIME)
    assert {types[f"{name}_succeeded"] for name in operations} == {pa.bool_()}
    assert (types["rescued"], types["absent"]) == (pa.string(), pa.list_(pa.string()))
    brand = pa.struct([("name", pa.string()), ("seconds", pa.float64())])
    assert types["metadata"] == pa.struct([("title", pa.string()), ("brands", pa.list_(brand)), ("people", pa.int64())])


def test_videos_and_failures_have_columns_of_their_own():
    videos, failures = table_of("videos", SCHEMA).schema, table_of("failures", None).schema
    assert {"started_at", "completed_at", "successful_segment_count", "raw_llm_response"} <= set(videos.names)
    assert videos.field("completed_at").type == TIME
    assert videos.field("successful_segment_count").type == pa.int64()
    assert videos.field("metadata").type == table_of("segments", SCHEMA).schema.field("metadata").type
    assert "metadata" not in failures.names
    assert failures.field("failed_operations").type == pa.list_(pa.string())
    assert failures.field("retryable").type == pa.bool_()


def test_no_table_has_a_column_for_what_is_never_stored():
    for name in ("segments", "videos", "failures"):
        assert not VOLATILE & set(table_of(name, SCHEMA).schema.names)


@pytest.mark.parametrize("schema", [{}, True, {"type": "string"}, {"properties": {}}, 5, {"$ref": "#/nowhere"}])
def test_metadata_without_a_usable_schema_is_one_column_of_text(schema):
    assert table_of("segments", schema).schema.field("metadata").type == pa.string()


def test_a_prompt_without_a_video_level_has_no_videos():
    assert set(tables_of(Prompt("prm", "Mood", "?", SCHEMA))) == {"segments", "failures"}
    both = tables_of(Prompt("prm", "Mood", "?", SCHEMA, {"properties": {"summary": {"type": "string"}}}))
    assert set(both) == {"segments", "failures", "videos"}
    assert both["videos"].schema.field("metadata").type == pa.struct([("summary", pa.string())])


def prepared(*documents, table="segments"):
    documents = [copy.deepcopy(document) for document in documents]
    prepare(documents, RUN, table)
    return documents


def test_links_marks_and_what_the_run_states_are_taken_out():
    document = segment(1)
    stated = {"run_id": "run_1", "prompt_run_id": "run_1", "prompt_id": "prm", "index_id": "idx"}
    volatile = {name: f"https://x/?token={name}" for name in VOLATILE}
    assert prepared({**document, **volatile, **stated, "result_type": "segment"}) == [document]
    assert prepared({**document, "prompt_run_id": None, "result_type": None}) == [document]


def test_a_result_that_states_something_else_keeps_it():
    """``index_id`` and ``result_type`` used to be dropped whatever they said."""
    for other in ({"index_id": "idx_2"}, {"result_type": "clip"}, {"result_type": ["segment"]}, {"index_id": 1}):
        (document,) = prepared({**segment(1), **other})
        assert document == {**segment(1), **other}
        batch = table_of("segments", SCHEMA).batch([document], RUN)
        (name,), (value,) = other.keys(), other.values()
        assert batch["index_id"].to_pylist() == ["idx"]
        assert table_of("segments", SCHEMA).documents(batch)[0][name] == value


def test_only_the_record_s_own_fields_are_volatile():
    document = segment(1, metadata={"title": "x", "marker": "red", "gif_uri": "gs://y", "prompt_id": "prm"})
    assert prepared(document) == [document]


def test_rows_give_back_the_documents_they_were_made_from():
    table = table_of("segments", SCHEMA)
    documents = [
        segment(1, metadata={"title": "a", "brands": [], "people": 2**70}, start_time="00:10", later_field={"a": 1}),
        segment(2, metadata={"title": None}, executed_at="2026-10-01T12:00:00.5+02:00", video_name=None),
        segment(3, metadata={"title": "c", "people": None, "x/y": [1.0]}, transcription_succeeded=False),
    ]
    batch = table.batch(documents, RUN)
    assert batch.schema == table.schema
    assert set(batch["prompt_run_id"].to_pylist()) == {"run_1"}
    expected = copy.deepcopy(documents)
    expected[1]["executed_at"] = "2026-10-01T10:00:00.500000Z"
    for found, wanted in zip(table.documents(batch), expected, strict=True):
        assert {name: value for name, value in found.items() if value is not None or name in wanted} == wanted
    assert table.documents(table.batch([], RUN)) == []


# --- the data version -------------------------------------------------------------------------------------


def data_version(folder, segments=None, **changes):
    rows = [segment(n) for n in range(4)] if segments is None else segments
    write_run(folder / "archive", segments=rows, **changes)
    return read_archived_run(folder / "archive", folder).data_version


@pytest.fixture
def version(tmp_path_factory):
    """The data version of a run with these segments and changes."""
    return lambda *args, **changes: data_version(tmp_path_factory.mktemp("run"), *args, **changes)


def rows(**fields):
    return [segment(0, **fields), *(segment(n) for n in range(1, 4))]


def test_the_data_version_is_the_same_for_the_same_content(version):
    plain = version()
    assert len(plain) == 64
    assert version() == plain
    for name in VOLATILE:
        assert version(rows(**{name: {"token": "changes"}})) == plain, name
    assert version(rows(run_id="run_1", result_type="segment")) == plain
    assert version([dict(reversed(row.items())) for row in rows()]) == plain, "the order of names"
    brands = [{"seconds": 1.5, "name": "Acme"}]
    assert version(rows(metadata={"people": None, "brands": brands, "title": "Scene 0"})) == plain
    assert version(rows()[::-1]) == plain, "the order of rows"
    assert version(marker={"color": "red"}, executed_by="somebody") == plain, "the run's record"


@pytest.mark.parametrize(
    "change",
    [
        {"start_time": 0.25},
        {"metadata_text": "scene 0"},
        {"video_name": None},
        {"new_field": None},
        {"metadata": {"title": "Scene 0", "brands": [{"name": "Acme", "seconds": 1.5}]}},
        {"metadata": {"title": "Scene 0", "brands": [{"name": "Acme", "seconds": 1.5}], "people": 0}},
        {"metadata": {"title": "Scene 0", "brands": [{"name": "Acme", "seconds": 1.5}] * 2, "people": None}},
        {"metadata": {"title": "Scene 0", "brands": [{"name": "Acme", "seconds": "1.5"}], "people": None}},
    ],
)
def test_a_changed_value_changes_the_data_version(version, change):
    assert version(rows(**change)) != version()


def test_rows_schemas_and_tables_are_all_part_of_the_data_version(version):
    failure = {"segment_id": "seg_9", "video_id": "vid_1"}
    looser = {**SCHEMA, "required": []}
    found = [
        version(),
        version(rows()[:3]),
        version(schema=looser),
        version(failures=[failure]),
        version(failures=[{**failure, "retryable": True}]),
        version(video_level_schema=SCHEMA),
        version(video_level_schema=SCHEMA, videos=[{"video_id": "vid_1", "metadata": {"title": "x"}}]),
        version(video_level_schema=looser),
    ]
    assert len(set(found)) == len(found)
