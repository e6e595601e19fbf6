"""Results as JSON text with whatever a model may answer, as many as wanted; and a comparison that forgives nothing."""

import json
from decimal import Decimal
from random import Random
from typing import Any

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "Title": {"type": "string"},
        "": {"type": "string"},
        "caf\u00e9": {"type": "integer"},
        "cafe\u0301": {"type": "integer"},
        "score": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "shot": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "Type": {"type": "string"}, "mm": {"type": ["number", "null"]}},
        },
        "words": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "word": {"type": "string"},
                    "start": {"type": "number"},
                    "end": {"type": ["number", "null"]},
                },
            },
        },
        "tags": {"type": "array", "items": {"type": "string"}},
        "any": {},
        "nothing": {"type": "object"},
    },
}

NUMBERS = [
    "0", "5", "5.0", "-0.0", "0.1", "1.50", "1e2", "1E-7", "9007199254740993", "9007199254740993.0",
    "9223372036854775807", "9223372036854775808", "9223372036854775808.0", "-9223372036854775809",
    "123456789012345678901234567890", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308",
    "0.1234567890123456789012345", "12345678901234567890.12345", "0.30000000000000004", "1e23", "118444.12",
]  # fmt: skip
STRINGS = [
    "", " ", "a", "null", "true", "0001", "1e5", "NaN", "=1+1", "+1", "-1", "@x", "'=1", "\tx", "a,b;c|d", 'q"u"o', "'",
    "a\r\nb", "\n", "\u0000", "\u0001\u001f\u007f", "\u2028\u2029", "\ufeff", "\\", "\\ud800", "/~0~1", "caf\u00e9",
    "cafe\u0301", "映画" * 13, "\U0001f600", "\ud83d", "\udfff\ud800", "goal \ud83d", "2026-10-01", "PT1M3S",
    "93.343250s", "0:01:10.21", "00:59:59;28", '{"a":1}', "[]", "\ue000\uffff",
]  # fmt: skip
NAMES = [
    "title", "Title", "TITLE", "", " ", "caf\u00e9", "cafe\u0301", "a.b", "a[0]", "a/b", "~", "~1", '"', "\ud800",
    "\u0000", "\n", "metadata", "rescued", "absent", "prompt_run_id", "stated_index_id", "__proto__", "=x", "k" * 300,
]  # fmt: skip
IDS = [
    "seg",
    "SEG",
    "0001",
    "1",
    "01",
    "1.0",
    "1e0",
    "true",
    "null",
    "caf\u00e9",
    "cafe\u0301",
    "a",
    "a ",
    "%61",
    "a/b",
]
"""Ids that look alike, of which one result each is made."""

_PROPERTIES = SCHEMA["properties"]


def results(count: int, seed: int = 20261126, key: str = "segment_id") -> list[str]:
    """So many results, each as a line of JSON."""
    chance = Random(seed)
    lines = []
    for number in range(count):
        name = IDS[number] if number < len(IDS) else f"seg_{number:05}"
        record = [f'"{key}":{json.dumps(name)}', f'"metadata":{_metadata(chance)}']
        if key != "video_id":
            record.append('"video_id":"vid_1"')
        if chance.random() < 0.9:
            record.append(f'"start_time":{chance.choice([*NUMBERS[:7], "198000", "86399.999", "null"])}')
        if chance.random() < 0.1:
            record.append(f'"metadata_text":{json.dumps(chance.choice(STRINGS))}')
        if chance.random() < 0.05:
            record.append(f'"undeclared":{_value(chance, 2)}')
        chance.shuffle(record)
        lines.append("{" + ",".join(record) + "}")
    return lines


def _metadata(chance: Random) -> str:
    if chance.random() < 0.02:
        return "{}"
    if chance.random() < 0.01:
        return '{"any":' + '{"x":[' * 60 + _scalar(chance) + "]}" * 60 + "}"
    if chance.random() < 0.001:
        return '{"title":' + json.dumps(chance.choice(["x", "é\n", "\ud83d"]) * 300_000) + "}"
    found = {}
    for name, part in _PROPERTIES.items():
        if chance.random() < 0.5:
            found[name] = _of(part, chance)
    if chance.random() < 0.3:
        found[chance.choice(NAMES)] = _value(chance, 3)
    return _object(found, chance)


def _of(part: dict[str, Any], chance: Random) -> str:
    """Text of a value that mostly is as its schema says."""
    kind = part.get("type")
    if chance.random() < 0.15 or kind is None:
        return _value(chance, 3)
    if "properties" in part:
        present = {name: one for name, one in part["properties"].items() if chance.random() < 0.7}
        return _object({name: _of(one, chance) for name, one in present.items()}, chance)
    if kind == "array":
        return "[" + ",".join(_of(part["items"], chance) for _ in range(chance.randrange(4))) + "]"
    plain = {
        "string": lambda: json.dumps(chance.choice(STRINGS)),
        "integer": lambda: chance.choice(["1", "-3", *NUMBERS]),
        "number": lambda: chance.choice(NUMBERS),
        "object": lambda: "{}",
        "null": lambda: "null",
    }
    return plain[chance.choice(kind) if isinstance(kind, list) else kind]()


def _value(chance: Random, depth: int) -> str:
    choice = chance.random()
    if depth and choice < 0.2:
        return "[" + ",".join(_value(chance, depth - 1) for _ in range(chance.randrange(4))) + "]"
    if depth and choice < 0.4:
        return _object({chance.choice(NAMES): _value(chance, depth - 1) for _ in range(chance.randrange(4))}, chance)
    return _scalar(chance)


def _scalar(chance: Random) -> str:
    return chance.choice([chance.choice(NUMBERS), json.dumps(chance.choice(STRINGS)), "null", "true", "false"])


def _object(members: dict[str, str], chance: Random) -> str:
    pairs = [f"{json.dumps(name)}:{text}" for name, text in members.items()]
    chance.shuffle(pairs)
    return "{" + ",".join(pairs) + "}"


def _fraction(text: str) -> tuple[str, bool, Decimal]:
    value = Decimal(text)
    return "fraction", value.is_signed(), value


def exact(text: str | bytes) -> Any:
    """JSON text by the standard library, with nothing of a number lost: 5 is not 5.0, -0.0 not 0.0, true not 1."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    return _typed(json.loads(text, parse_int=lambda digits: ("integer", int(digits)), parse_float=_fraction))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return ("boolean", value) if isinstance(value, bool) else value
