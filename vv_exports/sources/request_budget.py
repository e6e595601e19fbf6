"""How many requests this process may have under way at a server, how many it may begin each second, and when none.

Nothing here knows what a request is. Times are the event loop's, in seconds.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

import msgspec

from vv_exports.errors import VVExportsError

CATCH_UP_SECONDS = 0.1
"""Turns that a late timer missed are made up for, as long as they are not older than this."""


class Limits(msgspec.Struct, frozen=True):
    """What may be asked of a server: requests under way at a time, and requests that begin in a second (None: as many
    as the server takes)."""

    places: int
    per_second: float | None

    @property
    def rate(self) -> float:
        """``per_second``, infinite where nobody limits it."""
        return math.inf if self.per_second is None else self.per_second

    @classmethod
    def at_rate(cls, places: int, rate: float) -> "Limits":
        """The limits with a rate that may be infinite."""
        return cls(places, None if math.isinf(rate) else rate)

    def least(self, other: "Limits") -> "Limits":
        """The lower one of each."""
        return Limits.at_rate(min(self.places, other.places), min(self.rate, other.rate))

    def most(self, other: "Limits") -> "Limits":
        """The higher one of each."""
        return Limits.at_rate(max(self.places, other.places), max(self.rate, other.rate))


NOTHING = Limits(0, 0.0)


@dataclass
class Spent:
    """What was used of a budget since the process began. ``waited`` are the seconds in which requests waited because of
    the rate, of a pause or of other processes, however many of them. ``by_topic`` are the requests by what they were
    about, as whoever asked named it."""

    requests: int = 0
    pauses: int = 0
    waited: float = 0.0
    by_topic: Counter[str] = field(default_factory=Counter)

    def copy(self) -> "Spent":
        """The same, which stays as it is."""
        return replace(self, by_topic=Counter(self.by_topic))


@dataclass(frozen=True)
class Use:
    """What was used of a budget in a stretch of time: the most requests under way, those that began, and whether there
    were more to be had with more places, or with more turns."""

    most_under_way: int
    begun: int
    wants_places: bool
    wants_turns: bool
    is_in_use: bool


class RequestBudget:
    """The budget of one server and one account. Used within one event loop.

    It allows all of its ``limits``, or for a start ``allowed``: ``allow`` is for whoever shares it among processes.
    """

    def __init__(self, limits: Limits, allowed: Limits | None = None) -> None:
        self.limits = limits
        self.spent = Spent()
        self.told = Spent()
        """As much of it as others were told: of whoever shares the budget among processes, and comes and goes."""
        self.large_answer = asyncio.Lock()
        """Held by the one request whose answer is large enough to matter to memory."""
        self.wanted: Callable[[], None] = lambda: None
        """Called when a request comes."""
        self.paused: Callable[[], None] = lambda: None
        """Called when the server said that it had too many."""
        self.under_way = 0
        self._allowed = limits if allowed is None else allowed
        self._until = math.inf
        self._allowed_since = -math.inf
        self._waiting: list[tuple[int, int, float, asyncio.Future[None]]] = []
        self._arrived = count()
        self._last_turn = -math.inf
        self._paused_until = -math.inf
        self._kept_since: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._most_under_way = self._begun_before = 0
        self._wants_places = self._wants_turns = False

    @asynccontextmanager
    async def request(self, rank: int = 0, topic: str = "") -> AsyncIterator[Callable[[], None]]:
        """Around one request: waits for its turn and for one of the places under way. Lower ranks go first.

        What it gives is to be called where the place is free before all that is done here is over.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heappush(self._waiting, (rank, next(self._arrived), loop.time(), turn))
        self.wanted()
        self._begin()
        holds_place = True

        def leave() -> None:
            nonlocal holds_place
            if holds_place:
                holds_place = False
                self.under_way -= 1
                self._begin()

        try:
            await turn
            self.spent.requests += 1
            self.spent.by_topic[topic] += 1
            yield leave
        finally:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                leave()
            else:
                self._begin()

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits."""
        return any(not turn.done() for *_, turn in self._waiting)

    def pause(self, seconds: float) -> None:
        """Let no request begin for this long: the server said that it had too many."""
        self.spent.pauses += 1
        self.pause_with_others(seconds)
        self.paused()

    def pause_with_others(self, seconds: float) -> None:
        """Let no request begin for this long: the server said it to another process."""
        self._paused_until = max(self._paused_until, _now() + seconds)

    def pause_left(self) -> float:
        """How long no request begins, in seconds; 0 without a pause."""
        return max(0.0, self._paused_until - _now())

    def allow(self, limits: Limits, until: float = math.inf) -> None:
        """Allow so much from now on, and nothing after ``until``, unless it is said again. Requests under way stay."""
        if not self._allows_some(_now()):
            self._allowed_since = _now()
        self._allowed = limits
        self._until = until
        self._begin()

    def refuse(self, error: VVExportsError) -> None:
        """Fail the requests that wait."""
        waiting, self._waiting = self._waiting, []
        for *_, turn in waiting:
            if not turn.done():
                turn.set_exception(error)

    def use(self) -> Use:
        """What was used since this was asked the last time."""
        self._begin()
        begun = self.spent.requests - self._begun_before
        is_in_use = bool(self._waiting or self.under_way or begun)
        use = Use(self._most_under_way, begun, self._wants_places, self._wants_turns, is_in_use)
        self._begun_before = self.spent.requests
        self._most_under_way = self.under_way
        self._wants_places = self._wants_turns = False
        return use

    def _begin(self) -> None:
        """Let those begin that may, and come back when the next one may."""
        now = _now()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._kept_since is not None:
            self.spent.waited += now - self._kept_since
            self._kept_since = None
        while self._waiting:
            *_, arrived, turn = self._waiting[0]
            if turn.done():  # it was given up
                heappop(self._waiting)
            elif self._allowed.places and self.under_way >= self._allowed.places:
                self._wants_places = True
                return
            elif (due := self._due(now)) > now:
                self._keep_waiting(now, due)
                return
            else:
                heappop(self._waiting)
                # Turns that nobody wanted, or that were not allowed, are not made up for.
                self._last_turn = max(due, now - CATCH_UP_SECONDS, arrived, self._allowed_since)
                self.under_way += 1
                self._most_under_way = max(self._most_under_way, self.under_way)
                turn.set_result(None)

    def _keep_waiting(self, now: float, due: float) -> None:
        self._kept_since = now
        self._wants_places |= not self._allowed.places
        self._wants_turns |= now >= self._paused_until
        if due < math.inf:
            self._alarm = asyncio.get_running_loop().call_at(due, self._begin)

    def _due(self, now: float) -> float:
        """When the next request may begin, as far as can be told now."""
        if not self._allows_some(now):
            return math.inf
        each = self._allowed.per_second
        return max(self._last_turn + (1 / each if each else 0.0), self._paused_until)

    def _allows_some(self, now: float) -> bool:
        return self._allowed.places > 0 and self._allowed.per_second != 0 and now < self._until


def _now() -> float:
    return asyncio.get_running_loop().time()
