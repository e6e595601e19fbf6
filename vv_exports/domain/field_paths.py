"""Where values stand in every document, in the platform's form: ``video_name``, ``metadata.people[].name``.

``[]`` stands for all items of a list. A name that holds ``.``, ``[``, ``]`` or ``"`` is quoted as a JSON string:
``metadata."a.b".c``. It knows no schemas and no documents.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum


class Items(Enum):
    """The step to all items of a list."""

    ALL = "[]"


ITEMS = Items.ALL

Step = str | Items

_JSON = json.JSONDecoder()
_BARE = re.compile(r'[^.\[\]"]+')
_NEEDS_QUOTES = re.compile(r'[.\[\]"\x00-\x1f\x7f]|\A\s|\s\Z|\A\Z')


@dataclass(frozen=True)
class FieldPath:
    """A name, and then names and ``ITEMS``."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        first, *others = self.steps
        return quoted_name(str(first)) + "".join(
            step.value if isinstance(step, Items) else "." + quoted_name(step) for step in others
        )

    def contains(self, other: "FieldPath") -> bool:
        """Whether it names the same place, or one that the other's is in."""
        return other.steps[: len(self.steps)] == self.steps


def quoted_name(name: str) -> str:
    """A name as it stands in a path. Two names never look the same."""
    if not _NEEDS_QUOTES.search(name):
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return json.dumps(name)
    return json.dumps(name, ensure_ascii=False)


def parse_path(text: str) -> FieldPath:
    """The place that a path names. Raises ValueError with a sentence for people."""
    if not text.strip():
        raise ValueError("a path is empty: it names a field, as in `metadata.people[].name`")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        if text[position] == "[":
            position = _end_of_items(text, position, is_first=not steps)
            steps.append(ITEMS)
            continue
        if steps:
            if text[position] != ".":
                raise ValueError(f"{text!r} needs a dot or `[]` at character {position + 1}, or the name in quotes")
            position += 1
        name, position = _name(text, position)
        steps.append(name)
    return FieldPath(tuple(steps))


def _end_of_items(text: str, position: int, *, is_first: bool) -> int:
    if is_first:
        raise ValueError(f"{text!r} begins with a bracket: a path begins with the name of a field")
    if text.startswith("[]", position):
        return position + 2
    inside, closing, _ = text[position + 1 :].partition("]")
    if not closing:
        raise ValueError(f"{text!r} has a bracket that is not closed: `[]` means all items of a list")
    raise ValueError(
        f"{text!r} has `[{inside}]`: write `[]`, which means all items of a list. There are no paths to single items; "
        'a name with a bracket in it is put in quotes, as in `metadata."a[0]"`'
    )


def _name(text: str, position: int) -> tuple[str, int]:
    if text.startswith('"', position):
        try:
            name, end = _JSON.raw_decode(text, position)
        except ValueError:
            raise ValueError(
                f"{text!r} has a name in quotes at character {position + 1} that is no JSON string: it has to end with "
                "a quote, and a quote or backslash in it has a backslash before it"
            ) from None
        return str(name), end
    found = _BARE.match(text, position)
    if found is None:
        if text.startswith("]", position):
            raise ValueError(f"{text!r} has a closing bracket without an opening one")
        where = "begins with" if position == 0 else "ends with" if position >= len(text) else "has"
        what = "a dot" if position == 0 or position >= len(text) else "two dots, or a dot and a bracket, in a row"
        raise ValueError(f'{text!r} {where} {what}: a name belongs there (`""` is the empty name)')
    return found.group(), found.end()
