"""A run that is larger than the local disk: each part goes as soon as the next one is begun."""

import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from vv_exports.connectors import spool as spools
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import Spool, spooled_bytes, use_spool
from vv_exports.errors import NoRoomError, SourceDataError, TransientError
from vv_exports.formats import parquet
from vv_exports.snapshots import ordering
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources import archive_files
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import segment, write_run

NOW = datetime(2026, 11, 27, tzinfo=UTC)
RUN = "snapshots/idx/run_1"


class Recording(LocalConnector):
    """A storage that knows what was put, and how much was on the spool then."""

    def __init__(self, folder):
        super().__init__("storage", folder / "storage", make_root=True)
        self.puts, self.spooled = [], []
        self.before_put = lambda key: None

    def put(self, local, key, **options):
        self.before_put(key)
        self.spooled.append(spooled_bytes())
        super().put(local, key, **options)
        self.puts.append(key.rpartition("/")[2])

    @property
    def parts(self):
        """What was put of parts, without hashes."""
        return [f"{name[:14]}{name[31:]}" for name in self.puts if name.startswith("segments")]


class Deployment:
    def __init__(self, folder):
        self.folder = folder
        self.source = LocalArchive(str(folder / "archive"))
        self.storage = Recording(folder)
        self.store = SnapshotStore(self.storage)

    def write(self, segments=450, **fields):
        write_run(self.folder / "archive", segments=segments, **fields)

    def take(self, above=0):
        return self.store.take(self.source, self.source.prompt_run("idx", "run_1"), NOW, above)

    def kept(self):
        return sorted(file.key.rpartition("/")[2] for file in self.storage.files(f"{RUN}/parts"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 100)
    monkeypatch.setattr("vv_exports.snapshots.reading._GROUP_ROWS", 20)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 20)
    monkeypatch.setattr(archive_files, "_BLOCK", 3_000)
    monkeypatch.setattr(spools, "IN_MEMORY_BYTES", 0)
    yield
    use_spool(Spool())


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    deployment.write()
    return deployment


def names(numbers):
    return [f"segments-{number:05}{suffix}" for number in numbers for suffix in (".parquet", ".answers.parquet")]


def test_the_spool_holds_two_parts_of_a_run_however_many_it_has(deployment):
    snapshot = deployment.take()
    parts = snapshot.tables["segments"]
    assert [part.rows for part in parts] == [100, 100, 100, 100, 50]
    assert deployment.storage.parts == names(range(5))
    assert max(deployment.storage.spooled) <= 2.5 * max(sum(file.bytes for file in part.files) for part in parts)
    assert sum(rows.batch.num_rows for rows in deployment.store.rows(snapshot, "segments", answers=True)) == 450


def test_a_run_that_is_as_it_was_uploads_nothing_and_one_that_grew_what_is_new(deployment):
    first = deployment.take()
    deployment.storage.puts.clear()
    assert deployment.take() == first
    assert deployment.storage.parts == []
    deployment.write(460)
    grown = deployment.take()
    assert deployment.storage.parts == names([4])
    assert [part.key for part in grown.tables["segments"][:4]] == [part.key for part in first.tables["segments"][:4]]


def test_a_part_that_was_read_again_since_it_may_be_damaged_is_uploaded_again(deployment):
    first = deployment.take()
    path = deployment.folder / "storage" / first.tables["segments"][1].key
    path.write_bytes(b"x" * path.stat().st_size)
    again = deployment.take(above=first.revision)
    assert again.revision == first.revision + 1
    assert sum(rows.batch.num_rows for rows in deployment.store.rows(again, "segments")) == 450


def test_a_part_that_was_lost_is_uploaded_again_by_the_next_reading(deployment):
    first = deployment.take()
    (deployment.folder / "storage" / first.tables["segments"][1].key).unlink()
    deployment.storage.puts.clear()
    deployment.write(460)
    grown = deployment.take()
    assert deployment.storage.parts == ["segments-00001.parquet", *names([4])]
    assert sum(rows.batch.num_rows for rows in deployment.store.rows(grown, "segments")) == 460


@pytest.mark.parametrize("error", [KeyboardInterrupt, TransientError])
def test_a_reading_that_was_cut_off_is_begun_anew_and_uploads_the_rest(deployment, error):
    def fail(key):
        if "segments-00003" in key:
            raise error

    deployment.storage.before_put = fail
    with pytest.raises(error):
        deployment.take()
    assert deployment.storage.parts == names(range(3))
    deployment.storage.before_put = lambda key: None
    deployment.storage.puts.clear()
    assert deployment.take().rows("segments") == 450
    assert deployment.storage.parts == names([3, 4])


@pytest.mark.slow
def test_a_reading_that_was_killed_is_begun_anew_and_uploads_the_rest(deployment):
    child = os.fork()
    if not child:
        deployment.storage.before_put = lambda key: os.kill(os.getpid(), 9) if "segments-00003" in key else None
        deployment.take()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert deployment.store.current("idx", "run_1") is None
    assert deployment.take().rows("segments") == 450
    assert deployment.storage.parts == names([3, 4])
    assert len(deployment.kept()) == 10


