"""Ids, other people's text and numbers in what people read: messages, logs, progress, lists.

An id may hold anything. Printed as it is, a newline in it forges a line of a log, an escape sequence steers a terminal,
and a change of direction makes it look like another one.
"""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200e\u200f\u061c\ud800-\udfff]")


def printable(text: str) -> str:
    """Text of several lines, with control characters, changes of direction and halves of surrogate pairs as escapes."""
    return _STEERING.sub(lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """An id, or text that is part of a line: newlines and tabs are escapes too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def counted(count: int, noun: str, several: str | None = None) -> str:
    """So many of something: ``1 file``, ``2,000 files``. ``several`` where that is not the noun with an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {several or noun + 's'}"
