"""Does each prompt run add up: the segments that its record states, against results and failures."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from vv_exports.checks.outcome import OF_PROMPT_RUNS, SHOWN, CheckOutcome, runs_named
from vv_exports.domain.failures import Problem
from vv_exports.errors import SourceDataError
from vv_exports.printable import one_line
from vv_exports.snapshots.completeness import Completeness
from vv_exports.snapshots.store import Snapshot

_NAME = "completeness"
_COUNTS = ("expected", "delivered", "failed", "quarantined", "missing")


def not_whole(problems: Mapping[str, Exception] | Mapping[str, Problem]) -> dict[str, str]:
    """Those of the readings that failed that are about the results themselves: not a source that was out of reach."""
    classes: list[type[Exception]] = [SourceDataError, *SourceDataError.__subclasses__()]
    kinds = {kind.__name__ for kind in classes}
    return {
        run_id: problem.message if isinstance(problem, Problem) else str(problem)
        for run_id, problem in problems.items()
        if (problem.kind if isinstance(problem, Problem) else type(problem).__name__) in kinds
    }


def completeness(
    index_id: str, snapshots: Sequence[Snapshot], broken: Mapping[str, str], at: datetime | None
) -> CheckOutcome:
    """Of these runs. ``broken`` are those that could not be read in whole, each with what was wrong."""
    sums = {one.run_id: one.completeness for one in snapshots if one.run_id not in broken}
    short = {run_id: one for run_id, one in sums.items() if not one.balances}
    unstated = [run_id for run_id, one in sums.items() if one.expected is None]
    said = [f"{one_line(run_id)}: {problem}" for run_id, problem in broken.items()]
    said += [f"{one_line(run_id)}: {one}" for run_id, one in short.items()]
    total = _total([one for one in sums.values() if one.expected is not None])
    if said:
        more = f" And {len(said) - 1} more." if len(said) > 1 else ""
        one_or_more = "1 prompt run is" if len(said) == 1 else f"{len(said):,} prompt runs are"
        description = f"{one_or_more} not whole, and not delivered as it is. {said[0]}{more}"
    elif len(unstated) < len(sums):
        verb = "adds" if len(sums) == 1 else "add"
        description = f"{runs_named(sums)} {verb} up: {total}."
    elif sums:
        description = f"{runs_named(sums)} {'was' if len(sums) == 1 else 'were'} read."
    else:
        description, at = "No prompt run was read yet.", None
    if unstated and not said:
        description += f" The record of {runs_named(unstated)} states no number of segments to compare with."
    in_order = [*short, *(run_id for run_id in sums if run_id not in short)]
    rows: list[Mapping[str, str | int | None]] = [
        {"prompt_run": run_id, **dict.fromkeys(_COUNTS), "problem": problem} for run_id, problem in broken.items()
    ]
    rows += [
        {"prompt_run": run_id, **{name: getattr(sums[run_id], name) for name in _COUNTS}, "problem": None}
        for run_id in in_order[:SHOWN]
    ]
    return CheckOutcome(
        index_id,
        ("prompt_runs",),
        _NAME,
        passed=not said,
        severity=OF_PROMPT_RUNS[_NAME].severity,
        description=description[0].upper() + description[1:],
        at=at,
        figures={
            **{name: getattr(total, name) for name in _COUNTS},
            "prompt_runs": len(sums) + len(broken),
            "prompt_runs_not_whole": len(said),
        },
        prompt_runs=[*broken, *in_order],
        rows=rows[:SHOWN],
    )


def _total(sums: Sequence[Completeness]) -> Completeness:
    """Of all that state a number."""
    return Completeness(
        expected=sum(one.expected or 0 for one in sums),
        delivered=sum(one.delivered for one in sums),
        failed=sum(one.failed for one in sums),
        quarantined=sum(one.quarantined for one in sums),
    )
