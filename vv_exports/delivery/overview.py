"""A collection at a glance: its prompt runs, and when each was delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.delivery.state import LogState
from vv_exports.domain.tables import TableName, rows_by_table


@dataclass(frozen=True)
class CollectedRun:
    """A prompt run that a collection holds. ``entry`` is the number of the log entry that delivered what is there, at
    ``delivered_at``; ``revision`` counts the contents that the run has had."""

    run_id: str
    prompt_id: str
    status: str
    revision: int
    rows: Mapping[TableName, int]
    files: int
    bytes: int
    delivered_at: datetime
    entry: int


def collected_runs(state: LogState) -> Sequence[CollectedRun]:
    """Those of a collection, what was delivered last first."""
    found = [
        CollectedRun(
            run_id=run_id,
            prompt_id=held.prompt_id,
            status=held.run.status,
            revision=held.run.revision,
            rows={table: rows for table, rows in rows_by_table(held.files).items() if rows},
            files=len(held.files),
            bytes=sum(file.bytes for file in held.files),
            delivered_at=datetime.fromisoformat(held.entry.committed_at),
            entry=held.entry.sequence,
        )
        for run_id, held in state.runs.items()
    ]
    return sorted(found, key=lambda run: (-run.entry, run.run_id))
