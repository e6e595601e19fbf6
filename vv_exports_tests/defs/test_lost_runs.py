"""A crash leaves runs behind that never started, or have no process any more: they are closed, and no other is."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from vv_exports.defs import heartbeats, lost_runs
from vv_exports.defs.heartbeats import beating
from vv_exports.defs.launches import launch, new_run_id
from vv_exports.defs.lost_runs import SENSORS, close_lost
from vv_exports.defs.processes import PROCESS, was_alive
from vv_exports.defs.run_tags import hidden
from vv_exports_tests.defs.test_sensors import DISCOVERY, TEAM, Daemon, finish

HERE = hidden({SENSORS: socket.gethostname()})
LATER = timedelta(seconds=16)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """One for all, since its tables take long to make: each test looks at its own runs."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def code_server(tmp_path):
    """Somebody who listens where the run's code server does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield server


@pytest.fixture(scope="module")
def dead_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def launched(instance, *events, server=None, **tags) -> str:
    """A run as the daemon leaves it once it has launched it: STARTING, its code server noted."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", tags={name.replace("__", "/"): value for name, value in tags.items()})
    instance.add_run(run)
    for event in ("PIPELINE_STARTING", *events):
        instance.report_dagster_event(dg.DagsterEvent(event, "__ASSET_JOB"), run.run_id)
    if server is not None:
        instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: json.dumps(server)})
    return run.run_id


def at(path) -> dict[str, str]:
    return {"host": "localhost", "socket": str(path)}


def process_started(instance, run_id, pid):
    """What a run's process says before it loads any code."""
    instance.report_engine_event(f"Started process for run (pid: {pid}).", instance.get_run_by_id(run_id))


def status(instance, run_id, after=timedelta(0)) -> str:
    """A run's status once the lost ones are closed, a while from now."""
    close_lost(instance, datetime.now(UTC) + after)
    return instance.get_run_by_id(run_id).status.value


