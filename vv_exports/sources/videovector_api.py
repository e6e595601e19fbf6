"""VideoVector's API through its official SDK, which no other module imports but ``sdk_client.py``.

The SDK gives the client: credentials, headers, base address, its mapping of errors. Some things it does are not
good enough for a copy that people rely on, and are done here instead. Its models refuse nulls that the API sends and
drop fields they do not know, so documents are taken before they become models, with no digit of a number lost. It
sleeps by itself between attempts, a minute where the server does not say how long, so its own attempts are switched
off. It follows a page's cursor for ever where the cursor repeats. And it takes an answer of any size into memory.
"""

import asyncio
import atexit
import logging
import math
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from weakref import WeakSet

import httpx
import msgspec
import videovector

from vv_exports.domain.json_text import Members, NestedTooDeepError, decode, decode_outside, members_in, members_of
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.redaction import quoted
from vv_exports.errors import (
    CredentialsError,
    NotFoundError,
    QuotaError,
    RequestError,
    SourceDataError,
    TransientError,
    VVExportsError,
)
from vv_exports.sources.bounded_answers import AnswerTooLargeError, decode_within, read_body
from vv_exports.sources.connections import HeaderTooLongError
from vv_exports.sources.interpreter_exit import before_executors_end
from vv_exports.sources.request_budget import NOTHING, Limits, RequestBudget
from vv_exports.sources.sdk_client import get_decoded, http_client
from vv_exports.sources.shared_budget import SharedBudget
from vv_exports.sources.shares import SharesPlace

RUN_FIELDS = frozenset(videovector.PromptRun.model_fields)
CONNECTOR_FIELDS = tuple(videovector.Connector.model_fields)
RESULT_FIELDS = frozenset(videovector.SegmentRunResult.model_fields) | frozenset(
    videovector.PromptRunVideoResult.model_fields
)
"""The fields that the SDK knows of a prompt run, a connector, and a segment or video result."""

PAGE_ROWS = 100
"""The most that the API gives in a page."""

CHECK_BASE_URL = "Check that source.base_url is VideoVector's API; if so, report it there."
"""What to do about an answer that is none of the API's."""

_ATTEMPTS = 6
_ATTEMPTS_AT_JUNK = 3  # a gateway's page of an instant passes; a login page stays
_GLANCE_SECONDS = 5.0
_TOLD_SECONDS = 5.0
_TURNED_AWAY = 12  # a request that was only turned away (429) costs the server little, and waits as long as it is told
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 300.0
_NEVER_CUT = 10**9  # the SDK reads a Retry-After only up to this
_EMPTY_PAGES = 100
_SERVER_IS_BUSY = frozenset({408, 425})
_LARGEST_ERROR_BYTES = 2**20
_REASON_CHARACTERS = 200
_SAID_CHARACTERS = 400
_HEADERS_TOO_LARGE = 431
_NO_CONTENT = 204
_CLOSING_SECONDS = 0.1
_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_Row = TypeVar("_Row")


