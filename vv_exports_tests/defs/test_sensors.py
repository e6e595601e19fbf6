"""Finished runs reach their collections by themselves: once, in spite of pauses, failures and lost databases."""

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from vv_exports.client import VVExports
from vv_exports.defs.keys import asset_key, reconciliation_key
from vv_exports.delivery.log import entries_since
from vv_exports.errors import NotFoundError, RequestError, SelectionError, SourceDataError, TransientError
from vv_exports.sources.base import Listing
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, reconciled, write_config, written_files

pytestmark = pytest.mark.slow

DISCOVERY = "idx__discovery"
TEAM, HELD, OFF = "idx__team__delivery", "idx__held__delivery", "idx__off__delivery"


FROM_NOW = copy.deepcopy(CONFIG)
for fields in FROM_NOW["indexes"]["idx"]["automations"].values():
    fields["start"] = "now"


def config_with(**automations):
    config = copy.deepcopy(FROM_NOW)
    for name, fields in automations.items():
        config["indexes"]["idx"]["automations"][name] |= fields
    return config


def finish(folder: Path, *numbers: int, **fields) -> None:
    for number in numbers:
        run_id = f"run_{number}"
        write_run(folder / "archive", run_id=run_id, executed_at=f"2026-10-{number + 1:02}T00:00:00Z", **fields)


class Daemon:
    """What the Dagster daemon does, by hand: ticks, and the runs that they ask for, in this process."""

    def __init__(self, folder: Path, config=FROM_NOW, now: datetime | None = None) -> None:
        (folder / "dagster").mkdir(exist_ok=True)
        self.folder = folder
        self.instance = dg.DagsterInstance.local_temp(str(folder / "dagster"))
        self.client = VVExports(write_config(folder, config), instance=self.instance)
        self.now = now or datetime.now(UTC)
        self.client.pipeline.clock = self._clock
        self.runs: list[dg.ExecuteInProcessResult] = []

    def _clock(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def tick(self, sensor: str) -> str:
        """One tick, and its runs. Returns its reason where it asks for none."""
        definitions = self.client.definitions
        context = dg.build_sensor_context(instance=self.instance, definitions=definitions)
        result = definitions.resolve_sensor_def(sensor)(context)
        if isinstance(result, dg.SkipReason):
            return result.skip_message
        job = definitions.resolve_implicit_global_asset_job_def()
        for request in result.run_requests:
            selection = list(request.asset_selection)
            self.runs.append(
                job.execute_in_process(
                    instance=self.instance, asset_selection=selection, tags=dict(request.tags), raise_on_error=False
                )
            )
        return result.skip_reason.skip_message if result.skip_reason else ""

    def deliver(self, *sensors: str) -> None:
        """Discover, then let automations deliver until they ask for nothing more."""
        self.tick(DISCOVERY)
        for sensor in sensors or (TEAM,):
            while not self.tick(sensor):
                pass

    def switch(self, sensor: str, on: bool) -> None:
        """What the switch of the UI does."""
        location = RegisteredCodeLocationOrigin("vv_exports")
        origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), sensor)
        data = SensorInstigatorData(last_sensor_start_timestamp=self.now.timestamp() if on else None)
        status = InstigatorStatus.RUNNING if on else InstigatorStatus.STOPPED
        state = InstigatorState(origin, InstigatorType.SENSOR, status, data)
        if self.state_of(sensor) is None:
            self.instance.add_instigator_state(state)
        else:
            self.instance.update_instigator_state(state)

    def state_of(self, sensor: str) -> InstigatorState | None:
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        return next((state for state in states if state.instigator_name == sensor), None)

    def delivered(self, automation: str = "team") -> Counter:
        """How often each run is in a collection's log."""
        entries = entries_since(self.client.pipeline.automations.get("idx", automation).destination, 0)
        return Counter(run.run_id for entry in entries for run in entry.prompt_runs)


@pytest.fixture
def daemon(tmp_path):
    finish(tmp_path, 0, 1)
    return Daemon(tmp_path)


def test_what_finishes_after_the_beginning_is_delivered_once_and_history_is_not(daemon, tmp_path):
    assert "begins when" in daemon.tick(TEAM)
    daemon.deliver()
    assert daemon.delivered() == {}
    finish(tmp_path, 2, 3)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1, "run_3": 1}
    assert len(daemon.runs) == 2, "one for the snapshots, one for the delivery"
    shown = daemon.instance.get_materialized_partitions(asset_key("idx", "exports", "team"))
    assert shown == {"run_2", "run_3"}
    before = written_files(tmp_path)
    daemon.deliver()
    assert (written_files(tmp_path), len(daemon.runs)) == (before, 2)


