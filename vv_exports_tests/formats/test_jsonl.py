"""What only the JSON Lines format promises."""

import json
from datetime import datetime

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings

from vv_exports.errors import SourceDataError
from vv_exports.formats.json_text import json_objects, json_text
from vv_exports.formats.jsonl import JsonLines
from vv_exports_tests.formats.tables import HARD, as_taken, columns_of_few_values, tables


def text(path, table):
    table = as_taken(JsonLines(), table)
    with JsonLines().open(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    with pa.input_stream(path, compression="zstd") as stream:
        return stream.read().decode()


def test_a_row_is_one_line_with_every_column_in_schema_order(tmp_path):
    lines = text(tmp_path / "x", HARD).split("\n")
    assert len(lines) == HARD.num_rows + 1
    assert lines[1] == (
        '{"id":-9223372036854775808,"text":null,"x":5e-324,"ok":null,"at":null,'
        '"shot":{"name":null,"Name":null,"spans":null,"size":null},"tags":[]}'
    )


def test_timestamps_have_one_width(tmp_path):
    times = [json.loads(line)["at"] for line in text(tmp_path / "x", HARD).splitlines() if '"id":7' in line]
    assert times == ["2026-01-01T00:00:00.000001Z"]
    assert '"at":"2026-11-23T09:30:00.000000Z"' in text(tmp_path / "x", HARD)


def test_a_float_stays_a_float_for_readers_that_look_at_the_text(tmp_path):
    numbers = [1.0, -0.0, 0.1, 1e15, 1e16, 1e308, 123456789.0]
    rows = text(tmp_path / "x", pa.table({"x": numbers})).splitlines()
    found = [json.loads(row)["x"] for row in rows]
    assert list(map(repr, found)) == list(map(repr, numbers))


def plain_json(value):
    """JSON as it is defined, a value at a time: a float is what Arrow casts it to, with a fraction."""
    if isinstance(value, float):
        number = pa.scalar(value).cast(pa.string()).as_py()
        return f"{number}.0" if number.removeprefix("-").isdecimal() else number
    if isinstance(value, datetime):
        return f'"{value.replace(tzinfo=None).isoformat(timespec="microseconds")}Z"'
    if isinstance(value, list):
        return "[" + ",".join(map(plain_json, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{plain_json(name)}:{plain_json(inner)}" for name, inner in value.items()) + "}"
    return msgspec.json.encode(value).decode()


@settings(max_examples=60, deadline=None)
@given(tables() | columns_of_few_values())
def test_columns_give_the_text_that_each_value_gives(table):
    for batch in table.to_batches():
        assert json_objects(batch, None).to_pylist() == list(map(plain_json, batch.to_pylist()))


def test_the_file_is_one_frame_because_common_readers_stop_after_the_first(tmp_path):
    table = pa.table({"n": pa.array(range(100_000), pa.int64())})
    assert text(tmp_path / "x", table).count("\n") == table.num_rows
    assert (tmp_path / "x").read_bytes().count(b"\x28\xb5\x2f\xfd") == 1


def test_every_character_alone_in_its_column_is_valid_json():
    for character in map(chr, [*range(128), 0x2028, 0x1F3AC]):
        assert json.loads(json_text(pa.array([character]))[0].as_py()) == character


@pytest.mark.parametrize(
    ("rows", "why"),
    [(['{"a":1}', None], "no JSON object"), (["[]"], "no JSON object"), (['{"a":\n1}'], "more than one line")],
)
def test_what_would_not_be_one_object_in_one_line_is_refused(rows, why, tmp_path):
    table = pa.table({"row": pa.array(rows, pa.string())})
    with pytest.raises(ValueError, match=why), JsonLines().open(tmp_path / "x", table.schema) as writer:
        writer.write(table.to_batches()[0])
    assert list(tmp_path.iterdir()) == []


def test_columns_are_refused_before_there_is_a_file(tmp_path):
    with pytest.raises(ValueError, match="one column, with each row's JSON object as text"):
        JsonLines().open(tmp_path / "x", HARD.schema)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_refused(number, tmp_path):
    table = pa.table({"nested": [{"x": [1.5, number]}]})
    with pytest.raises(SourceDataError, match="NaN or infinite"):
        text(tmp_path / "x", table)
    assert list(tmp_path.iterdir()) == []


def test_a_timestamp_that_has_no_text_is_refused(tmp_path):
    table = pa.table({"at": pa.array([2**62], pa.timestamp("us", "UTC"))})
    with pytest.raises(SourceDataError, match="years 1 to 9999"):
        text(tmp_path / "x", table)


def test_a_type_that_tables_do_not_use_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="float has no JSON text"):
        text(tmp_path / "x", pa.table({"x": pa.array([1.0], pa.float32())}))


def test_what_lies_below_a_null_is_not_written(tmp_path):
    below = pa.array(["hidden", "seen"])
    struct = pa.StructArray.from_arrays([below], ["a"], mask=pa.array([True, False]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), below, mask=pa.array([True, False]))
    table = pa.table({"struct": struct, "list": lists})
    assert text(tmp_path / "x", table) == ('{"struct":null,"list":null}\n{"struct":{"a":"seen"},"list":["seen"]}\n')
