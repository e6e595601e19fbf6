"""The types of columns as the SQL of a database has them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vv_exports.content.column_json import column_type
from vv_exports.delivery.views.collection import ViewedTable
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Column, List, Object


@dataclass(frozen=True)
class Types:
    """What a database calls them. ``scalars`` is by the name of the type in the log; ``field`` is how a struct has one
    of its fields, of its name and type; ``field_names`` are those that it can read, which ``said`` says in words."""

    scalars: Mapping[str, str]
    field: Callable[[str, str], str]
    field_names: re.Pattern[str]
    said: str
    has_lists_of_lists: bool = True


@dataclass(frozen=True)
class TypedColumns:
    """Columns by name, each with its type. ``left_out`` are the places that the database cannot read, each with the
    reason."""

    columns: Mapping[str, str]
    left_out: tuple[str, ...]


def typed_columns(table: ViewedTable, types: Types) -> TypedColumns:
    """Those of a table."""
    left_out: list[str] = []
    typed = {name: _type_of(column, types, name, left_out) for name, column in table.columns.items()}
    return TypedColumns({name: told for name, told in typed.items() if told is not None}, tuple(left_out))


def _type_of(column: Column, types: Types, place: str, left_out: list[str]) -> str | None:
    if isinstance(column, List):
        if isinstance(column.item, List) and not types.has_lists_of_lists:
            left_out.append(f"{place} (a list of lists)")
            return None
        item = _type_of(column.item, types, f"{place}[]", left_out)
        return None if item is None else f"array<{item}>"
    if isinstance(column, Object):
        fields = []
        for name, child in column.fields.items():
            inner = f"{place}.{one_line(name)}"
            if not types.field_names.fullmatch(name) or one_line(name) != name:
                left_out.append(f"{inner} ({types.said})")
            elif (told := _type_of(child, types, inner, left_out)) is not None:
                fields.append(types.field(name, told))
        return f"struct<{', '.join(fields)}>" if fields else None
    return types.scalars.get(column_type(column), types.scalars["string"])  # JSON is text in files