class VideoVectorApi:
    """One account at one server. Built without touching the network; usable from several threads.

    Coroutines run in one background thread, which all accounts of the process share. Every call raises
    CredentialsError, NotFoundError, QuotaError, RequestError or SourceDataError where trying again is of no use, and
    TransientError where its own attempts were not enough.
    """

    def __init__(
        self,
        base_url: str,
        api_key_env: str,
        *,
        max_concurrency: int,
        max_requests_per_second: float | None,
        request_timeout_seconds: float,
        max_answer_bytes: int = 64 * 2**20,
        environ: Mapping[str, str] = os.environ,
        shares: SharesPlace | None = None,
    ) -> None:
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.budget = _budget(base_url, api_key_env, Limits(max_concurrency, max_requests_per_second), shares)
        self._timeout = request_timeout_seconds
        self.max_answer_bytes = max_answer_bytes
        self._environ = environ
        self._told: dict[int | None, tuple[str, float]] = {}
        self._client: videovector.AsyncVideoVector | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Carry out a coroutine in the background thread, and wait for it here."""
        future = asyncio.run_coroutine_threadsafe(work, _background_loop())
        try:
            return future.result()
        except BaseException:  # an interrupt, above all: nobody waits for it any more
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Carry out a coroutine in the background thread, until it is over or stopped."""

        async def begin() -> asyncio.Task[None]:
            _RANK.set(next(_RANKS))  # of two readings, the one that began first goes first, and is over sooner
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return task

        return self.run(begin())

    def stop(self, task: "asyncio.Task[None]") -> None:
        """Stop what ``start`` started, and wait until it has stopped."""

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self.run(end())

    def close(self) -> None:
        """Stop what was started, and close the connections. They are opened again when they are needed."""
        for task in list(self._tasks):
            self.stop(task)
        client, self._client = self._client, None
        if client is not None:
            self.run(client.close())

    async def get(self, *path: str, **params: Any) -> Any:
        """The JSON value at a path, of which each segment is given as it is, and the parameters that are not None."""
        return await self._get(path, params, self._timeout)

    async def members(self, *path: str) -> Members:
        """The members of the object at a path, as they were written."""
        found = await self._get(path, {}, self._timeout, decoded=_as_members)
        if type(found) is not dict:
            raise SourceDataError(f"{_shown(path, {})}: expected an object, found {_kind(found, '')}. {CHECK_BASE_URL}")
        return found

    async def rows(self, *path: str, cursor: str | None, **params: Any) -> "tuple[list[Members], str | None]":
        """One page of a list, of each row the members as they were written; and the cursor of the next page."""
        params |= {"limit": PAGE_ROWS, "cursor": cursor}
        where = _shown(path, params)
        return _page(await self._get(path, params, self._timeout, decoded=_as_rows), where)

    async def glance(self, *path: str) -> Any:
        """The JSON value at a path, asked for once and for a few seconds: what is good to know and not needed."""
        return await self._get(path, {}, min(self._timeout, _GLANCE_SECONDS), most_attempts=1)

    async def _get(
        self,
        path: tuple[str, ...],
        params: Mapping[str, Any],
        seconds: float,
        most_attempts: int = _TURNED_AWAY,
        decoded: "_Decoder" = decode,
    ) -> Any:
        began = time.monotonic()
        where = _shown(path, params)
        for attempt in count(1):
            try:
                async with self.budget.request(_RANK.get(), _INDEX.get()) as leave:
                    return await self._ask(path, params, where, seconds, decoded, leave)
            except _AgainError as again:
                most = min(most_attempts, again.attempts)
                if attempt >= most:
                    raise _given_up(again, where, attempt, began) from None
                wait = again.wait or _wait(attempt)
                if again.everyone_waits:
                    self.budget.pause(wait)
                self._tell(again, where, f"attempt {attempt} of {most} failed, next in {wait:.1f} s")
                if not again.everyone_waits:
                    await asyncio.sleep(wait)
        raise AssertionError("count never ends")

    def _tell(self, again: "_AgainError", where: str, what_next: str) -> None:
        """Warn at once, and of each attempt: what waits is not to look as if it hung. Of the many requests that fail
        together for one reason, one speaks."""
        now = time.monotonic()
        speaker, told = self._told.get(again.status, (where, now))
        others_did = speaker != where and now < told + _TOLD_SECONDS
        if not others_did:
            self._told[again.status] = (where, now)
        _LOG.log(logging.INFO if others_did else logging.WARNING, "%s: %s; %s", where, again, what_next)

    async def pages(self, *path: str, **params: Any) -> AsyncIterator[list[JsonObject]]:
        """The documents of a list, page by page. Raises SourceDataError where the pages do not add up to a list."""
        where = _shown(path, params)

        async def page_at(cursor: str | None) -> tuple[list[JsonObject], str | None]:
            return _page(await self.get(*path, limit=PAGE_ROWS, cursor=cursor, **params), where)

        async for documents in followed(page_at, where):
            yield documents

    async def _ask(  # noqa: PLR0917
        self,
        path: tuple[str, ...],
        params: Mapping[str, Any],
        where: str,
        seconds: float,
        decoded: "_Decoder",
        leave: Callable[[], None],
    ) -> Any:
        exchange = _Exchange(self.max_answer_bytes, self.budget, asyncio.timeout(seconds), decoded, leave)
        token = _EXCHANGE.set(exchange)
        client = await self._ready_client()
        try:
            async with exchange.deadline:
                value = await get_decoded(client, self.base_url.rstrip("/") + _target(path, params))
            if exchange.answered:
                return value
        except TimeoutError:
            exchange.problem = f"no complete answer within {seconds:g} s"
        except videovector.VideoVectorError as error:
            exchange.error = error
        finally:
            # The deadline refers to the task, whose context would refer to it: what a task read goes when it is over.
            _EXCHANGE.reset(token)
        # Out of the handlers: what an exception of httpx holds on to, the key among it, is not for tracebacks.
        raise self._failure(exchange, where)

    def _failure(self, exchange: "_Exchange", where: str) -> Exception:
        """What came of a request, in our terms, by what came back. The SDK's own classes do not say all of it."""
        if exchange.unreadable:
            return SourceDataError(f"{where}: {exchange.unreadable}")
        said = quoted(exchange.said(), [self._environ.get(self.api_key_env, "")], longest=_SAID_CHARACTERS)
        status = exchange.status
        if status is None or exchange.problem or status in _SERVER_IS_BUSY or status >= 500:  # noqa: PLR2004
            attempts = _ATTEMPTS_AT_JUNK if exchange.no_json else _ATTEMPTS
            return _AgainError(said, status, attempts=attempts, no_json=exchange.no_json)
        if status == 429 and (exchange.retry_after is not None or not exchange.is_about_quota):  # noqa: PLR2004
            if (exchange.retry_after or 0) <= _LONGEST_RETRY_AFTER_SECONDS:
                # Everyone waits: requests that are sent meanwhile would be turned away too, and may be held against us.
                return _AgainError(said, status, attempts=_TURNED_AWAY, wait=exchange.retry_after, everyone_waits=True)
            return QuotaError(f"{where}: {said}. The server asks to wait {exchange.retry_after:,.0f} s.")
        if exchange.is_about_quota:
            until = f" It is reset at {exchange.reset_time}." if exchange.reset_time else ""
            return QuotaError(f"{where}: a quota of the account is used up ({said}).{until}")
        return self._refusal(exchange, said, where)

    def _refusal(self, exchange: "_Exchange", said: str, where: str) -> VVExportsError:
        """The error for an answer that will be the same the next time."""
        base_url, env = self.base_url, self.api_key_env
        if exchange.status in {401, 403} and not exchange.is_json:
            said += (
                f", {exchange.kind}, which is no answer of VideoVector's API: a proxy or a firewall may have given it"
            )
        match exchange.status:
            case 401:
                return CredentialsError(
                    f"{where}: {base_url} does not accept the API key in {env} ({said}). Put a valid one there."
                )
            case 403:
                return CredentialsError(
                    f"{where}: the API key in {env} may not do this ({said}). Exports need a key with the scope 'read'."
                )
            case 404 if exchange.is_json:
                return NotFoundError(f"{where}: {base_url} answers {said}")
            case 404:
                return RequestError(
                    f"{where}: {base_url} does not seem to be VideoVector's API ({said}). Check source.base_url."
                )
            case status if status is not None and status < 400:  # noqa: PLR2004
                return RequestError(
                    f"{where}: {base_url} answers with a redirect to {exchange.redirect}, and an API key must not "
                    "follow one. Set source.base_url to the address of the API itself."
                )
            case _:
                return RequestError(f"{where}: {base_url} refuses the request ({said})")

    async def _ready_client(self) -> videovector.AsyncVideoVector:
        if self._client is None:
            key = self._environ.get(self.api_key_env, "")
            if not key.strip():
                raise CredentialsError(
                    f"the environment variable {self.api_key_env} is not set, and source.api_key_env says that it "
                    "holds the API key. Set it where this runs."
                )
            if not key.isascii() or not key.isprintable() or key != key.strip():
                raise CredentialsError(
                    f"what the environment variable {self.api_key_env} holds is not an API key: it has blanks around "
                    "it, or characters that no key has. Set it again."
                )
            client = videovector.AsyncVideoVector(
                api_key=key,
                auth_mode="api_key",
                base_url=self.base_url,
                timeout=self._timeout,
                max_retries=0,
                max_retry_delay=_NEVER_CUT,
            )
            http = await http_client(client)
            http.headers["Accept-Encoding"] = "gzip"
            http.timeout = httpx.Timeout(None)  # there is one for all of a request
            http.event_hooks = {"request": [_watch], "response": [_note]}
            self._client = client
            _CLIENTS.setdefault(os.getpid(), WeakSet()).add(client)
        return self._client


