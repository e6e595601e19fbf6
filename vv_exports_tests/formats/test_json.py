"""What only the JSON format promises."""

import json

import pyarrow as pa
import pytest

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.json import JsonDocument
from vv_exports_tests.formats.tables import HARD, PLAIN, as_taken

ROWS = pa.schema([("row", pa.string())])


def written(path, table):
    table = as_taken(JsonDocument(), table)
    with JsonDocument().open(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    return path


def test_a_document_is_one_array_with_a_row_on_each_line(tmp_path):
    table = pa.table({"n": [1, 2], "x": [0.5, None]})
    assert written(tmp_path / "x", table).read_bytes() == b'[\n{"n":1,"x":0.5},\n{"n":2,"x":null}\n]\n'


def test_any_json_parser_reads_it(tmp_path):
    assert json.loads(written(tmp_path / "x", PLAIN).read_text()) == PLAIN.to_pylist()


def test_a_document_of_many_blocks_is_still_one_array(tmp_path):
    table = pa.table({"n": list(range(10_000))})
    assert json.loads(written(tmp_path / "x", table).read_text()) == table.to_pylist()


def test_no_rows_are_an_empty_array(tmp_path):
    assert json.loads(written(tmp_path / "x", HARD.slice(0, 0)).read_text()) == []


def test_a_document_without_its_end_is_refused_even_when_every_row_is_whole(tmp_path):
    path = written(tmp_path / "x", PLAIN)
    path.write_bytes(path.read_bytes().removesuffix(b"]\n"))
    with pytest.raises(DeliveredDataError, match="has no end"):
        list(JsonDocument().read(path, ROWS))


def test_json_in_another_layout_is_refused(tmp_path):
    (tmp_path / "x").write_text('[{"n": 1}]\n')
    with pytest.raises(DeliveredDataError, match="does not begin like a json file"):
        list(JsonDocument().read(tmp_path / "x", ROWS))
