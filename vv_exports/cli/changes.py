"""Changes to the configuration's file: how they are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from vv_exports.console import Console
from vv_exports.errors import RequestError

DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the lines that would change, and what follows.")

RUN_TAG = click.option(
    "--run-tag",
    "run_tags",
    multiple=True,
    metavar="KEY=VALUE",
    help="A tag of its Dagster runs, such as dagster-celery/queue=heavy; repeat. Others that it has go.",
)


def pairs(option: str, given: Sequence[str]) -> dict[str, str] | None:
    """The keys and values of an option that is repeated; None without any. Raises RequestError."""
    parts = [one.partition("=") for one in given]
    if wrong := [key for key, separator, _ in parts if not separator]:
        raise RequestError(f"{option} {wrong[0]!r} says no value; write {wrong[0]}=VALUE")
    return {key: value for key, _, value in parts} or None


def default_option(names: str) -> Any:
    """The option that takes fields out again."""
    return click.option(
        "--default",
        "defaults",
        multiple=True,
        metavar="FIELD",
        help=f"Let this field have its default again; repeat for more: {names}.",
    )


def fields_of(options: Mapping[str, Any], defaults: Sequence[str]) -> dict[str, Any]:
    """The fields that options give a value, and those in ``defaults``, which get None. Raises RequestError."""
    fields = {
        name: list(one) if isinstance(one, tuple) else one for name, one in options.items() if one not in (None, ())
    }
    names = [name.replace("-", "_") for name in defaults]
    if twice := fields.keys() & names:
        raise RequestError(f"{', '.join(sorted(twice))}: is given a value and its default; say one of them")
    return {**fields, **dict.fromkeys(names)}


def told(console: Console, change: Any) -> None:
    """Print what became of a change."""
    if console.as_json:
        console.document(change)
        return
    if not change.changed:
        console.line(f"{change.file} says so already; nothing to write")
        return
    if change.dry_run:
        for line in change.diff.splitlines():
            console.line(line)
    console.line(f"{change.file} {'would be changed' if change.dry_run else 'is changed'}")
    for note in change.notes:
        console.line(f"  {note}")
