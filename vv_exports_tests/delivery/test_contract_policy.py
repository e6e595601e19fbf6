"""Rows that break their prompt's schema: delivered, set apart, or a reason not to deliver the run."""

import json
import re
from pathlib import Path

import duckdb
import msgspec
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import entries_since
from vv_exports.delivery.reading import documents
from vv_exports.delivery.verify import verify
from vv_exports.domain.content_options import Fields
from vv_exports.errors import ContractBrokenError
from vv_exports_tests.archives import segment

PEOPLE = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"minimum": 0}}},
}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "people": PEOPLE, "mood": {"enum": ["calm", "loud"]}},
    "required": ["title"],
}
ANSWERS = [
    {"title": "kept", "people": [{"name": "Ada", "age": 36}]},
    {"title": "a", "people": [{"name": "Ada", "age": 36}, {"name": "MARKER-Eve", "age": -1}]},
    {"people": [], "mood": "MARKER-furious"},
]
FORMATS = ["parquet", "jsonl", "json", "csv"]
ROOT = Path(__file__).parents[2]
APART = {"contract": "quarantine"}


@pytest.fixture
def broken(deployment):
    """A run two of whose three segments break the schema."""
    rows = [segment(number, metadata=one) for number, one in enumerate(ANSWERS)]
    return deployment.snapshot(schema=SCHEMA, segments=rows, total_segments=3)


@pytest.fixture
def give(deployment, clock):
    def give(*snapshots, **request):
        return deliver(deployment.request(*snapshots, **request), deployment.store, clock)

    return give


def held(deployment):
    """What is delivered, by table."""
    found = {}
    for one in documents(deployment.destination()):
        found.setdefault(one.table, []).append(one.document)
    return found


def versions(deployment):
    return [entry.format_version for entry in entries_since(deployment.destination(), 0)]


def counts(deployment):
    *_, entry = entries_since(deployment.destination(), 0)
    return entry.prompt_runs[0].counts


@pytest.mark.parametrize("format_name", FORMATS)
def test_rows_that_break_the_schema_are_in_a_table_of_their_own_with_their_reasons(
    deployment, give, broken, format_name
):
    delivery = give(broken, format_name=format_name, options=APART)
    found = held(deployment)
    assert [one["metadata"]["title"] for one in found["segments"]] == ["kept"]
    one, other = found["quarantine"]
    assert (one["table"], one["segment_id"], one["start_time"]) == ("segments", "seg_00001", segment(1)["start_time"])
    assert [json.loads(row["answer"]) for row in (one, other)] == ANSWERS[1:]
    assert [(two["place"], two["pointer"], two["keyword"]) for two in one["reasons"]] == [
        ("/people/*/age", "/people/1/age", "minimum")
    ]
    assert {(two["pointer"], two["keyword"]) for two in other["reasons"]} == {("/title", "required"), ("/mood", "enum")}
    assert "is required" in " ".join(two["message"] for two in other["reasons"])
    assert (delivery.prompt_runs[0].rows("segments"), delivery.prompt_runs[0].rows("quarantine")) == (1, 2)
    assert (counts(deployment).delivered, counts(deployment).quarantined, counts(deployment).expected) == (1, 2, 3)
    assert {path.split("/")[0] for path in deployment.files()} == {"segments", "quarantine", "_vv"}


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    "options",
    [
        {"fields": Fields(exclude=("metadata.people[].name", "metadata.mood"))},
        {"redact": {"metadata.people[].name": "mask", "metadata.mood": "drop"}},
        {"redact": {"metadata": "drop"}},
        {"fields": Fields(include=("metadata.title", "metadata.people[].age"))},
        {"redact": {"metadata.people": "mask", "metadata.mood": "mask"}},
    ],
)
def test_nothing_that_is_left_out_or_masked_is_in_the_quarantine(deployment, give, broken, options, format_name):
    options = {**APART, **options, "compression": "none"}
    give(broken, format_name=format_name, options=options)
    found = held(deployment)
    assert len(found["quarantine"]) == 2
    assert "MARKER" not in json.dumps(found)
    for path in deployment.files():
        assert b"MARKER" not in (deployment.folder / "deliveries/exports/team" / path).read_bytes()
    (mood,) = [one for row in found["quarantine"] for one in row["reasons"] if one["keyword"] == "enum"]
    assert (mood["place"], mood["pointer"], mood["message"]) == ("", "", "")


