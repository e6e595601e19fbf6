"""A table of a snapshot as the local files that are delivered: with the wanted columns, chosen and redacted,
encoded."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vv_exports.connectors.spool import make_room, nothing_to_wait_for, spool_folder
from vv_exports.content.column_json import column_id, column_to_json
from vv_exports.content.encoding import encoding_of
from vv_exports.content.retyping import retyped
from vv_exports.content.selection import Selection
from vv_exports.domain.content_options import COMPRESSIONS, ContentOptions
from vv_exports.domain.tables import RunTable
from vv_exports.formats.base import Format, TableWriter
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.broken_rows import breaks_contract, parted
from vv_exports.snapshots.columns import Column, List, Text
from vv_exports.snapshots.store import Rows, Snapshot, SnapshotStore
from vv_exports.snapshots.stored_parts import Part
from vv_exports.snapshots.tables import RUN_COLUMNS, Table, with_metadata

_STRING = column_to_json(Text(nullable=True))
_STRINGS = column_to_json(List(Text(), nullable=True))


@dataclass(frozen=True)
class LocalFile:
    """A finished file. ``stem`` is how its name begins where it is of one video, ``suffix`` how it ends. Of several
    files of the same rows, the first alone counts them."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    suffix: str
    stem: str | None = None


@dataclass(frozen=True)
class ForeseenFile:
    """A file that would be made. Where it is not ``exact``, its size is that of what it is made from, and its hash
    stands for one that nobody knows yet."""

    rows: int
    bytes: int
    sha256: str
    suffix: str
    exact: bool
    stem: str | None = None


