"""Runs that Celery's workers carry out, on several machines; named in ``dagster.yaml``, as ``run_launcher``.

Dagster's own launcher believes Celery's result backend, and that says for ever of a run whose worker's machine is lost
that it is being carried out. This one asks the worker. It also gives a task its run's id, so that a run is found in
Celery whatever the daemon that launched it came to note, and says of a run that somebody ends that it was ended.
"""

import logging
import time
import warnings
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import dagster as dg
from celery.canvas import Signature
from celery.result import AsyncResult
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from vv_exports.defs.dagster_internals import CheckRunHealthResult, WorkerStatus
from vv_exports.defs.launches import launched_here
from vv_exports.defs.lost_runs import Lost
from vv_exports.printable import one_line

_MISSING_SECONDS = 30.0
"""A run that is in no queue and with no worker for so long is lost: between the two it is for moments."""
_ANSWER_SECONDS = 2.0
_LOOKED_AT_AGAIN_SECONDS = 5.0
_IN_A_ROW_SECONDS = 60.0
"""Of looks that are further apart it is not known what was in between."""
_LONGEST_REASON = 300
_BROKER = "the broker, or where results are"
_WAITS = {"PENDING", "RECEIVED"}
_LOG = logging.getLogger(__name__)


# Dagster's launcher makes the task anew with each run that it launches.
warnings.filterwarnings("ignore", message="Task name 'execute_job' is already registered")


@dataclass(frozen=True)
class _Look:
    """When this process looked last, and since when it saw no life; None where it did. By its own clock alone."""

    at: float
    silent_since: float | None


