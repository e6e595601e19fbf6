"""One order for the rows of a run, whatever order they come in, without holding them all."""

import random
import resource
import tracemalloc
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.errors import SourceDataError
from vv_exports.snapshots import ordering
from vv_exports.snapshots.ordering import OutOfOrderError, externally_sorted, in_order
from vv_exports.sources.base import Page

OPEN_FILES = Path("/proc/self/fd")
NAMES = ("video_id", "start_time", "segment_id")


def row(video="vid_1", start=0.0, segment="seg_1", **fields):
    return {"video_id": video, "start_time": start, "segment_id": segment, **fields}


def pages(*contents):
    return [Page(list(rows), lambda i, n=n: f"page {n}, line {i + 1}") for n, rows in enumerate(contents)]


def sorted_rows(contents, spool):
    return [document for page in externally_sorted(pages(*contents), NAMES, spool) for document in page.documents]


def test_rows_in_order_are_passed_through_as_they_are():
    given_pages = pages([row(start=0), row(start=1.5)], [row(start=2)], [], [row("vid_2", 0)])
    assert all(one is other for one, other in zip(in_order(given_pages, NAMES), given_pages, strict=True))


@pytest.mark.parametrize(
    "contents",
    [
        [[row(start=1), row(start=0)]],
        [[row(start=1)], [row(start=0)]],
        [[row(start=1)], [], [row(start=0)]],
        [[row("vid_2")], [row("vid_1")]],
        [[row(segment="seg_2"), row(segment="seg_1")]],
        [[row(start=10), row(start=9)]],
    ],
)
def test_rows_out_of_order_are_noticed_and_sorted(contents, tmp_path):
    with pytest.raises(OutOfOrderError):
        list(in_order(pages(*contents), NAMES))
    found = sorted_rows(contents, tmp_path)
    assert found == [document for content in reversed(contents) for document in reversed(content)]
    assert list(in_order(pages(found), NAMES))


@pytest.mark.parametrize(
    ("contents", "where"),
    [
        ([[row(start=1), row(start=2), row(start=2)]], "page 0, line 3"),
        ([[row(start=1), row(start=2)], [row(start=2), row(start=3)]], "page 1, line 1"),
        ([[row(start=2)], [row(start=2)]], "page 1, line 1"),
    ],
)
def test_a_result_that_is_there_twice_is_named(contents, where, tmp_path):
    message = rf"^{where}: the result video_id='vid_1', start_time=2, segment_id='seg_1' is there twice"
    with pytest.raises(SourceDataError, match=message):
        list(in_order(pages(*contents), NAMES))
    with pytest.raises(SourceDataError, match="start_time=2, segment_id='seg_1' is there twice"):
        sorted_rows(contents, tmp_path)


def test_a_result_that_is_there_twice_far_apart_is_found_by_sorting(tmp_path):
    contents = [[row(start=5, segment="twice")], [row(start=1)], [row(start=5.0, segment="twice")]]
    with pytest.raises(SourceDataError, match=r"page [02], line 1: .* segment_id='twice' is there twice"):
        sorted_rows(contents, tmp_path)


def test_null_and_absent_come_first_then_numbers_then_text_then_the_rest(tmp_path):
    absent = {"video_id": "vid_1", "segment_id": "a"}
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
        assert sorted_rows([shuffled[:5], shuffled[5:]], spool) == in_their_order
    assert list(in_order(pages(in_their_order), NAMES))


def test_a_start_of_minus_one_is_not_taken_for_a_missing_one(tmp_path):
    both = [row(start=-1.0), row(start=None)]
    assert sorted_rows([both], tmp_path) == both[::-1]


_KEYS = st.none() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2) | st.booleans()
_ROWS = st.lists(
    st.builds(row, st.sampled_from(["v", "w"]), _KEYS, st.text("xyz", max_size=2)),
    max_size=12,
    unique_by=lambda document: ordering.sort_keys([document], NAMES)[0],
)


@given(rows=_ROWS, data=st.data())
def test_the_order_does_not_depend_on_how_rows_came(rows, data, tmp_path_factory):
    one = sorted_rows([rows], tmp_path_factory.mktemp("one"))
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    assert sorted_rows([shuffled[:cut], shuffled[cut:]], tmp_path_factory.mktemp("other")) == one
    assert [document for page in in_order(pages(one), NAMES) for document in page.documents] == one


def test_documents_come_out_of_the_sorting_with_every_value_and_name_in_its_place(tmp_path):
    document = row(start=1, metadata={"b": None, "a": [1, 1.0, -0.0, 2**80, Decimal("1e400"), "\ud800", True]})
    (found,) = sorted_rows([[document]], tmp_path)
    assert repr(found) == repr(document)


def test_sorting_holds_a_page_of_large_rows_and_the_keys_of_others(tmp_path):
    contents = [[row(start=number, text=f"{number:02}" * 500_000)] for number in reversed(range(40))]
    tracemalloc.start()
    rows_of_pages = [len(page.documents) for page in externally_sorted(pages(*contents), NAMES, tmp_path)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows_of_pages == [5] * 8
    assert peak < 20e6


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
def test_thousands_of_stretches_need_few_open_files(tmp_path, monkeypatch):
    """All of them used to be open at once, and a run of some four million segments ran out of file descriptors."""
    monkeypatch.setattr(ordering, "_PAGE_BYTES", 1)
    numbers = random.Random(7).sample(range(5000), 5000)
    with few_open_files(ordering._OPEN_FILES + 10):
        found = sorted_rows([[row(start=number)] for number in numbers], tmp_path)
    assert [document["start_time"] for document in found] == list(range(5000))


def test_small_pages_are_sorted_many_at_a_time(tmp_path):
    """A file for each page would be sixteen times as many as before pages became small, and merged once more."""
    contents = [[row(start=number)] for number in reversed(range(10_000))]
    first = next(externally_sorted(pages(*contents), NAMES, tmp_path))
    assert first.documents[0] == row(start=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-000000", "0-000001", "0-000002"]


@pytest.mark.slow
def test_memory_does_not_hold_the_rows_that_are_sorted(tmp_path):
    def many():
        for number in range(60):
            rows = [row(start=(number * 7919 + i * 104729) % 1_000_003, text="x" * 1500) for i in range(500)]
            yield Page(rows, str)

    tracemalloc.start()
    try:
        count = sum(len(page.documents) for page in externally_sorted(many(), NAMES, tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 30_000
    assert peak < 20 << 20, "the rows alone are 45 MB of text"
