"""How an automation is at a moment: what its log says that was not told yet, what fails, what waits, who paused it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import Pause
from vv_exports.automations.standing import Standings, Why
from vv_exports.checks.index import freshness_of
from vv_exports.checks.outcome import CheckOutcome
from vv_exports.checks.verification import verification
from vv_exports.delivery.entry import LogEntry, read_entry
from vv_exports.domain.failures import Problem, problem_of
from vv_exports.errors import VVExportsError

ENTRIES_AT_ONCE = 100
"""Entries of a log that one look reads; the next one reads on."""


@dataclass(frozen=True)
class Situation:
    """``entries`` are those of the log from the first one that was not told, and ``next_sequence`` the number behind
    them; where it ``is_behind``, the log has more. ``whole`` is why it delivers nothing, ``failing`` are single prompt
    runs, in order. ``held`` says why prompt runs wait. Where not ``is_known``, the collection could not be looked at,
    and there is no more than ``whole``. ``verification`` and ``late`` are checks that do not pass.
    ``source`` is why the prompt runs of its index cannot be listed."""

    at: datetime
    uri: str
    entries: Sequence[LogEntry]
    next_sequence: int
    is_known: bool
    whole: Problem | None
    failing: Mapping[str, Problem]
    held: Mapping[str, Why | None]
    pause: Pause | None
    verification: CheckOutcome | None
    late: CheckOutcome | None
    source: Problem | None = None
    is_behind: bool = False


def situation(
    automation: Automation, first: int | None, pause: Pause | None, now: datetime, source: Problem | None = None
) -> Situation:
    """How an automation is. ``first`` is the number of the first entry that was not told; None: all there are were."""
    index_id, name, uri = automation.index_id, automation.name, automation.destination.uri
    remembered = automation.record.state()
    whole, owed, entries, late = remembered.failing, Standings({}, {}), list[LogEntry](), None
    failing: dict[str, Problem] = {}
    next_sequence, is_known, is_behind = first or 0, True, False
    try:
        end = automation.holdings().next_sequence
        next_sequence = end if first is None else min(first, end)  # a log can be set back
        while next_sequence < end and len(entries) < ENTRIES_AT_ONCE:
            if (entry := read_entry(automation.destination, next_sequence)) is None:
                break
            entries.append(entry)
            next_sequence += 1
        is_behind = len(entries) == ENTRIES_AT_ONCE and next_sequence < end
        known = automation.snapshots.kept(index_id)
        owed = automation.standings(known)
        problems = {**known.problems, **remembered.problems}
        # One that could never be read is in no catalog of what there is.
        unread = [run_id for run_id in remembered.problems if run_id not in known.rows]
        failing = {run_id: problems[run_id] for run_id in (*owed.of("failing"), *unread) if run_id in problems}
        late = freshness_of(automation, now)
    except VVExportsError as error:
        # Whoever is to deliver remembers it, with when it began; where nobody is to, this is all that tells of it.
        whole, is_known = whole or problem_of(error, None, now), False
    checked = verification(index_id, name, uri, automation.verifications.last())
    return Situation(
        at=now,
        uri=uri,
        entries=entries,
        next_sequence=next_sequence,
        is_known=is_known,
        whole=whole,
        failing=failing,
        held={run_id: owed.by_run[run_id].why for run_id in owed.of("held")},
        pause=pause,
        verification=None if checked.passed else checked,
        late=None if late is None or late.passed or pause is not None else late,
        source=source,
        is_behind=is_behind,
    )
