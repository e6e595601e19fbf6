"""A prompt run whose record cannot be read: nobody is left out unnoticed, and the others are delivered."""

import os

import pytest

from vv_exports.errors import NotFoundError, RunFailedError, SourceDataError, UnreadableRunsError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.defs.test_sensors import DISCOVERY, TEAM, Daemon, finish
from vv_exports_tests.deployments import client_of, reconciled, write_config, written_files

RECORD = "archive/indexes/idx/prompt_runs/run_1/prompt_run.json"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def huge(path):
    with path.open("wb") as file:
        file.truncate(2 << 30)


def dangling(path):
    path.unlink()
    path.symlink_to("gone")


BROKEN = {"cut short": truncate, "a FIFO": fifo, "huge": huge, "a dangling link": dangling}


@pytest.fixture
def folder(tmp_path):
    finish(tmp_path, 0, 1, 2)
    return tmp_path


@pytest.fixture
def broken(folder):
    """One of three runs has a record that is cut short. Returns what mends it."""
    whole = (folder / RECORD).read_bytes()
    truncate(folder / RECORD)
    return lambda: (folder / RECORD).write_bytes(whole)


def delivered(client):
    return set(client.pipeline.automations.get("idx", "team").collection().runs)


@pytest.mark.parametrize("how", BROKEN)
def test_an_automation_delivers_the_others_and_then_fails_naming_it(folder, how):
    BROKEN[how](folder / RECORD)
    client = client_of(folder)
    with pytest.raises(
        UnreadableRunsError, match=r"(?s)1 of 3 prompt runs could not be delivered; .*- run_1: .*run_1/pr"
    ):
        client.automations.run("idx", "team")
    assert delivered(client) == {"run_0", "run_2"}


def test_a_broken_record_and_broken_results_are_both_named(folder, broken):
    truncate(folder / "archive/indexes/idx/prompt_runs/run_2/segment_results.jsonl")
    client = client_of(folder)
    with pytest.raises(RunFailedError, match=r"(?s)run_2/segment_results.jsonl, line 3.*- run_1: .*prompt_run.json"):
        client.automations.run("idx", "team")
    assert delivered(client) == {"run_0"}


@pytest.mark.parametrize("work", ["run", "backfill"])
def test_chosen_runs_that_are_fine_are_delivered_without_an_error(folder, broken, work):
    client = client_of(folder)
    assert getattr(client.automations, work)("idx", "team", ["run_2"]).delivered == ("run_2",)
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json"):
        getattr(client.automations, work)("idx", "team", ["run_1", "run_0"])
    with pytest.raises(NotFoundError, match="'run_9' does not exist"):
        getattr(client.automations, work)("idx", "team", ["run_9"])
    assert delivered(client) == {"run_2"}


def test_a_backfill_and_a_sync_do_the_others_and_then_name_it(folder, broken):
    client = client_of(folder)
    with pytest.raises(UnreadableRunsError, match=r"could not be read; the other 2 were.*(?s:.*)run_1"):
        client.prompt_runs.sync("idx")
    assert client.pipeline.snapshots.store.current("idx", "run_2") is not None
    plan = client.automations.plan_backfill("idx", "team")
    assert [one.run_id for one in plan.prompt_runs] == ["run_0", "run_2"]
    assert "run_1/prompt_run.json" in plan.problems["run_1"]
    with pytest.raises(UnreadableRunsError, match=r"run_1/prompt_run\.json"):
        client.automations.backfill("idx", "team")
    assert delivered(client) == {"run_0", "run_2"}


def test_an_export_of_the_whole_index_is_refused_before_any_write_and_one_of_chosen_runs_is_made(folder, broken):
    client = client_of(folder)
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json"):
        client.exports.create_index_export("idx", None, "conn_export", "all")
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json"):
        client.exports.create_index_export("idx", ["run_0", "run_1"], "conn_export", "two")
    with pytest.raises(SourceDataError, match=r"run_1/prompt_run\.json"):
        client.exports.create_prompt_run_export("run_1")
    assert written_files(folder) == {}
    assert not (folder / "storage").exists() or not list((folder / "storage").rglob("*.*"))
    assert client.exports.create_index_export("idx", ["run_0", "run_2"], "conn_export", "two").rows == 6
    assert client.exports.create_prompt_run_export("run_2").rows == 3


