from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.snapshots import partly_failed
from vv_exports.snapshots.partly_failed import PartlyFailed

KEYS = pa.schema([("video_id", pa.string()), ("segment_id", pa.string())])
IDS = st.sampled_from(["", "a", "a1", "b", "é", "￿", "\U0001f600"])


def rows(keys):
    return pa.RecordBatch.from_pylist([{"video_id": v, "segment_id": s} for v, s in keys], schema=KEYS)


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(partly_failed, "_AT_A_TIME", 3)


@given(
    st.lists(st.tuples(st.none() | IDS, IDS), max_size=20, unique=True),
    st.lists(st.tuples(IDS.filter(bool), IDS), max_size=20, unique=True),
    st.integers(1, 5),
)
def test_segments_among_the_failures_are_counted_however_both_are_cut(segments, failures, size):
    """Beside a set of all that failed. Segments without a medium come first, as rows are ordered."""
    segments = sorted(segments, key=lambda key: (key[0] is not None, *map(str, key)))
    failures = sorted(failures)
    with TemporaryDirectory() as folder:
        files = []
        for start in range(0, len(failures), 4):
            files.append(Path(folder, f"{start}.parquet"))
            pq.write_table(pa.Table.from_batches([rows(failures[start : start + 4])]), files[-1])
        counted = PartlyFailed(files)
        for start in range(0, len(segments), size):
            counted.add(rows(segments[start : start + size]))
        assert counted.finish() == len(set(segments) & set(failures))


def test_failures_of_few_media_are_in_memory_at_a_time(tmp_path):
    keys = [(f"vid_{video:03}", f"seg_{number}") for video in range(40) for number in range(5)]
    pq.write_table(pa.Table.from_batches([rows(keys)]), tmp_path / "failures.parquet")
    counted = PartlyFailed([tmp_path / "failures.parquet"])
    most = 0
    for key in keys:
        counted.add(rows([key]))
        most = max(most, sum(batch.num_rows for batch in counted._failed))
    assert counted.finish() == 200
    assert most <= 16, "of three media, and not of forty"


def test_ids_that_no_column_holds_are_found_among_themselves(tmp_path):
    pq.write_table(pa.Table.from_batches([rows([(None, "odd"), ("a", "x")])]), tmp_path / "failures.parquet")
    counted = PartlyFailed([tmp_path / "failures.parquet"])
    counted.add(rows([("a", "odd"), (None, "odd"), (None, "x")]))
    assert counted.finish() == 1
