"""What becomes of deployments of earlier versions: all that they kept and delivered is read, and what has the shape
that this version gives is taken over as it is."""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vv_exports.automations.automation import Automation
from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.automations.reconcile import Reconciliation, reconcile
from vv_exports.client import VVExports
from vv_exports.delivery.log import read_log, scan_log
from vv_exports.delivery.verify import verify
from vv_exports.errors import TransientError
from vv_exports.pipeline import Pipeline
from vv_exports_tests.deployments import with_parts
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, crashes_after, delayed
from vv_exports_tests.upgrades import (
    FIRST_WITH_DOCUMENTS,
    FORMATS,
    INDEX,
    LAYOUT_2,
    PLAIN,
    archived,
    collection_of,
    differences,
    entries,
    failed,
    held_runs,
    pipeline_of,
    unpacked,
    without_source,
)

RUNS_IN_A_DELIVERY = 3
LONG_RUN = "映画" * 13
EVERY_CALL = bool(os.environ.get("VV_EXPORTS_TESTS_EVERY_CALL"))
"""Whether it dies at every call for every format. The way to the commit is the same for all of them: for Parquet it
is every call anyway, for the others one in thirteen."""
OUTGROWN = {"grow_1", "twins", "clash_2"}
"""The runs whose Parquet files have other columns than they are to have: fewer than a later run of the prompt, names
that differ in case alone, another type than an earlier run."""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """Version 0.1's, with several deliveries for what is to be delivered again."""
    return unpacked(tmp_path, max_runs_per_delivery=RUNS_IN_A_DELIVERY)


class Reader:
    """Compares a collection with what the archive holds, at any moment: by the log, all of it."""

    def __init__(self, folder: Path, format_name: str) -> None:
        self.collection = collection_of(folder, format_name)
        self.documents = archived(folder)
        self.failures = failed(folder)
        self.seen: list[int] = []

    def read(self, exact: bool = True) -> None:
        """The documents are the archive's, whatever layout each run is of; where not ``exact``, 5 and 5.0 are one."""
        assert differences(self.collection, self.documents, self.failures, exact=exact) == []
        self.seen.append(len(entries(self.collection)))


def _automation(pipeline: Pipeline, format_name: str) -> Automation:
    return pipeline.automations.get(INDEX, format_name)


def _reconciled(pipeline: Pipeline, format_name: str) -> Reconciliation:
    return reconcile(
        _automation(pipeline, format_name), pipeline.deliveries, pipeline.indexes.listing(INDEX), dagster_run_id=None
    )


def _paid_from_snapshots(pipeline: Pipeline, format_name: str) -> None:
    """As the delivery sensor does it: by what the pipeline keeps, without a look at the source."""
    automation = _automation(pipeline, format_name)
    owed = automation.standings(pipeline.snapshots.kept(INDEX))
    batch = take_snapshots(automation, owed.of("due", "failing"), pipeline.clock())
    assert batch.problems == {}
    outcome = deliver_batch(automation, pipeline.deliveries, batch, None)
    assert outcome.problems == {}


def _with_faults(pipeline: Pipeline, faults: dict[int, Any]) -> FaultyConnector:
    connector = FaultyConnector(pipeline.connectors["conn_export"], faults)
    with_parts(pipeline, connectors={"conn_export": connector})
    return connector


def _assert_reshaped(collection: Path, runs: int) -> None:
    """All of them; of a collection in Parquet, those that are outgrown."""
    held = held_runs(collection)
    assert len(held) == runs
    expected = OUTGROWN if collection.name == "parquet" else held.keys()
    assert {run_id for run_id, one in held.items() if one.layout >= FIRST_WITH_DOCUMENTS} == expected
    assert {held[run_id].run["reason"] for run_id in expected} == {"reshaped"}


def _folders(collection: Path) -> dict[str, set[str]]:
    """The folders of each run's files, by its id."""
    return {
        run_id: {file["path"].rpartition("/")[0] for file in one.files} for run_id, one in held_runs(collection).items()
    }


