"""VideoVector itself as the source: which results a prompt run has, and whether they are all there.

A run's results are read one media item at a time, many at once. What was read of an item is staged, and handed on in
order as it comes. It must not know how a request is made (``videovector_api``) nor what is made of the results.
"""

import asyncio
import hashlib
import logging
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from vv_exports.domain.json_text import decode, decode_lines, encode_sorted, encode_text
from vv_exports.domain.prompt_runs import (
    DELIVERABLE,
    VOLATILE,
    Index,
    JsonObject,
    JsonValue,
    Prompt,
    PromptRun,
    RunStatus,
)
from vv_exports.errors import NotFoundError, SourceDataError, VVExportsError
from vv_exports.sources.base import Page, Results, Stage
from vv_exports.sources.documents import (
    FAILED_SEGMENT,
    SEGMENT_RESULT,
    VIDEO_RESULT,
    as_object,
    check_page,
    failed_segments,
    found_in,
    short,
    status_of,
    text_of,
    time_of,
)
from vv_exports.sources.redaction import holds_link, without_link_secrets
from vv_exports.sources.videovector_api import RESULT_FIELDS, RUN_FIELDS, VideoVectorApi

_READINGS = 3
_BETWEEN_READINGS_SECONDS = 0.5
_PROGRESS_SECONDS = 5.0
_PAGE_ROWS = 2_000
_SCHEMA_TRIES = 20
_MEDIA_COUNTERS = ("total_videos", "total_audios", "total_images")
_COUNTERS = (*_MEDIA_COUNTERS, "total_segments", "completed_segments", "video_level_completed_items")
_STATUS_FIELDS = (
    "prompt_id",
    "status",
    "total_segments",
    "pending_segments",
    "processing_segments",
    "successful_segments",
    "failed_segments",
    "created_at",
    "updated_at",
    "attempt_id",
    "video_level",
)
_FREE_TEXTS = frozenset(
    {
        "processing_warning",
        "field_extraction_error",
        "transcription_error",
        "image_embedding_error",
        "embedding_error",
        "error_message",
        "failure_message",
        "gcs_uri",
        "thumbnail_gcs_uri",
        "gif_gcs_uri",
    }
)
"""Known fields in which a link with a token can stand. The model's own answer is not among them."""
_KNOWN = RESULT_FIELDS | {
    "failed_operations",
    "failure_stage",
    "failure_message",
    "failure_code",
    "retryable",
    "projection_only",
}
_LOG = logging.getLogger(__name__)


class _Touched(NamedTuple):
    """What the media list says of one media item in one run. ``state`` is a hash of all of it."""

    successful: int | None
    failed: int | None
    has_video_result: bool
    state: bytes


@dataclass(frozen=True)
class _MediaList:
    """An index's media: those that each run touched, and those of which the list does not say it."""

    touched: dict[str, dict[str, _Touched]]
    unsaid: list[str]


