"""Snapshots are written once, found again by content, and survive whoever takes them at the same time."""

import json
import multiprocessing
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import DeliveredDataError, SelectionError, SourceDataError
from vv_exports.snapshots.staging import StoredStage
from vv_exports.snapshots.store import SnapshotStore, fingerprint_of
from vv_exports.snapshots.tables import table_of
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import SCHEMA, segment, write_run
from vv_exports_tests.foreign_files import changed, put_foreign_files

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


class Deployment:
    """An archive with one run, and a store for its snapshots."""

    def __init__(self, folder):
        self.folder = folder
        self.source = LocalArchive(str(folder / "archive"))
        self.store = SnapshotStore(self.storage())

    def storage(self, kind=LocalConnector):
        return kind("storage", self.folder / "storage", make_root=True)

    @property
    def run(self):
        return self.source.prompt_run("idx", "run_1")

    def write(self, segments=3, **fields):
        return write_run(self.folder / "archive", segments=segments, **fields)

    def ensure(self, now=NOW):
        return self.store.ensure(self.source, self.run, now)

    def stored(self):
        """Path -> (content, time of the last change) of everything in the storage."""
        files = [path for path in (self.folder / "storage").rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    deployment.write()
    return deployment


def test_a_snapshot_holds_the_run_its_prompt_and_its_rows(deployment):
    snapshot = deployment.ensure()
    assert (snapshot.index_id, snapshot.run_id, snapshot.prompt_id, snapshot.revision) == ("idx", "run_1", "prm", 1)
    assert (snapshot.status, snapshot.taken_at, snapshot.rows("segments"), snapshot.rows("videos")) == (
        "completed",
        NOW,
        3,
        0,
    )
    assert snapshot.prompt == deployment.source.prompt(deployment.run)
    assert snapshot.prompt_run == deployment.run
    (part,) = snapshot.tables["segments"]
    ((batch, answers),) = deployment.store.rows(snapshot, "segments", answers=True)
    assert [json.loads(text) for text in answers.to_pylist()] == [segment(number)["metadata"] for number in range(3)]
    assert batch.schema == table_of("segments", SCHEMA).schema
    assert batch["segment_id"].to_pylist() == ["seg_00000", "seg_00001", "seg_00002"]
    deployment.store.copy(part, deployment.folder / "copy.parquet")
    assert (deployment.folder / "copy.parquet").stat().st_size == part.bytes
    assert deployment.store.current("idx", "run_1") == snapshot
    assert SnapshotStore(deployment.storage()).current("idx", "run_1") == snapshot


def test_marks_and_the_bill_of_a_run_are_not_kept(deployment):
    deployment.write(marker={"note": "private"}, billing_actual_mt=5, processing_model="m")
    snapshot = deployment.ensure()
    assert "processing_model" in snapshot.run
    assert not {"marker", "billing_actual_mt"} & set(snapshot.run)
    assert not any(b"private" in content for content, _ in deployment.stored().values())


def test_an_unchanged_run_is_not_read_again(deployment):
    first = deployment.ensure()
    before = deployment.stored()
    results = deployment.folder / "archive/indexes/idx/prompt_runs/run_1/segment_results.jsonl"
    assert deployment.store.unchanged(deployment.source, deployment.run) == first
    results.chmod(0)
    try:
        assert deployment.ensure(LATER) == first
    finally:
        results.chmod(0o644)
    assert deployment.stored() == before


def test_a_run_that_looks_changed_and_is_not_keeps_its_snapshot(deployment):
    first = deployment.ensure()
    before = deployment.stored()
    old = fingerprint_of(deployment.source, deployment.run)
    deployment.write([segment(n, segment_uri="https://x/?token=2", marker={"color": "red"}) for n in range(3)])
    assert fingerprint_of(deployment.source, deployment.run) != old
    assert deployment.store.unchanged(deployment.source, deployment.run) is None
    assert deployment.ensure(LATER) == first
    changed = {path.name for path, stored in deployment.stored().items() if before.get(path) != stored}
    assert changed == {"fingerprint.json"}
    assert deployment.store.unchanged(deployment.source, deployment.run) == first


def test_changed_rows_are_a_new_revision_and_the_old_one_stays(deployment):
    first = deployment.ensure()
    before = deployment.stored()
    deployment.write(4)
    second = deployment.ensure(LATER)
    assert (second.revision, second.taken_at, second.rows("segments")) == (2, LATER, 4)
    assert second.data_version != first.data_version
    assert deployment.store.current("idx", "run_1") == second
    after = deployment.stored()
    assert {path for path, stored in before.items() if after[path] != stored} == {
        path for path in before if path.name == "fingerprint.json"
    }
    ((batch, _),) = deployment.store.rows(first, "segments")
    assert batch.num_rows == 3


def test_content_that_comes_back_is_a_new_revision_of_the_old_files(deployment):
    first = deployment.ensure()
    deployment.write(4)
    deployment.ensure()
    deployment.write(3)
    third = deployment.ensure()
    assert (third.revision, third.data_version, third.tables) == (3, first.data_version, first.tables)


def test_a_changed_status_is_a_new_revision_of_the_same_content(deployment):
    deployment.write(status="completed_with_failures")
    first = deployment.ensure()
    deployment.write(status="completed")
    second = deployment.ensure()
    assert (second.revision, second.status, second.data_version) == (2, "completed", first.data_version)


@pytest.mark.parametrize("status", ["pending", "processing", "failed", "cancelled"])
def test_a_run_that_is_not_finished_has_no_snapshot(deployment, status):
    deployment.write(status=status)
    with pytest.raises(SelectionError, match=f"'run_1' of index 'idx' is {status}; only completed"):
        deployment.ensure()
    assert deployment.store.current("idx", "run_1") is None
    assert deployment.stored() == {}


def test_a_lost_fingerprint_costs_one_reading_and_nothing_else(deployment):
    first = deployment.ensure()
    (note,) = (deployment.folder / "storage").rglob("fingerprint.json")
    note.unlink()
    assert deployment.store.unchanged(deployment.source, deployment.run) is None
    assert deployment.ensure(LATER) == first
    assert deployment.store.unchanged(deployment.source, deployment.run) == first


def test_ids_of_any_kind_have_a_folder_of_their_own(tmp_path):
    pairs = [("a", "b/c"), ("a/b", "c"), ("..", "."), ("ä %", "run 1"), ("%C3%A4 %", "run%201"), ("x" * 300, "y" * 300)]
    source = LocalArchive(str(tmp_path / "archive"))
    store = SnapshotStore(LocalConnector("storage", tmp_path / "storage", make_root=True))
    for number, (index_id, run_id) in enumerate(pairs[:5]):
        write_run(tmp_path / "archive", index_id=index_id, run_id=run_id, segments=number)
    taken = [store.ensure(source, source.prompt_run(*pair), NOW) for pair in pairs[:5]]
    assert [one.rows("segments") for one in taken] == list(range(5))
    assert [store.current(*pair) for pair in pairs[:5]] == taken
    assert store.current(*pairs[5]) is None
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "storage"}


