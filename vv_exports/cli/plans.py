"""What would be delivered, for people: how much it is, what else is to be known, and a line for each prompt run."""

from typing import Any

from vv_exports.console import Console


def planned(console: Console, plan: Any) -> None:
    """Print a plan."""
    console.line(plan.headline)
    for line in plan.lines:
        console.line(line)
    rows = [
        {
            "run_id": run.run_id,
            "status": run.status,
            "executed_at": run.executed_at,
            "why": run.why,
            "rows": run.rows if run.is_read else _about(run.rows),
            "files": run.files,
            "bytes": run.bytes if run.bytes_exact else _about(run.bytes),
        }
        for run in plan.prompt_runs
    ]
    console.table(rows, empty="")


def _about(number: int | None) -> str | None:
    return None if number is None else f"about {number}"
