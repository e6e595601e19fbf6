"""What a delivery would come to, for whoever decides whether to make it: one document, whatever asked for it.

Rows, files and columns are exact of prompt runs that were read; what is not is marked as an estimate. It knows no
rule: it is told what a rehearsal found.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vv_exports.delivery.deliver import DeliveredPromptRun, Delivery
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.errors import ContractBrokenError, SchemaConflictError
from vv_exports.printable import counted, one_line
from vv_exports.sources.base import Effort

Kind = Literal["disabled", "paused", "destination", "content", "schema", "contract", "foreign_files", "other"]
Stops = Literal["everything", "prompt_run", "nothing"]


@dataclass(frozen=True)
class PlannedConflict:
    """Something in the way, or that somebody should know first, and what it stops."""

    kind: Kind
    stops: Stops
    message: str
    run_id: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A prompt run that would be delivered, and why. Of one that ``is_read`` rows and files are those of the delivery,
    and bytes, where ``bytes_exact``; otherwise they are an estimate. Of one that has to be read first, rows are what
    its own counters state, files and bytes are None, and ``effort`` is what reading it takes."""

    run_id: str
    status: str
    executed_at: str
    why: str | None
    total_segments: int | None
    is_read: bool
    rows: int | None
    files: int | None
    bytes: int | None
    bytes_exact: bool
    effort: Effort


@dataclass(frozen=True)
class PlannedTable:
    """A table of one prompt with the columns of its files; None where these are documents. ``change`` says why columns
    are others than those that are there."""

    prompt_id: str
    table: str
    folder: str
    rows: int
    files: int
    columns: Sequence[str] | None
    change: str | None


@dataclass(frozen=True)
class Consequence:
    """Prompt runs that are delivered again by that, since it brings columns that their files have not, and what that
    comes to. Runs that were not read yet may bring more."""

    prompt_runs: tuple[str, ...] = ()
    rows: int = 0
    files: int = 0
    bytes: int = 0
    bytes_exact: bool = True


