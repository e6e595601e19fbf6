"""Snapshots of many runs at once. It decides whose failure an error is; not what follows from it."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from vv_exports.connectors.base import Connector
from vv_exports.domain.failures import problem_of
from vv_exports.domain.progress import Report, Work, unseen
from vv_exports.domain.prompt_runs import DELIVERABLE, PromptRun
from vv_exports.domain.selection import check_deliverable
from vv_exports.errors import RequestError, SelectionError, SourceChangedError, VVExportsError
from vv_exports.snapshots.catalog import CatalogedRun, Catalogs, KnownRun, KnownRuns, SeenRun
from vv_exports.snapshots.run_faults import OF_ONE_RUN, faults_of_run
from vv_exports.snapshots.schemas import KnownSchema, schemas_of
from vv_exports.snapshots.store import Snapshot, SnapshotStore, fingerprint_of
from vv_exports.sources.base import Listed, ListedRun, Source, UnreadableRun

_OPENED_AT_ONCE = 16
_LOG = logging.getLogger(__name__)


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


class Taker(Protocol):
    """What takes snapshots elsewhere, several at a time."""

    def take(self, run: PromptRun, now: datetime, /) -> Snapshot:
        """See ``SnapshotStore.take``. Called from several threads."""

    def stop(self) -> None:
        """End what is under way: it raises, at once."""


class Apart(Protocol):
    """Where snapshots may be taken, if that is worth it."""

    def count(self, runs: Sequence[PromptRun], /) -> int:
        """How many of these runs are best read there at a time; 1: here."""

    def taker(self, count: int, /) -> AbstractContextManager[Taker]:
        """What takes so many at a time."""


class Snapshots:
    """The snapshots of a deployment's prompt runs: found where a run is as it was, taken where it is new or changed.

    ``progress`` is told (run id, segments) of each that is taken, ``work`` how much is to be read and was. Where there
    is somewhere ``apart``, many are taken there.
    """

    def __init__(
        self,
        source: Source,
        storage: Connector,
        *,
        clock: Callable[[], datetime],
        progress: Report,
        work: Work = unseen,
        apart: Apart | None = None,
    ) -> None:
        self.source = source
        self.storage = storage
        self.store = SnapshotStore(storage, work)
        self.catalogs = Catalogs(storage)
        self.clock = clock
        self._progress = progress
        self._work = work
        self._apart = apart

    def check_storage(self) -> None:
        """Raise RequestError for a storage in which processes that meet would lose each other's snapshots."""
        if not self.storage.decides_among_writers():
            raise RequestError(
                f"storage: {self.storage.uri('')} does not refuse to create an object that is there already, so "
                "processes that meet would lose each other's snapshots; keep `storage` in a store that does, or in a "
                "folder"
            )

    def sweep(self) -> None:
        """Remove what writers that died left unfinished in the storage: whatever is kept there can be killed while it
        is written. That it cannot be done is a warning, since what is done is done."""
        try:
            self.storage.sweep()
        except VVExportsError as error:
            _LOG.warning("what was left over in the pipeline's storage stays: %s", error)

    def of_runs(self, runs: Sequence[PromptRun], *, answers: bool = False) -> list[TakenSnapshot]:
        """A snapshot of each run; with ``answers``, as ``with_answers`` gives it. Raises what the first one raises."""
        batch = self._take(runs)
        if answers:
            batch = self.with_answers(batch)
        for error in batch.problems.values():
            raise error
        return list(batch.taken)

    def without_reading(self, run: PromptRun, *, answers: bool = False) -> Snapshot | None:
        """The snapshot that ``of_runs`` would give for a run, None where it would read it first."""
        found = self.store.unchanged(self.source, run)
        return None if found is None or (answers and not found.has_answers) else found

    def of_ids(self, index_id: str, run_ids: Sequence[str]) -> Batch:
        """Snapshots of these runs, as far as they can be had: one that cannot does not stand in the others' way, and
        its problem is noted in the index's catalog.

        Raises what is no fault of a single run: a source that is out of reach, a key that is wrong.
        """
        runs, problems = self._finished(index_id, run_ids)
        batch = self._take(runs, isolated=OF_ONE_RUN)
        problems.update(batch.problems)
        if problems:
            now, before = self.clock(), self.catalogs.read(index_id).problems
            noted = {run_id: problem_of(error, before.get(run_id), now) for run_id, error in problems.items()}
            self.catalogs.record(index_id, (), noted)
        return Batch(batch.taken, problems)

    def look(self, index_id: str, each: Iterable[PromptRun | UnreadableRun]) -> Listed[SeenRun]:
        """The runs of an index as they are seen one by one. Their records are let go: there may be a hundred thousand,
        none of which has changed.

        They are compared with the catalog as this process knows it: the storage is asked where it knows none."""
        catalog, source = self.catalogs.as_read(index_id), self.source
        rows = (self.catalogs.read(index_id) if catalog is None else catalog).runs

        def seen() -> Iterator[SeenRun | UnreadableRun]:
            for run in each:
                if isinstance(run, UnreadableRun):
                    yield run
                    continue
                row, fingerprint, executed_at = rows.get(run.run_id), None, run.executed_at
                if row is not None and run.status in DELIVERABLE:
                    fingerprint = fingerprint_of(source, run)
                    # The catalog's own values: equal ones would be there twice.
                    fingerprint = row.fingerprint if row.fingerprint == fingerprint else fingerprint
                    executed_at = row.executed_at if row.executed_at == executed_at else executed_at
                yield SeenRun(run.run_id, executed_at, run.status, fingerprint)

        return Listed.of(seen())

    def known(
        self, index_id: str, listing: Listed[PromptRun] | Listed[SeenRun], held: Collection[str] = ()
    ) -> KnownRuns:
        """What is known of an index whose runs are listed; of those whose record cannot be read, nothing. The store is
        asked of those of the runs in ``held`` alone that the catalog does not have as they are now, and only where they
        are listed with their records."""
        catalog = self.catalogs.read(index_id)
        rows: dict[str, KnownRun | CatalogedRun] = dict(catalog.runs)
        for run_id in listing.problems:
            rows.pop(run_id, None)
        for run in listing.runs:
            row, version = catalog.runs.get(run.run_id), None
            if row is not None and run.status in DELIVERABLE and self._is_as_cataloged(run, row):
                continue
            if run.deliverable and run.run_id in held and isinstance(run, PromptRun):
                snapshot = self.store.unchanged(self.source, run)
                version = None if snapshot is None else snapshot.data_version
            rows[run.run_id] = KnownRun(run.executed_at, run.status, version)
        there = listing.run_ids
        gone = frozenset(catalog.runs.keys() - there)
        return KnownRuns(rows, gone, catalog.problems)

    def _is_as_cataloged(self, run: PromptRun | SeenRun, row: CatalogedRun) -> bool:
        if isinstance(run, PromptRun):
            return row.fingerprint == fingerprint_of(self.source, run)
        # Without a fingerprint there was no snapshot of it: it was read since it was seen.
        return row.status == run.status if run.fingerprint is None else row.fingerprint == run.fingerprint

    def kept(self, index_id: str) -> KnownRuns:
        """What is known of an index's runs of which there is a snapshot, without asking the source."""
        catalog = self.catalogs.read(index_id)
        return KnownRuns(catalog.runs, catalog.gone.keys(), catalog.problems)

    def read_again(self, snapshot: Snapshot, above: int) -> Snapshot:
        """Read a run anew, and keep it as a revision that is greater than ``above``."""
        run = self.source.prompt_run(snapshot.index_id, snapshot.run_id)
        taken = self.store.take(self.source, run, self.clock(), above)
        fingerprint = self.store.fingerprint(taken)
        if fingerprint is not None:
            self.catalogs.record(snapshot.index_id, [(taken, fingerprint)])
        self._progress(taken.run_id, taken.rows("segments"))
        return taken

    def with_answers(self, batch: Batch) -> Batch:
        """The same, with the answers as they were: snapshots of version 0.1, which did not keep them, are read again.

        One of a run that the source has no more, or whose results are broken there, stays as it is: its documents are
        equal to the answers, but 5 and 5.0 are one number. A run that will be readable later is among the problems.
        Raises what is no fault of a single run.
        """
        without = [one.snapshot for one in batch.taken if not one.snapshot.has_answers]
        if not without:
            return batch
        runs, problems = self._finished(without[0].index_id, [one.run_id for one in without])
        again = self._take(runs, isolated=OF_ONE_RUN, answers=True)
        problems.update(again.problems)
        later = {run_id: error for run_id, error in problems.items() if isinstance(error, SourceChangedError)}
        for run_id, error in problems.items():
            if run_id not in later:
                _LOG.warning("prompt run %s is delivered as it was kept, which may show 5 as 5.0: %s", run_id, error)
        found = {one.snapshot.run_id: one for one in again.taken}
        taken = [found.get(one.snapshot.run_id, one) for one in batch.taken if one.snapshot.run_id not in later]
        return Batch(taken, {**batch.problems, **later})

    def schemas_as_noted(self, index_id: str) -> list[KnownSchema]:
        """The same, and nothing is noted: those of snapshots that version 0.1 took are in them only once ``schemas``
        has noted them."""
        return self.store.schemas.read(index_id)

    def schemas(self, index_id: str) -> list[KnownSchema]:
        """Every schema that prompts of the index had when their runs were read. The first time, each snapshot is opened
        of an index of which version 0.1 took some."""
        schemas = self.store.schemas
        if not schemas.are_complete(index_id):

            def note(run_id: str) -> None:
                snapshot = self.store.current(index_id, run_id)
                if snapshot is not None:  # damaged: it is read again, and noted then
                    schemas.note(index_id, schemas_of(snapshot.prompt))

            with ThreadPoolExecutor(_OPENED_AT_ONCE, thread_name_prefix="schemas") as threads:
                for _ in threads.map(note, self.catalogs.read(index_id).runs):
                    pass
            schemas.note_complete(index_id)
        return schemas.read(index_id)

    def note_unreadable(self, index_id: str, listing: Listed[ListedRun]) -> None:
        """Remember the runs whose record cannot be read among the index's problems, once for each reason."""
        if not listing.problems:
            return
        known = {run_id: problem.message for run_id, problem in self.catalogs.read(index_id).problems.items()}
        found = {run_id: problem_of(error, None, self.clock()) for run_id, error in listing.problems.items()}
        news = {run_id: problem for run_id, problem in found.items() if known.get(run_id) != problem.message}
        if news:
            self.catalogs.record(index_id, (), news)

    def _finished(self, index_id: str, run_ids: Sequence[str]) -> tuple[list[PromptRun], dict[str, Exception]]:
        """Those of the runs that are there and finished, in the order (executed_at, run_id), and why others are not."""
        runs: list[PromptRun] = []
        problems: dict[str, Exception] = {}
        for run_id in run_ids:
            try:
                with faults_of_run(index_id, run_id):
                    run = self.source.prompt_run(index_id, run_id)
                    check_deliverable(run)
                    self._check_not_erased(index_id, run_id)
                runs.append(run)
            except OF_ONE_RUN as error:
                problems[run_id] = error
        return sorted(runs, key=lambda run: (run.executed_at, run.run_id)), problems

    def is_erased(self, index_id: str) -> Callable[[str], bool] | None:
        """Whether a prompt run of an index was erased, as it is known now. None where none was."""
        excluded = self.store.tombstones.excluded(index_id)
        return excluded.has_run if excluded.runs else None

    def _check_not_erased(self, index_id: str, run_id: str) -> None:
        if self.store.tombstones.excluded(index_id).has_run(run_id):
            raise SelectionError(
                f"prompt run {run_id!r} of index {index_id!r} was erased; `vv-exports erase --list` says when and why, "
                "and `vv-exports erase --undo` lets it come back"
            )

    def _take(
        self, runs: Sequence[PromptRun], isolated: tuple[type[Exception], ...] = (), *, answers: bool = False
    ) -> Batch:
        """As many at a time as is best for the source. ``isolated`` errors leave out their run; any other ends the
        batch, after what was taken is in the catalog. With ``answers``, one that has none is taken anew."""
        self.check_storage()
        source = self.source
        taken: list[TakenSnapshot] = []
        problems: dict[str, Exception] = {}
        self._work("reading", 0, sum(run.stated_segments for run in runs))
        with self._taker(runs) as (at_once, taker), ThreadPoolExecutor(at_once, "snapshots") as threads:
            # In this thread where one at a time is best: an interrupt then ends it where it is.
            one_by_one = at_once == 1 or len(runs) == 1
            read = partial(self._one, answers=answers, taker=taker)
            waiting = [partial(read, run) if one_by_one else threads.submit(read, run) for run in runs]
            try:
                for run, one in zip(runs, waiting, strict=True):
                    try:
                        taken.append(one.result() if isinstance(one, Future) else one())
                    except isolated as error:
                        problems[run.run_id] = error
                        continue
                    if taken[-1].fresh:
                        self._progress(run.run_id, taken[-1].snapshot.rows("segments"))
            except BaseException:
                for one in waiting:
                    if isinstance(one, Future):
                        one.cancel()
                # Those that have begun would hold up the error, or the interrupt.
                source.close()
                if taker is not None:
                    taker.stop()
                raise
            finally:
                if taken:
                    self._catalog({run.run_id: run for run in runs}, taken)
        return Batch(taken, problems)

    @contextmanager
    def _taker(self, runs: Sequence[PromptRun]) -> Iterator[tuple[int, Taker | None]]:
        """How many of the runs are best taken at a time, and by whom, if not by this process."""
        if self._apart is not None and runs:
            rows = self.catalogs.read(runs[0].index_id).runs
            news = [run for run in runs if run.run_id not in rows or not self._is_as_cataloged(run, rows[run.run_id])]
            if (count := self._apart.count(news)) > 1:
                with self._apart.taker(count) as taker:
                    yield count, taker
                return
        yield self.source.readings_at_once, None

    def _one(self, run: PromptRun, *, answers: bool, taker: Taker | None) -> TakenSnapshot:
        started = self.clock()
        with faults_of_run(run.index_id, run.run_id):
            self._check_not_erased(run.index_id, run.run_id)
            take = None if taker is None else taker.take
            snapshot = self.store.ensure(self.source, run, started, answers=answers, take=take)
        is_fresh = snapshot.taken_at == started
        if not is_fresh:  # there was nothing to be read
            self._work("reading", 0, -run.stated_segments)
        elif taker is not None:  # nobody was told page by page
            self._work("reading", snapshot.rows("segments"), 0)
        return TakenSnapshot(snapshot, fresh=is_fresh)

    def _catalog(self, runs: Mapping[str, PromptRun], taken: Sequence[TakenSnapshot]) -> None:
        """Note in the index's catalog what it does not say yet."""
        index_id = taken[0].snapshot.index_id
        catalog = self.catalogs.read(index_id)
        news = []
        for one in taken:
            run_id = one.snapshot.run_id
            row = catalog.runs.get(run_id)
            if one.fresh or row is None or row.fingerprint != fingerprint_of(self.source, runs[run_id]):
                fingerprint = self.store.fingerprint(one.snapshot)
                if fingerprint is not None:
                    news.append((one.snapshot, fingerprint))
        if not catalog.runs:
            self.store.schemas.note_complete(index_id)  # of all that the catalog has, as from here on they are noted
        for snapshot, _ in news:  # one that version 0.1 took, and was killed before it was in the catalog
            self.store.schemas.note(index_id, schemas_of(snapshot.prompt))
        if news or any(one.snapshot.run_id in catalog.problems for one in taken):
            self.catalogs.record(index_id, news)
