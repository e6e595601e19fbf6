"""Whatever a file of an archive holds, memory is bounded, and the error names the place and the limit."""

import gzip
import json
import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import fsspec
import pytest
import zstandard

import vv_exports
from vv_exports.domain.json_text import count_values
from vv_exports.errors import SourceDataError
from vv_exports.sources import archive_files
from vv_exports.sources.documents import short
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.sources.archives import COMPRESSED, lines, segment, write_index, write_run


def segments_of(archive, **limits):
    here = LocalArchive(str(archive), **limits)
    run = here.prompt_run("idx_1", "run_1")
    return [document for page in here.segment_results(run) for document in page.documents]


@pytest.mark.parametrize("suffix", sorted(COMPRESSED))
@pytest.mark.parametrize("block", [64, 4 << 20])
def test_a_line_of_just_the_limit_is_read_and_one_more_byte_is_refused_with_its_line(
    tmp_path, suffix, block, monkeypatch
):
    monkeypatch.setattr(archive_files, "_BLOCK", block)
    long = lines(segment(1, metadata={"text": "x" * 900})).strip()
    text = lines(segment(0)) + b"\n" + long + b"\r\n"
    write_run(tmp_path, {f"segment_results{suffix}": COMPRESSED[suffix](text)})
    assert len(segments_of(tmp_path, max_record_bytes=len(long) + 1)) == 2  # CR is the line's, LF is not
    with pytest.raises(
        SourceDataError,
        match=rf"segment_results{suffix}, line 3: found more than {len(long):,} bytes, and the limit is {len(long):,}.*"
        r"source\.max_record_bytes",
    ):
        segments_of(tmp_path, max_record_bytes=len(long))


@pytest.mark.parametrize("blank", [b" ", b"\t", b"\r"])
def test_a_line_of_blanks_is_a_line(tmp_path, blank):
    write_run(tmp_path, {"segment_results.jsonl": lines(segment()) + blank * 1001})
    with pytest.raises(SourceDataError, match="line 2: found more than 1,000 bytes"):
        segments_of(tmp_path, max_record_bytes=1000)


def test_lines_of_blanks_are_skipped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_files, "_BLOCK", 16)
    write_run(tmp_path, {"segment_results.jsonl": b"\n" * 50 + b" \t\r\n" * 50 + b"[]"})
    with pytest.raises(SourceDataError, match=r"line 101: expected a JSON object"):
        segments_of(tmp_path)


def test_a_vertical_tab_is_no_blank_of_json(tmp_path):
    write_run(tmp_path, {"segment_results.jsonl": b"\n\x0b\n"})
    with pytest.raises(SourceDataError, match="line 2: expected one JSON document"):
        segments_of(tmp_path)


def test_lines_of_three_megabytes_are_normal(tmp_path):
    row = lines(segment(metadata={"words": [{"word": "and", "start": n / 4} for n in range(90_000)]}))
    assert len(row) > 3e6
    write_run(tmp_path, {"segment_results.jsonl": row})
    assert len(segments_of(tmp_path)[0]["metadata"]["words"]) == 90_000


DOCUMENTS = ["prompt_run.json", "prompt.json", "failed_segments.json", "index.json"]


def asked(archive, name, **limits):
    here = LocalArchive(str(archive), **limits)
    if name == "index.json":
        return here.index("idx_1")
    if name == "prompt_run.json":
        return here.listing("idx_1").complete()
    run = here.prompt_run("idx_1", "run_1")
    return here.prompt(run) if name == "prompt.json" else list(here.failed_segments(run))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_over_the_limit_is_refused_without_being_read(tmp_path, name):
    run = write_run(tmp_path)
    path = (write_index(tmp_path) if name == "index.json" else run) / name
    with path.open("wb") as file:
        file.truncate(3 << 30)  # no machine of the tests could hold it several times
    with pytest.raises(
        SourceDataError, match=rf"{name}: found 3,221,225,472 bytes, and the limit is 67,108,864.*max_document_bytes"
    ):
        asked(tmp_path, name)


