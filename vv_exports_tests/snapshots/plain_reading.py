"""What a file of results says, by the standard library: nothing of the package reads it here. Two values are compared
by their leaves, since they may be nested as deep as can be read.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Place = tuple[str | int, ...]
_VOLATILE = {
    "segment_uri", "thumbnail_uri", "gif_uri", "preview_segment_uri", "preview_thumbnail_uri", "preview_gif_uri",
    "marker", "extracted_metadata_markers", "metadata_markers",
}  # fmt: skip
_IDS = {"run_id": "run_1", "prompt_run_id": "run_1", "prompt_id": "prm", "index_id": "idx"}
_RESULT_TYPES = {"segments": "segment", "videos": "video", "failures": None}
_TIMES = {("executed_at",), ("started_at",), ("completed_at",)}


def results(text: bytes) -> list[dict[str, Any]]:
    """The results in a file of JSON Lines. A number is its Decimal and what it was written as."""
    text = text.removeprefix(b"\xef\xbb\xbf")
    return [decoded(line) for line in text.split(b"\n") if line.strip(b" \t\r")]


def decoded(text: bytes | str) -> Any:
    """One JSON text in the same way."""
    return json.loads(
        text,
        parse_float=lambda digits: ("fraction", _fraction(digits)),
        parse_int=lambda digits: ("integer", Decimal(digits if digits != "-0" else "0")),
    )


def _fraction(digits: str) -> Decimal:
    mantissa = digits.lower().partition("e")[0]
    return Decimal(digits if mantissa.strip("-0.") else mantissa)  # zero times any power, also one of twenty digits


def answer(value: Any) -> Mapping[Place, Any]:
    """A decoded answer such that what is told apart there is not equal: 5 and 5.0, 0.0 and -0.0, true and 1."""
    return {
        place: ("boolean", leaf)
        if isinstance(leaf, bool)
        else (leaf, leaf[1].is_signed())
        if _is_number(leaf)
        else leaf
        for place, leaf in _leaves(value)
    }


def row_of(result: dict[str, Any], table: str) -> Mapping[Place, Any]:
    """What a row of a table is to say of a result, as ``row`` has it."""
    own = {**_IDS, "result_type": _RESULT_TYPES[table]}
    return row(
        {
            name: value
            for name, value in result.items()
            if name not in _VOLATILE and not (name in own and value in (None, own[name]))
        }
    )


def row(document: dict[str, Any]) -> Mapping[Place, Any]:
    """A document such that two are equal where rows tell the same: a field of the record that is null is not there, a
    time there is an instant, and what a number was written as plays no part."""
    return {
        place: _instant(leaf) if place in _TIMES else _comparable(leaf)
        for place, leaf in _leaves(document)
        if leaf is not None or len(place) > 1
    }


def _leaves(value: Any) -> list[tuple[Place, Any]]:
    """All that holds nothing, and where it is: by name in an object, by number in an array."""
    found: list[tuple[Place, Any]] = []
    held: list[tuple[Place, Any]] = [((), value)]
    while held:
        place, one = held.pop()
        if one and isinstance(one, dict | list):
            held += [
                ((*place, name), inner) for name, inner in (one.items() if isinstance(one, dict) else enumerate(one))
            ]
        else:
            found.append((place, one))
    return found


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, tuple)


def _comparable(leaf: Any) -> Any:
    if isinstance(leaf, bool):
        return "boolean", leaf
    if isinstance(leaf, float):
        return _number(Decimal(repr(leaf)))
    if isinstance(leaf, int | Decimal):
        return _number(Decimal(leaf))
    return _number(leaf[1]) if _is_number(leaf) else leaf


def _number(value: Decimal) -> Any:
    """By its digits, and one that is the exact value of a double by that double's: 2**63 is 9.223372036854776e18."""
    if abs(value) < 1 << 1023 and value == (double := float(value)):
        value = Decimal(repr(double))
    return value, value.is_signed()


def _instant(leaf: Any) -> Any:
    if not isinstance(leaf, str) or len(leaf) <= len("2026-10-01"):
        return _comparable(leaf)
    try:
        moment = datetime.fromisoformat(leaf.upper())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return leaf
