"""A backup of `storage` is restored, or `storage` is lost, while the destinations and Dagster's database are newer."""

import copy
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vv_exports.client import VVExports
from vv_exports.delivery.state import LogState
from vv_exports.domain.exports import ExportRequest, ExportStatus
from vv_exports.errors import DeliveredDataError, DeliveryConflictError, IdempotencyError, NotFoundError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of, written_files

pytestmark = pytest.mark.slow


class Backup:
    """Of the storage alone."""

    def __init__(self, folder: Path) -> None:
        self._storage, self._copy = folder / "storage", folder / "backup"
        shutil.copytree(self._storage, self._copy)

    def restore(self) -> None:
        shutil.rmtree(self._storage)
        shutil.copytree(self._copy, self._storage)


def run_with(folder: Path, segments: int, run_id: str = "run_1") -> None:
    write_run(folder / "archive", run_id=run_id, segments=segments)


def delivered(client: VVExports) -> LogState:
    return client.pipeline.automations.get("idx", "team").collection()


@pytest.fixture
def client(tmp_path):
    """Of a deployment whose collection holds revision 1 of a run, and revision 1 of another."""
    run_with(tmp_path, 1)
    run_with(tmp_path, 1, "run_2")
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    return client


def changed(client: VVExports, folder: Path, *segments: int) -> None:
    """The run gets other content again and again, and each is delivered."""
    for count in segments:
        run_with(folder, count)
        client.automations.run("idx", "team")


@pytest.mark.slow
def test_a_run_whose_revision_at_the_destination_is_above_the_restored_ones_is_delivered_by_the_next_run(
    client, tmp_path, caplog
):
    """It was stuck for good: its content was taken for older than the delivered one, and there was no newer one."""
    backup = Backup(tmp_path)
    changed(client, tmp_path, 2, 3, 4)
    assert delivered(client).runs["run_1"].run.revision == 4
    backup.restore()
    run_with(tmp_path, 5)
    run_with(tmp_path, 6, "run_2")
    done = client_of(tmp_path).automations.run("idx", "team")
    assert set(done.delivered) == {"run_1", "run_2"}
    runs = delivered(client_of(tmp_path)).runs
    assert (runs["run_1"].run.revision, runs["run_1"].run.counts.delivered) == (5, 5)
    assert runs["run_2"].run.counts.delivered == 6
    assert "prompt runs are read again (run_1), since:" in caplog.text
    assert "holds newer snapshots than the pipeline's `storage` of the prompt runs run_1 (revision 4)" in caplog.text
    again = client_of(tmp_path)
    assert again.automations.run("idx", "team").delivered == ()
    assert again.automations.retrieve("idx", "team").due == 0


def test_a_run_that_is_delivered_as_it_is_now_is_not_delivered_again_after_a_restore(client, tmp_path):
    backup = Backup(tmp_path)
    changed(client, tmp_path, 2, 3)
    backup.restore()
    before = written_files(tmp_path)
    assert client_of(tmp_path).automations.run("idx", "team").delivered == ()
    assert written_files(tmp_path) == before


def test_a_source_that_was_restored_together_with_the_storage_is_delivered_as_it_is(client, tmp_path):
    """What was read before the backup looks unchanged, and is older than what the destination holds."""
    backup = Backup(tmp_path)
    shutil.copytree(tmp_path / "archive", tmp_path / "archive-backup")
    changed(client, tmp_path, 2, 3)
    backup.restore()
    shutil.rmtree(tmp_path / "archive")
    shutil.copytree(tmp_path / "archive-backup", tmp_path / "archive")
    assert client_of(tmp_path).automations.run("idx", "team").delivered == ("run_1",)
    run = delivered(client_of(tmp_path)).runs["run_1"].run
    assert (run.revision, run.counts.delivered) == (4, 1)


def test_a_process_that_was_held_up_since_before_the_restore_does_not_overwrite_what_is_newer(client, tmp_path):
    run_with(tmp_path, 2)
    (held_up,) = client.pipeline.snapshots.of_ids("idx", ["run_1"]).snapshots
    request = client.pipeline.automations.get("idx", "team").delivery_of([held_up], None)
    backup = Backup(tmp_path)
    changed(client, tmp_path, 3, 4)
    backup.restore()
    client.pipeline.deliveries.deliver(request)
    run = delivered(client_of(tmp_path)).runs["run_1"].run
    assert run.counts.delivered == 4, "the run was read again: it holds what the source has"
    changed(client, tmp_path, 5)
    with pytest.raises(DeliveryConflictError, match="start again with the current snapshot"):
        client.pipeline.deliveries.deliver(request)
    assert delivered(client_of(tmp_path)).runs["run_1"].run.counts.delivered == 5


