"""Results as JSON text that mostly are what their prompt's schema says, and in every way may not be: for comparing two
readings of them. Everything is drawn from a seed. Text is made by hand, since json.dumps cannot say most of it: in it,
half of a surrogate pair stands for a byte that is no UTF-8.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from vv_exports_tests.odd_documents import NUMBERS, STRINGS
from vv_exports_tests.snapshots.odd_schemas import NAMES

_NUMBERS = [
    *NUMBERS, "-0", "-0e5", "0e400", "0e-400", "0.0e99999", "1e3", "1E+5", "1e16", "4.9e-324",
    "2.2250738585072011e-308", "2.4703282292062328e-324",
    "-9223372036854775808", "9007199254740992", "999999999999999", "9999999999999999",
    "0.000000000000001", "1.0e-0400", "1e308", "1e309", "100000000000000000000000.0", "1" * 400,
]  # fmt: skip
_UNREADABLE = [
    "1e99999999999999999999",
    "-1e-99999999999999999999",
    "0e99999999999999999999",
    '"\udcff"',
    '"\udcc0\udc80"',
]
"""Values that no reading may take, wherever they stand."""
TIMES = [
    "2026-10-01T10:00:00Z", "2026-10-01T12:00:00.5+02:00", "2026-10-01t10:00:00z", "2026-10-01", "2026-10-01 10:00",
    "2026-10-01T10:00:00.123456Z", "2026-10-01T10:00:00.123456789Z", "0001-01-01T00:00:00+14:00", "",
]  # fmt: skip
_VOLATILE = ["segment_uri", "thumbnail_uri", "preview_gif_uri", "marker", "metadata_markers"]
_STATED = {"run_id": "run_1", "prompt_run_id": "run_1", "prompt_id": "prm", "index_id": "idx"}
_KEYS = {"video_id", "start_time"}
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "segments": {
        "video_name": "string", "end_time": "number", "executed_at": "time", "field_extraction_succeeded": "boolean",
        "gcs_uri": "string", "thumbnail_available": "boolean", "processing_warning": "string",
        "transcription_error": "string", "metadata_text": "string",
    },
    "videos": {
        "video_name": "string", "status": "string", "executed_at": "time", "completed_at": "time",
        "successful_segment_count": "integer", "preview_start_time": "number", "metadata_text": "string",
    },
    "failures": {
        "end_time": "number", "failed_operations": "strings", "failure_message": "string", "retryable": "boolean",
    },
}  # fmt: skip
_SCALARS: Mapping[str, list[str]] = {
    "null": ["null"],
    "boolean": ["true", "false"],
    "number": ["0", "5", "0.5", "-0.0", "1e2", "0.125"],
    "string": [
        '"x"',
        '"y"',
        '"a word"',
        '""',
        '"é"',
        '"\\u00e9"',
        '"e-300"',
        '"映画"',
        r'"\"\\\n"',
        f'"{"1234567890" * 2}"',
    ],
}
_SPLICES = [
    b"", b"", b",", b":", b"}", b"]", b"{", b"[", b'"', b"\\", b"\\x", b"\\u12", b"\\ud800", b"\0", b"\t", b"\r", b" ",
    b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"0", b"-", b".", b"e", b"E9", b"1e999999999999999999999", b"NaN",
    b"null", b"true", b"/**/", b"'", b"\x0c", b"\n",
]  # fmt: skip


class OddLines:
    """Lines of a results file. ``odd`` is how many of a thousand values are not what the schema says."""

    def __init__(self, random: Random, odd: int) -> None:
        self._random = random
        self._odd = odd

    def result(self, table: str, number: int, schema: Any = None) -> bytes:
        """A result that can be read, whatever is odd about it."""
        fields = {"video_id": self._text(f"vid_{number // 40 if table != 'videos' else number:03}")}
        if table != "videos":
            fields["segment_id"] = self._text(f"seg_{number:05}")
            fields["start_time"] = f"{number}.5"
        required = {"segments": {"segment_id"}, "videos": {"video_id"}, "failures": {"segment_id", "video_id"}}[table]
        fields |= {name: self._scalar(kind) for name, kind in _FIELDS[table].items() if not self._rare(4)}
        self._make_odd(fields, required)
        if table != "failures":
            required = {*required, "metadata"}
            fields["metadata"] = self._metadata(schema)
        members = [(name, text) for name, text in [*fields.items(), *self._more_fields(table)]]
        if self._rare(3):
            self._random.shuffle(members)
        if self._odd and self._rare(40):
            members.append(self._random.choice(members))
        line = self._braced(members)
        if self._rare(30):
            line = self._random.choice([" {}", "{}\t", "{}\r", "  {}  \r", "{}\n", "{}\n \t\r\n"]).format(line)
        return _bytes(line)

    def _make_odd(self, fields: dict[str, str], required: set[str]) -> None:
        """Some fields null, or anything."""
        for name in sorted(fields.keys() - required):
            if name in _KEYS and not self._rare(20):  # else most runs would be out of order
                continue
            if self._rare(300):
                fields[name] = "null"
            elif self._odd and self._rare(400) and name != "metadata_text":
                fields[name] = self._anything(1)
        if self._rare(1_000):
            fields.pop("start_time", None)

    def _more_fields(self, table: str) -> list[tuple[str, str]]:
        more = []
        for name, own in _STATED.items():
            if self._rare(3):
                more.append((name, "null" if self._rare(9) else f'"{own}"'))
        if self._rare(20):
            more.append(
                (self._random.choice(["index_id", "result_type"]), self._random.choice(['"segment"', "5", "{}"]))
            )
        if self._rare(8):
            more.append((self._random.choice(_VOLATILE), self._anything(2)))
        if self._odd and self._rare(40):
            more.append(
                (self._random.choice(["new", "zzz", "schema_used", "preview_end_time", "\ud800"]), self._anything(2))
            )
        if table == "failures" and self._rare(20):
            more.append(("metadata", self._anything(2)))
        return more

    def unreadable(self, line: bytes) -> bytes:
        """A line that no reading may take, where it has all that is made unreadable here."""
        some = _bytes(self._random.choice(_UNREADABLE))
        one = line.strip()
        return self._random.choice(
            [
                one[:-3], one + one, one + b" 1", b"[1]", b"null", b"\xff", b"{}", b'"x"', b"5",
                one.replace(b'"metadata"', b'"meta"'), one.replace(b"{", b"{,", 1), one.replace(b":", b"\n:", 1),
                one.replace(b'"segment_id"', b'"segment"'), one[:-1] + b',"segment_id":""}',
                one[:-1] + b',"segment_id":null}', one[:-1] + b',"video_id":[],"segment_id":5}',
                one[:-1] + b',"metadata":null}', one[:-1] + b',"metadata":[]}', one[:-1] + b',"metadata_text":0}',
                one[:-1] + b',"prompt_id":"other"}', one[:-1] + b',"run_id":5}', one[:-1] + b',"prompt_run_id":{}}',
                one.replace(b"seg_", b"\xc0\x80"), one[:-1] + b',"new":' + some + b"}",
                one[:-1] + b',"marker":' + some + b"}", one[:-1] + b',"gif_uri":[{"x":' + some + b"}]}",
                one.replace(b'"metadata":', b'"metadata":{"a":' + some + b'},"metadata":'),
                one.replace(b'"video_name":', b'"video_name":' + some + b',"video_name":', 1),
                one.replace(b'"end_time":', b'"end_time":' + some + b',"start_time":', 1),
                one[:-1] + b',"\xff":1}', one + b"NaN", b"\xef\xbb\xbf" + one,
            ]
        )  # fmt: skip

    def spliced(self, line: bytes) -> bytes:
        """A line with something else in one place, which it may bear or not."""
        begin = self._random.randrange(len(line))
        end = begin + self._random.choice([0, 0, 1, 1, 2, 9])
        return line[:begin] + self._random.choice(_SPLICES) + line[end:]

    def _metadata(self, schema: Any) -> str:
        self._root = schema
        text = self._value(schema, 6)
        # What is no object is refused: one line of that ends a run.
        return text if text.startswith("{") else self._braced([(self._random.choice(NAMES), text)])

    def _value(self, schema: Any, depth: int) -> str:
        """The text of a value of a place."""
        schema = self._one_of(schema)
        if self._random.randrange(1000) < self._odd or not isinstance(schema, dict) or depth < 0:
            return self._anything(2)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._random.choice(kind)
        if schema.get("nullable") and self._rare(4):
            kind = "null"
        if kind == "array" and isinstance(items := schema.get("items"), dict):
            return self._array([self._value(items, depth - 1) for _ in range(self._random.randrange(4))])
        if kind == "object" and "properties" in schema:
            return self._members(schema["properties"], depth)
        if "enum" in schema:
            return json.dumps(self._random.choice(schema["enum"]))
        return self._scalar("time" if "format" in schema and kind == "string" else kind)

    def _one_of(self, schema: Any) -> Any:
        """A schema that combines no others, of those that it combines."""
        while isinstance(schema, dict):
            if "$ref" in schema:
                schema = self._root["$defs"].get(schema["$ref"].rpartition("/")[2])
            elif "anyOf" in schema or "allOf" in schema:
                schema = self._random.choice(schema.get("anyOf") or schema["allOf"])
            else:
                break
        return schema

    def _members(self, properties: Mapping[str, Any], depth: int) -> str:
        names = [name for name in properties if not self._rare(7)]
        if self._rare(3):
            self._random.shuffle(names)
        members = [(name, self._value(properties[name], depth - 1)) for name in names]
        if self._random.randrange(1000) < self._odd:
            members.insert(0, (self._random.choice([*NAMES, *names]), self._anything(2)))
        return self._braced(members)

    def _scalar(self, kind: str | None) -> str:
        match kind:
            case "time":
                return self._text(self._random.choice(TIMES) if self._rare(20) else TIMES[0])
            case "strings":
                return self._array([self._text("x") for _ in range(self._random.randrange(3))])
            case "integer":
                return str(self._random.randrange(-9, 10 ** self._random.choice([1, 4, 15, 18])))
            case "number" if self._odd and self._rare(20):
                return self._number()
            case str() if kind in _SCALARS:
                return self._random.choice(_SCALARS[kind])
        return self._anything(1)

    def _number(self) -> str:
        """One of any length, size and spelling."""
        if self._rare(3):
            return self._random.choice(_NUMBERS)
        whole = str(self._random.randrange(10 ** self._random.choice([0, 1, 3, 15, 16, 17, 25])))
        size = self._random.choice([0, 1, 5, 14, 15, 16, 17])
        part = "." + "".join(self._random.choices("0123456789", k=size)) if size else ""
        power = ""
        if self._rare(2):
            exponent = self._random.choice([self._random.randrange(-330, 330), self._random.randrange(-25, 25)])
            power = self._random.choice(["e", "E"]) + self._random.choice(["{}", "{:+}", "{:+04}", "{:+05}"]).format(
                exponent
            )
        return self._random.choice(["", "", "-"]) + whole + part + power

    def _anything(self, depth: int) -> str:
        pick = self._random.randrange(8 if depth else 6)
        if pick < 2:
            return self._number()
        if pick < 4:
            return self._text(self._random.choice(STRINGS))
        if pick < 6:
            return self._random.choice(["null", "true", "false", "{}", "[]", "-0", "5.0", "1e3"])
        inner = [self._anything(depth - 1) for _ in range(self._random.randrange(3))]
        if pick == 6:
            return self._array(inner)
        return self._braced([(self._random.choice(NAMES), text) for text in inner])

    def _braced(self, members: list[tuple[str, str]]) -> str:
        return (
            "{" + ",".join(f"{self._name(name)}{self._space()}:{self._space()}{text}" for name, text in members) + "}"
        )

    def _array(self, items: list[str]) -> str:
        return f"[{self._space()}{f'{self._space()},'.join(items)}]"

    def _name(self, name: str) -> str:
        if self._rare(50) and name.isascii() and name.isalpha():
            return f'"\\u{ord(name[0]):04x}{name[1:]}"'
        return self._text(name)

    def _text(self, text: str) -> str:
        plain = not any("\ud800" <= character <= "\udfff" for character in text)
        return json.dumps(text, ensure_ascii=not plain or self._rare(2))

    def _space(self) -> str:
        return self._random.choice(["", "", "", "", " ", " \t"])

    def _rare(self, once_in: int) -> bool:
        return self._random.random() * once_in < 1


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
