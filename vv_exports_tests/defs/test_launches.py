"""Launches as people make them: from the UI, again, by hand, at once with another process, interrupted."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from vv_exports.defs import launches
from vv_exports.defs.export_runs import attempt_now
from vv_exports.defs.instance import open_instance
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import error_of
from vv_exports.defs.lost_runs import close_lost
from vv_exports.defs.partitions import partitions_name, sync_partitions
from vv_exports.domain.exports import ExportStatus
from vv_exports.errors import RunFailedError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of, written_files

DOWNLOADS = {"idx__prompt_run_export": {"config": {"destination_connector_id": "(download)"}}}


def begin_again(client, record, run_id):
    """Another Dagster run makes an export that failed."""
    exports = client.pipeline.exports
    failed = exports.records.update(record.export_id, lambda there: msgspec.structs.replace(there, status="failed"))
    return exports.processing(failed, attempt_now(run_id))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    return tmp_path


@pytest.fixture
def client(folder):
    client = client_of(folder)
    sync_partitions(client.instance, "idx", client.pipeline.indexes.prompt_runs("idx"))
    return client


def launch(client, *path, partitions=None, config=None, tags=None):
    """As the UI's run worker does it."""
    ends = dict(zip(("start", "end"), partitions or (), strict=False))
    return client.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=client.instance,
        asset_selection=[asset_key("idx", *path)],
        tags={**{f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}, **(tags or {})},
        run_config={"ops": config or {}},
        raise_on_error=False,
    )


def as_the_ui_launches_it_again(client, run_id):
    """Re-execution from the UI: the new run gets all tags of its parent."""
    parent = client.instance.get_run_by_id(run_id)
    root = {"dagster/root_run_id": run_id, "dagster/parent_run_id": run_id}
    return client.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=client.instance,
        asset_selection=list(parent.asset_selection),
        run_config=parent.run_config,
        tags={**parent.tags, **root},
        raise_on_error=False,
    )


