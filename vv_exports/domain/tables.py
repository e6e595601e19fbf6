"""The tables of a collection: one folder each, in the order in which they are delivered."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, Protocol, get_args

RunTable = Literal["segments", "videos", "failures"]
"""What a prompt run has, and what may be chosen of it."""
TableName = Literal["segments", "videos", "failures", "quarantine"]
"""``quarantine`` has the rows of the others that are set apart, since they break their prompt's schema."""

TABLES: tuple[RunTable, ...] = get_args(RunTable)
DELIVERED_TABLES: tuple[TableName, ...] = get_args(TableName)


class Rows(Protocol):
    """Some rows of a table: a file's."""

    @property
    def table(self) -> TableName: ...
    @property
    def rows(self) -> int: ...


def rows_by_table(files: Iterable[Rows]) -> dict[TableName, int]:
    """How many rows there are of each table that has files, in the order of the tables."""
    found: Counter[TableName] = Counter()
    for file in files:
        found[file.table] += file.rows
    return {table: found[table] for table in DELIVERED_TABLES if table in found}