@dataclass(frozen=True)
class Removed:
    """Files that would be removed, since something else is put in their place, or a delivery that died left them."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class DeliveryPlan:
    """What a delivery would come to. ``changes`` say why columns change, or that a run has to wait since files cannot
    hold its types. ``source`` is what the source would be asked for."""

    index_id: str
    destination_uri: str
    format: str
    prompt_runs: Sequence[PlannedRun]
    tables: Sequence[PlannedTable] = ()
    already_delivered: Sequence[str] = ()
    reshape: Consequence = field(default_factory=Consequence)
    removed: Removed = field(default_factory=Removed)
    changes: Sequence[str] = ()
    conflicts: Sequence[PlannedConflict] = ()

    @property
    def rows(self) -> int:
        """Rows, as far as they are known."""
        return sum(run.rows or 0 for run in self.prompt_runs)

    @property
    def files(self) -> int:
        """Files, as far as they are known."""
        return sum(run.files or 0 for run in self.prompt_runs)

    @property
    def bytes(self) -> int:
        """Bytes, as far as they are known."""
        return sum(run.bytes or 0 for run in self.prompt_runs)

    @property
    def headline(self) -> str:
        """It in one line."""
        return f"would deliver {self.extent} to {self.destination_uri}"

    @property
    def unread(self) -> Sequence[PlannedRun]:
        """The prompt runs that have to be read first."""
        return [run for run in self.prompt_runs if not run.is_read]

    @property
    def is_exact(self) -> bool:
        """Whether rows and files are those of the delivery."""
        return not self.unread

    @property
    def bytes_exact(self) -> bool:
        """Whether the bytes are, too."""
        return all(run.bytes_exact for run in self.prompt_runs)

    @property
    def source(self) -> Effort:
        """What the source would be asked for, to read what was not read yet."""
        return sum((run.effort for run in self.prompt_runs), Effort())

    @property
    def is_stopped(self) -> bool:
        """Whether it would fail, in whole or in part."""
        return any(one.stops != "nothing" for one in self.conflicts)

    @property
    def document(self) -> dict[str, Any]:
        """All of it."""
        return {
            "dry_run": True,
            **vars(self),
            "rows": self.rows,
            "files": self.files,
            "bytes": self.bytes,
            "is_exact": self.is_exact,
            "bytes_exact": self.bytes_exact,
            "source": self.source,
        }

    @property
    def extent(self) -> str:
        """How much it is: ``2 prompt runs (204 rows, 2 files, 12,345 bytes)``."""
        rows, size, unread = counted(self.rows, "row"), counted(self.bytes, "byte"), len(self.unread)
        parts = [rows if self.is_exact else f"about {rows}"]
        if not unread or unread < len(self.prompt_runs):
            parts.append(counted(self.files, "file"))
            parts.append(size if all(run.bytes_exact for run in self.prompt_runs if run.is_read) else f"about {size}")
        if unread:
            parts[-1] += f" without {unread} to be read first" if len(parts) > 1 else ""
        return f"{counted(len(self.prompt_runs), 'prompt run')} ({', '.join(parts)})"

    @property
    def lines(self) -> list[str]:
        """What is to be said beside how much it is, and of each run."""
        said = []
        if unread := self.unread:
            takes = f" (about {self.source})" if str(self.source) else ""
            said.append(
                f"{counted(len(unread), 'prompt run')} would be read first{takes}; "
                "rows of these are what their counters state, files and bytes are not known"
            )
        if (again := self.reshape).prompt_runs:
            said.append(
                f"after that it would deliver {counted(len(again.prompt_runs), 'prompt run')} again "
                f"({counted(again.files, 'file')}, {counted(again.bytes, 'byte')}), whose files have not the columns "
                "that this brings"
            )
        if not again.bytes_exact or any(run.is_read and not run.bytes_exact for run in self.prompt_runs):
            said.append("bytes of files that are encoded anew are an estimate: the size of what they are made from")
        if self.removed.files:
            said.append(
                f"it would remove {counted(self.removed.files, 'file')} ({counted(self.removed.bytes, 'byte')}) that "
                "this puts something else in the place of, or that a delivery that died has left"
            )
        said += [f"columns: {one_line(change)}" for change in self.changes]
        said += [  # of types that files cannot hold, the changes tell
            f"{'in the way' if one.stops != 'nothing' else 'note'}: {one_line(one.message)}"
            for one in self.conflicts
            if one.kind != "schema"
        ]
        return said


def planned_run(  # noqa: PLR0917
    run_id: str,
    status: str,
    executed_at: str,
    why: str | None,
    delivered: DeliveredPromptRun | None,
    rehearsal: Rehearsal | None,
    *,
    total_segments: int | None = None,
    stated: int | None = None,
    effort: Effort | None = None,
) -> PlannedRun:
    """Of one run: what a rehearsal has found, or what is stated of one that has to be read first."""
    paths = set() if delivered is None else {file.path for file in delivered.files}
    return PlannedRun(
        run_id=run_id,
        status=status,
        executed_at=executed_at,
        why=why,
        total_segments=total_segments,
        is_read=effort is None,
        rows=stated if delivered is None else delivered.rows(),
        files=None if delivered is None else len(delivered.files),
        bytes=None if delivered is None else delivered.bytes,
        bytes_exact=delivered is not None and rehearsal is not None and not paths & rehearsal.estimated,
        effort=effort or Effort(),
    )


def planned_tables(deliveries: Iterable[Delivery]) -> list[PlannedTable]:
    """The tables of deliveries, each with what it has in the end."""
    found: dict[tuple[str, str], PlannedTable] = {}
    for delivery in deliveries:
        files = [file for run in delivery.prompt_runs if run.written for file in run.files]
        for one in delivery.tables:
            mine = [
                file for file in files if file.prompt_id == one.prompt_id and file.path.startswith(f"{one.folder}/")
            ]
            before = found.get((one.prompt_id, one.folder))
            changes = [] if before is None or before.change is None else [before.change]
            changes += [] if one.change is None else [one.change]
            found[one.prompt_id, one.folder] = PlannedTable(
                prompt_id=one.prompt_id,
                table=one.table,
                folder=one.folder,
                rows=sum(file.rows for file in mine) + (before.rows if before is not None else 0),
                files=len(mine) + (before.files if before is not None else 0),
                columns=None if one.columns is None else list(one.columns),
                change="; ".join(changes) or None,
            )
    return list(found.values())


def changes_of(tables: Iterable[PlannedTable]) -> list[str]:
    """Why columns change."""
    return [f"{one.folder}/{one.prompt_id}: {one.change}" for one in tables if one.change is not None]


def conflict_of(error: Exception, run_id: str | None = None) -> PlannedConflict:
    """What would keep a run, or all of them, from being delivered."""
    kind: Kind = "other"
    if isinstance(error, SchemaConflictError | ContractBrokenError):
        kind = "schema" if isinstance(error, SchemaConflictError) else "contract"
    return PlannedConflict(kind, "everything" if run_id is None else "prompt_run", str(error), run_id)


def foreign_files(rehearsal: Rehearsal, uri_of: Callable[[str], str]) -> list[PlannedConflict]:
    """Files of somebody else's in the folders that are delivered to: they stay, and readers take them."""
    return [
        PlannedConflict(
            "foreign_files",
            "nothing",
            f"{uri_of(min(paths))} is not the pipeline's, and stays"
            + (f"; so do {len(paths) - 1} more in the folders of prompt run {run_id!r}" if len(paths) > 1 else "")
            + ": a glob of the table's folder takes it",
            run_id,
        )
        for run_id, paths in rehearsal.foreign.items()
    ]


def stated_rows(run: PromptRun, tables: Iterable[TableName]) -> int | None:
    """The rows of these tables as a run's own counters state them; None where they state none of it."""
    total, completed = run.count("total_segments"), run.count("completed_segments")
    videos = [run.count(name) for name in ("video_level_completed_items", "video_level_partial_items")]
    by_table: Mapping[TableName, int | None] = {
        "segments": completed if completed is not None else total,
        "failures": None if total is None or completed is None else total - completed,
        "videos": None if videos == [None, None] else sum(one or 0 for one in videos),
    }
    stated = [rows for table in tables if (rows := by_table[table]) is not None]
    return sum(stated) if stated else None
