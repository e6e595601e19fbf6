"""Beside typed rows a snapshot keeps what the model answered, to the digit, and gives it back row by row."""

import json
import random
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.json_text import decode, encode_sorted, encode_text
from vv_exports.errors import SnapshotDamagedError
from vv_exports.formats import parquet
from vv_exports.snapshots.reading import read_run
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources import archive_files
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import SCHEMA, segment, write_run
from vv_exports_tests.generated_documents import ROOTS, documents_like, strict

GOLDEN = Path(__file__).parents[1] / "golden"
INDEX = "idx_golden"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ODD = {
    "ints": [5, -0, 2**63, 10**30, -(2**70)],
    "floats": [5.0, -0.0, 1e300, 0.1],
    "null": None,
    "text": 'ü\u2028\u0000"\\',
    "": {"z": 1, "a": {"y": [], "b": {}}},
}


def store_in(folder):
    return SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))


def taken(folder, segments, run_id="run_1", **run):
    write_run(folder / "archive", segments=segments, run_id=run_id, **run)
    source, store = LocalArchive(str(folder / "archive")), store_in(folder)
    return store, store.take(source, source.prompt_run("idx", run_id), NOW)


def answers_of(store, snapshot, table="segments"):
    """Segment or video id -> answer as text, over all rows in which ids and answers stand side by side."""
    name = "segment_id" if table == "segments" else "video_id"
    return {
        row_id: text
        for batch, answers in store.rows(snapshot, table, answers=True)
        for row_id, text in zip(batch.column(name).to_pylist(), answers.to_pylist(), strict=True)
    }


