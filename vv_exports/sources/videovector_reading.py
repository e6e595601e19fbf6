"""One prompt run on its way from VideoVector: one media item at a time, many at once.

What was read of an item is staged, and handed on in order as it comes. What does not add up is read again, and then
refused.
"""

import asyncio
import hashlib
import logging
import math
import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import pyarrow as pa

from vv_exports.domain.json_text import encode_text
from vv_exports.domain.prompt_runs import JsonObject, Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.errors import NotFoundError, SourceDataError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.sources.base import DocumentPage, Page, Stage, TextPage
from vv_exports.sources.bounded_answers import AnswerTooLargeError, decode_within
from vv_exports.sources.documents import (
    as_object,
    check_page,
    failed_segments,
)
from vv_exports.sources.unpacking import UnpackedTooLargeError, unpacked
from vv_exports.sources.videovector_api import VideoVectorApi
from vv_exports.sources.videovector_records import Touched, clean, full_manifest, prompt_of, schema_in, stated_segments

_READINGS = 3
_BETWEEN_READINGS_SECONDS = 0.5
_PROGRESS_SECONDS = 5.0
_PAGE_BYTES = 2**18
_ANSWERS_OF_AN_ITEM = 4  # as many of the largest answers there may be
_LEAST_BYTES_OF_A_ROW = 16  # what a result must hold is longer
_SCHEMA_TRIES = 20
_SEGMENTS, _VIDEO = slice(0, -1), slice(-1, None)
"""Which lines of a staged media item are what."""
_WRITERS = 2  # more of them get into the way of the requests
_LOG = logging.getLogger(__name__)
_Rows = TypeVar("_Rows")


