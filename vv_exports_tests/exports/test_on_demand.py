"""Exports without Dagster: what a deployment decides, makes, keeps and deletes."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError, RequestError
from vv_exports.exports.artifacts import artifact_key, being_read
from vv_exports.exports.make import ExportJob
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of, written_files
from vv_exports_tests.exports.records import BEGAN, attempt_of, record_of
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes_after

DOWNLOAD = ExportRequest("index", "idx", None, None, None, ContentOptions(FormatOptions("csv")))
FOLDER = ExportRequest("index", "idx", None, "conn_export", "there", ContentOptions(FormatOptions("csv")))


@pytest.fixture
def pipeline(tmp_path):
    for number in range(2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    pipeline = client_of(tmp_path, {**copy.deepcopy(CONFIG), "exports_keep": "30d"}).pipeline
    pipeline.exports.clock = lambda: BEGAN + timedelta(days=40)
    return pipeline


def begun(pipeline, request, number=1):
    record = record_of(number, "processing", request=request, prompt_run_ids=None)
    pipeline.exports.processing(record, attempt_of(str(number)))
    return record


def made(pipeline, request, number=1):
    """Make an export, as a Dagster run does."""
    record = begun(pipeline, request, number)
    runs = pipeline.exports.decided(record.export_id, request)
    snapshots = [one.snapshot for one in pipeline.snapshots.of_runs(runs)]
    pipeline.exports.make(ExportJob(record.export_id, request, snapshots), str(number))
    return pipeline.exports.find(record.export_id)


def everything(tmp_path):
    """Every file at the destinations, and every artifact."""
    artifacts = (tmp_path / "storage/exports/downloads").rglob("*.zip")
    return written_files(tmp_path) | {path.name: path.read_bytes() for path in artifacts}


def artifact_of(tmp_path, record):
    return tmp_path / "storage" / artifact_key(record.export_id)


def test_a_record_says_what_was_asked_for_and_what_came_of_it(pipeline, tmp_path):
    export = made(pipeline, FOLDER).export()
    assert (
        export.to_json().items()
        >= {
            "export_type": "index",
            "target_id": "idx",
            "status": "completed",
            "format": "csv",
            "all_prompt_runs": True,
            "prompt_run_ids": ("run_0", "run_1"),
            "destination_type": "connector",
            "destination_uri": str(tmp_path / "deliveries/there" / export.export_id),
            "rows": 6,
            "files": 2,
            "artifact": None,
            "launched_by": "client",
            "dagster_run_id": "1",
            "dagster_run_ids": ("1",),
            "error_message": None,
            "created_at": "2024-11-01T12:01:00.000Z",
            "started_at": "2024-11-01T12:00:00.000Z",
            "completed_at": "2024-12-11T12:00:00.000Z",
        }.items()
    )
    assert len(export.delivery_id) == 32


def test_all_finished_runs_are_decided_once(pipeline, tmp_path):
    """An attempt that came later took those that had finished meanwhile, too."""
    record = begun(pipeline, FOLDER)
    assert [run.run_id for run in pipeline.exports.decided(record.export_id, FOLDER)] == ["run_0", "run_1"]
    pipeline.exports.failed(record.export_id, "1", "killed")
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    pipeline.exports.processing(record_of(1, "processing", request=FOLDER, prompt_run_ids=None), attempt_of("2"))
    assert [run.run_id for run in pipeline.exports.decided(record.export_id, FOLDER)] == ["run_0", "run_1"]
    assert made(pipeline, FOLDER, 3).prompt_run_ids == ("run_0", "run_1", "run_2")


@pytest.mark.parametrize("request_", [FOLDER, DOWNLOAD], ids=["connector", "download"])
def test_what_is_committed_stays_as_it_is_though_the_process_died_before_it_said_so(pipeline, tmp_path, request_):
    """Killed after the commit, and made again when a run had changed, it became another export under its old id."""
    record = begun(pipeline, request_)
    runs = pipeline.exports.decided(record.export_id, request_)
    job = ExportJob(record.export_id, request_, [one.snapshot for one in pipeline.snapshots.of_runs(runs)])
    real, dying = pipeline.exports.records, FaultyConnector(pipeline.storage, {0: crashes_after}, only={"files"})
    pipeline.exports.records = type(real)(dying)
    with pytest.raises(Crash):
        pipeline.exports.make(job, "1")
    pipeline.exports.records = real
    assert pipeline.exports.find(record.export_id).is_open
    before = everything(tmp_path)
    write_run(tmp_path / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", segments=9)
    export = made(pipeline, request_).export()
    assert (export.status, export.rows, export.files) == ("completed", 6, 2)
    assert everything(tmp_path) == before
    files = [name for name in before if "/_vv/" not in name and not name.endswith("/SHA256SUMS")]
    assert export.bytes == sum(len(before[name]) for name in files)


def test_files_that_somebody_took_from_an_exports_folder_come_back_when_it_is_made_again(pipeline, tmp_path):
    made(pipeline, FOLDER)
    before = written_files(tmp_path)
    for path in tmp_path.glob("deliveries/there/*/segments/**/*.csv"):
        path.unlink()
    made(pipeline, FOLDER)
    after = written_files(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_launch_that_repeats_an_export_with_another_request_is_refused(pipeline):
    made(pipeline, FOLDER)
    with pytest.raises(RequestError, match="was launched for another request before"):
        begun(pipeline, DOWNLOAD)


def test_a_completed_export_stays_so_while_it_is_made_once_more_and_where_that_fails(pipeline):
    record = made(pipeline, FOLDER)
    again = pipeline.exports.processing(record, attempt_of("2"))
    assert (again.status, again.export().dagster_run_ids) == ("completed", ("1", "2"))
    assert pipeline.exports.failed(record.export_id, "2", "no").status == "completed"


def test_an_attempt_that_failed_is_not_the_failure_of_the_one_after_it(pipeline):
    record = begun(pipeline, FOLDER)
    pipeline.exports.processing(record, attempt_of("2"))
    assert pipeline.exports.failed(record.export_id, "1", "late").status == "processing"
    assert pipeline.exports.failed(record.export_id, "2", "no").error == "no"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"statuses": {"failed"}}, [3]),
        ({"statuses": {"completed"}}, [4, 2]),
        ({"index_id": "other"}, [2]),
        ({"index_id": "nobody"}, []),
        ({"since": BEGAN + timedelta(minutes=3)}, [4, 3]),
        ({"after": "exp_03"}, [2, 1]),
        ({"after": "exp_04", "statuses": {"completed"}}, [2]),
    ],
)
def test_exports_are_listed_newest_first_as_far_as_asked_for(pipeline, chosen, expected):
    of_others = {2: {"index_id": "other"}}
    for number, status in enumerate(["processing", "completed", "failed", "completed"], start=1):
        deleted = {"artifact_deleted_at": BEGAN} if number == 4 else {}
        pipeline.exports.records.begin(record_of(number, status, **of_others.get(number, {}), **deleted))
    found = [record.launch for record in pipeline.exports.newest(**chosen)]
    assert found == [str(number) for number in expected]


def test_a_deleted_artifact_is_gone_and_its_record_says_so(pipeline, tmp_path):
    record = made(pipeline, DOWNLOAD)
    size = artifact_of(tmp_path, record).stat().st_size
    deletion = pipeline.exports.delete("exp_01…")
    assert (deletion.export_id, deletion.bytes, deletion.is_being_read) == (record.export_id, size, False)
    assert not artifact_of(tmp_path, record).exists()
    export = pipeline.exports.find(record.export_id).export()
    assert (export.status, export.artifact, export.rows) == ("completed", "deleted", 6)
    assert export.artifact_deleted_at == "2024-12-11T12:00:00.000Z"
    with pytest.raises(RequestError, match="was deleted at 2024-12-11 12:00 UTC; make the export again"):
        pipeline.exports.download(record.export_id, tmp_path / "x.zip")
    assert pipeline.exports.delete(record.export_id).bytes == 0, "once more is nothing"
    assert [one.export_id for one in pipeline.exports.newest({"completed"})] == [record.export_id]


def test_a_download_whose_artifact_was_deleted_is_made_again_under_its_id(pipeline, tmp_path):
    record = made(pipeline, DOWNLOAD)
    pipeline.exports.delete(record.export_id)
    again = made(pipeline, DOWNLOAD)
    assert (again.export().artifact, again.export_id) == ("available", record.export_id)
    assert pipeline.exports.download(record.export_id, tmp_path / "x.zip")


def test_what_went_to_a_connector_is_not_deleted(pipeline, tmp_path):
    record = made(pipeline, FOLDER)
    before = written_files(tmp_path)
    with pytest.raises(RequestError, match="went to connector 'conn_export', whose files belong to their readers"):
        pipeline.exports.delete(record.export_id)
    with pytest.raises(RequestError, match="has no artifact to download"):
        pipeline.exports.download(record.export_id, tmp_path / "x.zip")
    assert written_files(tmp_path) == before


def test_a_download_that_is_not_complete_is_neither_deleted_nor_copied(pipeline, tmp_path):
    record = begun(pipeline, DOWNLOAD)
    for work in (pipeline.exports.delete, lambda one: pipeline.exports.download(one, tmp_path / "x.zip")):
        with pytest.raises(RequestError, match="is processing"):
            work(record.export_id)


def test_an_artifact_that_is_being_read_goes_once_its_reader_is_done(pipeline, tmp_path):
    record = made(pipeline, DOWNLOAD)
    with being_read(pipeline.storage, record.export_id, pipeline.exports.clock()):
        deletion = pipeline.exports.delete(record.export_id)
        assert deletion.is_being_read
        assert artifact_of(tmp_path, record).exists()
        with pytest.raises(RequestError, match="was deleted"):
            pipeline.exports.download(record.export_id, tmp_path / "x.zip")
        assert pipeline.exports.vacuum().deleted == (deletion,)
        assert artifact_of(tmp_path, record).exists()
    assert pipeline.exports.vacuum().bytes == deletion.bytes
    assert not artifact_of(tmp_path, record).exists()


def test_a_reader_that_looked_before_the_deletion_gets_the_whole_file(pipeline, tmp_path):
    """The artifact is deleted between a reader's look at the record and its opening of the file."""
    record = made(pipeline, DOWNLOAD)
    whole = artifact_of(tmp_path, record).read_bytes()

    def just_before(perform):
        assert pipeline.exports.delete(record.export_id).is_being_read
        return perform()

    storage = FaultyConnector(pipeline.storage, {0: just_before}, only=frozenset({"open"}))
    reader = client_of(tmp_path).pipeline.exports
    reader._storage, reader.clock = storage, pipeline.exports.clock
    assert reader.download(record.export_id, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == whole


def test_what_a_reader_left_that_died_keeps_an_artifact_for_a_day(pipeline, tmp_path):
    record = made(pipeline, DOWNLOAD)
    now = pipeline.exports.clock()
    reader = being_read(pipeline.storage, record.export_id, now)
    reader.__enter__()
    assert pipeline.exports.delete(record.export_id).is_being_read
    pipeline.exports.clock = lambda: now + timedelta(hours=25)
    assert not pipeline.exports.vacuum().deleted[0].is_being_read
    assert pipeline.storage.files("exports/downloads") == []


def test_a_vacuum_deletes_what_is_kept_long_enough_and_says_before_what_it_would(pipeline, tmp_path):
    at = pipeline.exports.clock()
    old, young, folder = made(pipeline, DOWNLOAD, 1), made(pipeline, DOWNLOAD, 2), made(pipeline, FOLDER, 3)
    pipeline.storage.create("exports/downloads/aa/exp_aa.zip", b"of nobody")
    for days, expected in [(29, []), (31, [old.export_id])]:
        pipeline.exports.clock = lambda days=days: at + timedelta(days=days)
        if days > 30:
            pipeline.exports.delete(young.export_id)  # it is gone, and not once more deleted
        would = pipeline.exports.vacuum(dry_run=True)
        assert [one.export_id for one in would.deleted] == expected
        assert artifact_of(tmp_path, old).exists()
        did = pipeline.exports.vacuum()
        assert did == would
    assert (did.keep, did.unknown) == ("30d", ("exports/downloads/aa/exp_aa.zip",))
    assert not artifact_of(tmp_path, old).exists()
    assert pipeline.exports.vacuum().deleted == ()
    assert pipeline.exports.find(folder.export_id).export().artifact is None


def test_a_vacuum_leaves_a_download_that_is_being_made(pipeline, tmp_path):
    record = made(pipeline, DOWNLOAD)
    pipeline.exports.delete(record.export_id)
    begun(pipeline, DOWNLOAD)
    pipeline.storage.create(artifact_key(record.export_id), b"just put there")
    assert pipeline.exports.vacuum().deleted == ()
    assert artifact_of(tmp_path, record).exists()
    pipeline.exports.failed(record.export_id, "1", "killed")
    assert len(pipeline.exports.vacuum().deleted) == 1
    assert not artifact_of(tmp_path, record).exists()


def test_without_exports_keep_nothing_expires(tmp_path):
    write_run(tmp_path / "archive", run_id="run_0")
    pipeline = client_of(tmp_path).pipeline
    record = made(pipeline, DOWNLOAD)
    pipeline.exports.clock = lambda: datetime(2100, 1, 1, tzinfo=UTC)
    assert pipeline.exports.vacuum().deleted == ()
    assert artifact_of(tmp_path, record).exists()


@pytest.mark.parametrize("status", ["failed", "expired"])
def test_a_vacuum_leaves_what_was_made_again_since_it_looked(pipeline, tmp_path, status):
    """It removed an artifact that had just been made, since the record had been over when it was read."""
    at = pipeline.exports.clock()
    record = made(pipeline, DOWNLOAD)
    pipeline.exports.clock = lambda: at + timedelta(days=31)
    if status == "failed":
        pipeline.exports.delete(record.export_id)
        begun(pipeline, DOWNLOAD)
        pipeline.exports.failed(record.export_id, "1", "killed")
        pipeline.storage.create(artifact_key(record.export_id), b"left by it")

    vacuuming = client_of(tmp_path, {**copy.deepcopy(CONFIG), "exports_keep": "30d"}).pipeline.exports
    vacuuming.clock = pipeline.exports.clock
    read = vacuuming.records.read

    def read_and_be_overtaken(entries):
        for one in read(entries):
            pipeline.exports.delete(record.export_id) if status == "expired" else None
            artifact_of(tmp_path, record).unlink(missing_ok=True)
            made(pipeline, DOWNLOAD)
            yield one

    vacuuming.records.read = read_and_be_overtaken
    assert vacuuming.vacuum().deleted == ()
    assert artifact_of(tmp_path, record).exists()
    assert pipeline.exports.find(record.export_id).has_artifact


def test_a_copy_of_an_artifact_elsewhere_is_not_the_artifact(pipeline, tmp_path):
    """A copy in a folder beside it passed for it, so that the same key did not make what had been taken away."""
    record = made(pipeline, DOWNLOAD)
    key = artifact_key(record.export_id)
    copied = key.replace("/01/", "/01/old/")
    pipeline.storage.create(copied, b"mine")
    artifact_of(tmp_path, record).unlink()
    assert pipeline.exports.has_lost_its_artifact(record)
    assert pipeline.exports.vacuum().unknown == (copied,)
    pipeline.exports.delete(record.export_id)
    assert pipeline.storage.read(copied) == b"mine"


def test_a_file_that_only_looks_like_a_readers_mark_is_none(pipeline, tmp_path):
    """A moment that there is not ended every look at the artifact with a traceback."""
    record = made(pipeline, DOWNLOAD)
    pipeline.storage.create(f"{artifact_key(record.export_id)}.readers/99999999T999999Z-{'0' * 16}.json", b"")
    assert not pipeline.exports.delete(record.export_id).is_being_read
    assert not artifact_of(tmp_path, record).exists()


@pytest.mark.parametrize("harm", [lambda data: data[:-10], lambda _: b""], ids=["cut short", "empty"])
def test_an_artifact_that_was_cut_short_is_not_downloaded(pipeline, tmp_path, harm):
    """It was copied as if it were the export."""
    record = made(pipeline, DOWNLOAD)
    artifact = artifact_of(tmp_path, record)
    artifact.write_bytes(harm(artifact.read_bytes()))
    with pytest.raises(DeliveredDataError, match="is no zip file any more"):
        pipeline.exports.download(record.export_id, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def _altered(folder):
    path = next(folder.rglob("*.csv"))
    path.write_bytes(b"?" * path.stat().st_size)


def _unreadable(folder):
    (folder / "_vv/log/00000000000000000000.json").write_bytes(b"{")
    next(folder.rglob("*.csv")).unlink()


def _notes_in_the_log(folder):
    _unreadable(folder)
    (folder / "_vv/log/00000000000000000001.json").write_text("notes")


EXPORT_HARMS = {
    "altered": _altered,
    "unreadable": _unreadable,
    "notes in the log": _notes_in_the_log,
    "no owner": lambda folder: (folder / "_vv/owner.json").unlink(),
    "no checksums of these": lambda folder: (folder / "SHA256SUMS").write_text("x"),
}


@pytest.mark.parametrize("harm", EXPORT_HARMS)
@pytest.mark.parametrize("has_changed", [False, True])
def test_an_export_is_mended_as_it_was_or_not_at_all(tmp_path, harm, has_changed):
    for number in range(2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    client = client_of(tmp_path)
    subpath = f"there/{made(client.pipeline, FOLDER).export_id}"
    folder = tmp_path / "deliveries" / subpath
    before = {path: content for path, content in written_files(tmp_path).items() if "/log/" not in path}
    EXPORT_HARMS[harm](folder)
    if has_changed:
        for number in range(2):
            write_run(tmp_path / "archive", run_id=f"run_{number}", segments=9)
        client.pipeline.snapshots.of_ids("idx", ["run_0", "run_1"])
    (planned,) = client.repairs.plan_at("conn_export", subpath)
    (done,) = client.repairs.repair_at("conn_export", subpath)
    needs_rows = harm in {"altered", "unreadable", "notes in the log"}
    assert planned.is_fine == done.is_fine == (not has_changed or not needs_rows)
    if done.is_fine:
        after = written_files(tmp_path)
        assert {path: after[path] for path in before} == before
        assert client.repairs.repair_at("conn_export", subpath)[0].before == ()
    else:
        assert "Make a new export in place of it" in done.not_mended