@pytest.mark.parametrize("format_name", FORMATS)
class TestWhatItLeft:
    def test_a_reader_of_the_log_finds_every_document_of_the_archive(self, deployment, format_name):
        reader = Reader(deployment, format_name)
        assert len(reader.documents) > len(held_runs(reader.collection)) == 9
        reader.read()

    def test_the_reader_tells_a_collection_that_lacks_something(self, deployment, format_name):
        reader = Reader(deployment, format_name)
        key = next(key for key in reader.documents if key[1] == "grow_2")
        for odd in ({}, {**reader.documents[key], "more": 1}, {**reader.documents[key], "n": None}, None):
            reader.documents[key] = odd
            assert differences(reader.collection, reader.documents, reader.failures)
        del reader.documents[key]
        assert len(differences(reader.collection, reader.documents, reader.failures)) == 1

    def test_it_is_verified_and_nothing_is_missing_or_left_over(self, deployment, format_name):
        found = verify(_automation(pipeline_of(deployment), format_name).destination)
        assert (found.problems, found.prompt_runs) == ((), 9)

    def test_its_snapshots_and_its_beginning_are_found_in_the_storage(self, deployment, format_name):
        pipeline = pipeline_of(deployment)
        held = held_runs(collection_of(deployment, format_name))
        for run_id, one in held.items():
            snapshot = pipeline.snapshots.store.current(INDEX, run_id)
            assert snapshot is not None, run_id
            assert snapshot.data_version == one.run["data_version"]
        assert pipeline.snapshots.kept(INDEX).rows.keys() == held.keys()
        assert _automation(pipeline, format_name).record.beginning() is not None

    def test_nothing_is_lost_by_a_reconciliation_and_folders_keep_their_names(self, deployment, format_name):
        reader = Reader(deployment, format_name)
        before = _folders(reader.collection)
        outcome = _reconciled(pipeline_of(deployment), format_name)
        assert (outcome.missing, outcome.damaged, outcome.problems) == ((), (), {})
        reader.read()
        after = _folders(reader.collection)
        if format_name in {"parquet", "csv"}:
            # An integer became text there: one folder has one type.
            before["clash_2"] = {"segments.v2/prompt_id=prm_clash/prompt_run_id=clash_2"}
        assert after == before

    def test_a_long_id_keeps_its_folder_when_its_run_changes(self, deployment, format_name):
        collection = collection_of(deployment, format_name)
        before = _folders(collection)[LONG_RUN]
        _add_a_row(deployment, LONG_RUN)
        outcome = _reconciled(pipeline_of(deployment), format_name)
        assert LONG_RUN in outcome.delivered
        assert held_runs(collection)[LONG_RUN].run["reason"] == "changed"
        assert _folders(collection)[LONG_RUN] == before
        Reader(deployment, format_name).read()


def _add_a_row(folder: Path, run_id: str) -> None:
    (record,) = (
        path
        for path in (folder / "archive").rglob("prompt_run.json")
        if json.loads(path.read_text())["run_id"] == run_id
    )
    results = record.with_name("segment_results.jsonl")
    row = json.loads(results.read_text().splitlines()[0]) | {"segment_id": "seg_added", "start_time": 900.0}
    results.write_text(f"{results.read_text()}{json.dumps(row)}\n")
    run = json.loads(record.read_text())
    record.write_text(json.dumps(run | {"completed_segments": run["completed_segments"] + 1}))


@pytest.mark.parametrize("format_name", FORMATS)
class TestReshaping:
    def test_a_reconciliation_reshapes_what_has_another_shape_and_the_second_one_writes_nothing(
        self, deployment, format_name
    ):
        reader = Reader(deployment, format_name)
        before = _folders(reader.collection)
        assert _reconciled(pipeline_of(deployment), format_name).problems == {}
        _assert_reshaped(reader.collection, len(before))
        reader.read()
        # The runs whose columns clash are another table's: their folder is a new one.
        after = _folders(reader.collection)
        for run_id in (LONG_RUN, "0001", "grow_1", "grow_2"):
            assert after[run_id] == before[run_id]
        written = len(entries(reader.collection))
        again = _reconciled(pipeline_of(deployment), format_name)
        assert (len(entries(reader.collection)), again.delivered) == (written, ())

    def test_a_reader_of_the_log_reads_everything_at_each_step_on_the_way(self, deployment, format_name):
        reader, pipeline = Reader(deployment, format_name), pipeline_of(deployment)
        _with_faults(pipeline, {number: delayed(reader.read) for number in range(2000)})
        assert _reconciled(pipeline, format_name).problems == {}
        reader.read()
        _assert_reshaped(reader.collection, 9)
        assert reader.seen[0] == 1
        # A look between any two entries.
        assert sorted(set(reader.seen)) == list(range(1, len(entries(reader.collection)) + 1))

    def test_without_the_source_it_is_reshaped_from_the_snapshots(self, deployment, format_name):
        reader = Reader(deployment, format_name)
        without_source(deployment)
        _paid_from_snapshots(pipeline_of(deployment), format_name)
        _assert_reshaped(reader.collection, 9)
        reader.read(exact=False)  # version 0.1 has kept typed rows alone

    def test_numbers_are_as_they_were_though_the_source_was_away_for_a_while(self, deployment, format_name):
        reader, pipeline = Reader(deployment, format_name), pipeline_of(deployment)
        with_parts(pipeline, source=_Away(pipeline.source))
        if format_name in {"jsonl", "json"}:
            with pytest.raises(TransientError, match="away"):
                _reconciled(pipeline, format_name)
            reader.read()
        assert _reconciled(pipeline_of(deployment), format_name).problems == {}
        _assert_reshaped(reader.collection, 9)
        reader.read()

    @pytest.mark.slow
    @pytest.mark.parametrize("dies", [crashes, crashes_after])
    def test_killed_at_any_operation_it_goes_on_and_ends_the_same(self, tmp_path, format_name, dies):
        whole = unpacked(tmp_path / "whole", max_runs_per_delivery=RUNS_IN_A_DELIVERY)
        _reconciled(pipeline_of(whole), format_name)
        expected = _state(whole, format_name)
        for number in itertools.count(step=1 if EVERY_CALL or format_name == "parquet" else 13):
            folder = unpacked(tmp_path / str(number), max_runs_per_delivery=RUNS_IN_A_DELIVERY)
            reader, pipeline = Reader(folder, format_name), pipeline_of(folder)
            _with_faults(pipeline, {number: dies})
            try:
                _reconciled(pipeline, format_name)
            except Crash:
                reader.read()
            else:
                break  # there are no more operations
            assert _reconciled(pipeline_of(folder), format_name).problems == {}
            reader.read()
            _assert_reshaped(reader.collection, 9)
            assert _state(folder, format_name) == expected
            written = len(entries(reader.collection))
            assert _reconciled(pipeline_of(folder), format_name).delivered == ()
            assert len(entries(reader.collection)) == written
        assert number > 9


