"""Indexes, runs and prompts: what LocalArchive finds, and what it refuses to list."""

import json
import shutil
from datetime import UTC, datetime
from urllib.parse import quote

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.errors import NotFoundError, RequestError, SourceDataError
from vv_exports.sources.local_archive import LocalArchive
from vv_exports.sources.registry import SOURCES
from vv_exports_tests.sources.archives import PROMPT, RUN, lines, read, segment, write_index, write_run


def source(archive):
    return LocalArchive(str(archive))


def test_indexes_come_by_id_with_their_description(tmp_path):
    write_index(tmp_path, "b")
    write_index(tmp_path, "a", name="First", description="Of two")
    first, second = source(tmp_path).indexes()
    assert (first.index_id, first.name, first.description) == ("a", "First", "Of two")
    assert (second.index_id, second.description) == ("b", None)


def test_runs_come_in_the_order_of_their_time_then_id_whatever_their_status(tmp_path):
    write_run(tmp_path, run_id="c", executed_at="2026-09-01T00:00:00Z", status="failed")
    write_run(tmp_path, run_id="b", executed_at="2026-09-02T00:00:00+00:00")
    write_run(tmp_path, run_id="a", executed_at="2026-09-02T00:00:00")
    runs = source(tmp_path).prompt_runs("idx_1")
    assert [run.run_id for run in runs] == ["c", "a", "b"]
    assert runs[0].status is RunStatus.FAILED
    assert not runs[0].deliverable


def test_a_record_is_kept_whole_and_its_time_is_utc(tmp_path):
    write_run(tmp_path, executed_at="2026-09-14T10:30:00+02:00", completed_segments=7, anything={"else": [1]})
    run = source(tmp_path).prompt_run("idx_1", "run_1")
    assert run.executed_at == datetime(2026, 9, 14, 8, 30, tzinfo=UTC)
    assert run.executed_at.tzinfo is UTC
    assert run.count("completed_segments") == 7
    assert run.record["anything"] == {"else": [1]}
    assert run.index_id == "idx_1"


def test_a_prompt_is_read_from_the_run_s_folder(tmp_path):
    write_run(tmp_path, prompt=PROMPT | {"prompt_text": "", "json_schema": {"type": "object"}})
    write_run(tmp_path, run_id="run_2", prompt=PROMPT | {"video_level": {"json_schema": True}})
    here = source(tmp_path)
    prompt = here.prompt(here.prompt_run("idx_1", "run_1"))
    assert (prompt.json_schema, prompt.video_level_schema, prompt.prompt_text) == (
        {"type": "object"},
        None,
        "",
    )
    assert here.prompt(here.prompt_run("idx_1", "run_2")).video_level_schema is True


def test_a_run_folder_without_its_record_is_not_a_run_yet(tmp_path):
    write_run(tmp_path)
    (write_run(tmp_path, run_id="half") / "prompt_run.json").unlink()
    assert [run.run_id for run in source(tmp_path).prompt_runs("idx_1")] == ["run_1"]
    with pytest.raises(NotFoundError, match=r"half/prompt_run.json does not exist"):
        source(tmp_path).prompt_run("idx_1", "half")


def test_files_that_are_not_ours_are_ignored(tmp_path):
    run = write_run(tmp_path, {"segment_results.jsonl": lines(segment()), "segment_results.jsonl~": b"old"})
    for folder in (run, run.parent, run.parent.parent, run.parent.parent.parent, tmp_path):
        (folder / ".DS_Store").write_bytes(b"\0\1")
    (run.parent / "notes").mkdir()
    assert len(source(tmp_path).indexes()) == 1
    assert len(source(tmp_path).prompt_runs("idx_1")) == 1
    assert len(read(tmp_path)) == 1


def test_an_index_without_runs_has_none(tmp_path):
    write_index(tmp_path)
    assert source(tmp_path).prompt_runs("idx_1") == []


def test_a_missing_archive_says_what_to_do(tmp_path):
    for ask in (lambda s: s.indexes(), lambda s: s.index("x"), lambda s: s.prompt_runs("x")):
        with pytest.raises(NotFoundError, match=r"no archive at .*nowhere.*source\.path.*vv-exports demo"):
            ask(source(tmp_path / "nowhere"))


