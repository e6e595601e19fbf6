"""CSV of ours in other programs: LibreOffice, the csv module, DuckDB, pandas."""

import csv
import io
import shutil
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import duckdb
import pandas as pd
import pytest

from vv_exports.content.encoding import encoding_of
from vv_exports.domain.content_options import ContentOptions
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.tables import table_of
from vv_exports_tests.content.documents import RUN, options

SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string"},
        "count": {"type": "integer"},
        "score": {"type": "number"},
        "shot": {"type": "object", "properties": {"type": {"type": "string"}, "a.b": {"type": "string"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
TABLE = table_of("segments", SCHEMA)
DOCUMENTS = [
    {"video_id": "0001", "segment_id": "1e5", "start_time": 1.5, "metadata": {"mood": text, "count": count, **more}}
    for text, count, more in [
        ("=1+1", 2**53 + 1, {"score": -0.5}),
        ('=HYPERLINK("http://127.0.0.1/","x")', 1, {"shot": {"type": "close; or, not", "a.b": "é “ü” 🎬"}}),
        ("-2+3", 2, {"tags": ["=1", "b"]}),
        ("@SUM(1)", 3, {}),
        ("two\nlines; \"quoted\", é", 4, {}),
        ("", 5, {"shot": {"type": ""}}),
    ]
]  # fmt: skip
TEXTS = [one["metadata"]["mood"] for one in DOCUMENTS]
SHOWN = ["'" + text if text[:1] in {"=", "-", "@"} else text for text in TEXTS]


def written(path: Path, chosen: ContentOptions) -> Path:
    encoding = encoding_of(chosen.format, TABLE)
    with format_of(chosen).open(path, encoding.schema) as writer:
        writer.write(encoding.rows(TABLE.batch(DOCUMENTS, RUN), None))
    return path


def names() -> list[str]:
    return encoding_of(options("csv").format, TABLE).schema.names


def test_the_csv_module_reads_names_and_values(tmp_path):
    with written(tmp_path / "x.csv", options("csv")).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == names()
    assert [row["metadata.mood"] for row in rows] == SHOWN
    assert [row["metadata.count"] for row in rows] == [str(one["metadata"]["count"]) for one in DOCUMENTS]
    assert rows[1]['metadata.shot."a.b"'] == "é “ü” 🎬"
    assert rows[2]["metadata.tags"] == '["=1","b"]'
    assert {row["video_id"] for row in rows} == {"0001"}


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_duckdb_reads_names_and_values(delimiter, tmp_path):
    path = written(tmp_path / "x.csv", options("csv", delimiter=delimiter, excel=delimiter == ";"))
    query = f"from read_csv('{path}', all_varchar = true, delim = '{delimiter}', allow_quoted_nulls = false)"
    found = duckdb.sql(query)
    assert found.columns == names()
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    assert [row["metadata.mood"] for row in rows] == SHOWN
    assert [row["metadata.shot.type"] for row in rows] == [None, "close; or, not", None, None, None, ""]
    assert {row["segment_id"] for row in rows} == {"1e5"}


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_pandas_reads_names_and_values(delimiter, tmp_path):
    path = written(tmp_path / "x.csv", options("csv", delimiter=delimiter, excel=delimiter == ";"))
    frame = pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    assert list(frame.columns) == names()
    assert list(frame["metadata.mood"]) == SHOWN
    assert set(frame["segment_id"]) == {"1e5"}


OFFICE = shutil.which("soffice")


def converted(path: Path, delimiter: str) -> tuple[list[dict[str, str]], list[str]]:
    """The cells that LibreOffice has of a CSV file, and the formulas among them."""
    # Field separator, text delimiter, UTF-8, from line 1, no column formats, language, do not take quoted fields for
    # text, detect special numbers: what its dialog suggests.
    how = f"CSV:{ord(delimiter)},34,76,1,,0,false,true,false"
    subprocess.run(
        [OFFICE, f"-env:UserInstallation=file://{path.parent}/profile", "--headless", f"--infilter={how}",
         "--convert-to", "xlsx", "--outdir", str(path.parent), str(path)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    space = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(path.with_suffix(".xlsx")) as book:
        sheet = ET.parse(io.BytesIO(book.read("xl/worksheets/sheet1.xml")))
        strings = ET.parse(io.BytesIO(book.read("xl/sharedStrings.xml")))
    texts = ["".join(t.text or "" for t in item.iterfind(".//m:t", space)) for item in strings.iterfind("m:si", space)]
    rows = []
    for row in sheet.iterfind(".//m:row", space):
        cells = {}
        for cell in row.iterfind("m:c", space):
            value = cell.findtext("m:v", "", space)
            cells[cell.get("r").rstrip("0123456789")] = texts[int(value)] if cell.get("t") == "s" else value
        rows.append(cells)
    header = rows[0]
    return [{header[at]: value for at, value in row.items()} for row in rows], [
        formula.text for formula in sheet.iterfind(".//m:f", space)
    ]


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="soffice is not installed (Debian: libreoffice-calc)")
@pytest.mark.parametrize(("delimiter", "excel"), [(",", False), (";", True)], ids=["default", "for Excel"])
def test_libreoffice_shows_columns_and_values_and_no_formula(delimiter, excel, tmp_path):
    path = written(tmp_path / "x.csv", options("csv", delimiter=delimiter, excel=excel))
    rows, formulas = converted(path, delimiter)
    assert formulas == []
    assert list(rows[0].values()) == names()
    assert [row.get("metadata.mood", "") for row in rows[1:]] == SHOWN
    assert float(rows[1]["metadata.score"]) == -0.5
    assert rows[2]['metadata.shot."a.b"'] == "é “ü” 🎬"
    assert rows[3]["metadata.tags"] == '["=1","b"]'


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="soffice is not installed (Debian: libreoffice-calc)")
def test_libreoffice_would_take_text_that_is_kept_as_it_is_for_formulas(tmp_path):
    path = written(tmp_path / "x.csv", options("csv", formulas="keep"))
    _, formulas = converted(path, ",")
    assert "1+1" in formulas
