"""What Dagster does about failures: in steps, and through the daemon that runs failed runs again."""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.client.query import LAUNCH_PARTITION_BACKFILL_MUTATION, LAUNCH_PIPELINE_EXECUTION_MUTATION
from dagster_graphql.test.utils import execute_dagster_graphql

import vv_exports
from vv_exports import errors
from vv_exports.connectors.local import LocalConnector
from vv_exports.defs import failures
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import error_of
from vv_exports.defs.partitions import sync_partitions
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import read_log
from vv_exports.domain.exports import ExportStatus
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import write_run
from vv_exports_tests.defs.failing import Faults, fail_at_times
from vv_exports_tests.deployments import CONFIG, client_of, write_config, written_files

pytestmark = pytest.mark.slow

TEAM = asset_key("idx", "exports", "team")
ROUTED = ("vv_exports/connector", "dagster-celery/queue", "dagster/priority")
STARTED, FAILED, AGAIN = (
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
)


def _all_errors(of: type[errors.VVExportsError] = errors.VVExportsError) -> list[type[errors.VVExportsError]]:
    return [of, *(one for child in of.__subclasses__() for one in _all_errors(child))]


PASSING = [one for one in _all_errors() if issubclass(one, errors.TransientError | errors.OutcomeUnknownError)]
PERMANENT = [one for one in dict.fromkeys(_all_errors()) if not issubclass(one, (*PASSING, errors.PartlyFailedError))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    return tmp_path


@pytest.fixture
def client(folder):
    client = client_of(folder)
    sync_partitions(client.instance, "idx", client.pipeline.indexes.prompt_runs("idx"))
    return client


@pytest.fixture
def faults(client, folder):
    return fail_at_times(client.pipeline, folder)


@pytest.fixture
def no_waits(monkeypatch):
    monkeypatch.setattr(failures, "RETRIES", failures.RETRIES._replace(delay=0))


def _run(client, key=TEAM, run_id="run_0", tags=None, config=None):
    """As the UI's run worker does it: Dagster's executor in this process, retries enabled."""
    ends = {f"dagster/asset_partition_range_{end}": run_id for end in ("start", "end")} if run_id else {}
    result = client.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=client.instance,
        asset_selection=[key],
        tags={**ends, **(tags or {})},
        run_config={"ops": config or {}},
        raise_on_error=False,
    )
    return client.instance.get_run_by_id(result.run_id)


def _count(instance, run, kind) -> int:
    return len(instance.get_records_for_run(run.run_id, of_type=kind).records)


def _step_error(instance, run):
    (record,) = instance.get_records_for_run(run.run_id, of_type=FAILED).records
    return record.event_log_entry.dagster_event.step_failure_data


def _marked(run) -> bool:
    return run.tags.get("dagster/retry_on_asset_or_op_failure") == "false"


def _entries(folder: Path) -> list[str]:
    return [path for path in written_files(folder) if "/_vv/log/" in path]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.__name__)
@pytest.mark.parametrize("place", ["run_0", "log"])
@pytest.mark.usefixtures("no_waits")
def test_what_fails_for_a_while_is_tried_again_and_delivered_once(client, folder, faults, place, error):
    faults.add(place, error.__name__, error.__name__)
    run = _run(client)
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert (_count(client.instance, run, STARTED), _count(client.instance, run, AGAIN)) == (1, 2)
    assert _count(client.instance, run, dg.DagsterEventType.STEP_RESTARTED) == 2
    assert len(_entries(folder)) == 1
    assert client.automations.retrieve("idx", "team").delivered == 1
    before = written_files(folder)
    assert _run(client).status == dg.DagsterRunStatus.SUCCESS
    assert written_files(folder) == before


@pytest.mark.usefixtures("no_waits")
def test_a_log_entry_that_landed_unseen_is_found_by_the_next_attempt(client, folder, faults):
    """The delivery may have been committed: the step is tried again, since a delivery reads the log first."""
    faults.add("log", "lands")
    run = _run(client)
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert _count(client.instance, run, AGAIN) == 1
    assert len(_entries(folder)) == 1
    state = read_log(Destination(client.pipeline.connectors["conn_export"], "exports/team"))
    assert {file.path for file in state.files} == {
        path.removeprefix("deliveries/exports/team/") for path in written_files(folder) if "/_vv/" not in path
    }


