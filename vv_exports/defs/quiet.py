"""What spares a sensor's tick for which nothing has happened: no store is asked, no log is read, no database opened.

A sensor remembers in its process what a whole look found, as long as there was nothing to do. Its next ticks say the
same until something happens that it would have to look at: a Dagster run of its index began or ended, whoever
launched it; the catalog was found changed; its switch was turned on; or a while has passed, since not all is told:
what commands do that launch no run, or in another instance, and what somebody does at a destination. Nothing is
remembered beyond the process: where it is lost, a sensor looks.

Dagster's database is asked once for all sensors of a code server: which runs have changed. Dagster opens the instance
of a tick only where it is asked for, and on PostgreSQL that alone is a dozen connections.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import ClassVar

import dagster as dg

from vv_exports.defs.lost_runs import close_lost
from vv_exports.domain.names import dagster_key
from vv_exports.pipeline import Pipeline
from vv_exports.snapshots.catalog import IndexCatalog

LOOK_ANEW = timedelta(minutes=10)
_OVERLAP = timedelta(minutes=2)
"""Clocks of machines differ, and what is written last need not be seen last."""


class Changes:
    """How often something has changed in a Dagster instance for each index, as far as this process has seen."""

    ask_again_seconds: ClassVar[float] = 10.0

    def __init__(self, index_ids: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = {dagster_key(index_id): index_id for index_id in index_ids}
        self._counts = dict.fromkeys(index_ids, 0)
        self._clock = clock
        self._lock = Lock()
        self._asked_at: float | None = None
        self._newest: datetime | None = None
        self._seen: dict[str, tuple[dg.DagsterRunStatus, datetime]] = {}

    def count(self, index_id: str, opened: Callable[[], dg.DagsterInstance], now: datetime) -> int:
        """The changes of an index until now. Asks the instance, which ``opened`` gives, where that is long ago; and
        then closes runs that have lost their process, which is a change of theirs."""
        with self._lock:
            if self._asked_at is None or self._clock() - self._asked_at >= self.ask_again_seconds:
                instance = opened()
                close_lost(instance, now, self._counts)
                self._ask(instance, now)
                self._asked_at = self._clock()
            return self._counts[index_id]

    def _ask(self, instance: dg.DagsterInstance, now: datetime) -> None:
        # By what the database says itself, and never by a time that is yet to come: a clock that was ahead has written
        # that, or a database of local times, which has those of new runs alone. What came after would not be seen.
        since = None if self._newest is None else dg.RunsFilter(updated_after=min(self._newest, now) - _OVERLAP)
        most = 1 if self._asked_at is None else None  # of what was before, the newest alone says when that is
        records = instance.get_run_records(since, limit=most, order_by="update_timestamp", ascending=False)
        found = {one.dagster_run.run_id: (one.dagster_run.status, one.update_timestamp) for one in records}
        for record in records:
            run = record.dagster_run
            if self._seen.get(run.run_id) != found[run.run_id]:
                for index_id in self._concerned(run):
                    self._counts[index_id] += 1
        if records:
            self._newest = max(at for _, at in found.values())
        self._seen = found

    def _concerned(self, run: dg.DagsterRun) -> Collection[str]:
        if run.asset_selection is None:
            return self._counts  # whatever it is, it may be all
        return {index_id for key in run.asset_selection if (index_id := self._keys.get(key.path[0])) is not None}


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known when a sensor begins to look. ``catalog`` is the index's as this process knows it."""

    index_id: str
    now: datetime
    changes: int
    catalog: IndexCatalog | None
    switched_on: float | None

    def is_as(self, other: "Moment") -> bool:
        """Whether nothing happened in between."""
        return self.changes == other.changes and self.catalog is other.catalog and self.switched_on == other.switched_on


@dataclass(frozen=True)
class _Found:
    moment: Moment
    said: str
    listed: bytes
    until: datetime


class Quiet:
    """What the sensors of one code server have found last."""

    def __init__(self, pipeline: Pipeline, index_ids: Collection[str]) -> None:
        self._pipeline = pipeline
        self._changes = Changes(index_ids)
        self._found: dict[str, _Found] = {}

    def moment(self, context: dg.SensorEvaluationContext, index_id: str) -> Moment:
        """Now, for a sensor of an index that begins to look."""
        now = self._pipeline.clock()
        changes = self._changes.count(index_id, lambda: context.instance, now)
        catalog = self._pipeline.snapshots.catalogs.as_read(index_id)
        return Moment(index_id, now, changes, catalog, context.last_sensor_start_time)

    def said(self, sensor: str, moment: Moment, listed: bytes = b"") -> str | None:
        """What the sensor found last, where nothing has happened since; None where it has to look. ``listed`` tells
        what the source lists from anything else that it may list."""
        found = self._found.get(sensor)
        if found is None or listed != found.listed or not moment.is_as(found.moment):
            return None
        if not found.moment.now <= moment.now < found.until:
            return None
        return f"Nothing has happened since {found.moment.now:%H:%M:%S} UTC, when it was: {found.said}"

    def remember(
        self, sensor: str, moment: Moment, said: str, *, listed: bytes = b"", within: timedelta = LOOK_ANEW
    ) -> None:
        """The sensor looked, beginning at this moment, and there is nothing to do: for so long, at most."""
        # A catalog that this look was the first to read is what it has looked at. One that changed meanwhile is not.
        catalog = self._pipeline.snapshots.catalogs.as_read(moment.index_id)
        if moment.catalog is None or moment.catalog is catalog:
            looked = replace(moment, catalog=catalog)
            self._found[sensor] = _Found(looked, said, listed, moment.now + min(within, LOOK_ANEW))

    def knows(self, sensor: str) -> bool:
        """Whether the sensor remembers anything."""
        return sensor in self._found

    def forget(self, sensor: str) -> None:
        """There is something to do, or to wait for."""
        self._found.pop(sensor, None)
