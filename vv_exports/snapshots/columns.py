"""Column types for JSON values, and the building of Arrow arrays from decoded values without losing any.

A value that does not fit its column is stored as a typed null and handed back as a misfit. What any other
typed null means follows from the column alone: where ``null_is_stored``, it is JSON null, and an absent
property is handed back as an absence; elsewhere it is an absent property. Types do not depend on values, and
equal values give equal arrays. Knows nothing of JSON Schema, records or files.

Building is columnar: on the path of fitting values every step is one call into C for a whole column.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa

from vv_exports.domain.json_text import encode_each_sorted
from vv_exports.snapshots.instants import parse_instant
from vv_exports.snapshots.json_pointer import pointer


class Misfit(NamedTuple):
    """``values[position]`` holds ``value`` at ``pointer``, and the column cannot."""

    position: int
    pointer: str
    value: Any


class Absence(NamedTuple):
    """``values[position]`` has no property at ``pointer``, where a typed null would mean JSON null."""

    position: int
    pointer: str


@dataclass(frozen=True)
class Built:
    """The array of a column's values, as long as they are many, and what the array cannot say."""

    array: pa.Array
    misfits: list[Misfit] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)


@dataclass(frozen=True)
class Column(ABC):
    """The type of the values in one place of a document. ``nullable``: JSON null may be stored in it."""

    nullable: bool = field(default=False, kw_only=True)

    @property
    @abstractmethod
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of the column."""

    @property
    def null_is_stored(self) -> bool:
        """Whether a typed null means JSON null, so that an absent property must be reported."""
        return self.nullable

    @property
    def width(self) -> int:
        """How many columns it is in a file."""
        return 1

    @abstractmethod
    def build(self, values: Sequence[Any]) -> Built:
        """The array of these decoded JSON values. A batch's text must stay below 2 GiB in each column."""


_DOES_NOT_FIT = object()


@dataclass(frozen=True)
class _Scalar(Column):
    """A column without columns in it."""

    exact: ClassVar[frozenset[type]]
    """Values of these types are given to Arrow as they are; where Arrow refuses one, each is looked at."""

    def build(self, values: Sequence[Any]) -> Built:
        types = set(map(type, values))
        if types <= self.exact or (self.nullable and types <= self.exact | {type(None)}):
            try:
                return Built(pa.array(values, self.arrow_type))
            except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
                pass
        return self._build_one_by_one(values)

    def _build_one_by_one(self, values: Sequence[Any]) -> Built:
        stored: list[Any] = [None] * len(values)
        misfits = []
        for position, value in enumerate(values):
            if value is None and self.nullable:
                continue
            fitting = self.fit(value)
            if fitting is _DOES_NOT_FIT:
                misfits.append(Misfit(position, "", value))
            else:
                stored[position] = fitting
        return Built(pa.array(stored, self.arrow_type), misfits)

    @abstractmethod
    def fit(self, value: Any) -> Any:
        """What Arrow is to store for a value, or ``_DOES_NOT_FIT``."""


@dataclass(frozen=True)
class Text(_Scalar):
    """Strings that UTF-8 can hold."""

    exact = frozenset({str})
    arrow_type = pa.string()

    def fit(self, value: Any) -> Any:
        if type(value) is not str:
            return _DOES_NOT_FIT
        try:
            value.encode()
        except UnicodeEncodeError:
            return _DOES_NOT_FIT
        return value


@dataclass(frozen=True)
class Integer(_Scalar):
    """Integers of 64 bits; ``5.0`` is the integer 5, and ``-0.0`` is not the integer 0."""

    exact = frozenset({int})
    arrow_type = pa.int64()

    def fit(self, value: Any) -> Any:
        if type(value) is float and value.is_integer() and str(value) != "-0.0":
            value = int(value)
        return value if type(value) is int and -(2**63) <= value < 2**63 else _DOES_NOT_FIT


@dataclass(frozen=True)
class Number(_Scalar):
    """Doubles, and the integers that a double holds exactly."""

    exact = frozenset({float, int})
    arrow_type = pa.float64()

    def fit(self, value: Any) -> Any:
        if type(value) is int:
            try:
                return float(value) if float(value) == value else _DOES_NOT_FIT
            except OverflowError:
                return _DOES_NOT_FIT
        return value if type(value) is float else _DOES_NOT_FIT


@dataclass(frozen=True)
class Boolean(_Scalar):
    """``true`` and ``false``."""

    exact = frozenset({bool})
    arrow_type = pa.bool_()

    def fit(self, value: Any) -> Any:
        return value if type(value) is bool else _DOES_NOT_FIT


@dataclass(frozen=True)
class Timestamp(Column):
    """RFC 3339 text as an instant in UTC, to the microsecond. The instant is kept, its spelling is not."""

    arrow_type = pa.timestamp("us", tz="UTC")

    def build(self, values: Sequence[Any]) -> Built:
        types = set(map(type, values))
        if types == {str} and len(set(values)) == 1:  # as in most runs, which are executed at once
            instant = parse_instant(values[0])
            if instant is not None:
                return Built(pa.repeat(pa.scalar(instant, self.arrow_type), len(values)))
        texts = {value for value in values if type(value) is str}
        instants: dict[Any, int | None] = {text: parse_instant(text) for text in texts}
        stored = [instants[value] if type(value) is str else None for value in values]
        misfits = [
            Misfit(position, "", value)
            for position, (value, instant) in enumerate(zip(values, stored, strict=True))
            if instant is None and (value is not None or not self.nullable)
        ]
        return Built(pa.array(stored, self.arrow_type), misfits)


Allows = Literal["anything", "nothing", "object", "array", "mixed"]
"""What a schema says of a place for which it gives no column type: nothing at all; no value, or null alone; an object
or an array without saying of what; values that no one column holds, or that cannot be told."""


