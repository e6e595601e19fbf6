"""Results: how LocalArchive reads them, and that every refusal names the file and the line."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import sentinel

import fsspec
import pytest

import vv_exports
from vv_exports.errors import RequestError, SourceDataError, TransientError
from vv_exports.sources import archive_files
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.sources.archives import (
    COMPRESSED,
    RUN,
    WITH_VIDEO_LEVEL,
    lines,
    read,
    segment,
    video,
    write_run,
)


@pytest.fixture(params=sorted(COMPRESSED))
def suffix(request):
    return request.param


def write_segments(archive, data, suffix=".jsonl", **fields):
    return write_run(archive, {f"segment_results{suffix}": COMPRESSED[suffix](data)}, **fields)


def test_results_are_read_in_the_order_of_the_file_with_their_lines(tmp_path, suffix):
    documents = [segment(2), segment(0, metadata={"n": 2**70, "x": [None, {"é": "\u2028"}]}), segment(1)]
    write_segments(tmp_path, lines(*documents), suffix, completed_segments=3)
    found = read(tmp_path)
    assert [document for document, _ in found] == documents
    assert [where.rpartition(", ")[2] for _, where in found] == ["line 1", "line 2", "line 3"]
    assert found[0][1].startswith(f"{tmp_path}/indexes/idx_1/prompt_runs/run_1/segment_results{suffix}, ")


def test_a_byte_order_mark_crlf_blank_lines_and_an_open_last_line_are_accepted(tmp_path, suffix):
    text = b"\xef\xbb\xbf" + lines(segment(0)) + b"\n \r\n" + lines(segment(1)) + lines(segment(2)).strip()
    write_segments(tmp_path, text.replace(b"}\n", b"}\r\n"), suffix)
    found = read(tmp_path)
    assert [document["segment_id"] for document, _ in found] == ["seg_0", "seg_1", "seg_2"]
    assert [where.rpartition(" ")[2] for _, where in found] == ["1", "4", "5"]


@pytest.mark.parametrize("block", [1, 7, 64, 300])
def test_lines_and_their_numbers_do_not_depend_on_where_blocks_are_cut(tmp_path, suffix, block, monkeypatch):
    monkeypatch.setattr(archive_files, "_BLOCK", block)
    documents = [segment(n, metadata={"text": "ö" * (n * 17 % 50)}) for n in range(30)]
    write_segments(tmp_path, b"\xef\xbb\xbf" + lines(*documents[:15]) + b"\n" + lines(*documents[15:]), suffix)
    found = read(tmp_path)
    assert [document for document, _ in found] == documents
    assert [int(where.rpartition(" ")[2]) for _, where in found] == [*range(1, 16), *range(17, 32)]


def test_a_line_that_is_cut_in_the_middle_is_named(tmp_path, suffix):
    whole = lines(segment(0), segment(1), segment(2))
    write_segments(tmp_path, whole[:-9], suffix)
    with pytest.raises(SourceDataError, match=re.escape(f"segment_results{suffix}, line 3: expected one JSON")):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl.zst", ".jsonl.gz"])
def test_a_compressed_stream_that_is_cut_anywhere_is_refused(tmp_path, suffix):
    whole = COMPRESSED[suffix](lines(segment(0), segment(1)))
    run = write_run(tmp_path)
    path = run / f"segment_results{suffix}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceDataError, match=re.escape(f"{path}: ")):
            read(tmp_path)
    path.write_bytes(whole)
    assert len(read(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl.zst", ".jsonl.gz"])
def test_a_large_compressed_stream_without_its_end_is_refused_after_the_pages_that_are_whole(tmp_path, suffix):
    documents = [segment(n, metadata={"noise": os.urandom(40).hex()}) for n in range(60_000)]
    whole = COMPRESSED[suffix](lines(*documents))
    write_run(tmp_path, {f"segment_results{suffix}": whole[:-5]})
    here = LocalArchive(str(tmp_path))
    pages = here.segment_results(here.prompt_run("idx_1", "run_1"))
    assert len(next(pages).documents) > 1000
    with pytest.raises(SourceDataError, match="cut short or damaged"):
        list(pages)


@pytest.mark.parametrize("suffix", [".jsonl.zst", ".jsonl.gz"])
def test_several_frames_in_a_row_are_one_text(tmp_path, suffix):
    data = COMPRESSED[suffix](lines(segment(0))) + COMPRESSED[suffix](lines(segment(1)))
    write_run(tmp_path, {f"segment_results{suffix}": data}, completed_segments=2)
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize("suffix", [".jsonl.zst", ".jsonl.gz"])
def test_damage_inside_a_compressed_stream_is_refused(tmp_path, suffix):
    data = bytearray(COMPRESSED[suffix](lines(*map(segment, range(50)))))
    data[len(data) // 2] ^= 0xFF
    write_run(tmp_path, {f"segment_results{suffix}": bytes(data)})
    with pytest.raises(SourceDataError, match=re.escape(f"segment_results{suffix}")):
        read(tmp_path)


ROWS = [
    ([], r"a JSON object, found \[\]"),
    (segment(segment_id=""), r"segment_id to be a non-empty string, found ''"),
    (segment(segment_id=7), r"segment_id to be a non-empty string, found 7"),
    ({"metadata": {}}, r"segment_id to be a non-empty string, found nothing"),
    (segment(metadata=None), r"metadata to be an object, found None"),
    (segment(metadata=[1]), r"metadata to be an object, found \[1\]"),
    ({"segment_id": "s"}, r"metadata to be an object, found nothing"),
    (segment(metadata_text=5), r"metadata_text to be a string, found 5"),
    (segment(run_id="run_2"), r"run_id to be the run's, 'run_1', found 'run_2'"),
    (segment(prompt_run_id="run_2"), r"prompt_run_id to be the run's, 'run_1', found 'run_2'"),
    (segment(prompt_id="prm_2"), r"prompt_id to be the run's, 'prm_1', found 'prm_2'"),
    (segment(prompt_id={}), r"prompt_id to be the run's, 'prm_1', found \{\}"),
]


@pytest.mark.parametrize(("row", "message"), ROWS)
def test_a_wrong_segment_result_is_refused_with_its_line(tmp_path, row, message):
    write_segments(tmp_path, lines(segment(0)) + b"\n" + lines(row, segment(2)))
    with pytest.raises(SourceDataError, match=r"segment_results\.jsonl, line 3: expected .*" + message):
        read(tmp_path)


def test_ids_that_are_null_or_right_are_accepted(tmp_path):
    right = segment(0, run_id="run_1", prompt_run_id="run_1", prompt_id="prm_1", metadata_text="calm")
    null = segment(1, run_id=None, prompt_run_id=None, prompt_id=None, metadata_text=None)
    write_segments(tmp_path, lines(right, null, segment(2)))
    assert len(read(tmp_path)) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (video(video_id=""), r"video_id to be a non-empty string, found ''"),
        ({"metadata": {}}, r"video_id to be a non-empty string, found nothing"),
        (video(metadata="x"), r"metadata to be an object, found 'x'"),
        (video(run_id="run_2"), r"run_id to be the run's"),
    ],
)
def test_a_wrong_video_result_is_refused_with_its_line(tmp_path, row, message):
    write_run(tmp_path, {"video_results.jsonl": lines(video(1), row)}, prompt=WITH_VIDEO_LEVEL)
    with pytest.raises(SourceDataError, match=r"video_results\.jsonl, line 2: expected .*" + message):
        read(tmp_path, "video_results")


def test_segment_results_that_contradict_the_record_are_refused_after_the_last_page(tmp_path, suffix):
    write_segments(tmp_path, lines(segment(0), segment(1)), suffix, completed_segments=3)
    here = LocalArchive(str(tmp_path))
    pages = here.segment_results(here.prompt_run("idx_1", "run_1"))
    assert len(next(pages).documents) == 2
    with pytest.raises(SourceDataError, match=r"segment_results.*holds 2 documents.*completed_segments = 3"):
        next(pages)


@pytest.mark.parametrize("status", ["completed", "completed_with_failures"])
@pytest.mark.parametrize("counter", [{}, {"completed_segments": None}, {"completed_segments": 4}])
def test_a_finished_run_without_its_segment_results_is_refused(tmp_path, status, counter):
    write_run(tmp_path, status=status, **counter)
    with pytest.raises(SourceDataError, match=rf"run_1/segment_results\.jsonl does not exist.*run is {status}"):
        read(tmp_path)


@pytest.mark.parametrize("fields", [{"completed_segments": 0}, {"status": "failed"}, {"status": "processing"}])
def test_a_run_that_may_have_no_results_has_none(tmp_path, fields):
    write_run(tmp_path, **fields)
    assert read(tmp_path) == read(tmp_path, "video_results") == read(tmp_path, "failed_segments") == []


@pytest.mark.parametrize("stem", ["segment_results", "video_results", "failed_segments"])
def test_the_same_results_twice_are_refused(tmp_path, stem):
    write_run(tmp_path, {f"{stem}.jsonl": b"", f"{stem}.jsonl.gz": b""}, prompt=WITH_VIDEO_LEVEL)
    with pytest.raises(SourceDataError, match=rf"run_1 holds {stem}\.jsonl and {stem}\.jsonl\.gz"):
        read(tmp_path, stem)


@pytest.mark.parametrize(
    ("counters", "good"),
    [
        ({"video_level_completed_items": 1, "video_level_partial_items": 1}, True),
        ({"video_level_completed_items": 2}, True),
        ({"video_level_partial_items": 5}, True),
        ({"video_level_completed_items": 2, "video_level_partial_items": 1}, False),
        ({"video_level_completed_items": 0}, False),
    ],
)
def test_video_results_agree_with_the_record(tmp_path, counters, good):
    write_run(tmp_path, {"video_results.jsonl": lines(video(0), video(1))}, prompt=WITH_VIDEO_LEVEL, **counters)
    if good:
        assert len(read(tmp_path, "video_results")) == 2
    else:
        with pytest.raises(SourceDataError, match=r"video_results\.jsonl holds 2 .*video_level_completed_items"):
            read(tmp_path, "video_results")


def test_video_results_that_the_record_states_must_be_there(tmp_path):
    write_run(tmp_path, prompt=WITH_VIDEO_LEVEL, video_level_completed_items=2)
    with pytest.raises(SourceDataError, match=r"video_results\.jsonl does not exist"):
        read(tmp_path, "video_results")


def test_video_results_of_a_prompt_without_a_video_level_are_refused(tmp_path):
    write_run(tmp_path, {"video_results.jsonl": lines(video())})
    with pytest.raises(SourceDataError, match=r"video_results\.jsonl .*no video_level"):
        read(tmp_path, "video_results")
    source = LocalArchive(str(tmp_path))
    # Whoever reads all results of such a run asks for no video results.
    with (
        pytest.raises(SourceDataError, match=r"video_results\.jsonl .*no video_level"),
        source.results(source.prompt_run("idx_1", "run_1"), sentinel.stage),
    ):
        pass


def manifest(**fields):
    videos = [
        {"video_id": "vid_a", "segments": [{"segment_id": "s1", "retryable": True}, {"segment_id": "s2"}]},
        {"video_id": "vid_b", "segments": [{"segment_id": "s3", "video_id": "vid_b"}]},
    ]
    return {"run_id": "run_1", "failed_segments": 3, "videos": videos} | fields


def write_manifest(archive, value, **fields):
    data = json.dumps(value, indent=2).encode()
    return write_run(archive, {"failed_segments.json": data}, status="completed_with_failures", **fields)


def test_the_manifest_of_failed_segments_is_flattened_with_the_place_of_each(tmp_path):
    write_manifest(tmp_path, manifest(), total_segments=10, completed_segments=7)
    found = read(tmp_path, "failed_segments")
    assert [(d["video_id"], d["segment_id"]) for d, _ in found] == [
        ("vid_a", "s1"),
        ("vid_a", "s2"),
        ("vid_b", "s3"),
    ]
    assert found[0][0]["retryable"] is True
    assert found[2][1].endswith("failed_segments.json, videos[1].segments[0]")


def test_lines_of_failed_segments_are_as_good_as_the_manifest(tmp_path, suffix):
    data = COMPRESSED[suffix](lines({"video_id": "vid_a", "segment_id": "s1"}))
    write_run(tmp_path, {f"failed_segments{suffix}": data}, total_segments=3, completed_segments=2)
    assert read(tmp_path, "failed_segments")[0][0] == {"video_id": "vid_a", "segment_id": "s1"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r": expected a JSON object, found \[\]"),
        (manifest(run_id="run_2"), r": expected run_id 'run_1', found 'run_2'"),
        (manifest(videos=None), r": expected videos to be an array, found None"),
        (manifest(videos=["x"]), r", videos\[0\]: expected a JSON object, found 'x'"),
        (
            manifest(videos=[{"video_id": "v"}]),
            r", videos\[0\]: expected segments to be an array, found nothing",
        ),
        (
            manifest(videos=[{"video_id": "v", "segments": [3]}]),
            r", videos\[0\]\.segments\[0\]: expected an object",
        ),
        (
            manifest(videos=[{"video_id": "v", "segments": [{"segment_id": "s", "video_id": "w"}]}]),
            r".*segments\[0\]: expected an object with the video_id of its video, 'v'",
        ),
        (
            manifest(videos=[{"segments": [{"segment_id": "s"}]}], failed_segments=1),
            r".*segments\[0\]: expected video_id to be a non-empty string, found None",
        ),
        (manifest(failed_segments=4), r" lists 3 segments, but its failed_segments is 4"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_place(tmp_path, value, message):
    write_manifest(tmp_path, value)
    with pytest.raises(SourceDataError, match=r"failed_segments\.json" + message):
        read(tmp_path, "failed_segments")


def test_failed_segments_that_contradict_the_record_are_refused(tmp_path):
    write_manifest(tmp_path, manifest(), total_segments=10, completed_segments=8)
    with pytest.raises(SourceDataError, match=r"holds 3 .*total_segments - completed_segments = 2"):
        read(tmp_path, "failed_segments")


def test_a_run_that_was_stopped_has_segments_that_neither_failed_nor_completed(tmp_path):
    failed = lines({"video_id": "v", "segment_id": "s"})
    write_run(
        tmp_path,
        {"failed_segments.jsonl": failed},
        status="cancelled",
        total_segments=9,
        completed_segments=2,
    )
    assert len(read(tmp_path, "failed_segments")) == 1


def on_a_store(archive, url):
    """The archive on fsspec's store in memory, whose file system class the tests of failing stores change."""
    fsspec.filesystem("memory").put(str(archive), url.removeprefix("memory:/"), recursive=True)
    return LocalArchive(url)


