"""The nouns of VideoVector that this package exports. Field names are the SDK's (``videovector``, ``_types.py``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

JsonObject = dict[str, Any]
"""A decoded JSON object. Integers of any size are ``int``; numbers that no double holds are ``Decimal``."""


JsonValue = Any
"""A decoded JSON value."""


class RunStatus(StrEnum):
    """The statuses of a prompt run."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """A status that this version does not know: such a run is not taken for finished."""


DELIVERABLE = frozenset({RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES})
"""Statuses whose results may be exported: the run is over and its results are usable."""


VOLATILE = frozenset(
    {
        # links that carry a short-lived token
        "segment_uri",
        "thumbnail_uri",
        "gif_uri",
        "preview_segment_uri",
        "preview_thumbnail_uri",
        "preview_gif_uri",
        # people's annotations on the platform, which change at any time and are no result of the run
        "marker",
        "extracted_metadata_markers",
        "metadata_markers",
    }
)
"""Fields of a result that are never stored, hashed or delivered."""


@dataclass(frozen=True)
class Index:
    """A collection of media."""

    index_id: str
    name: str
    description: str | None = None


@dataclass(frozen=True)
class Prompt:
    """What was asked of the media, as it stood when the run was made.

    ``json_schema`` describes a segment result's ``metadata``; ``video_level_schema`` a video result's, and is
    None where the prompt has no video level. Either may be any JSON value: an invalid schema is not an error.
    """

    prompt_id: str
    name: str
    prompt_text: str
    json_schema: Any
    video_level_schema: Any = None


@dataclass(frozen=True)
class PromptRun:
    """One execution of a prompt over an index.

    ``record`` is the whole run as the source holds it; the counters in it (``total_segments``,
    ``completed_segments``, …) may be missing. ``executed_at`` is aware and in UTC.
    """

    run_id: str
    index_id: str
    prompt_id: str
    prompt_name: str
    status: RunStatus
    executed_at: datetime
    record: Mapping[str, Any]

    @property
    def deliverable(self) -> bool:
        """Whether the run is over and its results are usable."""
        return self.status in DELIVERABLE

    @property
    def stated_segments(self) -> int:
        """How many segments it has by its own counters; 0 where they do not say."""
        return self.count("completed_segments") or self.count("total_segments") or 0

    def count(self, name: str) -> int | None:
        """One of the record's counters, None where the record does not state it."""
        value = self.record.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
