"""What an automation owes: the standing of each prompt run of its index. Pure, and the one place that decides it.

There is no cursor and no queue to lose. A run is due as long as the log does not hold its current content, whoever
looks, however often, and whatever became of Dagster's database.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import Literal, Protocol

from vv_exports.automations.records import Beginning
from vv_exports.delivery.content import Content
from vv_exports.delivery.state import Replay
from vv_exports.domain.failures import Problem
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.domain.selection import takes
from vv_exports.errors import NotFoundError

State = Literal["delivered", "due", "failing", "held", "history", "gone"]
"""``delivered``: the collection holds it, and nothing is to be done about it. ``due``: it is to be delivered now.
``failing``: it is due, was tried, and is tried again at ``until``. ``held``: it waits until it is complete, or until
somebody names it; or until the configuration says what to do with its conflict. ``history``: it was finished before
the automation began; a backfill delivers it. ``gone``: it vanished from the source before it was delivered."""

Why = Literal["missing", "changed", "reshape", "damaged", "unfinished", "conflict", "contract"]
"""Why the collection does not hold a run as it should: it was never delivered; it has other content or another status
by now; its files have other columns than those of its prompt have by now, another format or layout, or other fields
than are chosen; files are missing or not what was delivered; a delivery that died left files beside it; its prompt has
types that the files of the prompt cannot hold, or rows break the prompt's schema, and such runs are to wait."""


class Row(Protocol):
    """What is known of a run. ``data_version`` is that of its snapshot; None where there is none, or it is out of date:
    the run has to be read before anybody knows."""

    @property
    def executed_at(self) -> datetime: ...
    @property
    def status(self) -> str: ...
    @property
    def data_version(self) -> str | None: ...


class Rules(Protocol):
    """What the configuration says of an automation. ``partial`` is ``deliver`` or ``hold``: what to do with runs that
    are completed_with_failures. ``on_schema_conflict``: what to do with those that have types that files cannot
    hold. ``contract``: what to do with rows that break their prompt's schema."""

    @property
    def on_status(self) -> Collection[str]: ...
    @property
    def partial(self) -> str: ...
    @property
    def on_schema_conflict(self) -> str: ...
    @property
    def contract(self) -> str: ...


