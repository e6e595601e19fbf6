"""Prompt runs read by processes of their own, as many at a time as the configuration allows.

Reading an archive is work of this machine, and the code of one Python process runs on one core. Each process takes
snapshots as this one would, into the same storage; what comes back is the snapshot, or the error. They end with this
process, however it ends.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection

from vv_exports.config import Config
from vv_exports.config.models import MIN_SPOOL_BYTES, LocalArchiveConfig
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import TransientError
from vv_exports.parts import open_parts
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.taking import Taker
from vv_exports.sources.base import Source

_WORTH_A_PROCESS = 50_000
"""Segments of a run and those behind it, for each process: to start one takes as long as to read so many."""


class ReadingProcesses:
    """Those of one configuration. See ``snapshots.taking.Apart``."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._most = config.source.processes if isinstance(config.source, LocalArchiveConfig) else 1

    def count(self, runs: Sequence[PromptRun]) -> int:
        """See ``Apart.count``."""
        if self._most == 1 or current_process().daemon:  # which must not have children
            return 1
        worth = sum(run.stated_segments for run in runs) // _WORTH_A_PROCESS
        spools = (self._config.spool.max_bytes or self._most * MIN_SPOOL_BYTES) // MIN_SPOOL_BYTES
        return max(1, min(self._most, len(runs), worth, spools))

    @contextmanager
    def taker(self, count: int) -> Iterator[Taker]:
        """See ``Apart.taker``."""
        context = get_context("spawn")  # a fork has the locks of threads that it has not
        # Nothing is ever written: it ends when the last process that holds ``writer`` ends, which is this one alone.
        reader, writer = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(count, context, _begin, (_share(self._config, count), reader))
        try:
            yield _Taker(pool, writer)
        finally:
            pool.shutdown(cancel_futures=True)
            writer.close()
            reader.close()


@dataclass(frozen=True)
class _Taker:
    pool: ProcessPoolExecutor
    writer: Connection

    def take(self, run: PromptRun, now: datetime) -> Snapshot:
        """See ``Taker.take``."""
        try:
            taken = self.pool.submit(_take, run, now)  # which may start a process
        except OSError as error:
            raise TransientError(
                f"no process can be started to read prompt run {run.run_id!r} of index {run.index_id!r}: {error}. Set "
                "source.processes to fewer, and try again."
            ) from error
        try:
            return taken.result()
        except BrokenProcessPool as error:
            raise TransientError(
                f"prompt run {run.run_id!r} of index {run.index_id!r} is read by a process that has ended, maybe since "
                "the machine had no memory left for it; what it wrote to stderr says more. Set source.processes to "
                "fewer, and try again."
            ) from error

    def stop(self) -> None:
        """See ``Taker.stop``."""
        self.writer.close()


def _share(config: Config, count: int) -> Config:
    """The configuration for one of so many processes: together they may have on the spool what one may."""
    if config.spool.max_bytes is None:
        return config
    spool = config.spool.model_copy(update={"max_bytes": config.spool.max_bytes // count})
    return config.model_copy(update={"spool": spool})


# Of a process that reads.


@dataclass
class _Here:
    source: Source
    store: SnapshotStore


_HERE: list[_Here] = []


def _begin(config: Config, alive: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to all processes of a terminal; the first one decides
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    parts = open_parts(config)
    parts.storage.remember_in(parts.storage)
    _HERE.append(_Here(parts.source, SnapshotStore(parts.storage)))


def _end_with(alive: Connection) -> None:
    """End at once when the process that reads for itself no more closes its end, or is not there any more."""
    alive.poll(None)
    os._exit(1)


def _take(run: PromptRun, now: datetime) -> Snapshot:
    (here,) = _HERE
    return here.store.take(here.source, run, now)
