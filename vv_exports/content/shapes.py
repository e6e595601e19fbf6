"""One prompt, one table: which metadata column the files of a prompt's table have, and in which folder.

All files in a folder have the same columns: those that any run of the prompt has there. A type that no column holds
together with the one that files have is a conflict, and a policy says what becomes of the run. Pure.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vv_exports.content.union import Conflict, Joined, has_other_types, join, widened
from vv_exports.domain.content_options import OnSchemaConflict
from vv_exports.domain.destinations import table_folder, version_of_folder
from vv_exports.domain.tables import TableName
from vv_exports.errors import SchemaConflictError, first_few
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Column, List, Object
from vv_exports.snapshots.json_pointer import tokens

Effect = Literal["added", "widened", "text", "new_version"]
"""What a change of a table's column is to its readers, the later the more: it has places that were not there; a place
has a wider type; a place has JSON text in place of its type; runs go to another folder, where its readers don't
look."""

_EFFECTS: tuple[Effect, ...] = ("added", "widened", "text", "new_version")


class _Change(NamedTuple):
    said: str
    effect: Effect


@dataclass(frozen=True)
class OwnColumn:
    """The metadata column that a run's own prompt describes. ``held_in`` are the folders that hold the run already."""

    run_id: str
    column: Column
    held_in: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shapes:
    """The metadata columns of a prompt's table: ``columns`` by folder, ``folders`` by run id. ``changes`` say, by
    folder, why its column is not the one that was there before, and ``effects`` what that is to readers."""

    columns: Mapping[str, Column]
    folders: Mapping[str, str]
    changes: Mapping[str, str]
    effects: Mapping[str, Effect]


Delivered = Callable[[Column], Column | None]
"""What is delivered of a metadata column; None where nothing is."""


def shaped(
    table: TableName,
    there: Mapping[str, Column],
    runs: Sequence[OwnColumn],
    policy: OnSchemaConflict,
    delivered: Delivered = lambda metadata: metadata,
) -> Shapes:
    """The columns with which runs of a prompt are delivered, in their order, beside files that have those in ``there``.

    A run goes where it is held already, or to the newest version that can hold it. A place that is not delivered is no
    place of conflict. Raises SchemaConflictError where none can hold a run and the policy is that it waits."""
    columns: dict[int, Column] = {
        version: column for folder, column in there.items() if (version := version_of_folder(table, folder)) is not None
    }
    folders: dict[str, str] = {}
    changes: dict[str, list[_Change]] = {}
    # Runs share their columns, and wide ones take a while to join. What a version holds once it holds ever after.
    holds: set[tuple[int, int]] = set()
    for run in runs:
        version, column, change = _fitted(table, columns, run, policy, delivered, holds)
        holds.add((version, id(run.column)))
        folder = folders[run.run_id] = table_folder(table, version)
        if change is not None:
            changes.setdefault(folder, []).append(change)
        columns[version] = column
    return Shapes(
        columns={table_folder(table, version): column for version, column in columns.items()},
        folders=folders,
        changes={folder: "; ".join(first_few([one.said for one in told])) for folder, told in changes.items()},
        effects={folder: max((one.effect for one in told), key=_EFFECTS.index) for folder, told in changes.items()},
    )


def _fitted(  # noqa: PLR0917
    table: TableName,
    columns: Mapping[int, Column],
    run: OwnColumn,
    policy: OnSchemaConflict,
    delivered: Delivered,
    holds: Collection[tuple[int, int]],
) -> tuple[int, Column, _Change | None]:
    """The version in which a run goes, the column that it has then, and why that is another one than before."""
    if not columns:
        return 1, run.column, None
    newest = max(columns)
    held = {version for folder in run.held_in if (version := version_of_folder(table, folder)) in columns}
    clashing: dict[int, tuple[Joined, Sequence[Conflict]]] = {}
    for version in sorted(columns, key=lambda one: (one not in held, -one)):
        if (version, id(run.column)) in holds:
            return version, columns[version], None
        joined = join(columns[version], run.column)
        conflicts = _seen(joined, delivered)
        if not conflicts:
            news = "; ".join(first_few(list(widened(columns[version], joined.column))))
            if not news:
                return version, joined.column, None
            effect: Effect = "widened" if has_other_types(columns[version], joined.column) else "added"
            return version, joined.column, _Change(f"prompt run {run.run_id!r} needs more: {news}", effect)
        clashing[version] = joined, conflicts
    joined, conflicts = clashing[newest]
    said = "; ".join(map(str, conflicts))
    match policy:
        case "new_version":
            change = f"prompt run {run.run_id!r} has types that {table_folder(table, newest)} cannot hold: {said}"
            return newest + 1, run.column, _Change(change, "new_version")
        case "text":
            # A column has JSON text in the places that are in conflict.
            return newest, joined.column, _Change(f"JSON text since prompt run {run.run_id!r}: {said}", "text")
        case "hold":
            raise SchemaConflictError(
                f"prompt run {one_line(run.run_id)} waits, since its prompt has other types than what is delivered of "
                f"it: {said}. Set on_schema_conflict to new_version, and such runs go to a folder of their own; or to "
                "text, and these places become JSON text in all files of the prompt.",
                run.run_id,
            )


def _seen(joined: Joined, delivered: Delivered) -> Sequence[Conflict]:
    """The conflicts in places that are delivered. In the others a column has JSON text, which nobody sees."""
    if not joined.conflicts:
        return ()
    column = delivered(joined.column)
    return [conflict for conflict in joined.conflicts if _has(column, tokens(conflict.place))]


def _has(column: Column | None, path: Sequence[str]) -> bool:
    for name in path:
        match column:
            case List() if name == "*":
                column = column.item
            case Object():
                column = column.fields.get(name)
            case _:
                break  # text holds all that is in it
    return column is not None
