"""What a source of prompt runs must provide. It knows nothing of snapshots, files or destinations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from vv_exports.domain.prompt_runs import Index, JsonObject, JsonValue, Prompt, PromptRun


@dataclass(frozen=True)
class Page:
    """Some consecutive results of one prompt run.

    ``documents`` are decoded JSON objects with the SDK's field names. ``locate(i)`` says where ``documents[i]``
    was read, for error messages: a file and a line, or a request.
    """

    documents: list[JsonObject]
    locate: Callable[[int], str]


class Source(Protocol):
    """Where prompt runs are read. Every call may raise SourceDataError, TransientError or NotFoundError.

    Results are streamed: a page is bounded in size, and reading a run twice gives the same results as long as
    nobody changed it. A failed reading raises; it never looks like an empty one.
    """

    def indexes(self) -> list[Index]:
        """All indexes, by id."""

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError."""

    def prompt_runs(self, index_id: str) -> list[PromptRun]:
        """All runs of an index, whatever their status, in the order (executed_at, run_id)."""

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError."""

    def change_hint(self, run: PromptRun) -> JsonValue:
        """Something cheap to read that differs when the run's results may have changed, beside its record."""

    def prompt(self, run: PromptRun) -> Prompt:
        """The prompt as it was when the run was made."""

    def segment_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's segment results, best in the order (video_id, start_time, segment_id)."""

    def video_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's video results, best in the order of video_id. Empty where the prompt has no video level."""

    def failed_segments(self, run: PromptRun) -> Iterator[Page]:
        """The segments that failed, one document each (the SDK's manifest, with ``video_id`` in each)."""