def test_an_unknown_index_names_at_most_ten_that_exist(tmp_path):
    for number in range(12):
        write_index(tmp_path, f"i {number:02}")
    with pytest.raises(NotFoundError) as caught:
        source(tmp_path).prompt_runs("nope")
    assert "i%2000, i%2001" in str(caught.value)
    assert "i%2009, and 2 more" in str(caught.value)
    assert "i 10" not in str(caught.value)


def test_broken_records_fail_the_listing_and_are_all_named_while_other_runs_stay_readable(tmp_path):
    write_run(tmp_path)
    for run_id in ("bad_1", "bad_2"):
        (write_run(tmp_path, run_id=run_id) / "prompt_run.json").write_text('{"run_id": ')
    with pytest.raises(SourceDataError, match=r"(?s)bad_1/prompt_run.json.*bad_2/prompt_run.json"):
        source(tmp_path).prompt_runs("idx_1")
    listing = source(tmp_path).listing("idx_1")
    assert [run.run_id for run in listing.runs] == ["run_1"]
    assert listing.problems.keys() == {"bad_1", "bad_2"}
    assert listing.run_ids == {"run_1", "bad_1", "bad_2"}
    assert source(tmp_path).prompt_run("idx_1", "run_1").run_id == "run_1"


def test_a_new_run_is_seen_by_a_source_that_listed_before(tmp_path):
    write_run(tmp_path)
    here = source(tmp_path)
    assert len(here.prompt_runs("idx_1")) == 1
    write_run(tmp_path, run_id="run_2")
    assert len(here.prompt_runs("idx_1")) == 2


def test_an_id_that_its_folder_does_not_stand_for_is_refused_with_both(tmp_path):
    write_run(tmp_path, run_id="run 1", folder="run 1")
    with pytest.raises(SourceDataError, match=r"folder 'run 1'.*rename the folder to 'run%201'"):
        source(tmp_path).prompt_runs("idx_1")
    write_index(tmp_path, "moved").rename(tmp_path / "indexes" / "away")
    with pytest.raises(SourceDataError, match=r"'away'.*index_id is 'moved'"):
        source(tmp_path).indexes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@pytest.mark.parametrize("extra", ["", "/"])
def test_any_id_can_be_listed_and_read(tmp_path, extra, index_id, run_id):
    archive = tmp_path / "archive[1]"  # a pattern, to whoever globs
    shutil.rmtree(archive, ignore_errors=True)
    write_run(archive, index_id=index_id + extra, run_id=extra + run_id)
    assert [index.index_id for index in source(archive).indexes()] == [index_id + extra]
    (run,) = source(archive).prompt_runs(index_id + extra)
    assert run == source(archive).prompt_run(index_id + extra, extra + run_id)
    assert source(archive).prompt(run).prompt_id == "prm_1"


@pytest.mark.parametrize("an_id", [".", ".."])
def test_ids_that_mean_a_folder_are_encoded_whole(tmp_path, an_id):
    index = tmp_path / "indexes" / an_id.replace(".", "%2E")
    run = index / "prompt_runs" / an_id.replace(".", "%2E")
    run.mkdir(parents=True)
    (index / "index.json").write_text(json.dumps({"index_id": an_id, "name": "Dots"}))
    (run / "prompt_run.json").write_text(json.dumps(RUN | {"run_id": an_id}))
    assert source(tmp_path).prompt_runs(an_id) == [source(tmp_path).prompt_run(an_id, an_id)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, r"one of pending, processing, .*completed_with_failures, .*; found 'done'"),
        ({"status": None}, r"expected status .* found None"),
        ({"status": ["completed"]}, r"expected status"),
        ({"executed_at": "yesterday"}, r"ISO 8601 time .* found 'yesterday'"),
        ({"executed_at": 1726300000}, r"expected executed_at to be a non-empty string, found 1726300000"),
        ({"executed_at": "0001-01-01T00:00:00+12:00"}, r"ISO 8601"),
        ({"prompt_id": ""}, r"expected prompt_id to be a non-empty string, found ''"),
        ({"prompt_name": None}, r"expected prompt_name"),
        ({"completed_segments": "12"}, r"expected completed_segments to be a count, found '12'"),
        ({"total_segments": -1}, r"expected total_segments to be a count, found -1"),
        ({"video_level_completed_items": True}, r"to be a count, found True"),
    ],
)
def test_a_wrong_record_is_refused_with_its_file_and_what_was_expected(tmp_path, change, message):
    write_run(tmp_path, **change)
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json: (?s:.*)" + message):
        source(tmp_path).prompt_run("idx_1", "run_1")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"{} {}"])
