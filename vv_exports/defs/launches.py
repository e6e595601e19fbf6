"""Running assets in this process, recorded in the Dagster instance like any launch from the UI."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import dagster as dg

from vv_exports.defs.dagster_internals import DagsterRunAlreadyExists, JobFailureData, make_new_run_id
from vv_exports.defs.heartbeats import beating
from vv_exports.defs.instance import plain_text
from vv_exports.defs.processes import PROCESS, WORKER, process_of, this_process
from vv_exports.defs.run_tags import hidden, route_of
from vv_exports.errors import VVExportsError

INTERRUPTED = "it was interrupted"
NO_RUN_RETRY = {"dagster/max_retries": "0"}
"""Tags of a run that the daemon does not launch again when it fails."""
IN_TURN = threading.RLock()
"""Held while a run is made in this process. Dagster begins one with a configuration of Python's logging, which holds
logging's lock and waits for that of each handler; the handler of a run in another thread holds its own while it writes
to Dagster's database, which logs: two runs at once wait for each other for ever."""
_WRAPPERS = {"Failure", "RetryRequested"}
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def new_run_id() -> str:
    """An id for a run that is yet to be launched."""
    return make_new_run_id()


def launch(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    assets: Sequence[dg.AssetKey],
    *,
    run_id: str | None = None,
    partitions: tuple[str, str] | None = None,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.DagsterRun:
    """Materialize assets now and return the finished run, whether it succeeded or failed.

    ``partitions`` is the first and last key of a range; ``config`` is by operation name. Threads take turns. Where
    another process has taken ``run_id`` meanwhile, its run is returned as it stands. Raises KeyboardInterrupt once an
    interrupted run is closed: Dagster by itself reports the run as failed and goes on.
    """
    run_id = run_id or new_run_id()
    # With the run's own id, since the UI copies all tags to a run that launches this one again, elsewhere.
    # A person is told of the failure and decides; the daemon could not repeat the run, having no origin for it.
    route = route_of(definitions.get_repository_def().asset_graph, assets)
    run_tags = {**route, **hidden({PROCESS: f"{run_id} {this_process()}"}), **NO_RUN_RETRY, **(tags or {})}
    if partitions is not None:
        run_tags["dagster/asset_partition_range_start"], run_tags["dagster/asset_partition_range_end"] = partitions
    ops = {name: {"config": dict(values)} for name, values in (config or {}).items()}
    # Reading it, too: a database in memory refuses a reader while another thread writes.
    with IN_TURN:
        with suppress(DagsterRunAlreadyExists), beating(instance, run_id):
            definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=list(assets),
                run_id=run_id,
                run_config={**_QUIET, "ops": ops},
                tags=run_tags,
                raise_on_error=False,
            )
        run = instance.get_run_by_id(run_id)
        if run is None:
            raise RuntimeError(f"Dagster run {run_id} vanished from its instance")
        if run.status == dg.DagsterRunStatus.FAILURE and error_of(instance, run_id) == INTERRUPTED:
            raise KeyboardInterrupt
    return run


def error_of(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run failed, in the words of the first error that is not Dagster's own; None where nothing says."""
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        error = event.step_failure_data.error if event is not None else None
        while error is not None and error.cause is not None and _is_dagsters(error.cls_name or ""):
            error = error.cause
        if error is not None and error.cls_name in _INTERRUPTS:
            return INTERRUPTED
        if error is not None:
            return plain_text(error.message.strip().removeprefix(f"vv_exports.errors.{error.cls_name}: "))
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records:
        event = record.event_log_entry.dagster_event
        # Of a run that was reported as failed from outside there is only the message.
        data = event.event_specific_data if event is not None else None
        error = data.error if isinstance(data, JobFailureData) else None
        if error is not None and error.cls_name in _INTERRUPTS:
            return INTERRUPTED
        return record.event_log_entry.user_message or (event.message if event is not None else None)
    return None


def message_of(error: BaseException) -> str:
    """What an error that leaves a step says, in the words of the one that caused it; as ``error_of`` tells it later."""
    while (
        _is_dagsters(type(error).__name__) and type(error).__name__ not in _INTERRUPTS and error.__cause__ is not None
    ):
        error = error.__cause__
    if type(error).__name__ in _INTERRUPTS:
        return INTERRUPTED
    told = str(error).strip()
    return plain_text(told) if isinstance(error, VVExportsError) else f"{type(error).__name__}: {told}"


def note_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note at a run that this process carries it out."""
    if not launched_here(run):
        instance.add_run_tags(run.run_id, hidden({WORKER: f"{run.run_id} {this_process()}"}))


def launched_here(run: dg.DagsterRun) -> bool:
    """Whether ``launch`` made a run: it runs in a process of its caller, who waits for it."""
    return process_of(run, PROCESS) is not None


def _is_dagsters(error: str) -> bool:
    return error.startswith("Dagster") or error in _WRAPPERS