def test_start_beginning_delivers_history(tmp_path):
    finish(tmp_path, 0, 1)
    daemon = Daemon(tmp_path, config_with(team={"start": "beginning"}))
    daemon.deliver()
    assert daemon.delivered() == {"run_0": 1, "run_1": 1}


def test_a_changed_run_is_delivered_again_and_one_of_the_history_once_a_backfill_delivered_it(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.deliver()
    finish(tmp_path, 0, 1, 2, segments=5)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 2}
    daemon.client.automations.backfill("idx", "team", ["run_0"])
    finish(tmp_path, 0, segments=7)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 2, "run_0": 2}


def test_where_a_lost_storage_began_is_told_by_the_log(daemon, tmp_path, caplog):
    """What finished between the beginning and the loss was taken for history, and never delivered."""
    daemon.deliver()
    began = daemon.now
    finish(tmp_path, 2)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1}
    executed_at = (began + timedelta(days=1)).isoformat()
    write_run(tmp_path / "archive", run_id="run_3", executed_at=executed_at)
    shutil.rmtree(tmp_path / "storage")
    again = Daemon(tmp_path, now=began + timedelta(days=2))
    again.deliver()
    assert again.delivered() == {"run_2": 1, "run_3": 1}, "run_0 and run_1 are history as before"
    assert "that prompt runs that were executed since then are delivered" in caplog.text
    found = again.client.automations.retrieve("idx", "team")
    assert (found.history, found.due, found.began_at) == (2, 0, began.isoformat(timespec="seconds")[:19] + "Z")
    write_run(tmp_path / "archive", run_id="run_4", executed_at=executed_at)
    assert reconciled(again.client).missing == ("run_4",)


def test_no_cursor_is_kept(daemon, tmp_path):
    finish(tmp_path, 2)
    for sensor in (DISCOVERY, TEAM):
        context = dg.build_sensor_context(instance=daemon.instance, definitions=daemon.client.definitions)
        daemon.client.definitions.resolve_sensor_def(sensor)(context)
        assert context.cursor is None


def test_a_lost_dagster_database_loses_nothing_and_repeats_nothing(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3)
    daemon.deliver()
    finish(tmp_path, 4)
    before = written_files(tmp_path)
    shutil.rmtree(tmp_path / "dagster")
    again = Daemon(tmp_path)
    again.deliver()
    assert again.delivered() == {"run_2": 1, "run_3": 1, "run_4": 1}
    assert before.items() <= written_files(tmp_path).items()


def test_two_daemons_deliver_once(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3)
    (tmp_path / "dagster2").mkdir()
    other = Daemon(tmp_path)
    other.instance = dg.DagsterInstance.local_temp(str(tmp_path / "dagster2"))
    daemon.tick(DISCOVERY)
    other.tick(DISCOVERY)
    daemon.tick(TEAM)
    other.client.pipeline.automations.get("idx", "team")._state = None
    other.tick(TEAM)
    assert daemon.delivered() == {"run_2": 1, "run_3": 1}


def test_a_batch_is_as_large_as_the_configuration_says(tmp_path):
    daemon = Daemon(tmp_path, config_with(team={"start": "beginning", "max_runs_per_delivery": 2}))
    finish(tmp_path, *range(5))
    daemon.deliver()
    entries = entries_since(daemon.client.pipeline.automations.get("idx", "team").destination, 0)
    assert [len(entry.prompt_runs) for entry in entries] == [2, 2, 1]


