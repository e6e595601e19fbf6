"""What only the CSV format promises."""

import csv

import pyarrow as pa
import pytest

from vv_exports.errors import SourceDataError
from vv_exports.formats.csv import Csv
from vv_exports_tests.formats.tables import HARD, PLAIN


def written(path, table):
    with Csv().open(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    return path


def test_only_what_needs_quotes_is_quoted(tmp_path):
    table = pa.table({"a": ["plain", "a,b", 'say "a"', "two\nlines", "é 007"], "n": [1, 2, 3, 4, 5]})
    assert written(tmp_path / "x", table).read_bytes() == (
        'a,n\r\nplain,1\r\n"a,b",2\r\n"say ""a""",3\r\n"two\nlines",4\r\né 007,5\r\n'.encode()
    )


def test_a_null_is_empty_and_an_empty_string_is_quoted(tmp_path):
    table = pa.table({"a": [None, ""], "b": ["", None]})
    assert written(tmp_path / "x", table).read_bytes() == b'a,b\r\n,""\r\n"",\r\n'


def test_a_row_whose_only_cell_is_null_is_not_lost(tmp_path):
    table = pa.table({"a": pa.array([None, "x", None], pa.string())})
    path = written(tmp_path / "x", table)
    assert pa.Table.from_batches(Csv().read(path, table.schema)).equals(table)


def test_typed_cells_have_one_form(tmp_path):
    cells = written(tmp_path / "x", HARD.slice(3, 1).drop_columns("text")).read_text().splitlines()[1]
    assert cells.startswith(",2.0,true,2026-11-23T09:30:00.000000Z,")


def test_nested_values_are_json_text_in_their_cell(tmp_path):
    with written(tmp_path / "x", PLAIN).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["shot"] for row in rows] == [
        '{"size":1,"span":{"from":0.5}}',
        '{"size":null,"span":{"from":2.0}}',
    ]


def test_no_rows_leave_the_header_alone(tmp_path):
    table = pa.table({'say "a"': pa.array([], pa.int64()), "b,c": pa.array([], pa.int64())})
    assert written(tmp_path / "x", table).read_bytes() == b'"say ""a""","b,c"\r\n'


def test_a_number_that_csv_readers_disagree_on_is_refused(tmp_path):
    with pytest.raises(SourceDataError, match="NaN or infinite"):
        written(tmp_path / "x", pa.table({"x": [float("nan")]}))
