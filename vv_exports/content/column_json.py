"""Columns as JSON for the delivery log, and back. It knows nothing of where they come from.

A column is ``{"type": "string"}``; a list tells its ``item``, an object its ``fields`` in their order, each with its
``name``. ``nullable`` is told where it is not what the type has by default. What says why a place has no type of its
own (``reason``, ``allows``, ``left_out``) is for people: columns that differ in it alone are equal, and have one id.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from vv_exports.domain.json_text import encode_sorted
from vv_exports.snapshots.columns import (
    Allows,
    Boolean,
    Column,
    Integer,
    Json,
    List,
    Number,
    Object,
    Text,
    Timestamp,
)

_SCALARS: Mapping[str, type[Column]] = {
    "string": Text,
    "integer": Integer,
    "number": Number,
    "boolean": Boolean,
    "timestamp": Timestamp,
}
_NAMES: Mapping[type[Column], str] = {
    **{kind: name for name, kind in _SCALARS.items()},
    Json: "json",
    List: "list",
    Object: "object",
}
_ID_DIGITS = 16


def column_type(column: Column) -> str:
    """The name of a column's type: ``string``, ``object``, …."""
    return _NAMES[type(column)]


def column_to_json(column: Column) -> dict[str, Any]:
    """A column as a JSON object."""
    return _to_json(column, explained=True)


def column_from_json(value: Any) -> Column:
    """The column that is told so. Names that are not known are skipped: a later version may tell more.

    Raises:
        ValueError: the value tells no column; the message says where it does not.
    """
    return _from_json(value, "")


def column_id(column: Column) -> str:
    """16 hex digits that are equal for equal columns."""
    return hashlib.sha256(encode_sorted(_to_json(column, explained=False))).hexdigest()[:_ID_DIGITS]


def _to_json(column: Column, *, explained: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"type": column_type(column)}
    if isinstance(column, Json):
        if explained:
            told |= {"reason": column.reason, "allows": column.allows}
            told |= {} if column.nullable else {"nullable": False}
        return told
    if column.nullable:
        told["nullable"] = True
    if isinstance(column, List):
        told["item"] = _to_json(column.item, explained=explained)
    if isinstance(column, Object):
        # A list: the order of the fields is the order of the columns, and JSON objects have none.
        told["fields"] = [
            {"name": name, **_to_json(child, explained=explained)} for name, child in column.fields.items()
        ]
        if column.absence_is_null:
            told["absence_is_null"] = True
        if explained and column.left_out:
            told["left_out"] = dict(column.left_out)
    return told


def _from_json(value: Any, place: str) -> Column:
    if not isinstance(value, dict):
        raise _no_column(place, "it is no JSON object")
    name = value.get("type")
    nullable = _flag(value, "nullable", place, default=name == "json")
    if isinstance(name, str) and name in _SCALARS:
        return _SCALARS[name](nullable=nullable)
    match name:
        case "json":
            allows = value.get("allows", "mixed")
            if allows not in get_args(Allows):
                raise _no_column(place, f"allows is {allows!r}")
            return Json(reason=_text(value.get("reason", ""), "reason", place), allows=allows, nullable=nullable)
        case "list":
            return List(_from_json(value.get("item"), place + "/item"), nullable=nullable)
        case "object":
            left_out = value.get("left_out", {})
            if not isinstance(left_out, dict):
                raise _no_column(place, "left_out is no JSON object")
            return Object(
                dict(_fields(value.get("fields"), place)),
                nullable=nullable,
                absence_is_null=_flag(value, "absence_is_null", place, default=False),
                left_out={name: _text(reason, "left_out", place) for name, reason in left_out.items()},
            )
    raise _no_column(place, f"its type is {name!r}")


def _fields(told: Any, place: str) -> Iterable[tuple[str, Column]]:
    if not isinstance(told, list) or not told:
        raise _no_column(place, "fields is no list of columns")
    names = set()
    for number, one in enumerate(told):
        inner = f"{place}/fields/{number}"
        name = _text(one.get("name") if isinstance(one, dict) else None, "name", inner)
        if name in names:
            raise _no_column(inner, f"the name {name!r} is there twice")
        names.add(name)
        yield name, _from_json(one, inner)


def _flag(value: dict[str, Any], name: str, place: str, *, default: bool) -> bool:
    flag = value.get(name, default)
    if not isinstance(flag, bool):
        raise _no_column(place, f"{name} is {flag!r}")
    return flag


def _text(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise _no_column(place, f"{name} is {value!r}")
    return value


def _no_column(place: str, why: str) -> ValueError:
    return ValueError(f"no column is told at {place or 'the top'}: {why}")
