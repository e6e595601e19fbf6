"""Delta tables beside the delivery log, as readers of Delta see them."""

import json
from datetime import timedelta

import deltalake
import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from vv_exports.delivery.survey import survey
from vv_exports.delivery.vacuum import vacuum
from vv_exports.errors import ForbiddenError
from vv_exports.reader import open_delivery
from vv_exports.table_formats.delta import DeltaTables
from vv_exports_tests.archives import SCHEMA, segment
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, crashes_after
from vv_exports_tests.table_formats.given import (
    EVERY_CALL,
    PROMPT,
    Kept,
    actions_in,
    assert_tables_are_the_collection,
    in_order,
)

MORE = {**SCHEMA, "properties": {**SCHEMA["properties"], "mood": {"type": "object", "properties": {"on set": {}}}}}
WIDER = {**SCHEMA, "properties": {**SCHEMA["properties"], "people": {"type": "number"}}}
OTHER = {**SCHEMA, "properties": {**SCHEMA["properties"], "title": {"type": "array", "items": {"type": "string"}}}}
NEWS = {"executed_at": "2026-10-05T00:00:00Z", "segments": [segment(7, metadata={"title": "t", "people": 2})]}


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


def test_each_entry_that_touches_a_table_is_a_version_of_it(kept):
    kept.deliver("run_1", "run_2")
    kept.deliver("run_3", failures=[{"segment_id": "seg_9", "video_id": "v"}])
    kept.deliver("run_1", segments=5)
    assert kept.versions() == {0: 0, 1: 1, 2: 2}
    assert kept.versions("failures") == {0: 1}
    assert_tables_are_the_collection(kept, "segments", "failures")
    assert deltalake.DeltaTable(kept.table()).transaction_version("vv_exports") == 2
    reader = open_delivery(kept.folder)
    for version in (0, 1):
        # The files of an earlier entry may be gone, but its version names them as the log does.
        uris = deltalake.DeltaTable(kept.table(), version=version).file_uris()
        assert sorted(uris) == sorted(map(str, reader.at(entry=version).files()))


def test_no_data_file_is_touched_and_the_same_again_writes_nothing(kept):
    kept.deliver("run_1", "run_2", follow=False)
    before, files = kept.data_files(), kept.destination.files()
    kept.follow()
    assert kept.data_files() == before
    made = {path.rpartition("/")[2] for path in kept.destination.files().keys() - files}
    assert made == {f"{0:020}.json", f"{0:020}.checkpoint.parquet", "_last_checkpoint"}
    written = kept.log_files()
    kept.follow()
    lost = Kept(kept.deployment.folder)
    for path in (kept.deployment.folder / "storage/automations").rglob("*.zst"):
        path.unlink()
    lost.follow()
    assert kept.log_files() == written
    assert lost.progress.heads == kept.progress.heads


def test_new_columns_are_the_tables_and_older_files_lack_them(kept):
    kept.deliver("run_1")
    kept.deliver("run_2", schema=MORE, **{**NEWS, "segments": [segment(1, metadata={"mood": {"on set": "x"}})]})
    assert "mood" in {field.name for field in pl.scan_delta(str(kept.table())).collect_schema()["metadata"].fields}
    assert_tables_are_the_collection(kept)
    assert kept.versions() == {0: 0, 1: 1}


def test_a_wider_type_comes_when_all_files_have_it(kept):
    kept.deliver("run_1", "run_2", kept=timedelta(hours=1))
    earlier = in_order(pl.scan_delta(str(kept.table())).collect())
    kept.deliver("run_3", schema=WIDER, kept=timedelta(hours=1), **NEWS)
    assert kept.progress.behind[f"segments/{PROMPT}"].why == "waits"
    assert not kept.tables.is_to_follow(kept.destination, 1, NOW + timedelta(days=1))
    assert "prompt runs (run_1, run_2)" in kept.progress.behind[f"segments/{PROMPT}"].message
    kept.deliver_snapshots(kept.deployment.read("run_1"), kept=timedelta(hours=1))
    # Readers see the state before, of which all files are there, since they are retained.
    assert in_order(pl.scan_delta(str(kept.table())).collect()).equals(earlier)
    kept.deliver_snapshots(kept.deployment.read("run_2"), kept=timedelta(hours=1))
    assert (kept.progress.behind, kept.versions()) == ({}, {0: 0, 1: 3})
    assert_tables_are_the_collection(kept)