def archived(path, table="segments"):
    """Segment or video id -> metadata, as decoded from the archive's file."""
    lines = [decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return {line["segment_id" if table == "segments" else "video_id"]: line["metadata"] for line in lines}


def test_answers_are_canonical_text_in_which_numbers_keep_their_kind(tmp_path):
    numbers = '{"b":1e400,"a":0.12345678901234567890123,"c":5.0,"d":5,"e":-0.0}'
    segments = [segment(0, metadata=ODD), segment(1, metadata={"lone": "\ud800", "ü": "ü"}), segment(2, metadata={})]
    folder = write_run(tmp_path / "archive", segments=[*segments, segment(3, metadata="NUMBERS")])
    results = folder / "segment_results.jsonl"
    results.write_text(results.read_text().replace('"NUMBERS"', numbers))
    source, store = LocalArchive(str(tmp_path / "archive")), store_in(tmp_path)
    found = answers_of(store, store.take(source, source.prompt_run("idx", "run_1"), NOW))
    assert found == {
        "seg_00000": encode_sorted(ODD).decode(),
        "seg_00001": r'{"lone":"\ud800","\u00fc":"\u00fc"}',
        "seg_00002": "{}",
        "seg_00003": '{"a":0.12345678901234567890123,"b":1E+400,"c":5.0,"d":5,"e":-0.0}',
    }


@settings(max_examples=30)
@given(data=st.data(), schema=ROOTS)
def test_every_answer_comes_back_in_its_row(data, schema, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    documents = data.draw(st.lists(documents_like(schema).filter(lambda one: isinstance(one, dict)), max_size=5))
    rows = [segment(number, metadata=number) for number in range(len(documents))]
    run = write_run(folder / "archive", segments=rows, schema=schema)
    lines = [encode_text({**row, "metadata": document}) for row, document in zip(rows, documents, strict=True)]
    (run / "segment_results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    source, store = LocalArchive(str(folder / "archive")), store_in(folder)
    found = answers_of(store, store.take(source, source.prompt_run("idx", "run_1"), NOW))
    expected = {row["segment_id"]: encode_sorted(one).decode() for row, one in zip(rows, documents, strict=True)}
    assert found == expected
    assert [strict(decode(text.encode())) for text in found.values()] == [strict(one) for one in documents]


@pytest.mark.parametrize("shuffled", [False, True])
def test_answers_stay_beside_their_rows_over_parts_row_groups_and_pages(tmp_path, monkeypatch, shuffled):
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 100)
    monkeypatch.setattr("vv_exports.snapshots.store._BATCH_ROWS", 7)
    monkeypatch.setattr(archive_files, "_BLOCK", 3_000)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 4_000)
    monkeypatch.setattr(parquet, "_GROUP_BYTES_UNLIKE", 1_500)
    segments = [segment(n, metadata={"title": f"{n}", "pad": "x" * (n % 50) * 10}) for n in range(250)]
    wanted = {row["segment_id"]: encode_sorted(row["metadata"]).decode() for row in segments}
    if shuffled:
        random.Random(3).shuffle(segments)
    store, snapshot = taken(tmp_path, segments)
    parts = snapshot.tables["segments"]
    assert [part.rows for part in parts] == [100, 100, 50]
    named = [(re.sub("-[0-9a-f]{16}", "", part.key), re.sub("-[0-9a-f]{16}", "", part.answers.key)) for part in parts]
    assert [answers for _, answers in named] == [key.replace(".parquet", ".answers.parquet") for key, _ in named]
    assert list(answers_of(store, snapshot).items()) == list(wanted.items())
    rows = [batch.num_rows for batch, answers in store.rows(snapshot, "segments") if answers is None]
    assert sum(rows) == 250


def test_videos_have_answers_and_failures_have_none(tmp_path):
    store, snapshot = taken(
        tmp_path,
        1,
        video_level_schema=SCHEMA,
        videos=[{"video_id": "vid_1", "metadata": {"b": 1, "a": 1.0}}],
        failures=[{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": []}],
    )
    assert answers_of(store, snapshot, "videos") == {"vid_1": '{"a":1.0,"b":1}'}
    (part,) = snapshot.tables["failures"]
    assert part.answers is None
    ((batch, answers),) = store.rows(snapshot, "failures", answers=True)
    assert (batch.num_rows, answers) == (1, None)
    store, without = taken(tmp_path, 1, run_id="run_2")
    assert list(store.rows(without, "videos", answers=True)) == []


@pytest.mark.parametrize("which", ["rows", "answers"])
def test_a_damaged_file_gives_no_row_before_it_is_noticed(tmp_path, which):
    store, snapshot = taken(tmp_path, 3)
    (part,) = snapshot.tables["segments"]
    path = tmp_path / "storage" / (part.key if which == "rows" else part.answers.key)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    rows = store.rows(snapshot, "segments", answers=True)
    with pytest.raises(SnapshotDamagedError, match=r"was damaged: its sha256 is .*and the run is read again"):
        next(rows)


# --- what version 0.1 kept --------------------------------------------------------------------------------


def test_rows_that_are_asked_for_without_metadata_have_all_else(tmp_path):
    store, snapshot = taken(tmp_path, [segment(number, metadata=ODD) for number in range(3)])
    typed, (part,) = snapshot.table("segments"), snapshot.tables["segments"]
    (whole,) = store.rows_of_part(typed, part, answers=True)
    (rows,) = store.rows_of_part(typed, part, answers=True, metadata=False)
    assert rows.batch.equals(whole.batch.drop_columns("metadata"))
    assert rows.answers.equals(whole.answers)


def test_metadata_is_read_where_no_answers_were_kept(tmp_path):
    store, snapshot = taken(tmp_path, [segment(0, metadata=ODD)])
    typed, (part,) = snapshot.table("segments"), snapshot.tables["segments"]
    part = msgspec.structs.replace(part, answers=None)
    (rows,) = store.rows_of_part(typed, part, answers=True, metadata=False)
    assert decode(rows.answers[0].as_py().encode()) == {**ODD, "floats": [5.0, -0.0, 1e300, 0.1]}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A deployment that version 0.1 left: only read."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(GOLDEN / "deployment-0.1.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    return folder


def test_snapshots_of_version_0_1_are_read_and_their_documents_are_the_archives(old):
    store = store_in(old)
    source = LocalArchive(str(old / "archive"))
    runs = source.listing(INDEX).runs
    assert len(runs) > 5
    for run in runs:
        snapshot = store.current(INDEX, run.run_id)
        assert (snapshot.layout_version, snapshot.has_answers) == (1, False)
        folder = next(
            path.parent
            for path in (old / "archive").rglob("prompt_run.json")
            if json.loads(path.read_text())["run_id"] == run.run_id
        )
        for table, file in (("segments", "segment_results.jsonl"), ("videos", "video_results.jsonl")):
            found = answers_of(store, snapshot, table)
            wanted = archived(folder / file, table)
            assert found.keys() == wanted.keys()
            for row_id, text in found.items():
                assert strict(decode(text.encode())) == strict(wanted[row_id]), (run.run_id, row_id)
            for rows in store.rows(snapshot, table):
                assert rows.batch.schema == snapshot.table(table).schema


def test_the_same_documents_have_the_data_version_that_version_0_1_gave_them(tmp_path):
    source = LocalArchive(str(GOLDEN / "archive"))
    files = sorted((GOLDEN / "layout-1/snapshots").glob("*.json"), key=lambda path: int(path.stem))
    golden = {one["run_id"]: one["data_version"] for one in map(json.loads, map(Path.read_text, files))}
    assert golden
    for number, (run_id, version) in enumerate(golden.items()):
        spool = tmp_path / str(number)
        spool.mkdir()
        run = source.prompt_run(INDEX, run_id)
        with source.results(run, None) as results:
            found = read_run(results, run, spool, earlier=True)
        assert found.earlier_version == version != found.data_version


def test_an_old_snapshot_is_replaced_by_one_with_answers_beside_the_old_files(tmp_path):
    """The old revision's files stay as they are: a delivery may be reading them."""
    with tarfile.open(GOLDEN / "deployment-0.1.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    store, source = store_in(tmp_path), LocalArchive(str(tmp_path / "archive"))
    run = source.listing(INDEX).runs[0]
    before = store.current(INDEX, run.run_id)
    again = store.take(source, run, NOW)
    assert (again.data_version, again.revision, again.has_answers) == (
        before.data_version,
        before.revision + 1,
        True,
    )
    assert list(store.rows(before, "segments")), "the files of the old revision are whole"
    assert store.take(source, run, NOW) == again
    kept = [path for path in (tmp_path / "storage/snapshots" / INDEX / run.run_id).rglob("*") if path.is_file()]
    assert store.forget(INDEX, run.run_id) == len(kept)