def test_a_launch_of_several_partitions_lists_an_export_for_each(client, folder):
    """Only the first was listed, with the rows of any of them, and the other downloads could not be had."""
    write_run(folder / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", segments=7)
    result = launch(client, "prompt_run_export", partitions=("run_0", "run_2"), config=DOWNLOADS)
    found = {export.target_id: export for export in client.exports.list()}
    assert {target: export.rows for target, export in found.items()} == {"run_0": 3, "run_1": 7, "run_2": 3}
    assert len({export.export_id for export in found.values()}) == 3
    for export in found.values():
        assert client.exports.retrieve(export.export_id) == export
        assert export.dagster_run_id == result.run_id
        assert client.exports.download(export.export_id, folder / "out.zip").written
        assert export.launched_by == "dagster"
    assert client_of(folder).exports.list() == client.exports.list(), (
        "another instance with the same storage knows them"
    )


def test_a_launch_that_fails_before_it_delivers_is_listed_as_failed(client, folder):
    (folder / "archive/indexes/idx/prompt_runs/run_1/segment_results.jsonl").write_text("{")
    launch(client, "prompt_run_export", partitions=("run_1", "run_1"), config=DOWNLOADS)
    wrong = {"destination_connector_id": "conn_export", "destination_subpath": "../up"}
    launch(
        client, "prompt_run_export", partitions=("run_0", "run_0"), config={"idx__prompt_run_export": {"config": wrong}}
    )
    by_target = {export.target_id: export for export in client.exports.list()}
    assert {target: export.status for target, export in by_target.items()} == {"run_0": "failed", "run_1": "failed"}
    assert "line 1" in by_target["run_1"].error_message
    assert "../up" in by_target["run_0"].error_message


@pytest.mark.parametrize("several", [False, True])
def test_launched_again_from_the_ui_an_export_keeps_its_id_and_folder(client, folder, several):
    config = {"idx__prompt_run_export": {"config": {"destination_connector_id": "conn_export"}}}
    ends = ("run_0", "run_2") if several else ("run_0", "run_0")
    first = launch(client, "prompt_run_export", partitions=ends, config=config)
    before, ids = written_files(folder), {export.export_id for export in client.exports.list()}
    again = as_the_ui_launches_it_again(client, first.run_id)
    assert again.success
    assert {export.export_id for export in client.exports.list()} == ids
    assert {export.dagster_run_id for export in client.exports.list()} == {again.run_id}
    assert written_files(folder) == before


def test_a_run_launched_again_from_the_ui_is_not_abandoned_when_the_first_process_is_gone(client):
    """The UI copies all tags to the new run: the process of the first one does not run it."""
    export = client.exports.create_prompt_run_export("run_0")
    parent = client.instance.get_run_by_id(export.dagster_run_id)
    gone = {name: value.replace(f" {os.getpid()} ", " 999999999 ") for name, value in parent.tags.items()}
    own = client.instance.create_run_for_job(
        client.definitions.resolve_implicit_global_asset_job_def(), tags=gone, status=dg.DagsterRunStatus.STARTED
    )
    assert close_lost(client.instance, datetime.now(UTC)) == []
    mine = {name: value.replace(parent.run_id, own.run_id) for name, value in gone.items()}
    client.instance.add_run_tags(own.run_id, mine)
    assert close_lost(client.instance, datetime.now(UTC)) == [own.run_id]
    assert "is gone" in error_of(client.instance, own.run_id)


@pytest.mark.parametrize("key", ["run_9", "a b", "%FF", ""])
@pytest.mark.parametrize("path", [("prompt_runs",), ("exports", "team"), ("prompt_run_export",)])
def test_a_partition_typed_by_hand_for_no_run_fails_and_says_why(client, folder, key, path):
    """The UI offers 'Add a partition'."""
    client.instance.add_dynamic_partitions(partitions_name("idx"), [key])
    run = launch(client, *path, partitions=(key, key))
    assert not run.success
    if key:
        expected = "no prompt run 'run_9'" if key == "run_9" else f"partition {key!r} is not the name of a prompt run"
        assert expected in error_of(client.instance, run.run_id)
    assert written_files(folder) == {}


def test_a_range_with_runs_that_may_not_be_exported_names_them_all_and_delivers_the_others(client, folder):
    write_run(folder / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", status="processing")
    for path in (folder / "archive/indexes/idx/prompt_runs/run_2").iterdir():
        path.unlink()
    run = launch(client, "exports", "team", partitions=("run_0", "run_2"))
    message = error_of(client.instance, run.run_id)
    assert "run_1" in message
    assert "processing" in message
    assert "run_2" in message
    assert set(client.pipeline.automations.get("idx", "team").collection().runs) == {"run_0"}
    delivered = client.instance.get_materialized_partitions(asset_key("idx", "exports", "team"))
    assert delivered == {"run_0"}, "what fails does not show as delivered, and what is delivered does"
    assert client.automations.run("idx", "team").already_delivered == ("run_0",)


def test_an_interrupt_ends_the_run_and_reaches_the_caller(client, monkeypatch):
    """Dagster swallowed it: a script that made one export after the other went on with the next."""

    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)
        time.sleep(5)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(type(client.pipeline.source), "prompt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.exports.create_index_export("idx", idempotency_key="k")
    (export,) = client.exports.list()
    assert (export.status, export.error_message) == (ExportStatus.FAILED, "it was interrupted")
    monkeypatch.undo()
    assert client.exports.create_index_export("idx", idempotency_key="k").export_id == export.export_id


def test_waiting_looks_at_least_once_and_no_longer_than_asked(client):
    export = client.exports.create_index_export("idx")
    assert client.exports.wait_for_completion(export.export_id, timeout=0) == export
    run = client.instance.create_run_for_job(
        client.definitions.resolve_implicit_global_asset_job_def(), status=dg.DagsterRunStatus.STARTED
    )
    record = client.pipeline.exports.records.find(export.export_id)
    export = begin_again(client, record, run.run_id).export()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=f"export {export.export_id} is still processing"):
        client.exports.wait_for_completion(export.export_id, timeout=0)
    with pytest.raises(TimeoutError, match=r"after 0\.1 s"):
        client.exports.wait_for_completion(export.export_id, timeout=0.1, poll_interval=60)
    assert time.monotonic() - started < 5
    client.instance.report_run_failed(run, "somebody stopped it")
    with pytest.raises(RunFailedError, match="somebody stopped it"):
        client.exports.wait_for_completion(export.export_id, timeout=0)


def _open(folder: Path, together: Barrier) -> None:
    os.chdir(folder)
    together.wait(60)
    open_instance({}, folder).get_runs_count()


@pytest.mark.slow
def test_many_processes_may_open_a_new_instance_at_once(tmp_path):
    context = multiprocessing.get_context("forkserver")  # it imports Dagster once, and forks
    context.set_forkserver_preload([__name__])
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        together = context.Barrier(6)
        processes = [context.Process(target=_open, args=(folder, together)) for _ in range(6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 6


def test_runs_of_several_threads_take_turns():
    """Exports that threads of a program made at once waited for each other for ever: Dagster began one while another
    wrote to its database."""
    at_work, most = [], []

    @dg.asset
    def slow():
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()

    definitions, instance = dg.Definitions([slow]), dg.DagsterInstance.ephemeral()
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: launches.launch(instance, definitions, [slow.key]), range(3)))
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 3
    assert most == [1, 1, 1]


def test_threads_that_use_a_key_at_once_get_one_export_that_was_made_once(client):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: client.exports.create_prompt_run_export("run_0", idempotency_key="k"), range(3)))
    assert len({export.export_id for export in made}) == 1
    assert [(export.status, len(export.dagster_run_ids)) for export in made] == [("completed", 1)] * 3
