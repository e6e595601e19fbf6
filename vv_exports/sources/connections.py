"""Connections to one server, of which each carries one request at a time. What is requested is not known here."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx


class Connections(httpx.AsyncBaseTransport):
    """As many connections as there are requests under way; the one that was used last is used first.

    A pool of httpcore looks at each of its connections, asks the system about each that is idle, and compares it with
    all, whenever a request begins and whenever one ends: with sixteen of them that is half of what a request costs.
    Pools of one connection have nothing to compare.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._all: list[httpx.AsyncBaseTransport] = []
        self._free: list[httpx.AsyncBaseTransport] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx.AsyncBaseTransport``: the connection is free again when the answer's stream is closed."""
        one = self._free.pop() if self._free else self._another()
        try:
            response = await one.handle_async_request(request)
        except BaseException:
            self._drop(one)
            raise
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous transport has an asynchronous stream")
        response.stream = _Answer(response.stream, partial(self._free.append, one), partial(self._drop, one))
        return response

    async def aclose(self) -> None:
        """Close all of them."""
        every, self._all, self._free = self._all, [], []
        for one in every:
            await one.aclose()
        await asyncio.gather(*self._closing)

    def _drop(self, one: httpx.AsyncBaseTransport) -> None:
        """Use it no more: a request that is cancelled twice leaves a pool that waits for it for ever. It is closed in a
        task of its own, which nobody cancels."""
        if one in self._all:
            self._all.remove(one)
            closing = asyncio.get_running_loop().create_task(one.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _another(self) -> httpx.AsyncBaseTransport:
        one = self._make()
        self._all.append(one)
        return one


class _Answer(httpx.AsyncByteStream):
    """The stream of an answer, after which a connection is free, or of no use where it could not be closed."""

    def __init__(self, stream: httpx.AsyncByteStream, free: Callable[[], None], drop: Callable[[], None]) -> None:
        self._stream = stream
        self._free = free
        self._drop = drop
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.aclose()
        except BaseException:
            self._drop()
            raise
        self._free()