@dataclass
class Reading:
    """One run on its way to the stage. ``fetch`` runs in the background; the rest is called from elsewhere."""

    api: VideoVectorApi
    run: PromptRun
    members: "dict[str, Touched | None]"
    stage: Stage

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._spent = (self.api.budget.spent.requests, self.api.budget.spent.waited)
        self._said = self._began
        self._rows = 0
        self._most_bytes = _ANSWERS_OF_AN_ITEM * self.api.max_answer_bytes
        self._media_done = 0
        self._prompt: Future[Prompt] = Future()
        self._failures: Future[DocumentPage] = Future()
        self._videos_wanted: Future[bool] = Future()
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="stage")
        self._staged: dict[str, Future[None]] = {video_id: Future() for video_id in sorted(self.members)}

    # Called from the thread that wants the results

    def prompt(self) -> Prompt:
        """The prompt, once it is there."""
        return self._prompt.result()

    def segments(self) -> Iterator[Page]:
        """The segment results, in order, each media item as soon as it is staged; then their number is checked."""
        ids: set[tuple[Any, Any]] = set()
        found = 0
        failed = {(one["video_id"], one["segment_id"]) for one in self._failures.result().documents}
        for page in self._pages(_SEGMENTS):
            found += page.rows
            if failed:
                ids |= failed & {(one["video_id"], one["segment_id"]) for one in page.documents}
            yield page
        stated = stated_segments(self.run)
        # A segment of which one operation failed may have a result too, and may or may not be counted as completed.
        if stated is not None and found not in {stated, stated + len(ids)}:
            raise SourceDataError(self._difference(found, "segment results", "completed_segments", stated))

    def videos(self) -> Iterator[Page]:
        """The video results, in order; then their number is checked."""
        found = failed = 0
        for page in self._pages(_VIDEO):
            found += page.rows
            failed += sum(one.get("status") == "failed" for one in page.documents)
            yield page
        completed = self.run.count("video_level_completed_items")
        if completed is not None:
            stated = completed + (self.run.count("video_level_partial_items") or 0)
            if stated not in {found, found - failed}:
                counters = "video_level_completed_items + video_level_partial_items"
                raise SourceDataError(self._difference(found, "video results", counters, stated))

    def failures(self) -> Iterator[Page]:
        """The failed segments."""
        page = self._failures.result()
        yield DocumentPage([dict(one) for one in page.documents], page.locate)

    def _pages(self, part: slice) -> Iterator[TextPage]:
        """A part of what is staged of each media item, in order. Items have few rows each, and pages are dear."""
        lines: list[bytes] = []
        begins: list[tuple[int, str]] = []  # the row of the page with which an item begins; before it for a part of one
        size = 0
        for video_id, staged in self._staged.items():
            staged.result()
            begins.append((len(lines), video_id))
            for row, line in enumerate(self._lines_of(video_id, part)):
                lines.append(line)
                size += len(line)
                if size >= _PAGE_BYTES:
                    yield TextPage(lines, partial(self._locate, begins), self._documents)
                    lines, begins, size = [], [(-row - 1, video_id)], 0
        if lines:
            yield TextPage(lines, partial(self._locate, begins), self._documents)

    def _lines_of(self, video_id: str, part: slice) -> Iterable[bytes]:
        data = self.stage.read(_name(video_id))
        text = _decompressed(data, self._most_bytes) if data is not None else None
        if text is None:  # another process has read the same run and tidied up, or the machine crashed
            return filter(None, self.api.run(self._lines(video_id))[part])
        return filter(None, _split(text, part))

    def _documents(self, lines: Sequence[bytes], locate: Callable[[int], str]) -> list[JsonObject]:
        """What is staged, decoded. It was checked before."""
        documents: list[JsonObject] = []
        for i, line in enumerate(lines):
            try:
                documents.append(as_object(decode_within(line, self.api.max_answer_bytes), locate(i)))
            except (ValueError, AnswerTooLargeError) as error:
                raise SourceDataError(
                    f"{locate(i)}: what was kept of it is damaged ({error}). It is read again."
                ) from None
        return documents

    def _locate(self, begins: list[tuple[int, str]], i: int) -> str:
        begin, video_id = begins[bisect_right(begins, i, key=itemgetter(0)) - 1]
        return _row(self._results_of(video_id), i - begin)

    def _results_of(self, video_id: str) -> str:
        return f"results of media item {one_line(video_id)} in prompt run {one_line(self.run.run_id)}"

    def _difference(self, found: int, what: str, counters: str, stated: int) -> str:
        return (
            f"prompt run {self.run.run_id!r} of index {self.run.index_id!r} states {counters} = {stated}, but "
            f"{found} {what} were read from its {len(self.members)} media: a difference of {abs(stated - found)}. "
            "Nothing was exported rather than a part; if it stays so, report it to VideoVector."
        )

    def progress(self) -> str:
        """How far the reading is, in one line."""
        requests, waited = self._spent
        spent = self.api.budget.spent
        return (
            f"{one_line(self.run.run_id)}: {self._media_done} of {len(self.members)} media, {self._rows:,} segments, "
            f"{spent.requests - requests:,} requests, {spent.waited - waited:.1f} s waited, "
            f"{time.monotonic() - self._began:.1f} s"
        )

    # Called in the background

    async def fetch(self) -> None:
        """Fetch everything that is not staged yet. What goes wrong is raised where the results are wanted."""
        try:
            names = self.stage.names()
            for video_id in self._staged:
                if _name(video_id) in names:
                    self._is_staged(video_id)
            missing = iter([video_id for video_id, staged in self._staged.items() if not staged.done()])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fetch_prompt())
                tasks.create_task(self._fetch_failures())
                for _ in range(self.api.budget.max_concurrency):
                    tasks.create_task(self._work(missing))
        except BaseExceptionGroup as group:
            self._give_up(_first(group))
        except asyncio.CancelledError:
            self._give_up(RuntimeError("the reading was given up"))
            raise
        finally:
            self._writers.shutdown(wait=False)

    def _is_staged(self, video_id: str) -> None:
        self._staged[video_id].set_result(None)
        self._media_done += 1

    def _give_up(self, error: BaseException) -> None:
        promised: list[Future[Any]] = [self._prompt, self._videos_wanted, self._failures, *self._staged.values()]
        for future in promised:
            if not future.done():
                future.set_exception(error)

    async def _work(self, missing: Iterator[str]) -> None:
        for video_id in missing:
            lines = await self._lines(video_id)
            await asyncio.get_running_loop().run_in_executor(self._writers, self._write, video_id, lines)
            self._is_staged(video_id)
            if time.monotonic() > self._said + _PROGRESS_SECONDS:
                self._said = time.monotonic()
                _LOG.info("%s", self.progress())

    def _write(self, video_id: str, lines: list[bytes]) -> None:
        self.stage.write(_name(video_id), _compressed(b"\n".join(lines)))

    async def _lines(self, video_id: str) -> list[bytes]:
        """All of a media item as it is staged: a line for each segment result, then one for the video result, which is
        empty where there is none."""
        try:
            async with asyncio.TaskGroup() as tasks:
                segments = tasks.create_task(self._until_it_adds_up(self._segment_rows, video_id))
                video = tasks.create_task(self._until_it_adds_up(self._video_row, video_id))
        except BaseExceptionGroup as group:
            raise _first(group) from None
        return [*segments.result(), video.result()]

    async def _until_it_adds_up(self, read: Callable[[str], Awaitable[_Rows]], video_id: str) -> _Rows:
        for reading in range(1, _READINGS + 1):
            try:
                return await read(video_id)
            except _MismatchError as mismatch:
                _LOG.info("%s; reading %d of %d", mismatch, reading, _READINGS)
                if reading == _READINGS:
                    raise SourceDataError(
                        f"{mismatch}, also at reading {reading}. Nothing was exported rather than a part."
                    ) from None
                await asyncio.sleep(_BETWEEN_READINGS_SECONDS * (1 + random.random()))  # noqa: S311
        raise AssertionError("the last reading returns or raises")

    async def _segment_rows(self, video_id: str) -> list[bytes]:
        where = f"segments of media item {one_line(video_id)} in prompt run {one_line(self.run.run_id)}"
        rows: dict[str, tuple[Any, bytes]] = {}
        size = 0
        total = max(self.run.count("total_segments") or 0, self.run.count("completed_segments") or 0) or math.inf
        async for documents in self.api.pages("prompt-runs", self.run.run_id, "results", video_id=video_id):
            self._check(documents, video_id, where, "segments")
            for document in documents:
                segment_id = document["segment_id"]
                if segment_id in rows:
                    raise _MismatchError(f"{where}: segment {segment_id!r} is there twice")
                rows[segment_id] = (_order(document), _text(document, where))
                size += len(rows[segment_id][1])
            if size > self._most_bytes:
                raise SourceDataError(
                    f"{where}: the results are more than {self._most_bytes:,} bytes, {_ANSWERS_OF_AN_ITEM} times "
                    "source.max_answer_bytes. Raise that where they are meant and there is the memory for them."
                )
            if len(rows) > total:  # before the last page: it may never come
                raise _MismatchError(
                    f"{where}: {len(rows)} results were read, and the run states total_segments = {total}"
                )
        touched = self.members.get(video_id)
        if touched is not None and touched.successful is not None and len(rows) != touched.successful:
            failures = (await asyncio.wrap_future(self._failures)).documents
            failed = sum(one["video_id"] == video_id and one["segment_id"] in rows for one in failures)
            if len(rows) != touched.successful + failed:
                raise _MismatchError(
                    f"{where}: the media list states successful_segments = {touched.successful}, and {len(rows)} "
                    "results were read"
                )
        self._rows += len(rows)
        return [text for _, text in sorted(rows.values())]

    async def _video_row(self, video_id: str) -> bytes:
        if not await asyncio.wrap_future(self._videos_wanted):
            return b""
        where = f"video result of media item {one_line(video_id)} in prompt run {one_line(self.run.run_id)}"
        try:
            document = await self.api.get("prompt-runs", self.run.run_id, "videos", video_id, "video-result")
        except NotFoundError:
            touched = self.members.get(video_id)
            if touched is not None and touched.has_video_result:
                raise _MismatchError(f"{where}: the media list states a result, and there is none") from None
            return b""
        self._check([as_object(document, where)], video_id, where, "videos")
        return _text(document, where)

    def _check(self, documents: list[JsonObject], video_id: str, where: str, table: TableName) -> None:
        for document in documents:
            _clean(document, where)
            if document.get("video_id") is None:
                document["video_id"] = video_id
        check_page(DocumentPage(documents, partial(_row, where)), self.run, table)
        for document in documents:
            if document["video_id"] != video_id:
                raise SourceDataError(f"{where}: a result is one of media item {document['video_id']!r}")

    async def _fetch_failures(self) -> None:
        where = f"failed segments of prompt run {one_line(self.run.run_id)}"
        manifest = as_object(await self.api.get("prompt-runs", self.run.run_id, "failed-segments"), where)
        page = failed_segments(full_manifest(manifest), self.run, where)
        for document in page.documents:
            _clean(document, where)
        check_page(page, self.run, "failures")
        total, completed = self.run.count("total_segments"), self.run.count("completed_segments")
        stated = [total - completed] if total is not None and completed is not None else []
        by_media = [one.failed for one in self.members.values() if one is not None and one.failed is not None]
        stated += [sum(by_media)] if by_media else []
        if stated and len(page.documents) < min(stated):
            raise SourceDataError(f"{where}: {len(page.documents)} are listed, but the run states {min(stated)}")
        self._failures.set_result(page)

    async def _fetch_prompt(self) -> None:
        stated = self.run.record.get("video_level_enabled")
        try:
            record = await self.api.get("prompts", self.run.prompt_id)
            prompt = prompt_of(as_object(record, f"prompt {one_line(self.run.prompt_id)}"), self.run)
        except NotFoundError:
            _LOG.warning("prompt %s is gone; its schema is taken from the results", one_line(self.run.prompt_id))
            prompt = Prompt(self.run.prompt_id, self.run.prompt_name, "", await self._schema_used())
        if stated is True and prompt.video_level_schema is None:
            prompt = Prompt(prompt.prompt_id, prompt.name, prompt.prompt_text, prompt.json_schema, {})
        elif stated is False:
            prompt = Prompt(prompt.prompt_id, prompt.name, prompt.prompt_text, prompt.json_schema, None)
        self._videos_wanted.set_result(prompt.video_level_schema is not None)
        self._prompt.set_result(prompt)

    async def _schema_used(self) -> Any:
        """The schema that a result says it was made with; an empty one where none says so."""
        for video_id in sorted(self.members)[:_SCHEMA_TRIES]:
            async for documents in self.api.pages("prompt-runs", self.run.run_id, "results", video_id=video_id):
                for document in documents:
                    schema = schema_in(document.get("schema_used"))
                    if schema is not None:
                        return schema
                break
        return {}


