"""Prompt runs of an index."""

from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, command, listing, open_client
from vv_exports.console import Console
from vv_exports.printable import counted, one_line


@command("sync", INDEX, click.option("--dry-run", is_flag=True, help="Say what would be read; write nothing."))
def sync(console: Console, index: str, *, dry_run: bool) -> int:
    """Discover runs, take snapshots of new and changed ones."""
    with console.progress() as progress:
        client = open_client(progress)
        if dry_run:
            return _planned(console, client.prompt_runs.plan_sync(index))
        sync = client.prompt_runs.sync(index)
    if console.as_json:
        console.document(sync)
    console.line(
        f"{one_line(index)}: {sync.finished} finished of {counted(sync.prompt_runs, 'prompt run')}; "
        f"{len(sync.new_partitions)} new, {counted(len(sync.snapshots_taken), 'snapshot')} taken."
    )
    return DONE


def _planned(console: Console, plan: Any) -> int:
    if console.as_json:
        console.document({"dry_run": True, **vars(plan)})
    takes = f" (about {plan.source})" if str(plan.source) else ""
    console.line(
        f"{one_line(plan.index_id)}: {plan.finished} finished of {counted(plan.prompt_runs, 'prompt run')}; "
        f"{len(plan.new_partitions)} new, {counted(len(plan.snapshots), 'snapshot')} would be taken{takes}."
    )
    console.table(
        [{**vars(one), "rows": one.rows, "effort": str(one.effort) or None} for one in plan.snapshots], empty=""
    )
    for run_id, problem in plan.problems.items():
        console.note(f"Error: {one_line(run_id)} would not be read: {problem}")
    return FAILED if plan.problems else DONE


@command("list", INDEX)
def list_(console: Console, index: str) -> int:
    """List the prompt runs of an index. Exits with 1 where the record of one cannot be read."""
    rows = []
    for listed in open_client().prompt_runs.list(index):
        run, snapshot = listed.run, listed.snapshot
        rows.append(
            {
                "run_id": listed.run_id,
                "status": str(run.status) if run else None,
                "prompt_id": run.prompt_id if run else None,
                "prompt_name": run.prompt_name if run else None,
                "executed_at": run.executed_at.isoformat().replace("+00:00", "Z") if run else None,
                "total_segments": run.count("total_segments") if run else None,
                "snapshot_revision": snapshot.revision if snapshot else None,
                "snapshot_segments": snapshot.rows("segments") if snapshot else None,
                "problem": listed.problem,
            }
        )
    broken = any(row["problem"] for row in rows)
    names = tuple(name for name in rows[0] if broken or name != "problem") if rows else None
    listing(console, rows, names, empty=f"index {one_line(index)} has no prompt runs")
    return FAILED if broken else DONE


@command(
    "prune",
    INDEX,
    click.option("--dry-run", is_flag=True, help="Say what would be forgotten; write nothing."),
)
def prune(console: Console, index: str, dry_run: bool) -> None:
    """Forget prompt runs that are gone from the source: their partitions and snapshots. Deliveries stay."""
    pruned = open_client().prompt_runs.prune(index, dry_run=dry_run)
    if console.as_json:
        console.document(pruned)
    verb = "would forget" if dry_run else "forgot"
    listed = "".join(f"\n  {one_line(run_id)}" for run_id in pruned.prompt_runs)
    console.line(
        f"{verb} {counted(len(pruned.prompt_runs), 'prompt run')} of {one_line(index)} that the source does not have "
        f"any more, and {counted(pruned.files, 'file')} of the pipeline's own; what was delivered stays{listed}"
    )


GROUP = click.Group("runs", help="Prompt runs of an index.", commands=[sync, list_, prune])
