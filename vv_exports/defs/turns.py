"""Which of the discovery sensors may list its index now: a few at a time, and one after another.

After a start all sensors are due in the same moment, and one that looked then looks again in the same moment as the
others. What they list is one server with one budget of requests, and what waits for it holds a thread of the daemon,
which the delivery sensors need too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

AT_ONCE = 2
"""Half of the threads that ``dagster.yaml`` gives the sensors."""
PATIENCE_SECONDS = 10.0
"""A tick that takes 60 s fails."""
_LONGEST_WAIT_SECONDS = 0.1
_SHARE_OF_THE_INTERVAL = 0.5


class Turns:
    """The turns of one code server's discovery sensors."""

    def __init__(
        self,
        seconds_between: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_between = seconds_between
        self._clock = clock
        self._sleep = sleep
        self._places = BoundedSemaphore(AT_ONCE)
        self._lock = Lock()
        self._next = clock()

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Around a listing: waits until it may begin. False where those before it take too long."""
        if not self._places.acquire(timeout=PATIENCE_SECONDS):
            yield False
            return
        try:
            with self._lock:
                begins = max(self._clock(), self._next)
                self._next = begins + self._seconds_between
            self._sleep(max(0.0, begins - self._clock()))
            yield True
        finally:
            self._places.release()


def seconds_between(intervals: Sequence[int]) -> float:
    """How far apart indexes begin that are listed at these intervals: ten of them a second, more only where that would
    not let each have its turn in half of its interval."""
    share = _SHARE_OF_THE_INTERVAL * min(intervals, default=0) / max(1, len(intervals))
    return min(_LONGEST_WAIT_SECONDS, share)
