"""What becomes of a run that was handed to Celery: real Redis, and workers that never come back. Those that do are in
``test_several_machines.py``."""

import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from vv_exports.defs import celery_runs
from vv_exports.defs.celery_runs import CeleryRuns
from vv_exports.defs.lost_runs import KnowsItsRuns, close_lost
from vv_exports.defs.processes import PROCESS, this_process
from vv_exports.defs.run_tags import hidden
from vv_exports_tests.servers.redis import RedisServer, redis

pytestmark = pytest.mark.slow

STATUS = dg.DagsterRunStatus
ORIGIN = JobPythonOrigin(
    "__ASSET_JOB",
    RepositoryPythonOrigin("python", ModuleCodePointer("vv_exports.definitions", "defs", None), None, None, None),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def instance(tmp_path_factory, server):
    """One for all, since its tables take long to make."""
    folder = tmp_path_factory.mktemp("dagster")
    launcher = {
        "module": CeleryRuns.__module__,
        "class": CeleryRuns.__name__,
        "config": {"broker": server.url(0), "backend": server.url(1), "worker_timeout_seconds": 1.0},
    }
    with dg.DagsterInstance.local_temp(str(folder), overrides={"run_launcher": launcher}) as instance:
        yield instance


@pytest.fixture(autouse=True)
def soon(monkeypatch, instance):
    """Nobody is waited for, and nothing is left of an earlier test."""
    monkeypatch.setattr(celery_runs, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(celery_runs, "_LOOKED_AT_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(celery_runs, "_MISSING_SECONDS", 0.5)
    monkeypatch.setattr(celery_runs, "_LOOKS", celery_runs._Looks())
    instance.run_launcher.celery.control.purge()


def launched(instance, status: STATUS = STATUS.STARTING, **tags: str) -> dg.DagsterRun:
    """A run that was handed to Celery."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=status, tags=tags, job_code_origin=ORIGIN)
    instance.add_run(run)
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return instance.get_run_by_id(run.run_id)


def came_to(instance, run: dg.DagsterRun, state: str, told: object) -> None:
    """What a worker notes of it."""
    instance.run_launcher.celery.backend.store_result(run.run_id, told, state)
    instance.run_launcher.celery.control.purge()  # it took it from the queue


def begun_by(instance, run: dg.DagsterRun, worker: str) -> None:
    came_to(instance, run, "STARTED", {"pid": 1, "hostname": worker})


def lost_in_the_end(launcher: CeleryRuns, run: dg.DagsterRun):
    stop = time.monotonic() + 20
    while (lost := launcher.lost(run)) is None:
        assert time.monotonic() < stop
        time.sleep(0.1)
    return lost


def test_a_run_is_found_in_celery_by_its_own_id_whatever_was_noted_of_it(instance):
    """Dagster's own launcher notes an id after the broker has it, and retries of a run come with its tags."""
    run = launched(instance, **{"dagster-celery/task_id": "another"})
    assert run.tags["dagster-celery/task_id"] == run.run_id
    begun_by(instance, run, "nobody@nowhere")
    assert "STARTED, of worker nobody@nowhere" in instance.run_launcher.get_run_worker_debug_info(run)


def test_a_run_that_waits_for_a_worker_is_left_alone_however_long(instance):
    run = launched(instance)
    assert isinstance(instance.run_launcher, KnowsItsRuns)
    for _ in range(4):
        assert instance.run_launcher.lost(run) is None
        time.sleep(0.2)


@pytest.mark.parametrize("status", [STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_the_run_of_a_worker_that_does_not_answer_is_lost_in_every_state(instance, status):
    run = launched(instance, status)
    begun_by(instance, run, f"silent-{status.value}@nowhere")
    assert instance.run_launcher.lost(run) is None
    lost = lost_in_the_end(instance.run_launcher, run)
    assert lost.why == f"Celery's worker silent-{status.value}@nowhere has not answered for 1 seconds."
    assert not lost.never_started
    if status == STATUS.STARTED:
        health = instance.run_launcher.check_run_worker_health(run)
        assert (health.status, health.msg.partition(" for ")[0]) == (
            WorkerStatus.FAILED,
            lost.why.partition(" for ")[0],
        )


def test_a_worker_that_was_silent_once_and_was_asked_nothing_since_has_its_time_again(instance, monkeypatch):
    """It was lost as soon as it did not answer the next time, an hour later."""
    monkeypatch.setattr(celery_runs, "_IN_A_ROW_SECONDS", 0.5)
    run = launched(instance, STATUS.STARTED)
    begun_by(instance, run, "slow@nowhere")
    assert instance.run_launcher.lost(run) is None
    time.sleep(1.1)
    assert instance.run_launcher.lost(run) is None


def test_a_run_that_no_worker_has_and_no_queue_is_lost_and_was_never_started(instance, dagster_closed):
    run = launched(instance)
    instance.run_launcher.celery.control.purge()  # Redis was started anew, and had kept nothing
    assert dagster_closed(run) == STATUS.STARTING
    time.sleep(0.6)
    assert dagster_closed(run) == STATUS.FAILURE


@pytest.fixture
def dagster_closed(instance):
    """A run's status once lost ones are closed."""

    def status(run: dg.DagsterRun) -> STATUS:
        close_lost(instance, datetime.now(UTC))
        return instance.get_run_by_id(run.run_id).status

    return status


@pytest.mark.parametrize(
    ("status", "becomes"),
    [(STATUS.STARTING, STATUS.FAILURE), (STATUS.STARTED, STATUS.FAILURE), (STATUS.CANCELING, STATUS.CANCELED)],
)
def test_a_run_whose_process_ended_without_a_word_is_closed_at_once(instance, dagster_closed, status, becomes):
    run = launched(instance, status)
    came_to(instance, run, "FAILURE", RuntimeError("Worker exited prematurely: signal 9 (SIGKILL)"))
    assert dagster_closed(run) == becomes


def test_a_run_that_somebody_ends_is_canceled_and_not_tried_again(instance, dagster_closed):
    """Dagster's own launcher leaves it as it is; then its monitoring finds it failed, and it is tried again."""
    run = launched(instance, STATUS.STARTED)
    assert instance.run_launcher.terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status == STATUS.CANCELING
    came_to(instance, run, "REVOKED", None)
    assert dagster_closed(run) == STATUS.CANCELED
    assert not instance.run_launcher.terminate(run.run_id)


def test_a_run_of_a_command_is_none_of_celerys(instance):
    """It is in the command's process, which may be on any machine."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=STATUS.STARTED)
    instance.add_run(run)
    elsewhere = f"another-machine {this_process().partition(' ')[2]}"
    instance.add_run_tags(run.run_id, hidden({PROCESS: f"{run.run_id} {elsewhere}"}))
    run = instance.get_run_by_id(run.run_id)
    time.sleep(0.6)
    assert instance.run_launcher.lost(run) is None
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    assert not instance.run_launcher.terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status == STATUS.STARTED


def test_a_broker_that_does_not_answer_says_nothing_of_its_workers(tmp_path: Path, caplog):
    with redis(tmp_path / "redis") as gone:
        launcher = launcher_of(gone)
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=STATUS.STARTED)
    assert launcher.lost(run) is None
    assert f"whether run {run.run_id} is at work is not known, Celery cannot be asked" in caplog.text
    assert gone.password not in caplog.text


def launcher_of(server: RedisServer) -> CeleryRuns:
    return CeleryRuns(1.0, default_queue="dagster", broker=server.url(0), backend=server.url(1))
