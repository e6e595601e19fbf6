"""Whether collections are complete and the newest."""

from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, command, open_client
from vv_exports.console import Console
from vv_exports.printable import one_line


@command("status", click.argument("index", required=False), click.argument("name", required=False))
def status(console: Console, index: str | None, name: str | None) -> int:
    """Say of each collection, of those of an index, or of one, whether it is complete and the newest: prompt runs at
    the source, delivered, due, held and failing, the last delivery, the last verification. Exits with 1 where a source
    or a destination cannot be asked; the rest is told all the same."""
    found = open_client().status(index, name)
    if console.as_json:
        console.document([one.document for one in found])
    for place, one in enumerate(found):
        if place:
            console.line("")
        _tell(console, one.document)
    if not found:
        console.line("no automations are configured" + (" of this index" if index is not None else ""))
    return DONE if all(one.is_known for one in found) else FAILED


def _tell(console: Console, one: dict[str, Any]) -> None:
    console.line(f"{one_line(one['index_id'])}/{one['automation']}: {one_line(one['answer'])}")
    source = f"{one['source_runs']} prompt runs, {one['source_finished']} of them finished"
    lines = {
        "destination": one["destination_uri"],
        "source": source if one["source_error"] is None else f"cannot be asked: {one['source_error']}",
        "delivered": _figure(one["delivered"]),
        "due": _with_whys(one["due"], one["due_why"]),
        "oldest due": f"{one['oldest_due_run']}, executed at {one['oldest_due_at']}" if one["oldest_due_at"] else None,
        "failing": _figure(one["failing"]),
        "held": _with_whys(one["held"], one["held_why"]),
        "gone from the source before they were delivered": one["gone"] or None,
        "last delivery": one["last_delivery_at"] or "none yet",
        "last verification": f"{one['verified_at'] or 'none yet'}. {one['verification_found']}",
        "last error": one["last_error"],
    }
    for what, value in lines.items():
        if value is not None:
            console.line(f"  {what}: {one_line(str(value))}")
    for run_id, problem in one["problems"].items():
        console.line(f"  {one_line(run_id)}: {one_line(problem)}")


def _figure(count: int | None) -> str:
    return "not known" if count is None else f"{count:,}"


def _with_whys(count: int | None, whys: dict[str, int]) -> str:
    told = ", ".join(f"{number:,} {why}" for why, number in whys.items())
    return f"{_figure(count)} ({told})" if told else _figure(count)
