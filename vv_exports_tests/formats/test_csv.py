"""What only the CSV format promises."""

import csv
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.domain.content_options import DELIMITERS
from vv_exports.errors import DeliveredDataError, SourceDataError
from vv_exports.formats.csv import Csv
from vv_exports.formats.json_text import json_text
from vv_exports_tests.formats.tables import HARD, PLAIN, as_taken, columns_of_few_values

CSV = Csv()


def written(path, table, form=CSV):
    table = as_taken(form, table)
    with form.open(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    return path


def test_only_what_needs_quotes_is_quoted(tmp_path):
    table = pa.table({"a": ["plain", "a,b", 'say "a"', "two\nlines", "é 007"], "n": [1, 2, 3, 4, 5]})
    assert written(tmp_path / "x", table).read_bytes() == (
        'a,n\r\nplain,1\r\n"a,b",2\r\n"say ""a""",3\r\n"two\nlines",4\r\né 007,5\r\n'.encode()
    )


def plain_cell(value, form):
    """A cell as it is defined, a value at a time."""
    if value is None:
        return ""
    if isinstance(value, float):
        return json_text(pa.array([value]))[0].as_py()
    if form.formulas == "escape" and re.match(r"'*[=+\-@\t\r]", value):
        value = f"'{value}"
    if value and not set(value) & {form.delimiter, '"', "\r", "\n"}:
        return value
    return '"' + value.replace('"', '""') + '"'


@settings(max_examples=60, deadline=None)
@given(columns_of_few_values(), st.sampled_from([Csv(), Csv(delimiter=";"), Csv(delimiter="\t", formulas="keep")]))
def test_columns_give_the_cells_that_each_value_gives(table, form):
    (batch,) = table.to_batches()
    rows = [form.delimiter.join(plain_cell(value, form) for value in row.values()) for row in batch.to_pylist()]
    assert bytes(form.records(batch)).decode() == "\r\n".join(rows)


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


def cells(path, *texts, form=CSV):
    """What one column of text has in its file, after the header."""
    written(path, pa.table({"a": pa.array(texts, pa.string())}), form)
    return path.read_bytes().decode().removesuffix("\r\n").split("\r\n")[1:]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@sum", "\tx", "'=a", "''@"])
def test_a_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(formula, tmp_path):
    assert cells(tmp_path / "x", formula) == [f"'{formula}"]
    assert cells(tmp_path / "y", formula, form=Csv(formulas="keep")) == [formula]


def test_a_carriage_return_at_the_beginning_is_escaped_too(tmp_path):
    assert cells(tmp_path / "x", "\rx") == ['"\'\rx"']


@pytest.mark.parametrize("text", ["'", "'a", " =1", "a=1", "1-2", "[-1]", "007"])
def test_other_text_is_left_alone(text, tmp_path):
    assert cells(tmp_path / "x", text) == [text]


def test_numbers_and_json_are_no_formulas(tmp_path):
    table = pa.table({"n": [-1], "x": [-0.5], "list": [["=1"]]})
    assert written(tmp_path / "x", table).read_bytes() == b'n,x,list\r\n-1,-0.5,"[""=1""]"\r\n'


def test_a_header_that_looks_like_a_formula_is_escaped(tmp_path):
    table = pa.table({"=a": [1], "'=a": [2]})
    path = written(tmp_path / "x", table)
    assert path.read_bytes() == b"'=a,''=a\r\n1,2\r\n"
    assert pa.Table.from_batches(Csv().read(path, table.schema)).equals(table)


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_what_is_quoted(delimiter, tmp_path):
    form = Csv(delimiter=delimiter)
    quoted = {text: f'"{text}"' if text[1] == delimiter else text for text in ("a,b", "a;b", "a\tb", "a|b", "a\\b")}
    assert cells(tmp_path / "x", *quoted, form=form) == list(quoted.values())


def test_a_file_for_excel_begins_with_a_byte_order_mark(tmp_path):
    table = pa.table({"a": ["é"], "b": [1.5]})
    path = written(tmp_path / "x", table, Csv(delimiter=";", excel=True))
    assert path.read_bytes() == "\ufeffa;b\r\né;1.5\r\n".encode()
    with pytest.raises(DeliveredDataError, match="Deliver again"):
        list(Csv(delimiter=";").read(path, table.schema))


def test_nested_columns_are_refused_before_there_is_a_file(tmp_path):
    with pytest.raises(ValueError, match="flat columns, and 'shot' is struct"):
        Csv().open(tmp_path / "x", PLAIN.schema)
    assert list(tmp_path.iterdir()) == []


def test_other_columns_than_expected_are_refused(tmp_path):
    table = pa.table({"a": [1], "b": [2]})
    with pytest.raises(DeliveredDataError, match="Deliver again"):
        list(Csv().read(written(tmp_path / "x", table), table.drop_columns("b").schema))
