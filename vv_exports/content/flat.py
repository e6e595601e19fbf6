"""Rows for a spreadsheet: a column for each scalar leaf, ``metadata.shot.type``; lists and untyped parts as JSON text.

An object has no cell of its own. Where none of its leaves has a value, it is taken for a typed null, which it is most
often; where it was an object all the same, it is in ``rescued`` as it was. So ``rescued`` and ``absent`` mean what they
mean in typed rows: a cell is empty, and there is what stood in its place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.domain.field_paths import quoted_name
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.csv import JSON_CELLS
from vv_exports.formats.json_text import json_text
from vv_exports.snapshots.columns import Column, Json, List, Object
from vv_exports.snapshots.json_pointer import pointer, tokens
from vv_exports.snapshots.rebuild import rebuild_documents
from vv_exports.snapshots.tables import RUN_COLUMNS, Table


@dataclass(frozen=True)
class Flat:
    """Scalar columns, named by the paths of their values."""

    table: Table
    needs_answers: ClassVar[bool] = False

    @cached_property
    def schema(self) -> pa.Schema:
        """See ``Encoding.schema``."""
        leaves = [_field(name, column) for name, column in _leaves("", self.table.column)]
        return pa.schema([*((name, pa.string()) for name in RUN_COLUMNS), *leaves, _json("rescued"), _json("absent")])

    def rows(self, batch: pa.RecordBatch, answers: pa.StringArray | None) -> pa.RecordBatch:
        """See ``Encoding.rows``."""
        del answers
        record = batch.select(list(self.table.column.fields)).to_struct_array()
        flat = _flattened("", self.table.column, record)
        rescued, absent = batch.column("rescued"), json_text(batch.column("absent"))
        unusual = reduce(pc.or_, flat.emptied.values(), pa.repeat(pa.scalar(False), batch.num_rows))
        if pc.any(unusual).as_py():
            said = self._said_of_emptied(batch.filter(unusual), {p: m.filter(unusual) for p, m in flat.emptied.items()})
            rescued = pc.replace_with_mask(rescued, unusual, pa.array([one for one, _ in said], pa.string()))
            absent = pc.replace_with_mask(absent, unusual, pa.array([other for _, other in said], pa.string()))
        ids = [batch.column(name) for name in RUN_COLUMNS]
        return pa.record_batch([*ids, *flat.leaves, rescued, absent], schema=self.schema)

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """See ``Encoding.documents``."""
        try:
            rows = [self._typed(row) for row in batch.to_pylist()]
        except ValueError as error:
            raise DeliveredDataError(f"a cell is not JSON: {error}. Deliver again.") from error
        return rebuild_documents(rows, self.table.column)

    def _said_of_emptied(
        self, rows: pa.RecordBatch, emptied: Mapping[str, pa.Array]
    ) -> list[tuple[bytes | None, bytes | None]]:
        """``rescued`` and ``absent`` of rows with objects that their cells do not show: what is said of a place in such
        an object is said with the object."""
        said: list[tuple[bytes | None, bytes | None]] = []
        masks = {place: mask.to_pylist() for place, mask in emptied.items()}
        documents = rebuild_documents(rows, self.table.column)
        told = zip(documents, rows.column("rescued").to_pylist(), rows.column("absent").to_pylist(), strict=True)
        for position, (document, rescued, absent) in enumerate(told):
            # In the order of the columns an object comes before those in it: those are said with it.
            places: list[str] = []
            for place, mask in masks.items():
                if mask[position] and not _is_below(place, places):
                    places.append(place)
            values = {
                place: value
                for place, value in decode((rescued or "{}").encode()).items()
                if not _is_below(place, places)
            }
            values |= {place: _at(document, place) for place in places}
            left = [place for place in absent or () if not _is_below(place, places)]
            said.append((encode_sorted(values), encode_sorted(left) if left else None))
        return said

    def _typed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with its objects."""
        cells = iter(list(row.values())[len(RUN_COLUMNS) :])
        typed: dict[str, Any] = {name: _nested(column, cells) for name, column in self.table.column.fields.items()}
        rescued, absent = cells
        return {**typed, "rescued": rescued, "absent": decode(absent.encode()) if absent else None}


@dataclass(frozen=True)
class _Flattened:
    """The cells of an object's leaves. ``emptied``, by pointer: in which rows an object is there, and its cells are
    empty. ``is_seen``: in which rows any cell has a value."""

    leaves: list[pa.Array]
    emptied: dict[str, pa.Array]
    is_seen: pa.Array


def _flattened(place: str, column: Object, objects: pa.StructArray) -> _Flattened:
    leaves: list[pa.Array] = []
    emptied: dict[str, pa.Array] = {}
    seen: list[pa.Array] = []
    for (name, child), array in zip(column.fields.items(), objects.flatten(), strict=True):
        if isinstance(child, Object):
            inner_place = place + pointer(name)
            inner = _flattened(inner_place, child, array)
            leaves += inner.leaves
            is_emptied = pc.and_not(array.is_valid(), inner.is_seen)
            if pc.any(is_emptied).as_py():
                emptied[inner_place] = is_emptied
            emptied |= inner.emptied
            seen.append(inner.is_seen)
        else:
            leaves.append(json_text(array) if isinstance(child, List) else array)
            seen.append(array.is_valid())
    return _Flattened(leaves, emptied, reduce(pc.or_, seen))


def _leaves(path: str, column: Object) -> Iterator[tuple[str, Column]]:
    for name, child in column.fields.items():
        inner = f"{path}.{quoted_name(name)}" if path else quoted_name(name)
        if isinstance(child, Object):
            yield from _leaves(inner, child)
        else:
            yield inner, child


def _field(name: str, column: Column) -> pa.Field:
    return _json(name) if isinstance(column, Json | List) else pa.field(name, column.arrow_type)


def _json(name: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata=JSON_CELLS)


def _nested(column: Column, cells: Iterator[Any]) -> Any:
    """The typed value that the next cells hold."""
    if isinstance(column, Object):
        members = {name: _nested(child, cells) for name, child in column.fields.items()}
        return members if any(value is not None for value in members.values()) else None
    cell = next(cells)
    return decode(cell.encode()) if isinstance(column, List) and cell is not None else cell


def _is_below(place: str, places: list[str]) -> bool:
    """Whether a pointer is one of these, or leads further from one."""
    return any(place == outer or place.startswith(f"{outer}/") for outer in places)


def _at(document: Any, place: str) -> Any:
    for token in tokens(place):
        document = document[token]
    return document
