"""What a destination holds: the replay of its log's entries. For each prompt run, the last entry wins."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Protocol, Self

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports.delivery.columns import EarlierColumns, Shape, are_earlier_parquet, columns_of_all, earlier_columns
from vv_exports.delivery.destination import Owner
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, TableColumns, named_hash
from vv_exports.domain.destinations import possible_folders, segments_in, segments_of
from vv_exports.domain.names import path_segment, storage_segment
from vv_exports.domain.tables import DELIVERED_TABLES, TABLES


class EntryHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an entry for the prompt runs that it delivered. ``shapes`` are the ids of the columns of
    its files, by prompt and folder; entries of version 1 do not tell them, nor a content's id."""

    sequence: int
    delivery_id: str
    committed_at: str
    dagster_run_id: str | None
    snapshot_store: str
    format: str
    layout_version: int
    content_id: str | UnsetType = UNSET
    shapes: dict[str, dict[str, str]] | UnsetType = UNSET

    @classmethod
    def of(cls, entry: LogEntry) -> Self:
        """An entry's."""
        made = entry.provenance
        shapes: dict[str, dict[str, str]] = {}
        for table in entry.tables or ():
            if table.shape is not None:
                shapes.setdefault(table.prompt_id, {})[table.folder] = table.shape
        return cls(
            sequence=entry.sequence,
            delivery_id=entry.delivery_id,
            committed_at=entry.committed_at,
            dagster_run_id=made.dagster_run_id,
            snapshot_store=made.snapshot_store,
            format=made.format,
            layout_version=made.layout_version,
            content_id=made.content_id,
            shapes=shapes or UNSET,
        )


@dataclass(frozen=True)
class CommittedRun:
    """What a destination holds of one prompt run, and by which entry. ``earlier`` are the columns of Parquet files of
    version 0.1, by folder; None of any others."""

    entry: EntryHead
    run: DeliveredRun
    files: tuple[DeliveredFile, ...]
    earlier: Mapping[str, EarlierColumns] | None = None

    @property
    def prompt_id(self) -> str:
        """Its prompt's."""
        return self.run.prompt_id

    def holds(self, data_version: str | None, status: str) -> bool:
        """Whether it delivered these rows, of a run with this status: in whichever shape."""
        return self.run.data_version == data_version and self.run.status == status

    @cached_property
    def folders(self) -> frozenset[str]:
        """See ``Held.folders``."""
        return folders_of(file.path for file in self.files)


class Held(Protocol):
    """What decides whether a destination holds a prompt run as it should. ``folders`` are those of tables in which its
    files are, such as ``segments.v2``."""

    @property
    def entry(self) -> EntryHead: ...
    @property
    def prompt_id(self) -> str: ...
    @property
    def earlier(self) -> Mapping[str, EarlierColumns] | None: ...
    @property
    def folders(self) -> frozenset[str]: ...
    def holds(self, data_version: str | None, status: str) -> bool: ...


def folders_of(paths: Iterable[str]) -> frozenset[str]:
    """The tables' folders in which files are. One object for all runs that are alike, which may be a hundred
    thousand."""
    return _one_of(frozenset(path.partition("/")[0] for path in paths))


@lru_cache(1024)
def _one_of(folders: frozenset[str]) -> frozenset[str]:
    return folders


def _shapes_of_files(held: Held) -> Mapping[str, str]:
    """The ids of the columns of a run's files, by folder."""
    if held.earlier is not None:
        return {folder: columns.files for folder, columns in held.earlier.items()}
    return {} if held.entry.shapes is UNSET else held.entry.shapes.get(held.prompt_id, {})


