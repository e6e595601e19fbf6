"""How the processes of a deployment share what may be asked of a server: who has how much, and who may take what.

One document says it for all of them. Each process changes its own entry alone, and what all entries hold together is
never more than the whole: whoever wants more takes what is free, and whoever has more than its share gives it back. The
rules are here; no clock, no storage, no threads.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from vv_exports.sources.request_budget import Limits

_ALIKE = 0.02
"""Of the whole. Rates that differ by less are not worth a change of the document."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One process that asks the server."""

    host: str
    process_id: int
    among: str | None
    """Which processes ``process_id`` is one of: those of one start of one machine, or container. None: not known."""
    alive: int
    """Changes with every sign of life."""
    alive_at: datetime
    """By its own clock."""
    time_to_live: float
    """Seconds without a sign of life after which it uses nothing any more, and others may take what it has."""
    turn: int
    """Where there are fewer places than processes, those with the lowest have one."""
    limits: Limits
    """What is configured for all processes together, as far as this one knows."""
    wants: Limits
    has: Limits
    """What it may use now."""
    pause_left: float
    """Seconds for which the server let nobody ask it, when this was written."""

    def __str__(self) -> str:
        return f"process {self.process_id} on {self.host}"


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that ask the server now, by a token of each; and what all that there ever were have asked, as far
    as they said it: ``requests`` by index (``""``: about none), and how often the server said that it had too many."""

    by_token: dict[str, Share] = {}
    requests: dict[str, int] = {}
    pauses: int = 0

    def with_spent(self, requests: Mapping[str, int], pauses: int) -> "Shares":
        """With so much more that was asked."""
        summed = {index: self.requests.get(index, 0) + more for index, more in requests.items()}
        return msgspec.structs.replace(self, requests=self.requests | summed, pauses=self.pauses + pauses)


class SharedShares(Protocol):
    """The document, as it is kept where all processes of the deployment reach it."""

    def read(self) -> Shares:
        """What it says now."""

    def update(self, change: Callable[[Shares], Shares | None]) -> Shares:
        """Replace it by what ``change`` makes of it, which may be called again where another process was faster; None:
        leave it. Returns what is there then. No change is lost."""


@dataclass(frozen=True)
class SharesPlace:
    """Where the document is: ``address`` tells the place from any other. ``open`` gives it, or None where processes
    that meet there would lose each other's changes; it may ask the place."""

    address: str
    open: Callable[[], SharedShares | None]


def whole(shares: Collection[Share]) -> Limits:
    """What all of them may use together: the least that one of them knows of, where a new configuration is not
    everywhere yet."""
    return Limits.at_rate(min(one.limits.places for one in shares), min(one.limits.rate for one in shares))


def fair(shares: Mapping[str, Share]) -> dict[str, Limits]:
    """What each should have: what it wants, as far as the wishes of the others allow; what nobody wants is spread."""
    most = whole(shares.values())
    tokens = sorted(shares, key=lambda token: (shares[token].turn, token))
    places = _places([shares[token].wants.places for token in tokens], most.places)
    seated = [token for token, some in zip(tokens, places, strict=True) if some]
    rates = dict(zip(seated, _rates([shares[token].wants.rate for token in seated], most.rate), strict=True))
    return {token: Limits.at_rate(some, rates.get(token, 0.0)) for token, some in zip(tokens, places, strict=True)}


def with_share(others: Mapping[str, Share], token: str, me: Share, using: Limits) -> dict[str, Share]:
    """All shares, mine with as much as it may have. What I am ``using`` I hold on to: a share is lowered when it is
    used no more, and raised before it is used."""
    everyone = {**others, token: me}
    aim, most = fair(everyone)[token], whole(everyone.values())
    free_places = most.places - sum(one.has.places for one in others.values())
    free_rate = most.rate if math.isinf(most.rate) else most.rate - sum(one.has.rate for one in others.values())
    free = Limits.at_rate(max(0, free_places), max(0.0, free_rate))
    return {**everyone, token: msgspec.structs.replace(me, has=using.most(aim.least(free)))}


def is_worth_writing(before: Share, after: Share) -> bool:
    """Whether a share changed so that others should know."""
    same = (before.turn, before.limits, before.wants, before.has.places)
    if same != (after.turn, after.limits, after.wants, after.has.places) or after.pause_left > before.pause_left:
        return True
    return before.has != after.has and abs(before.has.rate - after.has.rate) > _ALIKE * after.limits.rate


def _places(wants: Sequence[int], most: int) -> list[int]:
    """One after the other is given one, then those who want more another one, and so on; then all the others."""
    given = [0] * len(wants)
    for wished in (wants, [most] * len(wants)):
        while hungry := [i for i, wish in enumerate(wished) if given[i] < wish][:most]:
            for i in hungry:
                given[i] += 1
            most -= len(hungry)
    return given


def _rates(wants: Sequence[float], most: float) -> list[float]:
    """Who wants less than an equal part has it; the others share the rest. What is left over is spread."""
    if math.isinf(most):
        return [most] * len(wants)
    given = [0.0] * len(wants)
    left, hungry = most, sorted(range(len(wants)), key=wants.__getitem__)
    while hungry:
        given[hungry[0]] = min(wants[hungry[0]], left / len(hungry))
        left -= given[hungry.pop(0)]
    return [some + max(0.0, left) / len(wants) for some in given]
