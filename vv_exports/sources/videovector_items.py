"""The media items of a run that is read, between those who fetch them and the one who wants them in order."""

import threading
from typing import NamedTuple

from vv_exports.sources.videovector_answers import Asked

_MOST_HELD_BYTES = 2**23
"""Bytes of results that are kept to be handed on, for each table; others are read from the stage."""


class Item(NamedTuple):
    """All results of one table about one media item. ``order`` are their places, where they did not arrive in order.
    ``lines`` are the results in order, None where they are on the stage alone."""

    asked: list[Asked]
    order: list[int] | None
    lines: list[bytes] | None
    size: int


class Items:
    """Those of one table, by the id of the medium. Of one that nobody has fetched nothing is remembered: a run may have
    a million."""

    def __init__(self) -> None:
        self._complete: dict[str, Item] = {}
        self._error: BaseException | None = None
        self._held = 0
        self._wanted: set[str] = set()
        self._changed = threading.Condition()

    def put(self, video_id: str, item: Item) -> None:
        """A medium is complete. Its results are kept as long as there is room for them."""
        with self._changed:
            keeps = self._held + item.size <= _MOST_HELD_BYTES
            self._held += item.size if keeps else 0
            self._complete[video_id] = item if keeps else item._replace(lines=None)
            if video_id in self._wanted:  # to wake a thread for each of the others takes long
                self._changed.notify_all()

    def take(self, video_id: str) -> Item:
        """Wait for a medium, and have its results, which are on the stage alone from then on. Raises why it will never
        be complete."""
        with self._changed:
            while video_id not in self._complete:
                if self._error is not None:
                    raise self._error
                self._wanted.add(video_id)
                self._changed.wait()
            self._wanted.discard(video_id)
            item = self._complete[video_id]
            if item.lines is not None:
                self._complete[video_id] = item._replace(lines=None)
                self._held -= item.size
            return item

    def fail(self, error: BaseException) -> None:
        """Those that are not complete never will be."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
