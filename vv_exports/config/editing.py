"""Changes to the text of a configuration file. Each replaces, adds or takes out one value, and leaves every other byte
as it is: comments, order, quotes, line ends.

Not made with a library that writes YAML anew, since that would lay out again what somebody laid out. A change is read
back by the reader of the configuration: it has come to what was asked for and nothing else, or it is refused.
"""

import copy
import json
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import yaml

from vv_exports.config.document import Document
from vv_exports.config.messages import dotted
from vv_exports.config.yaml_places import Place, places
from vv_exports.errors import ConfigurationError

REMOVED: Final = object()
"""The value of what is to be taken out."""
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_BLANK_LINE = re.compile("(?:\r\n|[\n\r])[ \t]*(?:\r\n|[\n\r])")
_USUAL_STEP = 2
_BLOCKS = {"connectors": 2, "indexes": 4}
"""How deep the entries of the file stand below each other; what is deeper, as the options of a format, is one line."""


@dataclass(frozen=True)
class Change:
    """What is to be at a place of the file. ``path`` are keys, from the top; ``value`` are mappings, lists, text,
    numbers, booleans and None, or ``REMOVED``. An empty mapping replaces nothing: it is there to be filled."""

    path: tuple[str, ...]
    value: Any


def edited(text: str, changes: Iterable[Change], where: str) -> str:
    """The text with the changes, one after the other. What is as it should be stays as it is written.

    Raises ConfigurationError where the text is no mapping, or is written in a way in which a change would be more than
    was asked for.
    """
    for change in changes:
        text = _changed(text, change, where)
    return text


def _changed(text: str, change: Change, where: str) -> str:
    before = Document().read(text, where)
    if change.value == {} and _is_mapping(before, change.path):
        return text
    wanted = _applied(before, change.path, _as_read(change))
    if wanted == before:
        return text
    after = None
    try:
        root = places(text)
        if root is not None:
            after = _Text(text, root, _applied(before, change.path, change.value)).changed(change)
        if after is not None and _sparse(Document().read(after, where)) == _sparse(wanted):
            return after
    except (yaml.YAMLError, ConfigurationError):
        pass  # of what was made, since what was there has been read; it is refused below
    problem = (
        f"{dotted(change.path)}: is written in a way that cannot be changed without changing something else, such as "
        "an anchor that others use, or a merge key; change it by hand"
    )
    raise ConfigurationError(where, [problem])


def _as_read(change: Change) -> Any:
    """A value as the reader of the file gives it: numbers are text, in most places."""
    return change.value if change.value is REMOVED else Document().read_at(_flow(change.value), change.path)


