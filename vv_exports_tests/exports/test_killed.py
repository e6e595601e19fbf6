"""Processes that make exports and are killed, or meet."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import msgspec
import pytest

import vv_exports
from vv_exports.defs.export_runs import attempt_now
from vv_exports.domain.exports import ExportRequest, export_id_of
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of, write_config
from vv_exports_tests.exports.records import BEGAN, attempt_of, record_of

EXPORT = """
import json, sys
from vv_exports.client import VVExports

made = VVExports().exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
print(json.dumps(made.to_json()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        write_run(
            tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z", segments=3
        )
    write_config(tmp_path)
    return tmp_path


def started(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(vv_exports.__file__).parents[1])}
    command = [sys.executable, "-c", EXPORT]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def in_status(folder: Path, status: str) -> list[Path]:
    return list((folder / "storage/exports/records").glob(f"*/*.{status}.*"))


def committed(folder: Path) -> list[str]:
    return [path.parents[2].name for path in folder.glob("deliveries/there/*/_vv/log/*.json")]


@pytest.mark.slow
def test_an_export_whose_process_was_killed_is_made_by_the_same_key_of_the_runs_that_were_decided(folder):
    process = started(folder)
    while not in_status(folder, "processing") and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not in_status(folder, "completed"), "it was killed while it made the export"
    (left,) = client_of(folder).exports.list()
    assert (left.status, left.completed_at) == ("failed", None)
    assert "is gone" in left.error_message
    assert client_of(folder).exports.list(status="failed") == [left]
    assert client_of(folder).exports.list(status="processing") == []

    write_run(folder / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    client = client_of(folder)
    made = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    assert (made.export_id, made.status, made.rows) == (left.export_id, "completed", 6)
    assert made.prompt_run_ids == ("run_0", "run_1")
    assert made.dagster_run_ids == (left.dagster_run_id, made.dagster_run_id)
    assert made.created_at == left.created_at
    assert client.exports.list() == [made]
    assert committed(folder) == [made.export_id]


@pytest.mark.slow
def test_of_two_processes_with_one_key_one_makes_the_export_and_both_have_it(folder):
    processes = [started(folder) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert said[0] == said[1]
    assert (said[0]["status"], said[0]["rows"]) == ("completed", 6)
    assert committed(folder) == [said[0]["export_id"]]
    assert [one.export_id for one in client_of(folder).exports.list()] == [said[0]["export_id"]]


def test_an_open_record_whose_run_failed_is_listed_as_failed(folder):
    """The process could not write the end of it any more."""
    client = client_of(folder)
    job = client.definitions.resolve_implicit_global_asset_job_def()
    run = client.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    record = client.pipeline.exports.records.begin(record_of(1, "processing", attempts=(attempt_now(run.run_id),)))
    assert client.exports.retrieve("exp_01").status == "processing"
    client.instance.report_run_failed(run, "somebody stopped it")
    (export,) = client.exports.list(status="failed")
    assert (export.export_id, export.error_message) == (record.export_id, "somebody stopped it")


def test_of_an_export_on_another_machine_is_said_what_is_known(folder):
    client = client_of(folder)
    client.pipeline.exports.records.begin(record_of(1, "processing"))
    (export,) = client.exports.list(status="processing")
    assert export.error_message.startswith(
        "whether it is still under way is not known here: process another-machine 1 1 began it at 2024-11-01 12:00 UTC"
    )
    with pytest.raises(TimeoutError):
        client.exports.wait_for_completion(export.export_id, timeout=0)


def test_an_export_that_a_machine_left_that_is_gone_is_made_by_the_same_key(folder):
    """It waited for ever for a container that had been removed, and its Dagster database with it."""
    client = client_of(folder)
    made = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")

    def left(there):
        return msgspec.structs.replace(
            there, status="processing", attempts=(attempt_of("gone"),), outcome=None, completed_at=None
        )

    client.pipeline.exports.records.update(made.export_id, left)
    again = client_of(folder).exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    assert (again.export_id, again.status, again.delivery_id) == (made.export_id, "completed", made.delivery_id)
    assert committed(folder) == [made.export_id]


def test_a_key_whose_process_was_killed_before_there_was_a_record_stands_for_its_export(folder):
    client = client_of(folder)
    request = ExportRequest("index", "idx", None, "conn_export", "there")
    run_id = "8f14e45f-ceea-467f-a8f2-0c6d2b4f1a11"
    client.pipeline.exports.launch_of("k", request, run_id, BEGAN)
    made = client.exports.create(request, idempotency_key="k")
    assert (made.export_id, made.dagster_run_id) == (export_id_of(run_id), run_id)
    assert (made.status, made.created_at) == ("completed", "2024-11-01T12:00:00.000Z")


def test_a_launch_that_dagster_refuses_is_a_failed_export_and_the_key_makes_it(folder, monkeypatch):
    """The record stayed open for ever in a process that lived on."""
    client = client_of(folder)

    def refuses(*_, **__):
        raise OSError("no room for runs")

    monkeypatch.setattr(type(client.instance), "add_dynamic_partitions", refuses)
    with pytest.raises(OSError, match="no room"):
        client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    (export,) = client.exports.list()
    assert (export.status, export.error_message) == ("failed", "OSError: no room for runs")
    monkeypatch.undo()
    again = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    assert (again.export_id, again.status) == (export.export_id, "completed")
