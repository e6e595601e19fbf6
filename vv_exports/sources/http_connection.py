"""One HTTP connection on the event loop's own streams, in the place of httpcore's pools over anyio.

Those look for a connection, take locks, ask the system whether the server hung up, and set time limits at each step of
each request, which is more than half of what a request costs. Here a connection carries one request at a time, and
whoever asks sets one limit for all of it. The HTTP in it is httpcore's.
"""

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any, TypeVar

import httpcore

_IDLE_SECONDS = 5.0
_NOT_WANTED_SECONDS = 5.0
_READ_BYTES = 2**16
_HAPPY_EYEBALLS_SECONDS = 0.25
_Done = TypeVar("_Done")


class HttpConnection:
    """What httpx takes for a pool. It connects when it is asked for something, and again where the server hung up."""

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._open: httpcore.AsyncHTTP11Connection | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """See ``httpcore.AsyncConnectionPool``. The next request may come when the answer's stream is closed."""
        one, origin = self._open, request.url.origin
        if one is not None and (one.is_closed() or one.has_expired() or not one.can_handle_request(origin)):
            await self.aclose()
            one = None
        if one is None:
            stream = await self._connected(request, origin)
            one = self._open = httpcore.AsyncHTTP11Connection(origin, stream, keepalive_expiry=_IDLE_SECONDS)
        return await one.handle_async_request(request)

    async def aclose(self) -> None:
        """Hang up."""
        one, self._open = self._open, None
        if one is not None:
            await one.aclose()

    async def _connected(self, request: httpcore.Request, origin: httpcore.Origin) -> "_Stream":
        host = origin.host.decode("ascii")
        is_safe = origin.scheme == b"https"
        opening = asyncio.create_task(
            asyncio.open_connection(
                host,
                origin.port or (443 if is_safe else 80),
                ssl=self._trusted if is_safe else None,
                server_hostname=host if is_safe else None,
                happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
            )
        )
        try:
            # asyncio loses a socket that was connected when it is cancelled just then.
            reader, writer = await _within(
                request.extensions.get("timeout", {}).get("connect"), asyncio.shield(opening)
            )
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(_NOT_WANTED_SECONDS, opening.cancel)
            opening.add_done_callback(_hang_up)
            raise
        except (OSError, ssl.SSLError) as error:
            failed = httpcore.ConnectTimeout() if isinstance(error, TimeoutError) else httpcore.ConnectError(str(error))
            trace = request.extensions.get("trace")
            if trace is not None:
                await trace("connection.connect_tcp.failed", {"exception": failed})
            raise failed from error
        return _Stream(reader, writer)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            return await _within(timeout, self._reader.read(min(max_bytes, _READ_BYTES)))
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if not buffer:
            return
        try:
            self._writer.write(buffer)
            await _within(timeout, self._writer.drain())
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        # Not waited for: a server that does not answer to the end of TLS would hold up whoever gives up on it.
        self._writer.close()

    def get_extra_info(self, info: str) -> Any:
        """``is_readable`` of an idle connection says that the server hung up."""
        return self._reader.at_eof() if info == "is_readable" else self._writer.get_extra_info(info)


def _hang_up(opening: "asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].close()


async def _within(seconds: float | None, work: Awaitable[_Done]) -> _Done:
    if seconds is None:
        return await work
    async with asyncio.timeout(seconds):
        return await work
