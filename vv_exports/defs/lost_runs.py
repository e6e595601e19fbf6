"""Runs that are under way for Dagster and for nobody else: a crash took their process, or they never got one.

Dagster finds out by itself where a worker alone is killed. Of a machine, or a container, that crashed it does not: such
a run would hold its place in the queue, and its destination, until ``run_monitoring`` in ``dagster.yaml`` ends it. What
is on other machines is the launcher's to know, where it does.
"""

import json
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import dagster as dg

from vv_exports.defs.dagster_internals import (
    GRPC_INFO_TAG,
    IMPLICIT_ASSET_JOB_NAME,
    STARTED_PROCESS,
    DefaultRunLauncher,
    SqliteRunStorage,
)
from vv_exports.defs.heartbeats import SILENT_SECONDS, silent_seconds
from vv_exports.defs.launches import NO_RUN_RETRY, launched_here
from vv_exports.defs.processes import PROCESS, WORKER, is_gone, is_of_this_machine, process_of, this_machine, was_alive
from vv_exports.defs.run_tags import hidden, hidden_tag
from vv_exports.domain.names import dagster_key

SENSORS = "sensor"
"""On runs that a sensor of ours asked for: the machine of the code server that it ran in, which starts them as well."""
_NEVER_STARTED = "never_started"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_HANDED_OVER_SECONDS = 15.0
"""The daemon marks a run as starting, notes the code server and asks it, all within a moment. One that is closed too
early does no harm: its process finds it closed, and ends."""
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True)
class Lost:
    """Why a run is one that nobody carries out, and whether anybody ever did."""

    why: str
    never_started: bool = False


@runtime_checkable
class KnowsItsRuns(Protocol):
    """A launcher of runs on other machines, which can say of each, in whatever state, whether somebody has it."""

    def lost(self, run: dg.DagsterRun) -> Lost | None:
        """Why nobody carries out a run that is launched and not over; None where somebody does, or may."""


def close_lost(instance: dg.DagsterInstance, now: datetime, indexes: Iterable[str] | None = None) -> list[str]:
    """Report runs as failed, or canceled, that have no process on this machine any more, so that they are tried again.

    Returns their ids. A run whose process, or whose code server, is there is never touched, however long it takes. Nor
    is one that materializes nothing of ``indexes``, where they are given: an instance may be other projects' as well.
    """
    abandoned = []
    keys = None if indexes is None else {dagster_key(index_id) for index_id in indexes}
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        if keys is not None and not _is_ours(record.dagster_run, keys):
            continue
        lost = _lost(instance, record.dagster_run, now.timestamp())
        # Read again: a process that is gone may have ended well since the first look.
        run = instance.get_run_by_id(record.dagster_run.run_id) if lost is not None else None
        if run is not None and lost is not None and run.status in _UNFINISHED:
            _close(instance, run, lost)
            abandoned.append(run.run_id)
    return abandoned


def never_started(run: dg.DagsterRun) -> bool:
    """Whether a run was closed before anything of it was done: nothing speaks against asking for it again at once."""
    return hidden_tag(run, _NEVER_STARTED) == run.run_id


def _is_ours(run: dg.DagsterRun, keys: Collection[str]) -> bool:
    if any(hidden_tag(run, tag) is not None for tag in (PROCESS, WORKER, SENSORS)):
        return True
    if run.asset_selection is None:
        return run.job_name == IMPLICIT_ASSET_JOB_NAME  # all assets
    return any(key.path[0] in keys for key in run.asset_selection)


def _close(instance: dg.DagsterInstance, run: dg.DagsterRun, lost: Lost) -> None:
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, lost.why)
        return
    if lost.never_started and hidden_tag(run, SENSORS) is not None:
        # The sensor asks again by itself, at once: beside it, the daemon's retry would be a second one.
        instance.add_run_tags(run.run_id, {**hidden({_NEVER_STARTED: run.run_id}), **NO_RUN_RETRY})
    instance.report_run_failed(run, lost.why)


def _lost(instance: dg.DagsterInstance, run: dg.DagsterRun, now: float) -> Lost | None:
    process = process_of(run, PROCESS) or process_of(run, WORKER)
    if process is not None and is_gone(process):
        return Lost(f"The process that ran this ({process}) is gone.")
    if process is not None and launched_here(run):
        silent = 0 if is_of_this_machine(process) else silent_seconds(instance, run.run_id)
        lost = silent >= SILENT_SECONDS
        return Lost(f"The command that ran this ({process}) has shown no life for {silent:.0f} s.") if lost else None
    launcher = instance.run_launcher
    if isinstance(launcher, KnowsItsRuns) and run.status != dg.DagsterRunStatus.NOT_STARTED:
        return launcher.lost(run)
    return None if process is not None else _lost_before_its_first_step(instance, run, now)


def _lost_before_its_first_step(instance: dg.DagsterInstance, run: dg.DagsterRun, now: float) -> Lost | None:
    """Of a run whose process is not noted yet, and is, or was to be, one of this machine."""
    # Of those that are not started the daemon goes on with the tick, or the backfill, that they were created in.
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "null"))
    if run.status == dg.DagsterRunStatus.NOT_STARTED or not _is_of_this_machine(instance, run, server):
        return None
    if worker := _worker(instance, run):
        pid, noted_at = worker
        gone = not was_alive(pid, noted_at)
        return Lost(f"The process that was started for this (pid {pid}) is gone.") if gone else None
    if server is None:
        launched_at = instance.get_run_stats(run.run_id).launch_time
        lost = launched_at is not None and now - launched_at > _HANDED_OVER_SECONDS
        why = "The daemon that launched this was gone before it asked a code server to start it."
    else:
        lost, why = not _answers(server), "The code server that was to start this is gone, and no process was started."
    return Lost(why, never_started=True) if lost else None


def _is_of_this_machine(instance: dg.DagsterInstance, run: dg.DagsterRun, server: Mapping[str, Any] | None) -> bool:
    """Whether a run's process is, or was to be, one of this machine. A launcher of another kind notes no server, and
    Dagster asks it itself how its workers are."""
    sensors = hidden_tag(run, SENSORS)
    if server is None:
        return sensors == this_machine() and isinstance(instance.run_launcher, DefaultRunLauncher)
    # A local code server has a socket; an instance in SQLite is that of one machine.
    local = "socket" in server and isinstance(instance.run_storage, SqliteRunStorage)
    return sensors == this_machine() if sensors is not None else local


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """The pid of the process that was started for a run, and when it said so."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if found := STARTED_PROCESS.match(entry.message):
            return int(found[1]), entry.timestamp
    return None


def _answers(server: Mapping[str, Any]) -> bool:
    """Whether somebody listens where a code server was. One that is too busy to answer is there."""
    try:
        if "socket" in server:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(server["socket"])
        else:
            socket.create_connection((server["host"], server["port"]), _CONNECT_SECONDS).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True
    return True