def test_a_broken_record_is_not_gone_and_is_not_forgotten(folder):
    client = client_of(folder)
    client.automations.run("idx", "team")
    truncate(folder / RECORD)
    assert client.prompt_runs.prune("idx", dry_run=True).prompt_runs == ()
    daemon = Daemon(folder)
    with pytest.raises(UnreadableRunsError):
        daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").gone == {}


@pytest.mark.slow
def test_discovery_has_the_others_delivered_then_fails_and_delivers_it_when_it_is_mended(tmp_path):
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path)
    daemon.tick(DISCOVERY)
    finish(tmp_path, 1, 2)
    whole = (tmp_path / RECORD).read_bytes()
    truncate(tmp_path / RECORD)
    daemon.tick(DISCOVERY)
    while not daemon.tick(TEAM):
        pass
    assert daemon.delivered() == {"run_2": 1}
    for _ in range(2):
        with pytest.raises(UnreadableRunsError, match=r"run_1/prompt_run\.json"):
            daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").problems["run_1"].attempts == 1
    state = daemon.client.automations.retrieve("idx", "team")
    assert (state.failing, state.problems.keys()) == (1, {"run_1"})
    (tmp_path / RECORD).write_bytes(whole)
    daemon.now = daemon.client.pipeline.snapshots.catalogs.read("idx").problems["run_1"].again_at
    daemon.deliver()
    assert daemon.delivered() == {"run_1": 1, "run_2": 1}


def test_a_reconciliation_puts_the_others_right_and_names_it(tmp_path):
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path)
    daemon.tick(DISCOVERY)
    finish(tmp_path, 1, 2)
    truncate(tmp_path / RECORD)
    found = reconciled(daemon.client)
    assert [one.run_id for delivery in found.deliveries for one in delivery.prompt_runs] == ["run_2"]
    assert found.problems.keys() == {"run_1"}


@pytest.mark.slow
def test_the_command_shows_it_with_the_reason(folder, broken):
    write_config(folder)
    said = run(folder, "runs", "list", "idx")
    assert said.code == 1
    assert [line.split("\t")[0] for line in said.out.splitlines()] == ["run_id", "run_0", "run_2", "run_1"]
    assert "run_1/prompt_run.json: expected one JSON document" in said.out
    rows = run(folder, "runs", "list", "idx", "--json").document
    assert [row["problem"] is None for row in rows] == [True, True, False]
    planned = run(folder, "backfill", "idx", "team", "--dry-run")
    assert (planned.code, "whether run_1 would be delivered is not known" in planned.err) == (1, True)
    assert run(folder, "automations", "list").code == 0
    checked = run(folder, "source", "check")
    assert checked.code == 1
    assert "FAILED  index idx, prompt run 'run_1':" in checked.out
    assert "ok      index idx: 'Index idx': 2 prompt runs" in checked.out
    ran = run(folder, "automations", "run", "idx", "team")
    assert (ran.code, "run_1/prompt_run.json" in ran.err) == (1, True)
    broken()
    assert run(folder, "runs", "list", "idx").code == 0
    assert run(folder, "automations", "run", "idx", "team").out.startswith("idx/team: delivered 1 prompt run ")


def test_an_index_whose_record_is_broken_keeps_no_other_from_being_delivered(folder):
    write_run(folder / "archive", index_id="idy", run_id="run_9")
    (folder / "archive/indexes/idy/index.json").unlink()
    (folder / "archive/indexes/idy/index.json").symlink_to("/dev/zero")
    assert len(client_of(folder).automations.run("idx", "team").delivered) == 3
