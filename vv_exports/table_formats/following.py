"""Bringing tables to the end of the delivery log, from wherever they are.

Each entry of the log that touches a table becomes one version of it. Where that cannot be done, since nobody knows
where the table is, or its columns change, the table is compared with what the log holds, and one version brings all.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry
from vv_exports.delivery.state import CommittedRun, LogState
from vv_exports.domain.failures import problem_of
from vv_exports.errors import DeliveredDataError, TableMovedOnError, VVExportsError, first_few
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.columns import Object
from vv_exports.table_formats.base import Added, Change, Found, Head, RegisteredTables
from vv_exports.table_formats.changes import Held, changes_of, columns_of, entries_of, held_by, is_beside_the_log
from vv_exports.table_formats.progress import Behind, Progress

_ATTEMPTS = 5
_NAMED = 3
_LOG = logging.getLogger(__name__)


@dataclass
class _Following:
    tables: RegisteredTables
    destination: Destination
    state: LogState
    before: Progress
    now: datetime
    heads: dict[str, Head]
    behind: dict[str, Behind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last = self.state.next_sequence - 1
        self.entries = entries_of(self.destination, [] if self.state.last is None else [self.state.last])
        self._held: dict[str, Held] | None = None

    def run(self) -> Progress:
        changes = self._changes()
        if changes is None:
            self.heads = {}
            names: Collection[str] = sorted({*self.held, *self.tables.names()})
        else:
            names = dict.fromkeys((*changes, *self.before.behind))
        for name in names:
            self._follow(name, None if changes is None else changes.get(name, []))
        return Progress(
            uri=self.destination.uri,
            entry=self.last,
            delivery_id="" if self.state.last is None else self.state.last.delivery_id,
            at=self.now,
            heads=self.heads,
            behind=self.behind,
            problem=None,
        )

    @property
    def held(self) -> Mapping[str, Held]:
        """What the collection holds, by table: only made where it is needed, since it is as large as the collection."""
        if self._held is None:
            self._held = held_by(self.state)
        return self._held

    def _changes(self) -> dict[str, list[Change]] | None:
        """What the entries since the last time change, by table; None where that does not tell what tables lack."""
        before = self.before
        if before.uri != self.destination.uri or not 0 <= before.entry <= self.last:
            return None
        found: dict[str, list[Change]] = {}
        try:
            if self.entries(before.entry).delivery_id != before.delivery_id:
                return None  # the log that tables went by was lost, and another one begun
            for sequence in range(before.entry + 1, self.last + 1):
                entry: LogEntry = self.entries(sequence)
                if is_beside_the_log(entry):
                    return None
                for name, change in changes_of(entry, self.entries).items():
                    found.setdefault(name, []).append(change)
        except DeliveredDataError as error:
            _LOG.info("tables of %s are compared with the whole log: %s", self.destination.uri, error)
            return None
        return found

    def _follow(self, name: str, changes: Sequence[Change] | None) -> None:
        """One table. What is wrong with it is no other table's fault."""
        earlier = self.before.behind.get(name)
        try:
            head = self.heads.get(name)
            if changes and head is not None and earlier is None and self._one_by_one(name, head, changes):
                return
            self._compare(name)
        except VVExportsError as error:
            problem = problem_of(error, None if earlier is None else earlier.problem, self.now)
            self.behind[name] = Behind(why="failed", message=str(error), problem=problem)
            self.heads.pop(name, None)
            _LOG.warning("%s does not follow its log: %s", self.tables.location(name), error)

    def _one_by_one(self, name: str, head: Head, changes: Sequence[Change]) -> bool:
        """A version for each entry. False where the columns change, or the table is not where it was thought to be."""
        first = head
        for change in changes:
            if change.columns is not None and self.tables.columns_id(change.columns) != head.columns:
                return False
            if change.entry > head.entry:
                try:
                    head = self.tables.commit(name, head, change)
                except TableMovedOnError as error:
                    _LOG.info("%s is read again: %s", self.tables.location(name), error)
                    return False
                self.heads[name] = head
        self._keep_checkpoint(name, first, head)
        return True

    def _compare(self, name: str) -> None:
        """Let a table have what the log holds, whatever it has."""
        kept = self.held.get(name, Held())
        held = kept.files
        columns, unlike = columns_of(held, self.entries) if held else (None, frozenset[str]())
        if unlike:
            self._take_out_erased(name, held)
            self.behind[name] = Behind(
                why="waits",
                message=f"a column changed its type, and {counted(len(unlike), 'prompt run')} ({_first(unlike)}) wait "
                "to be delivered with it. Until the last of them the table stays at the state before, whose superseded "
                "files `retain_superseded` keeps",
            )
            return
        if kept.others:
            self.behind[name] = Behind(
                why="waits",
                message=f"{counted(len(kept.others), 'prompt run')} ({_first(kept.others)}) of it are there in another "
                "format, and not in the table until they are delivered as Parquet. What neither the source nor a "
                "snapshot has any more cannot be",
            )
        for _ in range(_ATTEMPTS):
            found = self.tables.read(name)
            before = head = None if found is None else found.head
            change = self._difference(held, found, columns)
            if change is not None:
                try:
                    head = self.tables.commit(name, before, change)
                except TableMovedOnError as error:
                    _LOG.info("%s is read again: %s", self.tables.location(name), error)
                    continue
            if head is not None:
                self.heads[name] = head
                self._keep_checkpoint(name, before, head)
            return
        raise TableMovedOnError(f"{self.tables.location(name)}: {_ATTEMPTS} other changes came first; try again")

    def _take_out_erased(self, name: str, held: Sequence[tuple[CommittedRun, DeliveredFile]]) -> None:
        """Even a table that waits must not go on naming files of prompt runs that are in the collection no more."""
        found, last = self.tables.read(name), self.state.last
        if found is None or last is None:
            return
        folders = {file.path.rpartition("/")[0] for _, file in held}
        removed = tuple(sorted(path for path in found.paths if path.rpartition("/")[0] not in folders))
        if removed:
            change = Change(self.last, last.moment, None, (), removed)
            self.heads[name] = self.tables.commit(name, found.head, change)

    def _difference(
        self, held: Sequence[tuple[CommittedRun, DeliveredFile]], found: Found | None, columns: Object | None
    ) -> Change | None:
        """What a table lacks and has too much; None where it is as it should be."""
        if found is None and not held:
            return None
        there = frozenset[str]() if found is None else found.paths
        added = tuple(added for added in _added(held) if added.file.path not in there)
        removed = tuple(sorted(there.difference(file.path for _, file in held)))
        if columns is not None and found is not None and self.tables.columns_id(columns) == found.head.columns:
            columns = None
        if found is not None and not (added or removed or columns):
            return None
        if self.state.last is None:
            raise ValueError("a log that holds something has entries")
        return Change(self.last, self.state.last.moment, columns, added, removed)

    def _keep_checkpoint(self, name: str, before: Head | None, head: Head) -> None:
        if not self.tables.checkpoint_is_due(before, head) or not (held := self.held.get(name, Held()).files):
            return
        try:
            columns, _ = columns_of(held, self.entries)
            self.tables.keep_checkpoint(name, head, _added(held), columns)
        except VVExportsError as error:
            _LOG.warning("%s gets no checkpoint at version %d: %s", self.tables.location(name), head.version, error)


def _first(run_ids: Iterable[str]) -> str:
    return ", ".join(first_few(sorted(map(one_line, run_ids)), _NAMED))


def _added(held: Iterable[tuple[CommittedRun, DeliveredFile]]) -> Iterator[Added]:
    for run, file in held:
        yield Added(file, datetime.fromisoformat(run.entry.committed_at))


def follow(
    tables: RegisteredTables, destination: Destination, state: LogState, before: Progress, now: datetime
) -> Progress:
    """Bring all tables of a collection to the state of its log. Repeatable, by anyone; returns how far they are.

    What is wrong with one table is in what is returned. Raises what is no table's own fault.
    """
    return _Following(tables, destination, state, before, now, dict(before.heads)).run()


def rebuild(tables: RegisteredTables, destination: Destination, state: LogState, now: datetime) -> Progress:
    """Drop all tables, and make them from the log as it is now."""
    drop(tables)
    return follow(tables, destination, state, Progress(), now)


def drop(tables: RegisteredTables) -> None:
    """Remove the metadata of all tables, and no data file."""
    for name in sorted(tables.names()):
        tables.drop(name)
