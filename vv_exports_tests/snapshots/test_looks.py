"""A look at an index: what it says of each run, without holding records."""

from datetime import UTC, datetime

import pytest

from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def snapshots(tmp_path):
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{3 - number}T00:00:00Z")
    return client_of(tmp_path).pipeline.snapshots


def look(snapshots):
    return snapshots.look("idx", snapshots.source.each_run("idx"))


def unread(snapshots, seen):
    return {run_id for run_id, row in snapshots.known("idx", seen).rows.items() if row.data_version is None}


def test_a_look_knows_of_each_run_what_a_listing_knows(snapshots, tmp_path):
    snapshots.of_ids("idx", ["run_0", "run_1"])
    write_run(tmp_path / "archive", run_id="run_1", segments=5)
    (tmp_path / "archive/indexes/idx/prompt_runs/run_2/prompt_run.json").write_text("{")
    seen, listing = look(snapshots), snapshots.source.listing("idx")
    assert [run.run_id for run in seen.runs] == [run.run_id for run in listing.runs]
    assert [(run.executed_at, run.status) for run in seen.runs] == [
        (run.executed_at, run.status) for run in listing.runs
    ]
    assert seen.problems.keys() == listing.problems.keys() == {"run_2"}
    assert seen.run_ids == listing.run_ids
    by_look, by_listing = snapshots.known("idx", seen), snapshots.known("idx", listing)
    assert by_look.rows.keys() == by_listing.rows.keys()
    assert unread(snapshots, seen) == unread(snapshots, listing) == {"run_1"}
    assert by_look.gone == by_listing.gone


def test_a_run_that_is_read_while_others_are_looked_at_is_not_read_again(snapshots):
    seen = look(snapshots)
    assert unread(snapshots, seen) == {"run_0", "run_1", "run_2"}
    snapshots.of_ids("idx", ["run_1"])
    assert unread(snapshots, seen) == {"run_0", "run_2"}


def test_a_run_that_changes_after_it_was_seen_is_found_by_the_next_look(snapshots, tmp_path):
    snapshots.of_ids("idx", ["run_0", "run_1", "run_2"])
    seen = look(snapshots)
    write_run(tmp_path / "archive", run_id="run_1", segments=5)
    assert unread(snapshots, seen) == set()
    assert unread(snapshots, look(snapshots)) == {"run_1"}


def test_a_run_that_the_source_has_no_more_is_gone(snapshots, tmp_path):
    snapshots.of_ids("idx", ["run_0"])
    (tmp_path / "archive/indexes/idx/prompt_runs/run_0/prompt_run.json").unlink()
    assert snapshots.known("idx", look(snapshots)).gone == {"run_0"}


def test_what_looks_at_runs_keeps_no_records(snapshots):
    seen = look(snapshots)
    assert not any(hasattr(run, "record") for run in seen.runs)
    assert not snapshots.source._in_use, "nobody holds one"