class VideoVector:
    """The prompt runs of one VideoVector account. Nothing is asked before it is needed.

    What the list of an index's media says is remembered until prompt runs are read again, for all runs of the index.
    """

    def __init__(self, api: VideoVectorApi) -> None:
        self.api = api
        self._guard = threading.Lock()
        self._remembered: dict[str, _MediaList] = {}
        self._generation = 0

    def close(self) -> None:
        """Close the connections."""
        self.api.close()

    def indexes(self) -> list[Index]:
        """The account's own indexes, by id; the platform's shared demo indexes are not among them."""
        where = "GET /indexes"
        found = self.api.run(self.api.get("indexes", include_defaults="false"))
        if not isinstance(found, list):
            raise SourceDataError(f"{where}: expected an array of indexes, found {short(found)}")
        return sorted((_index(one, where) for one in found), key=lambda index: index.index_id)

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError with the indexes that there are."""
        try:
            found = _index(self.api.run(self.api.get("indexes", index_id)), f"GET /indexes/{index_id}")
        except NotFoundError as error:
            known = ", ".join(index.index_id for index in self.indexes()) or "(none)"
            raise NotFoundError(f"There is no index {index_id!r}. The account has: {known}. ({error})") from None
        if found.index_id != index_id:
            raise SourceDataError(f"index {index_id!r} was asked for, and {found.index_id!r} was the answer")
        return found

    def prompt_runs(self, index_id: str) -> list[PromptRun]:
        """All runs of an index, in the order (executed_at, run_id)."""
        self._forget_media()
        where = f"prompt runs of index {index_id}"
        runs: dict[str, PromptRun] = {}

        async def read() -> None:
            async for page in self.api.pages("indexes", index_id, "prompt-runs"):
                for record in page:
                    # A run that is listed twice is one that others pushed to the next page meanwhile.
                    if (run := _listed_run(record, index_id, where)) is not None:
                        runs[run.run_id] = run

        self.api.run(read())
        return sorted(runs.values(), key=lambda run: (run.executed_at, run.run_id))

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError, also where the run is one of another index."""
        self._forget_media()
        where = f"prompt run {run_id}"
        try:
            record = as_object(self.api.run(self.api.get("prompt-runs", run_id)), where)
        except NotFoundError as error:
            raise NotFoundError(
                f"Index {index_id!r} has no prompt run {run_id!r}; `vv-exports runs list {index_id}` shows those that "
                f"there are. ({error})"
            ) from None
        run = _run(record, index_id, where)
        if run.run_id != run_id:
            raise SourceDataError(f"{where} was asked for, and {run.run_id!r} was the answer")
        context = record.get("run_context")
        other = context.get("index_id") if isinstance(context, dict) else None
        if isinstance(other, str) and other != index_id:
            raise NotFoundError(f"Index {index_id!r} has no prompt run {run_id!r}: it is one of index {other!r}")
        return run

    def change_hint(self, run: PromptRun) -> JsonValue:
        """A hash of what the list of the index's media says of the run: its counters, attempts and times by media."""
        touched = self._media(run.index_id).touched.get(run.run_id, {})
        digest = hashlib.sha256()
        for video_id, one in sorted(touched.items()):
            digest.update(encode_sorted(video_id) + one.state)
        return digest.hexdigest()

    @contextmanager
    def results(self, run: PromptRun, stage: Stage) -> Iterator[Results]:
        """The run's results. They are fetched in the background, to the stage, from now until the context ends."""
        reading = _Reading(self.api, run, self._members(run), stage)
        fetching = self.api.start(reading.fetch())
        try:
            yield Results(reading.prompt(), reading.segments, reading.videos, reading.failures)
            _LOG.info("%s", reading.progress())
        finally:
            self.api.stop(fetching)

    def _members(self, run: PromptRun) -> "dict[str, _Touched | None]":
        """The media of a run, by id; None where nothing is known of an item in the run."""
        for reading in range(_READINGS):
            media = self._media(run.index_id)
            members: dict[str, _Touched | None] = dict.fromkeys([*_named_media(run), *media.unsaid])
            members.update(media.touched.get(run.run_id, {}))
            stated = _stated_media(run)
            if stated is None or stated == len(members) or media.unsaid:
                return members
            if reading + 1 == _READINGS:
                raise SourceDataError(
                    f"prompt run {run.run_id!r} states {stated} media ({' + '.join(_MEDIA_COUNTERS)}), but the media "
                    f"of index {run.index_id!r} that it touched are {len(members)}: a difference of "
                    f"{abs(stated - len(members))}. Media that were deleted or moved since cannot be read any more; "
                    "nothing was exported rather than a part."
                )
            time.sleep(_BETWEEN_READINGS_SECONDS)
            self._forget_media()
        raise AssertionError("the last reading returns or raises")

    def _media(self, index_id: str) -> _MediaList:
        with self._guard:
            generation, remembered = self._generation, self._remembered.get(index_id)
        if remembered is None:
            remembered = self.api.run(_list_media(self.api, index_id))
            with self._guard:
                if generation == self._generation:
                    self._remembered[index_id] = remembered
        return remembered

    def _forget_media(self) -> None:
        with self._guard:
            self._generation += 1
            self._remembered.clear()


async def _list_media(api: VideoVectorApi, index_id: str) -> _MediaList:
    media = _MediaList({}, [])
    where = f"media of index {index_id}"
    async for page in api.pages("indexes", index_id, "videos"):
        for document in page:
            video_id = text_of(document, "video_id", where)
            statuses = document.get("processing_status")
            if not isinstance(statuses, list):
                media.unsaid.append(video_id)
                continue
            for status in statuses:
                run_id = text_of(as_object(status, where), "run_id", f"{where}, {video_id}, processing_status")
                media.touched.setdefault(run_id, {})[video_id] = _touched(status)
    return media


