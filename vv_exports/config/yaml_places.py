"""Where in a YAML text its values stand, so that one of them can be changed and every other byte stays."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml


@dataclass
class Place:
    """A value and where it stands. ``start`` is that of its anchor, where it has one; ``end`` is the end of what it
    holds, without comments and blank lines behind. ``column`` is the one that the keys of a mapping stand in. ``name``
    is the text of a scalar, and what an alias names."""

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    start: int
    end: int
    column: int = 0
    name: str = ""
    is_flow: bool = False
    is_block_scalar: bool = False
    is_null: bool = False
    entries: list[tuple["Place", "Place"]] = field(default_factory=list)

    def entry(self, key: str) -> tuple["Place", "Place"] | None:
        """The entry of a mapping that stands in it itself, and does not come from a merge key."""
        return next((one for one in self.entries if one[0].kind == "scalar" and one[0].name == key), None)

    def number(self, key: str) -> int:
        """Which of the entries this is."""
        return next(number for number, (place, _) in enumerate(self.entries) if place.name == key)


def places(text: str) -> Place | None:
    """The places of a document; None where there is none. Raises yaml's errors where the text is no YAML."""
    # Not the parser in C: that one counts the characters of its own copy of the text.
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            return _place(next(events), events)
    return None


def _place(event: Any, events: Iterator[Any]) -> Place:
    start, end = event.start_mark.index, event.end_mark.index
    match event:
        case yaml.ScalarEvent():
            is_null = event.style is None and event.tag is None and event.value in {"", "~", "null", "Null", "NULL"}
            return Place(
                "scalar", start, end, name=event.value, is_null=is_null, is_block_scalar=event.style in {"|", ">"}
            )
        case yaml.MappingStartEvent():
            place = Place("mapping", start, end, is_flow=bool(event.flow_style))
            for key in events:
                if isinstance(key, yaml.MappingEndEvent):
                    return _closed(place, key)
                if not place.entries:
                    place.column = key.start_mark.column
                place.entries.append((_place(key, events), _place(next(events), events)))
        case yaml.SequenceStartEvent():
            place = Place("sequence", start, end, is_flow=bool(event.flow_style))
            for item in events:
                if isinstance(item, yaml.SequenceEndEvent):
                    return _closed(place, item)
                place.end = _place(item, events).end
        case yaml.AliasEvent():
            return Place("alias", start, end, name=str(event.anchor))
    raise AssertionError(f"no event of a value: {event}")


def _closed(place: Place, end: Any) -> Place:
    """A value in braces or brackets ends with them; another one with what it holds: the parser says that it ends where
    the next one begins, behind comments."""
    if place.is_flow:
        place.end = end.end_mark.index
    elif place.entries:
        place.end = place.entries[-1][1].end
    return place
