"""What failed, how often, and when it is tried again. Pure: the clock is an argument."""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from vv_exports.errors import OutcomeUnknownError, QuotaError, TransientError
from vv_exports.printable import printable

_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=6)
_LONGEST_WAIT_FOR_ALL = timedelta(minutes=15)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that keeps failing. ``kind`` is the error's class; ``attempts`` count those of one kind in a row."""

    kind: str
    message: str
    permanent: bool
    attempts: int
    first_at: datetime
    last_at: datetime

    def rewritten(self, text: Callable[[str], str]) -> "Problem":
        """The same, with the message that ``text`` makes of it."""
        return msgspec.structs.replace(self, message=text(self.message))

    @property
    def again_at(self) -> datetime:
        """When it is tried again: after a minute, then twice as long each time, at most six hours."""
        return self.last_at + wait_after(self.attempts)


def problem_of(error: BaseException, before: Problem | None, now: datetime) -> Problem:
    """The problem that an error is, after what failed before."""
    same = before is not None and before.kind == type(error).__name__
    return Problem(
        kind=type(error).__name__,
        message=printable(str(error)) or type(error).__name__,
        permanent=not isinstance(error, TransientError | OutcomeUnknownError | QuotaError),
        attempts=before.attempts + 1 if same and before is not None else 1,
        first_at=before.first_at if same and before is not None else now,
        last_at=now,
    )


def wait_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts in a row."""
    doublings = min(attempts - 1, 20)
    return min(_LONGEST_WAIT, _FIRST_WAIT * (1 << doublings))


def wait_for_a_whole_one(attempts: int) -> timedelta:
    """The same where everything failed, and not one run: an outage ends, and then nobody should wait for hours."""
    return min(_LONGEST_WAIT_FOR_ALL, wait_after(attempts))
