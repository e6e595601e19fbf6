"""Whoever receives a delivery verifies it with nothing configured: a folder, a zip file, an address."""

import json
import uuid
import zipfile
from pathlib import Path

import pytest

from vv_exports.client.anywhere import provenance_at, verify_at
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of


@pytest.fixture
def team(tmp_path) -> Path:
    """A collection, elsewhere than where it was delivered."""
    write_run(tmp_path / "archive", segments=3)
    write_run(tmp_path / "archive", run_id="0001", segments=2, executed_at="2026-10-02T10:00:00Z")
    client_of(tmp_path).automations.run("idx", "team")
    return (tmp_path / "deliveries/exports/team").rename(tmp_path / "received from them")


def problems(target: Path | str) -> list[str]:
    (found,) = verify_at(str(target))
    assert found.advice == ()
    return list(found.problems)


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as made:
        for path in folder.rglob("*"):
            made.write(path, path.relative_to(folder.parent))
    return archive


def test_a_folder_that_was_received_is_verified_and_so_is_one_that_holds_some(team):
    (alone,) = verify_at(str(team))
    (below,) = verify_at(str(team.parent))
    assert (alone.problems, alone.prompt_runs, alone.files) == ((), 2, 2)
    assert (below.problems, below.uri) == ((), str(team))


def test_the_zip_file_of_a_download_is_verified(tmp_path):
    write_run(tmp_path / "archive", segments=3)
    client = client_of(tmp_path)
    made = client.exports.create(ExportRequest("index", "idx", None, None, None))
    done = client.exports.download(made.export_id, tmp_path / "download.zip")
    assert problems(done.path) == []


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_altered_removed_or_added_is_named(team, packed):
    one, other = sorted(team.rglob("*.parquet"))
    one.write_bytes(one.read_bytes()[:-1] + b"?")
    other.unlink()
    (one.parent / "more.parquet").write_bytes(b"not ours")
    told = "\n".join(problems(zipped(team) if packed else team))
    assert f"{one.name} has" in told
    assert f"{other.name} is missing" in told
    assert "more.parquet is not the pipeline's" in told


def test_a_log_with_a_hole_and_an_owner_that_is_gone_are_named(team):
    (team / "_vv/owner.json").unlink()
    assert any("owner.json is missing" in one for one in problems(team))
    next((team / "_vv/log").glob("*.json")).unlink()
    with pytest.raises(NotFoundError):
        verify_at(str(team))


def test_what_is_no_delivery_is_told(tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK no zip")
    with pytest.raises(DeliveredDataError, match="no whole zip file"):
        verify_at(str(broken))
    with pytest.raises(NotFoundError, match="holds no delivery"):
        verify_at(str(tmp_path))
    with pytest.raises(NotFoundError, match="neither a folder nor a file"):
        verify_at(str(tmp_path / "nowhere"))
    with pytest.raises(RequestError, match="known are s3://"):
        verify_at("ftp://host/path")


def test_names_in_a_zip_file_lead_nowhere_else(team, tmp_path):
    archive = zipped(team)
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("../../escaped.txt", "no")
        made.writestr("/absolute.txt", "no")
    assert problems(archive) == []
    assert not list(tmp_path.rglob("escaped.txt"))


def test_the_command_needs_no_configuration(team, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    said = run(empty, "verify", str(team), "--json")
    assert (said.code, json.loads(said.out)[0]["problems"]) == (0, [])
    next(team.rglob("*.parquet")).unlink()
    assert run(empty, "verify", str(team)).code == 1
    assert run(empty, "verify", str(team), "--subpath", "a").code == 2
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_an_address_in_a_store_is_verified_with_the_environments_credentials(servers, tmp_path, monkeypatch):
    server, base = servers.moto, uuid.uuid4().hex
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = {"provider": "s3", "bucket": "bucket", "export_base_path": base, "scopes": ["export"]}
    options = {"endpoint_url": server.endpoint_url, "path_style": True, "region": "us-east-1"}
    write_run(tmp_path / "archive", segments=3)
    client = client_of(tmp_path, {**CONFIG, "connectors": {"conn_export": {**bucket, **options}}})
    client.automations.run("idx", "team")
    assert problems(f"s3://bucket/{base}/exports/team") == []
    assert problems(f"s3://bucket/{base}") == []


def test_a_file_tells_where_it_comes_from_and_whether_it_is_what_was_delivered(team, tmp_path):
    file = next(path for path in team.rglob("*.parquet") if "0001" in str(path))
    found = provenance_at(str(file))
    assert (found.is_as_delivered, found.standing, found.file.rows) == (True, "current", 2)
    assert (found.prompt_run.run_id, found.source.prompt_id, found.export["automation"]) == ("0001", "prm", "team")
    assert found.json_schema["type"] == "object"
    file.write_bytes(b"other")
    assert not provenance_at(str(file)).is_as_delivered
    said = run(tmp_path, "provenance", str(file))
    assert said.code == 1
    assert "is NOT what was delivered" in said.out
    file.unlink()
    assert provenance_at(str(file)).found_sha256 is None


def test_a_file_that_was_superseded_says_by_which_entry(tmp_path):
    write_run(tmp_path / "archive", segments=3)
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    before = next((tmp_path / "deliveries").rglob("*.parquet"))
    write_run(tmp_path / "archive", segments=4)
    client_of(tmp_path).automations.run("idx", "team")
    found = provenance_at(str(before))
    assert (found.standing, found.superseded_by, found.found_sha256) == ("superseded", 1, None)


def test_a_file_that_nobody_delivered_has_no_provenance(team, tmp_path):
    stranger = team / "segments" / "stranger.parquet"
    stranger.write_bytes(b"")
    with pytest.raises(NotFoundError, match="in no entry"):
        provenance_at(str(stranger))
    with pytest.raises(NotFoundError, match="no folder above"):
        provenance_at(str(tmp_path / "archive/indexes/idx/index.json"))
