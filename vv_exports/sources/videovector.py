"""VideoVector itself as the source: its indexes, its prompt runs, and which media a run has.

It must not know how a request is made (``videovector_api``) nor what is made of the results.
"""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from vv_exports.domain.findings import Finding
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import Index, JsonObject, JsonValue, PromptRun
from vv_exports.errors import NotFoundError, SourceDataError, VVExportsError, first_few
from vv_exports.printable import one_line
from vv_exports.sources.base import Effort, Listing, Results, Stage, UnreadableRun, UpstreamAutomation
from vv_exports.sources.check import both_deliver, check_indexes
from vv_exports.sources.documents import as_object, found_in, short, text_of
from vv_exports.sources.videovector_api import CHECK_BASE_URL, CONNECTOR_FIELDS, PAGE_ROWS, VideoVectorApi, about
from vv_exports.sources.videovector_check import check_account
from vv_exports.sources.videovector_reading import Reading
from vv_exports.sources.videovector_records import (
    MEDIA_COUNTERS,
    Touched,
    index_of,
    listed_run,
    named_media,
    run_of,
    stated_media,
    touched_of,
)

_NAMED = 20
_READINGS = 3
_BETWEEN_READINGS_SECONDS = 0.5
_LOG = logging.getLogger(__name__)
_One = TypeVar("_One")
_Other = TypeVar("_Other")


@dataclass(frozen=True)
class _MediaList:
    """An index's media: those that each run touched, and those of which the list does not say it."""

    touched: dict[str, dict[str, Touched]]
    unsaid: list[str]


