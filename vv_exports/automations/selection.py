"""What somebody who asks an automation to deliver gets, from the standings of its runs. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from vv_exports.automations.standing import Standings
from vv_exports.errors import SelectionError


def in_stretches(order: Sequence[str], wanted: Collection[str], limit: int) -> list[list[str]]:
    """What is wanted of an order, as stretches that hold nothing else, of at most ``limit`` each: a Dagster run covers
    a contiguous range of partitions."""
    places = [place for place, one in enumerate(order) if one in wanted]
    found: list[list[str]] = []
    for before, place in pairwise([-2, *places]):
        if place != before + 1 or len(found[-1]) == limit:
            found.append([])
        found[-1].append(order[place])
    return found


Only = Literal["missing", "changed"]
"""Just runs that the collection lacks, or just those that it holds otherwise than they are now."""


@dataclass(frozen=True)
class Selection:
    """Prompt run ids in the order (executed_at, run id). ``todo`` are to be delivered; ``there`` are delivered already;
    ``history`` is left alone, since nobody asked for it."""

    todo: tuple[str, ...]
    there: tuple[str, ...]
    history: tuple[str, ...]


def check_range(since: datetime | None, until: datetime | None) -> None:
    """Raise SelectionError for a range in which no time is."""
    if since is not None and until is not None and since >= until:
        raise SelectionError(
            f"nothing is executed since {_said(since)} and before {_said(until)}: the first must be the earlier one"
        )


def nothing_executed(owed: Standings, since: datetime | None, until: datetime | None) -> str | None:
    """What to say of a range in which no run of an index was executed; None where one was."""
    times = sorted(owed.rows[run_id].executed_at for run_id in owed.by_run if run_id in owed.rows)
    if (since is None and until is None) or any(
        (since is None or time >= since) and (until is None or time < until) for time in times
    ):
        return None
    range_ = " and ".join(
        [*([f"since {_said(since)}"] if since else []), *([f"before {_said(until)}"] if until else [])]
    )
    there = f"they were from {_said(times[0])} to {_said(times[-1])}" if times else "there are none at all"
    return f"no finished prompt run that the automation takes was executed {range_}; {there}"


def _said(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def selected(
    owed: Standings,
    named: Collection[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    only: Only | None = None,
    *,
    history: bool,
) -> Selection:
    """Of the runs ``named``, or of all: those executed in [``since``, ``until``), the history included where it
    is asked for. What failed before is tried again now."""

    def is_asked_for(run_id: str) -> bool:
        executed_at = owed.rows[run_id].executed_at
        return (
            (named is None or run_id in named)
            and (since is None or executed_at >= since)
            and (until is None or executed_at < until)
        )

    def is_wanted(run_id: str) -> bool:
        return only is None or (owed.by_run[run_id].why == "missing") == (only == "missing")

    todo = owed.of("due", "failing", "history") if history else owed.of("due", "failing")
    return Selection(
        todo=tuple(run_id for run_id in todo if is_asked_for(run_id) and is_wanted(run_id)),
        there=tuple(filter(is_asked_for, owed.of("delivered"))),
        history=() if history else tuple(filter(is_asked_for, owed.of("history"))),
    )