def test_a_store_keeps_its_id_and_another_store_has_another(tmp_path):
    one = LocalConnector("storage", tmp_path / "one", make_root=True)
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: SnapshotStore(one).store_id, range(16)))
    assert len(ids) == 1
    assert SnapshotStore(LocalConnector("storage", tmp_path / "two", make_root=True)).store_id not in ids


def test_files_that_are_not_the_stores_break_nothing_and_outlive_it(deployment):
    deployment.ensure()
    staging = deployment.folder / "storage/snapshots/idx/run_1/staging/0123456789abcdef"
    staging.mkdir(parents=True)
    ours = staging / f"{'0' * 32}.jsonl.zst"
    ours.write_bytes(b"of a reading that died")
    put = put_foreign_files(deployment.folder / "storage")
    deployment.write(segments=5)
    assert deployment.ensure(LATER).revision == 2
    assert deployment.ensure(LATER).rows("segments") == 5
    assert not ours.exists()
    kept = 2 + 4 + 1
    assert deployment.store.count_files("idx", "run_1") == kept, "revisions, their parts, and the fingerprint"
    assert deployment.store.forget("idx", "run_1") == kept
    assert deployment.store.current("idx", "run_1") is None
    left = {path for path in (deployment.folder / "storage/snapshots/idx/run_1").rglob("*") if path.is_file()}
    assert left <= put.keys()
    assert changed(put) == []


