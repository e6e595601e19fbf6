"""Columns as msgspec types, and arrays of the values that those decode to: the quick way of ``Column.build``.

What a type takes is what ``Column.build`` would take from decoded JSON, and becomes the same array, misfits and
absences. It may refuse more: then the documents go through ``Column.build``, which is the definition. The values tell
the JSON that they come from apart, but for the order of names, so that it can be written again. They are bound to
numbers that doubles tell exactly, where ``exact``; else numbers are decoded one by one. Knows nothing of records.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, chain
from types import GenericAlias
from typing import Annotated, Any, Protocol

import msgspec
import pyarrow as pa
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from vv_exports.snapshots.columns import (
    Absence,
    Boolean,
    Built,
    Column,
    Integer,
    Json,
    List,
    Misfit,
    Number,
    Object,
    Text,
    spread,
)
from vv_exports.snapshots.json_pointer import pointer

_MOST_NAMES = 300  # a Struct's decoder looks at its names one by one, and the next document may have them in any order
_TYPES: Mapping[type[Column], Any] = {Text: str, Integer: int, Number: int | float, Boolean: bool}


class Typed(Protocol):
    """A column's values as they are decoded. ``annotation`` is their type; ``default`` stands for an absent one: None
    where that is stored like it, and is no value of the type, else UNSET."""

    annotation: Any
    default: UnsetType | None

    def build(self, values: Sequence[Any], /) -> Built:
        """See ``Column.build``. Absent values are None, where that is the default, and else not among them."""


def typed(column: Column, *, exact: bool, absence_is_null: bool = False) -> Typed:
    """A column's. ``absence_is_null``: an absent value need not be told from null."""
    match column:
        case Object() if (found := _typed_object(column, exact=exact, absence_is_null=absence_is_null)) is not None:
            return found
        case List():
            return _List(column, exact=exact, absence_is_null=absence_is_null)
        case _:
            is_exact = type(column) in _TYPES and (exact or type(column) is not Number)
            return (_Leaf if is_exact else _Anything)(column, absence_is_null=absence_is_null)


def _typed_object(column: Object, *, exact: bool, absence_is_null: bool) -> "TypedObject | None":
    """None where it has so many names that dicts are quicker, or one that no Struct can have."""
    if len(column.fields) + len(column.left_out) > _MOST_NAMES:
        return None
    try:
        return TypedObject(column, exact=exact, absence_is_null=absence_is_null)
    except (ValueError, TypeError):
        return None


def _of_absence(column: Column, *, absence_is_null: bool) -> UnsetType | None:
    return None if absence_is_null or not column.nullable else UNSET


def _optional(kind: Any, column: Column) -> Any:
    return kind | None if column.nullable else kind


class _Leaf:
    """Values of one type."""

    def __init__(self, column: Column, *, absence_is_null: bool) -> None:
        self._column = column
        self._arrow_type = column.arrow_type
        self.annotation = _optional(_TYPES[type(column)], column)
        self.default = _of_absence(column, absence_is_null=absence_is_null)

    def build(self, values: Sequence[Any], /) -> Built:
        """See ``Typed.build``."""
        try:
            return Built(pa.array(values, self._arrow_type))
        except (pa.ArrowInvalid, OverflowError):  # a number that the column does not hold
            pass
        there = [i for i, value in enumerate(values) if value is not None]
        return spread(self._column.build([values[i] for i in there]), there, len(values))


class _Anything:
    """Any values, as the column takes them: JSON text, times, and numbers that doubles do not tell exactly."""

    def __init__(self, column: Column, *, absence_is_null: bool) -> None:
        self.annotation = Any
        self.default: UnsetType | None = None if absence_is_null and type(column) is not Json else UNSET
        self.build = column.build


class _List:
    """Arrays of typed values."""

    def __init__(self, column: List, *, exact: bool, absence_is_null: bool) -> None:
        self._arrow_type = column.arrow_type
        self._item = typed(column.item, exact=exact)
        self.annotation = _optional(GenericAlias(list, (self._item.annotation,)), column)
        self.default = _of_absence(column, absence_is_null=absence_is_null)

    def build(self, values: Sequence[Any], /) -> Built:
        """See ``Typed.build``."""
        mask = None
        if None in values:
            mask = pa.array([value is None for value in values])
            values = [value or () for value in values]
        offsets = list(accumulate(map(len, values), initial=0))
        items = self._item.build(list(chain.from_iterable(values)))
        array = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items.array, type=self._arrow_type, mask=mask)
        if not items.misfits and not items.absent:
            return Built(array)

        def place(flat: int, inner: str) -> tuple[int, str]:
            index = bisect_right(offsets, flat) - 1
            return index, pointer(flat - offsets[index]) + inner

        return Built(
            array,
            [Misfit(*place(flat, inner), value) for flat, inner, value in items.misfits],
            [Absence(*place(flat, inner)) for flat, inner in items.absent],
        )