class _MismatchError(Exception):
    """What was read of a media item does not add up: it may at the next reading."""


def _row(where: str, i: int) -> str:
    return f"{where}, row {i + 1}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell: one of ours before a defect that it may have caused."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in leaves if isinstance(error, VVExportsError)), leaves[0])


def _order(document: JsonObject) -> tuple[int, Any, str]:
    """The place of a segment within its media item: null first, then by time."""
    start = document.get("start_time")
    if isinstance(start, int | float) and not isinstance(start, bool):
        return 1, start, document["segment_id"]
    return (0 if start is None else 2), 0, document["segment_id"]


def _text(document: JsonObject, where: str) -> bytes:
    try:
        return encode_text(document).encode()
    except ValueError as error:
        raise SourceDataError(f"{where}: {error}") from None


def _clean(document: JsonObject, where: str) -> None:
    try:
        clean(document)
    except RecursionError:
        raise SourceDataError(f"{where}: arrays or objects are nested too deep to be read") from None


def _name(video_id: str) -> str:
    return f"{hashlib.sha256(video_id.encode(errors='surrogatepass')).hexdigest()[:32]}.jsonl.zst"


def _compressed(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text)
    return bytes(sink.getvalue().to_pybytes())


def _decompressed(data: bytes, most_bytes: int) -> bytearray | None:
    """The text; None where the data is damaged. A text that was cut to nothing is not one: each has a last line."""
    try:
        text = unpacked(data, "zstd", most_bytes) if data else None
    except (ValueError, UnpackedTooLargeError):
        return None
    return None if text and text.count(b"\n") * _LEAST_BYTES_OF_A_ROW > len(text) else text


def _split(text: bytearray, part: slice) -> Iterator[bytes]:
    """The lines of a part, one after the other: all at once they would take the text's memory once more."""
    begin, end = (0, text.rfind(b"\n")) if part == _SEGMENTS else (text.rfind(b"\n") + 1, len(text))
    while begin < end:
        stop = text.find(b"\n", begin, end)
        stop = end if stop < 0 else stop
        yield bytes(text[begin:stop])
        begin = stop + 1
