"""Names of folders in a collection: each reader of Hive-style folders decodes them, and none is ever renamed."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest

from vv_exports.delivery import checkpoints
from vv_exports.delivery import deliver as delivering
from vv_exports.delivery.deliver import deliver
from vv_exports.domain.destinations import run_folder
from vv_exports.domain.names import path_segment, storage_segment
from vv_exports_tests.delivery.conftest import TEAM

ALPHABETS = {"Japanese": "映", "emoji": "🎬", "combining": "e\u0301", "mixed": "a映e\u0301🎬"}


def _around_the_cut(alphabet: str) -> list[str]:
    """Ids that are cut at each place inside a character; not longer than names of an archive's folders may be."""
    ids = [f"{'x' * pad}{alphabet * 40}" for pad in range(13)]
    return [next(one[:n] for n in range(len(one), 0, -1) if len(quote(one[:n])) <= 255) for one in ids]


def _by_readers(folder: Path) -> dict[str, dict[str, int]]:
    """Rows of each prompt_run_id, as each reader decodes it from the path."""
    paths = f"{folder}/segments/**/*.parquet"
    query = f"SELECT prompt_run_id, count(*) FROM read_parquet('{paths}', hive_partitioning=true) GROUP BY ALL"
    lazy = pl.scan_parquet(f"{folder}/segments", hive_partitioning=True).select("prompt_run_id", "segment_id").collect()
    table = ds.dataset(f"{folder}/segments", format="parquet", partitioning="hive").to_table(columns=["prompt_run_id"])
    return {
        "DuckDB": dict(duckdb.sql(query).fetchall()),
        "Polars": dict(lazy.group_by("prompt_run_id").len().iter_rows()),
        "pyarrow": {one["values"]: one["counts"] for one in table["prompt_run_id"].value_counts().to_pylist()},
    }


@pytest.mark.parametrize("script", ALPHABETS)
def test_every_reader_of_folders_reads_ids_of_every_length_in_every_script(deployment, clock, script):
    ids = _around_the_cut(ALPHABETS[script])
    snapshots = [deployment.snapshot(one, prompt_id=f"{one}{ids[0]}", segments=2) for one in ids]
    deliver(deployment.request(*snapshots), deployment.store, clock)
    for reader, rows in _by_readers(deployment.folder / "deliveries" / TEAM).items():
        assert sum(rows.values()) == 2 * len(ids), reader


LONG_RUN, LONG_PROMPT = "映画" * 13, "プロンプト" * 33


@pytest.fixture
def earlier(deployment, clock, monkeypatch):
    """A collection with one run, as version 0.1 delivered it."""
    snapshot = deployment.snapshot(LONG_RUN, prompt_id=LONG_PROMPT)
    with monkeypatch.context() as patch:
        named = lambda table, prompt, run, segment=None: run_folder(table, prompt, run, storage_segment)  # noqa: E731
        patch.setattr(delivering, "run_folder", named)
        deliver(deployment.request(snapshot), deployment.store, clock)
    assert _folders(deployment) == {run_folder("segments", LONG_PROMPT, LONG_RUN, storage_segment)}
    return deployment


def _folders(deployment) -> set[str]:
    return {path.rpartition("/")[0] for path in deployment.files() if path.startswith("segments/")}


def test_a_run_that_is_there_keeps_the_name_of_its_folder(earlier, clock):
    before = _folders(earlier)
    changed = earlier.snapshot(LONG_RUN, prompt_id=LONG_PROMPT, segments=5)
    outcome = deliver(earlier.request(changed), earlier.store, clock)
    assert (outcome.committed, len(outcome.removed)) == (True, 1)
    assert _folders(earlier) == before
    assert not deliver(earlier.request(changed), earlier.store, clock).committed


def test_a_new_run_of_a_prompt_that_is_there_goes_to_the_folder_of_its_prompt(earlier, clock):
    new_run = "動画" * 13
    deliver(earlier.request(earlier.snapshot(new_run, prompt_id=LONG_PROMPT)), earlier.store, clock)
    folder = f"segments/prompt_id={storage_segment(LONG_PROMPT)}"
    assert _folders(earlier) == {
        f"{folder}/prompt_run_id={storage_segment(LONG_RUN)}",
        f"{folder}/prompt_run_id={path_segment(new_run)}",
    }


def test_another_prompt_in_the_same_collection_gets_a_name_that_decodes(earlier, clock):
    prompt = "質問" * 33
    deliver(earlier.request(earlier.snapshot("run_2", prompt_id=prompt)), earlier.store, clock)
    (folder,) = (folder for folder in _folders(earlier) if folder.endswith("=run_2"))
    assert unquote(folder, errors="strict").startswith("segments/prompt_id=質問質問")


def test_names_are_kept_by_whoever_reads_the_log_from_a_checkpoint(earlier, clock, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 1)
    before = _folders(earlier)
    for rows in (4, 5, 6):
        changed = earlier.snapshot(LONG_RUN, prompt_id=LONG_PROMPT, segments=rows)
        deliver(earlier.request(changed), earlier.store, clock)
    assert any("/checkpoints/" in path for path in earlier.files())
    assert _folders(earlier) == before


def test_what_a_delivery_of_version_0_1_left_that_died_is_found_and_removed(deployment, clock, monkeypatch):
    snapshot = deployment.snapshot(LONG_RUN, prompt_id=LONG_PROMPT)
    outcome = deliver(deployment.request(snapshot), deployment.store, clock)
    (file,) = outcome.files
    left = file.path.replace(path_segment(LONG_RUN), storage_segment(LONG_RUN))
    left = left.replace(path_segment(LONG_PROMPT), storage_segment(LONG_PROMPT))
    place = deployment.folder / "deliveries" / TEAM
    (place / left).parent.mkdir(parents=True)
    (place / left).write_bytes((place / file.path).read_bytes())
    assert deployment.runs_to_repair(LONG_RUN) == {LONG_RUN}
    assert deliver(deployment.request(snapshot), deployment.store, clock).removed == (left,)
    assert _folders(deployment) == {file.path.rpartition("/")[0]}
    # What the log abandons is no name that is kept: new files stay where readers decode them.
    changed = deployment.snapshot(LONG_RUN, prompt_id=LONG_PROMPT, segments=5)
    deliver(deployment.request(changed), deployment.store, clock)
    (folder,) = _folders(deployment)
    assert re.search("%[0-9A-F]{2}", folder)
    assert unquote(folder, errors="strict")
