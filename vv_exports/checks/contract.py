"""Are the answers what their prompt's JSON Schema says?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from vv_exports.checks.outcome import SHOWN, CheckOutcome, Severity, runs_named
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.contract_report import BrokenPlace
from vv_exports.snapshots.store import Snapshot

Policy = Literal["warn", "quarantine", "block"]
"""What becomes of rows that break the schema: they are delivered like all others; or set apart; or their prompt run is
not delivered."""

_BECOMES: dict[Policy, str] = {
    "warn": "They are delivered like all others.",
    "quarantine": "They are in the table `quarantine`, with the reasons.",
    "block": "These prompt runs are not delivered.",
}


@dataclass(frozen=True)
class Answers:
    """What is known of the answers of prompt runs, by run id. ``broken`` are the rows that break a schema, 0 included;
    ``unchecked`` could not be checked, or were read by a version that did not check. ``opened`` are some of the
    snapshots of these, for what is wrong where."""

    broken: Mapping[str, int] = field(default_factory=dict)
    unchecked: Sequence[str] = ()
    opened: Sequence[Snapshot] = ()


def contract(
    index_id: str, path: tuple[str, ...], answers: Answers, at: datetime | None, policy: Policy | None = None
) -> CheckOutcome:
    """Of the prompt runs in ``answers``. ``policy`` is that of the automation whose collection it is about."""
    with_broken = {run_id: rows for run_id, rows in answers.broken.items() if rows}
    rows, checked = sum(with_broken.values()), len(answers.broken)
    places = _places(answers.opened)
    severity: Severity = "ERROR" if policy == "block" else "WARN"
    if with_broken:
        first = places[0] if places else None
        most = f" Most often {_said(first)}." if first is not None else ""
        becomes = f" {_BECOMES[policy]}" if policy is not None else ""
        description = (
            f"{counted(rows, 'row')} of {runs_named(with_broken)} "
            f"{'breaks' if rows == 1 else 'break'} the prompt's JSON Schema.{most}{becomes}"
        )
    elif checked:
        description = f"All answers of {counted(checked, 'prompt run')} are what their prompt's JSON Schema says."
    else:
        description = "No answer was checked yet."
    problem = next(filter(None, map(_problem, answers.opened)), None)
    if answers.unchecked:
        why = problem or "they were read by a version that did not check"
        description += f" Not checked: {counted(len(answers.unchecked), 'prompt run')}, since {one_line(why)}."
    return CheckOutcome(
        index_id,
        path,
        "contract",
        passed=not with_broken,
        severity=severity,
        description=description,
        at=at if answers.broken else None,
        figures={
            "broken_rows": rows,
            "prompt_runs_with_broken_rows": len(with_broken),
            "prompt_runs_checked": checked,
            "prompt_runs_not_checked": len(answers.unchecked),
        },
        prompt_runs=list(with_broken) or list(answers.broken),
        rows=[
            {
                "table": one.table,
                "place": one.place.place or "(the document)",
                "keyword": one.place.keyword,
                "rows": one.rows,
                "prompt_runs": one.runs,
                "message": one.place.message,
                "first": one.example,
            }
            for one in places[:SHOWN]
        ],
    )


@dataclass(frozen=True)
class _Place:
    """One place of a table, in one or more runs."""

    table: str
    place: BrokenPlace
    rows: int
    runs: int
    example: str


def _places(opened: Sequence[Snapshot]) -> list[_Place]:
    """The places that are broken, from the most rows to the fewest."""
    found: dict[tuple[str, str, str], _Place] = {}
    for snapshot in opened:
        for table, report in snapshot.contract.items():
            for place in report.places:
                key = table, place.place, place.keyword
                one = found.get(key) or _Place(table, place, 0, 0, _example(snapshot, place))
                found[key] = replace(one, rows=one.rows + place.rows, runs=one.runs + 1)
    return sorted(found.values(), key=lambda one: (-one.rows, one.table, one.place.place, one.place.keyword))


def _example(snapshot: Snapshot, place: BrokenPlace) -> str:
    """The first row, as somebody finds it."""
    if not place.examples:
        return ""
    first = place.examples[0]
    what = first.segment_id or first.video_id or "a row"
    return f"{first.pointer or '/'} of {what} in {snapshot.run_id}"


def _said(one: _Place) -> str:
    return f"{one_line(one.place.place or 'the document')}, {one.place.keyword}: {one_line(one.place.message)}"


def _problem(snapshot: Snapshot) -> str | None:
    return next((report.problem for report in snapshot.contract.values() if report.problem), None)
