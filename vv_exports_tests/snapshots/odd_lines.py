"""Results as JSON text that mostly are what their prompt's schema says, and in every way may not be: for comparing two
readings of them. Everything is drawn from a seed.
"""

import json
from random import Random
from typing import Any

from vv_exports_tests.odd_documents import NUMBERS, STRINGS

NAMES = [
    "a", "b", "A", "title", "a/b", "~", "x.y", "é", "e\u0301", "", "0", "f0", "f1", "__init__", "__class__", "self",
    "metadata", "name", 'q"', "b\\s", "\n", "\ud800", "\x7f", "k" * 70,
]  # fmt: skip
_TIMES = [
    "2026-10-01T10:00:00Z", "2026-10-01T12:00:00.5+02:00", "2026-10-01t10:00:00z", "2026-10-01",
    "2026-10-01T10:00:00.123456789Z", "0001-01-01T00:00:00+14:00", "",
]  # fmt: skip
_VOLATILE = ["segment_uri", "thumbnail_uri", "marker", "metadata_markers"]


class OddLines:
    """``odd`` is how many of a thousand values are not what the schema says."""

    def __init__(self, seed: object, odd: int) -> None:
        self._random = Random(str(seed))
        self._odd = odd

    def schema(self, depth: int = 0) -> dict[str, Any]:
        """A JSON Schema of an object."""
        names = self._random.sample(NAMES, self._random.randrange(1, 6))
        schema: dict[str, Any] = {"type": "object", "properties": {name: self._place(depth) for name in names}}
        if self._random.randrange(4) == 0:
            schema["required"] = names[:2]
        if self._random.randrange(4) == 0:
            schema["additionalProperties"] = self._random.choice([True, False])
        return schema

    def _place(self, depth: int) -> dict[str, Any]:
        pick = self._random.randrange(12 if depth < 3 else 9)
        kinds = ["string", "integer", "number", "boolean", "string", "number"]
        if pick < len(kinds):
            place: dict[str, Any] = {"type": kinds[pick]}
        elif pick == 6:
            place = {"type": "string", "format": "date-time"}
        elif pick == 7:
            place = self._random.choice([{}, {"type": "object"}, {"type": ["string", "integer"]}, {"type": "array"}])
        elif pick == 8:
            place = {"type": "string", "enum": ["x", "y"]}
        elif pick == 9:
            place = {"type": "array", "items": self._place(depth + 1)}
        else:
            place = self.schema(depth + 1)
        match self._random.randrange(6):
            case 0 if isinstance(place.get("type"), str):
                return {**place, "type": [place["type"], "null"]}
            case 1:
                return {"anyOf": [place, {"type": "null"}]}
        return place

    def value(self, schema: dict[str, Any]) -> str:
        """The text of a value of a place."""
        if self._random.randrange(1000) < self._odd:
            return self._anything(2)
        if "anyOf" in schema:
            return "null" if self._is_rare(4) else self.value(schema["anyOf"][0])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._random.choice(kind)
        if kind == "array" and "items" in schema:
            return self._array([self.value(schema["items"]) for _ in range(self._random.randrange(4))])
        if kind == "object" and "properties" in schema:
            return self._members(schema["properties"])
        return self._scalar(kind, schema.get("format"))

    def _scalar(self, kind: str | None, form: str | None) -> str:
        chosen = {
            "null": ["null"],
            "string": [self._text(text) for text in (_TIMES[:2] if form else ["x", "y", "a word", "", "é", "e-300"])],
            "integer": [str(self._random.randrange(-9, 10**digits)) for digits in (1, 4, 18)],
            "number": ["0", "5", "0.5", "-0.0", "1e2", "0.125", repr(self._random.random())],
            "boolean": ["true", "false"],
        }
        return self._random.choice(chosen[kind]) if kind in chosen else self._anything(1)

    def segment(self, number: int, schema: dict[str, Any], run_id: str = "run_1") -> bytes:
        """A line of segment results, or what is there instead."""
        fields = {
            "segment_id": json.dumps(f"seg_{number:05}"),
            "video_id": json.dumps(f"vid_{number // 40}"),
            "start_time": self.value({"type": ["number", "null"]}) if self._is_rare(60) else f"{number}.5",
            "end_time": self.value({"type": "number"}),
            "executed_at": self._text(self._random.choice(_TIMES)) if self._is_rare(30) else '"2026-10-01T10:00:00Z"',
            "gcs_uri": self.value({"type": "string"}),
            "metadata_text": self._text("a text"),
            "metadata": self._members(schema["properties"]),
        }
        for name in list(fields):
            if self._is_rare(150) and name not in {"segment_id", "metadata"}:
                fields.pop(name)
            elif self._odd and self._is_rare(400) and name not in {"segment_id", "metadata", "metadata_text"}:
                fields[name] = self._anything(1)
        if self._random.randrange(2):
            fields["run_id"] = json.dumps(run_id)
        fields |= self._more_fields()
        members = [f"{self._name(name)}:{self._space()}{text}" for name, text in fields.items()]
        if self._random.randrange(3) == 0:
            self._random.shuffle(members)
        if self._odd and self._is_rare(40):
            members.append(self._random.choice(members))
        line = "{" + ",".join(members) + "}"
        if self._is_rare(30):
            line = self._random.choice([" {}", "{}\t", "{}\r", "  {}  \r"]).format(line)
        return line.encode()

    def _more_fields(self) -> dict[str, str]:
        more = {}
        if self._is_rare(20):
            repeated = self._random.choice(["index_id", "result_type", "thumbnail_available"])
            more[repeated] = self._random.choice(['"idx"', '"segment"', "null", "5", '"other"', "true"])
        if self._is_rare(10):
            more[self._random.choice(_VOLATILE)] = self._anything(2)
        if self._odd and self._is_rare(40):
            more[self._random.choice(["new", "zzz", "processing_warning", "\ud800"])] = self._anything(2)
        return more

    def broken(self, line: bytes) -> bytes:
        """A line that no reading may take."""
        return self._random.choice(
            [
                line[:-3], line + line, line + b" 1", b"[1]", b"null", b"\xff", line.replace(b"segment_id", b"segment"),
                line.replace(b'"metadata"', b'"meta"'), line.replace(b"{", b"{,", 1), line.replace(b":", b"\n:", 1),
                b'{"segment_id":""' + line[1:].replace(b'"segment_id"', b'"s"').replace(b'"seg', b',"x":"seg', 1),
                line.replace(b"{", b'{"prompt_id":"other",', 1), line.replace(b"{", b'{"run_id":5,', 1),
                line.replace(b"seg_", b'\xc0\x80'), line.replace(b"0", b"00", 1) + b"NaN",
            ]
        )  # fmt: skip

    def _is_rare(self, once_in: int) -> bool:
        return self._random.randrange(once_in) == 0

    def _members(self, properties: dict[str, Any]) -> str:
        names = [name for name in properties if not self._is_rare(7)]
        if self._random.randrange(3) == 0:
            self._random.shuffle(names)
        members = [(name, self.value(properties[name])) for name in names]
        if self._random.randrange(1000) < self._odd:
            members.append((self._random.choice(NAMES), self._anything(2)))
        return "{" + ",".join(f"{self._name(name)}:{self._space()}{text}" for name, text in members) + "}"

    def _array(self, items: list[str]) -> str:
        return f"[{self._space()}{f'{self._space()},'.join(items)}]"

    def _anything(self, depth: int) -> str:
        pick = self._random.randrange(8 if depth else 6)
        if pick < 2:
            return self._random.choice(NUMBERS)
        if pick < 4:
            return self._text(self._random.choice(STRINGS))
        if pick < 6:
            return self._random.choice(["null", "true", "false", "{}", "[]", "-0", "5.0"])
        inner = [self._anything(depth - 1) for _ in range(self._random.randrange(3))]
        if pick == 6:
            return self._array(inner)
        return "{" + ",".join(f"{self._name(self._random.choice(NAMES))}:{text}" for text in inner) + "}"

    def _name(self, name: str) -> str:
        if self._is_rare(50) and name.isascii() and name.isalpha():
            return f'"\\u{ord(name[0]):04x}{name[1:]}"'
        return self._text(name)

    def _text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(text)
        return json.dumps(text, ensure_ascii=self._random.choice([True, False]))

    def _space(self) -> str:
        return self._random.choice(["", "", "", " ", " \t"])
