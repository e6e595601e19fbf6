"""How much a YAML text holds, found out before anything is built of it: a few lines of aliases can stand for billions
of values."""

from dataclasses import dataclass, field
from typing import Any

import yaml

MOST_BYTES = 2**20
MOST_VALUES = 100_000
MOST_CHARACTERS_OF_A_VALUE = 10_000
MOST_LEVELS = 50


class TooLargeError(Exception):
    """A text that holds more than a configuration may. The message is a problem of the file."""


def check_extent(text: str, loader: Any) -> None:
    """Raises TooLargeError, and yaml's errors where the text is no YAML.

    Mappings, lists, keys and texts are values. What an alias stands for counts each time.
    """
    extent = _Extent()
    for event in yaml.parse(text, Loader=loader):
        extent.add(event)
        if extent.values > MOST_VALUES or extent.characters > MOST_BYTES:
            raise TooLargeError(
                f"holds more than {MOST_VALUES:,} values or {MOST_BYTES:,} characters in line {_line(event)}, where an "
                "alias counts as what it stands for; no more are read"
            )


@dataclass
class _Extent:
    values: int = 0
    characters: int = 0
    _anchored: dict[str | None, tuple[int, int]] = field(default_factory=dict)
    _open: list[tuple[str | None, int, int]] = field(default_factory=list)  # an anchor, and the counts before it

    def add(self, event: Any) -> None:
        match event:
            case yaml.AliasEvent():
                self._add_alias(event)
            case yaml.ScalarEvent():
                self._add_scalar(event)
            case yaml.CollectionStartEvent():
                self._open.append((event.anchor, self.values, self.characters))
                self.values += 1
                if len(self._open) > MOST_LEVELS:
                    raise TooLargeError(f"is nested deeper than {MOST_LEVELS} levels in line {_line(event)}")
            case yaml.CollectionEndEvent():
                anchor, values, characters = self._open.pop()
                self._anchored[anchor] = self.values - values, self.characters - characters

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        if any(anchor == event.anchor for anchor, *_ in self._open):
            raise TooLargeError(
                f"is nested without end: the alias in line {_line(event)} is a part of what it stands for"
            )
        values, characters = self._anchored.get(event.anchor, (1, 0))
        self.values += values
        self.characters += characters

    def _add_scalar(self, event: yaml.ScalarEvent) -> None:
        length = len(event.value)
        if length > MOST_CHARACTERS_OF_A_VALUE:
            raise TooLargeError(
                f"the value in line {_line(event)} has {length:,} characters; no more than "
                f"{MOST_CHARACTERS_OF_A_VALUE:,} are read"
            )
        self.values += 1
        self.characters += length
        self._anchored[event.anchor] = 1, length


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
