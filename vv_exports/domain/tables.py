"""The tables of a collection: one folder each, in the order in which they are delivered."""

from typing import Literal, get_args

RunTable = Literal["segments", "videos", "failures"]
"""What a prompt run has, and what may be chosen of it."""
TableName = Literal["segments", "videos", "failures", "quarantine"]
"""``quarantine`` has the rows of the others that are set apart, since they break their prompt's schema."""

TABLES: tuple[RunTable, ...] = get_args(RunTable)
DELIVERED_TABLES: tuple[TableName, ...] = get_args(TableName)
