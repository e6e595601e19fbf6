"""What is due is what the log does not hold, whoever looks and however often."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from vv_exports.automations.backlog import backlog
from vv_exports.delivery.state import LogState
from vv_exports.domain.failures import problem_of
from vv_exports.errors import RequestError, SourceDataError, TransientError
from vv_exports.snapshots.catalog import CatalogedRun
from vv_exports.snapshots.tables import LAYOUT_VERSION

NOW = datetime(2026, 11, 24, tzinfo=UTC)
RULES = SimpleNamespace(format="parquet", on_status={"completed", "completed_with_failures"}, partial="deliver")
HOLDS = SimpleNamespace(**{**vars(RULES), "partial": "hold"})


def rows(**versions):
    """Runs by id: a data version, or a (status, data version)."""
    pairs = {run_id: ("completed", one) if isinstance(one, str) else one for run_id, one in versions.items()}
    return {
        run_id: CatalogedRun(NOW - timedelta(days=number), status, version, "f")
        for number, (run_id, (status, version)) in enumerate(reversed(pairs.items()))
    }


def log(format_name="parquet", **versions):
    """A collection that holds these runs."""
    entry = SimpleNamespace(format=format_name, layout_version=LAYOUT_VERSION)
    runs = {}
    for run_id, one in versions.items():
        status, version = ("completed", one) if isinstance(one, str) else one
        run = SimpleNamespace(data_version=version, status=status)
        runs[run_id] = SimpleNamespace(run=run, entry=entry)
    return LogState(runs=runs)


def todo(there, state=None, rules=RULES, **more):
    return backlog(there, state or log(), rules, **{"history": (), "problems": {}, "gone": (), "now": NOW, **more})


def test_what_the_log_lacks_is_due_in_the_order_of_execution():
    assert todo(rows(a="1", c="1", b="1")).due == ("a", "c", "b")
    assert todo(rows(a="1", b="1"), log(a="1")).due == ("b",)
    assert todo(rows(a="1", b="1"), log(a="1", b="1")).due == ()


def test_changed_content_a_changed_status_and_another_format_are_due_again():
    assert todo(rows(a="2"), log(a="1")).due == ("a",)
    assert todo(rows(a=("completed_with_failures", "1")), log(a="1")).due == ("a",)
    assert todo(rows(a="1"), log("csv", a="1")).due == ("a",)


def test_history_is_left_alone_until_a_backfill_delivered_it():
    assert todo(rows(a="1", b="1"), history={"a"}).due == ("b",)
    assert todo(rows(a="2", b="1"), log(a="1"), history={"a"}).due == ("a", "b")


def test_partial_runs_are_held_until_they_are_complete_or_released():
    partial = ("completed_with_failures", "1")
    assert (todo(rows(a=partial), rules=HOLDS).due, todo(rows(a=partial), rules=HOLDS).held) == ((), ("a",))
    assert todo(rows(a="2"), rules=HOLDS).due == ("a",)
    released = todo(rows(a=("completed_with_failures", "2")), log(a=partial), HOLDS)
    assert (released.due, released.held) == (("a",), ()), "what was released is kept up to date"


def test_a_status_that_is_not_asked_for_is_neither_due_nor_held():
    only = SimpleNamespace(format="parquet", on_status={"completed"}, partial="deliver")
    found = todo(rows(a=("completed_with_failures", "1")), rules=only)
    assert (found.due, found.held) == ((), ())


def test_what_failed_waits_longer_each_time_and_does_not_stand_in_the_way():
    problem, waits = None, []
    for _ in range(12):
        problem = problem_of(SourceDataError("broken"), problem, NOW)
        waits.append((problem.again_at - NOW).total_seconds() / 60)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    first = problem_of(SourceDataError("broken"), None, NOW)
    found = todo(rows(a="1", b="1"), problems={"a": first})
    assert (found.due, found.failing) == (("b",), ("a",))
    assert todo(rows(a="1"), problems={"a": first}, now=NOW + timedelta(minutes=1)).due == ("a",)


def test_a_problem_of_another_kind_counts_from_one():
    first = problem_of(RequestError("no bucket"), None, NOW)
    assert problem_of(RequestError("no bucket"), first, NOW).attempts == 2
    other = problem_of(TransientError("busy"), first, NOW)
    assert (other.attempts, other.permanent, first.permanent) == (1, False, True)


@pytest.mark.parametrize("delivered", [False, True])
def test_a_run_that_is_gone_from_the_source_is_not_delivered_any_more(delivered):
    found = todo(rows(a="2"), log(a="1") if delivered else log(), gone={"a"})
    assert (found.due, found.gone) == ((), () if delivered else ("a",))
