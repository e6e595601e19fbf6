"""Snapshots of many runs at once. It decides whose failure an error is; not what follows from it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.snapshots.catalog import Catalogs
from vv_exports.snapshots.run_faults import OF_ONE_RUN, faults_of_run
from vv_exports.snapshots.store import Snapshot, SnapshotStore, check_deliverable, fingerprint_of
from vv_exports.sources.base import Source


@dataclass(frozen=True)
class TakenSnapshot:
    """A snapshot, and whether it was taken just now."""

    snapshot: Snapshot
    fresh: bool


@dataclass(frozen=True)
class Batch:
    """Snapshots of the runs that could be read, and why the others could not, by run id."""

    taken: Sequence[TakenSnapshot]
    problems: Mapping[str, Exception]

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots alone."""
        return [one.snapshot for one in self.taken]


def finished_runs(
    source: Source, index_id: str, run_ids: Sequence[str]
) -> tuple[list[PromptRun], dict[str, Exception]]:
    """Those of the runs that are there and finished, in the order (executed_at, run_id), and why the others are not."""
    runs: list[PromptRun] = []
    problems: dict[str, Exception] = {}
    for run_id in run_ids:
        try:
            with faults_of_run(index_id, run_id):
                run = source.prompt_run(index_id, run_id)
                check_deliverable(run)
            runs.append(run)
        except OF_ONE_RUN as error:
            problems[run_id] = error
    return sorted(runs, key=lambda run: (run.executed_at, run.run_id)), problems


def take_snapshots(
    source: Source,
    store: SnapshotStore,
    catalogs: Catalogs,
    runs: Sequence[PromptRun],
    *,
    clock: Callable[[], datetime],
    progress: Callable[[str, int], None],
    isolated: tuple[type[Exception], ...] = (),
) -> Batch:
    """A snapshot of each run, as many at a time as is best for the source; those of new and changed runs are taken now.

    ``isolated`` errors leave out their run; any other ends the batch, after what was taken is in the catalog.
    """

    def take(run: PromptRun) -> TakenSnapshot:
        started = clock()
        with faults_of_run(run.index_id, run.run_id):
            snapshot = store.ensure(source, run, started)
        return TakenSnapshot(snapshot, fresh=snapshot.taken_at == started)

    taken: list[TakenSnapshot] = []
    problems: dict[str, Exception] = {}
    with ThreadPoolExecutor(source.readings_at_once, thread_name_prefix="snapshots") as threads:
        # In this thread where one at a time is best: an interrupt then ends it where it is.
        one_by_one = source.readings_at_once == 1 or len(runs) == 1
        waiting = [partial(take, run) if one_by_one else threads.submit(take, run) for run in runs]
        try:
            for run, one in zip(runs, waiting, strict=True):
                try:
                    taken.append(one.result() if isinstance(one, Future) else one())
                except isolated as error:
                    problems[run.run_id] = error
                    continue
                if taken[-1].fresh:
                    progress(run.run_id, taken[-1].snapshot.rows("segments"))
        except BaseException:
            for one in waiting:
                if isinstance(one, Future):
                    one.cancel()
            source.close()  # those that have begun would hold up the error, or the interrupt
            raise
        finally:
            if taken:
                _catalog(source, store, catalogs, {run.run_id: run for run in runs}, taken)
    return Batch(taken, problems)


def _catalog(
    source: Source,
    store: SnapshotStore,
    catalogs: Catalogs,
    runs: Mapping[str, PromptRun],
    taken: Sequence[TakenSnapshot],
) -> None:
    """Note in the index's catalog what it does not say yet."""
    index_id = taken[0].snapshot.index_id
    catalog = catalogs.read(index_id)
    news = []
    for one in taken:
        run_id = one.snapshot.run_id
        row = catalog.runs.get(run_id)
        if one.fresh or row is None or row.fingerprint != fingerprint_of(source, runs[run_id]):
            fingerprint = store.fingerprint(one.snapshot)
            if fingerprint is not None:
                news.append((one.snapshot, fingerprint))
    if news or any(one.snapshot.run_id in catalog.problems for one in taken):
        catalogs.record(index_id, news)
