"""What a killed process left goes with the next run of the same command, also where that has nothing new to deliver."""

import os
import shutil

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of, written_files


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "archive", run_id="run/1", segments=3)
    write_run(tmp_path / "archive", run_id="run_2", segments=2)
    return client_of(tmp_path)


def _data_files(folder):
    return {path for path in written_files(folder) if "/_vv/" not in path}


def test_an_automation_that_was_killed_before_it_tidied_up_tidies_up(client, tmp_path):
    client.automations.run("idx", "team")
    (old,) = (tmp_path / "deliveries").rglob("prompt_run_id=run%2F1/*.parquet")
    shutil.copy(old, tmp_path / "old")
    write_run(tmp_path / "archive", run_id="run/1", segments=4)
    client.automations.run("idx", "team")
    finished = written_files(tmp_path)
    shutil.copy(tmp_path / "old", old)
    outcome = client.automations.run("idx", "team")
    assert (outcome.delivered, len(outcome.dagster_run_ids)) == ((), 1)
    assert written_files(tmp_path) == finished
    assert client.automations.run("idx", "team").dagster_run_ids == ()


def test_an_automation_that_was_killed_while_it_uploaded_what_is_no_longer_wanted_tidies_up(client, tmp_path):
    client.automations.run("idx", "team")
    finished = _data_files(tmp_path)
    (committed,) = (tmp_path / "deliveries").rglob("prompt_run_id=run_2/*.parquet")
    shutil.copy(committed, committed.with_name("part-00000-0123456789abcdef.parquet"))
    client.automations.run("idx", "team")
    assert _data_files(tmp_path) == finished
    assert client.automations.run("idx", "team").dagster_run_ids == ()


def test_what_a_killed_process_left_in_the_pipelines_storage_goes(client, tmp_path):
    temporary = tmp_path / "storage" / ".vv_exports_tmp"
    temporary.mkdir(parents=True)
    (temporary / ("a" * 32)).write_text("half a snapshot, or half a download")
    client.exports.create_index_export("idx")
    assert not temporary.exists()


def test_a_download_sweeps_what_a_killed_one_left_beside_it(client, tmp_path):
    export = client.exports.create_index_export("idx")
    left = tmp_path / "out" / ".vv_exports_tmp" / ("a" * 32)
    left.parent.mkdir(parents=True)
    left.write_text("half a download")
    client.exports.download(export.export_id, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{export.export_id}.zip"]


def test_a_download_goes_where_a_link_points_and_replaces_nothing_but_files(client, tmp_path):
    export = client.exports.create_index_export("idx")
    (tmp_path / "latest.zip").symlink_to(tmp_path / "other.zip")
    client.exports.download(export.export_id, tmp_path / "latest.zip")
    assert (tmp_path / "latest.zip").is_symlink()
    assert (tmp_path / "other.zip").read_bytes()[:2] == b"PK"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="pipe is not a file"):
        client.exports.download(export.export_id, tmp_path / "pipe")
    with pytest.raises(RequestError, match="missing is not a folder"):
        client.exports.download(export.export_id, tmp_path / "missing" / "out.zip")
    assert not (tmp_path / ".vv_exports_tmp").exists()


def test_half_a_zip_is_never_the_artifact(client, tmp_path, monkeypatch):
    """The process dies while the finished zip moves to the pipeline's storage."""

    class Crash(BaseException):
        pass

    put = LocalConnector.put_stream

    def dying(self, content, key):
        if key.startswith("exports/"):
            raise Crash
        put(self, content, key)

    monkeypatch.setattr(LocalConnector, "put_stream", dying)
    with pytest.raises(Crash):
        client.exports.create_index_export("idx", idempotency_key="k")
    assert list((tmp_path / "storage").glob("exports/*")) == []
    monkeypatch.setattr(LocalConnector, "put_stream", put)
    export = client.exports.create_index_export("idx", idempotency_key="k")
    assert client.exports.download(export.export_id, tmp_path / "out.zip").written
    assert len(list((tmp_path / "storage").glob("exports/*"))) == 1
