"""JSON Schema to column types. It knows nothing of the documents that come, only of what was announced.

Any JSON value may stand where a schema is expected. A place that cannot be typed (a property, the items of an
array, the root) is kept as JSON text, with the reason; nothing raises. Keywords that only narrow values down
(``minimum``, ``pattern``, ``required``, ``format``, …) play no part: a column must hold what comes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from vv_exports.snapshots.columns import Allows, Boolean, Column, Integer, Json, List, Number, Object, Text
from vv_exports.snapshots.field_names import FieldNames, can_name_a_column
from vv_exports.snapshots.json_pointer import pointer, tokens

MAX_DEPTH = 32
"""Columns inside columns; what is deeper is kept as JSON."""

READABLE_NAMES = 2
"""The layout version since which a name that a reader cannot hold has no column."""

_MAX_OPEN_SCHEMAS = 96  # bounds the recursion of combinators, which add no columns
_MAX_SCHEMAS = 20_000  # bounds references that multiply: a schema of a few lines can describe 2**32 columns

_SCALARS: Mapping[str, Column] = {
    "string": Text(),
    "integer": Integer(),
    "number": Number(),
    "boolean": Boolean(),
}
_VALUE_TYPES: Mapping[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True)
class CompiledSchema:
    """The column for the documents of one schema.

    ``kept_as_json`` gives the reason for every place that stays JSON text. A place is a JSON Pointer into the
    documents, with ``*`` for the items of an array: ``/people/*/address``.
    """

    column: Object | Json
    kept_as_json: Mapping[str, str]


def compile_schema(schema: Any, layout_version: int = READABLE_NAMES) -> CompiledSchema:
    """The column for documents that are always objects, never null. Never raises, whatever the schema is.

    ``layout_version``: as that version of the layout had it.
    """
    readable_names = layout_version >= READABLE_NAMES
    column = _Compiler(schema, any_name=readable_names).place(schema, 0, frozenset())
    if readable_names:
        column = _with_readable_names(column)
    if not isinstance(column, Object | Json):
        column = Json(reason="the schema does not describe an object")
    column = replace(column, nullable=False)
    return CompiledSchema(column, MappingProxyType(dict(kept_as_json(column))))


def kept_as_json(column: Column, place: str = "") -> Iterator[tuple[str, str]]:
    """Each place in documents of this column whose values have no typed column, and why."""
    match column:
        case Json():
            yield place, column.reason
        case List():
            yield from kept_as_json(column.item, place + "/*")
        case Object():
            for name, child in column.fields.items():
                yield from kept_as_json(child, place + pointer(name))
            for name, reason in column.left_out.items():
                # Half a surrogate pair has no UTF-8, and a place is stored and shown as text.
                yield place + pointer(name).encode(errors="backslashreplace").decode(), reason


class _UntypedError(Exception):
    """There is no column type for a place; the message says why."""

    def __init__(self, reason: str, allows: Allows = "mixed") -> None:
        self.allows = allows
        super().__init__(reason)


@dataclass(frozen=True)
class _Anything(Column):
    """A schema that says nothing of the type."""

    @property
    def arrow_type(self) -> Any:
        raise NotImplementedError

    def build(self, values: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class _OnlyNull(_Anything):
    """A schema that allows null and nothing else."""


class _Compiler:
    """Compiles one schema document. ``depth`` counts the columns around a place, ``open_schemas`` are the
    identities of the schemas around it: meeting one of them again is recursion."""

    def __init__(self, root: Any, any_name: bool) -> None:
        self._root = root
        self._any_name = any_name
        self._schemas = 0

    def place(self, schema: Any, depth: int, open_schemas: frozenset[int]) -> Column:
        """The column of a property, of items or of the root."""
        try:
            return _storable(self._column(schema, depth, open_schemas))
        except _UntypedError as why:
            return Json(reason=str(why), allows=why.allows)

    def _column(self, schema: Any, depth: int, open_schemas: frozenset[int]) -> Column:
        """The column that all of a schema's keywords together describe. Raises _UntypedError."""
        if depth > MAX_DEPTH:
            raise _UntypedError(f"deeper than {MAX_DEPTH} levels")
        if schema is True:
            return _Anything()
        if schema is False:
            raise _UntypedError("the schema allows no value", "nothing")
        if not isinstance(schema, dict):
            raise _UntypedError(f"the schema is {_kind(schema)}, not an object")
        if id(schema) in open_schemas:
            raise _UntypedError("the schema contains itself")
        self._schemas += 1
        if len(open_schemas) >= _MAX_OPEN_SCHEMAS or self._schemas > _MAX_SCHEMAS:
            raise _UntypedError("the schema is too large")
        inside = open_schemas | {id(schema)}
        column = reduce(_both, self._conditions(schema, depth, inside), self._own(schema, depth, inside))
        return replace(column, nullable=True) if schema.get("nullable") is True else column

    def _conditions(self, schema: dict[str, Any], depth: int, inside: frozenset[int]) -> Iterator[Column]:
        """What holds beside the schema's own keywords."""
        if "$ref" in schema:
            yield self._column(self._resolve(schema["$ref"]), depth, inside)
        if "allOf" in schema:
            for part in _schemas(schema, "allOf"):
                yield self._column(part, depth, inside)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield _one_of(_schemas(schema, keyword), lambda part: self._column(part, depth, inside))

    def _own(self, schema: dict[str, Any], depth: int, inside: frozenset[int]) -> Column:
        """What a schema's own keywords say, without those that combine schemas."""
        if "type" in schema:
            names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            return _one_of(names, lambda name: self._typed(name, schema, depth, inside))
        if "const" in schema:
            return _type_of(schema["const"])
        if "enum" in schema:
            if not isinstance(schema["enum"], list):
                raise _UntypedError(f"enum is {_kind(schema['enum'])}, not an array")
            return _one_of(schema["enum"], _type_of)
        implied = {"properties": "object", "items": "array", "prefixItems": "array"}
        names = sorted({name for keyword, name in implied.items() if keyword in schema})
        if not names:
            return _Anything()
        return _one_of(names, lambda name: self._typed(name, schema, depth, inside))

    def _typed(self, name: Any, schema: dict[str, Any], depth: int, inside: frozenset[int]) -> Column:
        if name == "object":
            return self._object(schema.get("properties", {}), depth, inside)
        if name == "array":
            return self._array(schema, depth, inside)
        if name == "null":
            return _OnlyNull()
        if not isinstance(name, str) or name not in _SCALARS:
            raise _UntypedError(f"{str(name)[:40]!r} is not a type of JSON Schema")
        return _SCALARS[name]

    def _object(self, properties: Any, depth: int, inside: frozenset[int]) -> Column:
        if not isinstance(properties, dict):
            raise _UntypedError(f"properties is {_kind(properties)}, not an object", "object")
        for name in properties:
            if not self._any_name and not can_name_a_column(name):
                raise _UntypedError(f"the property name {name!r} cannot be a column's name")
        return Object({name: self.place(part, depth + 1, inside) for name, part in properties.items()})

    def _array(self, schema: dict[str, Any], depth: int, inside: frozenset[int]) -> Column:
        items = schema.get("items", True)
        if "prefixItems" in schema or isinstance(items, list):
            raise _UntypedError("an array whose items have types by position")
        if isinstance(items, bool) or items == {}:
            raise _UntypedError("an array that does not say what its items are", "array")
        return List(self.place(items, depth + 1, inside))

    def _resolve(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _UntypedError(f"$ref {str(reference)[:80]!r} leaves the schema")
        found = self._root
        try:
            for token in tokens(unquote(reference[1:])):
                found = found[int(token)] if isinstance(found, list) else found[token]
        except (LookupError, TypeError, ValueError):
            raise _UntypedError(f"$ref {reference[:80]!r} leads nowhere") from None
        return found


def _storable(column: Column) -> Column:
    if isinstance(column, _OnlyNull):
        raise _UntypedError("allows nothing but null", "nothing")
    if isinstance(column, _Anything):
        raise _UntypedError("does not say which type it has", "anything")
    if isinstance(column, Object) and not column.fields:
        raise _UntypedError("an object without declared properties", "object")
    return column


def _with_readable_names(column: Column) -> Column:
    """The column without the fields whose names readers cannot hold."""
    match column:
        case List():
            return replace(column, item=_with_readable_names(column.item))
        case Object():
            names = FieldNames()
            fields = {name: _with_readable_names(child) for name, child in column.fields.items() if names.take(name)}
            if not fields:
                return Json(reason="; ".join(names.left_out.values()), allows="object")
            return replace(column, fields=fields, left_out=names.left_out)
        case _:
            return column


def _one_of(alternatives: Sequence[Any], column_of: Callable[[Any], Column]) -> Column:
    """The column that holds the values of any alternative."""
    columns = []
    for number, alternative in enumerate(alternatives):
        try:
            columns.append(column_of(alternative))
        except _UntypedError as why:
            others = [*alternatives[:number], *alternatives[number + 1 :]]
            only = all(other in (None, "null", {"type": "null"}) for other in others)
            raise _UntypedError(str(why), why.allows if only else "mixed") from None
    if not columns:
        raise _UntypedError("a list of alternatives that is empty")
    nullable = any(column.nullable or isinstance(column, _OnlyNull) for column in columns)
    typed = [replace(column, nullable=nullable) for column in columns if not isinstance(column, _OnlyNull)]
    if not typed:
        return _OnlyNull()
    for column in typed:
        if isinstance(column, _Anything):
            return column
    if {type(column) for column in typed} == {Integer, Number}:
        return Number(nullable=nullable)
    if any(column != typed[0] for column in typed):
        kinds = sorted({type(column).__name__ for column in typed})
        raise _UntypedError("its alternatives have different types: " + ", ".join(kinds))
    return typed[0]


def _both(one: Column, other: Column) -> Column:
    """The column of the values that two schemas allow."""
    nullable = one.nullable and other.nullable
    for column, companion in ((one, other), (other, one)):
        if type(column) is _Anything:
            return companion
    if isinstance(one, Object) and isinstance(other, Object):
        fields = {**one.fields, **other.fields}
        for name in one.fields.keys() & other.fields.keys():
            fields[name] = _both_in_a_place(one.fields[name], other.fields[name])
        return Object(fields, nullable=nullable)
    if {type(one), type(other)} == {Integer, Number}:
        return Integer(nullable=nullable)
    merged = replace(one, nullable=nullable)
    if merged != replace(other, nullable=nullable):
        raise _UntypedError(f"{type(one).__name__} and {type(other).__name__} at once")
    return merged


def _both_in_a_place(one: Column, other: Column) -> Column:
    for column in (one, other):
        if isinstance(column, Json):
            return column
    try:
        return _both(one, other)
    except _UntypedError as why:
        return Json(reason=str(why))


def _type_of(value: Any) -> Column:
    """The type of a value in an ``enum`` or ``const``."""
    if value is None:
        return _OnlyNull()
    if type(value) not in _VALUE_TYPES:
        raise _UntypedError(f"{_kind(value)} among the allowed values")
    return _SCALARS[_VALUE_TYPES[type(value)]]


def _schemas(schema: dict[str, Any], keyword: str) -> list[Any]:
    parts = schema[keyword]
    if not isinstance(parts, list) or not parts:
        raise _UntypedError(f"{keyword} is not a list of schemas")
    return parts


def _kind(value: Any) -> str:
    names = {type(None): "null", dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")