async def followed(
    page_at: Callable[[str | None], Awaitable[tuple[list[_Row], str | None]]], where: str
) -> AsyncIterator[list[_Row]]:
    """The rows of all pages of a list, each page being asked for at the cursor that the one before it gave. Raises
    SourceDataError where the pages do not add up to a list."""
    cursor: str | None = None
    seen: set[str] = set()
    empty = 0
    while True:
        rows, cursor = await page_at(cursor)
        yield rows
        if cursor is None:
            return
        empty = 0 if rows else empty + 1
        if cursor in seen or empty > _EMPTY_PAGES:
            what = "a page's cursor is one that was followed before" if cursor in seen else "there are no rows left"
            raise SourceDataError(f"{where}: the server says that there are more pages, but {what}")
        seen.add(cursor)


class _RowsPage(msgspec.Struct):
    data: list[Members]
    pagination: dict[str, Any]


_Decoder = Callable[[bytes | bytearray], Any]
_ROWS = msgspec.json.Decoder(_RowsPage)


def _as_rows(body: bytes | bytearray) -> Any:
    """A page of a list, of each row the members as they were written, or as they are written again where something
    about the page is unusual."""
    try:
        page = decode_outside(body, _ROWS)
    except ValueError:
        value = decode(body)
        if isinstance(value, dict) and isinstance(value.get("data"), list):
            value["data"] = list(map(_its_members, value["data"]))
        return value
    return {"data": page.data, "pagination": page.pagination}


