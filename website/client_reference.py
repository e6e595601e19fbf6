"""The page of the Python client, of its signatures and docstrings."""

import dataclasses
import inspect
import re
import sys
from typing import Any

from markdown_text import paragraphs

from vv_exports import reader
from vv_exports.client import VVExports, anywhere

_WIDTH = 100
_RETURNED = re.compile(r"\b[A-Z]\w+\b")


def page() -> str:
    """The page."""
    parts = [
        "# Python client",
        "Made of the code. Errors are of `vv_exports.errors`: what was raised says what to do.",
        "## VVExports",
        "`from vv_exports.client import VVExports`",
        paragraphs(VVExports.__doc__ or ""),
        *methods(VVExports, "client"),
    ]
    shown: dict[str, type] = {}
    for name, part in namespaces().items():
        parts += [f"## client.{name}", paragraphs(part.__doc__ or ""), *methods(part, f"client.{name}")]
        shown.update(returned(part))
    for module in (anywhere, reader):
        parts += [f"## {module.__name__}", paragraphs(module.__doc__ or "")]
        for function in own_functions(module):
            parts += [f"### {function.__name__}", signature(function), paragraphs(function.__doc__ or "")]
    parts.append("## What is returned")
    for name, one in sorted(shown.items()):
        parts += [f"### {name}", fields(one), paragraphs(one.__doc__ or "")]
    return "\n\n".join(parts) + "\n"


def namespaces() -> dict[str, type]:
    """The parts of the client, by their attribute."""
    source = inspect.getsource(VVExports.__init__)
    module = sys.modules[VVExports.__module__]
    return {name: getattr(module, kind) for name, kind in re.findall(r"self\.(\w+) = (\w+)\(self\)", source)}


def methods(of: type, spelled: str) -> list[str]:
    """The public methods of a class, each with its signature and docstring."""
    parts = []
    for name, method in vars(of).items():
        if not name.startswith("_") and inspect.isfunction(method):
            parts += [f"### {spelled}.{name}", signature(method), paragraphs(method.__doc__ or "")]
    return parts


def own_functions(module: Any) -> list[Any]:
    """The public functions that a module defines."""
    return [
        one
        for name, one in vars(module).items()
        if inspect.isfunction(one) and one.__module__ == module.__name__ and not name.startswith("_")
    ]


def signature(function: Any) -> str:
    """How it is called, a parameter on each line where they are many."""
    found = inspect.signature(inspect.unwrap(function))
    own = [one for name, one in found.parameters.items() if name != "self"]
    line = f"{function.__name__}{found.replace(parameters=own)}"
    if len(line) > _WIDTH:
        marked, keyword = [], False
        for one in own:
            if one.kind is inspect.Parameter.KEYWORD_ONLY and not keyword:
                marked, keyword = [*marked, "*"], True
            marked.append(str(one))
        given = f" -> {line.rpartition(' -> ')[2]}" if " -> " in line else ""
        line = f"{function.__name__}(\n" + "".join(f"    {one},\n" for one in marked) + f"){given}"
    return f"```python\n{_short(line)}\n```"


def returned(of: type) -> dict[str, type]:
    """The dataclasses that methods of a class return, by name."""
    module = sys.modules[of.__module__]
    found = {}
    for name, method in vars(of).items():
        if not name.startswith("_") and inspect.isfunction(method):
            for word in _RETURNED.findall(str(inspect.signature(inspect.unwrap(method)).return_annotation)):
                one = getattr(module, word, None)
                if inspect.isclass(one) and dataclasses.is_dataclass(one):
                    found[word] = one
    return found


def fields(one: type) -> str:
    """The fields of a dataclass with their types."""
    lines = [f"{field.name}: {_type(field.type)}" for field in dataclasses.fields(one)]
    return "```python\n" + _short("\n".join(lines)) + "\n```"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _short(text: str) -> str:
    """Types by their own name: where each is defined makes a signature unreadable."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", text)