def _touched(status: JsonObject) -> _Touched:
    video_level = status.get("video_level")
    has_result = isinstance(video_level, dict) and video_level.get("result_available") is True
    state = hashlib.sha256(encode_sorted([status.get(name) for name in _STATUS_FIELDS])).digest()[:12]
    return _Touched(_count(status, "successful_segments"), _count(status, "failed_segments"), has_result, state)


_Unit = tuple[str, str]
"""``segments`` or ``videos``, and the media item: what is fetched and staged in one piece."""


@dataclass
class _Reading:
    """One run on its way to the stage. ``fetch`` runs in the background; the rest is called from elsewhere."""

    api: VideoVectorApi
    run: PromptRun
    members: "dict[str, _Touched | None]"
    stage: Stage

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._spent = (self.api.budget.spent.requests, self.api.budget.spent.waited)
        self._said = self._began
        self._rows = 0
        self._media_done = 0
        self._prompt: Future[Prompt] = Future()
        self._failures: Future[Page] = Future()
        self._videos_wanted: Future[bool] = Future()
        tables = ("segments",) if self.run.record.get("video_level_enabled") is False else ("segments", "videos")
        self._units: dict[_Unit, Future[None]] = {
            (table, video_id): Future() for video_id in sorted(self.members) for table in tables
        }

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
            found += len(page.documents)
            if failed:
                ids |= failed & {(one["video_id"], one["segment_id"]) for one in page.documents}
            yield page
        stated = self.run.count("completed_segments")
        # A segment of which one operation failed may have a result too, and may or may not be counted as completed.
        if stated is not None and found not in {stated, stated + len(ids)}:
            raise SourceDataError(self._difference(found, "segment results", "completed_segments", stated))

    def videos(self) -> Iterator[Page]:
        """The video results, in order; then their number is checked."""
        found = failed = 0
        for page in self._pages("videos"):
            found += len(page.documents)
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
        yield Page([dict(one) for one in page.documents], page.locate)

    def _pages(self, table: str) -> Iterator[Page]:
        for unit, future in self._units.items():
            if unit[0] == table:
                future.result()
                yield from self._staged(unit)

    def _staged(self, unit: _Unit) -> Iterator[Page]:
        data = self.stage.read(_name(unit))
        if data is None:  # another process has read the same run and tidied up
            data = self.api.run(self._fetched(unit))
        text = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read() if data else b""
        documents = decode_lines(text).values
        where = f"{unit[0]} of media item {unit[1]} in prompt run {self.run.run_id}"
        for start in range(0, len(documents), _PAGE_ROWS):
            yield Page(documents[start : start + _PAGE_ROWS], partial(_row, where, start))

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
            f"{self.run.run_id}: {self._media_done} of {len(self.members)} media, {self._rows:,} segments, "
            f"{spent.requests - requests:,} requests, {spent.waited - waited:.1f} s waited, "
            f"{time.monotonic() - self._began:.1f} s"
        )

    # Called in the background

    async def fetch(self) -> None:
        """Fetch everything that is not staged yet. What goes wrong is raised where the results are wanted."""
        try:
            staged = self.stage.names()
            for unit in self._units:
                if _name(unit) in staged:
                    self._staged_now(unit)
            units = iter([unit for unit, future in self._units.items() if not future.done()])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fetch_prompt())
                tasks.create_task(self._fetch_failures())
                for _ in range(self.api.budget.max_concurrency):
                    tasks.create_task(self._work(units))
        except BaseExceptionGroup as group:
            self._give_up(_first(group))
        except asyncio.CancelledError:
            self._give_up(RuntimeError("the reading was given up"))
            raise

    def _staged_now(self, unit: _Unit) -> None:
        self._units[unit].set_result(None)
        self._media_done += unit[0] == "segments"

    def _give_up(self, error: BaseException) -> None:
        promised: list[Future[Any]] = [self._prompt, self._videos_wanted, self._failures, *self._units.values()]
        for future in promised:
            if not future.done():
                future.set_exception(error)

    async def _work(self, units: Iterator[_Unit]) -> None:
        for unit in units:
            data = await self._fetched(unit)
            await asyncio.to_thread(self.stage.write, _name(unit), data)
            self._staged_now(unit)
            if time.monotonic() > self._said + _PROGRESS_SECONDS:
                self._said = time.monotonic()
                _LOG.info("%s", self.progress())

    async def _fetched(self, unit: _Unit) -> bytes:
        """The results of one media item as they are staged, read again where they do not add up."""
        table, video_id = unit
        for reading in range(_READINGS):
            try:
                rows = await (self._segment_rows(video_id) if table == "segments" else self._video_rows(video_id))
                break
            except _MismatchError as mismatch:
                _LOG.info("%s; reading %d of %d", mismatch, reading + 1, _READINGS)
                if reading + 1 == _READINGS:
                    raise SourceDataError(
                        f"{mismatch}, also at reading {_READINGS}. Nothing was exported rather than a part."
                    ) from None
                await asyncio.sleep(_BETWEEN_READINGS_SECONDS * (1 + random.random()))  # noqa: S311
        return await asyncio.to_thread(_compressed, rows)

    async def _segment_rows(self, video_id: str) -> list[bytes]:
        where = f"segments of media item {video_id} in prompt run {self.run.run_id}"
        rows: dict[str, tuple[Any, bytes]] = {}
        async for documents in self.api.pages("prompt-runs", self.run.run_id, "results", video_id=video_id):
            self._check(documents, video_id, where, SEGMENT_RESULT)
            for document in documents:
                segment_id = document["segment_id"]
                if segment_id in rows:
                    raise _MismatchError(f"{where}: segment {segment_id!r} is there twice")
                rows[segment_id] = (_order(document), encode_text(document).encode())
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

    async def _video_rows(self, video_id: str) -> list[bytes]:
        if not await asyncio.wrap_future(self._videos_wanted):
            return []
        where = f"video result of media item {video_id} in prompt run {self.run.run_id}"
        try:
            document = await self.api.get("prompt-runs", self.run.run_id, "videos", video_id, "video-result")
        except NotFoundError:
            touched = self.members.get(video_id)
            if touched is not None and touched.has_video_result:
                raise _MismatchError(f"{where}: the media list states a result, and there is none") from None
            return []
        self._check([as_object(document, where)], video_id, where, VIDEO_RESULT)
        return [encode_text(document).encode()]

    def _check(self, documents: list[JsonObject], video_id: str, where: str, rules: Any) -> None:
        for document in documents:
            _clean(document)
            if document.get("video_id") is None:
                document["video_id"] = video_id
        check_page(Page(documents, partial(_row, where, 0)), self.run, rules)
        for document in documents:
            if document["video_id"] != video_id:
                raise SourceDataError(f"{where}: a result is one of media item {document['video_id']!r}")

    async def _fetch_failures(self) -> None:
        where = f"failed segments of prompt run {self.run.run_id}"
        manifest = as_object(await self.api.get("prompt-runs", self.run.run_id, "failed-segments"), where)
        page = failed_segments(manifest, self.run, where)
        for document in page.documents:
            _clean(document)
        check_page(page, self.run, FAILED_SEGMENT)
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
            prompt = _prompt(as_object(record, f"prompt {self.run.prompt_id}"), self.run)
        except NotFoundError:
            _LOG.warning("prompt %s is gone; its schema is taken from the results", self.run.prompt_id)
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
                    schema = _schema(document.get("schema_used"))
                    if schema is not None:
                        return schema
                break
        return {}


