"""What a destination holds, without its files: enough to say whether each prompt run is there as it should be.

For a process that asks again and again, and delivers nothing: of a hundred thousand prompt runs, the files are nine
tenths of the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from vv_exports.delivery.columns import EarlierColumns, Shape, are_earlier_parquet, earlier_columns
from vv_exports.delivery.entry import LogEntry
from vv_exports.delivery.state import EntryHead, Replay, folders_of


class HeldRun(msgspec.Struct, frozen=True, gc=False):
    """What a destination holds of one prompt run, and by which entry. See ``Held``."""

    entry: EntryHead
    prompt_id: str
    data_version: str
    status: str
    folders: frozenset[str]
    earlier: Mapping[str, EarlierColumns] | None = None

    def holds(self, data_version: str | None, status: str) -> bool:
        """Whether it delivered these rows, of a run with this status: in whichever shape."""
        return self.data_version == data_version and self.status == status


@dataclass
class Holdings(Replay):
    """The replay of a log, as ``LogState`` is, of which it has the same fields."""

    next_sequence: int = 0
    runs: dict[str, HeldRun] = field(default_factory=dict)
    shapes: dict[str, dict[str, Shape]] = field(default_factory=dict)
    last: LogEntry | None = None
    began: dict[str, datetime] = field(default_factory=dict)
    _earlier: tuple[int, dict[str, dict[str, Shape]]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def copy(self) -> "Holdings":
        """The same, to move on from while others still use this one."""
        return replace(self, runs=dict(self.runs), shapes=dict(self.shapes), began=dict(self.began))

    def apply(self, entry: LogEntry) -> None:
        """Move on by one entry."""
        head = EntryHead.of(entry)
        self.shape(entry.tables or ())
        paths: dict[str, list[str]] = {}
        for file in entry.files:
            paths.setdefault(file.prompt_run_id, []).append(file.path)
        earlier = earlier_columns(entry) if are_earlier_parquet(head) else {}
        for run in entry.prompt_runs:
            folders = folders_of(paths.get(run.run_id, ()))
            self.runs[run.run_id] = HeldRun(
                head, run.prompt_id, run.data_version, run.status, folders, earlier.get(run.run_id)
            )
        for run_id in entry.erased_runs:
            self.runs.pop(run_id, None)
        self.next_sequence = entry.sequence + 1
        self.last = entry
        self.begin(entry)
