"""Results that readers of other makes took wrongly: each a line of text that stands alone among good ones."""

import json
from typing import Any

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "mood": {"type": "string", "enum": ["calm", "tense"]},
        "shot": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "people": {"type": ["integer", "null"]},
                "brightness": {"type": "number"},
            },
        },
        "brands": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "seconds": {"type": "number"},
                    "confidence": {"type": "number"},
                    "logo": {"type": "boolean"},
                },
            },
        },
        "objects": {"type": "array", "items": {"type": "string"}},
        "safe": {"type": "boolean"},
        "rate": {"type": ["number", "null"]},
        "tags": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
        "free": {"type": "object"},
        "opt": {"type": ["object", "null"], "properties": {"n": {"type": ["integer", "null"]}}},
    },
}
_STRICT = {
    "rate": {"type": "number"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "opt": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
SCHEMAS: dict[str, Any] = {
    "with a place kept as JSON": SCHEMA,
    "nothing kept as JSON, nothing nullable": {
        **SCHEMA,
        "properties": {name: place for name, place in {**SCHEMA["properties"], **_STRICT}.items() if name != "free"},
    },
    "none": {},
}
DEL = object()
"""For a property that is not there."""


def result(number: int, **metadata: Any) -> dict[str, Any]:
    """A good one."""
    return {
        "segment_id": f"seg_{number:08}",
        "run_id": "run_1",
        "prompt_id": "prm",
        "video_id": "vid_000000",
        "video_name": "Broadcast 0",
        "executed_at": "2026-10-01T10:00:00Z",
        "start_time": number * 8.0,
        "end_time": number * 8.0 + 8,
        "gcs_uri": f"gs://archive/videos/seg_{number:08}.mp4",
        "field_extraction_succeeded": True,
        "image_embedding_succeeded": None,
        "metadata_text": "a text",
        "metadata": {
            "summary": "a wide view",
            "mood": "calm",
            "shot": {"type": "wide", "people": None, "brightness": 0.25},
            "brands": [{"name": "A", "seconds": 1.5, "confidence": 0.5, "logo": True}],
            "objects": ["boat", "sea"],
            "safe": True,
            **metadata,
        },
    }


def line(**changes: Any) -> str:
    """The hostile one's place: changes are of its record where that has the name, else of its metadata."""
    one = result(7)
    for name, value in changes.items():
        where = one if name in one else one["metadata"]
        if value is DEL:
            where.pop(name, None)
        else:
            where[name] = value
    return json.dumps(one)


def raw(text: str, k: str = "rate") -> str:
    """With this text as a value."""
    return line(**{k: "@@"}).replace('"@@"', text)


def volatile(text: str) -> str:
    """With this text as fields of the record."""
    return line().replace('"video_id"', f'{text}, "video_id"', 1)


HOSTILE: dict[str, str | bytes] = {
    "plain": line(),
    "rate absent/null": line(rate=None),
    "precise": raw("0.12345678901234567890123"),
    "17 digits": raw("0.30000000000000004"),
    "2^53+1": raw("9007199254740993"),
    "int for float": raw("5"),
    "huge": raw("1e400"),
    "tiny": raw("1e-400"),
    "subnormal": raw("4.9e-324"),
    "1e300": raw("1e300"),
    "-0.0": raw("-0.0"),
    "-0": raw("-0"),
    "true for number": raw("true"),
    "text for number": raw('"5"'),
    "NaN": raw("NaN"),
    "Infinity": raw("-Infinity"),
    "spaced exponent": raw("1E+5"),
    "5000 digits": raw("1" * 5000),
    "5.0 for integer": line(shot={"people": 5.0}),
    "-0.0 for integer": raw('{"people": -0.0}', k="shot"),
    "-0 for integer": raw('{"people": -0}', k="shot"),
    "2^63": line(shot={"people": 2**63}),
    "2^64": line(shot={"people": 2**64}),
    "true for integer": line(shot={"people": True}),
    "1e3 for integer": raw('{"people": 1e3}', k="shot"),
    "people absent": line(shot={"type": "wide"}),
    "shot empty": line(shot={}),
    "shot null": line(shot=None),
    "shot list": line(shot=[1]),
    "shot absent": line(shot=DEL),
    "null for text": line(mood=None),
    "number for text": line(mood=5),
    "undeclared": line(extra=[1, {"a": None}]),
    "undeclared deep": line(shot={"zoom": 2}),
    "record undeclared": line(zzz=1),
    "volatile": volatile('"segment_uri": "x", "marker": {"a": [1]}'),
    "duplicate key": line().replace('"safe": true', '"safe": true, "safe": false'),
    "duplicate, first wrong": line().replace('"safe": true', '"safe": "x", "safe": false'),
    "duplicate object": line().replace('"safe": true', '"safe": true, "shot": {"type": "z"}'),
    "lone surrogate": line(mood="\ud800"),
    "surrogate in key": line(**{"\ud800": 1}),
    "nul": line(mood="a\0b"),
    "emoji": json.dumps(json.loads(line(mood="😀 ﷽")), ensure_ascii=False),
    "escaped key": line().replace('"safe"', '"s\\u0061fe"'),
    "the word null": line(summary='say "null" or ": null, "people": null'),
    "backslash null": line().replace("Broadcast", "Broad\\null"),
    "key in text": line(summary='x","people": null,"y'),
    "list with null": line(tags=["a", None]),
    "tags null": line(tags=None),
    "tags empty": line(tags=[]),
    "objects null item": line(objects=["a", None]),
    "objects number": line(objects=["a", 5]),
    "brands null": line(brands=[None]),
    "brands absent": line(brands=DEL),
    "brand without name": line(brands=[{"logo": False}, {}]),
    "brands object": line(brands={"name": "x"}),
    "free": line(free={"b": 1, "a": [1.0, None, 10**30]}),
    "free null": line(free=None),
    "free text": line(free="x"),
    "opt null": line(opt=None),
    "opt empty": line(opt={}),
    "opt n null": line(opt={"n": None}),
    "opt n text": line(opt={"n": "3"}),
    "time offset": line(executed_at="2026-10-01T12:00:00.5+02:00"),
    "time lower": line(executed_at="2026-10-01t12:00:00z"),
    "time date": line(executed_at="2026-10-01"),
    "time nanos": line(executed_at="2026-10-01T10:00:00.123456789Z"),
    "time null": line(executed_at=None),
    "time number": line(executed_at=5),
    "other run": line(run_id="run_999"),
    "run null": line(run_id=None),
    "run number": line(run_id=5),
    "no segment id": line(segment_id=DEL),
    "empty segment id": line(segment_id=""),
    "segment id number": line(segment_id=7),
    "metadata null": line(metadata=None),
    "metadata list": line(metadata=[]),
    "metadata absent": line(metadata=DEL),
    "metadata_text number": line(metadata_text=5),
    "metadata_text absent": line(metadata_text=DEL),
    "two values": line() + " " + line(),
    "two values tight": line() + line(),
    "over two lines": line().replace('"metadata": ', '"metadata":\n'),
    "two lines two values": line().replace('"metadata": ', '"metadata":\n') + "\n" + line() + line(),
    "blank line": line() + "\n\n",
    "crlf": line() + "\r",
    "spaces": "  " + line() + "  ",
    "bom": "\ufeff" + line(),
    "list": "[1]",
    "null": "null",
    "cut": line()[:-5],
    "invalid utf8": line(mood="QQ").encode().replace(b"QQ", b"\xff\xfe"),
    "overlong": line(mood="QQ").encode().replace(b"QQ", b"\xc0\x80"),
    "surrogate bytes": line(mood="QQ").encode().replace(b"QQ", b"\xed\xa0\x80"),
    "tab in text": line(mood="QQ").replace("QQ", "\t"),
    "comment": line().replace('"safe"', '/*x*/"safe"'),
    "trailing comma": line().replace('"safe": true', '"safe": true,'),
    "deep": line(free=json.loads("[" * 900 + "]" * 900)),
    "leading zero": raw("007"),
    "plus": raw("+1"),
    "dot": raw(".5"),
    "dot end": raw("5."),
    "single quotes": line().replace('"safe"', "'safe'"),
    "video_id null": line(video_id=None),
    "start text": line(start_time="5"),
    "all optional": line(rate=1.25, tags=["a"], free={}, opt={"n": 1}),
    "volatile, a number nobody can read": volatile('"marker": {"a": 1e99999999999999999999}'),
    "volatile, no utf8": volatile('"gif_uri": "QQ"').encode().replace(b"QQ", b"\xff"),
    "volatile, surrogate": volatile('"gif_uri": "\\ud800"'),
    "zero times a power nobody can read": raw("0e99999999999999999999"),
}