def test_links_of_the_stores_own_names_stay_and_keep_nothing_from_being_read_or_forgotten(deployment):
    deployment.ensure()
    run = deployment.folder / "storage/snapshots/idx/run_1"
    links = [run / f"staging/{'0' * 16}/{'0' * 32}.jsonl.zst", run / f"{'0' * 64}/segments-00000.parquet"]
    for link in links:
        link.parent.mkdir(parents=True)
        link.symlink_to(deployment.folder / "elsewhere")
    deployment.write(segments=5)
    assert deployment.ensure(LATER).revision == 2
    deployment.store.forget("idx", "run_1")
    assert {path for path in run.rglob("*") if not path.is_dir()} == set(links)


@pytest.mark.parametrize("number", [1, 2], ids=["the only one", "one behind it"])
@pytest.mark.parametrize("content", ["", "{", "null", "a FIFO"])
def test_a_run_whose_newest_revision_cannot_be_used_is_read_again_and_gets_a_higher_one(
    deployment, content, number, caplog
):
    """A backup that was copied while the pipeline worked cuts files short, for one."""
    first = deployment.ensure()
    broken = deployment.folder / f"storage/snapshots/idx/run_1/revisions/0000000{number}.json"
    broken.unlink(missing_ok=True)
    os.mkfifo(broken) if content == "a FIFO" else broken.write_text(content)
    assert deployment.store.current("idx", "run_1") is None
    assert str(broken) in caplog.text
    again = deployment.ensure(LATER)
    assert (again.revision, again.data_version) == (number + 1, first.data_version)
    assert deployment.ensure(LATER) == deployment.store.current("idx", "run_1") == again
    assert broken.exists(), "it may be somebody's"


@pytest.mark.parametrize("content", ["", "{", "null"])
def test_a_damaged_fingerprint_is_as_good_as_a_lost_one(deployment, content):
    first = deployment.ensure()
    (note,) = (deployment.folder / "storage").rglob("fingerprint.json")
    note.write_text(content)
    assert deployment.store.unchanged(deployment.source, deployment.run) is None
    assert deployment.ensure(LATER) == first
    assert deployment.store.unchanged(deployment.source, deployment.run) == first


@pytest.mark.parametrize("content", ["", "{", "null", "{}"])
def test_a_damaged_id_of_a_store_is_named_and_the_way_out_works(deployment, content):
    before = deployment.store.store_id
    path = deployment.folder / "storage/snapshots/store.json"
    path.write_text(content)
    with pytest.raises(DeliveredDataError, match=r"store\.json does not hold the store's id.*or remove it"):
        _ = deployment.store.store_id
    path.unlink()
    assert deployment.store.store_id != before


def test_a_part_that_is_gone_is_an_error_that_names_it(deployment):
    snapshot = deployment.ensure()
    (part,) = snapshot.tables["segments"]
    for file in (part.answers, part):
        (deployment.folder / "storage" / file.key).unlink()
        assert snapshot.has_file(file.key)
        with pytest.raises(DeliveredDataError, match=rf"{file.key.rpartition('/')[2]} is not there"):
            list(deployment.store.rows(snapshot, "segments", answers=True))


# --- failures ---------------------------------------------------------------------------------------------


