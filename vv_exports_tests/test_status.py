"""Is it complete, is it the newest, and what did the last verification find: told of each collection at once."""

import copy
import json
import shutil

import pytest

from vv_exports.errors import NotFoundError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run, write_deployment
from vv_exports_tests.deployments import CONFIG, client_of

WITH_NEW = copy.deepcopy(CONFIG)
WITH_NEW["indexes"]["idx_new"] = {}


@pytest.fixture
def delivered(tmp_path):
    """A deployment whose collection ``team`` is complete."""
    folder = write_deployment(tmp_path, WITH_NEW)
    client = client_of(folder, WITH_NEW)
    client.automations.run("idx", "team")
    return folder, client


def of(client, automation="team"):
    return client.status("idx", automation)[0]


def test_a_collection_is_complete_until_the_source_has_a_newer_run_and_says_since_when(delivered):
    folder, client = delivered
    found = of(client)
    assert (found.complete, found.answer) == (True, "complete, and the newest")
    assert (found.source.prompt_runs, found.source.finished, found.state.delivered) == (6, 2, 2)
    write_run(folder / "archive", run_id="run_new", executed_at="2026-10-05T00:00:00Z")
    write_run(folder / "archive", run_id="run_newer", executed_at="2026-10-06T00:00:00Z")
    found = of(client)
    assert (found.complete, found.answer) == (False, "not complete: 2 due")
    assert (found.state.oldest_due_run, found.state.oldest_due_at) == ("run_new", "2026-10-05T00:00:00Z")
    assert of(client, "held").answer == "not complete: 4 due; paused by the configuration (`paused: true`)"


def test_what_waits_for_its_schedule_or_for_somebody_says_so(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"] |= {"trigger": "manual"}
    folder = write_deployment(tmp_path, config)
    client = client_of(folder, config)
    client.automations.run("idx", "team", ["run_123"])
    found = of(client)
    assert found.answer == "not complete: 1 due; it waits for `vv-exports automations run`"
    assert found.document["trigger"] == "manual"


def test_what_the_last_verification_found_is_told_and_when(delivered):
    folder, client = delivered
    assert (of(client).document["verification"], of(client).document["verified_at"]) == ("not yet", None)
    file = next((folder / "deliveries/exports/team/segments").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    client.verify("conn_export", "exports/team")
    found = of(client).document
    assert found["verification"] == "failed"
    assert found["verified_at"] is not None
    assert file.name in found["verification_found"]


def test_a_source_out_of_reach_is_said_and_the_rest_is_shown_all_the_same(delivered):
    folder, _ = delivered
    shutil.move(folder / "archive", folder / "elsewhere")
    said = run(folder, "status", "--json")
    assert said.code == 1
    found = {one["automation"]: one for one in said.document}
    assert set(found) == {"team", "held", "off"}
    assert (found["team"]["complete"], found["team"]["delivered"], found["team"]["due"]) == (None, 2, 0)
    assert found["team"]["last_delivery_at"] is not None
    assert "no archive at" in found["team"]["source_error"]
    assert (found["held"]["due"], found["held"]["source_runs"]) == (2, None), "by what was read of it before"
    lines = run(folder, "status", "idx", "team").out.splitlines()
    assert lines[0].startswith("idx/team: not known: the source cannot be asked")
    assert "  delivered: 2" in lines


def test_a_collection_whose_log_cannot_be_read_claims_no_figures_and_hides_no_other(delivered):
    folder, _ = delivered
    (folder / "deliveries/exports/team/_vv/log/00000000000000000000.json").write_text("{")
    said = run(folder, "status")
    assert said.code == 1
    assert "idx/team: not known: what it holds, or is to hold, cannot be read\n" in said.out
    assert "  delivered: not known\n  due: not known\n" in said.out
    assert "idx/held: not complete: 2 due" in said.out
    found = json.loads(run(folder, "status", "idx", "team", "--json").out)[0]
    assert [found[name] for name in ("complete", "delivered", "due", "failing", "held", "oldest_due_at")] == [None] * 6


def test_an_index_without_automations_is_said_and_one_that_is_not_configured_refused(delivered):
    folder, client = delivered
    said = run(folder, "status", "idx_new")
    assert (said.code, said.out) == (0, "no automations are configured of this index\n")
    assert run(folder, "status", "idx_other").code == 2
    with pytest.raises(NotFoundError, match="team"):
        client.status("idx", "tem")
