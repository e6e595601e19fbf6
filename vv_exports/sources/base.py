"""What a source of prompt runs must provide. It knows nothing of snapshots, files or destinations."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Generic, Protocol, TypeVar, runtime_checkable

from vv_exports.domain.findings import Finding
from vv_exports.domain.prompt_runs import Index, JsonObject, JsonValue, Prompt, PromptRun, RunStatus
from vv_exports.errors import SourceDataError, first_few
from vv_exports.printable import counted


class Page(Protocol):
    """Some consecutive results of one prompt run: ``rows`` of them. ``locate(i)`` says where one was read, for error
    messages: a file and a line, or a request."""

    @property
    def rows(self) -> int: ...
    @property
    def documents(self) -> list[JsonObject]:
        """Decoded JSON objects with the SDK's field names, each what a result must be. Raises SourceDataError."""

    def locate(self, i: int, /) -> str: ...


@dataclass(frozen=True)
class DocumentPage:
    """A page whose documents are there."""

    documents: list[JsonObject]
    locate: Callable[[int], str]

    @property
    def rows(self) -> int:
        """See ``Page.rows``."""
        return len(self.documents)


Read = Callable[[Sequence[bytes], Callable[[int], str]], list[JsonObject]]
"""Decodes lines, and checks that each is what a result must be. Raises SourceDataError with the place of one that is
not."""


@dataclass(frozen=True)
class TextPage:
    """A page as JSON text that is not decoded yet: a line for each result, with its line feed or without. No line is
    blank."""

    lines: Sequence[bytes]
    locate: Callable[[int], str]
    read: Read

    @property
    def rows(self) -> int:
        """See ``Page.rows``."""
        return len(self.lines)

    @property
    def documents(self) -> list[JsonObject]:
        """See ``Page.documents``: decoded each time."""
        return self.read(self.lines, self.locate)


@dataclass(frozen=True)
class Results:
    """All results of one prompt run, streamed. Each of the three can be read several times.

    ``segments`` come best in the order (video_id, start_time, segment_id), ``videos`` in that of video_id; they are
    empty where the prompt has no video level. ``failures`` are the segments that failed, one document each (the SDK's
    manifest, with ``video_id`` in each). ``run_afterwards`` is the run as it was when all of them were there, or later;
    it raises as ``Source.prompt_run``, and may be called after the results' context.
    """

    prompt: Prompt
    segments: Callable[[], Iterator[Page]]
    videos: Callable[[], Iterator[Page]]
    failures: Callable[[], Iterator[Page]]
    run_afterwards: Callable[[], PromptRun]


@dataclass(frozen=True)
class UnreadableRun:
    """A run that is there, and why its record cannot be read."""

    run_id: str
    error: SourceDataError


class ListedRun(Protocol):
    """What is known of each run of a listing: that may be the whole of it, or not."""

    @property
    def run_id(self) -> str: ...
    @property
    def executed_at(self) -> datetime: ...
    @property
    def status(self) -> RunStatus: ...
    @property
    def deliverable(self) -> bool: ...


_Run = TypeVar("_Run", bound=ListedRun)
_Run_co = TypeVar("_Run_co", bound=ListedRun, covariant=True)


@dataclass(frozen=True)
class Listed(Generic[_Run_co]):
    """The prompt runs of an index: ``runs`` in the order (executed_at, run_id), whatever their status, and by run id
    why the record of others cannot be read. Those are there all the same: left out, they would be missing unnoticed."""

    runs: Sequence[_Run_co]
    problems: Mapping[str, SourceDataError] = field(default_factory=dict)

    @staticmethod
    def of(each: Iterable[_Run | UnreadableRun]) -> "Listed[_Run]":
        """What was given of an index, run by run."""
        runs: dict[str, _Run] = {}
        problems: dict[str, SourceDataError] = {}
        for one in each:
            if isinstance(one, UnreadableRun):
                problems[one.run_id] = one.error
            else:
                runs[one.run_id] = one
        # One that is given twice is one that others pushed to the source's next page meanwhile.
        unread = {run_id: error for run_id, error in problems.items() if run_id not in runs}
        in_order = sorted(runs.values(), key=attrgetter("run_id"))
        in_order.sort(key=attrgetter("executed_at"))  # by both at once there would be a tuple for each run
        return Listed(in_order, unread)

    @cached_property
    def run_ids(self) -> set[str]:
        """All runs that are there, readable or not."""
        return {run.run_id for run in self.runs} | self.problems.keys()

    def complete(self) -> Sequence[_Run_co]:
        """All runs. Raises SourceDataError where the record of any cannot be read, naming those."""
        if self.problems:
            raise SourceDataError("\n".join(first_few([str(error) for error in self.problems.values()])))
        return self.runs

    def named(self, run_ids: Sequence[str]) -> Sequence[_Run_co]:
        """The readable runs. Raises SourceDataError where one of ``run_ids`` is not."""
        wanted = {run_id: error for run_id, error in self.problems.items() if run_id in set(run_ids)}
        Listed(self.runs, wanted).complete()
        return self.runs