@pytest.mark.parametrize(
    ("path", "config"),
    [
        (("prompt_runs",), {}),
        (("exports", "team"), {}),
        (("prompt_run_export",), {"destination_connector_id": "conn_export"}),
        (("index_export",), {"destination_connector_id": "conn_export"}),
    ],
)
@pytest.mark.usefixtures("no_waits")
def test_every_asset_is_tried_again_and_refuses_for_good(client, faults, path, config):
    key, run_id = asset_key("idx", *path), None if path == ("index_export",) else "run_0"
    ops = {f"idx__{path[0]}": {"config": config}} if config else {}
    faults.add("run_0", "TransientError", "SourceDataError")
    run = _run(client, key, run_id, config=ops)
    assert _count(client.instance, run, AGAIN) == 1
    assert (run.status, _marked(run)) == (dg.DagsterRunStatus.FAILURE, True)
    assert error_of(client.instance, run.run_id) == "run_0: it broke"
    assert _run(client, key, run_id, config=ops).status == dg.DagsterRunStatus.SUCCESS


@pytest.mark.usefixtures("no_waits")
def test_reporting_a_snapshot_is_tried_again_too(client, monkeypatch):
    """The IO manager of the snapshots reads their first rows back."""
    head, broken = SnapshotStore.head, iter([errors.TransientError("gone for a moment")])

    def failing(*arguments):
        for error in broken:
            raise error
        return head(*arguments)

    monkeypatch.setattr(SnapshotStore, "head", failing)
    run = _run(client, asset_key("idx", "prompt_runs"))
    assert (run.status, _count(client.instance, run, AGAIN)) == (dg.DagsterRunStatus.SUCCESS, 1)


@pytest.mark.parametrize("path", [("prompt_run_export",), ("index_export",)])
@pytest.mark.usefixtures("no_waits")
def test_an_export_on_demand_keeps_its_folder_through_the_retries_of_its_delivery(client, folder, faults, path):
    faults.add("log", "TransientError", "lands")
    ops = {f"idx__{path[0]}": {"config": {"destination_connector_id": "conn_export"}}}
    run = _run(client, asset_key("idx", *path), None if path == ("index_export",) else "run_0", config=ops)
    assert (run.status, _count(client.instance, run, AGAIN)) == (dg.DagsterRunStatus.SUCCESS, 2)
    (entry,) = _entries(folder)
    (export,) = client.exports.list()
    assert entry.split("/")[1] == export.export_id


@pytest.mark.usefixtures("no_waits")
def test_what_goes_on_failing_is_tried_four_times_and_fails_with_its_own_words(client, folder, faults):
    faults.add("run_0", *["TransientError"] * 6)
    run = _run(client)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert (_count(client.instance, run, AGAIN), faults.left("run_0")) == (3, 2)
    assert error_of(client.instance, run.run_id) == "run_0: it broke"
    assert _step_error(client.instance, run).error.cls_name == "Failure"
    assert not _marked(run), "another run may find the source well again"
    assert written_files(folder) == {}


@pytest.mark.parametrize("error", PERMANENT, ids=lambda error: error.__name__)
@pytest.mark.parametrize("place", ["run_0", "log"])
def test_what_cannot_get_better_is_tried_once(client, folder, faults, place, error):
    faults.add(place, error.__name__, error.__name__)
    run = _run(client)
    assert (run.status, _marked(run)) == (dg.DagsterRunStatus.FAILURE, True)
    assert (_count(client.instance, run, AGAIN), faults.left(place)) == (0, 1)
    message = error_of(client.instance, run.run_id)
    assert message == (
        f"{place}: 1 problem\n  - it broke" if error is errors.ConfigurationError else f"{place}: it broke"
    )
    shown = _step_error(client.instance, run)
    assert shown.error.message.strip() == f"dagster._core.definitions.events.Failure: {message}"
    assert shown.error.cause.cls_name == error.__name__
    assert shown.user_failure_data.metadata == {}
    assert _entries(folder) == []