class _MismatchError(Exception):
    """What was read of a media item does not add up: it may at the next reading."""


def _row(where: str, start: int, i: int) -> str:
    return f"{where}, row {start + i + 1}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell: one of ours before a defect that it may have caused."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in leaves if isinstance(error, VVExportsError)), leaves[0])


def _clean(document: JsonObject) -> None:
    """Take out, in place, what must never be kept: people's marks, and links with a token wherever they stand."""
    for name in document.keys() & VOLATILE:
        del document[name]
    for name in document.keys() - _KNOWN:
        if "marker" in name or holds_link(document[name]):
            del document[name]
    for name in document.keys() & _FREE_TEXTS:
        if isinstance(document[name], str):
            document[name] = without_link_secrets(document[name])


def _order(document: JsonObject) -> tuple[int, Any, str]:
    """The place of a segment within its media item: null first, then by time."""
    start = document.get("start_time")
    if isinstance(start, int | float) and not isinstance(start, bool):
        return 1, start, document["segment_id"]
    return (0 if start is None else 2), 0, document["segment_id"]


def _name(unit: _Unit) -> str:
    table, video_id = unit
    return f"{table}-{hashlib.sha256(video_id.encode(errors='surrogatepass')).hexdigest()[:32]}.jsonl.zst"