class _Looks:
    """What this process saw of runs and workers. Kept here since a launcher lives as long as a tick of a sensor, and
    hundreds of sensors look at the same few runs."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Look] = {}
        self._lock = Lock()

    def saw_alive(self, name: str) -> bool:
        """Whether it showed life a moment ago."""
        look = self._recent(name)
        return look is not None and look.silent_since is None

    def saw_silent(self, name: str) -> float | None:
        """The seconds that it had shown no life for a moment ago; None where it had, or nobody looked."""
        look = self._recent(name)
        return None if look is None or look.silent_since is None else look.at - look.silent_since

    def alive(self, name: str) -> None:
        """It showed life."""
        self._note(name, silent=False)

    def silent(self, name: str) -> float:
        """It showed no life. Returns the seconds since the first look of which that holds."""
        return self._note(name, silent=True)

    def _recent(self, name: str) -> _Look | None:
        with self._lock:
            look = self._by_name.get(name)
        return look if look is not None and time.monotonic() - look.at < _LOOKED_AT_AGAIN_SECONDS else None

    def _note(self, name: str, *, silent: bool) -> float:
        now = time.monotonic()
        with self._lock:
            self._by_name = {one: look for one, look in self._by_name.items() if now - look.at < _IN_A_ROW_SECONDS}
            before = self._by_name.get(name)
            since = now if before is None or before.silent_since is None else before.silent_since
            self._by_name[name] = _Look(now, since if silent else None)
        return now - since


_LOOKS = _Looks()


class CeleryRuns(CeleryRunLauncher):
    """Hands runs to Celery, and knows what became of them.

    A worker that has not answered for ``worker_timeout_seconds`` is lost. Its main process only answers and carries
    nothing out, so that it does within milliseconds even where all of its places are taken.
    """

    def __init__(self, worker_timeout_seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._worker_timeout_seconds = worker_timeout_seconds

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What it takes in ``dagster.yaml``."""
        timeout = dg.Field(
            float,
            is_required=False,
            default_value=20.0,
            description="How long a worker may not answer before what it carries out begins again elsewhere.",
        )
        return {**cast("dict[str, Any]", super().config_type()), "worker_timeout_seconds": timeout}

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Signature, routing_key: str) -> None:
        super()._launch_celery_task_run(run, task_signature.set(task_id=run.run_id), routing_key)

    @property
    def supports_resume_run(self) -> bool:
        """A run that was lost begins again: what it has committed is found in the log."""
        return False

    def terminate(self, run_id: str) -> bool:
        """End a run: its process is told, and it is canceled when that has ended. False where there is none, or it is a
        command's, which nothing but a signal reaches."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or launched_here(run):
            return False
        self._instance.report_run_canceling(run)
        self._task(run_id).revoke(terminate=True)
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What Dagster's monitoring asks, of runs that have begun."""
        lost = self.lost(run)
        if lost is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, lost.why)

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Where a run is, in a line."""
        del include_container_logs
        task = self._task(run.run_id)
        return f"Celery's task {task.id} is {task.state}, of worker {_worker_of(task)}"

    def lost(self, run: dg.DagsterRun) -> Lost | None:
        """Whether nobody carries a run out, and nobody will. It takes milliseconds where its worker is there.

        A broker that does not answer says nothing of workers: then nothing is lost.
        """
        if launched_here(run):  # by a command, in the command's process
            return None
        if _LOOKS.saw_alive(run.run_id) or _LOOKS.saw_silent(_BROKER) is not None:
            return None
        try:
            return self._lost(run, self._task(run.run_id))
        except (OperationalError, RedisError) as error:
            _LOOKS.silent(_BROKER)  # each that asks waits for seconds
            _LOG.warning("whether run %s is at work is not known, Celery cannot be asked: %s", run.run_id, error)
            return None

    def _lost(self, run: dg.DagsterRun, task: AsyncResult[Any]) -> Lost | None:
        if task.state == "STARTED":
            return self._lost_at_work(run.run_id, _worker_of(task))
        if task.state in _WAITS:
            return self._lost_on_the_way(run)
        # It is the last word of the last of several attempts to begin it, of which one may be at work.
        return None if self._is_with_a_worker(run.run_id) else Lost(_ended(task))

    def _lost_at_work(self, run_id: str, worker: str | None) -> Lost | None:
        if worker is None:
            return None
        if (silent_seconds := _LOOKS.saw_silent(worker)) is not None:
            return self._lost_with(worker, silent_seconds)
        answers = self._asked(run_id, worker)
        if worker not in answers:
            return self._lost_with(worker, _LOOKS.silent(worker))
        _LOOKS.alive(worker)
        if run_id in answers[worker]:
            _LOOKS.alive(run_id)
            return None
        # It may have ended between the two questions: what it ended with is known by now.
        task = self._task(run_id)
        if task.state != "STARTED":
            return Lost(_ended(task))
        return Lost(f"Celery's worker {worker} began this and was started anew since.")

    def _lost_with(self, worker: str, silent_seconds: float) -> Lost | None:
        if silent_seconds < self._worker_timeout_seconds:
            return None
        return Lost(f"Celery's worker {worker} has not answered for {silent_seconds:.0f} seconds.")

    def _lost_on_the_way(self, run: dg.DagsterRun) -> Lost | None:
        queue = run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue)
        if self._waiting_in(queue):
            _LOOKS.alive(run.run_id)
        elif _LOOKS.silent(run.run_id) >= _MISSING_SECONDS and not self._is_with_a_worker(run.run_id):
            return Lost(f"No worker has this, and Celery's queue {queue} is empty.", never_started=True)
        return None

    def _is_with_a_worker(self, run_id: str) -> bool:
        return any(run_id in tasks for tasks in self._asked(run_id).values())

    def _asked(self, run_id: str, worker: str | None = None) -> dict[str, Any]:
        """What workers, or one, say of a run, by worker; one that does not answer is not in it."""
        inspect = self.celery.control.inspect(
            destination=None if worker is None else [worker],
            timeout=_ANSWER_SECONDS,
            limit=None if worker is None else 1,
        )
        return dict(inspect.query_task(run_id) or {})

    def _waiting_in(self, queue: str) -> int:
        """How many tasks wait in a queue of the broker's."""
        with self.celery.connection_for_read() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except ChannelError:  # Redis has no empty queues
                return 0

    def _task(self, run_id: str) -> AsyncResult[Any]:
        return self.celery.AsyncResult(run_id)


def _worker_of(task: AsyncResult[Any]) -> str | None:
    return task.info.get("hostname") if isinstance(task.info, dict) else None


def _ended(task: AsyncResult[Any]) -> str:
    why = f": {type(task.info).__name__}: {task.info}" if isinstance(task.info, BaseException) else ""
    return one_line(f"Celery's task has ended ({task.state}{why})")[:_LONGEST_REASON]