def test_a_source_that_fails_half_way_leaves_storage_and_spool_as_they_were(deployment, monkeypatch):
    scratch = deployment.folder / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 10)
    first = deployment.ensure()
    before = deployment.stored()
    folder = deployment.write(100)
    results = folder / "segment_results.jsonl"
    lines = results.read_bytes().split(b"\n")
    results.write_bytes(b"\n".join([*lines[:70], lines[70][:-1], *lines[71:]]))
    with pytest.raises(SourceDataError, match=r"line 71"):
        deployment.ensure(LATER)
    assert deployment.stored() == before
    assert deployment.store.current("idx", "run_1") == first
    results.write_bytes(b"\n".join(lines))
    assert deployment.ensure(LATER).rows("segments") == 100
    (spool,) = scratch.iterdir()
    assert list(spool.iterdir()) == [], "nothing is left on local disk"


def test_a_run_that_contradicts_its_record_after_the_last_row_leaves_nothing(deployment):
    deployment.write(3, completed_segments=4)
    with pytest.raises(SourceDataError, match="holds 3 documents"):
        deployment.ensure()
    assert deployment.stored() == {}


# --- whether it adds up, and keeps to its schema ---


def test_a_run_that_does_not_add_up_has_no_snapshot_and_the_error_shows_the_sum(deployment):
    deployment.write(7, total_segments=10, failures=[{"segment_id": f"f{n}", "video_id": "v"} for n in range(3)])
    assert deployment.ensure(LATER).completeness.balances
    deployment.write(7, total_segments=10, completed_segments=None, failures=[{"segment_id": "f", "video_id": "v"}])
    with pytest.raises(SourceDataError, match="10 expected, 7 delivered \\+ 1 failed \\+ 0 quarantined: 2 missing"):
        deployment.ensure(LATER)


def test_a_segment_with_a_result_and_a_failure_is_counted_once(deployment):
    both = {"segment_id": segment(0)["segment_id"], "video_id": segment(0)["video_id"]}
    alone = {"segment_id": "f", "video_id": "v"}
    deployment.write(3, total_segments=4, completed_segments=None, failures=[both, alone])
    found = deployment.ensure(LATER).completeness
    assert (found.expected, found.delivered, found.failed, found.partly) == (4, 3, 1, 1)
    assert str(found) == "4 expected = 3 delivered + 1 failed + 0 quarantined"


@pytest.mark.parametrize("stated", [{}, {"total_segments": None}, {"total_segments": 0}])
def test_a_run_that_states_no_number_is_not_known_to_miss_anything(deployment, stated):
    """0 is what the platform has where it does not count."""
    deployment.write(**stated)
    found = deployment.ensure(LATER).completeness
    assert (found.expected, found.balances) == (None, True)


def test_a_run_of_nothing_adds_up(deployment):
    deployment.write(0, total_segments=0)
    assert str(deployment.ensure(LATER).completeness) == "0 expected = 0 delivered + 0 failed + 0 quarantined"


def test_a_snapshot_tells_which_rows_break_the_schema(deployment):
    rows = [segment(n, metadata={"title": "x" if n % 2 else 5, "brands": [{"name": n}]}) for n in range(6)]
    deployment.write(rows)
    report = deployment.ensure(LATER).contract["segments"]
    assert (report.rows, report.broken, report.problem) == (6, 6, None)
    told = {(one.place, one.keyword): one for one in report.places}
    assert (told["/brands/*/name", "type"].rows, told["/title", "type"].rows) == (6, 3)
    assert [one.segment_id for one in told["/title", "type"].examples] == ["seg_00000", "seg_00002", "seg_00004"]
    assert told["/brands/*/name", "type"].examples[0].pointer == "/brands/0/name"


def test_a_report_has_a_bounded_size_whatever_a_model_invents(deployment):
    schema = {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}
    rows = [segment(n, metadata={f"key {n} {k}": 1 for k in range(10)}) for n in range(60)]
    deployment.write(rows, schema=schema)
    report = deployment.ensure(LATER).contract["segments"]
    assert (report.broken, len(report.places), report.others) == (60, 50, 550)


