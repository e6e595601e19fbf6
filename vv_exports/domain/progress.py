"""Who is told how far long work is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Report = Callable[[str, int], None]
"""Called with (what, rows) after each piece of long work."""

Step = Literal["reading", "encoding", "uploading", "verifying"]
"""Reading is of segments, encoding of rows, the others are of bytes."""

Work = Callable[[Step, int, int], None]
"""Called with (step, done, more): so much was done of a step, and so much more of it is to be done than was known. Both
add up over a command; what is to be done may be an estimate. Called from several threads."""


def silent(what: str, rows: int) -> None:
    """No progress wanted."""
    del what, rows


def unseen(step: Step, done: int, more: int) -> None:
    """Nobody looks."""
    del step, done, more


@dataclass(frozen=True)
class Progress:
    """Who is told how far the work is: (run id, segments) of a snapshot, (run id and table, rows) of a file, and of
    each step how much there is to be done and was done."""

    snapshot: Report = silent
    file: Report = silent
    work: Work = unseen
