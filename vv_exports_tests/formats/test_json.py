"""What only the JSON format promises."""

import io
import json

import pyarrow as pa
import pytest

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.json import JsonDocument, length_of_rows, rows_between_brackets
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


@pytest.mark.parametrize("rows", [0, 1, 10_000])
def test_the_rows_between_its_brackets_have_the_length_that_is_told_before_they_are_read(tmp_path, rows):
    content = written(tmp_path / "x", pa.table({"n": list(range(rows))})).read_bytes()
    between = b"".join(rows_between_brackets(io.BytesIO(content), len(content)))
    assert len(between) == length_of_rows(len(content))
    assert json.loads(b"[" + between + b"]") == json.loads(content)


@pytest.mark.parametrize("content", [b"", b"[]", b"[\n", b'{"n":1}\n', b'[\n{"n":1}', b'[\n{"n":1}\n]\n['])
def test_no_rows_are_taken_from_between_the_brackets_of_a_file_that_is_not_ours(content):
    with pytest.raises(DeliveredDataError, match="does not begin and end like one of ours"):
        list(rows_between_brackets(io.BytesIO(content), len(content)))