def test_a_document_of_just_the_limit_is_read(tmp_path):
    size = (write_run(tmp_path) / "prompt_run.json").stat().st_size
    write_index(tmp_path, name="x")
    assert len(LocalArchive(str(tmp_path), max_document_bytes=size).prompt_runs("idx_1")) == 1
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json: found"):
        LocalArchive(str(tmp_path), max_document_bytes=size - 1).prompt_runs("idx_1")


def test_a_document_that_takes_many_times_its_text_is_refused(tmp_path):
    path = write_run(tmp_path) / "prompt_run.json"
    path.write_text('{"x":[' + "{}," * 1_000_000 + "{}]}")
    with pytest.raises(SourceDataError, match=r"prompt_run\.json: found 1,000,0\d\d values .* the limit is 49,152"):
        LocalArchive(str(tmp_path), max_document_bytes=16_384 * 64 * 3).prompt_runs("idx_1")  # 3 MiB: 49,152 values


def test_a_line_that_takes_many_times_its_text_is_refused_with_its_line(tmp_path):
    bomb = b'{"segment_id":"s","metadata":{"x":[' + b"{}," * 2_200_000 + b"{}]}}\n"
    write_run(tmp_path, {"segment_results.jsonl.zst": COMPRESSED[".jsonl.zst"](lines(segment()) + bomb)})
    with pytest.raises(SourceDataError, match=r"line 2: found 2,200,0\d\d values .*limit is 2,097,152.*max_record_byt"):
        segments_of(tmp_path)


@pytest.mark.parametrize("place", ["folder", "memory"])
@pytest.mark.parametrize("limit", [1 << 40, 1 << 63, 10**30])
def test_a_limit_beyond_all_memory_is_no_limit(tmp_path, place, limit):
    write_run(tmp_path, {"segment_results.jsonl": lines(segment())}, padding="x" * 100_000)
    if place == "memory":
        fsspec.filesystem("memory").put(str(tmp_path), f"/limit_{limit}", recursive=True)
    archive = tmp_path if place == "folder" else f"memory://limit_{limit}"
    assert len(segments_of(archive, max_document_bytes=limit, max_record_bytes=limit)) == 1


def test_of_a_large_document_in_a_store_only_its_beginning_is_fetched(tmp_path, monkeypatch):
    write_run(tmp_path, padding="x" * 200_000)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/large", recursive=True)
    fetched = []

    def cat_file(self, path, start=None, end=None, **options):
        fetched.append(self.store[self._strip_protocol(path)].getvalue()[start:end])
        return fetched[-1]

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    here = LocalArchive("memory://large", max_document_bytes=100_000)
    problem = here.listing("idx_1").problems["run_1"]
    assert re.search(r"prompt_run\.json: found 200,\d{3} bytes, and the limit is 100,000", str(problem))
    assert max(map(len, fetched)) == (64 << 10) + 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"[" + b"1," * 99 + b"1]", 101),
        (b"[" + b"{}," * 149 + b"{}]", 151),
        (b'["' + b",[{" * 99 + b'"]', 0),
        (b'["' + b'\\",' * 99 + b'"]', 0),
        (b"[{" + b'"a":1,' * 39 + b'"a":1}]', 122),
        (b"[" * 200 + b'"' + b"," * 300, 201),  # cut short
        (b"[" * 200 + b'",\\', 201),
    ],
)
def test_values_are_counted_outside_of_strings(text, values):
    assert count_values(text, 99) == values
    assert count_values(text, len(text)) == 0


def test_a_string_without_an_end_is_looked_at_once(tmp_path):
    write_run(tmp_path, {"segment_results.jsonl": b"[" * 2_000_000 + b'"' + b'\\",' * 1_000_000})
    with pytest.raises(SourceDataError, match="line 1: expected one JSON document"):
        segments_of(tmp_path)


@pytest.mark.parametrize(
    "value", ["[" * 50_000, "[" * 50_000 + "]" * 50_000, '{"a":' * 50_000], ids=["open", "closed", "objects"]
)
def test_nesting_without_end_is_that_lines_error(tmp_path, value):
    bomb = b'{"segment_id":"s","metadata":{"x":' + value.encode() + b"}}\n"
    write_run(tmp_path, {"segment_results.jsonl": lines(segment()) + bomb})
    with pytest.raises(SourceDataError, match=r"line 2: expected one JSON document: .*nested too deep"):
        segments_of(tmp_path)


