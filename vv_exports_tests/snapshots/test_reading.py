"""A run is read in one pass, into files that hold all of its rows in order, in memory that does not grow."""

import functools
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import vv_exports
from vv_exports.errors import SourceDataError
from vv_exports.formats import parquet
from vv_exports.snapshots.tables import table_of
from vv_exports.sources import archive_files
from vv_exports_tests.archives import SCHEMA, read_archived_run, segment, write_run


def reading(folder, name="spool"):
    (folder / name).mkdir()
    return read_archived_run(folder / "archive", folder / name)


def rows_of(files):
    return [row for file in files for row in pq.read_table(file.path).to_pylist()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_pages(monkeypatch):
    """Pages of a few rows and row groups of a few pages, so that a small run has many of both."""
    monkeypatch.setattr(archive_files, "_BLOCK", 3_000)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 50)


def test_a_run_becomes_one_file_for_each_table_that_has_rows(tmp_path):
    write_run(
        tmp_path / "archive",
        video_level_schema=SCHEMA,
        videos=[{"video_id": "vid_1", "metadata": {"title": "x"}}],
        failures=[{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}],
    )
    found = reading(tmp_path)
    assert names(tmp_path / "spool") == [
        "failures-00000.parquet",
        "segments-00000.answers.parquet",
        "segments-00000.parquet",
        "videos-00000.answers.parquet",
        "videos-00000.parquet",
    ]
    assert {name: [file.rows for file in files] for name, files in found.files.items()} == {
        "segments": [3],
        "videos": [1],
        "failures": [1],
    }
    for files in found.files.values():
        for file in files:
            content = file.path.read_bytes()
            assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert rows_of(found.files["failures"])[0]["failed_operations"] == ["transcription"]


def test_a_run_without_results_leaves_a_trace_and_only_one(tmp_path):
    write_run(tmp_path / "archive", segments=[], video_level_schema=SCHEMA, videos=[], failures=[])
    found = reading(tmp_path)
    assert {name: [file.rows for file in files] for name, files in found.files.items()} == {"segments": [0]}
    assert pq.read_schema(found.files["segments"][0].path) == table_of("segments", SCHEMA).schema