class TypedObject:
    """Objects with typed fields, in the order of their names. A name without a column makes the type refuse.

    ``required`` are fields that must be there: an object, or text that is not empty. ``ignored`` are the types of more
    fields, which are no values of it; ``without`` are fields that no object has. Raises ValueError for a name that no
    Struct can have.
    """

    def __init__(
        self,
        column: Object,
        *,
        exact: bool,
        absence_is_null: bool = False,
        required: Mapping[str, type] | None = None,
        ignored: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self._column = column
        self._arrow_fields = list(column.arrow_type)
        self._required = required or {}
        self._fields = {
            name: self._typed(name, child, exact=exact) for name, child in column.fields.items() if name not in without
        }
        described = {
            **dict.fromkeys(column.left_out, (Any, UNSET)),
            **{name: (kind, None) for name, kind in (ignored or {}).items()},
            **{name: self._described(name, field) for name, field in self._fields.items()},
        }
        self.names = sorted(described)
        self._places = {name: place for place, name in enumerate(self.names)}
        self.struct = msgspec.defstruct(
            "Values",
            [
                (f"f{place}", kind, msgspec.field(name=name, **({} if default is ... else {"default": default})))
                for place, (name, (kind, default)) in enumerate(sorted(described.items()))
            ],
            forbid_unknown_fields=True,
            omit_defaults=True,
            kw_only=True,
            gc=False,
        )
        self.annotation = _optional(self.struct, column)
        self.default = _of_absence(column, absence_is_null=absence_is_null)

    def _typed(self, name: str, child: Column, *, exact: bool) -> Typed:
        found = typed(child, exact=exact, absence_is_null=self._column.absence_is_null)
        if self._required.get(name) is dict and not isinstance(found, TypedObject):
            return _Anything(child, absence_is_null=False)
        return found

    def _described(self, name: str, field: Typed) -> tuple[Any, Any]:
        """The type of a field, and what stands for it where it is absent; ``...`` where it must not be."""
        kind = self._required.get(name)
        if kind is dict:
            return field.struct if isinstance(field, TypedObject) else dict[str, Any], ...
        if kind is str:
            return Annotated[str, msgspec.Meta(min_length=1)], ...
        return field.annotation if field.default is None else field.annotation | UnsetType, field.default

    def build(self, values: Sequence[Any], /) -> Built:
        """See ``Typed.build``."""
        if None in values:
            there = [i for i, value in enumerate(values) if value is not None]
            return spread(self.build([values[i] for i in there]), there, len(values))
        return self.built(self.columns(values), len(values))

    def columns(self, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The values of each field, in the order of ``names``."""
        return list(zip(*map(astuple, values), strict=True)) if values else [()] * len(self.names)

    def column(self, columns: Sequence[Sequence[Any]], name: str) -> Sequence[Any]:
        """Those of one field."""
        return columns[self._places[name]]

    def built(self, columns: Sequence[Sequence[Any]], rows: int) -> Built:
        """The same as ``build``, of the values of each field."""
        arrays: list[pa.Array] = []
        misfits: list[Misfit] = []
        absent: list[Absence] = []
        for name, child in self._column.fields.items():
            field = self._fields.get(name)
            if field is None:
                arrays.append(pa.nulls(rows, child.arrow_type))
                continue
            found = self._field(columns[self._places[name]], child, field)
            arrays.append(found.array)
            if found.misfits or found.absent:
                prefix = pointer(name)
                misfits += [Misfit(i, prefix + inner, value) for i, inner, value in found.misfits]
                absent += [Absence(i, prefix + inner) for i, inner in found.absent]
        for name in self._column.left_out:
            values = columns[self._places[name]]
            misfits += [Misfit(i, pointer(name), value) for i, value in enumerate(values) if value is not UNSET]
        return Built(pa.StructArray.from_arrays(arrays, fields=self._arrow_fields), misfits, absent)

    def _field(self, values: Sequence[Any], child: Column, field: Typed) -> Built:
        if field.default is None or UNSET not in values:
            return field.build(values)
        there = [i for i, value in enumerate(values) if value is not UNSET]
        found = spread(field.build([values[i] for i in there]), there, len(values))
        if child.null_is_stored and not self._column.absence_is_null:
            found.absent.extend(Absence(i, "") for i, value in enumerate(values) if value is UNSET)
        return found
