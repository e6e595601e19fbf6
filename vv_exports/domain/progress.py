"""Who is told how far long work is."""

from collections.abc import Callable
from dataclasses import dataclass

Report = Callable[[str, int], None]
"""Called with (what, rows) after each piece of long work."""


def silent(what: str, rows: int) -> None:
    """No progress wanted."""
    del what, rows


@dataclass(frozen=True)
class Progress:
    """Who is told how far the work is: (run id, segments) of a snapshot, (run id and table, rows) of a file."""

    snapshot: Report = silent
    file: Report = silent
