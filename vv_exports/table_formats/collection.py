"""The tables of one automation's collection: kept up with its log, made anew, and what is known of them.

The log does not depend on them. What goes wrong with a table is remembered and tried again, and is no delivery's fault.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.lease import only_writer
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.state import LogState
from vv_exports.domain.failures import Problem, problem_of
from vv_exports.errors import VVExportsError
from vv_exports.printable import counted
from vv_exports.table_formats.base import FormatName
from vv_exports.table_formats.following import drop, follow
from vv_exports.table_formats.progress import Progress, ProgressRecord
from vv_exports.table_formats.registry import WITHOUT_CONFIGURATION, OpenTables

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableState:
    """One table. ``location`` is what a reader is given. ``version`` is the format's own number of the state that it
    shows, which is that of ``entry`` of the delivery log; both are None where there is no table yet. ``behind`` says
    why that is not the last one, where it should be."""

    format: FormatName
    table: str
    location: str
    version: int | None
    entry: int | None
    behind: str | None


class CollectionTables:
    """Built without touching storage. ``formats`` are those that the configuration chooses."""

    def __init__(
        self, storage: Connector, index_id: str, automation: str, formats: Mapping[FormatName, OpenTables]
    ) -> None:
        self._formats = formats
        self._record = partial(ProgressRecord, storage, index_id, automation)
        self._records = {name: self._record(name) for name in formats}

    @property
    def formats(self) -> tuple[FormatName, ...]:
        """The formats, by name."""
        return tuple(self._formats)

    def follow(self, destination: Destination, state: LogState, now: datetime, *, is_only_writer: bool = False) -> None:
        """Bring the tables to the end of the log, where they are not there. ``is_only_writer``: nobody else is let at
        the destination meanwhile. What goes wrong is remembered, and logged."""
        for name, record in self._records.items():
            try:
                before = record.read()
                if state.last is None or before.is_at(destination.uri, state.last):
                    continue
                if is_only_writer:
                    record.note(self._followed(name, destination, state, before, now))
                else:
                    with only_writer(destination.connector, destination.subpath):
                        record.note(self._followed(name, destination, state, before, now))
            except VVExportsError as error:  # the pipeline's storage, or the turn of a writer: neither is lost
                _LOG.warning("the %s tables of %s do not follow its log: %s", name, destination.uri, error)

    def _followed(
        self, name: FormatName, destination: Destination, state: LogState, before: Progress, now: datetime
    ) -> Progress:
        try:
            with closing(self._formats[name](destination)) as tables:
                return follow(tables, destination, state, before, now)
        except Exception as error:  # noqa: BLE001 - a delivery is committed, whatever a library of a format raises
            _LOG.warning("the %s tables of %s do not follow its log: %s", name, destination.uri, error)
            return msgspec.structs.replace(before, problem=problem_of(error, before.problem, now))

    def look_anew(self) -> None:
        """Let all tables be compared with what the log holds the next time, whatever was done before: entries that they
        went by are lost or replaced."""
        for record in self._records.values():
            record.note(Progress())

    def rebuild(self, destination: Destination, state: LogState, now: datetime) -> None:
        """Drop all tables, and make them of what the log holds now. Repeatable. What goes wrong with one table is in
        its state; raises what is no table's own fault."""
        with only_writer(destination.connector, destination.subpath):
            for name, record in self._records.items():
                with closing(self._formats[name](destination)) as tables:
                    record.note(Progress())  # whoever goes on where this dies looks at all of them
                    drop(tables)
                    if state.last is not None:
                        record.note(follow(tables, destination, state, Progress(), now))

    def there(self, destination: Destination) -> list[str]:
        """Where there are tables, Delta tables also where they are not chosen any more."""
        found: list[str] = []
        for opened in {**WITHOUT_CONFIGURATION, **self._formats}.values():
            with closing(opened(destination)) as tables:
                found += [tables.location(one) for one in sorted(tables.names())]
        return found

    def drop(self, destination: Destination) -> None:
        """Remove all these tables and no data file. Repeatable. Those that are chosen are made again by the next
        delivery."""
        with only_writer(destination.connector, destination.subpath):
            for name, opened in {**WITHOUT_CONFIGURATION, **self._formats}.items():
                with closing(opened(destination)) as tables:
                    self._record(name).note(Progress())
                    drop(tables)

    def is_to_follow(self, destination: Destination, last_entry: int, now: datetime) -> bool:
        """Whether tables are to be brought on by now: they are behind, and what failed has waited long enough."""
        for record in self._records.values():
            progress = record.read()
            # What waits for other files goes on with their entry.
            is_behind = progress.failed or (progress.uri, progress.entry) != (destination.uri, last_entry)
            if is_behind and all(one.again_at <= now for one in progress.failed):
                return True
        return False

    def progress(self) -> dict[FormatName, Progress]:
        """How far they are, by format."""
        return {name: record.read() for name, record in self._records.items()}

    def states(self, destination: Destination) -> list[TableState]:
        """Each table that is known of."""
        found = []
        for name, progress in self.progress().items():
            if progress.uri not in {"", destination.uri}:
                continue
            tables = self._formats[name](destination)  # asked for nothing that it would have to open
            for table in sorted({*progress.heads, *progress.behind}):
                head, behind = progress.heads.get(table), progress.behind.get(table)
                found.append(
                    TableState(
                        format=name,
                        table=table,
                        location=tables.location(table),
                        version=None if head is None else head.version,
                        entry=None if head is None else head.entry,
                        behind=None if behind is None else behind.message,
                    )
                )
        return found

    def summary(self, destination: Destination, last_entry: int) -> dict[str, str]:
        """How far the tables of each format are, in words."""
        found: dict[str, str] = {}
        for name, progress in self.progress().items():
            if progress.problem is not None:
                found[name] = f"behind, and tried again: {progress.problem.message}"
            elif progress.uri != destination.uri or progress.entry < 0:
                found[name] = "there is no table yet"
            elif progress.behind:
                first = next(iter(progress.behind.values()))
                found[name] = f"{counted(len(progress.behind), 'table')} behind entry {last_entry}: {first.message}"
            else:
                found[name] = f"{counted(len(progress.heads), 'table')} as of entry {progress.entry} of {last_entry}"
        return found

    def problems(self) -> list[Problem]:
        """What failed the last time."""
        return [problem for progress in self.progress().values() for problem in progress.failed]

    def rewrite(self, text: Callable[[str], str]) -> None:
        """Let what is remembered of failures be what ``text`` makes of it."""
        for record in self._records.values():
            record.rewrite(text)
