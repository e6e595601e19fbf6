"""Tables for the format tests: random nested ones, and one whose values are known to get lost elsewhere."""

from datetime import UTC, datetime
from itertools import pairwise

import pyarrow as pa
from hypothesis import strategies as st

from vv_exports.domain.content_options import (
    COMPRESSIONS,
    VIDEO_FORMATS,
    ContentOptions,
    FormatOptions,
    VideoTiming,
)
from vv_exports.formats.base import Format
from vv_exports.formats.csv import JSON_CELLS
from vv_exports.formats.json_text import json_objects, json_text
from vv_exports.formats.otio import Otio
from vv_exports.formats.registry import format_of
from vv_exports.formats.videos import CUES, Video
from vv_exports.formats.webvtt import WebVtt

EVERY_FORMAT: dict[str, Format] = {
    f"{name} {compression}": format_of(ContentOptions(FormatOptions(name), compression=compression))
    for name, those in COMPRESSIONS.items()
    for compression in those
}
TIMING = VideoTiming("25", "01:00:00:00")
VIDEO = Video("vid", "A video", {}, TIMING)
EVERY_FORMAT |= {
    "webvtt none": WebVtt("captions", VIDEO),
    "webvtt of metadata": WebVtt("metadata", VIDEO),
    "markers none": Otio(VIDEO),
    "csv for Excel": format_of(ContentOptions(FormatOptions("csv", delimiter=";", excel=True))),
    "csv with tabs and formulas": format_of(ContentOptions(FormatOptions("csv", delimiter="\t", formulas="keep"))),
}


def as_taken(fmt: Format, table: pa.Table) -> pa.Table:
    """The table in the columns that a format takes: text in the place of what it cannot hold."""
    if fmt.name == "parquet":
        return table
    if fmt.name in VIDEO_FORMATS:
        return cues(fmt, table)
    batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    if fmt.name != "csv":
        return pa.table({"row": pa.chunked_array([json_objects(batch, None) for batch in batches])})
    fields = [
        pa.field(field.name, pa.string(), metadata=JSON_CELLS) if pa.types.is_nested(field.type) else field
        for field in table.schema
    ]
    columns = [
        [json_text(column) if pa.types.is_nested(column.type) else column for column in batch.columns]
        for batch in batches
    ]
    chunked = [pa.chunked_array(list(parts)) for parts in zip(*columns, strict=True)]
    return pa.Table.from_arrays(chunked, schema=pa.schema(fields))


