"""What a verification found, and what a repair did or would do, for people."""

from typing import Any

from vv_exports.cli.commands import DONE, FAILED, open_client
from vv_exports.cli.plans import planned
from vv_exports.console import Console
from vv_exports.printable import counted, one_line


def verified(console: Console, one: Any) -> None:
    """Print what a verification of one destination found."""
    verdict = "fine" if not one.problems else counted(len(one.problems), "problem")
    console.line(
        f"{one.uri}: {verdict} ({counted(one.prompt_runs, 'prompt run')}, {counted(one.files, 'file')}, "
        f"{counted(one.bytes, 'byte')})"
    )
    for problem in one.problems:
        console.line(f"  {one_line(problem)}")
    if one.left is not None:
        console.line(f"  note: {one_line(str(one.left))}; nobody keeps it up to date")
    if one.retained:
        console.line(
            f"  note: {counted(len(one.retained), 'superseded file')} kept for readers that began before; a plain "
            "glob counts the rows of these, too"
        )
    if one.foreign:
        console.line(f"  not the pipeline's, and left alone: {', '.join(map(one_line, one.foreign))}")
    for advice in one.advice:
        console.line(f"  {one_line(advice)}")


def repaired(console: Console, target: str, name: str | None, subpath: str | None, *, dry_run: bool) -> int:
    """Repair the collection of an automation, or all that is at a connector, and print what was done."""
    with console.progress() as progress:
        repairs = open_client(progress).repairs
        if name is not None:
            done = [(repairs.plan if dry_run else repairs.repair)(target, name)]
        else:
            done = (repairs.plan_at if dry_run else repairs.repair_at)(target, subpath)
    if console.as_json:
        console.document([one.document for one in done])
    for one in done:
        _changes(console, one, "would be " if dry_run else "")
        if not dry_run:
            verified(console, one.after)
        elif one.delivery is not None:
            planned(console, one.delivery)
        elif one.would_deliver:
            console.line(f"would deliver again: {', '.join(map(one_line, one.would_deliver))}")
        elif not one.before:
            console.line(f"{one.destination_uri}: fine, nothing is to be done")
    return DONE if all(one.is_fine for one in done) else FAILED


def _changes(console: Console, one: Any, would: str) -> None:
    for problem in one.before:
        console.line(f"found: {one_line(problem)}")
    if one.not_mended is not None:
        console.note(f"Error: not mended: {one_line(one.not_mended)}")
    if one.owner_restored:
        console.line(f"{would}restored: _vv/owner.json")
    for entry in one.log_entries:
        kept = f"; what was there {would or 'is '}kept in {entry.kept_at}" if entry.kept_at else ""
        console.line(f"{would}mended: {entry.entry}{kept}")
    if not would and one.delivered:
        console.line(f"delivered again: {', '.join(map(one_line, one.delivered))}")
    for run_id, problem in ({} if would else one.problems).items():
        console.note(f"Error: prompt run {one_line(run_id)} could not be delivered again: {one_line(problem)}")
