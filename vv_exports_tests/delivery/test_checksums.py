"""``SHA256SUMS`` of an export on demand: for ``sha256sum -c``, and for whoever gets a copy without the log."""

import shutil
import subprocess
import zipfile

import pytest

from vv_exports.client.anywhere import verify_at
from vv_exports.delivery.checksums import checksums, read_checksums
from vv_exports.delivery.entry import DeliveredFile
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.delivery.conftest import Deployment
from vv_exports_tests.deployments import client_of

CHECK = ["sha256sum", "--strict", "--check", "SHA256SUMS"]
ODD = ["a b.parquet", " lead", "line\nbreak", "back\\slash", "bo\\nth\n", "*star", "Ünïcode"]


def check(folder) -> list[str]:
    """What sha256sum finds to be as it was; raises where it finds anything else."""
    said = subprocess.run(CHECK, cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    return said.stdout.splitlines()


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "archive", run_id="run/1 ü", segments=[segment(1), segment(2, video="vid_2")])
    write_run(tmp_path / "archive", run_id="run_2", segments=2, executed_at="2026-10-02T00:00:00Z")
    return client_of(tmp_path)


def test_an_export_to_a_folder_is_checked_by_sha256sum_also_once_it_is_made_again(client, tmp_path):
    asked = {"index_id": "idx", "destination_connector_id": "conn_export", "destination_subpath": "x y"}
    made = client.exports.create_index_export(**asked, idempotency_key="k")
    folder = tmp_path / "deliveries/x y" / made.export_id
    assert len(check(folder)) == made.files == 2
    assert verify_at(str(folder))[0].problems == ()
    assert client.vacuum("conn_export", f"x y/{made.export_id}").left_alone == ()
    before = (folder / "SHA256SUMS").stat()
    client.exports.create_index_export(**asked, idempotency_key="k")
    assert (folder / "SHA256SUMS").stat().st_mtime_ns == before.st_mtime_ns, "nothing is written twice"

    client.erasure.erase(video_id="vid_2", reason="ticket 2")
    assert len(check(folder)) == 2
    client.erasure.erase(run_id="run_2", reason="ticket 1")
    assert len(check(folder)) == 1
    assert verify_at(str(folder))[0].problems == ()


def test_a_download_is_checked_by_sha256sum_once_it_is_unpacked(client, tmp_path):
    made = client.exports.create_index_export("idx", format="csv")
    archive = client.exports.download(made.export_id, tmp_path / "out.zip").path
    assert verify_at(str(archive))[0].problems == ()
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / made.export_id
    assert len(check(folder)) == made.files
    next(folder.rglob("*.csv")).write_text("altered")
    with pytest.raises(subprocess.CalledProcessError):
        check(folder)


def test_a_copy_without_its_log_is_verified_by_the_checksums(client, tmp_path):
    made = client.exports.create_index_export("idx", destination_connector_id="conn_export")
    folder = tmp_path / "deliveries" / made.export_id
    (folder / "SHA256SUMS").write_text("0" * 64 + "  elsewhere\n")
    assert "SHA256SUMS says otherwise than the delivery log" in verify_at(str(folder))[0].problems[0]
    client.exports.create_index_export("idx", destination_connector_id="conn_export")
    shutil.rmtree(folder / "_vv")
    other = next(path for path in (tmp_path / "deliveries").iterdir() if path != folder)
    shutil.rmtree(other / "_vv")
    (found,) = verify_at(str(other))
    assert (found.problems, found.prompt_runs, found.files) == ((), 2, 2)
    one, two = sorted(other.rglob("*.parquet"))
    one.write_bytes(b"altered")
    two.rename(two.with_name("more.parquet"))
    told = "\n".join(verify_at(str(other))[0].problems)
    assert all(part in told for part in (f"{one} has the sha256", f"{two} is missing", "more.parquet is not among"))
    (other / "SHA256SUMS").write_text("no checksums")
    assert "line 1 is no checksum" in verify_at(str(other))[0].problems[0]


def test_names_are_escaped_as_sha256sum_does(tmp_path):
    deployment = Deployment(tmp_path)
    folder = tmp_path / "deliveries/exports/team"
    folder.mkdir(parents=True)
    for name in ODD:
        (folder / name).write_bytes(name.encode())
    theirs = subprocess.run(["sha256sum", "--", *ODD], cwd=folder, capture_output=True, check=True, timeout=20).stdout
    (folder / "SHA256SUMS").write_bytes(theirs)
    found = read_checksums(deployment.destination())
    assert set(found) == set(ODD)
    told = {"table": "segments", "prompt_id": "prm", "prompt_run_id": "run", "rows": 1, "bytes": 1}
    (folder / "SHA256SUMS").write_bytes(
        checksums([DeliveredFile(path=name, sha256=found[name], **told) for name in ODD])
    )
    assert len(check(folder)) == len(ODD)
