"""The YAML of a configuration, as text, mappings and lists, with the lines of what is wrong."""

from typing import Any

import yaml

from vv_exports.config.extent import TooLargeError, check_extent
from vv_exports.config.messages import Location, dotted, shown
from vv_exports.config.models import Config
from vv_exports.errors import ConfigurationError

_TAB_HINT = "; there is a tab, and YAML is indented with blanks: use those"
_PATH_HINT = (
    "; between braces or brackets, [] is YAML's own: a path with [] is put in quotes there, as in "
    "'metadata.people[].name'"
)


class Document:
    """A YAML document as mappings, lists, text, booleans and nulls.

    Keys, and values that YAML would take for numbers or dates, are the text that stands in the file: an index
    id ``2026`` or ``on`` needs no quotes to stay what it is. Numbers inside of a run tag are numbers. A key that is
    there twice is a problem. What a merge key (``<<``) names fills in the keys that the mapping does not have itself.
    """

    _LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _TAG = "tag:yaml.org,2002:"
    _MERGE = f"{_TAG}merge"
    _PLAIN = frozenset({"str", "int", "float", "timestamp", "value", "null", "bool", "merge", "map", "seq"})

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, text: str, where: str) -> dict[str, Any]:
        """Raises ConfigurationError where there is no mapping to look at."""
        try:
            check_extent(text, self._LOADER)
            data = self._value(yaml.compose(text, Loader=self._LOADER), ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            hint = _hint(_line(text, mark), mark.column) if mark else ""
            raise ConfigurationError(where, [f"is not YAML{place}: {error.problem}{hint}"]) from error
        except yaml.YAMLError as error:
            raise ConfigurationError(where, [f"is not YAML: {error}"]) from error
        except TooLargeError as error:
            raise ConfigurationError(where, [str(error)]) from None
        if not isinstance(data, dict):
            keys = ", ".join(Config.model_fields)
            holds = "is empty" if data is None else f"holds {shown(data)}"
            raise ConfigurationError(where, [f"{holds}; it must be a mapping with {keys}"])
        return data

    def read_at(self, text: str, at: Location) -> Any:
        """The value that a text stands for at a place of the file."""
        return self._value(yaml.compose(text, Loader=self._LOADER), at)

    def _value(self, node: yaml.Node | None, at: Location) -> Any:
        self._check_tag(node, at)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, at)
            case yaml.SequenceNode():
                return [self._value(item, (*at, place)) for place, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, is_typed=_is_within_a_run_tag(at))
            case _:
                return None

    def _check_tag(self, node: yaml.Node | None, at: Location) -> None:
        if node is not None and node.tag.removeprefix(self._TAG) not in self._PLAIN:
            self.problems.append(f"{dotted(at)}: the YAML tag {node.tag!r} is not supported; remove it")

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key, str):
                self.problems.append(f"{dotted(at)}: the key in line {line} must be text")
            elif key in lines:
                where = f"lines {lines[key]} and {line}"
                self.problems.append(f"{dotted((*at, key))}: is there twice, in {where}; keep one")
            else:
                lines[key] = line
                self._check_tag(key_node, (*at, key))
                if key_node.tag == self._MERGE:
                    merged = self._merged(value_node, at, line)
                else:
                    values[key] = self._value(value_node, (*at, key))
        return {**merged, **values}

    def _merged(self, node: yaml.Node, at: Location, line: int) -> dict[str, Any]:
        """What a merge key fills in: of several mappings, the first that has a key wins."""
        named = self._value(node, at)
        mappings = named if isinstance(named, list) else [named]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            self.problems.append(f"{dotted(at)}: << in line {line} must name a mapping, or a list of them")
            return {}
        return {key: value for mapping in reversed(mappings) for key, value in mapping.items()}

    def _scalar(self, node: yaml.ScalarNode, *, is_typed: bool) -> Any:
        match node.tag.removeprefix(self._TAG):
            case "null":
                return None
            case "bool":
                return yaml.SafeLoader.bool_values.get(node.value.lower(), node.value)
            case "int" | "float" if is_typed:
                return yaml.safe_load(node.value)
        return node.value


def _is_within_a_run_tag(at: Location) -> bool:
    """Whether this is inside a mapping that is the value of one of ``run_tags``: it is for Kubernetes, say, which does
    not take a text for a number."""
    match at:
        case ("indexes", _, "run_tags", _, _, *_) | ("indexes", _, "automations", _, "run_tags", _, _, *_):
            return True
    return False


def _hint(line: str, column: int) -> str:
    """What to do about what YAML stumbled over in a line."""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[column:].startswith("\t"):
        return _TAB_HINT
    return _PATH_HINT if line[column:].startswith("[]") else ""


def _line(text: str, mark: yaml.Mark) -> str:
    """The line that a mark is in."""
    return "".join(text.split("\n")[mark.line : mark.line + 1])
