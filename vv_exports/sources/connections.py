"""Connections to one server, for an HTTP client of httpx's. What is requested is not known here.

They are aiohttp's: one of httpx's own costs three times the processor time, and asks the system a dozen times for each
request. Whenever it does, a thread that computes may take Python's lock, and keeps it for milliseconds.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

_IDLE_SECONDS = 4.0  # many servers end a connection after five
_LONGEST_HEADER_BYTES = 2**16


class HeaderTooLongError(httpx.RemoteProtocolError):
    """A header of the answer is longer than any that means something."""


class Connections(httpx.AsyncBaseTransport):
    """As many connections as there are requests under way, of which each is used again. Used within one event loop.

    A request is sent once: aiohttp by itself sends it again where a connection breaks, which nobody would have counted.
    Raises ``httpx.TransportError``, of which it tells the request's extension ``trace``, as httpx's own transport does.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx.AsyncBaseTransport``: a connection is free again once the answer's stream is at its end."""
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            self._session = _session(self._trusted)
        try:
            answer = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
            )
        except httpx.TransportError as error:
            if "trace" in request.extensions:
                await request.extensions["trace"]("connections.request.failed", {"exception": error})
            raise
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Answer(answer))

    async def aclose(self) -> None:
        """Close all of them."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def __del__(self) -> None:
        if self._session is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.create_task, self._session.close())


class _Answer(httpx.AsyncByteStream):
    """The body of an answer, as it arrives."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """Have done with it: a connection on which there is more to come is of no use."""
        self._answer.close()


def _session(trusted: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS, ssl=trusted),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),  # none: whoever asks knows how long it may take
        auto_decompress=False,
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
        middlewares=[_sent_once],
    )


async def _sent_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    with _errors_of_httpx():  # for other errors than its own, aiohttp does not try again
        return await send(request)


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error)) from error
    except aiohttp.ClientResponseError as error:
        if any(isinstance(cause, LineTooLong) for cause in _causes(error)):
            raise HeaderTooLongError(f"a header is longer than {_LONGEST_HEADER_BYTES:,} bytes") from error
        raise httpx.RemoteProtocolError(error.message) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(str(error)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__