def test_rescued_rows_and_places_without_a_type_are_counted_and_named(tmp_path):
    schema = {"properties": {"title": {"type": "string"}, "any": {}, "deep": {"type": "array", "items": {}}}}
    write_run(
        tmp_path / "archive",
        schema=schema,
        video_level_schema={"properties": {"x": {"type": ["string", "integer"]}}},
        videos=[{"video_id": "vid_1", "metadata": {"y": 1}}],
        segments=[segment(1, metadata={"title": 1, "any": []}), segment(2, metadata={"title": "x"}), segment(3, new=1)],
    )
    found = reading(tmp_path)
    assert found.rescued_rows == 3
    assert set(found.kept_as_json) == {"segments/any", "segments/deep", "videos/x"}
    assert "different types" in found.kept_as_json["videos/x"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize(("rows", "parts"), [(99, [99]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_a_table_goes_on_in_another_file_after_so_many_rows(tmp_path, monkeypatch, rows, parts, order):
    segments = [segment(number, start_time=float(number)) for number in range(rows)]
    if order == "shuffled":
        random.Random(5).shuffle(segments)
    write_run(tmp_path / "archive", segments=segments)
    whole = reading(tmp_path, "whole")
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 100)
    found = reading(tmp_path)
    files = found.files["segments"]
    assert [file.rows for file in files] == parts
    assert [file.path.name for file in files] == [f"segments-{number:05}.parquet" for number in range(len(parts))]
    assert [row["start_time"] for row in rows_of(files)] == [float(number) for number in range(rows)]
    assert rows_of(files) == rows_of(whole.files["segments"])
    assert found.data_version == whole.data_version, "how rows lie in files is no part of the content"


@pytest.mark.usefixtures("small_pages")
def test_a_table_goes_on_in_another_file_where_rows_are_large(tmp_path, monkeypatch):
    """A writer of Parquet remembers something of each column in each row group until its file is complete."""
    long = [segment(n, start_time=float(n), metadata={"title": "x" * (5_000 if n % 10 == 9 else 5)}) for n in range(95)]
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(300)}}
    columns = table_of("segments", SCHEMA).column.width
    monkeypatch.setattr("vv_exports.snapshots.reading._PART_BYTES_OF_COLUMNS", 10_000 * columns)
    found = {}
    for name, order in (("sorted", 1), ("reversed", -1)):
        write_run(tmp_path / name / "archive", segments=long[::order])
        files = reading(tmp_path / name).files["segments"]
        assert [file.rows for file in files] == [20, 20, 20, 20, 15]
        assert [file.answers.rows for file in files] == [file.rows for file in files]
        found[name] = [(file.sha256, file.answers.sha256) for file in files]
    assert found["sorted"] == found["reversed"], "where files end is said by the rows alone"
    write_run(tmp_path / "wide/archive", segments=3, schema=wide)
    assert len(reading(tmp_path / "wide").files["segments"]) == 3, "each row is more than what is left for so many"


def test_rows_out_of_order_give_the_same_files_and_data_version(tmp_path, small_pages):
    segments = [segment(number, video=f"vid_{number % 7}") for number in range(400)]
    found = []
    for name, seed in (("one", None), ("two", 1), ("three", 2)):
        rows = sorted(segments, key=lambda row: (row["video_id"], row["start_time"]))
        if seed:
            random.Random(seed).shuffle(rows)
        write_run(tmp_path / name / "archive", segments=rows)
        result = reading(tmp_path / name)
        (file,) = result.files["segments"]
        found.append((result.data_version, file.sha256, file.path.read_bytes(), file.answers.path.read_bytes()))
        assert len(names(tmp_path / name / "spool")) == 3
    assert found[0] == found[1] == found[2]


def test_one_row_out_of_order_after_many_in_order_does_not_damage_the_file(tmp_path, small_pages, monkeypatch):
    """The writer of the first attempt lived on until the second was complete, and then flushed into its file."""
    segments = [segment(number, start_time=float(number)) for number in range(1000)]
    segments.append(segment(1000, start_time=0.5))
    write_run(tmp_path / "archive", segments=segments)
    (file,) = reading(tmp_path).files["segments"]
    assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
    assert [row["start_time"] for row in rows_of([file])][:3] == [0.0, 0.5, 1.0]
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 300)
    files = reading(tmp_path, "in parts").files["segments"]
    assert [file.rows for file in files] == [300, 300, 300, 101]
    assert len(rows_of(files)) == 1001
    assert all(hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256 for file in files)


def test_keys_of_every_kind_are_read_into_a_snapshot_and_come_back(tmp_path):
    starts = ["00:01", 5, None, 2**70, 0.5, "", True]
    segments = [segment(number, start_time=start) for number, start in enumerate(starts)]
    write_run(tmp_path / "archive", segments=segments)
    (file,) = reading(tmp_path).files["segments"]
    (batch,) = pq.read_table(file.path).to_batches()
    found = [document["start_time"] for document in table_of("segments", SCHEMA).documents(batch)]
    assert found == [None, 0.5, 5, 2**70, "", "00:01", True]


@pytest.mark.parametrize("order", [1, -1])
def test_a_result_that_is_there_twice_stops_the_reading(tmp_path, small_pages, order):
    segments = [segment(number) for number in range(100)]
    write_run(tmp_path / "archive", segments=[*segments, segments[50]][::order])
    with pytest.raises(SourceDataError, match=r"segment_results\.jsonl, line \d+: .*'seg_00050' is there twice"):
        reading(tmp_path)