class Replay:
    """What any replay of a log tells of the entries up to its last one, whatever it keeps of each run."""

    next_sequence: int
    runs: Mapping[str, Held]
    shapes: dict[str, dict[str, Shape]]
    last: LogEntry | None
    began: dict[str, datetime]
    _earlier: tuple[int, dict[str, dict[str, Shape]]] | None

    def began_at(self, export_id: str) -> datetime | None:
        """When an automation began, as its first entry that knows says; None where no entry does."""
        return self.began.get(export_id)

    def has_columns_of(self, held: Held) -> bool:
        """Whether the files of a run have the columns that its prompt's tables have by now."""
        theirs, by_now = _shapes_of_files(held), self.shapes_of(held.prompt_id)
        if held.earlier is not None and not held.folders <= {*theirs, "failures"}:
            return False  # nothing tells which columns they have
        return all(theirs.get(folder) == by_now[folder].id for folder in held.folders if folder in by_now)

    def shapes_of(self, prompt_id: str) -> Mapping[str, Shape]:
        """The columns that files of a prompt have by now, by folder: those that the last entry tells; where none does,
        those of all runs that version 0.1 delivered there, which that left beside each other as they were."""
        return {**self._earlier_shapes().get(prompt_id, {}), **self.shapes.get(prompt_id, {})}

    def _earlier_shapes(self) -> dict[str, dict[str, Shape]]:
        if self._earlier is None or self._earlier[0] != self.next_sequence:
            of_runs: dict[tuple[str, str], list[Shape]] = {}
            earlier = [held for held in self.runs.values() if held.earlier]
            for held in sorted(earlier, key=lambda run: run.entry.sequence):
                for folder, columns in (held.earlier or {}).items():
                    of_runs.setdefault((held.prompt_id, folder), []).append(columns.typed_now)
            found: dict[str, dict[str, Shape]] = {}
            for (prompt_id, folder), shapes in of_runs.items():
                if folder in TABLES:  # version 0.1 had no other folders
                    found.setdefault(prompt_id, {})[folder] = columns_of_all(folder, shapes)
            self._earlier = self.next_sequence, found
        return self._earlier[1]

    def begin(self, entry: LogEntry) -> None:
        """Note when an export began, where an entry is the first one that knows."""
        if entry.export.began_at is not None:
            self.began.setdefault(entry.export.id, entry.export.began_at)

    def shape(self, tables: Iterable[TableColumns]) -> None:
        """Let tables have the columns that an entry says."""
        for table in tables:
            if table.shape is not None:
                by_folder = self.shapes.get(table.prompt_id, {})
                shape = Shape(id=table.shape, metadata=table.metadata)
                self.shapes[table.prompt_id] = {**by_folder, table.folder: shape}