def test_a_file_of_a_store_that_may_not_be_read_is_a_matter_of_permissions(tmp_path, monkeypatch):
    write_segments(tmp_path, lines(segment()))
    here = on_a_store(tmp_path, "memory://refused")
    run = here.prompt_run("idx_1", "run_1")

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for call in ("_open", "cat_file"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), call, refused)
    with pytest.raises(RequestError, match=r"segment_results\.jsonl may not be read.*permissions"):
        list(here.segment_results(run))
    with pytest.raises(RequestError, match=r"prompt_run\.json may not be read"):
        here.prompt_run("idx_1", "run_1")


def test_a_store_that_fails_under_a_compressed_file_is_not_taken_for_damage(tmp_path, suffix, monkeypatch):
    write_segments(tmp_path, lines(segment()), suffix)
    here = on_a_store(tmp_path, f"memory://failing{suffix}")
    run = here.prompt_run("idx_1", "run_1")

    class Lost:
        def read(self, size):
            raise ConnectionResetError("the storage hung up")

        def close(self):
            pass

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "_open", lambda *a, **k: Lost())
    with pytest.raises(TransientError, match="the storage hung up"):
        list(here.segment_results(run))


@pytest.fixture(scope="module")
def many_lines():
    lines = (json.dumps(segment(n, metadata={"text": f"{n:08} " + "and so on " * 20})) for n in range(200_000))
    return "".join(line + "\n" for line in lines).encode()


