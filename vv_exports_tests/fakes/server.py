"""A local server that speaks VideoVector's API well enough for its official SDK, and goes wrong on demand."""

import asyncio
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from vv_exports.domain.json_text import encode_text
from vv_exports_tests.fakes.faults import SHAPES, Answer, Fault, FaultKind, answer, envelope
from vv_exports_tests.fakes.platform import LINKS, PREVIEWS, Document, Platform

PREFIX = "/api/v2"
_LARGEST_PAGE = 100


@dataclass
class Request:
    """A request that arrived. Times are of the monotonic clock; ``status`` is 0 where no answer was given."""

    method: str
    path: str
    began: float
    ended: float = 0.0
    status: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class NotThereError(Exception):
    """What was asked for does not exist."""

    status, code = 404, "resource_not_found"


class RefusedError(Exception):
    """A parameter is wrong."""

    status, code = 422, "validation_error"


class FakeVideoVector:
    """A context manager: the platform is served on 127.0.0.1 while it is open."""

    TOKEN_MARKER = "tok-leak-canary-"

    def __init__(self, platform: Platform, *, delay: float = 0.0, port: int = 0) -> None:
        self.platform = platform
        self.delay = delay
        self.api_key = "sk_live_" + secrets.token_hex(24)
        self.scopes = {"search", "read"}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.writes: list[str] = []
        self.most_in_flight = 0
        self.port = port
        self._in_flight = 0
        self._secret = secrets.token_hex(4)
        self._tokens = count()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._transports: set[asyncio.Transport] = set()
        self._thread = threading.Thread(target=self._serve, name="fake-videovector")

    @property
    def base_url(self) -> str:
        """What the SDK takes for ``base_url``."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def count(self, pattern: str = "") -> int:
        """How many requests arrived in whose ``METHOD /path?query`` the pattern is found."""
        return sum(re.search(pattern, str(request)) is not None for request in self.requests)

    def clear(self) -> None:
        """Forget the requests and the faults."""
        self.requests.clear()
        self.faults.clear()
        self.most_in_flight = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if not self.port:
            raise RuntimeError("the server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._until_stopped())
        finally:
            self._ready.set()
            self._loop.close()

    async def _until_stopped(self) -> None:
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for handler in handlers:  # one that hangs, by a fault
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        for transport in self._transports:  # one whose client reads no more would wait for it
            transport.abort()
        await asyncio.sleep(0.01)  # let the loop close their sockets

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        raw = request.rel_url.raw_path
        shown = str(request.rel_url)
        record = Request(request.method, shown.removeprefix(PREFIX), time.monotonic())
        self.requests.append(record)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self.delay)
            fault = next((fault for fault in self.faults if fault.takes(str(record))), None)
            status, headers, body = self._answer(request, raw, fault)
            record.status = status
            return await self._send(request, status, headers, body, fault)
        finally:
            record.ended = time.monotonic()
            self._in_flight -= 1

    def _answer(self, request: web.BaseRequest, raw: str, fault: Fault | None) -> Answer:
        if fault is not None and fault.change is not None:
            fault.change()
        instead = answer(fault, self.api_key, self._token()) if fault is not None else None
        if instead is not None:
            return instead
        if self.api_key not in (request.headers.get("X-API-Key"), request.headers.get("Authorization", "")[7:]):
            return 401, {}, envelope("authentication_invalid_api_key", "Invalid API key.")
        if request.method != "GET":
            self.writes.append(f"{request.method} {raw}")
            return 405, {}, envelope("method_not_allowed", "This account is only read.")
        try:
            path = [unquote(part) for part in raw.removeprefix(PREFIX).strip("/").split("/")]
            scope, value = self._route(path, request.query, fault)
        except (NotThereError, RefusedError) as error:
            return error.status, {}, envelope(error.code, str(error))
        if scope and scope not in self.scopes:
            return 403, {}, envelope("authorization_insufficient_scope", f"The scope {scope} is required.")
        return (204, {}, "") if value is None else (200, {}, encode_text(self._shaped(value, fault)))

    def _shaped(self, value: Any, fault: Fault | None) -> Any:
        if fault is not None and fault.kind is FaultKind.UNKNOWN_FIELDS:
            return self._with_unknown_fields(value)
        return SHAPES[fault.kind](value) if fault is not None and fault.kind in SHAPES else value

    async def _send(
        self, request: web.BaseRequest, status: int, headers: dict[str, str], body: str | bytes, fault: Fault | None
    ) -> web.StreamResponse:
        kind = fault.kind if fault is not None else None
        data = body.encode() if isinstance(body, str) else body
        transport = request.transport
        if kind is FaultKind.CONNECTION_RESET and transport is not None:
            transport.abort()
        if kind is FaultKind.HANGS and fault is not None:
            await asyncio.sleep(fault.seconds)
        response = web.Response(status=status, headers={"Content-Type": "application/json", **headers}, body=data)
        if kind is FaultKind.ENDLESS_BODY:
            return await self._send_without_end(request)
        if kind not in {FaultKind.CUT_BODY, FaultKind.SLOW_BODY} or fault is None or transport is None:
            return response
        stream = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        stream.content_length = len(data)
        await stream.prepare(request)
        if kind is FaultKind.CUT_BODY:
            await stream.write(data[: len(data) // 2])
            await asyncio.sleep(0.01)  # let it arrive before the connection ends
            transport.close()
            return stream
        for start in range(0, len(data), max(1, len(data) // 5)):
            await stream.write(data[start : start + max(1, len(data) // 5)])
            await asyncio.sleep(fault.seconds / 5)
        return stream

    async def _send_without_end(self, request: web.BaseRequest) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        await stream.write(b'{"data":["')
        with suppress(ConnectionError):  # the client has enough
            while True:
                await stream.write(b"x" * 2**16)
        return stream

    # Routes

    def _route(self, path: list[str], query: Any, fault: Fault | None) -> tuple[str, Any]:  # noqa: C901, PLR0911, PLR0912
        """The scope that a path needs, and its answer."""
        platform = self.platform
        match path:
            case ["auth", "validate"]:
                return "", None
            case ["rate-limit", "status"]:
                minute = {"minute_used": 5, "minute_limit": 600, "minute_remaining": 595}
                hour = {"hour_used": 5, "hour_limit": 9000, "hour_remaining": 8995, "reset_at": 1}
                return "", {"user_id": "user_1", "plan_id": "pro", "categories": {"read": {**minute, **hour}}}
            case ["indexes"]:
                return "search", list(platform.indexes.values())
            case ["indexes", index_id]:
                return "search", _there(platform.indexes, index_id)
            case ["indexes", index_id, "videos"]:
                _there(platform.indexes, index_id)
                return "read", _page(list(platform.listed_media(index_id)), query, fault)
            case ["indexes", index_id, "prompt-runs"]:
                _there(platform.indexes, index_id)
                return "read", _page([run.record for run in platform.runs_of(index_id)], query, fault)
            case ["indexes", index_id, "automations", "export"]:
                return "read", _there(platform.export_automations, index_id)
            case ["prompt-runs"]:
                return "read", [run.record for run in platform.runs.values()][: int(query.get("limit", 200))]
            case ["prompt-runs", run_id]:
                return "read", _there(platform.runs, run_id).record
            case ["prompt-runs", run_id, "results"]:
                run = _there(platform.runs, run_id)
                if "video_id" not in query:
                    raise RefusedError("video_id is required")
                rows = run.segments.get(query["video_id"], [])
                return "read", _page(rows, query, fault, self._linked)
            case ["prompt-runs", run_id, "videos", video_id, "video-result"]:
                return "read", self._linked(_there(_there(platform.runs, run_id).videos, video_id))
            case ["prompt-runs", run_id, "failed-segments"]:
                return "read", _manifest(_there(platform.runs, run_id))
            case ["prompts", prompt_id]:
                return "read", _there(platform.prompts, prompt_id)
            case ["connectors"]:
                return "read", platform.connectors
        raise NotThereError("Not found.")

    def _token(self) -> str:
        return f"{self.TOKEN_MARKER}{self._secret}{next(self._tokens)}"

    def _linked(self, row: Document) -> Document:
        """The result with its links: the token in each is another one every time."""
        names = LINKS if row["result_type"] == "segment" else (*LINKS, *PREVIEWS)
        return {**row, **{name: f"https://media.test/{name}?token={self._token()}" for name in names}}

    def _with_unknown_fields(self, value: Any) -> Any:
        link = f"https://media.test/x?token={self._token()}"
        odd = {"fresh_link": link, "nested_extra": {"deep": [link]}, "harmless_extra": {"a": [1, None]}}
        if isinstance(value, list):
            return [{**row, **odd} for row in value]
        if isinstance(value.get("data"), list):
            return {**value, "data": [{**row, **odd} for row in value["data"]]}
        return {**value, **odd}


def _there(known: dict[str, Any], key: str) -> Any:
    if key not in known:
        raise NotThereError("Not found.")
    return known[key]


def _page(
    rows: list[Document], query: Any, fault: Fault | None, made: Callable[[Document], Document] = lambda row: row
) -> Document:
    limit = int(query.get("limit", 50))
    if not 1 <= limit <= _LARGEST_PAGE:
        raise RefusedError("limit must be between 1 and 100")
    cursor = query.get("cursor", "c_0")
    if re.fullmatch(r"c_\d+e?", cursor) is None:
        raise RefusedError("the cursor is not one of this list")
    start = int(cursor[2:].rstrip("e"))
    kind = fault.kind if fault is not None else None
    if kind is FaultKind.EMPTY_PAGE_WITH_MORE and not cursor.endswith("e"):
        return {"data": [], "pagination": {"limit": limit, "has_more": True, "next_cursor": f"c_{start}e"}}
    more = start + limit < len(rows)
    following = f"c_{start + limit}" if more else None
    if kind is FaultKind.REPEATED_CURSOR:
        more, following = True, cursor
    return {
        "data": [made(row) for row in rows[start : start + limit]],
        "pagination": {"limit": limit, "has_more": more, "next_cursor": following},
    }


def _manifest(run: Any) -> Document:
    videos = [
        {"video_id": video_id, "failed_segments": len(rows), "segments": rows}
        for video_id, rows in run.failed.items()
        if rows
    ]
    return {
        "run_id": run.run_id,
        "status": run.record["status"],
        "videos_with_failures": len(videos),
        "failed_segments": sum(len(video["segments"]) for video in videos),
        "operation_counts": {"field_extraction": sum(len(video["segments"]) for video in videos)},
        "videos": videos,
    }
