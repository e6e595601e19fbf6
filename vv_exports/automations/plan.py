"""What a delivery of an automation would come to, before anything is written: the same decisions, rehearsed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.deliver import commit_batch
from vv_exports.automations.records import Beginning
from vv_exports.automations.selection import Selection, in_stretches, selected
from vv_exports.automations.standing import Standings
from vv_exports.content.known_fields import check_fields
from vv_exports.delivery.deliver import DeliveredPromptRun, Delivery
from vv_exports.delivery.planned import (
    Consequence,
    DeliveryPlan,
    PlannedConflict,
    PlannedRun,
    Removed,
    changes_of,
    conflict_of,
    foreign_files,
    planned_run,
    planned_tables,
    stated_rows,
)
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.delivery.survey import survey
from vv_exports.errors import ContractBrokenError, DestinationError, SchemaConflictError, SelectionError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.snapshots.schemas import schemas_of
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Effort, Listing

_WAITING = SchemaConflictError | ContractBrokenError


@dataclass(frozen=True, kw_only=True)
class AutomationPlan(DeliveryPlan):
    """What an automation would deliver when it is asked now, and what is there already. ``history`` is left alone,
    since nobody asked for it. ``problems`` says, by run id, why a run's record cannot be read: whether it would be
    delivered is not known. ``erased`` are prompt runs that would be taken out since they are deleted upstream, and
    ``erased_files`` theirs; ``not_erased`` says why others that the source has no more would not."""

    automation: str
    history: Sequence[str] = ()
    problems: dict[str, str] = field(default_factory=dict)
    erased: Sequence[str] = ()
    erased_files: Sequence[str] = ()
    not_erased: Sequence[str] = ()

    @property
    def is_stopped(self) -> bool:
        """See ``DeliveryPlan.is_stopped``."""
        return bool(self.problems) or super().is_stopped

    @property
    def headline(self) -> str:
        """It in one line."""
        there = len(self.already_delivered)
        return (
            f"would deliver {self.extent} to {self.destination_uri}; {there:,} {'is' if there == 1 else 'are'} there "
            "already"
        )


def plan_of(
    automation: Automation,
    listing: Listing,
    now: Callable[[], datetime],
    named: Sequence[str] | None = None,
    choose: Callable[[Standings], Selection] | None = None,
    *,
    look: bool = True,
    problems: Mapping[str, Exception] | None = None,
    conflicts: Sequence[PlannedConflict] = (),
) -> AutomationPlan:
    """What delivering the runs ``named`` comes to, or all that is due; or what ``choose`` makes of the standings. With
    ``look`` the destination is looked at for files that are missing or left over, as a run of the automation does."""
    damaged: Collection[str] = ()
    unfinished: Collection[str] = ()
    state = automation.collection()
    if look:
        there = survey(automation.destination, state, now=now())
        damaged, unfinished = there.runs_damaged, there.runs_unfinished(state.runs)
    known = automation.snapshots.known(automation.index_id, listing, state.runs)
    owed = automation.standings(
        known,
        beginning=Beginning.of(automation.config, listing.runs, now()),
        damaged=damaged,
        unfinished=unfinished,
        named=named or (),
    )
    chosen = selected(owed, named, history=named is not None) if choose is None else choose(owed)
    return plan(automation, listing, owed, chosen, now, problems=problems, conflicts=conflicts)


def plan(
    automation: Automation,
    listing: Listing,
    owed: Standings,
    chosen: Selection,
    now: Callable[[], datetime],
    *,
    problems: Mapping[str, Exception] | None = None,
    conflicts: Sequence[PlannedConflict] = (),
    damaged: frozenset[str] = frozenset(),
) -> AutomationPlan:
    """What delivering what is chosen comes to, and what follows from it. Writes nothing. ``problems`` are of the runs
    whose record cannot be read, ``conflicts`` what is known to be in the way already. Files in ``damaged`` would be
    written again."""
    rehearsed = _Rehearsed(automation, listing, now, damaged)
    rehearsed.conflicts += conflicts
    rehearsed.deliver(chosen.todo, owed)
    first = dict(rehearsed.delivered)
    tables = planned_tables(rehearsed.deliveries)
    count = len(rehearsed.deliveries)
    outgrown = rehearsed.outgrown()
    rehearsed.deliver(outgrown, owed)
    again = [run for one in rehearsed.deliveries[count:] for run in one.prompt_runs if run.written]
    rehearsal = rehearsed.rehearsal
    return AutomationPlan(
        index_id=automation.index_id,
        automation=automation.name,
        destination_uri=automation.destination.uri,
        format=automation.content.options.format.name,
        prompt_runs=[rehearsed.planned(run_id, owed, first.get(run_id)) for run_id in chosen.todo],
        tables=tables,
        already_delivered=chosen.there,
        history=chosen.history,
        problems={run_id: str(error) for run_id, error in (problems or {}).items()},
        reshape=Consequence(
            prompt_runs=tuple(run.run_id for run in again),
            rows=sum(run.rows() for run in again),
            files=sum(len(run.files) for run in again),
            bytes=sum(run.bytes for run in again),
            bytes_exact=rehearsal is None
            or rehearsal.estimated.isdisjoint(file.path for run in again for file in run.files),
        ),
        removed=Removed() if rehearsal is None else Removed(len(rehearsal.replaced), sum(rehearsal.replaced.values())),
        changes=[*rehearsed.waiting, *changes_of(tables)],
        conflicts=[
            *rehearsed.conflicts,
            *([] if rehearsal is None else foreign_files(rehearsal, automation.destination.uri_of)),
        ],
    )


class _Rehearsed:
    """The deliveries of an automation, in the batches that Dagster runs would make of them."""

    def __init__(
        self, automation: Automation, listing: Listing, now: Callable[[], datetime], damaged: frozenset[str]
    ) -> None:
        self._damaged = damaged
        self.deliveries: list[Delivery] = []
        self.conflicts: list[PlannedConflict] = []
        self.waiting: list[str] = []
        self._automation = automation
        self._listing = listing
        self._runs = {run.run_id: run for run in listing.runs}
        self._snapshots: dict[str, Snapshot | None] = {}
        self._now = now
        self.rehearsal: Rehearsal | None = None
        try:
            automation.check_enabled()
        except SelectionError as error:
            self.conflicts.append(PlannedConflict("disabled", "everything", str(error)))
        try:
            state = automation.collection()
            self.rehearsal = Rehearsal.at(automation.destination, automation.snapshots.store, now, state)
        except DestinationError as error:
            self.conflicts.append(PlannedConflict("destination", "everything", str(error)))
        except VVExportsError as error:
            self.conflicts.append(conflict_of(error))

    @property
    def delivered(self) -> Mapping[str, DeliveredPromptRun]:
        """What the deliveries have made of each run."""
        return {run.run_id: run for one in self.deliveries for run in one.prompt_runs}

    def deliver(self, run_ids: Sequence[str], owed: Standings) -> None:
        """Deliver, as far as there are snapshots. What stops all of it is one of the conflicts."""
        automation, rehearsal = self._automation, self.rehearsal
        for run_id in run_ids:
            self._snapshots[run_id] = self._snapshot(run_id)
        if rehearsal is None or not self._fields_are_known(run_ids):
            return
        for batch in in_stretches(self._order(owed), set(run_ids), automation.config.max_runs_per_delivery):
            snapshots = [one for run_id in batch if (one := self._snapshots[run_id]) is not None]
            try:
                outcome = commit_batch(automation, rehearsal.state, snapshots, rehearsal.deliver, damaged=self._damaged)
            except VVExportsError as error:
                self.conflicts.append(conflict_of(error))
                return
            self.deliveries += outcome.deliveries
            self.conflicts += [conflict_of(error, run_id) for run_id, error in outcome.problems.items()]
            self.waiting += [str(one) for one in outcome.problems.values() if isinstance(one, _WAITING)]

    def outgrown(self) -> tuple[str, ...]:
        """The runs that are due for their shape alone after the deliveries."""
        automation, rehearsal = self._automation, self.rehearsal
        if rehearsal is None or not self.deliveries:
            return ()
        known = automation.snapshots.known(automation.index_id, self._listing, rehearsal.state.runs)
        return automation.standings(known, state=rehearsal.state).to_reshape()

    def planned(self, run_id: str, owed: Standings, delivered: DeliveredPromptRun | None) -> PlannedRun:
        """One of the runs that would be delivered."""
        row, run, snapshot = owed.rows[run_id], self._runs.get(run_id), self._snapshots.get(run_id)
        tables = self._automation.content.options.tables
        if snapshot is not None:
            stated: int | None = sum(snapshot.rows(table) for table in tables)
        else:
            stated = None if run is None else stated_rows(run, tables)
        effort = Effort() if run is None else self._automation.snapshots.source.effort(run)
        return planned_run(
            run_id,
            str(row.status),
            row.executed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            owed.by_run[run_id].why,
            delivered,
            self.rehearsal,
            total_segments=None if run is None else run.count("total_segments"),
            stated=stated,
            effort=effort if snapshot is None else None,
        )

    def _snapshot(self, run_id: str) -> Snapshot | None:
        """The snapshot that would be delivered: of a run as it is now; of one that the source has no more, that which
        was kept. None where it has to be read first."""
        snapshots, run = self._automation.snapshots, self._runs.get(run_id)
        if run is None:
            return snapshots.store.current(self._automation.index_id, run_id)
        return snapshots.without_reading(run, answers=not self._automation.content.options.format.has_columns)

    def _order(self, owed: Standings) -> list[str]:
        """The runs in the order in which they have partitions, as far as that is known without asking Dagster."""
        gone = [run_id for run_id in owed.rows if run_id not in self._runs]
        return [*gone, *(run.run_id for run in self._listing.runs if run.deliverable)]

    def _fields_are_known(self, run_ids: Sequence[str]) -> bool:
        automation, snapshots = self._automation, [self._snapshots[run_id] for run_id in run_ids]
        own = [schema for one in snapshots if one is not None for schema in schemas_of(one.prompt)]
        try:
            check_fields(
                automation.content.options,
                automation.index_id,
                own,
                lambda: automation.snapshots.schemas_as_noted(automation.index_id),
            )
        except SelectionError as error:
            if None in snapshots:
                unread = one_line(next(run_id for run_id in run_ids if self._snapshots[run_id] is None))
                more = f" Prompt run {unread} was not read yet, and may have them."
                self.conflicts.append(PlannedConflict("content", "nothing", f"{error}{more}"))
                return True
            self.conflicts.append(PlannedConflict("content", "everything", str(error)))
            return False
        return True
