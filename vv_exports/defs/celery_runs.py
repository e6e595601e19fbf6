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
_ASKED_AGAIN_SECONDS = 5.0
_LONGEST_REASON = 300
_WAITS = {"PENDING", "RECEIVED"}
_LOG = logging.getLogger(__name__)


# Dagster's launcher makes the task anew with each run that it launches.
warnings.filterwarnings("ignore", message="Task name 'execute_job' is already registered")


@dataclass
class _Silence:
    """Since when somebody showed no life, and when that was looked at last; by the clock of this process alone."""

    since: float
    looked_at: float

    def lasted(self) -> float:
        return self.looked_at - self.since


class _Silences:
    """Who showed no life when this process looked: a launcher lives as long as a tick of a sensor."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Silence] = {}
        self._lock = Lock()

    def noted(self, name: str) -> _Silence | None:
        with self._lock:
            return self._by_name.get(name)

    def goes_on(self, name: str) -> float:
        """Note a look that showed no life. Returns the seconds since the first such look."""
        now = time.monotonic()
        with self._lock:
            silence = self._by_name.setdefault(name, _Silence(now, now))
            silence.looked_at = now
            return silence.lasted()

    def ends(self, name: str) -> None:
        with self._lock:
            self._by_name.pop(name, None)


_SILENCES = _Silences()


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
        """End a run. It is canceled when its process has ended, or at once where it has none."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
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
        try:
            task = self._task(run.run_id)
            if task.state == "STARTED":
                return self._lost_at_work(run.run_id, _worker_of(task))
            if task.state in _WAITS:
                return self._lost_on_the_way(run)
            # It is the last word of the last of several attempts to begin it, of which one may be at work.
            return None if self._is_with_a_worker(run.run_id) else Lost(_ended(task))
        except (OperationalError, RedisError) as error:
            _LOG.warning("whether run %s is at work is not known, Celery cannot be asked: %s", run.run_id, error)
            return None

    def _lost_at_work(self, run_id: str, worker: str | None) -> Lost | None:
        if worker is None:
            return None
        silence = _SILENCES.noted(worker)
        if silence is not None and time.monotonic() - silence.looked_at < _ASKED_AGAIN_SECONDS:
            return self._lost_with(worker, silence.lasted())
        answers = self._asked(run_id, worker)
        if worker not in answers:
            return self._lost_with(worker, _SILENCES.goes_on(worker))
        _SILENCES.ends(worker)
        if run_id in answers[worker]:
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
        if self._waiting_in(queue) or self._is_with_a_worker(run.run_id):
            _SILENCES.ends(run.run_id)
        elif _SILENCES.goes_on(run.run_id) >= _MISSING_SECONDS:
            _SILENCES.ends(run.run_id)
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
