"""Typed rows back to the documents they were built from: the inverse of ``columns``. It knows no files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.snapshots.columns import Built, Column, Json, List, Object, Timestamp
from vv_exports.snapshots.instants import instant_text
from vv_exports.snapshots.json_pointer import tokens


def rescue_columns(built: Built, rows: int) -> tuple[pa.StringArray, pa.ListArray]:
    """The columns ``rescued`` and ``absent`` of so many rows.

    ``rescued`` is a JSON object ``{pointer: value}`` as text, ``absent`` a list of pointers; both are sorted,
    and null where there is nothing to say.
    """
    if not built.misfits and not built.absent:
        return pa.nulls(rows, pa.string()), pa.nulls(rows, pa.list_(pa.string()))
    rescued: dict[int, dict[str, Any]] = defaultdict(dict)
    for position, pointer, value in built.misfits:
        rescued[position][pointer] = value
    absent: dict[int, list[str]] = defaultdict(list)
    for position, pointer in built.absent:
        absent[position].append(pointer)
    texts: list[bytes | None] = [None] * rows
    for position, values in rescued.items():
        texts[position] = encode_sorted(values)
    pointers: list[list[str] | None] = [None] * rows
    for position, places in absent.items():
        pointers[position] = sorted(places)
    return pa.array(texts, pa.string()), pa.array(pointers, pa.list_(pa.string()))


def rebuild_documents(rows: pa.RecordBatch | Sequence[Mapping[str, Any]], column: Object) -> list[JsonObject]:
    """The documents of rows that hold the object's fields, ``rescued`` and ``absent``, and maybe more.

    Rows are a batch, or dicts as a reader of another format gives them. What a Number column holds comes back
    as float, an instant as RFC 3339 text in UTC; where ``absence_is_null``, a nullable field as null.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = rows.select([*column.fields, "rescued", "absent"]).to_pylist()
    return [_document(row, column) for row in rows]


def _document(row: Mapping[str, Any], column: Object) -> Any:
    document = rebuilt(row, column)
    for pointer, value in decode((row["rescued"] or "{}").encode()).items():
        document = _with_value(document, tokens(pointer), value)
    for pointer in row["absent"] or ():
        *path, name = tokens(pointer)
        del _at(document, path)[name]
    return document


def rebuilt(stored: Any, column: Column) -> Any:
    """The JSON value of what a column stores, where nothing was absent and nothing did not fit."""
    if stored is None:
        return None
    match column:
        case Object():
            return {
                name: rebuilt(stored.get(name), child)
                for name, child in column.fields.items()
                if child.null_is_stored or stored.get(name) is not None
            }
        case List():
            return [rebuilt(item, column.item) for item in stored]
        case Json():
            return decode(stored.encode())
        case Timestamp() if isinstance(stored, datetime):
            return instant_text(stored)
        case _:
            return stored


def _with_value(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    *outer, last = path
    container = _at(document, outer)
    container[int(last) if isinstance(container, list) else last] = value
    return document


def _at(document: Any, path: list[str]) -> Any:
    for token in path:
        document = document[int(token) if isinstance(document, list) else token]
    return document