# --- at the same time -------------------------------------------------------------------------------------


def test_threads_that_take_one_run_agree_on_one_revision(deployment):
    barrier = threading.Barrier(4)

    def take_it(_):
        store = SnapshotStore(deployment.storage())
        barrier.wait()
        return store.take(deployment.source, deployment.run, NOW)

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take_it, range(4)))
    assert len({(one.revision, one.data_version) for one in taken}) == 1
    assert [path.name for path in (deployment.folder / "storage").rglob("revisions/*")] == ["00000001.json"]
    assert deployment.store.unchanged(deployment.source, deployment.run) == deployment.store.current("idx", "run_1")


def _take_in_a_process(folder):
    deployment = Deployment(Path(folder))
    snapshot = deployment.store.take(deployment.source, deployment.run, NOW)
    return snapshot.revision, snapshot.data_version, deployment.store.store_id


@pytest.mark.slow
def test_processes_that_take_one_run_agree_on_one_revision(deployment):
    # Not multiprocessing.Pool: it waits for ever for a worker that died, or that it ended while the worker held a lock.
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        taken = list(pool.map(_take_in_a_process, [str(deployment.folder)] * 4))
    assert len(set(taken)) == 1
    assert taken[0][0] == 1
    assert len(list((deployment.folder / "storage").rglob("*.parquet"))) == 2, "the rows, and their answers"


class Waiting(LocalConnector):
    """A storage that holds the first write of a file of this name until it is told to go on."""

    name = ""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def put(self, local, key, **options):
        if key.endswith(self.name):
            self.reached.set()
            assert self.go_on.wait(30)
        super().put(local, key, **options)


class DeadAtTheNote(LocalConnector):
    """A storage whose writer dies when it says what it has read."""

    def put(self, local, key, **options):
        if key.endswith("fingerprint.json"):
            raise KeyboardInterrupt
        super().put(local, key, **options)


def test_who_dies_before_the_note_leaves_nothing_on_the_stage(deployment):
    """Whoever comes next finds the run as it was, and does not look at the stage."""
    folder, fingerprint = "snapshots/idx/run_1", fingerprint_of(deployment.source, deployment.run)
    StoredStage(deployment.storage(), folder, fingerprint).write(f"{'0' * 32}.jsonl.zst", b"some")
    with pytest.raises(KeyboardInterrupt):
        SnapshotStore(deployment.storage(DeadAtTheNote)).take(deployment.source, deployment.run, NOW)
    assert deployment.store.current("idx", "run_1") is not None
    assert not [path for path in deployment.stored() if "staging" in path.parts]


class WaitingWithRows(Waiting):
    name = ".parquet"


class WaitingWithTheNote(Waiting):
    name = "fingerprint.json"


def test_older_content_that_is_recorded_last_is_not_taken_for_the_newest(deployment):
    """A slow take records what it read before a change, after a fast one recorded what came of the change."""
    slow, fast = deployment.storage(WaitingWithRows), deployment.storage(WaitingWithTheNote)
    with ThreadPoolExecutor(2) as pool:
        older = pool.submit(SnapshotStore(slow).take, deployment.source, deployment.run, NOW)
        assert slow.reached.wait(30)
        deployment.write(5)
        newer = pool.submit(SnapshotStore(fast).take, deployment.source, deployment.run, NOW)
        assert fast.reached.wait(30)
        slow.go_on.set()
        assert (older.result(30).revision, older.result().rows("segments")) == (2, 3)
        fast.go_on.set()
        assert (newer.result(30).revision, newer.result().rows("segments")) == (1, 5)
    healed = deployment.ensure(LATER)
    assert (healed.revision, healed.rows("segments")) == (3, 5)
    assert deployment.store.unchanged(deployment.source, deployment.run) == healed
