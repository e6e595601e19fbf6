"""What a table format does with one collection, and what it is told. It knows no configuration.

A table is of one prompt in one folder, since files of a table have the same columns. Its name is that folder:
``segments/prompt_id=prm_1``.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, get_args

import msgspec

from vv_exports.delivery.entry import DeliveredFile
from vv_exports.snapshots.columns import Object

FormatName = Literal["delta", "iceberg"]
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a table is. ``entry`` is that of the delivery log whose state it shows, ``version`` the format's own
    number of that state; ``columns`` is an id of the columns that it has. ``table_id`` and ``created_ms``
    (milliseconds since 1970) never change."""

    version: int
    entry: int
    columns: str
    table_id: str
    created_ms: int


@dataclass(frozen=True)
class Added:
    """A file that a table is to have, and when its entry of the log was committed."""

    file: DeliveredFile
    committed_at: datetime


@dataclass(frozen=True)
class Change:
    """What makes a table show the state of an entry of the log. ``columns`` is None where they stay as they are.
    ``removed`` are paths in the collection."""

    entry: int
    committed_at: datetime
    columns: Object | None
    added: tuple[Added, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a table itself says: where it is, and the paths in the collection of the files that it has."""

    head: Head
    paths: frozenset[str]


class RegisteredTables(Protocol):
    """The tables of one format of one collection. Each change is atomic: readers see all of it, or nothing."""

    name: FormatName

    def names(self) -> Collection[str]:
        """Those that there are."""

    def location(self, name: str) -> str:
        """What a reader is given to read one."""

    def columns_id(self, columns: Object) -> str:
        """What tells these columns from others, as ``Head.columns`` has it."""

    def read(self, name: str) -> Found | None:
        """What one says itself; None where it is not there. Raises DeliveredDataError where it cannot be read."""

    def commit(self, name: str, head: Head | None, change: Change) -> Head:
        """Make a new version, of a new table where ``head`` is None. The same once more is no change.

        Raises TableMovedOnError where ``head`` is not the newest version.
        """

    def checkpoint_is_due(self, before: Head | None, head: Head) -> bool:
        """Whether readers should be able to begin at this version by now."""

    def keep_checkpoint(self, name: str, head: Head, files: Iterable[Added], columns: Object) -> None:
        """Let readers begin at this version: ``files`` are all that it has. Nothing depends on it."""

    def drop(self, name: str) -> None:
        """Remove a table's metadata, and no data file."""

    def close(self) -> None:
        """Let go of what they are read and written with."""
