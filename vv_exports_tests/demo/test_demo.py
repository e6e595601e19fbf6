"""The demo: the same everywhere, small, and with everything in it that a real archive surprises with."""

import re
from collections import Counter
from pathlib import Path
from unittest.mock import sentinel

import pytest

import vv_exports.demo
from vv_exports.config import parse_config
from vv_exports.demo import write_demo
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.errors import RequestError
from vv_exports.snapshots.reading import read_run
from vv_exports.sources.local_archive import LocalArchive

PACKAGE = Path(vv_exports.demo.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def archive(folder):
    return LocalArchive(str(folder / ".vv_exports" / "archive"))


@pytest.fixture(scope="module")
def runs(archive):
    return {run.run_id: run for run in archive.prompt_runs("idx_archive")}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def documents(archive, run, what="segment_results"):
    return [document for page in getattr(archive, what)(run) for document in page.documents]


def test_two_folders_get_the_same_bytes(folder, tmp_path):
    write_demo(tmp_path)
    assert content(tmp_path) == content(folder)


def test_writing_it_again_writes_nothing_and_says_so(tmp_path):
    first = write_demo(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = write_demo(tmp_path)
    assert (first.already_there, again.already_there) == (False, True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert "already there" in str(again)
    assert "already there" not in str(first)


def test_another_configuration_is_not_overwritten_and_nothing_is_written_beside_it(tmp_path):
    (tmp_path / "vv_exports.yaml").write_text("source: {}\n")
    with pytest.raises(RequestError, match=r"vv_exports\.yaml exists and is not the demo's: nothing was written"):
        write_demo(tmp_path)
    assert content(tmp_path) == {Path("vv_exports.yaml"): b"source: {}\n"}


def test_a_run_that_an_interrupted_writing_left_is_completed_and_a_changed_one_stays(folder, tmp_path):
    write_demo(tmp_path)
    index = tmp_path / ".vv_exports" / "archive" / "indexes" / "idx_archive" / "prompt_runs"
    (index / "run_124" / "prompt_run.json").unlink()
    (index / "run_124" / "segment_results.jsonl.zst").write_bytes(b"half")
    changed = index / "run_125" / "segment_results.jsonl.zst"
    changed.write_bytes(b"mine")
    assert not write_demo(tmp_path).already_there
    assert changed.read_bytes() == b"mine"
    changed.write_bytes(content(folder)[changed.relative_to(tmp_path)])
    assert content(tmp_path) == content(folder)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot be written to .*file"):
        write_demo(tmp_path / "file")


def test_the_summary_tells_what_the_archive_holds(tmp_path, archive, runs):
    summary = write_demo(tmp_path)
    assert summary.prompt_runs == len(runs) == 11
    assert summary.segment_results == sum(len(documents(archive, run)) for run in runs.values())
    assert 400 <= summary.segment_results <= 900
    assert summary.videos == len({d["video_id"] for d in documents(archive, runs["run_132"])}) == 7
    assert summary.prompts == len({run.prompt_id for run in runs.values()}) == 3


def test_every_status_of_a_run_that_has_begun_is_there(runs):
    count = Counter(run.status for run in runs.values())
    assert set(count) == set(RunStatus) - {RunStatus.PENDING, RunStatus.UNKNOWN}
    assert [count[s] for s in ("completed_with_failures", "failed", "cancelled", "processing")] == [
        1,
        1,
        1,
        1,
    ]
    assert runs["run_123"].status == runs["run_124"].status == RunStatus.COMPLETED
    assert runs["run_127"].record["error_message"]


def test_the_runs_go_from_september_to_november(runs):
    times = [run.executed_at for run in runs.values()]
    assert list(runs) == [f"run_{number}" for number in range(123, 134)]
    assert (times[0].year, times[0].month, times[-1].month) == (2026, 9, 11)


def test_every_compression_is_there(folder):
    names = {path.name for path in content(folder)}
    assert {f"segment_results.jsonl{suffix}" for suffix in ("", ".zst", ".gz")} <= names
    assert {"video_results.jsonl.zst", "failed_segments.json"} <= names


def test_a_finished_run_has_a_result_or_a_failure_for_each_segment(archive, runs):
    failed = documents(archive, runs["run_126"], "failed_segments")
    answered = documents(archive, runs["run_126"])
    assert len(failed) == 5
    assert len(answered) + len(failed) == runs["run_126"].count("total_segments") == 85
    assert not {d["segment_id"] for d in failed} & {d["segment_id"] for d in answered}
    assert {d["retryable"] for d in failed} == {True, False}


def test_highlights_have_video_results_with_chapters_that_cover_the_video(archive, runs):
    results = documents(archive, runs["run_131"], "video_results")
    assert len(results) == 7
    for result in results:
        chapters = result["metadata"]["chapters"]
        assert chapters[0]["start_seconds"] == 0
        assert [c["end_seconds"] for c in chapters[:-1]] == [c["start_seconds"] for c in chapters[1:]]
    assert not documents(archive, runs["run_129"], "video_results")


def test_a_second_brand_can_be_asked_for(archive, runs):
    second = [
        d["metadata"]["brands"][1]["name"] for d in documents(archive, runs["run_123"]) if d["metadata"]["brands"][1:]
    ]
    assert len(second) > 20
    assert "Velo Athletic" in second


def test_results_stand_in_the_order_that_is_cheapest_to_read(archive, runs):
    for run in runs.values():
        keys = [(d["video_id"], d["start_time"], d["segment_id"]) for d in documents(archive, run)]
        assert keys == sorted(keys)


def at(archive, runs, run_id, segment_id):
    return next(d["metadata"] for d in documents(archive, runs[run_id]) if d["segment_id"] == segment_id)


def test_some_answers_break_their_schema_in_each_way(archive, runs):
    def metadata(run_id, segment_id):
        return at(archive, runs, run_id, segment_id)

    assert metadata("run_123", "seg_football_semifinal_0003")["brands"][0]["on_screen_seconds"] == "about ten"
    assert metadata("run_123", "seg_launch_lumen_aurora_0002")["sponsor_note"]["paid"] is True
    assert metadata("run_123", "seg_doc_tidal_coast_0010")["mood"] is None
    assert "viewer_advisory" not in metadata("run_123", "seg_council_0908_0005")
    assert metadata("run_124", "seg_news_evening_0903_0003")["speaker_count"] == 2**65
    assert isinstance(metadata("run_124", "seg_football_semifinal_0008")["scene"]["people"], str)
    assert metadata("run_125", "seg_launch_lumen_aurora_0004")["score"] == 94.5


def test_optional_and_nullable_properties_are_sometimes_absent_and_sometimes_null(archive, runs):
    rows = [d["metadata"] for d in documents(archive, runs["run_132"])]
    assert 5 < sum("cut_count" not in row for row in rows) < 60
    assert 5 < sum(row["transcript_excerpt"] is None for row in rows) < 60
    assert any(person["role"] is None for row in rows for person in row["scene"]["people"])


def test_documents_carry_links_with_tokens_and_markers(archive, runs):
    every = [d for run in runs.values() for d in documents(archive, run)]
    assert all("?token=" in d["segment_uri"] and d["gcs_uri"].startswith("gs://") for d in every)
    assert any(d["marker"] for d in every)
    assert any(d["metadata_markers"] for d in every)
    assert any(d["transcription_succeeded"] is None and d["processing_warning"] for d in every)


def test_every_deliverable_run_can_be_read_into_a_snapshot_and_the_misfits_are_rescued(archive, runs, tmp_path):
    rescued = {}
    for run in runs.values():
        if run.deliverable:
            (tmp_path / run.run_id).mkdir()
            with archive.results(run, sentinel.stage) as results:
                rescued[run.run_id] = read_run(results, run, tmp_path / run.run_id).rescued_rows
    assert len(rescued) == 8
    assert all(rescued[run_id] for run_id in ("run_123", "run_124", "run_125", "run_126", "run_128", "run_132"))
    assert not rescued["run_130"]


def test_the_configuration_is_sound_and_has_what_the_demo_shows(folder):
    config = parse_config((folder / "vv_exports.yaml").read_text(), folder=folder, where="the demo")
    automations = config.index("idx_archive").automations
    assert {name: (a.format, a.paused, a.subpath) for name, a in automations.items()} == {
        "review-team": ("parquet", False, "exports/review-team"),
        "newsroom": ("csv", True, "exports/newsroom"),
    }
    assert config.source.path == str(folder / ".vv_exports" / "archive")
    assert config.connector("conn_export").boundary == str(folder / "deliveries")
    assert config.connector("conn_ingest").scopes == {"import"}


def test_the_package_stays_small_and_has_no_secrets_in_it():
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 300_000
    assert not any(re.search(rb"AKIA|BEGIN [A-Z ]*PRIVATE KEY", path.read_bytes()) for path in files)
