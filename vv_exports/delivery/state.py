"""What a destination holds: the replay of its log's entries. For each prompt run, the last entry wins."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

import msgspec

from vv_exports.delivery.destination import Owner
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, named_hash
from vv_exports.domain.destinations import table_folder
from vv_exports.domain.names import path_segment
from vv_exports.domain.tables import TABLES


class EntryHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an entry for the prompt runs that it delivered."""

    sequence: int
    delivery_id: str
    committed_at: str
    dagster_run_id: str | None
    snapshot_store: str
    format: str
    layout_version: int

    @classmethod
    def of(cls, entry: LogEntry) -> Self:
        """An entry's."""
        made = entry.provenance
        return cls(
            sequence=entry.sequence,
            delivery_id=entry.delivery_id,
            committed_at=entry.committed_at,
            dagster_run_id=made.dagster_run_id,
            snapshot_store=made.snapshot_store,
            format=made.format,
            layout_version=made.layout_version,
        )


@dataclass(frozen=True)
class CommittedRun:
    """What a destination holds of one prompt run, and by which entry."""

    entry: EntryHead
    run: DeliveredRun
    files: tuple[DeliveredFile, ...]


@dataclass
class LogState:
    """The replay of a log. ``abandoned`` are the paths that were committed or uploaded once and never will be again:
    whoever still deletes one of them, however late, harms nobody. Paths that no delivery makes are not among them,
    though earlier versions took any file beside a run's own for one that a delivery had left.

    ``last`` is the entry that it ends with, ``last_delivery`` the last one that delivered prompt runs, ``count`` how
    many entries there were; ``writers`` are whose they are, each with its first one; ``began`` is when each export
    began, by its id, as the first entry that knows says.
    """

    next_sequence: int = 0
    runs: dict[str, CommittedRun] = field(default_factory=dict)
    abandoned: set[str] = field(default_factory=set)
    last: LogEntry | None = None
    last_delivery: EntryHead | None = None
    count: int = 0
    writers: dict[Owner, int] = field(default_factory=dict)
    began: dict[str, datetime] = field(default_factory=dict)
    checkpoint: int | None = field(default=None, compare=False)
    """The entry up to which a checkpoint was believed, where one was."""

    @property
    def files(self) -> list[DeliveredFile]:
        """All files that are committed now."""
        return [file for run in self.runs.values() for file in run.files]

    def began_at(self, export_id: str) -> datetime | None:
        """When an automation began, as its first entry that knows says; None where no entry does."""
        return self.began.get(export_id)

    def since(self, sequence: int) -> list[CommittedRun]:
        """The runs that entries from this one on delivered, as they are now, in the order of the entries."""
        found = [run for run in self.runs.values() if run.entry.sequence >= sequence]
        return sorted(found, key=lambda run: run.entry.sequence)

    def folders_of(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The folders in which files of these runs are, or were, with the run: where its prompt changed, that was
        another."""
        names = {f"prompt_run_id={path_segment(run_id)}": run_id for run_id in run_ids}
        folders = {
            table_folder(table, self.runs[run_id].run.prompt_id, run_id): run_id
            for run_id in names.values()
            if run_id in self.runs
            for table in TABLES
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
            writers=dict(self.writers),
            began=dict(self.began),
        )

    def apply(self, entry: LogEntry) -> None:
        """Move on by one entry."""
        head = EntryHead.of(entry)
        by_run: dict[str, list[DeliveredFile]] = {}
        for file in entry.files:
            by_run.setdefault(file.prompt_run_id, []).append(file)
        for run in entry.prompt_runs:
            files = tuple(by_run.get(run.run_id, ()))
            before = self.runs.get(run.run_id)
            self.abandoned.update(filter(named_hash, run.abandoned))
            if before is not None:
                self.abandoned.update(file.path for file in before.files)
            self.abandoned.difference_update(file.path for file in files)
            self.runs[run.run_id] = CommittedRun(head, run, files)
        self.abandoned.update(filter(named_hash, entry.abandoned))
        self.next_sequence = entry.sequence + 1
        self.count += 1
        self.last = entry
        if entry.prompt_runs:
            self.last_delivery = head
        self.writers.setdefault(entry.export.owner, entry.sequence)
        if entry.export.began_at is not None:
            self.began.setdefault(entry.export.id, entry.export.began_at)
