"""Columns as the schema of an Iceberg table.

Iceberg knows columns by number. Delivered files have none: the table's name mapping finds their columns by name. A
column that stays keeps its number, so that earlier snapshots are read as they were; one of another type is another one.
"""

import itertools
from collections.abc import Iterator, Mapping

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from vv_exports.snapshots.columns import Boolean, Column, Integer, Json, List, Number, Object, Text, Timestamp

_SCALARS: Mapping[type[Column], IcebergType] = {
    Text: StringType(),
    Json: StringType(),
    Integer: LongType(),
    Number: DoubleType(),
    Boolean: BooleanType(),
    Timestamp: TimestamptzType(),
}


def iceberg_schema(columns: Object) -> Schema:
    """The schema of a new table with these columns."""
    return Schema(*_fields(columns, None, itertools.count(1)))


def next_schema(columns: Object, table: TableMetadata) -> Schema | None:
    """The schema with which a table goes on; None where it has these columns already."""
    before = table.schema()
    fields = _fields(columns, before.as_struct(), itertools.count(table.last_column_id + 1))
    if StructType(*fields) == before.as_struct():
        return None
    return Schema(*fields, schema_id=1 + max(schema.schema_id for schema in table.schemas))


def _fields(column: Object, before: IcebergType | None, numbers: Iterator[int]) -> list[NestedField]:
    known = {field.name: field for field in before.fields} if isinstance(before, StructType) else {}
    fields = []
    for name, inner in column.fields.items():
        there = known.get(name)
        if there is not None and not _is_alike(inner, there.field_type):
            there = None
        number = next(numbers) if there is None else there.field_id
        kind = _type(inner, None if there is None else there.field_type, numbers)
        fields.append(NestedField(number, name, kind, required=False))
    return fields


def _type(column: Column, before: IcebergType | None, numbers: Iterator[int]) -> IcebergType:
    match column:
        case Object():
            return StructType(*_fields(column, before, numbers))
        case List():
            number = before.element_id if isinstance(before, ListType) else next(numbers)
            item = _type(column.item, before.element_type if isinstance(before, ListType) else None, numbers)
            return ListType(number, item, element_required=False)
    return _SCALARS[type(column)]


def _is_alike(column: Column, there: IcebergType) -> bool:
    """Whether a column can go on under the number that another type has. Structures do, whatever is in them."""
    match column:
        case Object():
            return isinstance(there, StructType)
        case List():
            return isinstance(there, ListType) and _is_alike(column.item, there.element_type)
    return there == _SCALARS[type(column)]
