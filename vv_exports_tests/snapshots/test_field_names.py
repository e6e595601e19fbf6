"""Names of fields: what has a column is held by every reader, and what has none is found in ``rescued``."""

import json
from datetime import UTC, datetime

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from vv_exports.domain.prompt_runs import PromptRun, RunStatus
from vv_exports.snapshots.tables import table_of

RUN = PromptRun("run_1", "idx", "prm", "Mood", RunStatus.COMPLETED, datetime(2026, 10, 1, tzinfo=UTC), {})
TEXT = {"type": "string"}
HELD = [
    *(
        " ",
        "   ",
        "a ",
        ".",
        "a.b",
        "a..b",
        "/",
        "*",
        "a[0]",
        'a"b',
        "a'b",
        "a`b",
        "a,b=c;{}()",
        "\\",
        "%20",
        "0",
        "$a",
    ),
    *(
        "list",
        "element",
        "key",
        "item",
        "null",
        "rowid",
        "select",
        "field_1",
        "_",
        "\u00a0",
        "\u200b",
        "\u202e",
        "\u0085",
    ),
    *("\u202e", "\u0085", "\ufeffa", "\ue000", "😀", "é", "ß", "ı", "名前", "x" * 70_000),
]
NOT_HELD = ["", "A.B", "É", "e\u0301", "ẞ", "SELECT", "a\0", "a\nb", "\x7f", "\ud800"]


def _readers(path):
    yield "pyarrow", pq.read_table(path)["metadata"][0].as_py()
    yield "pyarrow dataset", ds.dataset(path).to_table()["metadata"][0].as_py()
    yield "pandas", pd.read_parquet(path)["metadata"][0]
    yield "pandas, Arrow", pd.read_parquet(path, dtype_backend="pyarrow")["metadata"][0]
    yield "Polars", pl.read_parquet(path)["metadata"][0]
    # Not struct.field: it takes "*" for all fields.
    yield "Polars, unnested", pl.read_parquet(path)["metadata"].struct.unnest().row(0, named=True)
    rows = duckdb.read_parquet(str(path))
    yield "DuckDB", rows.fetchall()[0][rows.columns.index("metadata")]
    unnested = rows.project("unnest(metadata)")
    yield "DuckDB, unnested", dict(zip(unnested.columns, unnested.fetchall()[0], strict=True))
    yield "DuckDB to Arrow", rows.to_arrow_table()["metadata"][0].as_py()


def test_every_reader_has_every_column_by_its_name_and_nothing_is_lost(tmp_path):
    names = [*HELD, *NOT_HELD]
    document = {"metadata": {name: f"value {number}" for number, name in enumerate(names)}}
    table = table_of("segments", {"properties": dict.fromkeys(names, TEXT)})
    batch = table.batch([document], RUN)
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "part.parquet")
    expected = {name: document["metadata"][name] for name in HELD}
    for reader, found in _readers(tmp_path / "part.parquet"):
        assert found == expected, reader
    rescued = json.loads(batch["rescued"][0].as_py())
    assert rescued == {f"/metadata/{name}": document["metadata"][name] for name in NOT_HELD}
    assert table.documents(batch)[0]["metadata"] == document["metadata"]


def test_columns_by_their_names_in_any_case_are_found_by_a_reader_that_ignores_it(tmp_path):
    table = table_of("segments", {"properties": dict.fromkeys(["Name", "name", "NAME"], TEXT)})
    batch = table.batch([{"metadata": {"name": "b", "Name": "a"}}], RUN)
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "part.parquet")
    for spelling in ("Name", "name", "NAME"):
        found = duckdb.sql(f"select metadata.{spelling} from read_parquet('{tmp_path}/part.parquet')").fetchall()
        assert found == [("a",)]