TAKEN_OVER = [
    pytest.param(PLAIN, "parquet", id="0.1"),
    *(pytest.param(LAYOUT_2, name, id=f"layout-2-{name}") for name in FORMATS),
]


@pytest.mark.parametrize(("packed", "format_name"), TAKEN_OVER)
class TestTakingOver:
    def test_the_first_look_delivers_nothing_and_reads_no_run(self, tmp_path, packed, format_name):
        folder = unpacked(tmp_path, packed)
        before = _files(folder / "deliveries")
        kept = _files(folder / "storage")
        pipeline = pipeline_of(folder)
        source = _Away(pipeline.source)
        with_parts(pipeline, source=source)
        automation, listing = _automation(pipeline, format_name), pipeline.indexes.listing(INDEX)
        assert pipeline.automations.to_read(INDEX, listing, pipeline.clock()).due == ()
        owed = automation.standings(pipeline.snapshots.kept(INDEX))
        assert {one.state for one in owed.by_run.values()} == {"delivered"}
        assert {one.why for one in owed.by_run.values()} == {None}
        outcome = reconcile(automation, pipeline.deliveries, listing, dagster_run_id=None)
        assert (outcome.missing, outcome.changed, outcome.damaged, outcome.problems) == ((), (), (), {})
        assert outcome.delivered == ()
        assert source.read == []
        assert _without_owner(_files(folder / "deliveries")) == _without_owner(before)
        snapshots = {path: data for path, data in kept.items() if path.startswith("snapshots/")}
        assert {path: data for path, data in _files(folder / "storage").items() if path in snapshots} == snapshots

    def test_what_is_read_again_and_has_equal_rows_is_not_delivered_again(self, tmp_path, packed, format_name):
        folder = unpacked(tmp_path, packed)
        for path in (folder / "archive").rglob("*.json*"):
            os.utime(path)
        pipeline = pipeline_of(folder)
        source = _Watched(pipeline.source)
        with_parts(pipeline, source=source)
        held = held_runs(collection_of(folder, format_name))
        batch = take_snapshots(_automation(pipeline, format_name), tuple(held), pipeline.clock())
        assert sorted(source.read) == sorted(held)
        versions = {one.run_id: one.data_version for one in batch.snapshots}
        assert versions == {run_id: one.run["data_version"] for run_id, one in held.items()}
        assert _reconciled(pipeline, format_name).delivered == ()

    def test_a_new_run_of_the_same_columns_has_no_other_delivered_again(self, tmp_path, packed, format_name):
        folder = unpacked(tmp_path, packed)
        _copy_run(folder, "run_1" if packed == PLAIN else "grow_2", "later")
        outcome = _reconciled(pipeline_of(folder), format_name)
        assert (outcome.delivered, outcome.problems) == (("later",), {})
        assert _reconciled(pipeline_of(folder), format_name).delivered == ()
        assert differences(collection_of(folder, format_name), archived(folder), failed(folder)) == []
        assert verify(_automation(pipeline_of(folder), format_name).destination).problems == ()

    def test_a_new_run_with_more_columns_has_the_others_of_its_prompt_delivered_again(
        self, tmp_path, packed, format_name
    ):
        folder = unpacked(tmp_path, packed)
        of_prompt = {"run_1", "run_2", "run_3", "run_4"} if packed == PLAIN else {"grow_1", "grow_2"}
        _copy_run(folder, min(of_prompt), "later", more={"type": "string"})
        outcome = _reconciled(pipeline_of(folder), format_name)
        outgrown = of_prompt if format_name in {"parquet", "csv"} else set()
        assert (outcome.delivered[0], set(outcome.delivered[1:]), outcome.problems) == ("later", outgrown, {})
        assert _reconciled(pipeline_of(folder), format_name).delivered == ()
        assert differences(collection_of(folder, format_name), archived(folder), failed(folder)) == []


