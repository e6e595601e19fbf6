"""What a consumer asked for, and what became of it. Names as in VideoVector's public API."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from vv_exports.domain.content_options import ContentOptions, FormatName
from vv_exports.domain.tables import TableName

ExportType = Literal["index", "prompt_run"]
BESIDE = ("bag", "dataset_card")
"""What may be asked for beside the tables of an export."""


class ExportStatus(StrEnum):
    """The statuses of an export."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class ExportRequest:
    """An export on demand. Without a connector it becomes a download.

    ``prompt_run_ids`` is None for all finished runs of the index; for a ``prompt_run`` export it holds one id. ``bag``
    asks for a bag of BagIt, ``dataset_card`` for a dataset card beside the tables.
    """

    export_type: ExportType
    index_id: str
    prompt_run_ids: tuple[str, ...] | None
    destination_connector_id: str | None
    destination_subpath: str | None
    content: ContentOptions = field(default_factory=ContentOptions)
    bag: bool = False
    dataset_card: bool = False

    @property
    def format(self) -> FormatName:
        """The name of the format."""
        return self.content.format.name

    @property
    def target_id(self) -> str:
        """The index, or the prompt run, that is exported."""
        if self.export_type == "prompt_run" and self.prompt_run_ids:
            return self.prompt_run_ids[0]
        return self.index_id


@dataclass(frozen=True)
class Export:
    """An export as it stands. Counts are of what the destination holds for it: rows of all tables, bytes of all files
    (for a download, of the artifact). ``rows_by_table`` is None of exports that an earlier version made.

    ``content`` is what was chosen of it, as the configuration would hold it, ``bag`` and ``dataset_card`` what else was
    asked for. ``prompt_run_ids`` are the runs that it is
    about, also where all were asked for; None where that was not decided before it failed. ``artifact`` is that of a
    completed download. ``dagster_run_ids`` are of all attempts, the last one's last; ``started_at`` is when that began.
    """

    export_id: str
    export_type: str
    index_id: str
    target_id: str
    status: ExportStatus
    format: str
    content: dict[str, Any]
    bag: bool
    dataset_card: bool
    all_prompt_runs: bool
    prompt_run_ids: tuple[str, ...] | None
    destination_type: Literal["download", "connector"]
    destination_connector_id: str | None
    destination_subpath: str | None
    destination_uri: str | None
    rows: int | None
    rows_by_table: Mapping[TableName, int] | None
    files: int | None
    bytes: int | None
    delivery_id: str | None
    artifact: Literal["available", "deleted"] | None
    artifact_deleted_at: str | None
    launched_by: str
    dagster_run_id: str
    dagster_run_ids: tuple[str, ...]
    error_message: str | None
    created_at: str | None
    started_at: str | None
    completed_at: str | None

    def was_over(self, moment: datetime) -> bool:
        """Whether the export was over before a moment: an idempotency key found it again."""
        return self.completed_at is not None and datetime.fromisoformat(self.completed_at) < moment

    def to_json(self) -> dict[str, Any]:
        """As ``vv-exports --json`` prints it."""
        return asdict(self)


def export_id_of(root_run_id: str) -> str:
    """The id of the export that a launch makes: the same in every retry, since those share their root run."""
    return f"exp_{root_run_id.replace('-', '')}"


def export_ids(launch_id: str, targets: Sequence[str]) -> dict[str, str]:
    """The export of each target of a launch. That of the only one shares its launch's id; several add a short name
    for their prompt run that any path can hold."""
    if len(targets) == 1:
        return {targets[0]: launch_id}
    return {target: f"{launch_id}_{hashlib.sha256(target.encode()).hexdigest()[:12]}" for target in targets}
