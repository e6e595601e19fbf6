"""One column for the documents of several schemas of a prompt. It knows no files and no runs.

What is joined is in an order: the columns that files already have stay as they are where another schema has nothing
more, so that nothing need be written again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vv_exports.content.column_json import column_type
from vv_exports.snapshots.columns import Column, Integer, Json, List, Number, Object
from vv_exports.snapshots.field_names import FieldNames
from vv_exports.snapshots.json_pointer import pointer


@dataclass(frozen=True)
class Conflict:
    """Values of two types in one place, which no column holds: ``there`` is what files have, ``new`` what comes.

    ``place`` is a JSON Pointer into the documents, with ``*`` for the items of an array: ``/people/*/age``.
    """

    place: str
    there: Column
    new: Column

    def __str__(self) -> str:
        place = f"the property {self.place}" if self.place else "the document"
        return f"{place} is {_told(self.there)} in the files, and {_told(self.new)} in the schema of the run"

    @property
    def reason(self) -> str:
        """Why the place has no type, where it is kept as JSON text."""
        return f"its type differs between runs of the prompt: {column_type(self.there)}, {column_type(self.new)}"


@dataclass(frozen=True)
class Joined:
    """What two columns are together. Where ``conflicts`` names a place, ``column`` has JSON text there."""

    column: Column
    conflicts: tuple[Conflict, ...] = ()


def join(there: Column, new: Column) -> Joined:
    """The column that holds the values of both, ``there`` itself where ``new`` has nothing more."""
    conflicts: list[Conflict] = []
    return Joined(_join(there, new, "", conflicts), tuple(conflicts))


def widened(there: Column, by_now: Column, place: str = "") -> Iterator[str]:
    """In what a column differs from the one that was there before it was joined with another, a few words for each
    place."""
    match there, by_now:
        case Object(), Object():
            for name, column in by_now.fields.items():
                inner = place + pointer(name)
                if name not in there.fields:
                    yield f"{inner} is new"
                else:
                    yield from widened(there.fields[name], column, inner)
        case List(), List():
            yield from widened(there.item, by_now.item, place + "/*")
        case _ if type(there) is not type(by_now):
            yield f"{place or 'the document'} is {_told(by_now)} by now, and was {_told(there)}"
    if by_now.nullable and not there.nullable and not isinstance(by_now, Json):
        yield f"{place or 'the document'} may be null"


def has_other_types(there: Column, by_now: Column) -> bool:
    """Whether a place that was there has another type by now: who declared the type that it had has to look."""
    match there, by_now:
        case Object(), Object():
            common = there.fields.keys() & by_now.fields.keys()
            return any(has_other_types(there.fields[name], by_now.fields[name]) for name in common)
        case List(), List():
            return has_other_types(there.item, by_now.item)
        case _:
            return type(there) is not type(by_now)


def _join(there: Column, new: Column, place: str, conflicts: list[Conflict]) -> Column:
    if isinstance(there, Json):
        return there  # it holds everything
    nullable = there.nullable or new.nullable
    if isinstance(there, Object) and isinstance(new, Object):
        return _joined_objects(there, new, place, conflicts)
    if isinstance(there, List) and isinstance(new, List):
        return replace(there, item=_join(there.item, new.item, place + "/*", conflicts), nullable=nullable)
    if {type(there), type(new)} == {Integer, Number}:
        return Number(nullable=nullable)
    if type(there) is type(new) or (isinstance(new, Json) and _may_be(new, there)):
        return replace(there, nullable=nullable)
    conflict = Conflict(place, there, new)
    conflicts.append(conflict)
    return Json(reason=conflict.reason)


def _joined_objects(there: Object, new: Object, place: str, conflicts: list[Conflict]) -> Object:
    names = FieldNames()
    for name in there.fields:
        names.take(name)
    fields = dict(there.fields)
    for name, column in new.fields.items():
        if name in there.fields:
            fields[name] = _join(there.fields[name], column, place + pointer(name), conflicts)
        elif names.take(name):
            fields[name] = column
    left_out = {
        name: reason
        for name, reason in {**new.left_out, **names.left_out, **there.left_out}.items()
        if name not in fields
    }
    return replace(there, fields=fields, nullable=there.nullable or new.nullable, left_out=left_out)


def _may_be(new: Json, there: Column) -> bool:
    """Whether a schema that gives no type does not contradict the type that files have."""
    return (
        new.allows in ("anything", "nothing")
        or (new.allows == "object" and isinstance(there, Object))
        or (new.allows == "array" and isinstance(there, List))
    )


def _told(column: Column) -> str:
    if isinstance(column, Json):
        return f"JSON text ({column.reason})"
    kind = column_type(column)
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
