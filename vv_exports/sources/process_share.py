"""The part that one process takes in a shared budget, from when it comes to when it leaves.

A process that asks the server is in a document that all of them reach, with what it may use (``shares``). It looks at
the document now and then, and leaves when it asks nothing any more. One that shows no life for a whole time to live, by
the clock of the one who looks, is dead, and others take its share; it has stopped using it by then, by its own clock.
"""

import asyncio
import logging
import math
import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import msgspec

from vv_exports.errors import OutcomeUnknownError, VVExportsError
from vv_exports.sources.request_budget import NOTHING, Limits, RequestBudget, Spent, Use
from vv_exports.sources.shares import Share, SharedShares, Shares, fair, is_worth_writing, with_share

TIME_TO_LIVE_SECONDS = 20.0
"""How long the share of a process that died is of use to nobody; longer where there are many processes."""
_SECONDS_OF_EACH = 1.0
"""So much of a time to live there is at least for each process: together they write to one document."""
_RENEWALS = 3  # in a time to live
_LOOK_SECONDS = 1.0
_LOOK_ALONE_SECONDS = 2.0
_LOOK_SHORT_SECONDS = 0.25  # of one that has less than its share, as it came just now: the others give it back soon
_SHORT_SECONDS = 5.0
_RENEWAL_ALONE_SECONDS = 60.0
_FORGOTTEN_AFTER = timedelta(minutes=10)
"""Of one that was killed when it was alone nobody saw when it died. So much clocks may differ."""
_IDLE_SECONDS = 3.0
"""A process that asks nothing for so long leaves."""
_PLACES_FOR_SECONDS = 10.0
"""How long a process has its places where there are fewer places than processes."""
_LOOKS_OF_LESS = 10  # after which less is wanted
_PARTS = 64  # a smaller part of the whole is not wanted
_ROOM = 1.25  # more is wanted than was used, so that a little more is no reason to wait
_A_LITTLE = Limits(2, 0.125)  # the rate is of the whole
_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class BudgetInLoop:
    """A budget from another thread than its event loop's."""

    def __init__(self, budget: RequestBudget, loop: asyncio.AbstractEventLoop) -> None:
        self._budget, self._loop = budget, loop
        self.limits = budget.limits

    def ask(self, what: Callable[[], _Result]) -> _Result:
        """Have something done in the loop."""

        async def done() -> _Result:
            return what()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def allow(self, limits: Limits, until: float) -> None:
        """See the budget."""
        self.ask(partial(self._budget.allow, limits, until))

    def refuse(self, error: VVExportsError) -> None:
        """See the budget."""
        self.ask(partial(self._budget.refuse, error))

    def use(self) -> Use:
        """See the budget."""
        return self.ask(self._budget.use)

    def spent(self) -> Spent:
        """What was spent of the budget until now."""
        return self.ask(self._budget.spent.copy)

    def with_untold(self, shares: Shares, spent: Spent) -> Shares:
        """The document with what was spent and not told yet."""
        told = self._budget.told
        return shares.with_spent(spent.by_topic - told.by_topic, spent.pauses - told.pauses)

    def told(self, spent: Spent) -> None:
        """The document has that by now."""
        self._budget.told = spent

    def under_way(self) -> int:
        """See the budget."""
        return self.ask(lambda: self._budget.under_way)

    def pause_left(self) -> float:
        """See the budget."""
        return self.ask(self._budget.pause_left)

    def pause(self, seconds: float) -> None:
        """As the budget does where the server said it to another process."""
        self.ask(partial(self._budget.pause_with_others, seconds))


