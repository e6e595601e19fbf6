"""What is due is what the log does not hold, whoever looks and however often: the table of standings."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from vv_exports.automations.records import Beginning
from vv_exports.automations.selection import selected
from vv_exports.automations.standing import Standing, standings
from vv_exports.delivery.state import CommittedRun, LogState, Shape
from vv_exports.domain.failures import problem_of
from vv_exports.domain.prompt_runs import PromptRun, RunStatus
from vv_exports.errors import RequestError, SourceDataError, TransientError
from vv_exports.snapshots.catalog import KnownRun
from vv_exports.snapshots.tables import LAYOUT_VERSION
from vv_exports_tests.delivery.conftest import content_of

BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
NOW = BEGAN + timedelta(days=4)
PARTIAL = "completed_with_failures"


@dataclass(frozen=True)
class Rules:
    on_status: frozenset[str] = frozenset({"completed", PARTIAL})
    partial: str = "deliver"
    start: str = "now"
    on_schema_conflict: str = "new_version"
    contract: str = "warn"


TAKES_ALL, HOLDS, ONLY_COMPLETE = Rules(), Rules(partial="hold"), Rules(on_status=frozenset({"completed"}))
WAITS = Rules(on_schema_conflict="hold")
BLOCKS = Rules(contract="block")
ONLY_PARTIAL = Rules(on_status=frozenset({PARTIAL}))
FAILED = problem_of(SourceDataError("broken"), None, NOW)


def began(*history: tuple[str, str], rules=TAKES_ALL, start="now", at=BEGAN) -> Beginning:
    """An automation that began when these runs, each with its status, were there."""
    there = [PromptRun(run_id, "idx", "p", "P", RunStatus(status), at, {}) for run_id, status in history]
    return Beginning.of(Rules(rules.on_status, rules.partial, start), there, at)


def rows(**known):
    """Runs by id, executed a day apart, the last one at NOW: a data version, or (status, data version)."""
    pairs = {run_id: one if isinstance(one, tuple) else ("completed", one) for run_id, one in known.items()}
    first = NOW - timedelta(days=len(pairs) - 1)
    return {
        run_id: KnownRun(first + timedelta(days=number), status, version)
        for number, (run_id, (status, version)) in enumerate(pairs.items())
    }


def log(format_name="parquet", layout=LAYOUT_VERSION, shapes=None, **held):
    """A collection that holds these runs."""
    content = content_of(format_name, layout)
    entry = SimpleNamespace(sequence=0, content_id=content.id, shapes=shapes or {"prm": {"segments": "shape"}})
    runs = {}
    for run_id, one in held.items():
        status, version = one if isinstance(one, tuple) else ("completed", one)
        run = SimpleNamespace(data_version=version, status=status, prompt_id="prm")
        runs[run_id] = CommittedRun(entry, run, (SimpleNamespace(path="segments/prompt_id=prm/part"),))
    return LogState(runs=runs, shapes={"prm": {"segments": Shape(id="shape", metadata={})}})


def owed(there, held=None, rules=TAKES_ALL, **more):
    facts = {"beginning": began(), "problems": {}, **more}
    return standings(there, held or log(), rules, content_of(), **facts)


A_COMPLETE, A_PARTIAL = ("a", "completed"), ("a", PARTIAL)
CASES = {
    # what is known of run a, what the log holds of it, the rules, what else is known -> its standing
    "held as it is": (rows(a="1"), log(a="1"), TAKES_ALL, {}, Standing("delivered")),
    "new": (rows(a="1"), log(), TAKES_ALL, {}, Standing("due", "missing")),
    "new and not read yet": (rows(a=None), log(), TAKES_ALL, {}, Standing("due", "missing")),
    "other rows": (rows(a="2"), log(a="1"), TAKES_ALL, {}, Standing("due", "changed")),
    "another status": (rows(a=(PARTIAL, "1")), log(a="1"), TAKES_ALL, {}, Standing("due", "changed")),
    "looks changed and is not read yet": (rows(a=None), log(a="1"), TAKES_ALL, {}, Standing("due", "changed")),
    "another format": (rows(a="1"), log("csv", a="1"), TAKES_ALL, {}, Standing("due", "reshape")),
    "another layout": (rows(a="1"), log(layout=0, a="1"), TAKES_ALL, {}, Standing("due", "reshape")),
    "fewer columns than its prompt has by now": (
        rows(a="1"),
        log(shapes={"prm": {"segments": "old"}}, a="1"),
        TAKES_ALL,
        {},
        Standing("due", "reshape"),
    ),
    "a log that says nothing of columns": (
        rows(a="1"),
        log(shapes={"x": {}}, a="1"),
        TAKES_ALL,
        {},
        Standing("due", "reshape"),
    ),
    "columns of documents": (rows(a="1"), log("jsonl", a="1"), TAKES_ALL, {}, Standing("due", "reshape")),
    "outgrown, and gone from the source": (
        rows(a="1"),
        log(shapes={"prm": {"segments": "old"}}, a="1"),
        TAKES_ALL,
        {"gone": {"a"}},
        Standing("due", "reshape"),
    ),
    "outgrown, and of a status not asked for": (
        rows(a=(PARTIAL, "1")),
        log(shapes={"prm": {"segments": "old"}}, a=(PARTIAL, "1")),
        ONLY_COMPLETE,
        {},
        Standing("due", "reshape"),
    ),
    "outgrown, and changed": (
        rows(a="2"),
        log(shapes={"prm": {"segments": "old"}}, a="1"),
        TAKES_ALL,
        {},
        Standing("due", "changed"),
    ),
    "types that files cannot hold": (
        rows(a="1"),
        log(),
        WAITS,
        {"conflicts": {"a": "1"}},
        Standing("held", "conflict"),
    ),
    "the same, and failed for it": (
        rows(a="1"),
        log(),
        WAITS,
        {"conflicts": {"a": "1"}, "problems": {"a": FAILED}},
        Standing("held", "conflict"),
    ),
    "the same, and named": (
        rows(a="1"),
        log(),
        WAITS,
        {"conflicts": {"a": "1"}, "named": {"a"}},
        Standing("due", "missing"),
    ),
    "the same, and other rows": (rows(a="2"), log(), WAITS, {"conflicts": {"a": "1"}}, Standing("due", "missing")),
    "the same, and no longer to wait": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"conflicts": {"a": "1"}},
        Standing("due", "missing"),
    ),
    "delivered, and then with such types": (
        rows(a="2"),
        log(a="1"),
        WAITS,
        {"conflicts": {"a": "2"}},
        Standing("held", "conflict"),
    ),
    "rows break its contract": (rows(a="1"), log(), BLOCKS, {"broken": {"a": "1"}}, Standing("held", "contract")),
    "they do, and it is named": (
        rows(a="1"),
        log(),
        BLOCKS,
        {"broken": {"a": "1"}, "named": {"a"}},
        Standing("due", "missing"),
    ),
    "they did, and it has other rows": (
        rows(a="2"),
        log(),
        BLOCKS,
        {"broken": {"a": "1"}},
        Standing("due", "missing"),
    ),
    "they do, and may": (rows(a="1"), log(), TAKES_ALL, {"broken": {"a": "1"}}, Standing("due", "missing")),
    "a file is gone": (rows(a="1"), log(a="1"), TAKES_ALL, {"damaged": {"a"}}, Standing("due", "damaged")),
    "a delivery died": (rows(a="1"), log(a="1"), TAKES_ALL, {"unfinished": {"a"}}, Standing("due", "unfinished")),
    "changed, and a file is gone": (rows(a="2"), log(a="1"), TAKES_ALL, {"damaged": {"a"}}, Standing("due", "changed")),
    "not over": (rows(a=("processing", None)), log(), TAKES_ALL, {}, None),
    "failed at the platform": (rows(a=("failed", None)), log(), TAKES_ALL, {}, None),
    "held, and runs again": (rows(a=("processing", None)), log(a="1"), TAKES_ALL, {}, Standing("delivered", "changed")),
    "partial, and held back": (rows(a=(PARTIAL, "1")), log(), HOLDS, {}, Standing("held", "missing")),
    "partial, and not read yet": (rows(a=(PARTIAL, None)), log(), HOLDS, {}, Standing("held", "missing")),
    "held back, and complete now": (rows(a="2"), log(), HOLDS, {}, Standing("due", "missing")),
    "held back, and named": (rows(a=(PARTIAL, "1")), log(), HOLDS, {"named": {"a"}}, Standing("due", "missing")),
    "released, and changed": (rows(a=(PARTIAL, "2")), log(a=(PARTIAL, "1")), HOLDS, {}, Standing("due", "changed")),
    "a status not asked for": (rows(a=(PARTIAL, "1")), log(), ONLY_COMPLETE, {}, None),
    "that status, and held": (
        rows(a=(PARTIAL, "2")),
        log(a="1"),
        ONLY_COMPLETE,
        {},
        Standing("delivered", "changed"),
    ),
    "that status, and named": (
        rows(a=(PARTIAL, "2")),
        log(a="1"),
        ONLY_COMPLETE,
        {"named": {"a"}},
        Standing("due", "changed"),
    ),
    "failed before": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"problems": {"a": FAILED}},
        Standing("failing", "missing", FAILED.again_at),
    ),
    "failed before, delivered since": (
        rows(a="1"),
        log(a="1"),
        TAKES_ALL,
        {"problems": {"a": FAILED}},
        Standing("delivered"),
    ),
    "changed, and cannot be read": (
        rows(a=None),
        log(a="1"),
        TAKES_ALL,
        {"problems": {"a": FAILED}},
        Standing("failing", "changed", FAILED.again_at),
    ),
    "held back, failed before": (
        rows(a=(PARTIAL, None)),
        log(),
        HOLDS,
        {"problems": {"a": FAILED}},
        Standing("held", "missing"),
    ),
    "gone before it was delivered": (rows(a="1"), log(), TAKES_ALL, {"gone": {"a"}}, Standing("gone", "missing")),
    "gone, and held": (rows(a="2"), log(a="1"), TAKES_ALL, {"gone": {"a"}}, Standing("delivered", "changed")),
    "gone, and a file is gone": (
        rows(a="1"),
        log(a="1"),
        TAKES_ALL,
        {"gone": {"a"}, "damaged": {"a"}},
        Standing("delivered", "damaged"),
    ),
    "held, and nothing known of it": ({}, log(a="1"), TAKES_ALL, {}, Standing("delivered")),
    "history": (rows(a="1"), log(), TAKES_ALL, {"beginning": began(A_COMPLETE)}, Standing("history", "missing")),
    "history that was backfilled": (
        rows(a="2"),
        log(a="1"),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE)},
        Standing("due", "changed"),
    ),
    "history, and named": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE), "named": {"a"}},
        Standing("due", "missing"),
    ),
    "history, and gone": (rows(a="1"), log(), TAKES_ALL, {"beginning": began(A_COMPLETE), "gone": {"a"}}, None),
    "history, failed before": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE), "problems": {"a": FAILED}},
        Standing("history", "missing"),
    ),
    "partial history": (
        rows(a=(PARTIAL, "1")),
        log(),
        TAKES_ALL,
        {"beginning": began(A_PARTIAL)},
        Standing("history", "missing"),
    ),
    "partial history, complete now": (
        rows(a="2"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_PARTIAL)},
        Standing("history", "missing"),
    ),
    "partial history of one that holds now": (
        rows(a=(PARTIAL, "1")),
        log(),
        HOLDS,
        {"beginning": began(A_PARTIAL)},
        Standing("held", "missing"),
    ),
    "partial history of one that holds now, complete now": (
        rows(a="2"),
        log(),
        HOLDS,
        {"beginning": began(A_PARTIAL)},
        Standing("history", "missing"),
    ),
    "complete history of one that took only partial ones": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE, rules=ONLY_PARTIAL)},
        Standing("history", "missing"),
    ),
    "history that was held back": (
        rows(a=(PARTIAL, "1")),
        log(),
        HOLDS,
        {"beginning": began(A_PARTIAL, rules=HOLDS)},
        Standing("held", "missing"),
    ),
    "history that was held back, complete now": (
        rows(a="2"),
        log(),
        HOLDS,
        {"beginning": began(A_PARTIAL, rules=HOLDS)},
        Standing("due", "missing"),
    ),
    "history that was held back by one that holds no more": (
        rows(a=(PARTIAL, "1")),
        log(),
        TAKES_ALL,
        {"beginning": began(A_PARTIAL, rules=HOLDS)},
        Standing("history", "missing"),
    ),
    "history of a status not asked for": (
        rows(a=(PARTIAL, "1")),
        log(),
        ONLY_COMPLETE,
        {"beginning": began(A_PARTIAL, rules=ONLY_COMPLETE)},
        None,
    ),
    "history of a status not asked for, complete now": (
        rows(a="2"),
        log(),
        ONLY_COMPLETE,
        {"beginning": began(A_PARTIAL, rules=ONLY_COMPLETE)},
        Standing("due", "missing"),
    ),
    "not over when it began": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(("a", "processing"))},
        Standing("due", "missing"),
    ),
    "from the beginning": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE, start="beginning")},
        Standing("due", "missing"),
    ),
    "not begun": (rows(a="1"), log(), TAKES_ALL, {"beginning": None}, None),
    "not begun, and held back": (rows(a=(PARTIAL, "1")), log(), HOLDS, {"beginning": None}, None),
    "not begun, and named": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": None, "named": {"a"}},
        Standing("due", "missing"),
    ),
    "the record was lost, the log holds it": (
        rows(a="2"),
        log(a="1"),
        TAKES_ALL,
        {"beginning": None},
        Standing("due", "changed"),
    ),
    "executed after the log's beginning, before the record's": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE, at=NOW), "began_at": NOW - timedelta(days=1)},
        Standing("due", "missing"),
    ),
    "executed before either": (
        rows(a="1"),
        log(),
        TAKES_ALL,
        {"beginning": began(A_COMPLETE, at=NOW + timedelta(days=2)), "began_at": NOW + timedelta(days=1)},
        Standing("history", "missing"),
    ),
}


@pytest.mark.parametrize(("there", "held", "rules", "facts", "expected"), CASES.values(), ids=CASES)
def test_the_standing_of_a_run(there, held, rules, facts, expected):
    assert owed(there, held, rules, **facts).by_run.get("a") == expected


def test_what_is_due_comes_in_the_order_of_execution():
    assert owed(rows(a="1", c="1", b="1")).due(NOW) == ("a", "c", "b")
    assert owed(rows(b="1", a="1"), log(a="1")).due(NOW) == ("b",)
    assert owed(rows(a="1", b="1"), log(a="1", b="1")).due(NOW) == ()


def test_what_failed_waits_longer_each_time_and_does_not_stand_in_the_way():
    problem, waits = None, []
    for _ in range(12):
        problem = problem_of(SourceDataError("broken"), problem, NOW)
        waits.append((problem.again_at - NOW).total_seconds() / 60)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    found = owed(rows(a="1", b="1"), problems={"a": FAILED})
    assert (found.due(NOW), found.of("failing"), found.waiting(NOW)) == (("b",), ("a",), ("a",))
    assert (found.due(FAILED.again_at), found.waiting(FAILED.again_at)) == (("a", "b"), ())


def test_a_problem_of_another_kind_counts_from_one():
    first = problem_of(RequestError("no bucket"), None, NOW)
    assert problem_of(RequestError("no bucket"), first, NOW).attempts == 2
    other = problem_of(TransientError("busy"), first, NOW)
    assert (other.attempts, other.permanent, first.permanent) == (1, False, True)


MANY = owed(
    rows(old="1", kept="1", changed="2", failed="1", new="1", waits=(PARTIAL, "1")),
    log(kept="1", changed="1"),
    HOLDS,
    beginning=began(("old", "completed")),
    problems={"failed": FAILED},
)


def test_whoever_asks_gets_what_is_due_and_history_only_where_it_is_asked_for():
    run = selected(MANY, history=False)
    assert (run.todo, run.there, run.history) == (("changed", "failed", "new"), ("kept",), ("old",))
    backfill = selected(MANY, history=True)
    assert (backfill.todo, backfill.there, backfill.history) == (("old", "changed", "failed", "new"), ("kept",), ())


def test_a_backfill_is_of_a_time_and_of_a_kind():
    day = timedelta(days=1)
    assert selected(MANY, None, NOW - 3 * day, NOW - day, history=True).todo == ("changed", "failed")
    assert selected(MANY, only="missing", history=True).todo == ("old", "failed", "new")
    assert selected(MANY, only="changed", history=True).todo == ("changed",)
    assert selected(MANY, ["new", "kept"], history=True) == selected(MANY, ["kept", "new"], history=True)
    assert selected(MANY, ["new", "kept"], history=False).there == ("kept",)


def test_the_reasons_are_counted():
    assert MANY.whys("due") == {"changed": 1, "missing": 1}
    assert MANY.whys("due", "failing", "held", "history") == {"missing": 4, "changed": 1}
