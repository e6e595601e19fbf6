"""What was told of an automation, and what is still to be sent of it: one document, so that both change together.

Layout: ``automations/<index>/<automation>/notifications/<version>.json.zst``
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.domain.failures import wait_for_a_whole_one
from vv_exports.domain.names import storage_segment
from vv_exports.notifications.message import Message
from vv_exports.notifications.news import News, Told
from vv_exports.printable import counted

MOST_WAITING = 1000
"""Messages of an automation that wait. Of more, the oldest are given up."""

_GIVEN_UP_KEPT = 20
_AT_ONCE = 50
_LOG = logging.getLogger(__name__)


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """How often a message was sent to a target, and why it did not arrive. Who sends it says before when it is tried
    again, so that nobody sends it at the same time, and somebody does where its process dies."""

    count: int = 0
    again_at: datetime | None = None
    problem: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A message, and the targets that it is still to be sent to."""

    message: Message
    to: dict[str, Attempts]


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """A message that did not reach a target, and is not tried again."""

    message: Message
    target: str
    attempts: Attempts


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``told`` is None where nothing was told yet."""

    told: Told | None = None
    waiting: tuple[Waiting, ...] = ()
    given_up: tuple[GivenUp, ...] = ()


class Outbox:
    """Of one automation. Usable by several processes."""

    def __init__(self, storage: Connector, index_id: str, automation: str, give_up_after: timedelta) -> None:
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}/notifications"
        self._content = VersionedDocument(storage, folder, Content, Content)
        self._give_up_after = give_up_after
        self._of = f"{index_id}/{automation}"

    def read(self) -> Content:
        """What it holds."""
        return self._content.read()

    def begin(self, told: Told) -> None:
        """Note where telling begins, where nothing was told yet."""
        self._content.update(lambda one: None if one.told is not None else msgspec.structs.replace(one, told=told))

    def add(self, seen: Told, found: News, wanted: Callable[[Message], Collection[str]]) -> bool:
        """Put news into the outbox, for the targets that want them. False where something else was told since ``seen``:
        then these may be no news."""

        def after(one: Content) -> Content | None:
            if one.told != seen or (found.told == seen and not found.messages):
                return None
            new = [
                Waiting(message=message, to=dict.fromkeys(targets, Attempts()))
                for message in found.messages
                if (targets := sorted(wanted(message)))
            ]
            return self._bounded(msgspec.structs.replace(one, told=found.told, waiting=(*one.waiting, *new)))

        return self._content.update(after).told == found.told

    def claim(self, targets: Collection[str], now: datetime) -> list[tuple[Message, str]]:
        """The messages to send now, each with its target. Until they are tried again nobody else gets them. What was
        for a target that is not configured any more is forgotten."""
        claimed: list[tuple[Message, str]] = []

        def after(one: Content) -> Content | None:
            claimed.clear()
            waiting = []
            for each in one.waiting:
                to = {target: attempts for target, attempts in each.to.items() if target in targets}
                for target, attempts in to.items():
                    if len(claimed) < _AT_ONCE and (attempts.again_at is None or attempts.again_at <= now):
                        claimed.append((each.message, target))
                        count = attempts.count + 1
                        again_at = now + wait_for_a_whole_one(count)
                        to[target] = msgspec.structs.replace(attempts, count=count, again_at=again_at)
                waiting.append(msgspec.structs.replace(each, to=to))
            return _changed(one, waiting=tuple(each for each in waiting if each.to))

        self._content.update(after)
        return claimed

    def settle(self, outcomes: Mapping[tuple[str, str], str | None], untried: Collection[tuple[str, str]]) -> None:
        """What became of claimed messages, by their id and target: None for one that arrived, else why it did not.
        Those that nobody came to were not tried, and wait as long."""
        now_given_up: list[GivenUp] = []

        def after(one: Content) -> Content | None:
            now_given_up.clear()
            waiting = []
            for each in one.waiting:
                to = {}
                for target, attempts in each.to.items():
                    key = (each.message.id, target)
                    if key in untried:
                        to[target] = msgspec.structs.replace(attempts, count=attempts.count - 1)
                    elif key not in outcomes:
                        to[target] = attempts
                    elif (problem := outcomes[key]) is not None:
                        failed = msgspec.structs.replace(attempts, problem=problem)
                        if failed.again_at is not None and failed.again_at - each.message.at > self._give_up_after:
                            now_given_up.append(GivenUp(message=each.message, target=target, attempts=failed))
                        else:
                            to[target] = failed
                waiting.append(msgspec.structs.replace(each, to=to))
            return _changed(
                one,
                waiting=tuple(each for each in waiting if each.to),
                given_up=(*one.given_up, *now_given_up)[-_GIVEN_UP_KEPT:],
            )

        self._content.update(after)
        self._say(now_given_up)

    def _bounded(self, one: Content) -> Content:
        surplus = one.waiting[: max(0, len(one.waiting) - MOST_WAITING)]
        given_up = [
            GivenUp(message=each.message, target=target, attempts=attempts)
            for each in surplus
            for target, attempts in each.to.items()
        ]
        self._say(given_up)
        return msgspec.structs.replace(
            one, waiting=one.waiting[len(surplus) :], given_up=(*one.given_up, *given_up)[-_GIVEN_UP_KEPT:]
        )

    def _say(self, given_up: Sequence[GivenUp]) -> None:
        for one in given_up:
            _LOG.warning(
                "a message of automation %s is given up: %s, of %s, for target %s, tried %d times: %s",
                *(self._of, one.message.data.event, one.message.at.isoformat(timespec="seconds"), one.target),
                *(one.attempts.count, one.attempts.problem or f"{counted(MOST_WAITING, 'message')} are waiting"),
            )


def _changed(one: Content, **changes: object) -> Content | None:
    changed = msgspec.structs.replace(one, **changes)
    return changed if changed != one else None