@pytest.mark.slow
def test_reading_200_000_lines_takes_the_memory_of_a_few_pages(tmp_path, many_lines, suffix):
    write_segments(tmp_path, many_lines, suffix, completed_segments=200_000)
    program = textwrap.dedent("""
        import sys, tracemalloc
        from vv_exports.sources.local_archive import LocalArchive
        source = LocalArchive(sys.argv[1])
        run = source.prompt_run("idx_1", "run_1")
        tracemalloc.start()
        rows = sum(len(page.documents) for page in source.segment_results(run))
        print(rows, tracemalloc.get_traced_memory()[1])
    """)
    environment = os.environ | {"PYTHONPATH": str(Path(vv_exports.__file__).parents[1])}
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows, peak = map(int, output.split())
    assert rows == 200_000
    assert len(many_lines) > 55e6
    assert peak < 55e6


def test_the_documented_example_is_an_archive(tmp_path):
    page = (Path(vv_exports.__file__).parents[1] / "docs" / "archive-format.md").read_text()
    example = page.split("## A complete minimal archive")[1].split("\n## ")[0]
    for path, content in re.findall(r"`(indexes/[^`]+)`\n```json\n(.*?)```", example, re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert [document["metadata"]["mood"] for document, _ in read(tmp_path, run_id="run_7", index_id="shop")] == [
        "calm",
        "tense",
    ]
    here = LocalArchive(str(tmp_path))
    assert here.prompt(here.prompt_run("shop", "run_7")).name == "Mood"


def test_the_documented_failed_segments_are_read_alike(tmp_path):
    page = (Path(vv_exports.__file__).parents[1] / "docs" / "archive-format.md").read_text()
    section = page.split("## `failed_segments.json`")[1].split("\n## ")[0]
    as_manifest, as_line = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    write_run(tmp_path, {"failed_segments.json": as_manifest.encode()}, run_id="run_7")
    write_run(tmp_path, {"failed_segments.jsonl": as_line.encode()}, run_id="run_8")
    found = [read(tmp_path, "failed_segments", run_id)[0][0] for run_id in ("run_7", "run_8")]
    assert found[0] == found[1]
    assert RUN["run_id"] not in as_line