def test_whatever_goes_wrong_in_reading_a_run_is_its_own_fault_and_tried_once(client, faults):
    faults.add("run_0", "RuntimeError", "RuntimeError")
    run = _run(client)
    assert (run.status, _marked(run)) == (dg.DagsterRunStatus.FAILURE, True)
    assert (_count(client.instance, run, AGAIN), faults.left("run_0")) == (0, 1)
    shown = _step_error(client.instance, run)
    assert "prompt run 'run_0' of index 'idx' could not be read: RuntimeError: run_0: it broke" in shown.error.message
    assert (shown.error.cause.cls_name, shown.error.cause.cause.cls_name) == ("SourceDataError", "RuntimeError")


def test_a_bug_elsewhere_is_tried_once_and_shown_as_one(client, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("it broke")

    monkeypatch.setattr(SnapshotStore, "head", broken)
    run = _run(client, asset_key("idx", "prompt_runs"))
    assert (run.status, _marked(run)) == (dg.DagsterRunStatus.FAILURE, False)
    assert _count(client.instance, run, AGAIN) == 0
    (record,) = client.instance.get_records_for_run(run.run_id, of_type=FAILED).records
    error = record.event_log_entry.dagster_event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    assert error.cls_name == "RuntimeError"


def test_an_interrupt_is_no_failure_to_try_again(client, faults):
    """With a RetryPolicy on its operation Dagster would start the step again."""
    faults.add("run_0", "interrupted", "interrupted")
    run = _run(client)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert (_count(client.instance, run, AGAIN), faults.left("run_0")) == (0, 1)
    assert error_of(client.instance, run.run_id) == "it was interrupted"
    assert not _marked(run)


def test_a_command_does_not_wait_for_better_times(client, faults):
    """A person does: they are told at once, with the message, and may try again."""
    faults.add("run_0", "TransientError")
    export = client.exports.create_prompt_run_export("run_0", idempotency_key="k")
    run = client.instance.get_run_by_id(export.dagster_run_id)
    assert (export.status, export.error_message) == (ExportStatus.FAILED, "run_0: it broke")
    assert _count(client.instance, run, AGAIN) == 0
    assert run.tags["dagster/max_retries"] == "0"
    faults.add("log", "TransientError")
    with pytest.raises(errors.RunFailedError, match=r"^log: it broke"):
        client.automations.run("idx", "team")
    assert client.exports.create_prompt_run_export("run_0", idempotency_key="k").status == ExportStatus.COMPLETED


@pytest.mark.usefixtures("no_waits")
def test_a_commands_run_that_the_ui_launches_again_is_retried(client, faults):
    """The UI copies the tags that say that the first run had somebody waiting for it."""
    export = client.exports.create_prompt_run_export("run_0")
    faults.add("run_0", "TransientError")
    run = _run(client, tags=client.instance.get_run_by_id(export.dagster_run_id).tags)
    assert (run.status, _count(client.instance, run, AGAIN)) == (dg.DagsterRunStatus.SUCCESS, 1)


def test_waits_grow_and_differ():
    waits = [[failures.RETRIES.calculate_delay(attempt) for _ in range(200)] for attempt in (1, 2, 3)]
    for base, drawn in zip((10, 30, 70), waits, strict=True):
        assert base - 10 <= min(drawn) < base < max(drawn) <= base + 10
        assert len(set(drawn)) > 100


LOCATION = """
from pathlib import Path

from vv_exports.config import load_config
from vv_exports.defs import failures
from vv_exports.defs.build import build_definitions
from vv_exports.pipeline import Pipeline
from vv_exports_tests.defs.failing import fail_at_times

folder = Path(__file__).parent
failures.RETRIES = failures.RETRIES._replace(delay=0)
pipeline = Pipeline.from_config(load_config(folder / "vv_exports.yaml"))
fail_at_times(pipeline, folder)
defs = build_definitions(pipeline)
"""


class Daemon:
    """Dagster as ``dagster dev`` runs it on the ``dagster.yaml`` of this repository: a code server, run workers, and
    the two parts of the daemon that start queued runs and run failed ones again."""

    def __init__(self, workspace: WorkspaceProcessContext) -> None:
        self.instance = workspace.instance
        self._workspace = workspace
        self._retries, self._queue = EventLogConsumerDaemon(), QueuedRunCoordinatorDaemon(interval_seconds=1)
        self._look()  # the first look only finds out where the event log ends

    def launch(self, run_id: str, **execution: object) -> None:
        """Materialize one partition, as the UI's button does; ``execution`` as in the launchpad."""
        ends = [{"key": f"dagster/asset_partition_range_{end}", "value": run_id} for end in ("start", "end")]
        self.launch_asset(TEAM, ends, {"execution": {"config": execution}})

    def launch_asset(self, asset: dg.AssetKey, tags: list[dict[str, str]], config: dict[str, object]) -> None:
        """Materialize an asset as the launchpad does."""
        selector = {
            "repositoryLocationName": "vv_exports",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": list(asset.path)}],
        }
        parameters = {
            "selector": selector,
            "mode": "default",
            "runConfigData": config,
            "executionMetadata": {"tags": tags},
        }
        result = execute_dagster_graphql(
            self._workspace.create_request_context(),
            LAUNCH_PIPELINE_EXECUTION_MUTATION,
            variables={"executionParams": parameters},
        )
        assert result.data["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess", result.data

    def backfill(self, asset: dg.AssetKey, partitions: list[str]) -> None:
        """Materialize partitions as the UI's dialog does, until their runs wait."""
        parameters = {"assetSelection": [{"path": list(asset.path)}], "partitionNames": partitions}
        result = execute_dagster_graphql(
            self._workspace.create_request_context(),
            LAUNCH_PARTITION_BACKFILL_MUTATION,
            variables={"backfillParams": parameters},
        )
        assert result.data["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", result.data
        list(execute_backfill_iteration(self._workspace, logging.getLogger("backfill")))

    def work(self) -> None:
        """Until every run is over and no more is launched."""
        deadline = time.monotonic() + 300
        while not self._idle():
            assert time.monotonic() < deadline
            list(self._queue.run_iteration(self._workspace))
            time.sleep(0.1)

    def runs(self, run_id: str) -> list[dg.DagsterRun]:
        """The runs of a partition, oldest first."""
        filters = dg.RunsFilter(tags={"dagster/asset_partition_range_start": run_id})
        return self.instance.get_runs(filters, ascending=True)

    def _look(self) -> None:
        list(self._retries.run_iteration(self._workspace))

    def _idle(self) -> bool:
        if not self._over():
            return False
        self._look()  # it may launch another
        return self._over()

    def _over(self) -> bool:
        # A run that failed has yet to get the tag by which a retry is decided: on a busy machine that takes its time.
        return all(
            run.is_finished and (run.is_success or "dagster/will_retry" in run.tags) for run in self.instance.get_runs()
        )


@pytest.fixture
def start(folder, monkeypatch) -> Iterator[Callable[..., Daemon]]:
    root = Path(vv_exports.__file__).parents[1]
    monkeypatch.chdir(folder)  # dagster.yaml keeps everything below the working directory
    write_config(folder)
    (folder / "location.py").write_text(LOCATION)

    @contextmanager
    def started(**run_retries: object) -> Iterator[Daemon]:
        settings = yaml.safe_load((root / "dagster.yaml").read_text())
        settings["code_servers"] = {"wait_for_local_processes_on_shutdown": True}  # none may outlive the test
        settings |= {"run_retries": run_retries} if run_retries else {}
        (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
        target = PythonFileTarget(str(folder / "location.py"), "defs", str(root), "vv_exports")
        with (
            dg.DagsterInstance.from_config(str(folder)) as instance,
            create_test_daemon_workspace_context(target, instance) as workspace,
        ):
            sync_partitions(instance, "idx", LocalArchive(str(folder / "archive")).prompt_runs("idx"))
            yield Daemon(workspace)

    return started


def _delivered(folder: Path) -> list[str]:
    state = read_log(Destination(LocalConnector("conn_export", folder, "deliveries"), "exports/team"))
    return sorted(state.runs)


def test_only_a_run_whose_worker_crashed_runs_again(start, folder):
    """The settings of this repository, whole: launches from the UI, workers of their own, the daemon."""
    faults = Faults(folder / "faults")
    faults.add("run_0", "TransientError", "TransientError")
    faults.add("run_1", "SourceDataError")
    faults.add("run_3", "killed")
    with start() as daemon:
        for run_id in ("run_0", "run_1", "run_3"):
            daemon.launch(run_id)
        daemon.work()
        passing, (permanent,), (crashed, again) = (daemon.runs(run_id) for run_id in ("run_0", "run_1", "run_3"))
        assert [run.status for run in passing] == [dg.DagsterRunStatus.SUCCESS]
        assert _count(daemon.instance, passing[0], AGAIN) == 2
        assert permanent.status == dg.DagsterRunStatus.FAILURE
        assert _count(daemon.instance, permanent, AGAIN) == 0
        assert permanent.tags["dagster/will_retry"] == "false"
        assert error_of(daemon.instance, permanent.run_id) == "run_1: it broke"
        assert (crashed.status, again.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
        assert crashed.tags["dagster/auto_retry_run_id"] == again.run_id
    assert _delivered(folder) == ["run_0", "run_3"]
    assert len(_entries(folder)) == 2


def test_what_the_ui_launches_has_the_tags_of_its_connector_and_of_the_configuration_while_it_waits(start, folder):
    """The queue's limits and the launchers know runs by their tags, and the UI gives none."""
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["run_tags"] = {"dagster-celery/queue": "idx", "dagster/priority": 3}
    config["indexes"]["idx"]["automations"]["team"]["run_tags"] = {"dagster-celery/queue": "heavy"}
    write_config(folder, config)
    launches = (
        {"destination_connector_id": "conn_export", "destination_subpath": "one"},
        {"destination_connector_id": "(download)"},
        {},
    )
    with start() as daemon:
        daemon.launch("run_0")
        for config in launches:
            ops = {"idx__index_export": {"config": config}}
            daemon.launch_asset(dg.AssetKey(["idx", "index_export"]), [], {"ops": ops})
        own = [{"key": "dagster-celery/queue", "value": "by-hand"}]
        daemon.launch_asset(dg.AssetKey(["idx", "index_export"]), own, {})
        daemon.backfill(TEAM, ["run_1", "run_3"])
        waiting = daemon.instance.get_runs(ascending=True)
        assert {run.status for run in waiting} == {dg.DagsterRunStatus.QUEUED}
        found = [[run.tags.get(name) for name in ROUTED] for run in waiting]
    of_team, of_index = ["conn_export", "heavy", "3"], ["idx", "3"]
    one_export = [["conn_export", *of_index], [None, *of_index], [None, *of_index]]
    assert found == [of_team, *one_export, [None, "by-hand", "3"], of_team, of_team]


def test_a_permanent_failure_stays_one_where_failed_steps_run_again(start, folder):
    """Failure(allow_retries=False) by itself does not stop the daemon where ``retry_on_asset_or_op_failure`` is on."""
    faults = Faults(folder / "faults")
    faults.add("run_0", "TransientError")
    faults.add("run_1", "SourceDataError")
    with start(enabled=True, max_retries=2) as daemon:
        daemon.launch("run_0", retries={"disabled": {}})
        daemon.launch("run_1")
        daemon.work()
        (permanent,) = daemon.runs("run_1")
        assert permanent.status == dg.DagsterRunStatus.FAILURE
        assert permanent.tags["dagster/will_retry"] == "false"
        failed, again = daemon.runs("run_0")
        assert (failed.status, again.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
        assert _count(daemon.instance, failed, AGAIN) == 0
        # Where the launchpad disables retries, Dagster puts words of its own before the error.
        assert error_of(daemon.instance, daemon.runs("run_0")[0].run_id) == "run_0: it broke"
    assert _delivered(folder) == ["run_0"]
