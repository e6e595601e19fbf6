"""Canaries: each private name of Dagster that this package uses, with what to look at when it is gone.

Imports nothing of the package, which could not be imported then. How the things behave is in
``test_dagster_internals.py``.
"""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "vv_exports"
MODULE = PACKAGE / "defs" / "dagster_internals.py"
BACKFILL = "defs/backfills.py asks the daemon for a backfill as the UI does: see dagster_graphql's launch_backfill"
SWITCH = "defs/pauses.py reads and sets a sensor's switch: see DagsterInstance.start_sensor and stop_sensor"
LOST = "defs/lost_runs.py finds runs that lost their process: see DefaultRunLauncher.launch_run_from_grpc_client"
CELERY = "defs/celery_runs.py tells Dagster's monitoring of lost runs: see monitor_started_run in run_monitoring.py"
HISTORY = (
    "defs/history.py stores events in batches: see SqliteEventLogStorage.store_event, and dagster-postgres's batch"
)
USED = {
    "AssetCheckExecutionRecordStatus": "defs/checks.py asks how a check passed: see EventLogStorage's history of them",
    "BULK_ACTION_TERMINAL_STATUSES": BACKFILL,
    "BaseAssetGraph": "defs/run_tags.py reads what assets say of runs: see BaseWorkspaceRequestContext.asset_graph",
    "BulkActionStatus": BACKFILL,
    "BulkActionsFilter": BACKFILL,
    "CheckError": "defs/instance.py tells of a wrong dagster.yaml: see what InstanceRef.from_dir raises for one",
    "CheckRunHealthResult": CELERY,
    "DagsterEvent": "a batch that fails in part says what it delivered: see how AssetExecutionContext.log_event works",
    "DagsterEventBatchMetadata": "events are handed over as a batch: see DagsterInstance.handle_new_event",
    "DagsterRunAlreadyExists": "defs/launches.py meets a run that has its id: see what execute_in_process raises then",
    "DagsterSqliteStorage": HISTORY,
    "DefaultRunLauncher": LOST,
    "GRPC_INFO_TAG": LOST,
    "IMPLICIT_ASSET_JOB_NAME": "the job that schedules target: see RepositoryDefinition.get_implicit_asset_job_names",
    "InstanceRef": "defs/instance.py opens an instance from a folder: see DagsterInstance.from_config",
    "InstigatorState": SWITCH,
    "InstigatorStatus": SWITCH,
    "InstigatorType": SWITCH,
    "JobFailureData": "defs/launches.py tells why a run failed: see what DagsterEvent.job_failure carries",
    "PartitionBackfill": BACKFILL,
    "SensorInstigatorData": SWITCH,
    "SqlEventLogStorageTable": HISTORY,
    "SqliteEventLogStorage": HISTORY,
    "SqliteRunStorage": LOST,
    "StepExecutionContext": "type of the step around an asset: see OpExecutionContext.get_step_execution_context",
    "SubmitRunContext": "defs/run_queue.py tags runs before they wait: see QueuedRunCoordinator.submit_run",
    "WorkerStatus": CELERY,
    "make_new_backfill_id": BACKFILL,
    "make_new_run_id": "defs/launches.py names a run before it begins: see what execute_in_process takes for run_id",
}


def private_imports(path):
    """Names that a module imports from Dagster's private modules, with their module."""
    return {
        name.name: node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("dagster._", "dagster_shared"))
        for name in node.names
    }


def test_every_name_that_is_imported_has_its_sentence_here():
    assert private_imports(MODULE).keys() == USED.keys()


@pytest.mark.parametrize("name", sorted(USED))
def test_dagster_still_has(name):
    module = private_imports(MODULE)[name]
    try:
        found = hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        found = False
    assert found, f"this version of Dagster has no {module}.{name}: {USED[name]}"


def test_only_one_module_uses_what_is_private():
    elsewhere = [path for path in PACKAGE.rglob("*.py") if path != MODULE]
    assert len(elsewhere) > 50
    importing = {path.name for path in elsewhere if private_imports(path)}
    plain = {
        path.name
        for path in elsewhere
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        and any(one.name.startswith(("dagster.", "dagster_shared")) for one in node.names)
    }
    reaching = {path.name for path in (PACKAGE / "defs").glob("*.py") if "SLF001" in path.read_text()}
    assert (importing, plain, reaching) == (set(), set(), {MODULE.name})
