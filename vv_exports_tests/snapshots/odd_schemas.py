"""JSON Schemas as prompts have them, and as nobody would write them: each drawn from a seed."""

from random import Random
from typing import Any

NAMES = [
    "a", "b", "A", "title", "Title", "a/b", "~", "x.y", "é", "e\u0301", "", " ", "0", "f0", "f1", "__init__",
    "__class__", "__struct_fields__", "self", "class", "_x", "metadata", "segment_id", "marker", "rescued", 'q"', "'",
    "b\\s", "\n", "\0", "\ud800", "\x7f", "\u2028", "映画", "\U0001f600", "k" * 70,
]  # fmt: skip
_KINDS = ["string", "integer", "number", "boolean"]
_UNTYPED: list[Any] = [
    {}, True, {"type": "object"}, {"type": "array"}, {"type": ["string", "integer"]}, {"type": "null"}, False,
    {"type": "object", "additionalProperties": {"type": "integer"}}, {"anyOf": [{"type": "string"}, {"type": "array"}]},
    {"type": "array", "items": [{"type": "string"}]}, {"$ref": "#/nowhere"}, {"type": "strnig"},
]  # fmt: skip
_DEEPEST = 3


class OddSchemas:
    """Draws schemas of objects. References in them lead into the ``$defs`` of the root."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def root(self) -> dict[str, Any]:
        """A schema of results."""
        shared = {name: self._place(_DEEPEST - 1) for name in ("one", "other")}
        root = self._object(0)
        match self._random.randrange(24):
            case 0:
                root = self._random.choice([{}, {"type": "object"}, {"type": "array", "items": root}])
            case 1:
                root = {"$ref": "#/$defs/root", "$defs": {"root": root}}
            case 2:
                root = {"allOf": [root, self._object(1)]}
            case 3:
                root = {**root, "type": ["object", "null"]}
        return {**root, "$defs": {**shared, **root.get("$defs", {})}}

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._random.sample(NAMES, self._random.choice([1, 2, 3, 4, 5, 5, 9]))
        schema: dict[str, Any] = {"type": "object", "properties": {name: self._place(depth + 1) for name in names}}
        if self._random.randrange(4) == 0:
            schema["required"] = names[:2]
        if self._random.randrange(4) == 0:
            schema["additionalProperties"] = self._random.choice([True, False])
        return schema

    def _place(self, depth: int) -> Any:
        place = self._plain(depth)
        match self._random.randrange(8) if isinstance(place, dict) else None:
            case 0 if isinstance(place.get("type"), str):
                return {**place, "type": [place["type"], "null"]}
            case 1:
                return {"anyOf": [place, {"type": "null"}]}
            case 2:
                return {**place, "nullable": True}
        return place

    def _plain(self, depth: int) -> Any:
        pick = self._random.randrange(17 if depth < _DEEPEST else 11)
        if pick < 6:
            return {"type": self._random.choice(_KINDS)}
        if pick < 11:
            return [
                {"type": "string", "format": "date-time"},
                {"type": "string", "enum": ["x", "y"]},
                {"enum": ["x", None, ""]},
                {"type": ["integer", "number"], "minimum": 0},
                self._random.choice([*_UNTYPED, *({"$ref": f"#/$defs/{name}"} for name in ("one", "other"))]),
            ][pick - 6]
        if pick < 14:
            return {"type": "array", "items": self._place(depth + 1)}
        return self._object(depth)
