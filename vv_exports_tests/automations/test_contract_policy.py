"""What an automation does with runs whose rows break their prompt's schema."""

from functools import partial

import pyarrow.parquet as pq
import pytest

from vv_exports.delivery.log import entries_since
from vv_exports.errors import RunFailedError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.automations.test_reshape import client_with, of, owed, reconciled, run, team

SCHEMA = of(title="string")
WHOLE, BROKEN = {"title": "x"}, {"title": 5}


@pytest.fixture
def mixed(tmp_path):
    """One run that keeps to its schema, and one a row of which does not."""
    run(tmp_path, 0, SCHEMA, WHOLE, WHOLE)
    run(tmp_path, 1, SCHEMA, WHOLE, BROKEN)
    return tmp_path


def rows(client):
    return {
        (file.prompt_run_id, file.table): file.rows
        for one in team(client).collection().runs.values()
        for file in one.files
    }


def test_a_run_that_breaks_its_contract_waits_where_it_is_blocked_and_is_tried_no_more(mixed):
    client = client_with(mixed, contract="block")
    found = reconciled(client)
    assert found.delivered == ("run_000",)
    assert "1 of its 2 segments break" in found.problems["run_001"]
    state = client.automations.retrieve("idx", "team")
    assert (state.held, state.held_why, state.held_runs) == (1, {"contract": 1}, ("run_001",))
    assert "1 of its 2 segments breaks its prompt's schema" in state.problems["run_001"], "the figures are shown"
    assert "/title" in state.problems["run_001"]
    assert (state.failing, state.last_error, state.paused) == (0, None, False)
    assert reconciled(client).problems == {}, "it waits, and nobody tries"
    freed = client_with(mixed, contract="warn")
    assert reconciled(freed).delivered == ("run_001",)


def test_a_blocked_run_is_delivered_once_its_rows_keep_to_the_schema(mixed):
    client = client_with(mixed, contract="block")
    reconciled(client)
    run(mixed, 1, SCHEMA, WHOLE, WHOLE)
    assert reconciled(client).delivered == ("run_001",)
    assert client.automations.retrieve("idx", "team").held == 0


def test_a_run_that_breaks_its_contract_is_delivered_without_these_rows_where_they_are_set_apart(mixed):
    client = client_with(mixed, contract="quarantine", start="beginning")
    client.prompt_runs.sync("idx")
    plan, outcome = client.automations.plan_run("idx", "team"), client.automations.run("idx", "team")
    assert (outcome.rows, outcome.quarantined, set(outcome.delivered)) == (4, 1, {"run_000", "run_001"})
    assert (plan.rows, plan.files, plan.is_exact) == (4, 3, True), "the dry run said so"
    assert {one.table: one.rows for one in plan.tables} == {"segments": 3, "quarantine": 1}
    assert rows(client) == {
        ("run_000", "segments"): 2,
        ("run_001", "segments"): 1,
        ("run_001", "quarantine"): 1,
    }
    (entry,) = entries_since(team(client).destination, 0)
    assert [one.counts.quarantined for one in entry.prompt_runs] == [0, 1]
    assert reconciled(client).delivered == ()


def test_to_set_rows_apart_makes_what_was_delivered_due_for_its_shape_and_back(mixed):
    client = client_with(mixed)
    reconciled(client)
    assert rows(client) == {("run_000", "segments"): 2, ("run_001", "segments"): 2}, "a warning holds up nothing"
    apart = client_with(mixed, contract="quarantine")
    assert owed(apart)[1].whys("due") == {"reshape": 2}
    reconciled(apart)
    assert rows(apart)["run_001", "quarantine"] == 1
    blocked = client_with(mixed, contract="block")
    assert reconciled(blocked).delivered == ("run_000",)
    assert blocked.automations.retrieve("idx", "team").held_why == {"contract": 1}
    assert rows(blocked)["run_001", "quarantine"] == 1, "what is delivered stays"


def test_a_medium_that_is_erased_is_in_the_quarantine_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows_of_both = [segment(0, metadata=BROKEN, video="vid_1"), segment(1, metadata=BROKEN, video="vid_2")]
    write_run(
        tmp_path / "archive", run_id="run_000", schema=SCHEMA, segments=[*rows_of_both, segment(2, video="vid_3")]
    )
    client = client_with(tmp_path, contract="quarantine")
    reconciled(client)
    assert rows(client)["run_000", "quarantine"] == 2
    client.erasure.erase(video_id="vid_2", reason="asked for")
    assert rows(client) == {("run_000", "segments"): 1, ("run_000", "quarantine"): 1}
    (file,) = (tmp_path / "deliveries").rglob("quarantine/**/*.parquet")
    assert pq.read_table(file)["video_id"].to_pylist() == ["vid_1"]
    assert not list(tmp_path.glob("events-*")), "a history in memory has no file to clean"


@pytest.mark.parametrize("policy", ["quarantine", "block"])
def test_an_export_on_demand_has_the_policies_too(mixed, policy):
    client = client_with(mixed)
    asked = partial(client.exports.create_prompt_run_export, "run_001", contract=policy)
    if policy == "block":
        with pytest.raises(RunFailedError, match="1 of its 2 segments break"):
            client.exports.wait_for_completion(asked().export_id)
        return
    export = client.exports.wait_for_completion(asked().export_id)
    assert (export.rows, export.files) == (2, 2)