def _compressed(rows: list[bytes]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"\n".join(rows))
    return bytes(sink.getvalue().to_pybytes())


def _index(record: Any, where: str) -> Index:
    index = as_object(record, where)
    description = index.get("description")
    return Index(
        text_of(index, "index_id", where),
        text_of(index, "name", where),
        description if isinstance(description, str) else None,
    )


def _listed_run(record: JsonObject, index_id: str, where: str) -> PromptRun | None:
    """A run of a listing. One that is not finished and not in order yet is left out: it cannot be exported anyway."""
    try:
        return _run(record, index_id, where)
    except SourceDataError as error:
        if str(record.get("status")).lower() in DELIVERABLE:
            raise
        _LOG.warning("%s: an unfinished one is left out: %s", where, error)
        return None


def _run(record: JsonObject, index_id: str, where: str) -> PromptRun:
    run_id = text_of(record, "run_id", where)
    where = f"prompt run {run_id}"
    known = {name: value for name, value in record.items() if name in RUN_FIELDS}
    for counter in _COUNTERS:
        value = known.get(counter)
        if value is not None and (type(value) is not int or value < 0):
            raise SourceDataError(f"{where}: expected {counter} to be a count, found {short(value)}")
    if isinstance(known.get("error_message"), str):
        known["error_message"] = without_link_secrets(known["error_message"])
    return PromptRun(
        run_id=run_id,
        index_id=index_id,
        prompt_id=text_of(record, "prompt_id", where),
        prompt_name=text_of(record, "prompt_name", where),
        status=_status(record, where),
        executed_at=time_of(record, "executed_at", where),
        record=known,
    )


def _status(record: JsonObject, where: str) -> RunStatus:
    status = text_of(record, "status", where).lower()
    if status not in set(RunStatus) - {RunStatus.UNKNOWN}:
        _LOG.warning("%s has the status %s, which this version does not know: not taken for finished", where, status)
        return RunStatus.UNKNOWN
    return status_of({"status": status}, where)


def _stated_media(run: PromptRun) -> int | None:
    """How many media the run's counters state; None where they do not state it."""
    counts = [run.count(name) for name in _MEDIA_COUNTERS]
    if all(count is None for count in counts):
        return None
    total = sum(count or 0 for count in counts)
    # Zero media with segments: counters that are not filled in.
    return None if total == 0 and run.count("total_segments") else total


def _named_media(run: PromptRun) -> list[str]:
    """The media that a run of chosen media names itself."""
    context = run.record.get("run_context")
    named = context.get("video_ids") if isinstance(context, dict) else None
    return [one for one in named if isinstance(one, str) and one] if isinstance(named, list) else []


def _prompt(record: JsonObject, run: PromptRun) -> Prompt:
    where = f"prompt {run.prompt_id}"
    if record.get("prompt_id") != run.prompt_id:
        raise SourceDataError(f"{where} was asked for, and {found_in(record, 'prompt_id')} was the answer")
    video_level = record.get("video_level")
    text = record.get("prompt_text")
    return Prompt(
        prompt_id=run.prompt_id,
        name=run.prompt_name,
        prompt_text=text if isinstance(text, str) else "",
        json_schema=_schema(record.get("json_schema")) or {},
        video_level_schema=(_schema(video_level.get("json_schema")) or {}) if isinstance(video_level, dict) else None,
    )


def _schema(value: Any) -> Any:
    """A JSON Schema that is given as an object or as its text; None where there is none."""
    if not isinstance(value, str):
        return value
    try:
        return decode(value.encode())
    except ValueError:
        return None


def _count(record: JsonObject, name: str) -> int | None:
    value = record.get(name)
    return value if type(value) is int else None
