"""Does each prompt run add up: the segments that its record states, against results and failures."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from vv_exports.checks.outcome import OF_PROMPT_RUNS, SHOWN, CheckOutcome, runs_named
from vv_exports.domain.failures import Problem
from vv_exports.errors import SourceDataError
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.store import Snapshot

_NAME = "completeness"


class Sum(NamedTuple):
    """The segments of a run. ``expected`` is None where its record states no number."""

    expected: int | None
    delivered: int
    failed: int

    @property
    def missing(self) -> int:
        """Segments that are neither a result nor a failure. A segment of which one operation failed can be both."""
        return 0 if self.expected is None else max(0, self.expected - self.delivered - self.failed)

    def __str__(self) -> str:
        if self.expected is None:
            return f"{self.delivered} delivered + {self.failed} failed, and its record states no number"
        missing = f": {self.missing} {'is' if self.missing == 1 else 'are'} missing" if self.missing else ""
        return f"{self.expected} expected = {self.delivered} delivered + {self.failed} failed{missing}"


def sum_of(snapshot: Snapshot) -> Sum:
    """Of a run as it was read."""
    expected = snapshot.prompt_run.count("total_segments")
    return Sum(expected, snapshot.rows("segments"), snapshot.rows("failures"))


def not_whole(problems: Mapping[str, Exception | Problem]) -> dict[str, str]:
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
    sums = {one.run_id: sum_of(one) for one in snapshots if one.run_id not in broken}
    short = {run_id: one for run_id, one in sums.items() if one.missing}
    unstated = [run_id for run_id, one in sums.items() if one.expected is None]
    said = [f"{one_line(run_id)}: {problem}" for run_id, problem in broken.items()]
    said += [f"{one_line(run_id)}: {one}" for run_id, one in short.items()]
    figures = {
        "expected": sum(one.expected or 0 for one in sums.values()),
        "delivered": sum(one.delivered for one in sums.values()),
        "failed": sum(one.failed for one in sums.values()),
        "missing": sum(one.missing for one in sums.values()),
        "prompt_runs": len(sums) + len(broken),
        "prompt_runs_that_do_not_add_up": len(short) + len(broken),
    }
    if said:
        more = f"; and {len(said) - 1} more" if len(said) > 1 else ""
        description = f"{counted(len(said), 'prompt run')} cannot be delivered in whole. {said[0]}{more}"
    elif sums:
        total = Sum(figures["expected"], figures["delivered"], figures["failed"])
        verb = "adds" if len(sums) == 1 else "add"
        description = f"{runs_named(sums)} {verb} up: {total}."
        if unstated:
            description = (
                f"{runs_named(sums)}: {total.delivered} delivered + {total.failed} failed. Of "
                f"{counted(len(unstated), 'prompt run')} the record states no number of segments to compare with."
            )
    else:
        description, at = "No prompt run was read yet.", None
    rows: list[Mapping[str, str | int | None]] = [
        {**dict.fromkeys(("expected", "delivered", "failed", "missing")), "prompt_run": run_id, "problem": problem}
        for run_id, problem in broken.items()
    ]
    in_order = [*short, *(run_id for run_id in sums if run_id not in short)]
    rows += [
        {**sums[run_id]._asdict(), "missing": sums[run_id].missing, "prompt_run": run_id, "problem": ""}
        for run_id in in_order
    ]
    return CheckOutcome(
        index_id,
        ("prompt_runs",),
        _NAME,
        passed=not said,
        severity=OF_PROMPT_RUNS[_NAME].severity,
        description=description,
        at=at,
        figures=figures,
        prompt_runs=[*broken, *in_order],
        rows=[{"prompt_run": row["prompt_run"], **row} for row in rows[:SHOWN]],
    )