def test_a_broken_line_far_into_the_run_stops_the_reading_and_completes_no_file(tmp_path, small_pages):
    folder = write_run(tmp_path / "archive", segments=500)
    lines = (folder / "segment_results.jsonl").read_bytes().split(b"\n")
    lines[400] = lines[400][:-1]
    (folder / "segment_results.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(SourceDataError, match=r"segment_results\.jsonl, line 401"):
        reading(tmp_path)
    assert names(tmp_path / "spool") == ["failures-00000.parquet"], "neither a file of segments nor an unfinished one"


MEASURE = """
import sys
from pathlib import Path
from vv_exports_tests.archives import read_archived_run
from vv_exports_tests.memory import peak_bytes

found = read_archived_run(Path(sys.argv[1]), Path(sys.argv[2]))
print(sum(file.rows for file in found.files["segments"]), peak_bytes())
"""


def peak_of_reading(folder, count, *, in_order=True):
    """MiB of memory that a process needs to read a run of so many segments of about 1.1 kB."""
    run = write_run(folder / "archive", segments=0, completed_segments=count)
    text = " ".join(f"word{number}" for number in range(115))
    template = json.dumps(segment(0, metadata_text=text, segment_id="SEGMENT", start_time="START"))
    assert 900 < len(template) < 1200
    order = range(count) if in_order else [number ^ 1 for number in range(count)]
    with (run / "segment_results.jsonl").open("w") as file:
        for number in order:
            file.write(template.replace("SEGMENT", f"seg_{number:08}").replace('"START"', f"{number}.5") + "\n")
    (folder / "spool").mkdir()
    command = [sys.executable, "-c", MEASURE, str(folder / "archive"), str(folder / "spool")]
    environment = {**os.environ, "PYTHONPATH": str(Path(vv_exports.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    rows, peak = map(int, done.stdout.split())
    assert rows == count
    return peak / (1 << 20)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(tmp_path):
    peaks = {}
    # In both, a row group is encoded while the next one is collected.
    for count in (200_000, 300_000):
        (tmp_path / str(count)).mkdir()
        peaks[count] = peak_of_reading(tmp_path / str(count), count)
    assert peaks[300_000] < 450, peaks
    assert peaks[300_000] < peaks[200_000] * 1.15, peaks


@pytest.mark.slow
def test_memory_stays_bounded_when_rows_must_be_sorted(tmp_path):
    assert peak_of_reading(tmp_path, 60_000, in_order=False) < 450


def inside(levels, leaf, before, after):
    return before * levels + leaf + after * levels


LEVELS = 30
COLUMNS = json.loads(inside(LEVELS, "{}", '{"type":"object","properties":{"a":', "}}"))
PLACES = {
    "in a document without columns": ({}, '{"a":', "}"),
    "below columns in columns": (COLUMNS, inside(LEVELS, "", '{"a":', ""), "}" * LEVELS),
    "in a place without a column": (COLUMNS, '{"undeclared":', "}"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_nested_as_deep_as_can_be_read_is_written_too_and_what_is_deeper_is_refused_with_its_line(
    tmp_path, place
):
    """Both are limited by the stack, and values were written from deeper in it."""
    schema, before, after = PLACES[place]
    run = write_run(tmp_path / "archive", segments=[], schema=schema, completed_segments=None)

    @functools.cache
    def is_read(levels):
        metadata = before + inside(levels, "", "[", "]") + after
        (run / "segment_results.jsonl").write_text(f'{{"segment_id":"s","video_id":"v","metadata":{metadata}}}')
        try:
            (file,) = reading(tmp_path, f"spool-{levels}").files["segments"]
        except SourceDataError as error:
            assert "segment_results.jsonl, line 1: expected one JSON document: arrays or objects are" in str(error)  # noqa: PT017
            return False
        assert pq.read_table(file.answers.path).column(0).to_pylist() == [metadata]
        return True

    most, too_many = 500, 50_000
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if is_read(middle) else (most, middle)
    assert not any(map(is_read, range(too_many + 1, too_many + 20)))