class TestCheckpoints:
    """Those of version 0.1 say which entries hold runs, and not which columns these have."""

    @pytest.fixture
    def collection(self, tmp_path: Path) -> Path:
        return collection_of(unpacked(tmp_path, PLAIN), "parquet")

    def test_one_tells_what_the_entries_tell(self, tmp_path, collection):
        destination = _automation(pipeline_of(tmp_path), "parquet").destination
        found, (whole, faults) = read_log(destination), scan_log(destination)
        assert (found.checkpoint, whole.checkpoint, faults) == (3, None, [])
        assert found == whole
        assert found.shapes_of("prm") == whole.shapes_of("prm") != {}
        assert verify(destination).problems == ()

    def test_the_next_delivery_writes_one_with_which_no_entry_before_it_is_read(self, tmp_path, collection):
        pipeline = pipeline_of(tmp_path)
        for number in (1, 2):
            _copy_run(tmp_path, "run_1", f"later_{number}")
            assert _reconciled(pipeline, "parquet").delivered == (f"later_{number}",)
        names = sorted(path.name[:20] for path in (collection / "_vv/checkpoints").iterdir())
        assert names == [f"{number:020}" for number in (3, 5)], "one for what was lacking, and none for each delivery"
        destination = _automation(pipeline_of(tmp_path), "parquet").destination
        whole, _ = scan_log(destination)
        for entry in sorted((collection / "_vv/log").iterdir())[:5]:
            entry.unlink()
        found = read_log(destination)
        assert (found.checkpoint, found) == (5, whole)
        assert found.shapes_of("prm_videos").keys() == {"segments", "videos"}

    def test_runs_of_an_entry_that_is_damaged_by_now_are_delivered_again_and_no_others(self, tmp_path, collection):
        (collection / "_vv/log" / f"{1:020}.json").write_text("{")
        outcome = _reconciled(pipeline_of(tmp_path), "parquet")
        assert (outcome.delivered, outcome.problems) == (("run_2",), {})
        assert _reconciled(pipeline_of(tmp_path), "parquet").delivered == ()


def _files(top: Path) -> dict[str, bytes]:
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def _without_owner(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not path.endswith("_vv/owner.json")}


def _copy_run(folder: Path, run_id: str, new_id: str, **properties: Any) -> None:
    """Another run of the same prompt, which has more properties by now."""
    runs = folder / "archive/indexes" / INDEX / "prompt_runs"
    shutil.copytree(runs / run_id, runs / new_id)
    for name, changes in (
        ("prompt_run.json", {"run_id": new_id, "executed_at": "2026-11-20T10:00:00Z"}),
        ("prompt.json", {}),
    ):
        path = runs / new_id / name
        document = json.loads(path.read_text()) | changes
        if name == "prompt.json":
            document["json_schema"]["properties"] |= properties
        path.write_text(json.dumps(document))


class _Watched:
    """A source that says which runs were read."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def results(self, run: Any, *arguments: Any) -> Any:
        self.read.append(run.run_id)
        return self._source.results(run, *arguments)


class _Away(_Watched):
    """A source that lists its runs, and cannot be read."""

    def results(self, run: Any, *_: Any) -> Any:
        self.read.append(run.run_id)
        raise TransientError("the source is away")


@pytest.mark.parametrize("format_name", ["jsonl", "json"])
def test_an_export_on_demand_of_what_version_0_1_kept_has_numbers_as_they_were(deployment, format_name):
    client = VVExports(deployment / "vv_exports.yaml", instance=dg.DagsterInstance.ephemeral())
    made = client.exports.create_index_export(
        index_id=INDEX, destination_connector_id="conn_export", destination_subpath="mine", format=format_name
    )
    collection = deployment / "deliveries/mine" / made.export_id
    assert differences(collection, archived(deployment), failed(deployment)) == []


def _state(folder: Path, format_name: str) -> dict[str, set[tuple[str, str]]]:
    """The files of each run: their folders and the hashes of their content. Numbers of parts may differ."""
    return {
        run_id: {(file["path"].rpartition("/")[0], file["sha256"]) for file in one.files}
        for run_id, one in held_runs(collection_of(folder, format_name)).items()
    }
