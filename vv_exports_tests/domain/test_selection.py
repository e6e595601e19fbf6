import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.domain.exports import export_id_of, export_ids
from vv_exports.domain.prompt_runs import DELIVERABLE, PromptRun, RunStatus
from vv_exports.domain.selection import chosen_runs, missing_message, takes
from vv_exports.errors import NotFoundError, SelectionError

_ALL = [str(status) for status in DELIVERABLE]


def _run(run_id: str, status: RunStatus = RunStatus.COMPLETED) -> PromptRun:
    return PromptRun(run_id, "idx", "prm", "Prompt", status, datetime(2026, 10, 1, tzinfo=UTC), {})


EACH = [_run(str(status), status) for status in RunStatus]


def _ids(runs):
    return [run.run_id for run in runs]


def test_without_a_choice_all_finished_runs_are_chosen():
    assert _ids(chosen_runs(EACH, None, index_id="idx")) == ["completed", "completed_with_failures"]


def test_a_choice_comes_in_the_order_of_the_runs_not_of_the_request():
    assert _ids(chosen_runs(EACH, ["completed_with_failures", "completed"], index_id="idx")) == [
        "completed",
        "completed_with_failures",
    ]


def test_an_index_without_finished_runs_has_nothing_to_export():
    with pytest.raises(SelectionError, match="no finished prompt run to export; it has 1 runs in all"):
        chosen_runs([_run("r", RunStatus.PROCESSING)], None, index_id="idx")
    with pytest.raises(SelectionError, match="it has 0 runs"):
        chosen_runs([], None, index_id="idx")


def test_an_empty_choice_is_not_everything():
    with pytest.raises(SelectionError, match="name at least one"):
        chosen_runs(EACH, [], index_id="idx")


@pytest.mark.parametrize("status", sorted(set(RunStatus) - DELIVERABLE))
def test_a_run_that_is_not_finished_cannot_be_chosen_and_all_such_are_named(status):
    runs = [_run("good"), _run("bad", status), _run("worse", status)]
    with pytest.raises(SelectionError, match=f"'bad' is {status}, 'worse' is {status}"):
        chosen_runs(runs, ["good", "bad", "worse"], index_id="idx")


def test_a_run_named_twice_is_a_mistake():
    with pytest.raises(SelectionError, match="named twice: 'a', 'b'"):
        chosen_runs([_run("a"), _run("b"), _run("c")], ["b", "a", "b", "c", "a"], index_id="idx")


def test_runs_that_do_not_exist_are_named_with_what_is_near():
    with pytest.raises(NotFoundError, match=r"'run_12x' does not exist in index 'idx'\. Did you mean 'run_123'\?"):
        chosen_runs([_run("run_123"), _run("other")], ["run_12x"], index_id="idx")


@pytest.mark.parametrize(
    ("on_status", "partial", "delivered", "expected"),
    [
        (_ALL, "deliver", (), ["completed", "completed_with_failures"]),
        (_ALL, "hold", (), ["completed"]),
        (_ALL, "hold", ["completed_with_failures"], ["completed", "completed_with_failures"]),
        (["completed"], "deliver", (), ["completed"]),
        (["completed"], "deliver", ["completed_with_failures"], ["completed"]),
        (["completed_with_failures"], "deliver", (), ["completed_with_failures"]),
        (["completed_with_failures"], "hold", (), []),
        ([], "deliver", (), []),
        ([str(status) for status in RunStatus], "deliver", (), ["completed", "completed_with_failures"]),
    ],
)
def test_what_an_automation_takes_by_itself(on_status, partial, delivered, expected):
    taken = [
        run.run_id
        for run in EACH
        if takes(run.status, on_status=on_status, partial=partial, delivered=run.run_id in delivered)
    ]
    assert taken == expected


@pytest.mark.parametrize("status", sorted(set(RunStatus) - DELIVERABLE))
def test_a_delivered_run_that_is_being_run_again_waits(status):
    assert not takes(status, on_status=[*_ALL, status], partial="deliver", delivered=True)


def test_a_message_about_thousands_of_names_stays_short():
    many = [f"run_{n}" for n in range(5000)]
    message = missing_message("prompt run", many, many, "here")
    assert "and 4995 more does not exist" in message
    assert "and 4990 more." in message
    assert len(message) < 500


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_every_target_of_a_launch_has_an_export_of_its_own_that_leads_back_to_it(targets):
    launch = export_id_of("8f14e45f-ceea-467f-a8f2-0c6d2b4f1a11")
    ids = export_ids(launch, targets)
    assert list(ids) == targets
    assert all(a != b for a, b in itertools.combinations(ids.values(), 2))
    assert {"_".join(export_id.split("_")[:2]) for export_id in ids.values()} == {launch}
    assert (list(ids.values()) == [launch]) == (len(targets) == 1)
