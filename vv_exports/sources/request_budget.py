"""How many requests this process may have under way at a server, how many it may begin each second, and when none.

Nothing here knows what a request is. Times are the event loop's, in seconds.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

_CATCH_UP_SECONDS = 0.1
"""Turns that a late timer missed are made up for, as long as they are not older than this."""


@dataclass
class Spent:
    """What was used of a budget since the process began. ``waited`` is the sum over all requests, in seconds."""

    requests: int = 0
    pauses: int = 0
    waited: float = 0.0


class RequestBudget:
    """The budget of one server and one account. Used within one event loop."""

    def __init__(self, max_concurrency: int, max_requests_per_second: float | None) -> None:
        self.max_concurrency = max_concurrency
        self.spent = Spent()
        self.large_answer = asyncio.Lock()
        """Held by the one request whose answer is large enough to matter to memory."""
        self._free = max_concurrency
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrived = count()
        self._interval = 0.0 if max_requests_per_second is None else 1 / max_requests_per_second
        self._next_turn = 0.0
        self._paused_until = 0.0

    @asynccontextmanager
    async def request(self, rank: int = 0) -> AsyncIterator[None]:
        """Around one request: waits for its turn, and takes one of the places under way. Lower ranks go first."""
        await self._take_place(rank)
        try:
            await self._turn()
            self.spent.requests += 1
            yield
        finally:
            self._free += 1
            self._give_places()

    async def _take_place(self, rank: int) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (rank, next(self._arrived), place))
        self._give_places()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given just now
                self._free += 1
            self._give_places()
            raise

    def _give_places(self) -> None:
        while self._free and self._waiting:
            *_, place = heappop(self._waiting)
            if not place.done():
                self._free -= 1
                place.set_result(None)

    def pause(self, seconds: float) -> None:
        """Let no request begin for this long: the server said that it had too many."""
        self.spent.pauses += 1
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        turn = max(self._next_turn, began - _CATCH_UP_SECONDS)
        self._next_turn = turn + self._interval
        # A pause may come while we wait.
        while (wait := max(turn, self._paused_until) - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)
        self.spent.waited += loop.time() - began
