"""What a backfill of an automation would deliver."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.selection import Only, selected
from vv_exports.automations.standing import Row, Standings, Why
from vv_exports.delivery.plan import plan as delivery_plan
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import ContractBrokenError, SchemaConflictError
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Listing


@dataclass(frozen=True)
class PlannedRun:
    """A prompt run that a backfill would deliver, and why the collection does not hold it as it should. ``rows`` and
    ``bytes`` are those of its snapshot; where there is none that is up to date, rows are the segments that the run
    states, and bytes are None."""

    run_id: str
    status: str
    executed_at: str
    why: Why | None
    rows: int | None
    bytes: int | None


@dataclass(frozen=True)
class Consequence:
    """Prompt runs that are delivered again after a backfill, since it brings columns that their files have not, and
    what that comes to. Runs that were not read yet may bring more."""

    prompt_runs: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would deliver, and what is there already. ``reshape`` is what follows from it. ``changes`` say
    why columns change, or that a run has to wait since files cannot hold its types. ``problems`` says, by run id, why
    a run's record cannot be read: whether it would be delivered is not known."""

    index_id: str
    automation: str
    destination_uri: str
    prompt_runs: Sequence[PlannedRun]
    already_delivered: Sequence[str]
    problems: dict[str, str]
    reshape: Consequence = Consequence()
    changes: Sequence[str] = ()

    @property
    def rows(self) -> int:
        """Rows, as far as they are known."""
        return sum(run.rows or 0 for run in self.prompt_runs)

    @property
    def bytes(self) -> int:
        """Bytes, as far as they are known."""
        return sum(run.bytes or 0 for run in self.prompt_runs)


def plan(  # noqa: PLR0917
    automation: Automation,
    listing: Listing,
    owed: Standings,
    named: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    only: Only | None = None,
) -> BackfillPlan:
    """What the backfill comes to. Writes nothing."""
    chosen = selected(owed, named, since, until, only, history=True)
    runs = {run.run_id: run for run in listing.runs}
    snapshots = {run_id: _snapshot(automation, runs.get(run_id), run_id) for run_id in chosen.todo}
    reshape, changes = _consequence(automation, chosen.todo, [one for one in snapshots.values() if one is not None])
    return BackfillPlan(
        index_id=automation.index_id,
        automation=automation.name,
        destination_uri=automation.destination.uri,
        prompt_runs=[
            _planned(run_id, owed.rows[run_id], runs.get(run_id), snapshots[run_id], owed.by_run[run_id].why)
            for run_id in chosen.todo
        ],
        already_delivered=chosen.there,
        problems={} if named is not None else {run_id: str(error) for run_id, error in listing.problems.items()},
        reshape=reshape,
        changes=changes,
    )


def _snapshot(automation: Automation, run: PromptRun | None, run_id: str) -> Snapshot | None:
    """The snapshot of a run as it is now; of one that the source has no more, that which was kept."""
    snapshots = automation.snapshots
    if run is None:
        return snapshots.store.current(automation.index_id, run_id)
    return snapshots.store.unchanged(snapshots.source, run)


def _consequence(
    automation: Automation, todo: Collection[str], snapshots: Sequence[Snapshot]
) -> tuple[Consequence, list[str]]:
    """What follows from delivering snapshots for the files of other runs, and which columns change."""
    state, content = automation.collection(), automation.content
    ahead, waiting = state.copy(), list[str]()
    try:
        tables = delivery_plan(state, content, snapshots).tables
        ahead.shape(tables)
    except (SchemaConflictError, ContractBrokenError):
        tables = []
        for snapshot in snapshots:  # as they are delivered then: one by one
            try:
                tables += (planned := delivery_plan(ahead, content, [snapshot]).tables)
                ahead.shape(planned)
            except (SchemaConflictError, ContractBrokenError) as error:
                waiting.append(str(error))
    up_to_date, will_be = content.up_to_date(state), content.up_to_date(ahead)
    outgrown = [
        one for run_id, one in state.runs.items() if run_id not in todo and up_to_date(one) and not will_be(one)
    ]
    files = [file for one in outgrown for file in one.files]
    changes = [f"{table.folder}/{table.prompt_id}: {table.change}" for table in tables if table.change is not None]
    consequence = Consequence(tuple(one.run.run_id for one in outgrown), len(files), sum(file.bytes for file in files))
    return consequence, [*waiting, *changes]


def _planned(run_id: str, row: Row, run: PromptRun | None, snapshot: Snapshot | None, why: Why | None) -> PlannedRun:
    files = [part for parts in snapshot.tables.values() for part in parts] if snapshot is not None else []
    return PlannedRun(
        run_id=run_id,
        status=str(row.status),
        executed_at=row.executed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        why=why,
        rows=sum(part.rows for part in files)
        if snapshot is not None
        else None
        if run is None
        else run.count("total_segments"),
        bytes=sum(part.bytes for part in files) if snapshot is not None else None,
    )
