"""A connector whose storage fails, delays, loses a reply or takes its process with it, at the call that is named."""

import itertools
import threading
from collections.abc import Callable
from io import IOBase
from typing import Any

from vv_exports.connectors.base import Connector
from vv_exports.errors import OutcomeUnknownError, TransientError

CALLS = frozenset({"put", "create", "read", "open", "files", "delete", "sweep", "unfinished", "discard"})

Fault = Callable[[Callable[[], Any]], Any]
"""Gets what the call would do, and does it or not."""


class Crash(BaseException):
    """The process dies here: nothing catches this."""


class FaultyConnector:
    """Another connector, with a fault at one or more of its calls, counted from 0 over all threads."""

    def __init__(self, connector: Connector, faults: dict[int, Fault], *, only: frozenset[str] = CALLS) -> None:
        self._connector = connector
        self._faults = faults
        self._only = only
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self.log: list[str] = []

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return len(self.log)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._connector, name)
        if name not in self._only:
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            with self._guard:
                number = next(self._numbers)
                self.log.append(name)
            fault = self._faults.get(number)
            perform = lambda: attribute(*arguments, **options)  # noqa: E731
            return perform() if fault is None else fault(perform)

        return call


def crashes(perform: Callable[[], Any]) -> None:
    """The process dies before the call."""
    raise Crash


def crashes_after(perform: Callable[[], Any]) -> None:
    """The process dies after the call, before it hears of it."""
    _unheard(perform())
    raise Crash


def fails(perform: Callable[[], Any]) -> None:
    """The call does nothing, and says so."""
    raise TransientError("conn: the store is busy")


def loses_the_reply(perform: Callable[[], Any]) -> None:
    """The call does what it should, and nobody hears of it."""
    _unheard(perform())
    raise OutcomeUnknownError("conn: no answer")


def _unheard(outcome: Any) -> None:
    """A file that was opened for nobody is nobody's to close."""
    if isinstance(outcome, IOBase):
        outcome.close()


def loses_the_request(perform: Callable[[], Any]) -> None:
    """The call does nothing, and nobody knows."""
    raise OutcomeUnknownError("conn: no answer")


def delayed(meanwhile: Callable[[], Any]) -> Fault:
    """Something else happens before the call."""

    def fault(perform: Callable[[], Any]) -> Any:
        meanwhile()
        return perform()

    return fault
