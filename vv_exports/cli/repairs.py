"""What a verification found, and what a repair did or would do, for people."""

from typing import Any

from vv_exports.cli.commands import DONE, FAILED, open_client
from vv_exports.cli.plans import planned
from vv_exports.console import Console
from vv_exports.errors import NotFoundError, RequestError
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
    """Repair the collection of an automation, or those of a connector, and print what was done."""
    with console.progress() as progress:
        client = open_client(progress)
        there = client.repairs.automations_at(target, subpath) if name is None else [(target, name)]
        if not there:
            raise RequestError(
                "no automation of the configuration delivers there, and an export on demand is not repaired: make a "
                "new one in place of it"
            )
        work = client.repairs.plan if dry_run else client.repairs.repair
        done = []
        for index_id, automation in there:
            try:
                done.append(work(index_id, automation))
            except NotFoundError:
                if name is not None:
                    raise
                console.note(f"{one_line(index_id)}/{automation} has delivered nothing yet")
    if console.as_json:
        console.document([one.document if dry_run else one for one in done])
    for one in done:
        _changes(console, one, "would be " if dry_run else "")
        if not dry_run:
            verified(console, one.after)
        elif one.before:
            planned(console, one.delivery)
        else:
            console.line(f"{one.destination_uri}: fine, nothing is to be done")
    problems = [one.delivery.is_stopped if dry_run else one.after.problems for one in done]
    return FAILED if any(problems) else DONE


def _changes(console: Console, one: Any, would: str) -> None:
    for problem in one.before:
        console.line(f"found: {one_line(problem)}")
    if one.owner_restored:
        console.line(f"{would}restored: _vv/owner.json")
    for entry in one.log_entries:
        kept = f"; what was there {would or 'is '}kept in {entry.kept_at}" if entry.kept_at else ""
        console.line(f"{would}mended: {entry.entry}{kept}")
    if not would and one.delivered:
        console.line(f"delivered again: {', '.join(map(one_line, one.delivered))}")
