"""What ``docs/tables.md`` shows, on the demo: its configuration is loaded, and each recipe gives what the log says.

The recipe for DuckDB needs an extension that there is for other versions than the tests use: the Python that
`VV_EXPORTS_TESTS_DUCKDB_DELTA` names runs it, where that is set.
"""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import polars as pl
import pytest
import yaml

from vv_exports.client import VVExports
from vv_exports.demo import write_demo
from vv_exports.reader import open_delivery

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
BLOCKS = re.findall(r"^```(yaml|python|sql)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RECIPES = [text for language, text in BLOCKS if language == "python"]
EXTENSION = """
import duckdb, duckdb_extension_delta, glob, os
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
(file,) = glob.glob(os.path.dirname(duckdb_extension_delta.__file__) + "/**/*.duckdb_extension", recursive=True)
connection.execute(f"load '{file}'")
print(connection.sql(%r).fetchall())
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo with the automation as the page has it."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.delenv("VV_EXPORTS_CONFIG", raising=False)
        patch.setenv("ICEBERG_CATALOG_URI", f"sqlite:///{folder}/catalog.db")
        patch.chdir(folder)
        write_demo(folder)
        config = yaml.safe_load((folder / "vv_exports.yaml").read_text())
        (shown,) = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
        config["indexes"]["idx_archive"]["automations"]["review-team"] |= shown["automations"]["review-team"]
        (folder / "vv_exports.yaml").write_text(yaml.safe_dump(config))
        client = VVExports()
        client.automations.run("idx_archive", "review-team")
        yield open_delivery(folder / "deliveries/exports/review-team"), client


@pytest.mark.slow
def test_recipes_give_what_the_log_says(demo, capsys):
    delivery, client = demo
    expected = {"run_131": delivery.table(run="run_131"), None: delivery.table(prompt="prm_highlights")}
    for text in RECIPES:
        names = {}
        exec(compile(text, PAGE.name, "exec"), names)
        rows = names["rows"] if isinstance(names["rows"], pl.DataFrame) else pl.from_arrow(names["rows"])
        wanted = pl.from_arrow(expected["run_131" if "run_131" in text else None])
        order = ["prompt_run_id", "segment_id"]
        assert rows.select(order).sort(order).equals(wanted.select(order).sort(order).cast(rows.select(order).schema))
    assert len(RECIPES) == 3
    assert "0 0" in capsys.readouterr().out
    named = {one.location for one in client.tables.list("idx_archive", "review-team")}
    assert "reviews.segments__prm_highlights" in named


if "VV_EXPORTS_TESTS_DUCKDB_DELTA" in os.environ:

    def test_duckdb_gives_what_the_log_says(demo):
        delivery, _ = demo
        (query,) = (text for language, text in BLOCKS if language == "sql")
        command = [os.environ["VV_EXPORTS_TESTS_DUCKDB_DELTA"], "-c", textwrap.dedent(EXTENSION % query)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs = pl.from_arrow(delivery.table(prompt="prm_highlights"))["prompt_run_id"].value_counts(sort=True)
        assert sorted(runs.rows()) == eval(said)
