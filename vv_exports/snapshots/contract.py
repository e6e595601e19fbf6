"""A prompt's JSON Schema as the contract of its answers: which of them break it, where, and why.

``jsonschema-rs`` decides. The draft is the one that ``$schema`` names, 2020-12 where it names none. Formats are
asserted in every draft, since who writes one into a prompt's schema expects it. ``nullable: true`` is OpenAPI's: null
is allowed beside the type, as in the columns. A schema is untrusted input: nothing is fetched, and what has no bound is
not checked against at all, which ``problem`` says (``schema_limits``).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
import pyarrow as pa

from vv_exports.domain.json_text import decode, encode_text
from vv_exports.snapshots.contract_screen import Screen, screen_of
from vv_exports.snapshots.json_pointer import pointer
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.schema_limits import SUBSCHEMAS, SchemaLimitError, check_limits

MOST_OF_A_ROW = 20
"""Violations that are told of one row; there may be as many as it has values."""

_LATEST = "https://json-schema.org/draft/2020-12/schema"
_NO_DRAFT = frozenset({"http://json-schema.org/schema", "https://json-schema.org/schema"})
_BACKTRACKS = 100_000
_PATTERN_BYTES = 1 << 20
_PATTERNS = jsonschema_rs.FancyRegexOptions(
    backtrack_limit=_BACKTRACKS, size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES
)
_SAID = 200
_UNDECIDED = frozenset({"backtrackLimitExceeded", "regexEngineFailure"})


class Violation(NamedTuple):
    """One place of one answer that breaks the schema.

    ``place`` is a JSON Pointer into ``metadata`` with ``*`` for items of arrays, ``pointer`` the exact one. A property
    that is missing has its own place; one that no schema allows has that of the object. ``keyword`` is the schema's.
    ``message`` says what is expected, and never what came but for its type: values may be secret.
    """

    place: str
    pointer: str
    keyword: str
    message: str


@dataclass(frozen=True)
class Contract:
    """What answers have to keep to. ``problem`` says why they cannot be checked; None where they can."""

    problem: str | None
    _validator: Any = None
    _screen: Screen | None = None

    def violations(self, batch: pa.RecordBatch, answers: pa.StringArray) -> dict[int, tuple[Violation, ...]]:
        """What breaks the contract, by row. ``batch`` has the typed columns of a table with ``metadata``, and
        ``answers`` the metadata of each row as JSON text. Nothing where there is a ``problem``."""
        if self._validator is None:
            return {}
        rows: Sequence[int] = range(len(answers))
        if self._screen is not None and batch.schema.field("metadata").type == self._screen.type:
            rows = self._screen.doubtful(batch)
        found = {}
        for row in rows:
            if broken := self.violations_of(answers[row].as_buffer()):
                found[row] = broken
        return found

    def violations_of(self, answer: bytes | memoryview | pa.Buffer) -> tuple[Violation, ...]:
        """What breaks the contract in one answer as JSON text: at most MOST_OF_A_ROW."""
        text = bytes(answer)
        try:
            value = decode(text if b"\\u" not in text else _HALVES.sub(_mended, text))
            if self._validator.is_valid(value):
                return ()
            return tuple(islice(_violations(self._validator, value), MOST_OF_A_ROW))
        except ValueError as error:  # deeper than the validator goes
            return (Violation("", "", "", f"cannot be checked: {_cut(str(error))}"),)


def contract_of(schema: Any) -> Contract:
    """The contract that a prompt's schema makes. Never raises, whatever the schema is."""
    try:
        text = encode_text(schema)
    except ValueError as error:
        return Contract(f"the schema cannot be checked against: {error}")
    return _contract_of_text(text)


@lru_cache(64)
def _contract_of_text(text: str) -> Contract:
    schema = decode(text.encode())
    try:
        check_limits(schema)
        checked = _with_nulls(_with_draft(schema))
        validator = jsonschema_rs.validator_for(
            checked, validate_formats=True, retriever=_refuse, pattern_options=_PATTERNS
        )
    except SchemaLimitError as error:
        return Contract(str(error))
    except (ValueError, TypeError, RecursionError) as error:
        return Contract(f"the schema is none that documents can be checked against: {_cut(str(error))}")
    return Contract(None, validator, screen_of(checked, compile_schema(schema).column))