@dataclass(frozen=True)
class Standing:
    """Of one run. ``why`` is None for what is delivered as it is now; of what stays as it was delivered, it says what
    is different by now. ``until`` is set for what is failing."""

    state: State
    why: Why | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Standings:
    """Of the runs of an index, and of those that the collection holds. A run that the automation has nothing to do with
    is not among them: it is not finished, or of a status that is not asked for. Lists are of runs in ``rows``, in the
    order (executed_at, run id); those that are due come before those that are so for their shape alone."""

    by_run: Mapping[str, Standing]
    rows: Mapping[str, Row]

    def of(self, *states: State) -> tuple[str, ...]:
        """The runs in any of these states."""
        return self._ordered(run_id for run_id, one in self.by_run.items() if one.state in states)

    def due(self, now: datetime) -> tuple[str, ...]:
        """The runs to deliver at this moment: those that are due, and those that failed and whose time has come."""
        return self._ordered(run_id for run_id, one in self.by_run.items() if _is_due(one, now))

    def waiting(self, now: datetime) -> tuple[str, ...]:
        """The runs that failed and whose time has not come."""
        return self._ordered(
            run_id for run_id, one in self.by_run.items() if one.state == "failing" and not _is_due(one, now)
        )

    def to_reshape(self) -> tuple[str, ...]:
        """The runs that are due for their shape alone."""
        return self._ordered(
            run_id for run_id, one in self.by_run.items() if (one.state, one.why) == ("due", "reshape")
        )

    def batches(self, run_ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
        """Runs in their order, for a delivery each: what is delivered for its shape alone has entries of its own, so
        that nothing new waits for it."""
        groups = [tuple(group) for _, group in groupby(run_ids, lambda run_id: self.by_run[run_id].why == "reshape")]
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    def whys(self, *states: State) -> dict[str, int]:
        """How many runs in any of these states there are for each reason."""
        return dict(Counter(one.why for one in self.by_run.values() if one.state in states and one.why is not None))

    def _ordered(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        known = [
            (self.by_run[run_id].why == "reshape", row.executed_at, run_id)
            for run_id in run_ids
            if (row := self.rows.get(run_id)) is not None
        ]
        return tuple(run_id for *_, run_id in sorted(known))


def _is_due(one: Standing, now: datetime) -> bool:
    return one.state == "due" or (one.state == "failing" and one.until is not None and one.until <= now)


@cache
def _standing(state: State, why: Why | None = None) -> Standing:
    """One object for all runs of a standing: an index can have a hundred thousand."""
    return Standing(state, why)


_DELIVERED = _standing("delivered")


def standings(
    rows: Mapping[str, Row],
    state: Replay,
    rules: Rules,
    content: Content,
    *,
    beginning: Beginning | None,
    began_at: datetime | None = None,
    problems: Mapping[str, Problem],
    conflicts: Mapping[str, str] | None = None,
    broken: Mapping[str, str] | None = None,
    gone: Collection[str] = (),
    damaged: Collection[str] = (),
    unfinished: Collection[str] = (),
    named: Collection[str] = (),
) -> Standings:
    """The standing of every run that is in ``rows`` or in the collection, whose log ``state`` replays.

    An automation without a ``beginning`` owes nothing but what it holds already. ``began_at`` is what the log says of
    its beginning. ``problems`` are failed readings and deliveries; ``conflicts`` are the data versions of runs that
    were not delivered since files cannot hold their types, ``broken`` those of runs whose rows break their contract;
    ``gone`` are runs that the source has no more; ``damaged`` and ``unfinished`` is what a survey of the destination
    found, where one was made. Runs in ``named`` were asked for: neither history nor their status keeps them back."""
    decide = _Decision(
        rules,
        beginning,
        history_of(beginning, began_at, rows),
        gone=gone,
        named=named,
        problems=problems,
        conflicts=(conflicts or {}) if rules.on_schema_conflict == "hold" else {},
        broken=(broken or {}) if rules.contract == "block" else {},
    )
    is_up_to_date = content.up_to_date(state)
    found: dict[str, Standing] = {run_id: _DELIVERED for run_id in state.runs if run_id not in rows}
    for run_id, row in rows.items():
        held = state.runs.get(run_id)
        if held is None:
            why: Why | None = "missing"
        elif held.holds(row.data_version, row.status):
            why = None if is_up_to_date(held) else "reshape"
        else:
            why = "changed"
        if why is None and run_id in damaged:
            why = "damaged"
        elif why is None and run_id in unfinished:
            why = "unfinished"
        standing = _DELIVERED if why is None else decide.of(run_id, row, why, is_held=held is not None)
        if standing is not None:
            found[run_id] = standing
    return Standings(found, rows)


@dataclass(frozen=True)
class _Decision:
    """Of runs that the collection does not hold as it should."""

    rules: Rules
    beginning: Beginning | None
    history: Collection[str]
    gone: Collection[str]
    named: Collection[str]
    problems: Mapping[str, Problem]
    conflicts: Mapping[str, str]
    broken: Mapping[str, str]

    def of(self, run_id: str, row: Row, why: Why, *, is_held: bool) -> Standing | None:  # noqa: PLR0911
        """None where the automation has nothing to do with it."""
        is_taken = run_id in self.named or takes(
            row.status, on_status=self.rules.on_status, partial=self.rules.partial, delivered=is_held
        )
        if is_held and (self._is_lost(run_id) if why == "reshape" else run_id in self.gone or not is_taken):
            return _standing("delivered", why)  # as it was: there is nothing to put in its place
        if run_id not in self.named and self.conflicts.get(run_id, "") == row.data_version:
            return _standing("held", "conflict")
        if run_id not in self.named and self.broken.get(run_id, "") == row.data_version:
            return _standing("held", "contract")
        if is_held or run_id in self.named:
            return self._due(run_id, why)
        if self.beginning is None or row.status not in self.rules.on_status:
            return None
        if run_id in self.gone:
            return None if run_id in self.history else _standing("gone", why)
        if not is_taken:
            return _standing("held", why)
        return _standing("history", why) if run_id in self.history else self._due(run_id, why)

    def _is_lost(self, run_id: str) -> bool:
        """Whether the source has a run no more, and what was kept of it is gone, too."""
        problem = self.problems.get(run_id)
        return run_id in self.gone and problem is not None and problem.kind == NotFoundError.__name__

    def _due(self, run_id: str, why: Why) -> Standing:
        problem = self.problems.get(run_id)
        return _standing("due", why) if problem is None else Standing("failing", why, problem.again_at)


def history_of(beginning: Beginning | None, began_at: datetime | None, rows: Mapping[str, Row]) -> Collection[str]:
    """The runs that an automation leaves alone, since it would have delivered them when it began.

    One that it did not take then, since it was not complete, is none any more once it is. Where the collection's log
    says that the automation began earlier than its record does, that was lost and made anew: what was executed in
    between is no history.
    """
    if beginning is None:
        return frozenset()
    earlier = began_at if began_at is not None and began_at < beginning.began_at else None
    return frozenset(
        run_id
        for run_id in beginning.history
        if (row := rows.get(run_id)) is None
        or (
            (earlier is None or row.executed_at < earlier)
            and not (run_id in beginning.held and row.status == RunStatus.COMPLETED)
        )
    )