def test_no_second_run_is_asked_for_while_one_is_under_way(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.tick(DISCOVERY)
    run = dg.DagsterRun(
        job_name="__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, tags={"vv_exports/automation": "idx/team"}
    )
    daemon.instance.add_run(run)
    assert f"Dagster run {run.run_id} is under way" in daemon.tick(TEAM)
    daemon.instance.report_run_failed(run)
    assert "1 failed in a row; the next attempt is at" in daemon.tick(TEAM)
    daemon.now += timedelta(minutes=2)
    assert not daemon.tick(TEAM)
    assert daemon.delivered() == {"run_2": 1}


def crashed_machine(daemon, **tags) -> dg.DagsterRun:
    """A run of this machine whose process is gone, and that Dagster believes to be under way."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=dg.DagsterRunStatus.STARTING, tags=dict(tags))
    daemon.instance.add_run(run)
    event = dg.DagsterEvent("PIPELINE_START", "__ASSET_JOB")
    daemon.instance.report_dagster_event(event, run.run_id)
    return run


def test_a_run_whose_machine_crashed_does_not_hold_its_automation_up(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    run = crashed_machine(daemon, **{"vv_exports/automation": "idx/team"})
    worker = f"{run.run_id} {socket.gethostname()} {gone.pid} 12345"
    daemon.instance.add_run_tags(run.run_id, {"vv_exports/worker": worker})
    daemon.tick(DISCOVERY)
    assert daemon.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    daemon.now += timedelta(minutes=2)
    assert not daemon.tick(TEAM)
    assert daemon.delivered() == {"run_2": 1}
    worked = daemon.instance.get_run_by_id(daemon.runs[-1].dagster_run.run_id)
    assert worked.tags[".dagster/vv_exports.worker"].split()[2] == f"{os.getpid()}"


def test_a_run_of_another_machine_is_left_alone(daemon):
    elsewhere, somebodys = crashed_machine(daemon), crashed_machine(daemon)
    daemon.instance.add_run_tags(elsewhere.run_id, {"vv_exports/worker": f"{elsewhere.run_id} another-host 1 12345"})
    daemon.tick(DISCOVERY)
    statuses = [daemon.instance.get_run_by_id(run.run_id).status.value for run in (elsewhere, somebodys)]
    assert statuses == ["STARTED", "STARTED"]


# Pause and resume


def state(daemon, automation="team"):
    found = daemon.client.automations.retrieve("idx", automation)
    return found.paused, found.paused_by, found.due


def test_a_pause_by_the_command_keeps_the_place_and_turns_the_switch_off(daemon, tmp_path):
    daemon.deliver()
    daemon.switch(TEAM, on=True)
    daemon.now += timedelta(seconds=1)
    daemon.client.automations.pause("idx", "team", "the share moves")
    assert daemon.state_of(TEAM).status == InstigatorStatus.STOPPED
    finish(tmp_path, 2, 3)
    again = Daemon(tmp_path, now=daemon.now)
    again.tick(DISCOVERY)
    assert "the share moves. It keeps its place" in again.tick(TEAM)
    assert (state(again)[0], state(again)[2]) == (True, 2)
    again.client.automations.resume("idx", "team")
    assert again.state_of(TEAM).status == InstigatorStatus.RUNNING
    assert state(again) == (False, None, 2)
    again.deliver()
    assert again.delivered() == {"run_2": 1, "run_3": 1}


def test_a_pause_by_the_switch_is_seen_by_the_list_and_lifted_by_the_command(daemon):
    daemon.deliver()
    daemon.switch(TEAM, on=False)
    assert state(daemon)[:2] == (True, "the sensor's switch")
    daemon.client.automations.resume("idx", "team")
    assert daemon.state_of(TEAM).status == InstigatorStatus.RUNNING
    assert state(daemon)[:2] == (False, None)


def test_switching_on_lifts_a_pause_by_the_command(daemon, tmp_path):
    daemon.deliver()
    daemon.client.automations.pause("idx", "team")
    daemon.now += timedelta(seconds=1)
    daemon.switch(TEAM, on=True)
    assert state(daemon)[:2] == (False, None)
    finish(tmp_path, 2)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1}
    assert daemon.client.pipeline.automations.get("idx", "team").record.state().pause is None


def test_a_pause_by_the_command_survives_a_lost_database_and_turns_the_new_switch_off(daemon, tmp_path):
    daemon.deliver()
    daemon.client.automations.pause("idx", "team", "the share moves")
    shutil.rmtree(tmp_path / "dagster")
    again = Daemon(tmp_path)
    again.switch(TEAM, on=False)
    # What the daemon writes when it sees the sensor for the first time. It took its time for that of a switch.
    again.now += timedelta(seconds=1)
    seen = SensorInstigatorData(last_sensor_start_timestamp=again.now.timestamp())
    location = again.state_of(TEAM).with_data(seen)
    again.instance.update_instigator_state(location.with_status(InstigatorStatus.DECLARED_IN_CODE))
    finish(tmp_path, 2)
    again.tick(DISCOVERY)
    assert "the share moves" in again.tick(TEAM)
    assert again.state_of(TEAM).status == InstigatorStatus.STOPPED
    assert again.delivered() == {}


def test_a_pause_that_a_restored_storage_has_forgotten_holds_by_the_switch(daemon, tmp_path):
    daemon.deliver()
    daemon.switch(TEAM, on=True)
    shutil.copytree(tmp_path / "storage", tmp_path / "backup")
    daemon.now += timedelta(seconds=1)
    daemon.client.automations.pause("idx", "team", "the share moves")
    shutil.rmtree(tmp_path / "storage")
    shutil.copytree(tmp_path / "backup", tmp_path / "storage")
    again = Daemon(tmp_path, now=daemon.now)
    assert state(again)[:2] == (True, "the sensor's switch")


def test_a_pause_that_was_lifted_since_the_backup_of_the_storage_stays_lifted(daemon, tmp_path):
    daemon.deliver()
    daemon.switch(TEAM, on=True)
    daemon.now += timedelta(seconds=1)
    daemon.client.automations.pause("idx", "team", "the share moves")
    shutil.copytree(tmp_path / "storage", tmp_path / "backup")
    daemon.now += timedelta(seconds=1)
    daemon.switch(TEAM, on=True)
    shutil.rmtree(tmp_path / "storage")
    shutil.copytree(tmp_path / "backup", tmp_path / "storage")
    assert state(Daemon(tmp_path, now=daemon.now))[:2] == (False, None)


def test_the_configurations_pause_wins(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.tick(DISCOVERY)
    daemon.switch(HELD, on=True)
    assert "Paused by the configuration" in daemon.tick(HELD)
    assert state(daemon, "held")[:2] == (True, "the configuration")
    with pytest.raises(SelectionError, match="paused in the configuration"):
        daemon.client.automations.resume("idx", "held")
    with pytest.raises(NotFoundError):
        daemon.client.automations.pause("idx", "nobody")
    again = Daemon(tmp_path, config_with(held={"paused": False}))
    again.deliver(HELD)
    assert again.delivered("held") == {"run_2": 1}


def test_a_disabled_automation_is_there_says_why_and_never_fires(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.tick(DISCOVERY)
    sensor = daemon.client.definitions.resolve_sensor_def(OFF)
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert "disabled in the configuration" in sensor.description
    assert "enabled: true" in daemon.tick(OFF)
    assert daemon.delivered("off") == {}


def test_two_automations_do_not_affect_each_other(tmp_path):
    daemon = Daemon(tmp_path, config_with(team={"start": "beginning"}, held={"start": "beginning", "paused": False}))
    finish(tmp_path, 0, 1)
    daemon.client.automations.pause("idx", "held")
    daemon.deliver(TEAM, HELD)
    assert (daemon.delivered("team"), daemon.delivered("held")) == ({"run_0": 1, "run_1": 1}, {})
    daemon.client.automations.resume("idx", "held")
    daemon.client.automations.pause("idx", "team")
    finish(tmp_path, 2)
    daemon.deliver(TEAM, HELD)
    assert daemon.delivered("team") == {"run_0": 1, "run_1": 1}
    assert daemon.delivered("held") == {"run_0": 1, "run_1": 1, "run_2": 1}
    assert {Path(path).suffix for path in written_files(tmp_path) if "held/segments" in path} == {".csv"}


# Failures


def test_a_run_that_cannot_be_read_does_not_stand_in_the_others_way(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3, 4)
    broken = tmp_path / "archive/indexes/idx/prompt_runs/run_3/segment_results.jsonl"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-5])
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1, "run_4": 1}
    found = daemon.client.automations.retrieve("idx", "team")
    assert (found.due_runs, found.failing, list(found.problems)) == ((), 1, ["run_3"])
    assert "1 could not be read and are tried again: run_3" in daemon.tick(DISCOVERY)
    finish(tmp_path, 5)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1, "run_4": 1, "run_5": 1}, "new runs do not wait for the broken one"
    broken.write_bytes(whole)
    daemon.now += timedelta(hours=1)
    daemon.deliver()
    assert daemon.delivered()["run_3"] == 1
    assert daemon.client.automations.retrieve("idx", "team").problems == {}


def test_a_record_that_could_not_be_read_for_a_moment_keeps_nothing_back_that_was_read(tmp_path):
    finish(tmp_path, 0, 1)
    daemon = Daemon(tmp_path, config_with(team={"start": "beginning"}))
    daemon.tick(DISCOVERY)
    pipeline = daemon.client.pipeline
    broken = Listing([], {"run_1": SourceDataError("half a record")})
    pipeline.snapshots.note_unreadable("idx", broken)
    found = daemon.client.automations.retrieve("idx", "team")
    assert (found.due_runs, found.failing) == (("run_0", "run_1"), 0)
    assert not daemon.tick(TEAM), "it asks for both"
    assert daemon.delivered() == {"run_0": 1, "run_1": 1}


def test_a_run_that_cannot_be_delivered_does_not_stand_in_the_others_way(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3, 4)
    daemon.tick(DISCOVERY)
    snapshot = daemon.client.pipeline.snapshots.store.current("idx", "run_3")
    part = tmp_path / "storage" / snapshot.tables["segments"][0].key
    part.write_bytes(b"damaged")
    results = tmp_path / "archive/indexes/idx/prompt_runs/run_3/segment_results.jsonl"
    results.write_bytes(results.read_bytes()[:-5])  # so that it cannot be read again
    assert not daemon.tick(TEAM)
    assert daemon.delivered() == {"run_2": 1, "run_4": 1}
    shown = daemon.instance.get_materialized_partitions(asset_key("idx", "exports", "team"))
    assert shown == {"run_2", "run_4"}
    assert "failing. run_3" in daemon.tick(TEAM)
    assert "segment_results.jsonl, line" in daemon.client.automations.retrieve("idx", "team").problems["run_3"]
    assert not any("run_3" in path for path in written_files(tmp_path))


def test_permanent_failures_in_a_row_pause_the_automation(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.tick(DISCOVERY)
    target = tmp_path / "deliveries/exports"
    target.mkdir(parents=True)
    (target / "team").write_text("a file where the folder should be")
    for attempt in range(3):
        assert not daemon.tick(TEAM), attempt
        daemon.now += timedelta(hours=7)
    assert "Paused by itself: 3 failures in a row" in daemon.tick(TEAM)
    found = daemon.client.automations.retrieve("idx", "team")
    assert (found.paused, found.paused_by, found.due) == (True, "itself", 1)
    assert "exports/team" in found.last_error
    (target / "team").unlink()
    daemon.client.automations.resume("idx", "team")
    daemon.now += timedelta(hours=7)
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1}
    assert daemon.client.automations.retrieve("idx", "team").last_error is None


def test_a_destination_out_of_reach_holds_up_nobody_else(tmp_path):
    config = config_with(team={"start": "beginning"}, held={"start": "beginning", "paused": False})
    config["connectors"]["conn_away"] = {**config["connectors"]["conn_export"], "root": "not-mounted"}
    config["indexes"]["idx"]["automations"]["team"]["destination_connector_id"] = "conn_away"
    daemon = Daemon(tmp_path, config)
    finish(tmp_path, 0)
    daemon.deliver(HELD)
    assert daemon.delivered("held") == {"run_0": 1}
    for _ in range(3):
        with pytest.raises(RequestError, match="not-mounted"):
            daemon.tick(TEAM)
        assert "not-mounted" in daemon.tick(TEAM), "it is not tried again at once"
        daemon.now += timedelta(minutes=15)
    assert "Paused by itself: 3 failures in a row" in daemon.tick(TEAM)
    states = {one.automation: one for one in daemon.client.automations.list()}
    assert "not-mounted is not a folder" in states["team"].last_error
    assert (states["team"].due, states["held"].delivered) == (1, 1)
    (tmp_path / "not-mounted").mkdir()
    daemon.client.automations.resume("idx", "team")
    daemon.deliver(TEAM, HELD)
    assert daemon.delivered("team") == {"run_0": 1}


def test_a_listing_that_fails_is_not_an_empty_one(daemon, tmp_path, monkeypatch):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.deliver()

    def fails(index_id):
        raise TransientError(f"{index_id}: out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.client.pipeline.source, "each_run", fails)
        with pytest.raises(TransientError):
            daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").gone == {}


# Held runs, and runs that vanish


def test_partial_runs_are_held_until_somebody_releases_them(tmp_path):
    config = config_with(held={"paused": False, "start": "beginning"})
    daemon = Daemon(tmp_path, config)
    finish(tmp_path, 0)
    finish(tmp_path, 1, 2, status="completed_with_failures")
    daemon.deliver(HELD)
    assert daemon.delivered("held") == {"run_0": 1}
    found = daemon.client.automations.retrieve("idx", "held")
    assert (found.held, found.held_runs, found.due) == (2, ("run_1", "run_2"), 0)
    daemon.client.automations.run("idx", "held", ["run_1"])
    finish(tmp_path, 1, status="completed_with_failures", segments=5)
    finish(tmp_path, 2, segments=5)
    daemon.deliver(HELD)
    assert daemon.delivered("held") == {"run_0": 1, "run_1": 2, "run_2": 1}


def test_a_held_run_of_the_history_waits_and_is_delivered_once_it_is_complete(tmp_path):
    finish(tmp_path, 0)
    finish(tmp_path, 1, 2, status="completed_with_failures")
    daemon = Daemon(tmp_path, config_with(held={"paused": False}))
    daemon.deliver(HELD)
    found = daemon.client.automations.retrieve("idx", "held")
    assert (found.history, found.held_runs, found.due) == (1, ("run_1", "run_2"), 0)
    finish(tmp_path, 1, segments=5)
    daemon.deliver(HELD)
    assert daemon.delivered("held") == {"run_1": 1}
    assert daemon.client.automations.run("idx", "held", ["run_2"]).delivered == ("run_2",)


def test_nothing_is_counted_before_the_beginning_and_run_begins_it_as_the_sensor_does(daemon, tmp_path):
    automations = daemon.client.automations
    found = automations.retrieve("idx", "team")
    assert (found.began_at, found.due, found.history, found.held, found.failing) == (None, 0, 0, 0, 0)
    assert [run.run_id for run in automations.plan_backfill("idx", "team").prompt_runs] == ["run_0", "run_1"]
    assert automations.retrieve("idx", "team").began_at is None, "a plan begins nothing"
    done = automations.run("idx", "team")
    assert (done.delivered, done.history) == ((), ("run_0", "run_1"))
    found = automations.retrieve("idx", "team")
    assert (found.due, found.history, found.began_at is None) == (0, 2, False)
    finish(tmp_path, 2)
    assert automations.retrieve("idx", "team").due_runs == ("run_2",)
    assert automations.run("idx", "team").delivered == ("run_2",)
    done = automations.run("idx", "team", history=True)
    assert (done.delivered, done.history, done.already_delivered) == (("run_0", "run_1"), (), ("run_2",))


def test_the_list_says_why_runs_are_due(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3, 4)
    daemon.deliver()
    finish(tmp_path, 3, segments=7)
    finish(tmp_path, 5)
    found = daemon.client.automations.retrieve("idx", "team")
    assert (found.due_runs, found.due_why) == (("run_3", "run_5"), {"changed": 1, "missing": 1})
    config = config_with(team={"format": "csv"})
    found = VVExports(write_config(tmp_path, config), instance=daemon.instance).automations.retrieve("idx", "team")
    assert found.due_why == {"reshape": 2, "changed": 1, "missing": 1}


def test_a_run_that_vanishes_is_marked_and_what_was_delivered_stays(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3)
    daemon.deliver()
    before = written_files(tmp_path)
    shutil.rmtree(tmp_path / "archive/indexes/idx/prompt_runs/run_2")
    definitions = daemon.client.definitions
    context = dg.build_sensor_context(instance=daemon.instance, definitions=definitions)
    result = definitions.resolve_sensor_def(DISCOVERY)(context)
    (event,) = result.asset_events
    assert (event.partition, event.metadata["gone_from_source"].value) == ("run_2", True)
    assert "1 are gone from the source: run_2" in result.skip_reason.skip_message
    assert "gone" not in daemon.tick(DISCOVERY), "it is said once"
    assert written_files(tmp_path) == before
    assert daemon.client.prompt_runs.prune("idx", dry_run=True).prompt_runs == ("run_2",)
    assert daemon.instance.has_dynamic_partition("prompt_runs__idx", "run_2")
    pruned = daemon.client.prompt_runs.prune("idx")
    assert (pruned.prompt_runs, pruned.files > 0) == (("run_2",), True)
    assert not daemon.instance.has_dynamic_partition("prompt_runs__idx", "run_2")
    assert not list((tmp_path / "storage").rglob("*run_2*/*"))
    assert written_files(tmp_path) == before
    assert daemon.client.prompt_runs.prune("idx").prompt_runs == ()
    daemon.deliver()
    assert written_files(tmp_path) == before


def test_a_run_that_comes_back_is_no_longer_marked(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.deliver()
    folder = tmp_path / "archive/indexes/idx/prompt_runs/run_2"
    folder.rename(tmp_path / "away")
    daemon.tick(DISCOVERY)
    assert list(daemon.client.pipeline.snapshots.catalogs.read("idx").gone) == ["run_2"]
    (tmp_path / "away").rename(folder)
    daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").gone == {}


# Schedules


def materialized_reconciliation(daemon):
    job = daemon.client.definitions.resolve_implicit_global_asset_job_def()
    key = reconciliation_key("idx", "team")
    result = job.execute_in_process(instance=daemon.instance, asset_selection=[key])
    (event,) = [one for one in result.get_asset_materialization_events() if one.asset_key == key]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_reconciliation_delivers_a_changed_run_and_a_deleted_file_and_writes_a_damaged_one_again(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3, 4, 5)
    daemon.deliver()
    whole = written_files(tmp_path)
    finish(tmp_path, 2, segments=6)
    files = {n: next((tmp_path / "deliveries").rglob(f"*run_{n}/*.parquet")) for n in (3, 4)}
    files[3].unlink()
    damaged = files[4].read_bytes()
    files[4].write_bytes(damaged[:-20] + b"?" * 20)
    found = materialized_reconciliation(daemon)
    counts = [found[name] for name in ("missing", "changed", "damaged", "delivered", "failed")]
    assert counts == [0, 1, 2, 3, 0]
    assert found["found"]["damaged"] == ["run_3", "run_4"]
    assert found["files_verified"] == 4
    now = written_files(tmp_path)
    kept = {path for path in whole if any(f"run_{n}/" in path for n in (3, 4, 5))}
    assert {path: now[path] for path in kept} == {path: whole[path] for path in kept}
    shown = daemon.instance.get_latest_materialization_event(asset_key("idx", "exports", "team"))
    assert shown.asset_materialization.partition in {"run_2", "run_3", "run_4"}
    again = materialized_reconciliation(daemon)
    assert (again["changed"], again["damaged"], again["delivered"]) == (0, 0, 0)
    assert written_files(tmp_path) == now


def test_a_reconciliation_leaves_history_alone_and_tells_what_it_could_not_put_right(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2, 3)
    broken = tmp_path / "archive/indexes/idx/prompt_runs/run_2/segment_results.jsonl"
    broken.write_bytes(broken.read_bytes()[:-5])
    found = materialized_reconciliation(daemon)
    assert (found["missing"], found["delivered"], found["failed"]) == (2, 1, 1)
    assert "run_2" in found["problems"]
    assert daemon.delivered() == {"run_3": 1}


def test_a_schedule_runs_in_its_time_zone_and_waits_with_the_automation(tmp_path):
    schedule = {"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path, config_with(team=schedule, off=schedule))
    definitions = daemon.client.definitions
    team = definitions.resolve_schedule_def("idx__team__reconciliation")
    assert (team.cron_schedule, team.execution_timezone) == ("0 3 * * *", "Europe/Berlin")
    assert team.default_status == dg.DefaultScheduleStatus.RUNNING
    assert definitions.resolve_schedule_def("idx__off__reconciliation").default_status == (
        dg.DefaultScheduleStatus.STOPPED
    )
    context = dg.build_schedule_context(instance=daemon.instance)
    assert len(team.evaluate_tick(context).run_requests) == 1
    daemon.client.automations.pause("idx", "team", "the share moves")
    assert "the share moves" in team.evaluate_tick(context).skip_message


def test_one_with_the_trigger_schedule_delivers_by_the_clock_alone_and_is_read_before(tmp_path):
    by_the_clock = {"trigger": "schedule", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}
    daemon = Daemon(tmp_path, config_with(team={**by_the_clock, "start": "beginning"}))
    finish(tmp_path, 0)
    daemon.tick(DISCOVERY)
    assert "at the times of its schedule alone: `0 3 * * *` Europe/Berlin" in daemon.tick(TEAM)
    daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.store.current("idx", "run_0") is not None
    assert not daemon.delivered()
    materialized_reconciliation(daemon)
    assert daemon.delivered() == {"run_0": 1}
    daemon.client.automations.pause("idx", "team", "the share moves")
    assert "the share moves" in daemon.tick(TEAM)


def test_a_manual_one_delivers_and_reads_nothing_before_somebody_asks(tmp_path):
    daemon = Daemon(tmp_path, config_with(team={"trigger": "manual", "start": "beginning"}))
    finish(tmp_path, 0)
    assert "0 new" not in daemon.tick(DISCOVERY)
    assert "never, but when somebody asks for it" in daemon.tick(TEAM)
    assert daemon.client.pipeline.snapshots.store.current("idx", "run_0") is None
    assert daemon.client.automations.run("idx", "team").delivered == ("run_0",)


# Backfills


def test_a_backfill_delivers_history_skips_what_is_there_and_says_before_what_it_would_do(daemon, tmp_path):
    finish(tmp_path, 2, 3, 4, status="completed")
    daemon.deliver()
    automations = daemon.client.automations
    plan = automations.plan_backfill("idx", "team", since=datetime(2026, 10, 3, tzinfo=UTC))
    assert [(run.run_id, run.why, run.rows, run.bytes) for run in plan.prompt_runs] == [
        ("run_2", "missing", 3, None),
        ("run_3", "missing", 3, None),
        ("run_4", "missing", 3, None),
    ]
    assert written_files(tmp_path) == {}
    until = datetime(2026, 10, 3, tzinfo=UTC)
    assert automations.backfill("idx", "team", until=until).delivered == ("run_0", "run_1")
    finish(tmp_path, 0, segments=5)
    assert automations.backfill("idx", "team", only="changed").delivered == ("run_0",)
    assert automations.backfill("idx", "team", only="missing").delivered == ("run_2", "run_3", "run_4")
    before = written_files(tmp_path)
    again = automations.backfill("idx", "team")
    assert (again.delivered, len(again.already_delivered), again.dagster_run_ids) == ((), 5, ())
    assert written_files(tmp_path) == before
    assert daemon.delivered() == {"run_0": 2, "run_1": 1, "run_2": 1, "run_3": 1, "run_4": 1}


def test_a_backfill_in_the_daemon_needs_one(daemon):
    with pytest.raises(RequestError, match="no Dagster daemon works on this instance"):
        daemon.client.automations.backfill_in_daemon("idx", "team")


def test_problems_that_pass_leave_no_mark_in_the_catalog(daemon, tmp_path, monkeypatch):
    daemon.deliver()
    finish(tmp_path, 2)
    original = daemon.client.pipeline.source.results

    def fails(run, stage):
        raise SourceDataError("not yet")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.client.pipeline.source, "results", fails)
        daemon.tick(DISCOVERY)
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").problems["run_2"].attempts == 1
    assert daemon.client.pipeline.source.results == original
    finish(tmp_path, 3)
    daemon.deliver()
    assert daemon.delivered() == {"run_3": 1}, "a new run does not wait for the one that failed, were it alone"
    daemon.now += timedelta(minutes=1)
    daemon.deliver()
    assert daemon.client.pipeline.snapshots.catalogs.read("idx").problems == {}
    assert daemon.delivered() == {"run_2": 1, "run_3": 1}


# Renaming and re-targeting, as docs/automations.md describes them


def test_a_new_destination_gets_everything_since_the_beginning_and_the_old_one_stays(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.deliver()
    before = written_files(tmp_path)
    again = Daemon(tmp_path, config_with(team={"destination_subpath": "exports/elsewhere"}))
    again.deliver()
    assert again.delivered() == {"run_2": 1}
    after = written_files(tmp_path)
    owner = "deliveries/exports/team/_vv/owner.json"
    assert {path: after[path] for path in before if path != owner} == {
        path: content for path, content in before.items() if path != owner
    }
    assert "left" in json.loads(after[owner]), "the old place says that nobody keeps it up to date"
    assert any("exports/elsewhere/segments" in path for path in after)


def test_a_renamed_automation_takes_its_folder_along_once_its_owner_is_changed(daemon, tmp_path):
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.deliver()
    config = copy.deepcopy(FROM_NOW)
    automations = config["indexes"]["idx"]["automations"]
    automations["crew"] = automations.pop("team")
    again = Daemon(tmp_path, config)
    sensor = "idx__crew__delivery"
    finish(tmp_path, 3)
    again.tick(DISCOVERY)
    finish(tmp_path, 4)
    again.deliver(sensor)
    assert "belongs to" in again.client.automations.retrieve("idx", "crew").last_error
    assert again.delivered("crew") == {"run_2": 1}
    owner = tmp_path / "deliveries/exports/team/_vv/owner.json"
    owner.write_text(owner.read_text().replace('"team"', '"crew"'))
    again.now += timedelta(hours=1)
    finish(tmp_path, 2, segments=5)
    again.deliver(sensor)
    assert again.delivered("crew") == {"run_2": 2, "run_4": 1}, "run_3 finished before the new name began"
    assert again.client.automations.backfill("idx", "crew", only="missing").delivered == ("run_0", "run_1", "run_3")
