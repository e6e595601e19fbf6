"""Text of the code as Markdown: docstrings, help and descriptions are written for the terminal."""

import inspect
import re
from collections.abc import Iterable

_CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
_MARKS = re.compile(r"([\\*_\[\]<>|])")


def prose(text: str) -> str:
    """A text with its code marked, and everything else as it stands."""
    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [_MARKS.sub(r"\\\1", text[at : code.start()]), f"`{code[1] or code[2]}`"]
        at = code.end()
    return "".join(parts) + _MARKS.sub(r"\\\1", text[at:])


def paragraphs(docstring: str) -> str:
    """A docstring; what is indented in it stays as it is laid out."""
    made = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        if paragraph.startswith("    "):
            made.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        else:
            made.append(prose(paragraph))
    return "\n\n".join(made)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines)
