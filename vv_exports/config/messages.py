"""How messages about a configuration speak of places, values and names."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from vv_exports.errors import NotFoundError

Location = tuple[int | str, ...]
_Entry = TypeVar("_Entry")
_FEW = 100


def automation_at(index_id: str, name: str) -> Location:
    """The place of an automation."""
    return ("indexes", index_id, "automations", name)


def dotted(location: Location) -> str:
    """A place in the file; a key that would blur the path is in quotes."""
    return ".".join(_part(part) for part in location) or "the file"


def _part(part: int | str) -> str:
    return str(part) if re.fullmatch(r"[\w-]{1,512}", str(part)) else shown(part)


def shown(value: Any) -> str:
    """A value as it stands in a message: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"  # noqa: PLR2004


def did_you_mean(wrong: Any, known: Collection[str], all_are: str = "Allowed") -> str:
    """What to use instead: the nearest name, and all there are up to twenty. Begins with a blank.

    Of very many names only their number is told: a file with as many mistakes would take minutes to explain.
    """
    if len(known) > _FEW:
        return f" {all_are}: {len(known):,} others"
    close = difflib.get_close_matches(str(wrong), known, n=1)
    names = sorted(known)[:20]
    more = f" and {len(known) - len(names)} more" if len(known) > len(names) else ""
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} {all_are}: {', '.join(names) or 'none'}{more}"


def entry_named(noun: str, wanted: str, known: Mapping[str, _Entry], where: str) -> _Entry:
    """The entry of this name. Raises NotFoundError."""
    if wanted in known:
        return known[wanted]
    raise NotFoundError(f"{where} has no {noun} {shown(wanted)}.{did_you_mean(wanted, known, 'There is')}")
