"""Running assets in this process, recorded in the Dagster instance like any launch from the UI."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._core.events import JobFailureData
from dagster._core.utils import make_new_run_id

from vv_exports.errors import RequestError

INTERRUPTED = "it was interrupted"
_PROCESS_TAG = "vv_exports/process"
_WORKER_TAG = "vv_exports/worker"
SENSORS_TAG = "vv_exports/sensor"
"""On runs that a sensor of ours asked for: those do nothing before they note their worker."""
_SILENT_SECONDS = 300
_NO_RUN_RETRY = {"dagster/max_retries": "0"}
_WRAPPERS = {"Failure", "RetryRequested"}
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def open_instance(environ: Mapping[str, str], folder: Path) -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, else of the folder's ``dagster.yaml``, else one in its ``.dagster``."""
    if given := environ.get("DAGSTER_HOME"):
        if not Path(given).is_absolute() or not Path(given).is_dir():
            raise RequestError(
                f"DAGSTER_HOME is {given!r}, which is not the absolute path of a folder; create or mend it"
            )
        with _one_at_a_time(Path(given)):
            return _with_tables(dg.DagsterInstance.get())
    home = folder if (folder / "dagster.yaml").exists() else folder / ".dagster"
    home.mkdir(exist_ok=True)
    with _one_at_a_time(home):
        if home != folder and not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        return _with_tables(dg.DagsterInstance.from_config(str(home)))


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Dagster does not guard the making of its SQLite tables: of processes that meet in a new instance, some fail."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _with_tables(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """The instance, its storages opened: Dagster makes their tables when they are first asked for."""
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        del storage
    return instance


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

    ``partitions`` is the first and last key of a range; ``config`` is by operation name. Where another process has
    taken ``run_id`` meanwhile, its run is returned as it stands. Raises KeyboardInterrupt once an interrupted run is
    closed: Dagster by itself reports the run as failed and goes on.
    """
    run_id = run_id or new_run_id()
    # With the run's own id, since the UI copies all tags to a run that launches this one again, elsewhere.
    # A person is told of the failure and decides; the daemon could not repeat the run, having no origin for it.
    run_tags = {_PROCESS_TAG: f"{run_id} {_this_process()}", **_NO_RUN_RETRY, **(tags or {})}
    if partitions is not None:
        run_tags["dagster/asset_partition_range_start"], run_tags["dagster/asset_partition_range_end"] = partitions
    ops = {name: {"config": dict(values)} for name, values in (config or {}).items()}
    with suppress(DagsterRunAlreadyExists):
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
            return error.message.strip().removeprefix(f"vv_exports.errors.{error.cls_name}: ")
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records:
        event = record.event_log_entry.dagster_event
        # Of a run that was reported as failed from outside there is only the message.
        data = event.event_specific_data if event is not None else None
        error = data.error if isinstance(data, JobFailureData) else None
        if error is not None and error.cls_name in _INTERRUPTS:
            return INTERRUPTED
        return record.event_log_entry.user_message or (event.message if event is not None else None)
    return None


def close_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """Report runs as failed whose process on this machine is gone, so that they can be tried again.

    Dagster finds out by itself where a worker alone is killed. Of a machine that crashed it does not: such a run would
    hold its place in the queue, and its destination, until ``run_monitoring.max_runtime_seconds``.
    """
    abandoned = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        run = record.dagster_run
        process = _process_of(run, _PROCESS_TAG) or _process_of(run, _WORKER_TAG)
        silent = process is None and SENSORS_TAG in run.tags and _seconds_since(record.start_time) > _SILENT_SECONDS
        if silent or (process is not None and _gone(process)):
            instance.report_run_failed(run, f"The process that ran this ({process or 'never heard of'}) is gone.")
            abandoned.append(run.run_id)
    return abandoned


def _seconds_since(moment: float | None) -> float:
    return 0 if moment is None else time.time() - moment


def note_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note at a run that this process carries it out."""
    if not launched_here(run):
        instance.add_run_tags(run.run_id, {_WORKER_TAG: f"{run.run_id} {_this_process()}"})


def launched_here(run: dg.DagsterRun) -> bool:
    """Whether ``launch`` made a run: it runs in a process of its caller, who waits for it."""
    return _process_of(run, _PROCESS_TAG) is not None


def _is_dagsters(error: str) -> bool:
    return error.startswith("Dagster") or error in _WRAPPERS


def _process_of(run: dg.DagsterRun, tag: str) -> str | None:
    launched, _, process = run.tags.get(tag, "").partition(" ")
    return process if launched == run.run_id else None


def _this_process() -> str:
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def _gone(process: str) -> bool:
    """Whether a process of this machine has ended. Of other machines' processes nothing is known."""
    host, pid, started = process.rsplit(" ", 2)
    return host == socket.gethostname() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process started, as far as the system tells; it keeps a reused pid from looking alive."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A killed process that its parent never asked about, as in a container without an init process, is dead too.
        return "gone" if state in {"Z", "X"} else fields[18]
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    return "unknown"
