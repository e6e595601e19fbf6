"""What an automation has to deliver: what there is, beside what its collection's log says is there. Pure.

There is no cursor and no queue to lose. A run is due as long as the log does not hold its current content, whoever
looks, however often, and whatever became of Dagster's database.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vv_exports.automations.records import Beginning
from vv_exports.delivery.content import Content
from vv_exports.delivery.state import LogState
from vv_exports.domain.failures import Problem
from vv_exports.domain.selection import takes


class Rules(Protocol):
    """What the configuration says of an automation."""

    @property
    def format(self) -> str:
        """The files' format."""

    @property
    def on_status(self) -> Collection[str]:
        """The statuses that are delivered."""

    @property
    def partial(self) -> str:
        """``deliver`` or ``hold``: what to do with completed_with_failures."""


class Row(Protocol):
    """What is known of a run's current snapshot."""

    @property
    def executed_at(self) -> datetime:
        """When the run was executed."""

    @property
    def status(self) -> str:
        """The run's status."""

    @property
    def data_version(self) -> str:
        """The hash of its content."""


@dataclass(frozen=True)
class Backlog:
    """Run ids, each list in the order (executed_at, run_id).

    ``due`` are to be delivered now, ``held`` wait until they are complete or released, ``failing`` were tried and wait
    for their next attempt, ``gone`` vanished from the source before they were delivered.
    """

    due: tuple[str, ...]
    held: tuple[str, ...]
    failing: tuple[str, ...]
    gone: tuple[str, ...]


def history_of(beginning: Beginning, began_at: datetime | None, executed_at: Mapping[str, datetime]) -> frozenset[str]:
    """The runs that an automation leaves alone, of those in ``executed_at``. Where its collection's log says that it
    began earlier than its record does, that was lost and made anew: what was executed in between is no history."""
    if began_at is None or began_at >= beginning.began_at:
        return beginning.history
    return frozenset(
        run_id for run_id in beginning.history if run_id not in executed_at or executed_at[run_id] < began_at
    )


def in_scope(run_ids: Collection[str], state: LogState, history: Collection[str]) -> Iterator[str]:
    """The runs that an automation follows: those that are not from before it, and those that it holds already."""
    return (run_id for run_id in run_ids if run_id not in history or run_id in state.runs)


def backlog(
    rows: Mapping[str, Row],
    state: LogState,
    rules: Rules,
    *,
    history: Collection[str],
    problems: Mapping[str, Problem],
    gone: Collection[str],
    now: datetime,
) -> Backlog:
    """What an automation has to do about the snapshots that there are."""
    content = Content(rules.format)
    due: list[str] = []
    held: list[str] = []
    failing: list[str] = []
    lost: list[str] = []
    for run_id in in_scope(rows.keys(), state, history):
        row, delivered = rows[run_id], run_id in state.runs
        if content.holds(state, run_id, row.data_version, row.status):
            continue
        if run_id in gone:
            if not delivered:
                lost.append(run_id)
        elif takes(row.status, on_status=rules.on_status, partial=rules.partial, delivered=delivered):
            problem = problems.get(run_id)
            (failing if problem is not None and now < problem.again_at else due).append(run_id)
        elif row.status in rules.on_status:
            held.append(run_id)

    def ordered(run_ids: list[str]) -> tuple[str, ...]:
        return tuple(sorted(run_ids, key=lambda run_id: (rows[run_id].executed_at, run_id)))

    return Backlog(ordered(due), ordered(held), ordered(failing), ordered(lost))