def test_the_keys_of_an_object_where_a_redacted_list_should_be_are_in_no_reason(deployment, give):
    schema = {
        "properties": {"people": {**PEOPLE, "type": ["array", "object"], "additionalProperties": {"type": "string"}}}
    }
    answer = {"people": {"MARKER-Eve": 5}}
    run = deployment.snapshot(schema=schema, segments=[segment(0, metadata=answer)])
    give(run, format_name="jsonl", options={**APART, "redact": {"metadata.people[].name": "mask"}})
    (row,) = held(deployment)["quarantine"]
    assert [one["keyword"] for one in row["reasons"]] == ["type"]
    assert "MARKER" not in json.dumps(row)


def test_a_key_that_is_redacted_is_so_in_the_quarantine(deployment, give, broken):
    give(broken, options={**APART, "redact": {"segment_id": "mask"}})
    found = held(deployment)
    ids = {row["segment_id"] for rows in found.values() for row in rows}
    assert ids.isdisjoint({"seg_00000", "seg_00001", "seg_00002"})


def test_videos_that_break_their_schema_are_set_apart_too(deployment, give):
    videos = [{"video_id": "vid_0", "metadata": {"title": 5}}, {"video_id": "vid_1", "metadata": {"title": "x"}}]
    run = deployment.snapshot(video_level_schema=SCHEMA, videos=videos)
    give(run, options=APART)
    found = held(deployment)
    assert [row["video_id"] for row in found["videos"]] == ["vid_1"]
    assert [(row["table"], row["video_id"], row.get("segment_id")) for row in found["quarantine"]] == [
        ("videos", "vid_0", None)
    ]


def test_a_run_that_keeps_to_its_schema_has_no_quarantine_and_the_snapshots_own_files(deployment, give):
    run = deployment.snapshot(schema=SCHEMA, segments=[segment(0, metadata=ANSWERS[0])])
    delivery = give(run, options=APART)
    assert [file.sha256 for file in delivery.files] == [run.tables["segments"][0].sha256]
    assert counts(deployment).quarantined == 0


def test_a_run_all_of_whose_rows_are_broken_has_an_empty_table(deployment, give):
    run = deployment.snapshot(schema=SCHEMA, segments=[segment(0, metadata={})])
    delivery = give(run, options=APART)
    assert {file.table: file.rows for file in delivery.files} == {"segments": 0, "quarantine": 1}


def test_a_snapshot_of_an_earlier_version_is_checked_by_what_is_kept_of_it(deployment, give, broken):
    earlier = msgspec.structs.replace(broken, contract={})
    assert give(earlier, options=APART).prompt_runs[0].rows("quarantine") == 2
    with pytest.raises(ContractBrokenError, match="2 of its 3 segments"):
        give(earlier, options={"contract": "block"})


def test_a_run_that_is_blocked_is_not_delivered_and_the_error_has_the_figures(deployment, give, broken):
    with pytest.raises(ContractBrokenError, match="run_1 is not delivered, since 2 of its 3 segments break") as error:
        give(broken, options={"contract": "block"})
    assert error.value.run_id == "run_1"
    assert not [path for path in deployment.files() if path.startswith("segments")]
    with pytest.raises(ContractBrokenError) as error:
        give(broken, options={"contract": "block", "redact": {"metadata.people": "drop"}})
    assert "/people" not in str(error.value)


def test_a_schema_that_cannot_be_checked_against_blocks_and_a_prompt_without_one_does_not(deployment, give):
    odd = deployment.snapshot("run_1", schema={"$ref": "http://127.0.0.1:9/x"}, segments=[segment(0)])
    with pytest.raises(ContractBrokenError, match="cannot be checked"):
        give(odd, options={"contract": "block"})
    none = msgspec.structs.replace(deployment.snapshot("run_2", segments=[segment(0)]), json_schema=None, contract={})
    assert give(none, options={"contract": "block"}).committed


def test_another_policy_makes_the_same_run_due_and_leaves_no_file_of_the_other(deployment, give, broken):
    give(broken, options=APART)
    assert not give(broken, options=APART).committed, "it is there"
    assert give(broken).committed
    assert {path.split("/")[0] for path in deployment.files()} == {"segments", "_vv"}
    assert give(broken, options=APART).committed
    found = verify(deployment.destination())
    assert (found.files, found.problems, found.foreign) == (2, (), ())
    assert versions(deployment) == [3, 2, 3], "earlier versions of the package read all but the quarantine"


def test_the_documented_query_tells_each_row_and_its_reason(deployment, give, broken, monkeypatch):
    give(broken, options=APART)
    monkeypatch.chdir(deployment.folder / "deliveries/exports/team")
    (query,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/contract.md").read_text(), re.DOTALL)
    assert {row[1:3] for row in duckdb.sql(query).fetchall()} == {
        ("seg_00001", "/people/1/age"),
        ("seg_00002", "/title"),
        ("seg_00002", "/mood"),
    }
