"""Texts by which people know something that is erased, found in other texts."""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from urllib.parse import quote

ERASED = "[erased]"
SHORTEST = 4


class Markers:
    """``ids`` are found also as a part of longer ids (``vid_1`` in ``vid_1_segment_2``, not in ``vid_10``), ``names``
    as words of their own. A text of fewer than four characters is in ``too_short``: it is in too much that means
    something else."""

    def __init__(self, ids: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        asked = set(ids)
        named = set(names) - asked
        self.ids = sorted(one for one in asked if len(one) >= SHORTEST)
        self.names = sorted(one for one in named if len(one) >= SHORTEST)
        self.too_short = sorted(one for one in asked | named if len(one) < SHORTEST)

    def without(self, text: str) -> str:
        """A text without them, however they are written in it."""
        return self.without_ids(text) if self._names is None else self._names.sub(ERASED, self.without_ids(text))

    def without_ids(self, text: str) -> str:
        """A text without the ids."""
        return text if self._ids is None else self._ids.sub(ERASED, text)

    @cached_property
    def forms(self) -> list[str]:
        """All that is looked for: each as it is, as in JSON, and as in an address."""
        return sorted({form for one in (*self.ids, *self.names) for form in _forms(one)})

    @cached_property
    def _ids(self) -> re.Pattern[str] | None:
        return _pattern(self.ids, "[0-9A-Za-z]")

    @cached_property
    def _names(self) -> re.Pattern[str] | None:
        return _pattern(self.names, r"[\w-]")


def _forms(text: str) -> set[str]:
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        quote(text, errors="surrogatepass"),
        quote(text, safe="", errors="surrogatepass"),
    }


def _pattern(texts: Iterable[str], inside: str) -> re.Pattern[str] | None:
    forms = sorted({form for one in texts for form in _forms(one)}, key=len, reverse=True)
    return re.compile(rf"(?<!{inside})(?:{'|'.join(map(re.escape, forms))})(?!{inside})") if forms else None
