"""The recipes of ``docs/formats.md`` hold on data as it comes: each is run on hard rows, and on a table without any."""

import re
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from vv_exports.content.encoding import encoding_of
from vv_exports.domain.content_options import TABLE_FORMATS
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.tables import table_of
from vv_exports_tests.content.documents import RUN, answers_of, options

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"
BLOCKS = re.findall(r"^```(sql|python)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RECIPES = [pytest.param(*block, id=f"{number} {block[0]}") for number, block in enumerate(BLOCKS)]

TABLE = table_of(
    "segments",
    {
        "type": "object",
        "properties": {
            "views": {"type": "integer", "nullable": True},
            "text": {"type": "string"},
            "shot": {"type": "object", "properties": {"type": {"type": "string"}}},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
)
LATE = {"views": 2**53 + 1, "text": "", "shot": {"type": "close"}, "tags": ["a"]}
LONG = {**LATE, "text": 'x"é\n' * (3 << 18)}
ANSWERS = [*({"views": None} for _ in range(250)), *([LATE] * 50), LONG]
"""Nulls as far as readers look for types, integers that a double does not hold, and a line of 3 MB."""
EXPECTED = [("0001", answer["views"]) for answer in ANSWERS]


def write(folder, documents):
    for name in TABLE_FORMATS:
        encoding, form = encoding_of(options(name).format, TABLE), format_of(options(name))
        with form.open(folder / f"part{form.suffix}", encoding.schema) as writer:
            writer.write(encoding.rows(TABLE.batch(documents, RUN), answers_of(documents)))


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard")
    write(folder, [{"video_id": "0001", "start_time": 0.5, "metadata": answer} for answer in ANSWERS])
    return folder


def pairs(language, text):
    """Every row's ``video_id`` and ``views``, as a recipe gives them."""
    if language == "sql":
        return duckdb.sql(text).fetchall()
    names = {}
    exec(compile(text, PAGE.name, "exec"), names)
    frame = names["frame"]
    assert isinstance(frame, pl.DataFrame | pd.DataFrame)
    rows = frame.to_dicts() if isinstance(frame, pl.DataFrame) else frame.to_dict("records")
    assert {"video_id"} < set(frame.columns)  # also where there is no row
    found = [
        (row["video_id"], row["metadata.views"] if "metadata.views" in row else row["metadata"]["views"])
        for row in rows
    ]
    return [(video_id, None if pd.isna(views) else views) for video_id, views in found]


@pytest.mark.parametrize(("language", "text"), RECIPES)
def test_a_recipe_gives_every_row_with_its_values(language, text, hard, monkeypatch):
    monkeypatch.chdir(hard)
    found = pairs(language, text)
    assert found == EXPECTED
    assert {type(views) for _, views in found} == {int, type(None)}


@pytest.mark.parametrize(("language", "text"), RECIPES)
def test_a_recipe_reads_a_table_without_rows(language, text, tmp_path, monkeypatch):
    write(tmp_path, [])
    monkeypatch.chdir(tmp_path)
    assert pairs(language, text) == []


def test_every_format_and_reader_has_a_recipe():
    shown = {(reader, suffix) for _, text in BLOCKS for reader in readers(text) for suffix in suffixes(text)}
    wanted = {".parquet", ".jsonl.zst", ".json", ".csv"}
    assert shown == {(reader, suffix) for reader in ("duckdb", "polars", "pandas") for suffix in wanted}


def readers(text):
    return [name for name, mark in (("polars", "pl."), ("pandas", "pd."), ("duckdb", "select ")) if mark in text]


def suffixes(text):
    return re.findall(r"part(\.[a-z.]+)", text)
