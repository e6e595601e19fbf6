"""The deployment of ``deploy/celery``: two workers on machines of their own share the work, and one is lost in the
middle, with the daemon. ``benchmarks/several_machines.py`` has it with 300 prompt runs, and in each state of a run."""

import dagster as dg
import pytest

from vv_exports.defs.launches import error_of
from vv_exports.defs.limits import missing_limits
from vv_exports.defs.processes import WORKER, process_of
from vv_exports_tests.archives import write_run
from vv_exports_tests.machines import STATE, kill, machines, wait_until

pytestmark = pytest.mark.slow

INDEXES = ("idx_a", "idx_b")
RUNS = ("run_1", "run_2")
SEGMENTS = 3


def automation(index_id: str) -> dict[str, object]:
    to = {"destination_connector_id": "conn_export", "destination_subpath": f"exports/{index_id}"}
    return {"team": {**to, "start": "beginning"}}


def test_a_worker_and_the_daemon_are_lost_and_every_prompt_run_is_delivered_once(tmp_path):
    for index_id in INDEXES:
        for run_id in RUNS:
            write_run(tmp_path / "archive", index_id=index_id, run_id=run_id, segments=SEGMENTS)
    indexes = {one: {"automations": automation(one), "discovery_interval_seconds": 5} for one in INDEXES}
    made = machines(tmp_path, tmp_path / "archive", indexes, worker_timeout_seconds=5.0)
    with made as up, up.instance() as instance:
        assert missing_limits(instance, ["destination/idx_a/team"]) == []
        workers = {name: up.start(name, "worker") for name in ("one", "two")}
        up.start_code()

        # The first delivery of an index stands still in the middle of its commit, and its machine is lost.
        held = up.proxy.fault("silent", "^PUT .*/exports/idx_a/_vv/log/", times=1000)
        daemon = up.start("control", "daemon")
        wait_until(held.hit.is_set, 240, up.machine("control").said)
        tags = {"vv_exports/automation": "idx_a/team"}
        (lost,) = instance.get_runs(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.STARTED]))
        machine = str(process_of(lost, WORKER)).partition(" ")[0]
        kill(workers[machine])
        kill(daemon)
        up.proxy.heal()
        up.start("control", "daemon")

        def delivered() -> int:
            return sum(len(up.delivered(f"exports/{one}")) for one in INDEXES)

        wait_until(lambda: delivered() == len(INDEXES) * len(RUNS), 240, up.machine("control").said)
        for one in INDEXES:
            assert up.delivered(f"exports/{one}") == dict.fromkeys(RUNS, 1)
            assert up.rows_by_glob(f"exports/{one}") == dict.fromkeys(RUNS, SEGMENTS)

        closed = instance.get_run_by_id(lost.run_id)
        assert closed.status == dg.DagsterRunStatus.FAILURE
        assert f"Celery's worker vv_exports@{machine} has not answered for" in error_of(instance, lost.run_id)
        used = {str(process_of(run, WORKER)).partition(" ")[0] for run in instance.get_runs()}
        assert {"one", "two"} <= used, "one of them did nothing"
        # What a step prints is in the store, and no secret anywhere.
        assert up.fs.glob(f"{STATE}/dagster/storage/*/compute_logs/*")
        told = "".join(up.machine(name).said() for name in ("control", "one", "two"))
        told += "".join(entry.to_json() for run in instance.get_runs() for entry in instance.all_logs(run.run_id))
        for secret in (up.postgres.password, up.redis.password, up.store.secret_key):
            assert secret not in told
