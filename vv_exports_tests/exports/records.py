"""Records of exports that nobody made."""

from datetime import UTC, datetime, timedelta
from typing import Any

from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.exports import ExportRequest, ExportStatus
from vv_exports.exports.records import Attempt, Outcome, Record

BEGAN = datetime(2024, 11, 1, 12, tzinfo=UTC)


def attempt_of(run_id: str, process: str = "another-machine 1 1") -> Attempt:
    return Attempt(dagster_run_id=run_id, began_at=BEGAN, launched_by="client", process=process)


def record_of(number: int, status: str = "completed", *, index_id: str = "idx", **fields: Any) -> Record:
    """The record of an export that was asked for ``number`` minutes after the first."""
    completed = status == "completed"
    given = {
        "export_id": f"exp_{number:02x}{number:030x}",
        "launch": str(number),
        "request": ExportRequest("index", index_id, None, None, None, ContentOptions(FormatOptions("csv"))),
        "prompt_run_ids": ("run_0", "run_1"),
        "created_at": BEGAN + timedelta(minutes=number),
        "status": ExportStatus(status),
        "attempts": (attempt_of(str(number)),),
        "completed_at": BEGAN + timedelta(minutes=number, seconds=30) if completed else None,
        "outcome": Outcome(destination_uri="/x.zip", rows=5, files=2, bytes=9, delivery_id="d") if completed else None,
    }
    return Record(**{**given, **fields})
