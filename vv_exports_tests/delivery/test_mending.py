"""What a killed process left goes with the next run of the same command, also where that has nothing new to deliver."""

import errno
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import vv_exports
from vv_exports.connectors.local import LocalConnector
from vv_exports.defs import processes
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of, write_config, written_files


class Broken(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size=-1):
        if not (content := super().read(size)):
            raise OSError(errno.EIO, "Input/output error")
        return content


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "archive", run_id="run/1", segments=3)
    write_run(tmp_path / "archive", run_id="run_2", segments=2)
    return client_of(tmp_path)


def _data_files(folder):
    return {path for path in written_files(folder) if "/_vv/" not in path}


def test_a_file_that_somebody_deleted_or_cut_is_delivered_again(client, tmp_path):
    client.automations.run("idx", "team")
    finished = _data_files(tmp_path)
    contents = {path: (tmp_path / path).read_bytes() for path in finished}
    (lost,) = (tmp_path / "deliveries").rglob("prompt_run_id=run_2/*.parquet")
    (cut,) = (tmp_path / "deliveries").rglob("prompt_run_id=run%2F1/*.parquet")
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    assert client.automations.run("idx", "team").delivered == ("run/1", "run_2")
    assert {path: (tmp_path / path).read_bytes() for path in _data_files(tmp_path)} == contents
    assert client.automations.run("idx", "team").dagster_run_ids == ()


def test_what_a_process_left_in_the_storage_that_died_after_its_delivery_goes_where_nothing_is_to_be_done(
    client, tmp_path
):
    again = (
        lambda: client.automations.run("idx", "team").dagster_run_ids,
        lambda: client.exports.create_index_export("idx", idempotency_key="k").export_id,
    )
    before = [one() for one in again]
    for one, outcome in zip(again, before, strict=True):
        left = tmp_path / "storage/.vv_exports_tmp" / ("0" * 32)
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"half a record")
        assert one() in {(), outcome}
        assert not left.exists()


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
    content = committed.read_bytes() + b"of another content"
    name = f"part-00000-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    committed.with_name(name).write_bytes(content)
    outcome = client.automations.run("idx", "team")
    assert (outcome.delivered, outcome.mended) == (("run_2",), ("run_2",))
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
    """The disk breaks while the finished zip is on its way to the pipeline's storage."""
    put = LocalConnector.put_stream

    def dying(self, content, key, **how):
        if key.startswith("exports/"):
            content = Broken(content.read(1000))
        put(self, content, key, **how)

    monkeypatch.setattr(LocalConnector, "put_stream", dying)
    failed = client.exports.create_index_export("idx", idempotency_key="k")
    assert "Input/output error" in failed.error_message
    assert [
        path
        for path in (tmp_path / "storage").rglob("*")
        if path.suffix == ".zip" or path.parent.name == ".vv_exports_tmp"
    ] == []
    monkeypatch.setattr(LocalConnector, "put_stream", put)
    export = client.exports.create_index_export("idx", idempotency_key="k")
    assert export.export_id == failed.export_id
    assert client.exports.download(export.export_id, tmp_path / "out.zip").written
    assert len(list((tmp_path / "storage").rglob("*.zip"))) == 1


_EXPORT = """
import sys
from pathlib import Path
from vv_exports.client import VVExports
client = VVExports(Path("vv_exports.yaml"))
export = client.exports.create_index_export("idx", None, "conn_export", "x", idempotency_key="k")
print(export.export_id, export.status, export.rows, export.dagster_run_id)
"""


@pytest.mark.slow
def test_two_processes_with_one_idempotency_key_make_one_export(tmp_path, monkeypatch):
    """The one that comes second waits for the first, wherever it has got to."""
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    write_run(tmp_path / "archive", segments=500)
    write_config(tmp_path)
    (tmp_path / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {tmp_path}/.dagster}}}}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.get_runs()  # its database is there: two processes that set it up at once are another story
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(vv_exports.__file__).parent.parent))
    twins = [
        subprocess.Popen([sys.executable, "-c", _EXPORT], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {twin.communicate(timeout=60)[0] for twin in twins}
    assert [twin.returncode for twin in twins] == [0, 0]
    assert len(said) == 1, said
    assert said.pop().split()[1:3] == ["completed", "500"]
    assert len(list((tmp_path / "deliveries/x").iterdir())) == 1


def test_a_killed_process_is_gone_though_nobody_asked_about_it():
    """In a container without an init process it stays in the process table for ever, and its runs stayed started."""
    with subprocess.Popen(["sleep", "60"]) as process:
        alive = f"{socket.gethostname()} {process.pid} {processes._started(process.pid)}"
        assert not processes.is_gone(alive)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.is_gone(alive)