def _as_members(body: bytes | bytearray) -> Any:
    try:
        return members_in(body)
    except ValueError:
        return _its_members(decode(body))


def _its_members(value: Any) -> Any:
    """An object's members. Anything else is for others to refuse."""
    try:
        return members_of(value) if type(value) is dict else value
    except ValueError:
        raise NestedTooDeepError from None


@dataclass
class _Exchange:
    """One request under way, and what came back for it."""

    most_bytes: int
    budget: RequestBudget
    deadline: asyncio.Timeout
    decoded: "_Decoder"
    leave: Callable[[], None]
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    unreadable: str | None = None
    no_json: bool = False
    error: videovector.VideoVectorError | None = None

    @property
    def answered(self) -> bool:
        """Whether this is a success. The SDK takes a redirect for one."""
        return self.status is not None and self.status < 300  # noqa: PLR2004

    @property
    def is_json(self) -> bool:
        """Whether the answer says that it is JSON: the API's own errors are."""
        return self.headers.get("content-type", "").partition(";")[0].strip() == "application/json"

    @property
    def kind(self) -> str:
        """What the answer says that it is."""
        return self.headers.get("content-type", "no content type")[:_REASON_CHARACTERS]

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait. The SDK makes a minute of it where it is missing."""
        stated = isinstance(self.error, videovector.RateLimitError) and "retry-after" in self.headers
        return float(self.error.retry_after or 0) if stated else None  # type: ignore[union-attr]

    @property
    def redirect(self) -> str:
        """Where a redirect leads, without the query: a token may stand there."""
        target = urlsplit(self.headers.get("location", ""))
        return f"{target.scheme}://{target.hostname}{target.path}" if target.hostname else target.path or "nowhere"

    @property
    def is_about_quota(self) -> bool:
        """Whether the answer says that a quota is used up, which is not over in a minute."""
        return self.error is not None and "quota" in str(self.error.error_code)

    @property
    def reset_time(self) -> str | None:
        """When the quota is reset, as the server says it."""
        details = self.error.details if self.error is not None else None
        reset = details.get("reset_time") if isinstance(details, dict) else None
        return quoted(str(reset)) if reset else None

    def said(self) -> str:
        """What came back, in one line. The caller takes out secrets."""
        if self.problem or self.error is None or self.status is None:
            return self.problem or (self.error.message if self.error is not None else "no answer")
        code = f" {self.error.error_code}" if isinstance(self.error.error_code, str) else ""
        message = f": {self.error.message}" if self.is_json and isinstance(self.error.message, str) else ""
        request_id = self.error.request_id or self.headers.get("x-request-id")
        return f"{self.status}{code}{message}" + (f", request id {request_id}" if request_id else "")


_EXCHANGE: ContextVar[_Exchange] = ContextVar("exchange")


async def _watch(request: httpx.Request) -> None:
    """Have the reason noted why no answer came: the SDK keeps it from us, and tells that the request failed."""
    request.extensions["trace"] = _trace


async def _trace(event: str, info: Mapping[str, Any]) -> None:
    exchange, error = _EXCHANGE.get(), info.get("exception")
    if not event.endswith(".failed") or not isinstance(error, Exception) or exchange.status or exchange.problem:
        return
    too_long = isinstance(error, HeaderTooLongError)
    # The words of httpx's own connections, which lead to a proxy.
    if too_long or any(getattr(cause, "error_status_hint", None) == _HEADERS_TOO_LARGE for cause in error.args):
        exchange.unreadable = f"the headers of the answer are too long. {CHECK_BASE_URL}"
    exchange.problem = f"no answer ({type(error).__name__}: {error})"[:_REASON_CHARACTERS]


async def _note(response: httpx.Response) -> None:
    """Take the body within the limit, and have the SDK decode it without losing a digit."""
    exchange = _EXCHANGE.get()
    exchange.status = response.status_code
    exchange.headers = response.headers
    exchange.problem = None  # of a connection before this one
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("an asynchronous client has an asynchronous stream")
    try:
        value: Any = await _value(stream, exchange)
    except httpx.HTTPError as error:
        exchange.problem = f"{response.status_code}, and the answer breaks off ({type(error).__name__})"
        raise
    except ValueError as error:
        value = error
    finally:
        await stream.aclose()
    # What the SDK is left with is empty. The stream would refer to the response, too: without it bodies go at once, not
    # at a rare collection of cycles.
    response.stream = httpx.ByteStream(b"")
    response.headers.pop("content-encoding", None)

    def json(**_: Any) -> Any:
        if isinstance(value, ValueError):
            raise value
        return value

    response.json = json  # type: ignore[method-assign]


async def _value(stream: httpx.AsyncByteStream, exchange: _Exchange) -> Any:
    """The JSON value of an answer. Raises ValueError where there is none, which matters to a success alone."""
    if not exchange.answered:
        most = min(_LARGEST_ERROR_BYTES, exchange.most_bytes)
        try:
            return decode_within(await read_body(stream, exchange.headers, most, _alone(exchange)), most)
        except AnswerTooLargeError as error:
            raise ValueError(str(error)) from None
    try:
        body = await read_body(stream, exchange.headers, exchange.most_bytes, _alone(exchange))
        exchange.leave()
        await asyncio.sleep(0)  # the next request goes out before this answer is looked at
        try:
            return decode_within(body, exchange.most_bytes, exchange.decoded)
        except NestedTooDeepError as error:
            exchange.unreadable = f"{exchange.status}, and in the answer {error}. Report it to VideoVector."
            raise
        except ValueError as error:
            raise ValueError(f"is no JSON ({exchange.kind}, {len(body)} bytes: {error})") from None
    except AnswerTooLargeError as error:
        exchange.unreadable = (
            f"the answer {error}, and source.max_answer_bytes is {exchange.most_bytes:,}. Raise it where such answers "
            "are meant and there is the memory for them; otherwise report it to VideoVector."
        )
        raise
    except ValueError as error:
        if exchange.status != _NO_CONTENT:
            exchange.problem = f"{exchange.status}, and the answer {error}"
            exchange.no_json = True
        raise


@asynccontextmanager
async def _alone(exchange: _Exchange) -> AsyncIterator[None]:
    """Around the reading of a large answer. The time that it waits for others is not the server's."""
    now, ends = asyncio.get_running_loop().time, exchange.deadline.when()
    left = math.inf if ends is None else ends - now()
    exchange.deadline.reschedule(None)
    async with exchange.budget.large_answer:
        exchange.deadline.reschedule(now() + left)
        yield


