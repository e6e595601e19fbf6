"""A backfill that is followed. The daemon's part is played here: it launches, and takes its time to close."""

import threading
import time

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from vv_exports.client import VVExports
from vv_exports.defs.backfills import has_succeeded
from vv_exports.defs.dagster_internals import BulkActionStatus
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import launch
from vv_exports.domain.names import partition_key
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import write_config

TEAM = asset_key("idx", "exports", "team")


@dg.asset
def good(): ...


@dg.asset
def bad():
    raise ValueError("no")


def test_a_backfill_has_succeeded_once_it_has_runs_and_all_are_good():
    with dg.DagsterInstance.ephemeral() as instance:
        assert not has_succeeded(instance, "abc")
        dg.materialize([good], instance=instance, tags={"dagster/backfill": "abc"})
        dg.materialize([bad], instance=instance, tags={"dagster/backfill": "other"}, raise_on_error=False)
        assert has_succeeded(instance, "abc")
        dg.materialize([bad], instance=instance, tags={"dagster/backfill": "abc"}, raise_on_error=False)
        assert not has_succeeded(instance, "abc")


@pytest.mark.slow
def test_what_is_delivered_is_not_waited_for_until_the_daemon_looks_again(tmp_path, monkeypatch):
    run_ids = [f"run_{number}" for number in range(3)]
    for number, run_id in enumerate(run_ids):
        write_run(tmp_path / "archive", run_id=run_id, executed_at=f"2026-10-0{number + 1}T10:00:00Z")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    client, daemons = VVExports(write_config(tmp_path)), VVExports(write_config(tmp_path))
    client.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "BACKFILL", "one", errors=[]))
    instance, returned = daemons.instance, threading.Event()

    def daemon() -> None:
        while not (asked := instance.get_backfills()):
            time.sleep(0.1)
        tags = {"dagster/backfill": asked[0].backfill_id}
        for some in (run_ids[:2], run_ids[2:]):
            first, last = partition_key(some[0]), partition_key(some[-1])
            launch(instance, daemons.definitions, [TEAM], partitions=(first, last), tags=tags)
        if not returned.wait(20):
            instance.update_backfill(asked[0].with_status(BulkActionStatus.COMPLETED_SUCCESS))

    working = threading.Thread(target=daemon, daemon=True)
    working.start()
    outcome = client.automations.backfill_in_daemon("idx", "team")
    (backfill,) = client.instance.get_backfills()
    returned.set()
    working.join()
    assert sorted(outcome.delivered) == run_ids
    assert backfill.status == BulkActionStatus.REQUESTED, "the daemon has yet to look at it"