@dataclass(frozen=True)
class Json(Column):
    """Any value as JSON text, its names sorted; null is the text ``null``, ``nullable`` or not.

    ``reason`` and ``allows`` say why it has no type. Columns of JSON text are equal whatever they say.
    """

    nullable: bool = field(default=True, kw_only=True, compare=False)
    reason: str = field(default="", compare=False)
    allows: Allows = field(default="mixed", kw_only=True, compare=False)
    arrow_type = pa.string()

    @property
    def null_is_stored(self) -> bool:
        return False

    def build(self, values: Sequence[Any]) -> Built:
        return Built(pa.array(encode_each_sorted(values), self.arrow_type))


@dataclass(frozen=True)
class List(Column):
    """Arrays of values of one type. An element is never absent."""

    item: Column

    @cached_property
    def arrow_type(self) -> pa.DataType:
        return pa.list_(self.item.arrow_type)

    @property
    def width(self) -> int:
        return self.item.width

    def build(self, values: Sequence[Any]) -> Built:
        fitting = _only(list, values, self.nullable)
        offsets = list(accumulate(map(len, fitting.values), initial=0))
        items = self.item.build(list(chain.from_iterable(fitting.values)))

        def place(flat: int, inner: str) -> tuple[int, str]:
            # The last list that starts here: the ones before it with the same start are empty.
            index = bisect_right(offsets, flat) - 1
            return index, pointer(flat - offsets[index]) + inner

        return fitting.spread(
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items.array, type=self.arrow_type),
            [Misfit(*place(flat, inner), value) for flat, inner, value in items.misfits],
            [Absence(*place(flat, inner)) for flat, inner in items.absent],
        )


@dataclass(frozen=True)
class Object(Column):
    """Objects with declared properties; others are misfits.

    ``absence_is_null``: the absence of one of the object's own fields need not be told from null. ``left_out``: the
    declared names that have no column, and why; their values are misfits like those of undeclared names.
    """

    fields: Mapping[str, Column]
    absence_is_null: bool = field(default=False, kw_only=True)
    left_out: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)

    @cached_property
    def arrow_type(self) -> pa.StructType:
        if not self.fields:
            raise ValueError("an object without fields has no Parquet type: keep it as Json")
        return pa.struct([pa.field(name, column.arrow_type) for name, column in self.fields.items()])

    @property
    def width(self) -> int:
        return sum(column.width for column in self.fields.values())

    def build(self, values: Sequence[Any]) -> Built:
        fitting = _only(dict, values, self.nullable)
        objects = fitting.values
        shapes = set(map(tuple, objects))  # the names in an object; most documents of a prompt share a few
        everywhere = set(self.fields).intersection(*shapes)
        misfits = _undeclared(objects, shapes, self.fields)
        absent: list[Absence] = []
        arrays = []
        for name, column in self.fields.items():
            if name in everywhere:
                built = column.build(list(map(itemgetter(name), objects)))
            else:
                built = self._build_optional(name, column, objects)
            prefix = pointer(name)
            arrays.append(built.array)
            misfits += [Misfit(position, prefix + inner, value) for position, inner, value in built.misfits]
            absent += [Absence(position, prefix + inner) for position, inner in built.absent]
        struct = pa.StructArray.from_arrays(arrays, fields=list(self.arrow_type))
        return fitting.spread(struct, misfits, absent)

    def _build_optional(self, name: str, column: Column, objects: Sequence[Any]) -> Built:
        positions = [position for position, value in enumerate(objects) if name in value]
        built = column.build([objects[position][name] for position in positions])
        found = spread(built, positions, len(objects))
        if column.null_is_stored and not self.absence_is_null:
            missing = [Absence(position, "") for position, value in enumerate(objects) if name not in value]
            found.absent.extend(missing)
        return found


def spread(built: Built, positions: Sequence[int], rows: int) -> Built:
    """What was built of the values in these positions alone, for so many rows, with typed nulls between."""
    indexes: list[int | None] = [None] * rows
    for index, position in enumerate(positions):
        indexes[position] = index
    return Built(
        built.array.take(pa.array(indexes, pa.int64())),
        [Misfit(positions[index], inner, value) for index, inner, value in built.misfits],
        [Absence(positions[index], inner) for index, inner in built.absent],
    )


@dataclass(frozen=True)
class _Fitting:
    """The values of a column's own JSON type among ``rows`` values; ``positions`` is None where all are."""

    positions: list[int] | None
    values: Sequence[Any]
    rows: int
    misfits: list[Misfit]

    def spread(self, array: pa.Array, misfits: list[Misfit], absent: list[Absence]) -> Built:
        """What was built from the fitting values alone, for all rows, with typed nulls between."""
        built = Built(array, misfits, absent)
        if self.positions is None:
            return built
        found = spread(built, self.positions, self.rows)
        return Built(found.array, self.misfits + found.misfits, found.absent)


def _only(wanted: type, values: Sequence[Any], nullable: bool) -> _Fitting:
    if set(map(type, values)) <= {wanted}:
        return _Fitting(None, values, len(values), [])
    positions = [position for position, value in enumerate(values) if type(value) is wanted]
    misfits = [
        Misfit(position, "", value)
        for position, value in enumerate(values)
        if type(value) is not wanted and (value is not None or not nullable)
    ]
    return _Fitting(positions, [values[position] for position in positions], len(values), misfits)


def _undeclared(objects: Sequence[Any], shapes: set[tuple[str, ...]], fields: Mapping[str, Column]) -> list[Misfit]:
    names = set(chain.from_iterable(shapes)).difference(fields)
    if not names:
        return []
    return [
        Misfit(position, pointer(name), value[name])
        for position, value in enumerate(objects)
        for name in value
        if name in names
    ]
