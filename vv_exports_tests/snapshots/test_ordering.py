"""One order for the rows of a run, whatever order they come in, without holding them all."""

import random
import resource
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.domain.prompt_runs import PromptRun, RunStatus
from vv_exports.snapshots import ordering
from vv_exports.snapshots.ordering import PLACE, OutOfOrderError, TwiceError, externally_sorted, in_order, sort_keys
from vv_exports.snapshots.tables import table_of

OPEN_FILES = Path("/proc/self/fd")
NAMES = ("video_id", "start_time", "segment_id")
TABLE = table_of("segments", {})
RUN = PromptRun("run", "idx", "prm", "Prompt", RunStatus.COMPLETED, datetime(2026, 1, 1, tzinfo=UTC), {})


def row(video="vid_1", start=0.0, segment="seg_1", **fields):
    return {"video_id": video, "start_time": start, "segment_id": segment, "metadata": {}, **fields}


def batches(*contents):
    return [TABLE.batch(rows, RUN) for rows in contents]


def documents(found):
    return [told(document) for batch in found for document in TABLE.documents(batch)]


def told(document):
    """What tells these rows from others."""
    return {name: document.get(name) for name in (*NAMES, "metadata", "more") if document.get(name) is not None}


def sorted_rows(contents, spool):
    return documents(externally_sorted(batches(*contents), NAMES, spool))


def expected(rows):
    return [told(document) for document in rows]


def test_rows_in_order_are_passed_through_as_they_are():
    rows = batches([row(start=0), row(start=1.5)], [row(start=2)], [row("vid_2", 0)])
    assert all(one is other for one, other in zip(in_order(rows, NAMES), rows, strict=True))


@pytest.mark.parametrize(
    "contents",
    [
        [[row(start=1), row(start=0)]],
        [[row(start=1)], [row(start=0)]],
        [[row(start=1)], [], [row(start=0)]],
        [[row("vid_2")], [row("vid_1")]],
        [[row(segment="seg_2"), row(segment="seg_1")]],
        [[row(start=10), row(start=9)]],
        [[row(start=None, segment="b"), row(start=None, segment="a")]],
        [[row(start=1)], [row(start=None)]],
    ],
)
def test_rows_out_of_order_are_noticed_and_sorted(contents, tmp_path):
    with pytest.raises(OutOfOrderError):
        list(in_order(batches(*contents), NAMES))
    found = list(externally_sorted(batches(*contents), NAMES, tmp_path))
    assert documents(found) == expected(document for content in reversed(contents) for document in reversed(content))
    assert list(in_order(found, NAMES))


@pytest.mark.parametrize(
    ("contents", "place"),
    [
        ([[row(start=1), row(start=2), row(start=2)]], 2),
        ([[row(start=1), row(start=2)], [row(start=2), row(start=3)]], 2),
        ([[row(start=2)], [row(start=2)]], 1),
    ],
)
def test_a_result_that_is_there_twice_is_told_by_its_place(contents, place, tmp_path):
    sorts = externally_sorted(batches(*contents), NAMES, tmp_path)
    for rows in (batches(*contents), sorts):
        with pytest.raises(TwiceError) as caught:
            list(in_order(rows, NAMES))
        assert caught.value.place == place
        assert caught.value.what == "video_id='vid_1', start_time=2.0, segment_id='seg_1'"


def test_a_result_that_is_there_twice_far_apart_is_found_by_sorting(tmp_path):
    contents = [[row(start=5, segment="twice")], [row(start=1)], [row(start=5.0, segment="twice")]]
    with pytest.raises(TwiceError, match="segment_id='twice'") as caught:
        list(in_order(externally_sorted(batches(*contents), NAMES, tmp_path), NAMES))
    assert caught.value.place == 2, "the second of them, as they were read"


def test_null_and_absent_come_first_then_numbers_then_text_then_the_rest(tmp_path):
    absent = {"video_id": "vid_1", "segment_id": "a", "metadata": {}}
    in_their_order = [
        absent,
        row(start=None, segment="b"),
        row(start=-5.5),
        row(start=-1.0),
        row(start=0),
        row(start=Decimal("0.12345678901234567890123")),
        row(start=2),
        row(start=2**70),
        row(start="00:10"),
        row(start="00:9"),
        row(start="\ud800"),
        row(start=[1]),
        row(start=False),
        row(start={"h": 1}),
    ]
    for seed in range(20):
        shuffled = random.Random(seed).sample(in_their_order, len(in_their_order))
        spool = tmp_path / str(seed)
        spool.mkdir()
        assert sorted_rows([shuffled[:5], shuffled[5:]], spool) == expected(in_their_order)
    assert list(in_order(batches(in_their_order), NAMES))


