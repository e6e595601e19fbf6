"""Signs of life of runs that a command carries out, for other machines: in Dagster's database, where that is shared.

Of a process of the same machine it is known whether it is there (``processes.py``), and of a worker its launcher knows.
A command is in neither's hands: after its machine was lost its run would hold a place in the queue for a day, and the
same export could not be asked for again.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vv_exports.defs.dagster_internals import SqliteRunStorage
from vv_exports.defs.instance import instance_errors
from vv_exports.errors import InstanceError

SILENT_SECONDS = 40.0
"""A command that showed no life for so long, by the clock of who looks, is gone."""
_BEAT_SECONDS = 10.0
_MOST_BETWEEN_LOOKS_SECONDS = 20.0
"""That silence between two looks counts for: where nobody could look for longer, as the database was out of reach, the
command could not beat either."""
_FORGOTTEN_AFTER_SECONDS = 3600.0
_LOG = logging.getLogger(__name__)
_seen: dict[str, tuple[str, float, float]] = {}
"""By run: what its command said last, for how long this process has seen nothing else, and when it looked."""


def are_shared(instance: dg.DagsterInstance) -> bool:
    """Whether other machines may use an instance. One in SQLite is one machine's, and one in memory a process's."""
    return instance.is_persistent and not isinstance(instance.run_storage, SqliteRunStorage)


@contextmanager
def beating(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Show now and then that the run of this process is at work, as long as it is."""
    if not are_shared(instance):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(instance, run_id, over), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def silent_seconds(instance: dg.DagsterInstance, run_id: str) -> float:
    """How long the command of a run has shown no life while this process looked; 0 for one that never beat."""
    said = instance.run_storage.get_cursor_values({_key(run_id)}).get(_key(run_id))
    if said is None:
        return 0
    now = time.monotonic()
    before, silent, looked_at = _seen.get(run_id, ("", 0.0, now))
    silent = silent + min(now - looked_at, _MOST_BETWEEN_LOOKS_SECONDS) if said == before else 0.0
    for one in [one for one, (*_, at) in _seen.items() if now - at > _FORGOTTEN_AFTER_SECONDS and one != run_id]:
        del _seen[one]
    _seen[run_id] = said, silent, now
    return silent


def _beat(instance: dg.DagsterInstance, run_id: str, over: threading.Event) -> None:
    while True:
        try:
            with instance_errors(lambda: instance):
                instance.run_storage.set_cursor_values({_key(run_id): str(time.time())})
        except InstanceError as error:
            _LOG.info("telling that run %s is at work failed: %s", run_id, error)
        if over.wait(_BEAT_SECONDS):
            return


def _key(run_id: str) -> str:
    return f"vv_exports/alive/{run_id}"