class _AgainError(Exception):
    """A request that may be sent again: what was wrong, how many attempts it is worth, how long to wait, and who waits.

    ``wait`` is what the server asks for, in seconds, None where it does not say.
    """

    def __init__(
        self,
        said: str,
        status: int | None,
        *,
        attempts: int = _ATTEMPTS,
        wait: float | None = None,
        everyone_waits: bool = False,
        no_json: bool = False,
    ) -> None:
        self.status = status
        self.attempts = attempts
        self.wait = wait
        self.everyone_waits = everyone_waits
        self.no_json = no_json
        super().__init__(said)


def _given_up(again: _AgainError, where: str, attempts: int, began: float) -> VVExportsError:
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    tried = f"{where}: {again}; {times} in {time.monotonic() - began:.0f} s"
    if again.no_json:
        return SourceDataError(f"{tried}. {CHECK_BASE_URL}")
    return TransientError(f"{tried}. VideoVector is down, busy or out of reach; try again later.")


def _wait(attempt: int) -> float:
    """Twice as long each time, and never as long as the others wait: together they would come back together."""
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311


def _page(page: Any, where: str) -> tuple[list[JsonObject], str | None]:
    """The documents of a page, and the cursor of the next one, None where it is the last."""
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        found = _kind(page, "data")
        raise SourceDataError(
            f"{where}: expected a page, an object with an array 'data', found {found}. {CHECK_BASE_URL}"
        )
    documents = page["data"]
    if any(type(document) is not dict for document in documents):
        raise SourceDataError(f"{where}: expected every row of the page to be an object")
    if "pagination" not in page and len(documents) < PAGE_ROWS:
        return documents, None
    pagination = page.get("pagination")
    if not isinstance(pagination, dict):
        found = _kind(page, "pagination")
        raise SourceDataError(f"{where}: expected 'pagination' to say whether there are more rows, found {found}")
    cursor = pagination.get("next_cursor")
    if not pagination.get("has_more", cursor is not None):
        return documents, None
    if not isinstance(cursor, str) or not cursor:
        raise SourceDataError(f"{where}: the server says that there are more rows, and gives no cursor to them")
    return documents, cursor


