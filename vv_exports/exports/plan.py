"""What an export on demand would come to, before anything is written: the same decisions, rehearsed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vv_exports.content.known_fields import check_fields
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import Delivery
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.planned import (
    DeliveryPlan,
    PlannedConflict,
    PlannedRun,
    changes_of,
    conflict_of,
    foreign_files,
    planned_run,
    planned_tables,
    stated_rows,
)
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.delivery.state import LogState
from vv_exports.domain.exports import ExportRequest, export_id_of
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import DestinationError, SelectionError, VVExportsError
from vv_exports.exports.make import ExportJob, delivery_of, place_of
from vv_exports.exports.on_demand import Exports
from vv_exports.snapshots.schemas import schemas_of
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Snapshots

_NO_ID_YET = "exp_planned"
"""Stands for the id that an export gets when it is made."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan(DeliveryPlan):
    """What an export would hold. ``destination`` is the folder in which it gets one of its own, or a download.
    ``earlier`` is the export that its idempotency key stands for, where that is complete and nothing would be made."""

    export_type: str
    target_id: str
    destination: str
    content: Mapping[str, Any] = field(default_factory=dict)
    bag: bool = False
    dataset_card: bool = False
    earlier: str | None = None

    @property
    def bytes_exact(self) -> bool:
        """See ``DeliveryPlan.bytes_exact``. Those of a download are a zip file's, which are not known before."""
        return self.destination != DOWNLOAD and super().bytes_exact

    @property
    def headline(self) -> str:
        """It in one line."""
        if self.earlier is not None:
            return f"would give export {self.earlier}, which this idempotency key stands for; nothing would be made"
        return f"would export {self.extent} as {self.format} to {self.destination}:"


DOWNLOAD = "a download"


def plan(
    exports: Exports, snapshots: Snapshots, request: ExportRequest, idempotency_key: str | None = None
) -> ExportPlan:
    """What a request would come to. Writes nothing, and reads no prompt run.

    Raises RequestError for what the export would refuse.
    """
    found = _Rehearsed(exports, snapshots, request)
    if idempotency_key is not None:
        record = exports.completed_earlier(idempotency_key, request)
        if record is not None:
            return found.plan([], earlier=record.export_id, there=record.prompt_run_ids or ())
    runs = exports.check(request)
    first = exports.first_launch(idempotency_key, request) if idempotency_key is not None else None
    found.deliver(runs, None if first is None else export_id_of(first.run_id))
    return found.plan(runs)


class _Rehearsed:
    """One export, made of the snapshots that there are."""

    def __init__(self, exports: Exports, snapshots: Snapshots, request: ExportRequest) -> None:
        self._exports = exports
        self._snapshots = snapshots
        self._request = request
        self._content: Content = exports.content_of(request)
        self._read: dict[str, Snapshot] = {}
        self._rehearsal: Rehearsal | None = None
        self._delivery: Delivery | None = None
        self._conflicts: list[PlannedConflict] = []
        self._destination: Destination | None = None
        if request.destination_connector_id is not None:
            connector, parent = exports.place_of(request)
            self._destination = Destination(connector, parent)

    def deliver(self, runs: Sequence[PromptRun], export_id: str | None) -> None:
        """Make it, as far as there are snapshots. ``export_id`` is that of an earlier try, which may have left files
        in its folder."""
        needs_answers = not self._request.content.format.has_columns
        found = {run.run_id: self._snapshots.without_reading(run, answers=needs_answers) for run in runs}
        self._read = {run_id: snapshot for run_id, snapshot in found.items() if snapshot is not None}
        if not self._fields_are_known(complete=len(self._read) == len(runs)):
            return
        job = ExportJob(export_id or _NO_ID_YET, self._request, list(self._read.values()))
        store, clock, parent = self._snapshots.store, self._exports.clock, self._destination
        place = parent if parent is not None else Destination(self._snapshots.storage, "")
        subpath = place_of(self._request, place.subpath, job.export_id)
        owner = Owner(type="export", index_id=self._request.index_id, export_id=job.export_id)
        try:
            self._rehearsal = (
                Rehearsal(store, clock, LogState(), {})
                if parent is None or export_id is None
                else Rehearsal.at(Destination(parent.connector, subpath, owner), store, clock)
            )
            if job.snapshots:
                request = delivery_of(job, self._content, place.connector, subpath, None)
                self._delivery = self._rehearsal.deliver(request)
        except DestinationError as error:
            self._conflicts.append(PlannedConflict("destination", "everything", str(error)))
        except VVExportsError as error:
            self._conflicts.append(conflict_of(error))

    def plan(self, runs: Sequence[PromptRun], *, earlier: str | None = None, there: Sequence[str] = ()) -> ExportPlan:
        """What was found."""
        request, rehearsal = self._request, self._rehearsal
        where = DOWNLOAD if self._destination is None else self._destination.uri
        tables = planned_tables([] if self._delivery is None else [self._delivery])
        foreign = [] if rehearsal is None else foreign_files(rehearsal, lambda path: path)
        return ExportPlan(
            index_id=request.index_id,
            export_type=request.export_type,
            target_id=request.target_id,
            destination=where,
            destination_uri=where,
            format=request.format,
            content=request.content.chosen,
            bag=request.bag,
            dataset_card=request.dataset_card,
            prompt_runs=[self._planned(run) for run in runs],
            tables=tables,
            already_delivered=there,
            changes=changes_of(tables),
            conflicts=[*self._conflicts, *foreign],
            earlier=earlier,
        )

    def _planned(self, run: PromptRun) -> PlannedRun:
        delivered = {} if self._delivery is None else {one.run_id: one for one in self._delivery.prompt_runs}
        snapshot, tables = self._read.get(run.run_id), self._request.content.tables
        return planned_run(
            run.run_id,
            str(run.status),
            run.executed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            None,
            delivered.get(run.run_id),
            self._rehearsal,
            total_segments=run.count("total_segments"),
            stated=stated_rows(run, tables) if snapshot is None else sum(snapshot.rows(table) for table in tables),
            effort=self._snapshots.source.effort(run) if snapshot is None else None,
        )

    def _fields_are_known(self, *, complete: bool) -> bool:
        own = [schema for one in self._read.values() for schema in schemas_of(one.prompt)]
        index_id = self._request.index_id
        try:
            check_fields(self._request.content, index_id, own, lambda: self._snapshots.schemas_as_noted(index_id))
        except SelectionError as error:
            told = str(error) if complete else f"{error} Prompt runs that were not read yet may have them."
            self._conflicts.append(PlannedConflict("content", "everything" if complete else "nothing", told))
            return not complete
        return True
