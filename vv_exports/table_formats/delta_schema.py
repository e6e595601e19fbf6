"""Columns as the schema of a Delta table: JSON, with the types that Delta has for those that delivered files have."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from vv_exports.snapshots.columns import Boolean, Column, Integer, Json, List, Number, Object, Text, Timestamp

_SCALARS: Mapping[type[Column], str] = {
    Text: "string",
    Json: "string",
    Integer: "long",
    Number: "double",
    Boolean: "boolean",
    Timestamp: "timestamp",
}


def delta_schema(columns: Object) -> str:
    """The ``schemaString`` of a table. All may be null: files from before a column was there lack it."""
    return msgspec.json.encode(_type(columns)).decode()


def schema_id(schema: str) -> str:
    """16 hex digits that tell a schema from others."""
    return hashlib.sha256(schema.encode()).hexdigest()[:16]


def _type(column: Column) -> Any:
    match column:
        case Object():
            fields = [
                {"name": name, "type": _type(inner), "nullable": True, "metadata": {}}
                for name, inner in column.fields.items()
            ]
            return {"type": "struct", "fields": fields}
        case List():
            return {"type": "array", "elementType": _type(column.item), "containsNull": True}
    return _SCALARS[type(column)]