class TableFiles:
    """The files of one table of a snapshot. ``metadata`` is the column that they are to have of it, or None for that of
    the snapshot itself, as documents have it."""

    def __init__(
        self,
        snapshot: Snapshot,
        table: RunTable,
        metadata: Column | None,
        options: ContentOptions,
        key: bytes | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._name = table
        self._options = options
        self._own = snapshot.table(table)
        self._wanted = self._own if metadata is None else with_metadata(self._own, metadata)
        self._selection = Selection(options, key)
        self._delivered = Table(table, self._selection.column(self._wanted.column))
        self._encoding = encoding_of(options.format, self._delivered)
        self._parts = snapshot.tables[table]
        self._sets_apart = options.contract == "quarantine" and breaks_contract(snapshot, table)
        self._format = format_of(options)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the files, by name, as a log entry says them: nested as they are typed."""
        fields = {name: column_to_json(column) for name, column in self._delivered.column.fields.items()}
        return {**dict.fromkeys(RUN_COLUMNS, _STRING), **fields, "rescued": _STRING, "absent": _STRINGS}

    @property
    def spooled_bytes(self) -> int:
        """The least that is on the spool at a time while they are made: the largest part of the snapshot, with its
        answers where rows are made anew of both."""
        needs_both = self._needs_answers and not self._are_the_snapshots
        return max(sum(file.bytes for file in part.files) if needs_both else part.bytes for part in self._parts)

    @property
    def shape(self) -> str:
        """An id of these columns: where files differ in it, a reader of them all sees different ones."""
        return column_id(self._delivered.column)

    @property
    def parts(self) -> int:
        """How many parts of the snapshot they are made of."""
        return len(self._parts)

    def check(self, store: SnapshotStore) -> None:
        """Raise, before any file is made, what is known to keep the rows out of files of this format."""

    def make(
        self, store: SnapshotStore, folder: Path, wait: Callable[[], None] = nothing_to_wait_for
    ) -> Iterator[LocalFile]:
        """Make the files in an empty folder, one after the other: each may be moved away before the next one is made.
        ``wait`` makes room where there is none: it returns when those before are moved away.

        Raises SnapshotDamagedError where a file of the snapshot is gone or damaged, and NoRoomError where a file does
        not fit the spool.
        """
        if self._are_the_snapshots:
            for number, part in enumerate(self._parts):
                path = folder / f"{number}{self._format.suffix}"
                make_room(f"a file of {part.rows:,} {self._name}", wait, part.bytes)
                store.copy(part, path)
                yield LocalFile(path, part.rows, part.bytes, part.sha256, self._format.suffix)
            return
        files = FilesOfRows(folder, self._encoding.schema, self._format, self._options.target_file_bytes, wait)
        for part in self._parts:
            # A file for each, since what bounds a part (rows, and what its columns cost a writer) bounds a file.
            yield from files.write(self._rows(store, part))

    def foreseen(self, store: SnapshotStore) -> list[ForeseenFile]:
        """The files that ``make`` would make, in order: their number and rows exactly. Encodes them only where a size
        at which a file ends, or the contract of rows, decides how many there are."""
        parts, suffix = self._parts, self._format.suffix
        if self._are_the_snapshots:
            return [ForeseenFile(part.rows, part.bytes, part.sha256, suffix, exact=True) for part in parts]
        if self._options.target_file_bytes is None and not self._sets_apart:
            return [
                ForeseenFile(part.rows, part.bytes, _name_of(part, self.shape), suffix, exact=False) for part in parts
            ]
        with spool_folder() as spool:
            return foreseen_by_making(self.make(store, spool))

    @cached_property
    def _are_the_snapshots(self) -> bool:
        """Whether the snapshot's own files are these, byte by byte."""
        options = self._options
        limit = options.target_file_bytes
        return (
            options.format.name == "parquet"
            and not self._sets_apart
            and options.compressed_with == COMPRESSIONS["parquet"][0]
            and self._own.is_typed_like(self._delivered)
            and not self._selection.changes(self._own.column)
            and (limit is None or all(part.bytes <= limit for part in self._parts))
        )

    @cached_property
    def _needs_answers(self) -> bool:
        """Answers are read where they are delivered, and where the rows have to be typed by them."""
        return self._sets_apart or self._encoding.needs_answers or not self._own.is_typed_like(self._wanted)

    def _rows(self, store: SnapshotStore, part: Part) -> Iterator[pa.RecordBatch]:
        if self._sets_apart:
            for kept, _ in parted(store, self._snapshot, self._name, part):
                if kept.batch.num_rows:
                    yield self._encoded(kept)
            return
        rows = store.rows_of_part(
            self._own, part, answers=self._needs_answers, metadata=not self._encoding.needs_answers
        )
        yield from map(self._encoded, rows)

    def _encoded(self, rows: Rows) -> pa.RecordBatch:
        if self._encoding.needs_answers and rows.answers is not None:
            answers = self._selection.answers(rows.answers, rows.batch, self._own.column)
            return self._encoding.rows(self._selection.record(rows.batch, self._own.column), answers)
        batch = retyped(rows.batch, rows.answers, self._own, self._wanted)
        return self._encoding.rows(self._selection.apply(batch, self._wanted.column), None)


def foreseen_by_making(files: Iterable[LocalFile]) -> list[ForeseenFile]:
    """Files that are made to be counted, and removed again."""
    found = []
    for local in files:
        found.append(ForeseenFile(local.rows, local.bytes, local.sha256, local.suffix, exact=True, stem=local.stem))
        local.path.unlink()
    return found


def _name_of(part: Part, shape: str) -> str:
    return hashlib.sha256(f"{part.sha256} as {shape}".encode()).hexdigest()


class FilesOfRows:
    """Consecutive files of rows: another one begins after so many bytes."""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        file_format: Format,
        most_bytes: int | None,
        wait: Callable[[], None] = nothing_to_wait_for,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._format = file_format
        self._most_bytes = most_bytes
        self._wait = wait
        self._number = 0
        self._rows = 0

    def write(self, batches: Iterator[pa.RecordBatch]) -> Iterator[LocalFile]:
        """Write all rows. No rows have one file all the same."""
        writer = self._open()
        try:
            for batch in batches:
                if self._most_bytes is not None and self._rows and writer.bytes_written >= self._most_bytes:
                    yield self._finished(writer)
                    writer = self._open()
                make_room(f"a {self._format.name} file", self._wait)
                writer.write(batch)
                self._rows += batch.num_rows
            yield self._finished(writer)
        except BaseException:
            writer.abandon()
            raise

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._number}{self._format.suffix}"

    def _open(self) -> TableWriter:
        self._rows = 0
        return self._format.open(self._path, self._schema)

    def _finished(self, writer: TableWriter) -> LocalFile:
        writer.close()
        path, self._number = self._path, self._number + 1
        return LocalFile(path, self._rows, writer.bytes_written, writer.sha256, self._format.suffix)