Listing = Listed[PromptRun]
"""The prompt runs of an index, each with its record."""


class Stage(Protocol):
    """Where a source keeps what it has read of one run in one state, so that a reading that is cut off goes on there.

    It outlives the process, and is emptied when the run was read, was found changed, or did not add up.
    """

    def names(self) -> set[str]:
        """What is there."""

    def read(self, name: str) -> bytes | None:
        """What was written under a name; None where there is nothing, or nothing any more. It may be damaged."""

    def write(self, name: str, data: bytes) -> None:
        """Keep something. Usable from several threads."""


@dataclass(frozen=True)
class Effort:
    """What reading the results of runs takes, as far as it can be told without reading them: requests and media of an
    API, files of an archive."""

    requests: int = 0
    media: int = 0
    files: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(self.requests + other.requests, self.media + other.media, self.files + other.files)

    def __str__(self) -> str:
        named = ((self.requests, "request"), (self.media, "media item"), (self.files, "archive file"))
        return ", ".join(counted(number, noun) for number, noun in named if number)


class Source(Protocol):
    """Where prompt runs are read. Every call may raise SourceDataError, TransientError or NotFoundError.

    A page of results is bounded in size, and reading a run twice gives the same results as long as nobody changed it.
    A failed reading raises; it never looks like an empty one. ``readings_at_once`` is how many runs are best read at
    the same time, each from a thread of its own.
    """

    readings_at_once: int

    def indexes(self) -> list[Index]:
        """All indexes, by id."""

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError."""

    def each_run(self, index_id: str) -> Iterator[PromptRun | UnreadableRun]:
        """All runs of an index one by one, in any order, so that nobody holds 100,000 records who only looks at each.
        One that changes its place meanwhile may come twice. Raises as ``listing``, when the first one is asked for."""

    def listing(self, index_id: str) -> Listing:
        """All runs of an index. Raises NotFoundError, and what keeps the index itself from being read."""

    def prompt_runs(self, index_id: str) -> Sequence[PromptRun]:
        """All runs of an index, whatever their status, in the order (executed_at, run_id). Raises SourceDataError where
        the record of any cannot be read."""

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError."""

    def change_hint(self, run: PromptRun) -> JsonValue:
        """Something cheap to read that differs when the run's results may have changed, beside its record.

        What is wrong with the run is no error here, but when its results are read.

        It is at least as new as the last call of ``prompt_run``, ``prompt_runs`` or ``listing``, as the first run that
        ``each_run`` gave, and as what ``Results.run_afterwards`` gave.
        """

    def effort(self, run: PromptRun) -> Effort:
        """What reading the run's results would take, without reading them. What is wrong with the run is no error
        here, but when its results are read."""

    def results(self, run: PromptRun, stage: Stage) -> AbstractContextManager[Results]:
        """The run's results, to be used within the context. Raises SourceDataError where they do not add up."""

    def close(self) -> None:
        """Give up readings that are under way, and close connections. The source can be used again afterwards."""

    def check(self, index_ids: Sequence[str]) -> Iterator[Finding]:
        """Try what exports of these indexes need, reading only, step by step. Never raises an error of ours."""


@dataclass(frozen=True)
class UpstreamAutomation:
    """The platform's own export automation of an index."""

    enabled: bool
    paused: bool
    destination_connector_id: str | None
    destination_subpath: str | None

    @property
    def active(self) -> bool:
        """Whether it delivers."""
        return self.enabled and not self.paused


@runtime_checkable
class Platform(Protocol):
    """A source that exports by itself too. Only asked what it has: its exports are never called."""

    def upstream_connectors(self) -> list[JsonObject]:
        """The connectors that are registered there, with the SDK's field names; secrets are not among them."""

    def upstream_automation(self, index_id: str) -> UpstreamAutomation | None:
        """The export automation of an index there, None where it has none."""
