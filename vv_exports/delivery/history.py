"""What became of each prompt run at a destination, and why: its log, told run by run."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredRun, LogEntry
from vv_exports.delivery.log import LogFault, entries_and_faults
from vv_exports.domain.destinations import log_entry_name

What = Literal["delivered", "replaced", "rewritten", "erased"]
"""Of a run: it was not there before; other rows or another status are in its place, or rows of erased media are no
more; files are others, and no row changed; it is there no more."""


@dataclass(frozen=True)
class RunEvent:
    """One entry's, of one prompt run. Rows are by table; those before are None where nothing was there. ``why`` says it
    in words, as far as the log tells; of an erasure it is what was given as the reason."""

    entry: int
    committed_at: str
    run_id: str
    prompt_id: str
    what: What
    why: str
    rows_before: Mapping[str, int] | None
    rows_after: Mapping[str, int]
    supersedes: int | None
    status: str
    revision: int
    data_version: str
    delivery_id: str
    dagster_run_id: str | None
    vv_exports_version: str


@dataclass(frozen=True)
class History:
    """The newest events first; ``left_out`` are so many before those. ``problems`` are of entries that cannot be read
    or are not there, or stand for such: they may have told more."""

    events: tuple[RunEvent, ...]
    left_out: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Before:
    """What was there of a run, and by which entry."""

    entry: int
    status: str
    data_version: str
    revision: int
    rows: Mapping[str, int]


def history_of(destination: Destination, run_id: str | None = None, limit: int | None = None) -> History:
    """Read each entry of a destination's log. ``run_id`` is the one prompt run that is asked for, ``limit`` the most
    events that are wanted."""
    events: deque[RunEvent] = deque(maxlen=limit)
    count, expected = 0, 0
    problems: list[str] = []
    held: dict[str, _Before] = {}
    for entry in entries_and_faults(destination):
        if entry.sequence > expected:
            first = destination.uri_of(log_entry_name(expected))
            more = entry.sequence - expected - 1
            problems.append(f"{first} is missing" + (f", and {more} more behind it" if more else ""))
        expected = entry.sequence + 1
        if isinstance(entry, LogFault):
            problems.append(entry.problem)
            continue
        if entry.replaces is not UNSET:
            was = {"missing": "was missing", "unusable": "could not be used", "foreign": "was somebody else's"}
            problems.append(
                f"{destination.uri_of(log_entry_name(entry.sequence))} stands in the place of one that "
                f"{was[entry.replaces.why]}: what that one delivered is not told"
            )
        for event in _events(entry, run_id, held):
            events.append(event)
            count += 1
    return History(tuple(reversed(events)), count - len(events), tuple(problems))


def _events(entry: LogEntry, run_id: str | None, held: dict[str, _Before]) -> Iterator[RunEvent]:
    """Of an entry's runs; ``held`` is what the destination holds, and is brought up to date."""
    chosen = [run for run in entry.prompt_runs if run_id in {None, run.run_id}]
    rows: dict[str, dict[str, int]] = {run.run_id: {} for run in chosen}
    for file in entry.files:
        if (tables := rows.get(file.prompt_run_id)) is not None:
            tables[file.table] = tables.get(file.table, 0) + file.rows
    erased = frozenset(entry.erased_runs)
    for run in chosen:
        before = held.pop(run.run_id, None)
        what, why = _what(entry, before, run, is_erased=run.run_id in erased)
        if what != "erased":
            held[run.run_id] = _Before(entry.sequence, run.status, run.data_version, run.revision, rows[run.run_id])
        yield RunEvent(
            entry=entry.sequence,
            committed_at=entry.committed_at,
            run_id=run.run_id,
            prompt_id=run.prompt_id,
            what=what,
            why=why,
            rows_before=None if before is None else before.rows,
            rows_after=rows[run.run_id],
            supersedes=None if before is None else before.entry,
            status=run.status,
            revision=run.revision,
            data_version=run.data_version,
            delivery_id=entry.delivery_id,
            dagster_run_id=entry.provenance.dagster_run_id,
            vv_exports_version=entry.provenance.vv_exports_version,
        )


_REASONS = {
    "reshaped": "other columns, format or choice of fields",
    "reformatted": "another format or layout",
    "mended": "files were missing, damaged or left over",
}


def _what(entry: LogEntry, before: _Before | None, run: DeliveredRun, *, is_erased: bool) -> tuple[What, str]:
    """What an entry did with a run, and why. Early entries do not say: there it is told by what differs."""
    erasure = None if entry.erasure is UNSET else entry.erasure.reason
    if is_erased:
        return "erased", erasure or ""
    if erasure is not None:
        return "replaced", f"without the rows of erased media: {erasure}"
    why = _REASONS.get(run.reason or "")
    if before is None:
        return "delivered", why or "new"
    if (before.data_version, before.status) == (run.data_version, run.status):
        return "rewritten", why or "the same rows in other files"
    said = []
    if before.status != run.status:
        said.append(f"the status was {before.status} and is {run.status}")
    if before.data_version != run.data_version:
        said.append(f"other results: revision {run.revision} after {before.revision}")
    return "replaced", "; ".join(said)
