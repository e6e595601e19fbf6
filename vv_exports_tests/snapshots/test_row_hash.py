"""The hash of rows is what docs/data-version.md says, whatever Arrow does with them."""

import hashlib
import struct
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.domain.json_text import encode_sorted
from vv_exports.snapshots import row_hash
from vv_exports.snapshots.row_hash import RowHash
from vv_exports_tests.archives import SCHEMA as SEGMENT_SCHEMA
from vv_exports_tests.archives import read_archived_run, write_run

INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("count", pa.int64()),
        ("flag", pa.bool_()),
        ("time", INSTANT),
        ("tags", pa.list_(pa.string())),
        ("object", pa.struct([("a", pa.float64()), ("list", pa.list_(pa.struct([("b", pa.bool_())])))])),
    ]
)
ROWS = [
    {
        "text": "é",
        "number": -0.0,
        "count": 2**63 - 1,
        "flag": True,
        "time": datetime(2026, 10, 1, 10, tzinfo=UTC),
        "tags": ["", "x", None],
        "object": {"a": 1.5, "list": [{"b": None}, None, {"b": False}]},
    },
    dict.fromkeys(SCHEMA.names),
    {
        "text": "",
        "number": 5.0,
        "count": -1,
        "flag": False,
        "time": None,
        "tags": [],
        "object": {"a": None, "list": None},
    },
]


def fixed(value):
    match value:
        case bool():
            return bytes([value])
        case datetime():
            return struct.pack("<q", (value - datetime(1970, 1, 1, tzinfo=UTC)) // value.resolution)
        case float():
            return struct.pack("<d", value)
    return struct.pack("<q", value)


def by_the_page(rows, schema):
    """As the documentation defines it, a value at a time."""
    streams = {}

    def add(place, values, kind):
        streams[(*place, "there")] = bytes(value is not None for value in values)
        there = [value for value in values if value is not None]
        if not there:
            return
        if pa.types.is_struct(kind):
            for field in kind:
                add((*place, "field", field.name), [value[field.name] for value in there], field.type)
        elif pa.types.is_list(kind):
            streams[(*place, "lengths")] = b"".join(struct.pack("<i", len(value)) for value in there)
            add((*place, "items"), [item for value in there for item in value], kind.value_type)
        elif pa.types.is_string(kind):
            texts = [value.encode() for value in there]
            streams[(*place, "lengths")] = b"".join(struct.pack("<i", len(text)) for text in texts)
            streams[(*place, "bytes")] = b"".join(texts)
        else:
            streams[(*place, "bytes")] = b"".join(fixed(value) for value in there)

    for field in schema:
        add((field.name,), [row[field.name] for row in rows], field.type)
    whole = hashlib.sha256(f"{len(rows)}\n".encode())
    for place in sorted(streams):
        whole.update("\0".join(place).encode() + b"\n" + hashlib.sha256(streams[place]).digest())
    return whole.hexdigest()


def hashed(*batches):
    found = RowHash()
    for batch in batches:
        found.update(batch)
    return found.digest().hex()


def batch_of(rows):
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def test_the_hash_is_the_one_that_it_was():
    assert hashed(batch_of(ROWS)) == "a28b890d38a1a12970d4ee5a4054fad41a75e68ad3bf1876e656bed1597361d9"
    assert hashed() == hashlib.sha256(b"0\n").hexdigest()


_VALUES = {
    "text": st.none() | st.text(max_size=3),
    "number": st.none() | st.floats(allow_nan=False),
    "count": st.none() | st.integers(-(2**63), 2**63 - 1),
    "flag": st.none() | st.booleans(),
    "time": st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "tags": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
    "object": st.none()
    | st.fixed_dictionaries(
        {
            "a": st.none() | st.floats(allow_nan=False),
            "list": st.none()
            | st.lists(st.none() | st.fixed_dictionaries({"b": st.none() | st.booleans()}), max_size=3),
        }
    ),
}


@given(rows=st.lists(st.fixed_dictionaries(_VALUES), max_size=8), data=st.data())
def test_the_hash_is_what_the_page_says_however_rows_lie_in_memory(rows, data):
    whole = batch_of(rows)
    wanted = by_the_page(rows, SCHEMA)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    slices = [whole.slice(start, end - start) for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    copies = [batch_of(one.to_pylist()) for one in slices]
    taken = pa.concat_batches([whole, whole]).take(pa.array(range(len(rows), 2 * len(rows)), pa.int64()))
    assert hashed(*slices) == wanted
    assert hashed(*copies) == wanted
    assert hashed(taken) == wanted


def test_a_machine_of_the_other_byte_order_turns_bytes(monkeypatch):
    monkeypatch.setattr(row_hash.sys, "byteorder", "big")
    assert bytes(row_hash._fixed(pa.array([1, 258], pa.int64()), "q")) == struct.pack(">qq", 1, 258)


@pytest.mark.parametrize(
    "change", [{"number": 0.0}, {"text": None}, {"tags": []}, {"flag": None}, {"object": None}, {"count": 1}]
)
def test_every_value_counts(change):
    assert hashed(batch_of([{**ROWS[0], **change}])) != hashed(batch_of(ROWS[:1]))


def test_a_data_version_is_made_of_schemas_and_tables_as_the_page_says(tmp_path):
    write_run(
        tmp_path / "archive",
        video_level_schema={"type": "object"},
        videos=[{"video_id": "vid_1", "metadata": {"b": 1, "a": 5.0}}],
    )
    (tmp_path / "spool").mkdir()
    found = read_archived_run(tmp_path / "archive", tmp_path / "spool")
    whole = hashlib.sha256(encode_sorted([3, SEGMENT_SCHEMA, {"type": "object"}]))
    for table in ("segments", "failures", "videos"):
        schema, rows = pa.schema([]), []
        if table in found.files:
            (file,) = found.files[table]
            parquet = pq.read_table(file.path).drop_columns(["index_id", "prompt_id", "prompt_run_id", "metadata"])
            answers = pq.read_table(file.answers.path).column("metadata")
            parquet = parquet.append_column("answer", answers)
            schema, rows = parquet.schema, parquet.to_pylist()
        whole.update(f"\n{table} {by_the_page(rows, schema)}".encode())
    assert found.data_version == whole.hexdigest()
