"""When which prompt run was delivered, replaced or erased, and why: told by the log at the destination alone."""

import json
import shutil

import msgspec
import pytest

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.history import history_of
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run, write_deployment
from vv_exports_tests.deployments import client_of
from vv_exports_tests.upgrades import INDEX, PLAIN, entries, pipeline_of, unpacked


def change(folder, **run_fields):
    """The source's run_124, as it is from now on."""
    shutil.rmtree(folder / "archive/indexes/idx/prompt_runs/run_124", ignore_errors=True)
    write_run(folder / "archive", run_id="run_124", executed_at="2026-10-02T00:00:00Z", **run_fields)


@pytest.fixture
def used(tmp_path):
    """A collection in which a run was delivered, had other rows, and another status."""
    folder = write_deployment(tmp_path)
    client = client_of(folder)
    client.automations.run("idx", "team")
    change(folder, segments=4)
    client.automations.run("idx", "team")
    change(folder, segments=4, status="completed_with_failures")
    client.automations.run("idx", "team")
    return folder, client


def told(history):
    return [(one.entry, one.run_id, one.what, one.why) for one in history.events]


def test_each_change_of_a_run_is_told_with_rows_before_and_after_the_newest_first(used):
    _, client = used
    history = client.automations.history("idx", "team")
    assert told(history) == [
        (2, "run_124", "replaced", "the status was completed and is completed_with_failures"),
        (1, "run_124", "replaced", "other results: revision 2 after 1"),
        (0, "run_124", "delivered", "new"),
        (0, "run_123", "delivered", "new"),
    ]
    rows = [(one.rows_before, one.rows_after, one.supersedes) for one in history.events]
    segments = [{"segments": count} for count in (2, 3, 4)]
    assert rows == [
        (segments[2], segments[2], 1),
        (segments[0], segments[2], 0),
        (None, segments[0], None),
        (None, segments[1], None),
    ]


def test_files_that_were_put_right_are_told_from_other_rows(used):
    folder, client = used
    next((folder / "deliveries/exports/team/segments").rglob("prompt_run_id=run_123/*.parquet")).unlink()
    client.automations.run("idx", "team")
    newest = client.automations.history("idx", "team", "run_123").events[0]
    assert (newest.what, newest.why) == ("rewritten", "files were missing, damaged or left over")
    assert newest.rows_before == newest.rows_after == {"segments": 3}


def test_an_erasure_is_told_with_its_reason_and_what_it_took(used):
    _, client = used
    client.erasure.erase(run_id="run_124", reason="request 77")
    erased, *_, first = client.automations.history("idx", "team", "run_124").events
    assert (erased.what, erased.why, erased.rows_before, erased.rows_after) == (
        "erased",
        "request 77",
        {"segments": 4},
        {},
    )
    assert first.what == "delivered", "the log still says that it was there"


def test_a_medium_that_was_erased_is_told_as_rows_that_are_no_more(tmp_path):
    folder = write_deployment(tmp_path)
    client = client_of(folder)
    client.automations.run("idx", "team")
    client.erasure.erase(video_id="vid_1", reason="request 78")
    newest = client.automations.history("idx", "team").events[0]
    assert (newest.what, newest.why) == ("replaced", "without the rows of erased media: request 78")
    assert sum(newest.rows_after.values()) < sum(newest.rows_before.values())


def test_the_command_tells_the_newest_and_how_many_more_there_are(used):
    folder, _ = used
    said = run(folder, "automations", "history", "idx", "team", "--limit", "2")
    header, first, second, more = said.out.splitlines()
    assert (said.code, header.split("\t")[0]) == (0, "when")
    assert "\trun_124\treplaced\tother results: revision 2 after 1\t2 segments\t4 segments\t1" in second
    assert first.endswith("\t2")
    assert more == "These are the newest 2 of 4: --limit lists more."
    document = run(folder, "automations", "history", "idx", "team", "--run", "run_123", "--json").document
    assert [(one["run_id"], one["rows_after"]) for one in document["events"]] == [("run_123", {"segments": 3})]
    assert (document["left_out"], document["problems"]) == (0, [])
    assert run(folder, "automations", "history", "idx", "team", "--run", "no").out == "nothing was delivered of no\n"


def test_a_limit_below_one_is_refused_in_python_too(used):
    _, client = used
    with pytest.raises(RequestError, match="limit is 0"):
        client.automations.history("idx", "team", limit=0)


def test_entries_that_are_missing_or_cannot_be_read_are_said_and_the_others_told(used):
    folder, _ = used
    log = folder / "deliveries/exports/team/_vv/log"
    (log / f"{0:020}.json").unlink()
    (log / f"{1:020}.json").write_text("{")
    said = run(folder, "automations", "history", "idx", "team", "--json")
    assert said.code == 1
    assert [one["entry"] for one in said.document["events"]] == [2]
    missing, unusable = said.document["problems"]
    assert missing.endswith(f"{0:020}.json is missing")
    assert "is not a delivery log entry" in unusable


def test_a_log_of_version_0_1_tells_its_history_too(tmp_path):
    automation = next(iter(pipeline_of(unpacked(tmp_path, PLAIN)).automations))
    assert automation.index_id == INDEX
    destination: Destination = automation.destination
    log = entries(tmp_path / "deliveries" / destination.subpath)
    history = history_of(destination)
    assert len(history.events) == sum(len(entry["prompt_runs"]) for entry in log)
    assert {(one.what, one.why) for one in history.events} == {("delivered", "new")}
    assert history.problems == ()
    # A run of which other rows were delivered, by one of its first builds, which said no reasons.
    first, again = log[0], json.loads(json.dumps(log[0]))
    again |= {"sequence": len(log), "delivery_id": "f" * 32}
    again["prompt_runs"] = [again["prompt_runs"][0] | {"data_version": "other", "revision": 2, "supersedes": 0}]
    del again["prompt_runs"][0]["reason"]
    path = tmp_path / "deliveries" / destination.subpath / f"_vv/log/{len(log):020}.json"
    path.write_bytes(msgspec.json.encode(again))
    newest = history_of(destination).events[0]
    assert (newest.run_id, newest.what) == (first["prompt_runs"][0]["run_id"], "replaced")
    assert newest.why.startswith("other results: revision 2 after ")