def test_a_run_that_was_being_started_when_everything_was_killed_is_closed(instance, tmp_path):
    nowhere = launched(instance, server=at(tmp_path / "gone"), **HERE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "left"))
    left = launched(instance, server=at(tmp_path / "left"), **HERE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = launched(instance, server={"host": "127.0.0.1", "port": port}, **HERE)
    assert {nowhere, left, refused} <= set(close_lost(instance, datetime.now(UTC)))
    assert not {nowhere, left, refused} & set(close_lost(instance, datetime.now(UTC)))
    assert {instance.get_run_by_id(one).status.value for one in (nowhere, left, refused)} == {"FAILURE"}


def test_a_lost_run_of_another_project_in_the_same_instance_is_none_of_ours(instance, tmp_path):
    theirs, ours = (
        instance.add_run(
            dg.DagsterRun(
                job_name="__ASSET_JOB",
                status=dg.DagsterRunStatus.STARTING,
                asset_selection={dg.AssetKey([index_id, "prompt_runs"])},
                tags={GRPC_INFO_TAG: json.dumps(at(tmp_path / "gone"))},
            )
        ).run_id
        for index_id in ("sales", "idx")
    )
    closed = close_lost(instance, datetime.now(UTC) + LATER, ["idx"])
    assert ours in closed
    assert theirs not in closed


def test_a_run_that_is_slow_to_start_is_left_alone_however_long_it_takes(instance, tmp_path, code_server):
    """A code location that takes 40 s to load, on a machine that is busy with four of them."""
    asked = launched(instance, server=at(tmp_path / "s"), **HERE)
    loading = launched(instance, server=at(tmp_path / "gone"), **HERE)
    process_started(instance, loading, os.getpid())
    stopping = launched(instance, "PIPELINE_CANCELING", server=at(tmp_path / "s"), **HERE)
    for seconds in (0, 40, 600):
        close_lost(instance, datetime.now(UTC) + timedelta(seconds=seconds))
        found = [instance.get_run_by_id(one).status.value for one in (asked, loading, stopping)]
        assert found == ["STARTING", "STARTING", "CANCELING"]


def test_a_run_between_two_writes_of_a_killed_daemon_is_closed_after_a_moment(instance):
    """It is marked as starting, and no code server is noted yet."""
    run_id = launched(instance, **HERE)
    assert status(instance, run_id) == "STARTING"
    assert status(instance, run_id, LATER) == "FAILURE"


def test_a_run_whose_process_died_before_its_first_step_is_closed_and_the_daemon_tries_it_again(
    instance, tmp_path, code_server, dead_pid
):
    """Its code server, or one that has come to the same place since, answers."""
    starting, started = (
        launched(instance, *events, server=at(tmp_path / "s"), **HERE) for events in ([], ["PIPELINE_START"])
    )
    for run_id in (starting, started):
        process_started(instance, run_id, dead_pid)
        assert status(instance, run_id) == "FAILURE"
        assert "dagster/max_retries" not in instance.get_run_by_id(run_id).tags


def test_a_pid_that_another_process_got_since_is_no_sign_of_life(dead_pid):
    assert was_alive(os.getpid(), time.time())
    assert not was_alive(os.getpid(), time.time() - 7 * 86400)
    assert not was_alive(dead_pid, time.time())


def test_what_is_known_of_this_machine_says_nothing_of_others(instance, tmp_path):
    elsewhere = hidden({SENSORS: "another-host"})
    left_alone = [
        launched(instance, server=at(tmp_path / "gone"), **elsewhere),
        launched(instance, **elsewhere),
        launched(instance),  # by a launcher that notes no server: it knows its workers itself
        launched(instance, server={"host": "127.0.0.1", "port": 1}),  # by somebody, at a server of its own
    ]
    assert {status(instance, run_id, timedelta(days=1)) for run_id in left_alone} == {"STARTING"}


def test_a_run_that_somebody_launched_in_the_ui_is_closed_too(instance, tmp_path):
    """It holds its place in the queue, and its destination, as one of a sensor does. The daemon tries it again."""
    run_id = launched(instance, server=at(tmp_path / "gone"))
    assert status(instance, run_id) == "FAILURE"
    assert "dagster/max_retries" not in instance.get_run_by_id(run_id).tags


def test_one_that_is_only_created_is_left_to_the_tick_that_created_it(instance):
    run = dg.DagsterRun(job_name="__ASSET_JOB", tags=HERE)
    instance.add_run(run)
    assert status(instance, run.run_id, timedelta(hours=1)) == "NOT_STARTED"


@pytest.mark.parametrize("tag", [".dagster/vv_exports.process", ".dagster/vv_exports.worker", "vv_exports/process"])
@pytest.mark.parametrize("state", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_a_run_whose_noted_process_was_killed_is_closed_in_every_state(instance, dead_pid, tag, state):
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=dg.DagsterRunStatus(state))
    instance.add_run(run)
    instance.add_run_tags(run.run_id, {tag: f"{run.run_id} {socket.gethostname()} {dead_pid} 12345"})
    assert status(instance, run.run_id) == ("CANCELED" if state == "CANCELING" else "FAILURE")


def test_what_was_being_cancelled_when_everything_was_killed_is_canceled(instance, tmp_path):
    run_id = launched(instance, "PIPELINE_CANCELING", server=at(tmp_path / "gone"), **HERE)
    assert status(instance, run_id) == "CANCELED"


@pytest.fixture
def shared(monkeypatch):
    """An instance that other machines use as well: one in SQLite is taken for one machine's."""
    monkeypatch.setattr(heartbeats, "are_shared", lambda _: True)
    monkeypatch.setattr(heartbeats, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(heartbeats, "_MOST_BETWEEN_LOOKS_SECONDS", 0.3)
    monkeypatch.setattr(lost_runs, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(heartbeats, "_seen", {})


def elsewhere(instance, run_id) -> None:
    """Note a run as one of a command on another machine."""
    instance.add_run_tags(run_id, hidden({PROCESS: f"{run_id} another-machine 77 12345"}))


@pytest.mark.usefixtures("shared")
def test_the_run_of_a_command_that_died_with_its_machine_is_found_from_elsewhere(instance):
    """It held a place in the queue for a day."""
    run_id = launched(instance, "PIPELINE_START")
    elsewhere(instance, run_id)
    with beating(instance, run_id):
        for _ in range(8):
            assert status(instance, run_id) == "STARTED"
            time.sleep(0.1)
    assert status(instance, run_id) == "STARTED"
    for found in ("STARTED", "FAILURE"):
        time.sleep(0.3)
        assert status(instance, run_id) == found


@pytest.mark.usefixtures("shared")
def test_a_command_is_not_lost_where_the_database_was_out_of_reach_for_everybody(instance, monkeypatch):
    """Who looked first after it was closed the run of a command that had no time yet to show its life."""
    monkeypatch.setattr(heartbeats, "_BEAT_SECONDS", 0.7)
    run_id = launched(instance, "PIPELINE_START")
    elsewhere(instance, run_id)
    with beating(instance, run_id):
        time.sleep(0.05)
        assert status(instance, run_id) == "STARTED"
        time.sleep(0.55)
        assert status(instance, run_id) == "STARTED"
        time.sleep(0.25)
        assert status(instance, run_id) == "STARTED"


@pytest.mark.usefixtures("shared")
def test_one_that_an_earlier_version_runs_elsewhere_shows_nothing_and_is_left_alone(instance):
    run_id = launched(instance, "PIPELINE_START")
    elsewhere(instance, run_id)
    for _ in range(3):
        assert status(instance, run_id) == "STARTED"
        time.sleep(0.3)


def test_an_instance_of_one_machine_needs_no_signs_of_life(instance):
    with dg.DagsterInstance.ephemeral() as in_memory:
        assert not any(map(heartbeats.are_shared, (instance, in_memory)))


@pytest.mark.usefixtures("shared")
def test_a_command_beats_as_long_as_its_run_is_at_work(instance):
    beats = []

    @dg.asset
    def slow():
        time.sleep(0.5)

    def look():
        while not over.wait(0.05):
            beats.append(instance.run_storage.get_cursor_values({key}).get(key))

    run_id, over = new_run_id(), threading.Event()
    key = f"vv_exports/alive/{run_id}"
    looking = threading.Thread(target=look)
    looking.start()
    assert launch(instance, dg.Definitions([slow]), [slow.key], run_id=run_id).is_success
    over.set()
    looking.join()
    assert len(set(beats)) > 3
    assert not [one for one in threading.enumerate() if one.name == "heartbeat"]


@pytest.mark.slow
@pytest.mark.parametrize("sensor", [DISCOVERY, TEAM])
def test_after_the_crash_a_sensor_asks_again_in_its_first_tick_and_nobody_else_does(tmp_path, sensor):
    """It stood still for four to five minutes."""
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path)
    daemon.deliver()
    finish(tmp_path, 2)
    if sensor == TEAM:
        daemon.tick(DISCOVERY)
    tags = {DISCOVERY: {"vv_exports/snapshots_of": "idx"}, TEAM: {"vv_exports/automation": "idx/team"}}[sensor]
    lost = launched(daemon.instance, server=at(tmp_path / "gone"), **HERE, **tags)
    assert not daemon.tick(sensor)
    closed = daemon.instance.get_run_by_id(lost)
    assert closed.status == dg.DagsterRunStatus.FAILURE
    assert closed.tags["dagster/max_retries"] == "0"
    daemon.deliver()
    assert daemon.delivered() == {"run_2": 1}


@pytest.mark.slow
def test_where_runs_never_start_again_and_again_the_sensor_waits(tmp_path):
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path)
    daemon.deliver()
    finish(tmp_path, 2)
    daemon.tick(DISCOVERY)
    for _ in range(2):
        launched(daemon.instance, server=at(tmp_path / "gone"), **HERE, **{"vv_exports/automation": "idx/team"})
        close_lost(daemon.instance, daemon.now)
    assert "2 failed in a row; the next attempt is at" in daemon.tick(TEAM)
    daemon.now += timedelta(minutes=3)
    assert not daemon.tick(TEAM)