def test_what_is_erased_goes_from_a_table_that_waits_too(kept):
    kept.deliver("run_1", "run_2", kept=timedelta(hours=1))
    kept.deliver("run_3", schema=WIDER, kept=timedelta(hours=1), **NEWS)
    kept.erase("run_1")
    assert set(pl.scan_delta(str(kept.table())).collect()["prompt_run_id"]) == {"run_2"}
    kept.deliver_snapshots(kept.deployment.read("run_2"), kept=timedelta(hours=1))
    assert (kept.progress.behind, kept.versions()) == ({}, {0: 0, 1: 2, 2: 3})
    assert_tables_are_the_collection(kept)


def test_another_version_of_a_table_is_a_table_of_its_own(kept):
    kept.deliver("run_1")
    kept.deliver("run_2", schema=OTHER, **{**NEWS, "segments": [segment(1, metadata={"title": ["a"]})]})
    assert_tables_are_the_collection(kept, "segments", "segments.v2")


def test_what_is_erased_is_in_no_table_and_its_values_are_in_no_log(kept):
    kept.deliver("run_1", segments=[segment(1, metadata={"title": "hush-hush"}, metadata_text="hush-hush")])
    kept.deliver("run_2")
    kept.erase("run_1")
    assert_tables_are_the_collection(kept)
    kept.erase("run_2")
    assert_tables_are_the_collection(kept)
    assert kept.versions() == {0: 0, 1: 1, 2: 2, 3: 3}
    logs = b"".join(path.read_bytes() for path in kept.table().glob("_delta_log/*.json"))
    checkpoint = pq.read_table(next(kept.table().glob("_delta_log/*.parquet"))).to_pylist()
    assert b"hush" not in logs
    assert "hush" not in str(checkpoint)


def test_a_vacuum_keeps_what_is_retained_and_the_tables(kept):
    kept.deliver("run_1", kept=timedelta(hours=1))
    kept.deliver("run_1", segments=5, kept=timedelta(hours=1))
    written = kept.log_files()
    beside = survey(kept.destination, now=NOW).beside
    assert (len(beside.retained), beside.foreign, beside.strays, beside.superseded) == (1, {}, {}, {})
    assert len(deltalake.DeltaTable(kept.table(), version=0).to_pyarrow_table()) == 3
    done = vacuum(kept.destination, lambda: NOW)
    assert (len(done.retained), done.left_alone, done.superseded) == (1, (), ())
    assert len(vacuum(kept.destination, lambda: NOW + timedelta(hours=2)).superseded) == 1
    assert kept.log_files() == written
    assert_tables_are_the_collection(kept)


def test_a_rebuilt_table_is_a_new_one_of_the_same_rows(kept):
    for run in range(3):
        kept.deliver(f"run_{run}")
    before = deltalake.DeltaTable(kept.table()).metadata().id
    files = kept.data_files()
    kept.rebuild()
    assert_tables_are_the_collection(kept)
    assert (kept.versions(), kept.data_files()) == ({0: 2}, files)
    assert deltalake.DeltaTable(kept.table()).metadata().id != before
    kept.deliver("run_3")
    assert kept.versions() == {0: 2, 1: 3}


def test_a_table_that_is_broken_or_somebody_elses_is_said_and_mended(kept):
    kept.deliver("run_1")
    kept.deliver("run_2")
    (kept.table() / "_delta_log" / f"{1:020}.json").write_text("no json")
    (kept.table() / "_delta_log" / "_last_checkpoint").unlink()
    for path in (kept.deployment.folder / "storage/automations").rglob("*.zst"):
        path.unlink()
    kept.deliver("run_3")  # is delivered all the same
    behind = kept.progress.behind[f"segments/{PROMPT}"]
    assert (behind.why, "vv-exports tables rebuild" in behind.message) == ("failed", True)
    kept.rebuild()
    assert_tables_are_the_collection(kept)
    # Somebody commits there: the next run takes it back.
    remove = {"remove": {"path": actions_in(kept.table() / "_delta_log" / f"{0:020}.json")[-1]["add"]["path"]}}
    remove["remove"] |= {"deletionTimestamp": 0, "dataChange": True}
    info = {"commitInfo": {"operation": "DELETE"}}
    (kept.table() / "_delta_log" / f"{1:020}.json").write_text(f"{json.dumps(info)}\n{json.dumps(remove)}\n")
    kept.deliver("run_4")
    assert kept.progress.behind == {}
    assert_tables_are_the_collection(kept)