def test_a_record_that_is_no_object_is_refused_with_its_file(tmp_path, text):
    (write_run(tmp_path) / "prompt_run.json").write_bytes(text)
    with pytest.raises(SourceDataError, match=r"prompt_run\.json: expected "):
        source(tmp_path).prompt_run("idx_1", "run_1")
    (write_index(tmp_path) / "index.json").write_bytes(text)
    with pytest.raises(SourceDataError, match=r"index\.json: expected "):
        source(tmp_path).indexes()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PROMPT | {"prompt_id": "other"}, r"the run's prompt_id 'prm_1', found 'other'"),
        (PROMPT | {"prompt_text": None}, r"expected prompt_text to be a string, found None"),
        (PROMPT | {"name": ""}, r"expected name to be a non-empty string"),
        ({k: v for k, v in PROMPT.items() if k != "json_schema"}, r"json_schema .* found nothing"),
        (PROMPT | {"video_level": {"instructions_text": ""}}, r"video_level: expected json_schema"),
        (PROMPT | {"video_level": "yes"}, r"video_level: expected a JSON object, found 'yes'"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_file(tmp_path, prompt, message):
    write_run(tmp_path, prompt=prompt)
    here = source(tmp_path)
    with pytest.raises(SourceDataError, match=r"run_1/prompt\.json.*" + message):
        here.prompt(here.prompt_run("idx_1", "run_1"))


def test_a_missing_prompt_is_refused_with_its_file(tmp_path):
    (write_run(tmp_path) / "prompt.json").unlink()
    here = source(tmp_path)
    with pytest.raises(SourceDataError, match=r"run_1/prompt\.json does not exist"):
        here.prompt(here.prompt_run("idx_1", "run_1"))


def test_the_change_hint_is_the_same_until_a_file_changes(tmp_path):
    run_folder = write_run(tmp_path, {"segment_results.jsonl": lines(segment())})
    here = source(tmp_path)
    run = here.prompt_run("idx_1", "run_1")
    before = here.change_hint(run)
    assert here.change_hint(run) == before
    assert json.loads(json.dumps(before)) == before
    (run_folder / "segment_results.jsonl").write_bytes(lines(segment(), segment(1)))
    assert here.change_hint(run) != before


def test_an_archive_can_be_anywhere_that_fsspec_reads(tmp_path):
    write_run(tmp_path, {"segment_results.jsonl.gz": b""}, run_id="a b", status="failed")
    write_run(tmp_path, {"segment_results.jsonl": b"[]"}, run_id="c")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/elsewhere", recursive=True)
    try:
        here = LocalArchive("memory://elsewhere")
        assert [run.run_id for run in here.prompt_runs("idx_1")] == ["a b", "c"]
        assert here.change_hint(here.prompt_run("idx_1", "c"))
        with pytest.raises(SourceDataError, match=r"memory://.*elsewhere/.*/c/segment_results\.jsonl, line 1"):
            [page.documents for page in here.segment_results(here.prompt_run("idx_1", "c"))]
        with pytest.raises(NotFoundError, match="memory://"):
            LocalArchive("memory://nowhere").indexes()
    finally:
        memory.rm("/elsewhere", recursive=True)


@pytest.mark.parametrize("url", ["gopher://x", "zip://a::file:///nowhere.zip", "ftp://127.0.0.1:1/x", "reference://x"])
def test_a_url_that_fsspec_cannot_open_is_a_wrong_request(url):
    with pytest.raises(RequestError, match=rf"'{url}' cannot be opened: .*source\.path"):
        LocalArchive(url)


def test_the_catalog_has_the_archive():
    assert SOURCES["local_archive"] is LocalArchive


def test_the_encoding_of_folders_is_the_documented_one(tmp_path):
    an_id = "2026/09 “take 1”"
    assert quote(an_id, safe="~") == "2026%2F09%20%E2%80%9Ctake%201%E2%80%9D"
    write_run(tmp_path, run_id=an_id)
    assert source(tmp_path).prompt_run("idx_1", an_id).run_id == an_id
