"""The rows of a typed batch that certainly keep to a schema, found by kernels over columns. Which of the others do is
for the validator to say: decoding an answer again costs more than typing it did.

Certain is what the columns prove. A value in a typed column has the column's type; nothing in ``rescued`` means that
nothing else was there, no property that the schema does not name among it; ``absent`` names what was not there where a
typed null is JSON null, and elsewhere a typed null is what was not there. Of keywords the screen knows those that most
prompts use; a schema with another one anywhere has no screen, and all of its answers are validated.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jsonschema_rs
import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.domain.json_text import encode_text
from vv_exports.snapshots.columns import Boolean, Column, Integer, Json, List, Number, Object, Text
from vv_exports.snapshots.json_pointer import pointer, tokens

_SAYS_NOTHING = frozenset(
    {
        "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "example", "examples",
        "deprecated", "readOnly", "writeOnly", "nullable", "properties", "required", "items", "type",
    }
)  # fmt: skip
"""Keywords that assert nothing, and those that are looked at wherever they stand."""
_OF_EXTRA = frozenset({"additionalProperties", "unevaluatedProperties"})
"""They look at properties that no schema names, and those are in ``rescued``."""
_LENGTHS = {"minLength": pc.less, "maxLength": pc.greater}
_BOUNDS = {
    "minimum": pc.less,
    "maximum": pc.greater,
    "exclusiveMinimum": pc.less_equal,
    "exclusiveMaximum": pc.greater_equal,
}
_OF_A_VALUE = frozenset({"pattern", "format", "multipleOf", "const"})
"""What is asked of the validator for each distinct value."""
_TYPES: Mapping[type[Column], frozenset[str]] = {
    Text: frozenset({"string"}),
    Integer: frozenset({"integer"}),
    Number: frozenset({"number", "integer"}),
    Boolean: frozenset({"boolean"}),
}
_EXACT = 2**53
_NO_FLOATS_AS_INTEGERS = "draft-04"

_Rows: TypeAlias = pa.Array | None
_Rule: TypeAlias = Callable[[pa.Array, _Rows], Iterator[pa.Array]]
"""Of the values of a column, and the row of each (None: they are the rows), the rows that are not certain."""


class _NoScreenError(Exception):
    """A schema says what the columns do not tell."""


@dataclass(frozen=True)
class Screen:
    """``rule`` looks at ``metadata``, which is of ``type``. ``may_be_absent`` is a regular expression of the pointers
    that may be."""

    type: pa.DataType
    rule: _Rule
    may_be_absent: str

    def doubtful(self, batch: pa.RecordBatch) -> list[int]:
        """The rows of which the columns do not prove that they keep to the schema, in their order."""
        found = [_where(pc.is_valid(batch.column("rescued")), None)]
        absent = batch.column("absent")
        if absent.null_count < len(absent):
            pointers = pc.list_flatten(absent)
            wrong = pc.invert(pc.match_substring_regex(pointers, self.may_be_absent))
            in_metadata = pc.starts_with(pointers, "/metadata/")
            found.append(_where(pc.and_(wrong, in_metadata), pc.list_parent_indices(absent)))
        found += self.rule(batch.column("metadata"), None)
        rows = pa.concat_arrays([one.cast(pa.int64()) for one in found])
        return sorted(pc.unique(rows).to_pylist()) if len(rows) else []


def screen_of(schema: Any, column: Column) -> Screen | None:
    """None where a column of ``metadata`` does not tell whether an answer keeps to a schema, which is one that the
    validator takes."""
    if not isinstance(schema, dict) or _NO_FLOATS_AS_INTEGERS in str(schema.get("$schema", "")):
        return None
    compiled = _Compiler(schema)
    try:
        rule = compiled.rule(schema, column, "/metadata")
    except _NoScreenError:
        return None
    return Screen(column.arrow_type, rule, "^(?:" + "|".join(compiled.may_be_absent or ["(?:[^/])"]) + ")$")


class _Compiler:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._text = encode_text(root)
        self.may_be_absent: list[str] = []

    def rule(self, schema: Any, column: Column, place: str) -> _Rule:
        """What the values of a column, which are not null, have to keep to."""
        if schema is True:
            return _anything
        if not isinstance(schema, dict):
            raise _NoScreenError
        if "$ref" in schema:
            return self.rule(self._referred(schema, column), column, place)
        if combined := {"anyOf", "oneOf"} & schema.keys():
            return self.rule(self._or_null(schema, *combined), column, place)
        return self._typed(schema, column, place)

    def _typed(self, schema: dict[str, Any], column: Column, place: str) -> _Rule:
        types, allows_null = _types(schema)
        if column.null_is_stored and not allows_null:
            raise _NoScreenError
        match column:
            case Json():
                return self._untyped(schema, types)
            case Object():
                return self._object(schema, types, column, place)
            case List():
                return self._list(schema, types, column, place)
        if types is None or not types <= _TYPES.get(type(column), frozenset()):
            raise _NoScreenError
        if types == {"integer"} and isinstance(column, Number):
            raise _NoScreenError
        return self._scalar(schema, column)

    def _referred(self, schema: dict[str, Any], column: Column) -> Any:
        """What a reference in a document without addresses leads to."""
        reference = schema["$ref"]
        if (
            schema.keys() - _SAYS_NOTHING - {"$ref"}
            or {"type", "properties", "required", "items", "$id"} & schema.keys()
        ):
            raise _NoScreenError
        if '"$id"' in self._text or not reference.startswith("#/") or isinstance(column, Json):
            raise _NoScreenError
        found: Any = self._root
        try:
            for token in tokens(reference[1:]):
                found = found[token]
        except (LookupError, TypeError, ValueError):
            raise _NoScreenError from None
        return found

    def _or_null(self, schema: dict[str, Any], name: str, *more: str) -> dict[str, Any]:
        """``{"anyOf": [T, {"type": "null"}]}`` as one schema."""
        parts = schema[name]
        if (
            more
            or schema.keys() - _SAYS_NOTHING - {name}
            or {"type", "properties", "required", "items"} & schema.keys()
        ):
            raise _NoScreenError
        others = [part for part in parts if part != {"type": "null"}]
        if len(others) != 1 or len(parts) != 2 or not isinstance(others[0], dict):  # noqa: PLR2004
            raise _NoScreenError
        (other,) = others
        if not isinstance(other.get("type"), str) or other["type"] == "null" or {"enum", "const"} & other.keys():
            raise _NoScreenError
        return {**other, "type": [other["type"], "null"]}

    def _untyped(self, schema: dict[str, Any], types: frozenset[str] | None) -> _Rule:
        if schema.keys() - _SAYS_NOTHING - _OF_EXTRA or {"properties", "required", "items"} & schema.keys():
            raise _NoScreenError
        if types is None:
            return _anything
        begins = {"object": "{", "array": "["}
        if not types <= begins.keys():
            raise _NoScreenError
        _, allows_null = _types(schema)

        def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
            fine = pc.equal(values, "null") if allows_null else pc.equal(values, "")
            for name in types:
                fine = pc.or_(fine, pc.starts_with(values, begins[name]))
            yield _where(pc.invert(fine), rows)

        return rule

    def _object(self, schema: dict[str, Any], types: frozenset[str] | None, column: Object, place: str) -> _Rule:
        named, required = schema.get("properties", {}), schema.get("required", [])
        if types not in (None, frozenset({"object"})) or schema.keys() - _SAYS_NOTHING - _OF_EXTRA or "items" in schema:
            raise _NoScreenError
        if column.left_out or set(named) != set(column.fields) or set(required) - set(named):
            raise _NoScreenError
        rules: list[tuple[bool, _Rule]] = []
        for name, inner in column.fields.items():
            at = place + re.escape(pointer(name))
            must_be_there = name in required
            if inner.null_is_stored and not must_be_there:
                self.may_be_absent.append(at)
            rules.append((must_be_there and not inner.null_is_stored, self.rule(named[name], inner, at)))

        def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
            there = None if values.null_count == 0 else pc.is_valid(values)
            for (must_be_there, of_values), inner in zip(rules, values.flatten(), strict=True):
                if must_be_there and inner.null_count:
                    missing = pc.is_null(inner)
                    yield _where(missing if there is None else pc.and_(missing, there), rows)
                yield from of_values(inner, rows)

        return rule

    def _list(self, schema: dict[str, Any], types: frozenset[str] | None, column: List, place: str) -> _Rule:
        if types not in (None, frozenset({"array"})) or "properties" in schema or "required" in schema:
            raise _NoScreenError
        if schema.keys() - _SAYS_NOTHING - {"minItems", "maxItems"}:
            raise _NoScreenError
        of_items = self.rule(schema.get("items", True), column.item, place + "/[0-9]+")
        least, most = schema.get("minItems", 0), schema.get("maxItems")

        def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
            if least or most is not None:
                lengths = pc.list_value_length(values)
                if least:
                    yield _where(pc.less(lengths, int(least)), rows)
                if most is not None:
                    yield _where(pc.greater(lengths, int(most)), rows)
            parents = pc.list_parent_indices(values)
            yield from of_items(pc.list_flatten(values), parents if rows is None else rows.take(parents))

        return rule

    def _scalar(self, schema: dict[str, Any], column: Column) -> _Rule:
        known = {"enum", "pattern", "format", "const"}
        known |= _LENGTHS.keys() if isinstance(column, Text) else set()
        known |= _BOUNDS.keys() if isinstance(column, Integer | Number) else set()
        known |= {"multipleOf"} if isinstance(column, Integer) else set()
        if schema.keys() - _SAYS_NOTHING - known or {"properties", "required", "items"} & schema.keys():
            raise _NoScreenError
        rules = [_length(int(schema[name]), breaks) for name, breaks in _LENGTHS.items() if name in schema]
        rules += [_bound(schema[name], column, breaks) for name, breaks in _BOUNDS.items() if name in schema]
        if "enum" in schema:
            rules.append(_one_of(schema["enum"], column))
        if asked := {name: schema[name] for name in _OF_A_VALUE if name in schema}:
            draft = {"$schema": self._root["$schema"]} if "$schema" in self._root else {}
            rules.append(_asked({**draft, **asked}, column))

        def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
            for one in rules:
                yield from one(values, rows)

        return rule


def _anything(_values: pa.Array, _rows: _Rows) -> Iterator[pa.Array]:
    yield from ()


def _types(schema: dict[str, Any]) -> tuple[frozenset[str] | None, bool]:
    """The types that a schema allows but for null, None where it names none; and whether it allows null."""
    if "type" not in schema:
        return None, True
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return frozenset(named) - {"null"}, "null" in named


def _kind_of(column: Column) -> type | None:
    return str if isinstance(column, Text) else int if isinstance(column, Integer) else None


def _one_of(allowed: Sequence[Any], column: Column) -> _Rule:
    kind = _kind_of(column)
    values = [value for value in allowed if value is not None]
    if kind is None or any(type(value) is not kind for value in values):
        raise _NoScreenError
    if column.null_is_stored and None not in allowed:
        raise _NoScreenError
    if kind is int and any(not -(2**63) <= value < 2**63 for value in values):
        raise _NoScreenError
    try:
        known = pa.array(values, column.arrow_type)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise _NoScreenError from None

    def rule(found: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
        yield _where(pc.and_(pc.invert(pc.is_in(found, known)), pc.is_valid(found)), rows)

    return rule


def _length(limit: int, breaks: Callable[..., pa.Array]) -> _Rule:
    def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
        yield _where(breaks(pc.utf8_length(values), limit), rows)

    return rule


def _bound(limit: Any, column: Column, breaks: Callable[..., pa.Array]) -> _Rule:
    if type(limit) not in {int, float} or abs(limit) > _EXACT:
        raise _NoScreenError  # draft 4 has booleans here
    if isinstance(column, Integer) and type(limit) is float:
        if not limit.is_integer():
            raise _NoScreenError
        limit = int(limit)
    scalar = pa.scalar(limit, column.arrow_type)

    def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
        yield _where(breaks(values, scalar), rows)

    return rule


def _asked(schema: dict[str, Any], column: Column) -> _Rule:
    if not isinstance(schema.get("multipleOf", 1), int):
        raise _NoScreenError
    if "const" in schema and (column.null_is_stored or type(schema["const"]) is not _kind_of(column)):
        raise _NoScreenError
    validator = jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)

    def rule(values: pa.Array, rows: _Rows) -> Iterator[pa.Array]:
        broken = [one for one in pc.unique(values).to_pylist() if one is not None and not validator.is_valid(one)]
        if broken:
            yield _where(pc.is_in(values, pa.array(broken, values.type)), rows)

    return rule


def _where(mask: pa.Array, rows: _Rows) -> pa.Array:
    """The rows where a mask is true. Null, as of what is not there, is not."""
    if not pc.any(mask).as_py():
        return pa.array([], pa.int64())
    return (
        pc.indices_nonzero(pc.fill_null(mask, False))
        if rows is None
        else rows.filter(mask, null_selection_behavior="drop")
    )