def test_a_storage_that_was_lost_goes_on_where_the_log_is(client, tmp_path):
    changed(client, tmp_path, 2, 3)
    shutil.rmtree(tmp_path / "storage")
    run_with(tmp_path, 4)
    done = client_of(tmp_path).automations.run("idx", "team")
    assert done.delivered == ("run_1",)
    assert done.already_delivered == ("run_2",)
    assert delivered(client_of(tmp_path)).runs["run_1"].run.counts.delivered == 4


@pytest.mark.parametrize("format_name", ["parquet", "csv"])
def test_a_snapshot_whose_files_a_backup_lacks_is_read_again(tmp_path, caplog, format_name):
    """A backup that is copied while the pipeline works may have a revision and not its files."""
    run_with(tmp_path, 1)
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"]["format"] = format_name
    client = client_of(tmp_path, config)
    client.pipeline.snapshots.of_ids("idx", ["run_1"])
    for part in (tmp_path / "storage").rglob(f"segments-00000-{16 * '?'}.parquet"):
        part.unlink()
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    assert "is not there. Delete the newest file in" in caplog.text
    assert list((tmp_path / "storage").rglob(f"segments-00000-{16 * '?'}.parquet"))


def test_a_damaged_snapshot_is_read_again(tmp_path, caplog):
    run_with(tmp_path, 1)
    client = client_of(tmp_path)
    client.pipeline.snapshots.of_ids("idx", ["run_1"])
    (part,) = (tmp_path / "storage").rglob(f"segments-00000-{16 * '?'}.parquet")
    whole = part.read_bytes()
    part.write_bytes(whole[:-20] + bytes(20))
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    assert "was damaged: its sha256 is" in caplog.text
    assert part.read_bytes() == whole


def test_an_idempotency_key_that_the_backup_does_not_have_gives_the_earlier_export_as_long_as_dagster_knows_it(
    client, tmp_path
):
    backup = Backup(tmp_path)
    made = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    backup.restore()
    before = written_files(tmp_path)
    again = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    assert (again.export_id, again.delivery_id) == (made.export_id, made.delivery_id)
    assert written_files(tmp_path) == before
    with pytest.raises(IdempotencyError):
        client.exports.create_index_export("idx", None, "conn_export", "elsewhere", idempotency_key="k")


@pytest.mark.parametrize("content", ["", "{", "null", "{}"])
def test_a_damaged_idempotency_key_is_named_and_the_way_out_works(client, tmp_path, content):
    request = ExportRequest("index", "idx", None, None, None)

    def launch_of(run_id):
        return client.pipeline.exports.launch_of("k", request, run_id, datetime.now(UTC)).run_id

    assert launch_of("run") == "run"
    (key,) = (tmp_path / "storage/exports/idempotency").iterdir()
    key.write_text(content)
    with pytest.raises(DeliveredDataError, match=rf"{key.name} does not say which export .*'k'.*or remove it"):
        launch_of("another")
    key.unlink()
    assert launch_of("run") == "run"


def test_a_download_that_the_backup_does_not_have_is_made_again_by_the_same_key(client, tmp_path):
    backup = Backup(tmp_path)
    made = client.exports.create_index_export("idx", idempotency_key="k")
    without_key = client.exports.create_index_export("idx")
    for artifact in (tmp_path / "storage/exports/downloads").rglob("*.zip"):
        artifact.unlink()
    for lost in (made, without_key):
        with pytest.raises(
            DeliveredDataError, match=r"is not there: it was deleted, or a backup .* Make the export again"
        ):
            client.exports.download(lost.export_id, tmp_path / "x.zip")
    backup.restore()
    for lost in (made, without_key):
        with pytest.raises(NotFoundError, match=r"does not exist.* a backup .*, the same request makes it again"):
            client.exports.download(lost.export_id, tmp_path / "x.zip")
    again = client.exports.create_index_export("idx", idempotency_key="k")
    assert (again.export_id, again.status) == (made.export_id, ExportStatus.COMPLETED)
    client.exports.download(again.export_id, tmp_path / "x.zip")
    assert sum(name.endswith(".parquet") for name in zipfile.ZipFile(tmp_path / "x.zip").namelist()) == 2