def _refuse(address: str) -> Any:
    raise ValueError(f"{address[:80]} is not in the schema, and nothing is fetched")


def _with_draft(schema: Any) -> Any:
    if isinstance(schema, dict) and str(schema.get("$schema", "")).rstrip("#") in _NO_DRAFT:
        return {**schema, "$schema": _LATEST}
    return schema


_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")


def _with_nulls(schema: Any) -> Any:
    """The schema with null among the types and values of each place that is ``nullable``."""
    if isinstance(schema, list):
        return [_with_nulls(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for name, value in schema.items():
        if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            made[name] = {key: _with_nulls(one) for key, one in value.items()}
        elif name in SUBSCHEMAS:
            made[name] = _with_nulls(value)
    if schema.get("nullable") is True:
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            made["type"] = types if "null" in types else [*types, "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            made["enum"] = [*schema["enum"], None]
        if "const" in schema and schema["const"] is not None:
            made["enum"] = [made.pop("const"), None]
    return made


def _violations(validator: Any, value: Any) -> Iterator[Violation]:
    for error in validator.iter_errors(value):
        keyword = _keyword(error)
        path = list(error.instance_path)
        at = path
        match keyword:
            case "required":
                path = at = [*path, error.kind.property]
            case "additionalProperties" | "unevaluatedProperties":
                unexpected = getattr(error.kind, "unexpected", None) or []
                at = [*path, *unexpected[:1]]
        place = "".join("/*" if isinstance(step, int) else pointer(step) for step in path)
        exact = "".join(f"/{step}" if isinstance(step, int) else pointer(step) for step in at)
        yield Violation(place, exact, keyword, _message(error, keyword))


def _keyword(error: Any) -> str:
    """The schema's keyword. A schema that is ``false`` allows no value, and is named by where it stands."""
    name = str(error.kind.name)
    if name != "falseSchema":
        return name
    where = error.schema_path[-1] if error.schema_path else ""
    return where if where in SUBSCHEMAS else "false"


def _message(error: Any, keyword: str) -> str:  # noqa: PLR0911
    kind = error.kind
    match keyword:
        case "type":
            types = getattr(kind, "types", None) or []
            return f"is {_type_of(error.instance)}, expected {' or '.join(map(str, types)) or 'another type'}"
        case "required":
            return "is required, and is missing"
        case "additionalProperties" | "unevaluatedProperties":
            more = len(getattr(kind, "unexpected", None) or "1")
            return f"has {'a property' if more == 1 else f'{more} properties'} that the schema does not allow"
        case "enum":
            return f"is {_type_of(error.instance)} that is none of the {len(kind.options)} allowed values"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minLength" | "maxLength" | "minItems":
            return f"breaks {keyword} {kind.limit}"
        case "maxItems" | "minProperties" | "maxProperties":
            return f"breaks {keyword} {kind.limit}"
        case "format":
            return f"is no {_cut(str(kind.format))}"
        case "pattern":
            return f"does not match the pattern {_cut(str(kind.pattern))}"
        case _ if keyword in _UNDECIDED:
            return "was given up: the pattern takes too many steps for this text"
        case _:
            return f"breaks {keyword}"


_HALVES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\[^u]"
)


def _mended(escaped: "re.Match[bytes]") -> bytes:
    """Half of a surrogate pair is in JSON, and is no text: it is checked as the character that stands for it."""
    found = escaped.group()
    return rb"\ufffd" if len(found) == len(rb"\ufffd") else found


def _type_of(value: Any) -> str:
    names = {type(None): "null", dict: "an object", list: "an array", str: "text", bool: "a boolean"}
    return names.get(type(value), "a number")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SAID else line[: _SAID - 1] + "…"