class VideoVector:
    """The prompt runs of one VideoVector account. Nothing is asked before it is needed.

    What the list of an index's media says is remembered until prompt runs are read again, for all runs of the index.
    """

    readings_at_once = 2
    """While one run is typed and checked, the network works for the next."""

    def __init__(self, api: VideoVectorApi) -> None:
        self.api = api
        self._guard = threading.Lock()
        self._remembered: dict[str, _MediaList] = {}
        self._listing: dict[str, threading.Lock] = {}
        self._generation = 0

    def close(self) -> None:
        """Give up readings that are under way, and close the connections."""
        self.api.close()

    def indexes(self) -> list[Index]:
        """The account's own indexes, by id; the platform's shared demo indexes are not among them."""
        where = "GET /indexes"
        found = self.api.run(self.api.get("indexes", include_defaults="false"))
        if not isinstance(found, list):
            raise SourceDataError(f"{where}: expected an array of indexes, found {short(found)}. {CHECK_BASE_URL}")
        return sorted((index_of(one, where) for one in found), key=lambda index: index.index_id)

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError with the indexes that there are."""
        try:
            where = f"GET /indexes/{one_line(index_id)}"
            with about(index_id):
                answer = self.api.run(self.api.get("indexes", index_id))
            found = index_of(_with("index_id", answer, where), where)
        except NotFoundError as error:
            raise self._no_index(index_id, error) from None
        if found.index_id != index_id:
            raise SourceDataError(f"index {index_id!r} was asked for, and {found.index_id!r} was the answer")
        return found

    def _no_index(self, index_id: str, error: NotFoundError) -> NotFoundError:
        """What to say of an index that the platform does not know: which ones it does."""
        try:
            known = [index.index_id for index in self.indexes()]
        except VVExportsError as problem:  # a key may read and not list
            has = f"Which ones the account has cannot be told: {problem}"
        else:
            near = get_close_matches(index_id, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            has = f"{hint}The account has: {', '.join(map(one_line, first_few(known, _NAMED))) or '(none)'}."
        return NotFoundError(
            f"There is no index {index_id!r}. {has} Correct it under `indexes`, or use the key of the account that has "
            f"it. ({error})"
        )

    def each_run(self, index_id: str) -> Iterator[PromptRun | UnreadableRun]:
        """All runs of an index, as pages of the list arrive. A record that does not even say its run's id makes it
        fail: nobody could be told which one is left out."""
        self._forget_media()
        where = f"prompt runs of index {one_line(index_id)}"
        pages = self.api.pages("indexes", index_id, "prompt-runs")
        while (page := self._next_page(pages, index_id)) is not None:
            for record in page:
                try:
                    run = listed_run(record, index_id, where)
                except SourceDataError as error:
                    run_id = record.get("run_id")
                    if not isinstance(run_id, str) or not run_id:
                        raise
                    yield UnreadableRun(run_id, error)
                    continue
                if run is not None:
                    yield run

    def _next_page(self, pages: AsyncIterator[list[JsonObject]], index_id: str) -> list[JsonObject] | None:
        try:
            with about(index_id):
                return self.api.run(_next(pages))
        except NotFoundError as error:
            raise self._no_index(index_id, error) from None

    def listing(self, index_id: str) -> Listing:
        """All runs of an index at once."""
        return Listing.of(self.each_run(index_id))

    def prompt_runs(self, index_id: str) -> Sequence[PromptRun]:
        """All runs of an index, in the order (executed_at, run_id). Raises SourceDataError where one is broken."""
        return self.listing(index_id).complete()

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError, also where the run is one of another index."""
        self._forget_media()
        with about(index_id):
            return self.api.run(self._prompt_run(index_id, run_id))

    async def _prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        where = f"prompt run {one_line(run_id)}"
        try:
            record = _with("run_id", await self.api.get("prompt-runs", run_id), where)
        except NotFoundError as error:
            raise NotFoundError(
                f"Index {index_id!r} has no prompt run {run_id!r}; `vv-exports runs list {one_line(index_id)}` shows "
                f"those that there are. ({error})"
            ) from None
        run = run_of(record, index_id, where)
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

    def effort(self, run: PromptRun) -> Effort:
        """The requests for a run, its prompt and its failed segments, and for each media item that of its pages and of
        its video result."""
        members: dict[str, Touched | None] = dict.fromkeys(named_media(run))
        members.update(self._media(run.index_id).touched.get(run.run_id, {}))
        media = max(len(members), stated_media(run) or 0)
        pages = sum(
            max(1, -(-one.successful // PAGE_ROWS)) if one is not None and one.successful is not None else 1
            for one in members.values()
        )
        pages += media - len(members)
        has_videos = run.record.get("video_level_enabled") is not False
        return Effort(requests=3 + pages + (media if has_videos else 0), media=media)

    def check(self, index_ids: Sequence[str]) -> Iterator[Finding]:
        """The account, the indexes, and whether the platform delivers the same indexes too."""
        accepted = True
        for finding in check_account(self.api):
            accepted = accepted and finding.outcome != "failed"
            yield finding
        if not accepted:
            return
        for finding in check_indexes(self, index_ids):
            yield finding
            if finding.outcome == "ok":
                yield from self._check_upstream_automation(finding.step.removeprefix("index "))

    def upstream_connectors(self) -> list[JsonObject]:
        """The connectors that are registered at VideoVector."""
        found = self.api.run(self.api.get("connectors"))
        if not isinstance(found, list):
            raise SourceDataError(
                f"GET /connectors: expected an array of connectors, found {short(found)}. {CHECK_BASE_URL}"
            )
        return [{name: as_object(one, "GET /connectors").get(name) for name in CONNECTOR_FIELDS} for one in found]

    def upstream_automation(self, index_id: str) -> UpstreamAutomation | None:
        """The export automation of an index at VideoVector. The SDK has no method for it.

        Asked for once: nothing that is exported depends on it.
        """
        where = f"GET /indexes/{one_line(index_id)}/automations/export"
        try:
            with about(index_id):
                answer = self.api.run(self.api.glance("indexes", index_id, "automations", "export"))
            record = as_object(answer, where)
        except NotFoundError:
            return None
        if not isinstance(record.get("enabled"), bool):
            raise SourceDataError(
                f"{where}: expected enabled to be true or false, found {found_in(record, 'enabled')}. {CHECK_BASE_URL}"
            )
        return UpstreamAutomation(
            enabled=record.get("enabled") is True,
            paused=record.get("paused") is True,
            destination_connector_id=record.get("destination_connector_id"),
            destination_subpath=record.get("destination_subpath"),
        )

    def _check_upstream_automation(self, index_id: str) -> Iterator[Finding]:
        step = f"index {one_line(index_id)}, VideoVector's own export automation"
        try:
            automation = self.upstream_automation(index_id)
        except VVExportsError as error:
            yield Finding(step, "warning", f"it cannot be told whether there is one: {error}")
            return
        if automation is not None and automation.active:
            yield Finding(step, "warning", both_deliver(index_id, automation))
        else:
            yield Finding(step, "ok", "there is none" if automation is None else "it is there, and does not deliver")

    @contextmanager
    def results(self, run: PromptRun, stage: Stage) -> Iterator[Results]:
        """The run's results. They are fetched in the background, to the stage, from now until the context ends."""
        reading = Reading(self.api, run, self._members(run), stage)
        again: Future[PromptRun] = Future()
        with about(run.index_id):
            fetching = self.api.start(reading.fetch())
            asking = self.api.start(self._ask_again(run, reading, again))

        def run_afterwards() -> PromptRun:
            # Whoever read it may have been faster than who fetched it, which was stopped then.
            if reading.lost_some or not reading.is_fetched.is_set():
                return self.prompt_run(run.index_id, run.run_id)
            return again.result()

        complete = False
        try:
            yield Results(reading.prompt(), reading.segments, reading.videos, reading.failures, run_afterwards)
            _LOG.info("%s", reading.progress())
            complete = True
        finally:
            self.api.stop(fetching)
            if not complete or not reading.is_fetched.is_set():
                self.api.stop(asking)
            reading.close(complete=complete)

    async def _ask_again(self, run: PromptRun, reading: Reading, again: "Future[PromptRun]") -> None:
        """Ask for the run, and for what its change hint needs, as soon as all was fetched: what came last is still
        being typed then."""
        try:
            await reading.is_fetched.wait()
            generation = self._forget_media()
            asked = self._prompt_run(run.index_id, run.run_id), _list_media(self.api, run.index_id)
            found, media = await _both(*asked)
            self._remember_media(run.index_id, media, generation)
            again.set_result(found)
        except Exception as error:  # noqa: BLE001
            again.set_exception(error)  # raised where the run is wanted
        except asyncio.CancelledError:
            again.set_exception(RuntimeError("the reading was given up"))
            raise

    def _members(self, run: PromptRun) -> "dict[str, Touched | None]":
        """The media of a run, by id; None where nothing is known of an item in the run."""
        for reading in range(_READINGS):
            media = self._media(run.index_id)
            members: dict[str, Touched | None] = dict.fromkeys([*named_media(run), *media.unsaid])
            members.update(media.touched.get(run.run_id, {}))
            stated = stated_media(run)
            if stated is None or stated == len(members) or media.unsaid:
                return members
            if reading + 1 == _READINGS:
                raise SourceDataError(
                    f"prompt run {run.run_id!r} states {stated} media ({' + '.join(MEDIA_COUNTERS)}), but the media "
                    f"of index {run.index_id!r} that it touched are {len(members)}: a difference of "
                    f"{abs(stated - len(members))}. Media that were deleted or moved since cannot be read any more; "
                    "nothing was exported rather than a part."
                )
            time.sleep(_BETWEEN_READINGS_SECONDS)
            self._forget_media()
        raise AssertionError("the last reading returns or raises")

    def _media(self, index_id: str) -> _MediaList:
        with self._guard:
            listing = self._listing.setdefault(index_id, threading.Lock())
        with listing:  # runs are read at the same time, and one list is enough for all
            with self._guard:
                generation, remembered = self._generation, self._remembered.get(index_id)
            if remembered is None:
                with about(index_id):
                    remembered = self.api.run(_list_media(self.api, index_id))
                self._remember_media(index_id, remembered, generation)
            return remembered

    def _remember_media(self, index_id: str, media: _MediaList, generation: int) -> None:
        with self._guard:
            if generation == self._generation:
                self._remembered[index_id] = media

    def _forget_media(self) -> int:
        with self._guard:
            self._generation += 1
            self._remembered.clear()
            return self._generation


async def _both(one: Awaitable[_One], other: Awaitable[_Other]) -> tuple[_One, _Other]:
    """What comes of two that wait at the same time. Raises what the first one raises, else what the other does."""
    found, more = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(found, BaseException):
        raise found
    if isinstance(more, BaseException):
        raise more
    return found, more


async def _next(pages: AsyncIterator[list[JsonObject]]) -> list[JsonObject] | None:
    return await anext(pages, None)


def _with(field: str, answer: Any, where: str) -> JsonObject:
    """An object that has the field which all of the API's have. One without it is another service's."""
    record = as_object(answer, where)
    if field not in record:
        raise SourceDataError(f"{where}: expected an object with {field}, found {short(record)}. {CHECK_BASE_URL}")
    return record


async def _list_media(api: VideoVectorApi, index_id: str) -> _MediaList:
    media = _MediaList({}, [])
    where = f"media of index {one_line(index_id)}"
    async for page in api.pages("indexes", index_id, "videos"):
        for document in page:
            video_id = text_of(document, "video_id", where)
            statuses = document.get("processing_status")
            if not isinstance(statuses, list):
                media.unsaid.append(video_id)
                continue
            for status in statuses:
                run_id = text_of(
                    as_object(status, where), "run_id", f"{where}, {one_line(video_id)}, processing_status"
                )
                media.touched.setdefault(run_id, {})[video_id] = touched_of(status)
    return media