def _applied(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    applied = here = copy.deepcopy(data)
    for key in path[:-1]:
        if value is REMOVED and not isinstance(here.get(key), dict):
            return data
        if here.get(key) is None:
            here[key] = {}
        here = here[key]
        if not isinstance(here, dict):
            raise ConfigurationError("the change", [f"{dotted(path)}: {key!r} is no mapping; change it by hand"])
    if value is REMOVED:
        here.pop(path[-1], None)
    else:
        here[path[-1]] = value
    return applied


def _is_mapping(data: Any, path: Iterable[str]) -> bool:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return isinstance(data, dict)


def _sparse(value: Any) -> Any:
    """A value where a mapping without entries is none: what is left of one is its key."""
    if isinstance(value, dict):
        return {key: _sparse(one) for key, one in value.items()} or None
    return value


def _value_at(data: Any, path: Iterable[str]) -> Any:
    for key in path:
        data = data[key]
    return data


def _flow(value: Any) -> str:
    """A value in one line, as it may stand between braces and elsewhere."""
    dumped = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return dumped.strip()[1:-1]


class _Text:
    """A text, where its values stand, and what it is to hold."""

    def __init__(self, text: str, root: Place, wanted: dict[str, Any]) -> None:
        self._text = text
        self._root = root
        self._wanted = wanted
        ends = list(_LINE_END.finditer(text))
        self._newline = ends[0][0] if ends else "\n"
        self._line_starts = [0, *(found.end() for found in ends)]
        self._is_json = root.is_flow and bool(root.entries) and text[root.entries[0][0].start] == '"'
        self._step = _step(root) or _USUAL_STEP

    def changed(self, change: Change) -> str | None:
        """The text with one change; None where there is no way to it."""
        return self._changed(self._root, change, 1)

    def _changed(self, mapping: Place, change: Change, depth: int) -> str | None:
        here = change.path[:depth]
        is_removed, is_last = change.value is REMOVED, depth == len(change.path)
        entry = mapping.entry(here[-1])
        if is_removed and (entry is None or is_last):
            return None if entry is None else self._without(mapping, here[-1])
        value = _value_at(self._wanted, here)
        if mapping.kind == "alias":
            return self._merged(mapping, here[-1], value)
        if mapping.kind != "mapping":
            return None
        if entry is None:
            return self._added(mapping, here, value)
        if is_last:
            return self._replaced(entry, value)
        return (
            self._filled(mapping, entry, here, value)
            if self._is_empty(entry[1])
            else self._changed(entry[1], change, depth + 1)
        )

    def _merged(self, alias: Place, key: str, value: Any) -> str:
        """What an alias stands for, with one entry of its own."""
        return self._spliced(alias.start, alias.end, f"{{<<: *{alias.name}, {_flow(key)}: {_flow(value)}}}")

    def _added(self, mapping: Place, path: tuple[str, ...], value: Any) -> str:
        if mapping.is_flow:
            entry = f"{self._flow(path[-1])}: {self._flow(value)}"
            if not mapping.entries:
                return self._spliced(mapping.end - 1, mapping.end - 1, entry)
            last = mapping.entries[-1][1].end
            return self._spliced(last, last, f", {entry}")
        blank = isinstance(value, dict) and len(mapping.entries) > 1 and self._are_apart(mapping)
        lines = [*([""] if blank else []), *self._block(path, value, mapping.column)]
        return self._with_lines(self._behind(mapping.end, mapping.column), lines)

    def _filled(self, parent: Place, entry: tuple[Place, Place], path: tuple[str, ...], value: dict[str, Any]) -> str:
        """The first entry of a mapping that has none."""
        _, empty = entry
        if parent.is_flow or empty.start < self._line_start(empty.end):
            return self._spliced(empty.start, empty.end, f"{_lead(empty)}{self._flow(value)}")
        start = len(self._text[: empty.start].rstrip(" \t"))
        cleared = _Text(self._spliced(start, empty.end, ""), self._root, self._wanted)
        inner = (self._block((*path, key), one, parent.column + self._step) for key, one in value.items())
        return cleared._with_lines(cleared._behind(start, parent.column + 1), [*chain.from_iterable(inner)])

    def _replaced(self, entry: tuple[Place, Place], value: Any) -> str | None:
        key, old = entry
        new = self._flow(value)
        if old.is_block_scalar:
            return self._spliced(old.start, old.end, new + self._newline)
        if old.kind in {"scalar", "alias"} or old.is_flow:
            return self._spliced(old.start, old.end, f"{_lead(old)}{new}")
        colon = re.compile(r"[ \t]*:").match(self._text, key.end)
        if colon is None:
            return None
        # The value's lines go; a comment in the line of the key stays.
        first = self._line_start(old.start)
        if first <= key.end:
            return None
        cut = self._text[:first] + self._text[self._over(old.end) :]
        return cut[: colon.end()] + f" {new}" + cut[colon.end() :]

    def _without(self, mapping: Place, key: str) -> str | None:
        number = mapping.number(key)
        place, value = mapping.entries[number]
        if mapping.is_flow:
            if number + 1 < len(mapping.entries):
                return self._spliced(place.start, mapping.entries[number + 1][0].start, "")
            start = mapping.entries[number - 1][1].end if number else place.start
            return self._spliced(start, value.end, "")
        start = self._line_start(place.start)
        if self._text[start : place.start].strip(" "):
            return None  # something else stands before it in its line
        # What is said of it right above goes with it, and what is said below it in its own columns.
        while (line := self._line_before(start)).lstrip(" ").startswith("#") and line.index("#") == mapping.column:
            start -= len(line)
        end = self._behind(value.end, mapping.column + 1)
        text, rest = self._text[:start], self._text[end:]
        if (not rest or _LINE_END.match(rest)) and (
            found := re.search("((?:\r\n|[\n\r]))[ \t]*(?:\r\n|[\n\r])$", text)
        ):
            text = text[: found.end(1)]
        return text + rest

    def _block(self, path: tuple[str, ...], value: Any, column: int) -> list[str]:
        begin = f"{' ' * column}{_flow(path[-1])}:"
        if not isinstance(value, dict) or not value or len(path) > _BLOCKS.get(path[0], 1):
            return [f"{begin} {_flow(value)}"]
        inner = (self._block((*path, key), one, column + self._step) for key, one in value.items())
        return [begin, *chain.from_iterable(inner)]

    def _behind(self, end: int, column: int) -> int:
        """Where what ends in a line is over: behind the comments that stand in its columns."""
        look = at = self._over(end)
        while look < len(self._text):
            next_line = self._line_end(look)
            line = self._text[look:next_line]
            said = line.lstrip(" \t")
            if said.startswith("#") and len(line) - len(said) >= column:
                at = next_line
            elif said.strip():
                break
            look = next_line
        return at

    def _over(self, end: int) -> int:
        """The beginning of the next line. What ends with its line end, as text in block style, is there already."""
        return end if end and _LINE_END.match(self._text, end - 1) else self._line_end(end)

    def _with_lines(self, at: int, lines: list[str]) -> str:
        before = self._newline if at and not _LINE_END.match(self._text, at - 1) else ""
        return self._spliced(at, at, before + "".join(line + self._newline for line in lines))

    def _spliced(self, start: int, end: int, new: str) -> str:
        return self._text[:start] + new + self._text[end:]

    def _is_empty(self, place: Place) -> bool:
        if place.kind == "mapping":
            return place.is_flow and not place.entries and not self._text[place.start + 1 : place.end - 1].strip()
        return place.is_null

    def _are_apart(self, mapping: Place) -> bool:
        (_, before), (last, _) = mapping.entries[-2:]
        return _BLANK_LINE.search(self._text, before.end, last.start) is not None

    def _line_start(self, at: int) -> int:
        return self._line_starts[bisect_right(self._line_starts, at) - 1]

    def _line_end(self, at: int) -> int:
        number = bisect_right(self._line_starts, at)
        return self._line_starts[number] if number < len(self._line_starts) else len(self._text)

    def _line_before(self, start: int) -> str:
        return self._text[self._line_start(start - 1) : start] if start else ""

    def _flow(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False) if self._is_json else _flow(value)


def _lead(place: Place) -> str:
    """The blank before a value where there was none."""
    return " " if place.start == place.end else ""


def _step(place: Place) -> int | None:
    """By how much a file indents."""
    for _, value in place.entries:
        if value.kind == "mapping" and not value.is_flow and value.entries and not place.is_flow:
            return value.column - place.column
    return None