def test_a_start_of_minus_one_is_not_taken_for_a_missing_one(tmp_path):
    both = [row(start=-1.0), row(start=None)]
    assert sorted_rows([both], tmp_path) == expected(both[::-1])


_KEYS = st.none() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2) | st.booleans()
_ROWS = st.lists(
    st.builds(row, st.sampled_from(["v", "w"]), _KEYS, st.text("xyz", max_size=2)),
    max_size=12,
    unique_by=lambda document: sort_keys(TABLE.batch([document], RUN), NAMES)[0],
)


@given(rows=_ROWS, data=st.data())
def test_the_order_does_not_depend_on_how_rows_came(rows, data, tmp_path_factory):
    one = sorted_rows([rows], tmp_path_factory.mktemp("one"))
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    other = list(externally_sorted(batches(shuffled[:cut], shuffled[cut:]), NAMES, tmp_path_factory.mktemp("other")))
    assert documents(other) == one
    assert documents(in_order(other, NAMES)) == one


@given(rows=_ROWS, data=st.data())
def test_what_is_in_order_is_the_same_for_all_at_once_and_in_pieces(rows, data):
    """Columns are compared as a whole where they hold nothing odd, and row by row elsewhere."""
    keys = sort_keys(TABLE.batch(rows, RUN), NAMES)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    pieces = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    try:
        list(in_order(batches(*pieces), NAMES))
        is_ascending = True
    except OutOfOrderError:
        is_ascending = False
    assert is_ascending == (sorted(keys) == keys)


def test_rows_come_out_of_the_sorting_with_every_column_in_its_place(tmp_path):
    metadata = {"b": None, "a": [1, 1.0, -0.0, 2**80, Decimal("1e400"), "\ud800", True]}
    rows = batches([row(start=2), row(start=1, metadata=metadata, more={"x": [None]})])
    (found,) = externally_sorted(rows, NAMES, tmp_path)
    assert found.column(PLACE).to_pylist() == [1, 0]
    assert found.drop_columns([PLACE]).equals(rows[0].take([1, 0]))


def test_sorting_holds_some_large_rows_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(ordering, "_STRETCH_BYTES", 4 << 20)
    monkeypatch.setattr(ordering, "_MERGED_BYTES", 4 << 20)

    def many():
        for number in reversed(range(60)):
            yield from batches([row(start=number, more=f"{number:02}" * 500_000)])

    before = pa.total_allocated_bytes()
    most = rows = 0
    for batch in externally_sorted(many(), NAMES, tmp_path):
        most = max(most, pa.total_allocated_bytes() - before)
        rows += batch.num_rows
    assert rows == 60
    assert most < 20 << 20, "the rows are 60 MB"


@contextmanager
def few_open_files(more):
    """A process that may open only so many more files than it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in OPEN_FILES.iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files through /proc")
def test_many_stretches_need_few_open_files(tmp_path, monkeypatch):
    """All of them used to be open at once, and a run of some four million segments ran out of file descriptors."""
    monkeypatch.setattr(ordering, "_STRETCH_BYTES", 1)
    numbers = random.Random(7).sample(range(500), 500)
    rows = [
        batch.slice(number, 1) for batch in batches([row(start=number) for number in range(500)]) for number in numbers
    ]
    # Twice as many as it needs: other threads of this process open some too.
    with few_open_files(2 * ordering._OPEN_FILES):
        found = list(externally_sorted(rows, NAMES, tmp_path))
    assert [start for batch in found for start in batch.column("start_time").to_pylist()] == list(range(500))


def test_small_batches_are_sorted_many_at_a_time(tmp_path):
    rows = batches([row(start=number) for number in range(3_000)])[0]
    one_by_one = [rows.slice(number, 1) for number in reversed(range(3_000))]
    found = next(externally_sorted(one_by_one, NAMES, tmp_path))
    assert found.column("start_time")[0].as_py() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["0-000000"]
