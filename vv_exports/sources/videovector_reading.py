"""One prompt run on its way from VideoVector: one media item at a time, many at once.

What is answered about an item is staged as it arrives, and the item is handed on in order as soon as it is complete.
What does not add up is read again, and then refused.
"""

import asyncio
import logging
import math
import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

from vv_exports.domain.json_text import Members, decode, encode_line, members_in, members_of
from vv_exports.domain.prompt_runs import JsonObject, Prompt, PromptRun
from vv_exports.errors import NotFoundError, RequestError, SourceDataError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.sources.base import DocumentPage, Page, Stage, TextPage
from vv_exports.sources.bounded_answers import AnswerTooLargeError, decode_within
from vv_exports.sources.documents import as_object, check_page, failed_segments
from vv_exports.sources.videovector_answers import FILE_BYTES, Answer, Asked, StagedAnswers
from vv_exports.sources.videovector_api import VideoVectorApi, about, followed
from vv_exports.sources.videovector_items import Item, Items
from vv_exports.sources.videovector_records import (
    Touched,
    clean,
    clean_members,
    full_manifest,
    head_of,
    prompt_of,
    schema_in,
    stated_segments,
)

_READINGS = 3
_BETWEEN_READINGS_SECONDS = 0.5
_BETWEEN_WRITES_SECONDS = 0.01
_OF_THE_READING = 0.002
"""Each file costs as much as some answers: those that arrive within this time, or this part of the time that the
reading took until then, are in one. Whoever is killed asks again for as many, and for what was under way."""
_MOST_UNWRITTEN_BYTES = 2**23
_PROGRESS_SECONDS = 5.0
_PAGE_BYTES = 2**18
_ANSWERS_OF_AN_ITEM = 4  # as many of the largest answers there may be
_SCHEMA_TRIES = 20
_OF_PROMPT = ("prompt_id", "prompt_text", "json_schema", "video_level")
_LOG = logging.getLogger(__name__)
_Media = Literal["segments", "videos"]
"""What there is about each media item."""
_Staged = Callable[[Asked], Awaitable[Answer | None]]


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
        self._answers = StagedAnswers(self.stage, self._most_bytes)
        self._media_done = 0
        self._prompt: Future[Prompt] = Future()
        self._failures: Future[DocumentPage] = Future()
        self._videos_wanted: Future[bool] = Future()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self.is_fetched = asyncio.Event()
        self.lost_some = False
        """Whether some of what was staged was gone when it was wanted, so that it was fetched once more after all."""
        self._is_written = asyncio.Event()
        self._fills_a_file = asyncio.Event()
        self._media = sorted(self.members)
        self._items: dict[_Media, Items] = {"segments": Items(), "videos": Items()}

    # Called from the thread that wants the results

    def prompt(self) -> Prompt:
        """The prompt, once it is there."""
        return self._prompt.result()

    def segments(self) -> Iterator[Page]:
        """The segment results, in order, each media item as soon as it is staged; then their number is checked."""
        ids: set[tuple[Any, Any]] = set()
        found = 0
        failed = {(one["video_id"], one["segment_id"]) for one in self._failures.result().documents}
        for page in self._pages("segments"):
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
        for page in self._pages("videos"):
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

    def close(self, *, complete: bool) -> None:
        """End what ``fetch`` left. Where the run was not read to its end, what was read of it is staged, so that it is
        not asked for again; that it cannot be is not what went wrong."""
        self._writer.shutdown()
        if complete:
            return
        try:
            self._write_all()
        except VVExportsError as error:
            _LOG.info("what was read last of %s is not on its stage: %s", one_line(self.run.run_id), error)

    def _pages(self, table: _Media) -> Iterator[TextPage]:
        """The results of each media item, in order. Items have few rows each, and pages are dear."""
        lines: list[bytes] = []
        begins: list[tuple[int, str]] = []  # the row of the page with which an item begins; before it for a part of one
        size = 0
        for video_id in self._media:
            begins.append((len(lines), video_id))
            for row, line in enumerate(self._lines_of(table, video_id)):
                lines.append(line)
                size += len(line)
                if size >= _PAGE_BYTES:
                    yield TextPage(lines, partial(self._locate, begins), self._documents)
                    lines, begins, size = [], [(-row - 1, video_id)], 0
        if lines:
            yield TextPage(lines, partial(self._locate, begins), self._documents)

    def _lines_of(self, table: _Media, video_id: str) -> Iterable[bytes]:
        item = self._items[table].take(video_id)
        if item.lines is not None:
            return item.lines
        lines: list[bytes] = []
        for asked in item.asked:
            answer = self._answers.get(asked)
            if answer is None:
                self.lost_some = True
                with about(self.run.index_id):
                    again = self.api.run(self._complete(table, video_id))
                self._writer.submit(self._write_all).result()  # it may be so of all items: they must not gather here
                return again.lines or []
            lines += answer.lines
        return lines if item.order is None else map(lines.__getitem__, item.order)

    def _documents(self, lines: Sequence[bytes], locate: Callable[[int], str]) -> list[JsonObject]:
        """What is staged, decoded. It was checked before."""
        documents: list[JsonObject] = []
        for i, line in enumerate(lines):
            try:
                documents.append(as_object(decode_within(line, self.api.max_answer_bytes), locate(i)))
            except (ValueError, AnswerTooLargeError) as error:
                raise _unreadable(locate(i), error) from None
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
        in_writer = partial(asyncio.get_running_loop().run_in_executor, self._writer)
        try:
            await in_writer(self._answers.find)
            wanted = ((table, video_id) for video_id in self._media for table in self._items)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fetch_prompt())
                tasks.create_task(self._fetch_failures())
                writing = tasks.create_task(self._write(in_writer))
                async with asyncio.TaskGroup() as working:
                    for _ in range(self.api.budget.limits.places):
                        working.create_task(self._work(wanted))
                writing.cancel()
            self.is_fetched.set()
            await in_writer(self._write_all)
        except BaseExceptionGroup as group:
            self._give_up(_first(group))
        except asyncio.CancelledError:
            self._give_up(RuntimeError("the reading was given up"))
            raise
        except VVExportsError as error:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        promised: list[Future[Any]] = [self._prompt, self._videos_wanted, self._failures]
        for items in self._items.values():
            items.fail(error)
        for future in promised:
            if not future.done():
                future.set_exception(error)

    async def _write(self, in_writer: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        while True:
            if self._answers.unwritten_bytes < FILE_BYTES:
                self._fills_a_file.clear()
                wait = max(_BETWEEN_WRITES_SECONDS, _OF_THE_READING * (time.monotonic() - self._began))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._fills_a_file.wait()
            if self._answers.has_unwritten:
                await in_writer(self._answers.write)
                self._is_written.set()

    def _write_all(self) -> None:
        """Stage what was added. In the writer's thread alone, as long as there is one."""
        while self._answers.write():
            pass

    def _add(self, asked: Asked, answer: Answer) -> None:
        self._answers.add(asked, answer)
        if self._answers.unwritten_bytes >= FILE_BYTES:
            self._fills_a_file.set()

    async def _work(self, wanted: Iterator[tuple[_Media, str]]) -> None:
        for table, video_id in wanted:
            item = await self._complete(table, video_id)
            if table == "segments":
                self._media_done += 1
                self._rows += len(item.lines or [])
            self._items[table].put(video_id, item)
            if time.monotonic() > self._said + _PROGRESS_SECONDS:
                self._said = time.monotonic()
                _LOG.info("%s", self.progress())
            while self._answers.unwritten_bytes > _MOST_UNWRITTEN_BYTES:  # the storage is slower than the source
                self._is_written.clear()
                await self._is_written.wait()

    async def _from_stage(self, asked: Asked) -> Answer | None:
        return await asyncio.to_thread(self._answers.get, asked)

    async def _complete(self, table: _Media, video_id: str) -> Item:
        """All results of one table about a media item, that add up."""
        read = self._segments if table == "segments" else self._video
        if self._answers.has(Asked(table, video_id)):
            try:
                return await read(video_id, self._from_stage)
            except (_MismatchError, SourceDataError, RequestError, NotFoundError) as error:
                # What did not add up may have been staged, and a cursor may be too old.
                _LOG.info("%s; what was staged of it is read again", error)
        for reading in range(1, _READINGS + 1):
            try:
                return await read(video_id, _nothing)
            except _MismatchError as mismatch:
                _LOG.info("%s; reading %d of %d", mismatch, reading, _READINGS)
                if reading == _READINGS:
                    raise SourceDataError(
                        f"{mismatch}, also at reading {reading}. Nothing was exported rather than a part."
                    ) from None
                await asyncio.sleep(_BETWEEN_READINGS_SECONDS * (1 + random.random()))  # noqa: S311
        raise AssertionError("the last reading returns or raises")

    async def _segments(self, video_id: str, staged: _Staged) -> Item:
        where = f"segments of media item {one_line(video_id)} in prompt run {one_line(self.run.run_id)}"
        path = ("prompt-runs", self.run.run_id, "results")
        asked: list[Asked] = []
        places: dict[str, tuple[int, Any, str]] = {}
        lines: list[bytes] = []

        async def page_at(cursor: str | None) -> tuple[list[tuple[JsonObject, bytes]], str | None]:
            asked.append(Asked("segments", video_id, cursor))
            answer = await staged(asked[-1])
            if answer is not None:
                heads = list(map(_staged_head, answer.lines))
            else:
                rows, following = await self.api.rows(*path, cursor=cursor, video_id=video_id)
                heads = self._heads(rows, video_id, where, "segments")
                answer = Answer([_line(row, where) for row in rows], following)
                self._add(asked[-1], answer)
            return list(zip(heads, answer.lines, strict=True)), answer.following

        size = 0
        total = max(self.run.count("total_segments") or 0, self.run.count("completed_segments") or 0) or math.inf
        async for page in followed(page_at, where):
            for head, line in page:
                segment_id = head["segment_id"]
                if segment_id in places:
                    raise _MismatchError(f"{where}: segment {segment_id!r} is there twice")
                places[segment_id] = _place(head)
                lines.append(line)
                size += len(line)
            if size > self._most_bytes:
                raise SourceDataError(
                    f"{where}: the results are more than {self._most_bytes:,} bytes, {_ANSWERS_OF_AN_ITEM} times "
                    "source.max_answer_bytes. Raise that where they are meant and there is the memory for them."
                )
            if len(lines) > total:  # before the last page: it may never come
                raise _MismatchError(
                    f"{where}: {len(lines)} results were read, and the run states total_segments = {total}"
                )
        await self._check_number(video_id, places, where)
        in_order = list(places.values())
        order = sorted(range(len(lines)), key=in_order.__getitem__)
        if order == list(range(len(lines))):
            return Item(asked, None, lines, size)
        return Item(asked, order, [lines[i] for i in order], size)

    async def _check_number(self, video_id: str, segment_ids: Collection[str], where: str) -> None:
        touched = self.members.get(video_id)
        if touched is None or touched.successful is None or len(segment_ids) == touched.successful:
            return
        failures = (await asyncio.wrap_future(self._failures)).documents
        failed = sum(one["video_id"] == video_id and one["segment_id"] in segment_ids for one in failures)
        if len(segment_ids) != touched.successful + failed:
            raise _MismatchError(
                f"{where}: the media list states successful_segments = {touched.successful}, and {len(segment_ids)} "
                "results were read"
            )

    async def _video(self, video_id: str, staged: _Staged) -> Item:
        wanted = self._videos_wanted
        if not (wanted.result() if wanted.done() else await asyncio.wrap_future(wanted)):
            return Item([], None, [], 0)
        where = f"video result of media item {one_line(video_id)} in prompt run {one_line(self.run.run_id)}"
        asked = Asked("videos", video_id)
        answer = await staged(asked)
        if answer is None:
            answer = Answer(await self._video_result(video_id, where))
            self._add(asked, answer)
        return Item([asked], None, answer.lines, answer.size)

    async def _video_result(self, video_id: str, where: str) -> list[bytes]:
        try:
            members = await self.api.members("prompt-runs", self.run.run_id, "videos", video_id, "video-result")
        except NotFoundError:
            touched = self.members.get(video_id)
            if touched is not None and touched.has_video_result:
                raise _MismatchError(f"{where}: the media list states a result, and there is none") from None
            return []
        self._heads([members], video_id, where, "videos")
        return [_line(members, where)]

    def _heads(self, rows: list[Members], video_id: str, where: str, table: _Media) -> list[JsonObject]:
        """What is looked at of results that have just arrived, after what must not be kept was taken out of them."""
        heads = []
        for i, row in enumerate(rows):
            try:
                clean_members(row)
                head = head_of(row)
            except ValueError as error:
                raise _unreadable(_row(where, i), error) from None
            if head.get("video_id") is None:
                head["video_id"] = video_id
                row.update(members_of({"video_id": video_id}))
            heads.append(head)
        check_page(DocumentPage(heads, partial(_row, where)), self.run, table)
        for head in heads:
            if head["video_id"] != video_id:
                raise SourceDataError(f"{where}: a result is one of media item {head['video_id']!r}")
        return heads

    async def _fetch_failures(self) -> None:
        where = f"failed segments of prompt run {one_line(self.run.run_id)}"
        asked = Asked("failures")
        answer = await self._from_stage(asked) if self._answers.has(asked) else None
        if answer is not None:
            documents = [as_object(decode(line), where) for line in answer.lines]
            self._failures.set_result(DocumentPage(documents, partial(_row, where)))
            return
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
        self._add(asked, Answer([_line(document, where) for document in page.documents]))
        self._failures.set_result(page)

    async def _fetch_prompt(self) -> None:
        where = f"prompt {one_line(self.run.prompt_id)}"
        stated = self.run.record.get("video_level_enabled")
        asked = Asked("prompt")
        answer = await self._from_stage(asked) if self._answers.has(asked) else None
        try:
            if answer is not None:
                record = as_object(decode(answer.lines[0]), where)
            else:
                record = as_object(await self.api.get("prompts", self.run.prompt_id), where)
                self._add(asked, Answer([_line({name: record.get(name) for name in _OF_PROMPT}, where)]))
            prompt = prompt_of(record, self.run)
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
        for video_id in self._media[:_SCHEMA_TRIES]:
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


def _place(head: JsonObject) -> tuple[int, Any, str]:
    """The place of a segment within its media item: null first, then by time."""
    start = head.get("start_time")
    if isinstance(start, int | float) and not isinstance(start, bool):
        return 1, start, head["segment_id"]
    return (0 if start is None else 2), 0, head["segment_id"]


async def _nothing(_: Asked) -> None:
    """Nothing is taken from the stage."""


def _staged_head(line: bytes) -> JsonObject:
    try:
        return head_of(members_in(line))
    except ValueError:
        return as_object(decode(line), "what is staged")


def _unreadable(where: str, error: Exception) -> SourceDataError:
    return SourceDataError(
        f"{where}: it cannot be read ({error}). Nothing is kept of it; if it stays so, report it to VideoVector."
    )


def _line(members: Members | JsonObject, where: str) -> bytes:
    try:
        return encode_line(members)
    except ValueError as error:
        raise SourceDataError(f"{where}: {error}") from None


def _clean(document: JsonObject, where: str) -> None:
    try:
        clean(document)
    except RecursionError:
        raise SourceDataError(f"{where}: arrays or objects are nested too deep to be read") from None