def test_parts_that_a_dead_reading_left_of_other_content_go_with_the_next_snapshot(deployment):
    first = deployment.take()
    deployment.write([segment(number, metadata={"title": "new"}) for number in range(350)])

    def fail(key):
        if "segments-00002" in key:
            raise KeyboardInterrupt

    deployment.storage.before_put = fail
    with pytest.raises(KeyboardInterrupt):
        deployment.take()
    assert len(deployment.kept()) == 10 + 4
    deployment.storage.before_put = lambda key: None
    deployment.write([segment(number, metadata={"title": "newer"}) for number in range(350)])
    second = deployment.take()
    assert len(deployment.kept()) == 10 + 8, "those of both snapshots, and no others"
    for snapshot in (first, second):
        assert sum(rows.batch.num_rows for rows in deployment.store.rows(snapshot, "segments", answers=True))


def test_results_that_do_not_add_up_leave_no_part(deployment):
    deployment.write(completed_segments=451)
    with pytest.raises(SourceDataError, match="holds 450 documents"):
        deployment.take()
    assert deployment.storage.parts == names(range(4))
    assert deployment.kept() == []


def test_rows_out_of_order_leave_the_parts_of_sorted_rows_alone(deployment):
    in_order = deployment.take()
    shutil.rmtree(deployment.folder / "storage")
    rows = [segment(number) for number in range(450)]
    rows[-1], rows[-2] = rows[-2], rows[-1]
    rows[50], rows[440] = rows[440], rows[50]
    deployment.write(rows)
    assert deployment.take().data_version == in_order.data_version
    assert len(deployment.kept()) == 10


def test_parts_that_somebody_removed_meanwhile_make_no_snapshot(deployment):
    def remove(key):
        if "segments-00003" in key:
            shutil.rmtree(deployment.folder / "storage" / RUN / "parts")

    deployment.storage.before_put = remove
    with pytest.raises(TransientError, match=r"segments-00000-.*was removed while its prompt run was read; try again"):
        deployment.take()
    assert deployment.store.current("idx", "run_1") is None


def test_several_that_read_one_run_at_once_agree_on_one_snapshot(deployment):
    stores = [SnapshotStore(Recording(deployment.folder)) for _ in range(3)]
    run = deployment.source.prompt_run("idx", "run_1")
    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(lambda store: store.take(deployment.source, run, NOW), stores))
    assert {(one.revision, one.data_version) for one in taken} == {(1, taken[0].data_version)}
    assert len(deployment.kept()) == 10
    assert sum(rows.batch.num_rows for rows in deployment.store.rows(taken[0], "segments", answers=True)) == 450


# --- where there is no room


def largest_part(deployment):
    """Bytes, with its answers. Nothing is kept of the reading that tells it."""
    largest = max(sum(file.bytes for file in part.files) for part in deployment.take().tables["segments"])
    shutil.rmtree(deployment.folder / "storage")
    deployment.storage.spooled.clear()
    return largest


def test_a_run_whose_parts_do_not_fit_is_refused_before_anything_is_written(deployment):
    limit = largest_part(deployment) // 4
    use_spool(Spool(max_bytes=limit))
    with pytest.raises(NoRoomError, match=r"part of 100 segments needs .* spool.max_bytes allows 1 MiB: raise it"):
        deployment.take()
    assert deployment.storage.files("") == []


def test_a_limit_of_one_part_is_enough_where_each_goes_before_the_next(deployment):
    limit = int(1.5 * largest_part(deployment))
    use_spool(Spool(max_bytes=limit))
    assert deployment.take().rows("segments") == 450
    assert max(deployment.storage.spooled) <= limit


def test_what_is_out_of_order_and_cannot_be_sorted_here_is_told_after_the_first_rows(deployment, monkeypatch):
    monkeypatch.setattr(ordering, "_STRETCH_BYTES", 4_000)
    rows = [segment(number) for number in range(450)]
    random.Random(3).shuffle(rows)
    deployment.write(rows)
    use_spool(Spool(max_bytes=60_000))
    with pytest.raises(NoRoomError, match=r"sorting 450 rows that are out of order needs .* MiB"):
        deployment.take()
    assert deployment.storage.files("") == []
    use_spool(Spool(max_bytes=2_000_000))
    assert deployment.take().rows("segments") == 450


def test_a_run_without_room_does_not_stand_in_the_way_of_others(deployment):
    write_run(deployment.folder / "archive", run_id="run_2", segments=[segment(0)])
    use_spool(Spool(max_bytes=largest_part(deployment) // 4))
    snapshots = Snapshots(deployment.source, deployment.storage, clock=lambda: NOW, progress=lambda *_: None)
    batch = snapshots.of_ids("idx", ["run_1", "run_2"])
    assert [one.run_id for one in batch.snapshots] == ["run_2"]
    assert isinstance(batch.problems["run_1"], NoRoomError)