def _kind(page: Any, name: str) -> str:
    names = {dict: "an object", list: "an array", str: "text", type(None): "null"}
    if isinstance(page, dict):
        return f"{name}: {names.get(type(page[name]), 'a number')}" if name in page else f"no {name!r}"
    return names.get(type(page), "a number")


def _joined(path: tuple[str, ...]) -> str:
    """The SDK puts ids into paths as they are, so that an id with a slash or a question mark asks for another thing."""
    return "/" + "/".join(
        segment.replace(".", "%2E") if segment in {".", ".."} else quote(segment, safe="") for segment in path
    )


def _target(path: tuple[str, ...], params: Mapping[str, Any]) -> str:
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in params.items() if value is not None)
    return _joined(path) + (f"?{query}" if query else "")


@contextmanager
def about(index_id: str) -> Iterator[None]:
    """What is asked here, and in what is started here, counts as about this index."""
    token = _INDEX.set(index_id)
    try:
        yield
    finally:
        _INDEX.reset(token)


def _shown(path: tuple[str, ...], params: Mapping[str, Any]) -> str:
    return f"GET {_target(path, params)}"


_INDEX: ContextVar[str] = ContextVar("index", default="")
_RANK: ContextVar[int] = ContextVar("rank", default=0)
_RANKS = count(1)
_BUDGETS: dict[tuple[Any, ...], RequestBudget] = {}
_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}
_CLIENTS: dict[int, WeakSet[videovector.AsyncVideoVector]] = {}
_GUARD = threading.Lock()


def _budget(base_url: str, api_key_env: str, limits: Limits, shares: SharesPlace | None) -> RequestBudget:
    """One for all that this process asks of an account, however many pipelines of a deployment it holds."""
    account = (os.getpid(), base_url, api_key_env, limits, shares and shares.address)
    with _GUARD:
        if account not in _BUDGETS:
            _BUDGETS[account] = budget = RequestBudget(limits, limits if shares is None else NOTHING)
            if shares is not None:
                before_executors_end(SharedBudget(budget, shares.open, base_url).leave)
        return _BUDGETS[account]


def _background_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process. Threads do not survive a fork, so a child process gets one of its own."""
    with _GUARD:
        loop = _LOOPS.get(os.getpid())
        if loop is None:
            loop = _LOOPS[os.getpid()] = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="videovector", daemon=True)
            thread.start()
            atexit.register(_stop, loop, thread, os.getpid())
        return loop


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if pid == os.getpid():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_close_clients(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)


async def _close_clients() -> None:
    """Close what nobody closed, and give what is being closed the time for it."""
    for client in list(_CLIENTS.get(os.getpid(), ())):
        await client.close()
    closing = asyncio.all_tasks() - {asyncio.current_task()}
    if closing:
        await asyncio.wait(closing, timeout=_CLOSING_SECONDS)
