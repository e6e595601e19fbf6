"""Sending messages to targets, all within a time: a thread for each target, and nobody waits longer for any of them."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vv_exports.errors import NotificationError, VVExportsError
from vv_exports.notifications.base import Target
from vv_exports.notifications.message import Message

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ToSend:
    """A message for a target, and the automation whose it is. Each is equal to itself alone."""

    automation: str
    message: Message
    target: str


@dataclass(frozen=True)
class Sent:
    """What became of messages: why one did not arrive, None for one that did. Those in neither were not tried."""

    outcomes: Mapping[ToSend, str | None]
    untried: Sequence[ToSend]


def send(messages: Sequence[ToSend], targets: Mapping[str, Target], seconds: float) -> Sent:
    """Send messages, in their order to each target. A target that is not reached is not tried with the next ones; one
    that refuses a message is.

    What is not over after ``seconds`` did not arrive, or nobody knows: its thread is left alone.
    """
    ends = time.monotonic() + seconds
    courses = [
        _Course([one for one in messages if one.target == name], target, ends)
        for name, target in targets.items()
        if any(one.target == name for one in messages)
    ]
    for course in courses:
        threading.Thread(target=course.run, name="notifications", daemon=True).start()
    outcomes: dict[ToSend, str | None] = {}
    for course in courses:
        course.is_over.wait(max(0.0, ends - time.monotonic()))
        outcomes |= course.outcomes()
    return Sent(outcomes, [one for one in messages if one not in outcomes])


class _Course:
    """The messages of one target."""

    def __init__(self, messages: Sequence[ToSend], target: Target, ends: float) -> None:
        self._messages = messages
        self._target = target
        self._ends = ends
        self._outcomes: dict[ToSend, str | None] = {}
        self._lock = threading.Lock()
        self.is_over = threading.Event()

    def outcomes(self) -> dict[ToSend, str | None]:
        """What became of those that were tried so far."""
        with self._lock:
            return dict(self._outcomes)

    def run(self) -> None:
        """Send them."""
        for one in self._messages:
            if time.monotonic() >= self._ends:
                break
            self._note(one, "there was no answer in time")
            problem, goes_on = self._tried(one)
            self._note(one, problem)
            if not goes_on:
                break
        self.is_over.set()

    def _note(self, one: ToSend, problem: str | None) -> None:
        with self._lock:
            self._outcomes[one] = problem

    def _tried(self, one: ToSend) -> tuple[str | None, bool]:
        """Why it did not arrive, and whether the next one is tried."""
        try:
            self._target.send(one.message)
        except NotificationError as error:
            return str(error), error.is_refused
        except VVExportsError as error:
            return str(error), False
        except Exception as error:  # noqa: BLE001 - a service of Apprise may raise anything, and its text may be secret
            _LOG.warning("sending to target %s raised an unexpected %s", one.target, type(error).__name__)
            return f"unexpected {type(error).__name__}", False
        return None, True