@dataclass
class LogState(Replay):
    """The replay of a log. ``abandoned`` are the paths that were committed or uploaded once and never will be again:
    whoever still deletes one of them, however late, harms nobody. Paths that no delivery makes are not among them,
    though earlier versions took any file beside a run's own for one that a delivery had left.

    ``retained`` are those of them that are kept for readers that began before, each with the moment until which.
    ``shapes`` are the metadata columns that entries tell of files of a prompt, by prompt and folder: see ``shapes_of``.
    ``last`` is the entry that it ends with, ``last_delivery`` the last one that delivered prompt runs, ``count`` how
    many entries there were; ``writers`` are whose they are, each with its first one; ``began`` is when each export
    began, by its id, as the first entry that knows says.
    """

    next_sequence: int = 0
    runs: dict[str, CommittedRun] = field(default_factory=dict)
    abandoned: set[str] = field(default_factory=set)
    retained: dict[str, datetime] = field(default_factory=dict)
    shapes: dict[str, dict[str, Shape]] = field(default_factory=dict)
    last: LogEntry | None = None
    last_delivery: EntryHead | None = None
    count: int = 0
    writers: dict[Owner, int] = field(default_factory=dict)
    began: dict[str, datetime] = field(default_factory=dict)
    checkpoint: int | None = field(default=None, compare=False)
    """The entry up to which a checkpoint was believed, where one was."""
    was_completed: bool = field(default=False, compare=False)
    """Whether that did not tell all that it tells by now, so that entries before it had to be read."""
    _named: tuple[int, frozenset[str]] | None = field(default=None, init=False, repr=False, compare=False)
    _earlier: tuple[int, dict[str, dict[str, Shape]]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def files(self) -> list[DeliveredFile]:
        """All files that are committed now."""
        return [file for run in self.runs.values() for file in run.files]

    def since(self, sequence: int) -> list[CommittedRun]:
        """The runs that entries from this one on delivered, as they are now, in the order of the entries."""
        found = [run for run in self.runs.values() if run.entry.sequence >= sequence]
        return sorted(found, key=lambda run: run.entry.sequence)

    def retained_at(self, now: datetime) -> set[str]:
        """The superseded files that readers may be at."""
        return {path for path, until in self.retained.items() if until > now}

    def expired(self, now: datetime) -> set[str]:
        """Those whose time is over, and that nobody was to remove before: until the last entry they were kept."""
        return {path for path, until in self.retained.items() if until <= now}

    def segment_of(self, text: str) -> str:
        """The name of an id in the paths of this collection. Where committed files lie under the name that version 0.1
        gave to it, new ones go there, too: so a prompt has one folder, and no folder that readers know is renamed."""
        segment, earlier = path_segment(text), storage_segment(text)
        return earlier if segment != earlier and earlier in self._segments() else segment

    def _segments(self) -> frozenset[str]:
        """The names that ids have in the paths of the committed files."""
        if self._named is None or self._named[0] != self.next_sequence:
            held = frozenset(name for file in self.files for name in segments_in(file.path))
            self._named = self.next_sequence, held
        return self._named[1]

    def folders_of(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The folders in which files of these runs are, or were, with the run: where its prompt changed, that was
        another."""
        run_ids = tuple(run_ids)
        names = {f"prompt_run_id={segment}": run_id for run_id in run_ids for segment in segments_of(run_id)}
        folders = {
            folder: run_id
            for run_id in run_ids
            if (held := self.runs.get(run_id)) is not None
            for folder in possible_folders(
                held.run.prompt_id, run_id, {*DELIVERED_TABLES, *held.folders, *self.shapes.get(held.run.prompt_id, ())}
            )
        }
        for path in self.abandoned:
            folder = path.rpartition("/")[0]
            if (run_id := names.get(folder.rpartition("/")[2])) is not None:
                folders[folder] = run_id
        return folders

    def copy(self) -> "LogState":
        """The same state, to move on from while others still use this one."""
        return replace(
            self,
            runs=dict(self.runs),
            abandoned=set(self.abandoned),
            retained=dict(self.retained),
            shapes=dict(self.shapes),
            writers=dict(self.writers),
            began=dict(self.began),
        )

    def apply(self, entry: LogEntry) -> None:
        """Move on by one entry."""
        head = EntryHead.of(entry)
        self.shape(entry.tables or ())
        by_run: dict[str, list[DeliveredFile]] = {}
        for file in entry.files:
            by_run.setdefault(file.prompt_run_id, []).append(file)
        superseded: set[str] = set()
        earlier = earlier_columns(entry) if are_earlier_parquet(head) else {}
        for run in entry.prompt_runs:
            files = tuple(by_run.get(run.run_id, ()))
            before = self.runs.get(run.run_id)
            self.abandoned.update(filter(named_hash, run.abandoned))
            if before is not None:
                superseded.update(file.path for file in before.files)
            self.runs[run.run_id] = CommittedRun(head, run, files, earlier.get(run.run_id))
        for run_id in entry.erased_runs:
            self.runs.pop(run_id, None)
        committed = {file.path for file in entry.files}
        self.abandoned |= superseded
        self.abandoned -= committed
        self._retain(entry, superseded - committed)
        self.abandoned.update(filter(named_hash, entry.abandoned))
        self.next_sequence = entry.sequence + 1
        self.count += 1
        self.last = entry
        if entry.prompt_runs:
            self.last_delivery = head
        self.writers.setdefault(entry.export.owner, entry.sequence)
        self.begin(entry)

    def _retain(self, entry: LogEntry, superseded: Collection[str]) -> None:
        """Keep what an entry supersedes, and forget what was kept until it."""
        if self.retained:
            now = entry.moment
            self.retained = {path: until for path, until in self.retained.items() if until > now}
        if (until := entry.kept_until) is not None:
            self.retained |= dict.fromkeys(superseded, until)
