"""The tables of a collection: one folder each, in the order in which they are delivered."""

from typing import Literal, get_args

TableName = Literal["segments", "videos", "failures"]

TABLES: tuple[TableName, ...] = get_args(TableName)