@pytest.mark.parametrize("value", [[[[{}] * 1000]] * 1000, "x" * 5_000_000, 10**4000, {"a" * 9000: 1}, ["é" * 9000]])
def test_a_message_shows_a_little_of_a_large_value(value):
    assert len(short(value)) <= 81


def test_one_huge_line_does_not_share_its_page_with_others_of_its_size(tmp_path):
    rows = [segment(n, metadata={"text": "x" * (5 << 20)}) for n in range(4)]
    write_run(tmp_path, {"segment_results.jsonl.zst": COMPRESSED[".jsonl.zst"](lines(*rows))})
    here = LocalArchive(str(tmp_path))
    pages = [len(page.documents) for page in here.segment_results(here.prompt_run("idx_1", "run_1"))]
    assert pages == [1, 1, 1, 1]


def test_a_manifest_of_many_failed_segments_comes_in_pages_with_the_place_of_each(tmp_path):
    failed = [{"segment_id": f"s{n}"} for n in range(9_001)]
    failed[8_500]["segment_id"] = ""
    write_run(
        tmp_path, {"failed_segments.json": json.dumps({"videos": [{"video_id": "v", "segments": failed}]}).encode()}
    )
    here = LocalArchive(str(tmp_path))
    pages = here.failed_segments(here.prompt_run("idx_1", "run_1"))
    assert [len(next(pages).documents), len(next(pages).documents)] == [4000, 4000]
    with pytest.raises(SourceDataError, match=r"videos\[0\]\.segments\[8500\]: expected segment_id"):
        next(pages)


@pytest.mark.parametrize("compress", [zstandard.ZstdCompressor().compress, gzip.compress])
def test_empty_frames_between_others_end_nothing(tmp_path, compress):
    suffix = "gz" if compress is gzip.compress else "zst"
    data = compress(b"") + compress(lines(segment(0))) + compress(b"") * 2000 + compress(lines(segment(1)))
    write_run(tmp_path, {f"segment_results.jsonl.{suffix}": data})
    assert len(segments_of(tmp_path)) == 2
    (tmp_path / f"indexes/idx_1/prompt_runs/run_1/segment_results.jsonl.{suffix}").write_bytes(data + b"more")
    with pytest.raises(SourceDataError, match="cut short or damaged"):
        segments_of(tmp_path)


def test_a_long_file_says_how_far_it_is_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(archive_files, "_BLOCK", 1 << 20)
    monkeypatch.setattr(archive_files, "_PROGRESS_SECONDS", 0)
    write_run(tmp_path, {"segment_results.jsonl.zst": COMPRESSED[".jsonl.zst"](b"\n" * (3 << 20))})
    with caplog.at_level(logging.INFO, "vv_exports"):
        assert segments_of(tmp_path) == []
    assert "run_1/segment_results.jsonl.zst: 3 MiB of text read, up to line 2097153" in caplog.text


@pytest.mark.parametrize("unit", [b"x", b" ", b"\n", b"[{},"])
def test_a_small_file_that_unpacks_to_200_MB_takes_the_memory_of_a_block_and_a_line(tmp_path, unit):
    run = write_run(tmp_path)
    with zstandard.ZstdCompressor(level=1).stream_writer((run / "segment_results.jsonl.zst").open("wb")) as file:
        for _ in range(48):
            file.write(unit * ((4 << 20) // len(unit)))
    assert (run / "segment_results.jsonl.zst").stat().st_size < 50_000
    program = textwrap.dedent("""
        import sys
        from vv_exports.errors import SourceDataError
        from vv_exports.sources.local_archive import LocalArchive
        from vv_exports_tests.memory import peak_bytes
        here = LocalArchive(sys.argv[1])
        run = here.prompt_run("idx_1", "run_1")
        before = peak_bytes()
        try:
            print(sum(len(page.documents) for page in here.segment_results(run)))
        except SourceDataError as error:
            print(error)
        print(peak_bytes() - before)
    """)
    said, peak = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(vv_exports.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert said == "0" if unit == b"\n" else "line 1: found more than 16,777,216 bytes" in said
    assert int(peak) < 120e6
