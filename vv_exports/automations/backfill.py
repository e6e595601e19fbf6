"""What a backfill of an automation would deliver."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.selection import Only, selected
from vv_exports.automations.standing import Standings, Why
from vv_exports.domain.prompt_runs import PromptRun
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
class BackfillPlan:
    """What a backfill would deliver, and what is there already. ``problems`` says, by run id, why a run's record cannot
    be read: whether it would be delivered is not known."""

    index_id: str
    automation: str
    destination_uri: str
    prompt_runs: Sequence[PlannedRun]
    already_delivered: Sequence[str]
    problems: dict[str, str]

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
    return BackfillPlan(
        index_id=automation.index_id,
        automation=automation.name,
        destination_uri=automation.destination.uri,
        prompt_runs=[_planned(automation, runs[run_id], owed.by_run[run_id].why) for run_id in chosen.todo],
        already_delivered=chosen.there,
        problems={} if named is not None else {run_id: str(error) for run_id, error in listing.problems.items()},
    )


def _planned(automation: Automation, run: PromptRun, why: Why | None) -> PlannedRun:
    snapshot = automation.snapshots.store.unchanged(automation.snapshots.source, run)
    files = [part for parts in snapshot.tables.values() for part in parts] if snapshot is not None else []
    return PlannedRun(
        run_id=run.run_id,
        status=str(run.status),
        executed_at=run.executed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        why=why,
        rows=sum(part.rows for part in files) if snapshot is not None else run.count("total_segments"),
        bytes=sum(part.bytes for part in files) if snapshot is not None else None,
    )