class ProcessShare:
    """The part of one process, from when it comes to when it leaves."""

    def __init__(self, budget: BudgetInLoop, document: Callable[[], SharedShares | None], server: str) -> None:
        self._budget, self._open, self._server = budget, document, server
        self._document: SharedShares | None = None
        self.is_alone = False
        """Whether there is no place in which processes could agree."""
        self._looked_at = self._used_at = self._seated_at = time.monotonic()
        self._seen: dict[str, tuple[Share, float]] = {}
        self._has_others = self._may_be_there = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._token = secrets.token_hex(8)
        self._share: Share | None = None
        self._wants: Limits | None = None
        self._until = self._written_at = -math.inf
        self._short_since: float | None = None
        self._looks_of_less = 0
        self._allow(NOTHING)

    def until_next_look(self) -> float:
        """In seconds; not the same for all, so that they do not meet."""
        if self._short_since is not None and time.monotonic() - self._short_since < _SHORT_SECONDS:
            pause = _LOOK_SHORT_SECONDS
        else:
            pause = _LOOK_SECONDS if self._has_others or not self._allowed.places else _LOOK_ALONE_SECONDS
        return pause * random.uniform(0.9, 1.1)  # noqa: S311

    def look(self) -> bool:
        """Look at the document and keep to it. False where nothing was asked for so long that it is time to leave."""
        looking_at = time.monotonic()
        use = self._budget.use()
        if use.is_in_use:
            self._used_at = looking_at
        elif looking_at - self._used_at > _IDLE_SECONDS:
            return False
        try:
            self._document = self._document or self._open()
            if self._document is None:
                self._keep_alone()
                return False
            self._agree(self._document, use, looking_at)
        except VVExportsError as error:
            if self._share is None:
                self._ask_a_little(error)
            elif time.monotonic() >= self._until:
                raise
            else:
                _LOG.info("this process's share of the requests could not be looked at: %s", error)
        self._looked_at = looking_at
        return True

    def leave(self) -> None:
        """Give the share to the others."""

        def left(shares: Shares) -> Shares | None:
            rest = {token: one for token, one in shares.by_token.items() if token != self._token}
            after = msgspec.structs.replace(self._budget.with_untold(shares, spent), by_token=rest)
            return after if after != shares else None

        if self._document is None or not self._may_be_there:
            return
        try:
            spent = self._budget.spent()
            self._document.update(left)
            self._budget.told(spent)
        except (VVExportsError, RuntimeError) as error:  # Python's own, where the interpreter ends already
            _LOG.info("this process's share of the requests is of use to nobody for a while: %s", error)

    def _keep_alone(self) -> None:
        _LOG.warning(
            "how many requests %s gets cannot be agreed on with other processes, since `storage` does not decide among "
            "writers: each process keeps to the limits by itself",
            self._server,
        )
        self.is_alone = True
        self._until = math.inf
        self._allow(self._budget.limits)

    def _ask_a_little(self, error: VVExportsError) -> None:
        if not self._allowed.places:
            _LOG.warning(
                "how many requests %s gets is agreed on with other processes in `storage`, and that cannot be used, so "
                "that this process asks little: %s",
                *(self._server, error),
            )
        self._until = math.inf
        self._allow(_a_little(self._budget.limits))

    def _agree(self, document: SharedShares, use: Use, looking_at: float) -> None:
        there = dict(document.read().by_token)
        mine = there.pop(self._token, None)
        if mine is None and self._share is not None:
            self._lost()
        self._note(there)
        dead = self._dead(there, looking_at)
        living = {token: one for token, one in there.items() if token not in dead}
        me = self._wish(mine, use, looking_at - self._looked_at, living)
        aim = fair({**living, self._token: me})[self._token]
        # What is given back is not used any more when it is said; what is taken is used when it has been said.
        self._allow(self._allowed.least(aim))
        using = Limits.at_rate(max(self._allowed.places, self._budget.under_way()), self._allowed.rate)
        wanted = with_share(living, self._token, me, using)[self._token]
        if mine is None or dead or self._is_to_be_written(mine, wanted, living):
            mine = self._written(document, me, dead, using)
            if mine is None:
                self._lost()
                return
        self._share = mine
        if not living:
            # Whoever comes after this look finds us there, and waits for a whole time to live.
            self._until = max(self._until, looking_at + mine.time_to_live)
        self._has_others = bool(living)
        self._allow(mine.has.least(self._allowed.most(aim)))
        if self._allowed.most(aim) == self._allowed:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = looking_at

    def _written(self, document: SharedShares, me: Share, dead: dict[str, Share], using: Limits) -> Share | None:
        """My entry, written to what is there by now; None where others took it away."""
        writing_at = time.monotonic()
        is_new = self._share is None

        def changed(shares: Shares) -> Shares | None:
            if not is_new and self._token not in shares.by_token:
                return None
            living = {token: one for token, one in shares.by_token.items() if dead.get(token) != one}
            living.pop(self._token, None)
            by_token = with_share(living, self._token, me, using)
            return msgspec.structs.replace(self._budget.with_untold(shares, spent), by_token=by_token)

        spent = self._budget.spent()
        try:
            after = document.update(changed).by_token.get(self._token)
        except OutcomeUnknownError:
            self._may_be_there = True
            raise
        if after is not None:
            self._may_be_there = True
            self._budget.told(spent)
            self._written_at, self._until = writing_at, writing_at + after.time_to_live
            for one in dead.values():
                _LOG.info("took over the share of the requests of %s, which shows no life any more", one)
        return after

    def _lost(self) -> None:
        _LOG.warning("other processes that ask the same server took this one for dead; it comes anew")
        self._begin_anew()

    def _note(self, others: dict[str, Share]) -> None:
        """Since when each of the others is seen as it is now. What they say of a pause is kept to; of what was there
        before this process it is not known how long ago it was said."""
        before, self._seen, now = self._seen, {}, time.monotonic()
        for token, one in others.items():
            if token in before and before[token][0] == one:
                self._seen[token] = before[token]
                continue
            self._seen[token] = one, now
            if token in before and one.pause_left:
                self._budget.pause(one.pause_left)

    def _dead(self, others: dict[str, Share], looking_at: float) -> dict[str, Share]:
        # Of one that was killed when it was alone nobody saw when that was. Said once: clocks may differ by more.
        forgotten = datetime.now(UTC) - _FORGOTTEN_AFTER if self._share is None else datetime.min.replace(tzinfo=UTC)
        return {
            token: one
            for token, one in others.items()
            if looking_at - self._seen[token][1] >= one.time_to_live
            or one.alive_at < forgotten
            or (one.among is not None and one.among == _processes() and not _is_there(one.process_id))
        }

    def _wish(self, mine: Share | None, use: Use, seconds: float, living: dict[str, Share]) -> Share:
        """My entry as it is to be, but for what I may use."""
        self._wants = self._wishes(use, seconds)
        return Share(
            host=socket.gethostname(),
            process_id=os.getpid(),
            among=_processes(),
            alive=0 if mine is None else mine.alive + 1,
            alive_at=datetime.now(UTC),
            time_to_live=max(TIME_TO_LIVE_SECONDS, _SECONDS_OF_EACH * (len(living) + 1)),
            turn=self._turn(mine, living),
            limits=self._budget.limits,
            wants=self._wants,
            has=NOTHING if mine is None else mine.has,
            pause_left=self._budget.pause_left(),
        )

    def _wishes(self, use: Use, seconds: float) -> Limits:
        """As much as can be used: all where more was wanted than there was, else what was used. More at once, less when
        less was enough for some time."""
        most, before = self._budget.limits, self._wants
        if before is None:
            return _a_little(most)
        if not self._allowed.places:
            return before
        used = _ROOM * use.begun / max(seconds, _LOOK_SHORT_SECONDS)
        places = most.places if use.wants_places else math.ceil(_part(most.places, use.most_under_way + 1))
        wants = Limits.at_rate(places, most.rate if use.wants_turns else _part(most.rate, used))
        self._looks_of_less = self._looks_of_less + 1 if wants.least(before) == wants != before else 0
        return wants if self._looks_of_less >= _LOOKS_OF_LESS else wants.most(before)

    def _turn(self, mine: Share | None, living: dict[str, Share]) -> int:
        """My place in the row; at its end after some time with places, where others have none."""
        last = max((one.turn for one in living.values()), default=0)
        if mine is None:
            return last + 1
        now = time.monotonic()
        if not mine.has.places:
            self._seated_at = now
        others_wait = any(not one.has.places for one in living.values())
        if not others_wait or mine.turn > last or now - self._seated_at < _PLACES_FOR_SECONDS:
            return mine.turn
        self._seated_at = now
        return last + 1

    def _is_to_be_written(self, mine: Share, wanted: Share, living: dict[str, Share]) -> bool:
        since = time.monotonic() - self._written_at
        if not living:  # nobody reads it; whoever comes is seen, and told
            return mine.has != wanted.has or since >= _RENEWAL_ALONE_SECONDS
        return is_worth_writing(mine, wanted) or since >= mine.time_to_live / _RENEWALS

    def _allow(self, limits: Limits) -> None:
        self._allowed = limits
        self._budget.allow(limits, self._until)


def _a_little(most: Limits) -> Limits:
    return Limits.at_rate(min(_A_LITTLE.places, most.places), most.rate * _A_LITTLE.rate)


def _part(most: float, enough: float) -> float:
    """A half, a quarter and so on of the whole that is enough: wishes that hardly differ are the same."""
    part = most
    while not math.isinf(most) and part / 2 >= max(enough, most / _PARTS):
        part /= 2
    return part


@cache
def _processes() -> str | None:
    """What tells the processes that this one can see from those of other machines and containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - it leads to no path
    except OSError:
        return None


def _is_there(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