def test_prompt_runs_of_any_id_are_found(kept):
    odd = "a/b c'd%2F#?&ü 💡"
    kept.deliver(odd)
    assert_tables_are_the_collection(kept)
    assert pl.scan_delta(str(kept.table())).filter(pl.col("prompt_run_id") == odd).collect().height == 3


def test_readers_begin_at_a_checkpoint(kept, monkeypatch):
    monkeypatch.setattr("vv_exports.table_formats.delta._VERSIONS_TO_A_CHECKPOINT", 2)
    for run in range(5):
        kept.deliver(f"run_{run}")
    log = kept.table() / "_delta_log"
    assert json.loads((log / "_last_checkpoint").read_text())["version"] == 4
    for version in range(4):
        (log / f"{version:020}.json").unlink()
    assert_tables_are_the_collection(kept)
    for path in (kept.deployment.folder / "storage/automations").rglob("*.zst"):
        path.unlink()
    kept.deliver("run_5")
    assert_tables_are_the_collection(kept)
    assert kept.progress.behind == {}


def _killed(fault, call, folder, *, only, work):
    """Follow the log with a fault at one call to the destination, or to the pipeline's storage; then the next run."""
    kept = Kept(folder)
    kept.deliver("run_1", "run_2", follow=work != "create")
    if work == "follow":
        kept.deliver("run_1", segments=4, follow=False)
    faults = {} if fault is None else {call: fault}
    connector = FaultyConnector(kept.deployment.connector, faults if only == "destination" else {})
    storage = FaultyConnector(kept.deployment.store._storage, faults if only == "storage" else {})
    dying = Kept(folder, connector)
    dying.tables = type(dying.tables)(storage, "idx", "team", {"delta": DeltaTables})
    try:
        dying.rebuild() if work == "rebuild" else dying.follow()
    except Crash:
        kept.follow()
    kept.deliver("run_3")
    assert_tables_are_the_collection(kept)
    return kept, (connector if only == "destination" else storage).calls


@pytest.mark.slow
@pytest.mark.parametrize("work", ["create", "follow", "rebuild"])
def test_killed_between_our_commit_and_theirs_the_next_run_catches_up(tmp_path, work):
    """At calls while tables follow, before and after each; `VV_EXPORTS_TESTS_EVERY_CALL` at every one."""
    for only in ("destination", "storage"):
        unkilled, calls = _killed(None, 0, tmp_path / only, only=only, work=work)
        assert calls > 3
        for call in range(0, calls, EVERY_CALL or 9):
            for fault in (crashes, crashes_after):
                kept, _ = _killed(fault, call, tmp_path / f"{only}-{call}-{fault.__name__}", only=only, work=work)
                assert work == "rebuild" or kept.versions() == unkilled.versions()
                assert max(kept.versions().values()) == max(unkilled.versions().values())


def test_two_that_follow_at_once_make_one_version(kept):
    kept.deliver("run_1")
    kept.deliver("run_2", follow=False)
    other = Kept(kept.deployment.folder)
    stale = other.progress
    kept.follow()
    written = kept.log_files()
    other.tables._records["delta"].read = lambda: stale
    other.follow()
    assert kept.log_files() == written


def test_a_store_that_is_away_keeps_tables_behind_and_no_delivery_back(kept):
    kept.deliver("run_1")

    class Refusing:
        def __init__(self, connector):
            self._connector = connector

        def __getattr__(self, name):
            return getattr(self._connector, name)

        def create(self, key, data, **options):
            if "_delta_log" in key:
                raise ForbiddenError(f"{key} may not be written")
            return self._connector.create(key, data, **options)

    refused = Kept(kept.deployment.folder, Refusing(kept.deployment.connector))
    refused.deliver("run_2")
    assert open_delivery(kept.folder).entry == 1
    (failed,) = refused.progress.failed
    assert "may not be written" in failed.message
    assert not refused.tables.is_to_follow(refused.destination, 1, NOW)
    assert refused.tables.is_to_follow(refused.destination, 1, NOW + timedelta(hours=1))
    kept.follow()
    assert_tables_are_the_collection(kept)


def test_patterns_that_name_data_files_take_no_file_of_the_tables_log(kept):
    kept.deliver("run_1")
    count = duckdb.sql(f"select count(*) from read_parquet('{kept.folder}/segments/**/part-*.parquet')").fetchall()
    assert count == [(3,)]