def cues(fmt: Format, table: pa.Table) -> pa.Table:
    """A cue for each row, with what a format has a place for: its JSON text, as the text or the document."""
    texts = as_taken(EVERY_FORMAT["jsonl none"], table).column(0).to_pylist()
    documents = {} if fmt == EVERY_FORMAT["webvtt none"] else {"document": True}
    captions = {} if fmt == EVERY_FORMAT["webvtt of metadata"] else {"text": True}
    held = documents | captions | ({"note": True} if fmt.name == "markers" else {})
    rows = [
        {"segment_id": f"seg {n}", "start_time": n / 25, "end_time": (n + 1) / 25, **dict.fromkeys(held, text)}
        for n, text in enumerate(texts)
    ]
    if fmt.name == "markers":  # the name of one is in one line
        rows = [{**row, "text": f"row {n}"} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(rows, schema=CUES)


TIME = pa.timestamp("us", "UTC")
SCALARS = {
    pa.string(): st.text() | st.sampled_from(["", "null", "NaN", "NA", "1", "1.0", "true", "\r\n", ",", '"', "\x00"]),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.bool_(): st.booleans(),
    TIME: st.datetimes(timezones=st.just(UTC)),
}
ALIKE = {
    pa.string(): st.sampled_from(
        ["", "plain", "a-b", "'", "'=1", "=", "-1", "\r", "\n", "\x1f", "\x7f", "\\", ",", ";", "é"]
    ),
    pa.float64(): st.sampled_from([0.0, -0.0, 3.0, 9999999999.0, 1e10, -1e20, 0.1, 1e-7, 5e-324, 123456789012345.0]),
}
"""Values with which a column as a whole is one that writers treat in a way of its own."""
NAMES = st.text(min_size=1, max_size=5) | st.sampled_from(["a.b", "a b", 'say "a"', "A", "a", "ä", "{", "[", "x,y"])


def _fields(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[list[pa.Field]]:
    return st.lists(st.builds(pa.field, NAMES, types), min_size=1, max_size=4, unique_by=lambda field: field.name)


def _nested(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.builds(pa.list_, types) | st.builds(pa.struct, _fields(types))


TYPES = st.recursive(st.sampled_from(list(SCALARS)), _nested, max_leaves=6)


def values(kind: pa.DataType) -> st.SearchStrategy:
    """Python values of a type, None among them."""
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    if pa.types.is_list(kind):
        return st.none() | st.lists(values(kind.value_type), max_size=3)
    return st.none() | SCALARS[kind]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Up to 12 rows of up to 4 columns."""
    schema = pa.schema(draw(_fields(TYPES)))
    rows = draw(st.lists(st.fixed_dictionaries({f.name: values(f.type) for f in schema}), max_size=12))
    return pa.Table.from_pylist(rows, schema)


@st.composite
def columns_of_few_values(draw: st.DrawFn) -> pa.Table:
    """Up to 12 rows of 5 flat columns, each of a few values, null among them or nothing else, and perhaps cut out of
    more rows."""
    count = draw(st.integers(1, 12))
    columns = {}
    for number, kind in enumerate(draw(st.permutations([pa.string(), pa.string(), pa.string(), *ALIKE]))):
        few = draw(st.lists(st.none() | ALIKE[kind], min_size=1, max_size=3))
        values = draw(st.lists(st.sampled_from(few), min_size=count, max_size=count))
        columns[f"c{number}"] = pa.array(values, kind)
    return pa.table(columns).slice(draw(st.integers(0, count - 1)))


def split(table: pa.Table, places: list[int]) -> list[pa.RecordBatch]:
    """The table's rows in batches that end at the places."""
    ends = sorted({0, table.num_rows, *(place for place in places if place < table.num_rows)})
    return [
        pa.RecordBatch.from_pylist(table.slice(start, end - start).to_pylist(), table.schema)
        for start, end in pairwise(ends)
    ]


SPAN = pa.struct([("label", pa.string()), ("score", pa.float64())])
SHOT = pa.struct([("name", pa.string()), ("Name", pa.string()), ("spans", pa.list_(SPAN)), ("size", pa.int64())])
HARD = pa.table(
    {
        "id": pa.array([0, -(2**63), 2**63 - 1, None, 7], pa.int64()),
        "text": pa.array(["", None, "null", 'a "b", c\r\nd\ne\rf\x00\x0b\\ \U0001f3ac \u2028é', "NaN"]),
        "x": pa.array([-0.0, 5e-324, 1e308, 2.0, None]),
        "ok": pa.array([True, None, False, True, None]),
        "at": pa.array(
            [
                datetime(1, 1, 1, tzinfo=UTC),
                None,
                datetime.max.replace(tzinfo=UTC),
                datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
                datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            ],
            TIME,
        ),
        "shot": pa.array(
            [
                None,
                {"name": None, "Name": None, "spans": None, "size": None},
                {"name": "a", "Name": "A", "spans": [], "size": 2**53 + 1},
                {"name": '"\n\\', "Name": "", "spans": [None, {"label": "𝄞", "score": 1.0}], "size": None},
                None,
            ],
            SHOT,
        ),
        "tags": pa.array([None, [], [None], ["", "x,y", "\t"], ["NA", "1", "007"]]),
    }
)
"""Values that some writer or reader of JSON or CSV is known to change."""

PLAIN = pa.table(
    {
        "id": pa.array([2**53 + 1, 2], pa.int64()),
        "text": pa.array(['a "b",\r\nc', ""]),
        "shot": pa.array([{"size": 1, "span": {"from": 0.5}}, {"size": None, "span": {"from": 2.0}}]),
        "tags": pa.array([["é", "x,y"], []]),
    }
)
"""A table that every program should read, with no value that needs one of our conventions."""
