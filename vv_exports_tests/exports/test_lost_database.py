"""Dagster's database is gone, and what was exported is known as before: the records are in `storage`."""

import shutil
from pathlib import Path

import pytest

from vv_exports.client import VVExports
from vv_exports.defs.instance import open_instance
from vv_exports.errors import IdempotencyError, RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.defs.test_launches import launch
from vv_exports_tests.deployments import CONFIG, write_config, written_files

pytestmark = pytest.mark.slow

FROM_THE_UI = {"idx__prompt_run_export": {"config": {"destination_connector_id": "(download)", "format": "jsonl"}}}


def client_with_database(folder: Path, name: str = "dagster") -> VVExports:
    (folder / name).mkdir(exist_ok=True)
    return VVExports(write_config(folder, CONFIG), instance=open_instance({}, folder / name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployment")
    for number in range(2):
        write_run(folder / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    return folder


@pytest.fixture(scope="module")
def known(folder):
    """What was listed before the database was lost: a folder, a download, two from the UI."""
    client = client_with_database(folder)
    client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    client.exports.create_index_export("idx", ["run_0"], format="csv", idempotency_key="zip")
    launch(client, "prompt_run_export", partitions=("run_0", "run_1"), config=FROM_THE_UI)
    listed = client.exports.list()
    shutil.rmtree(folder / "dagster")
    return listed


@pytest.fixture
def client(folder, known):
    """Of the deployment with a new database, in which nothing ever ran."""
    client = client_with_database(folder, "new")
    yield client
    shutil.rmtree(folder / "new")


def test_list_and_show_answer_as_before(client, known):
    assert len(known) == 4
    assert client.exports.list() == known
    assert [client.exports.retrieve(one.export_id[:-4]) for one in known] == known
    assert client.exports.wait_for_completion(known[0].export_id, timeout=0) == known[0]


def test_downloads_are_had_as_before(client, known, tmp_path):
    downloads = [one for one in known if one.destination_type == "download"]
    assert len(downloads) == 3
    for one in downloads:
        assert client.exports.download(one.export_id, tmp_path).bytes == one.bytes


def test_the_same_key_gives_the_finished_export_and_writes_nothing(client, known, folder):
    """It delivered a run that had finished meanwhile into the folder of the finished export."""
    write_run(folder / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    before = written_files(folder)
    again = client.exports.create_index_export("idx", None, "conn_export", "there", idempotency_key="k")
    assert again in known
    assert again.prompt_run_ids == ("run_0", "run_1")
    assert written_files(folder) == before
    assert client.exports.create_index_export("idx", ["run_0"], format="csv", idempotency_key="zip") in known
    with pytest.raises(IdempotencyError):
        client.exports.create_index_export("idx", None, "conn_export", "elsewhere", idempotency_key="k")
    assert client.instance.get_runs_count() == 0


def test_the_same_key_gives_the_finished_export_though_the_source_has_its_run_no_more(client, known, folder):
    """It was refused, since the request had become a wrong one."""
    away = folder / "archive/indexes/idx/prompt_runs/run_0"
    away.rename(folder / "run_0")
    try:
        assert client.exports.create_index_export("idx", ["run_0"], format="csv", idempotency_key="zip") in known
        with pytest.raises(RequestError, match="run_0"):
            client.exports.create_index_export("idx", ["run_0"], format="csv", idempotency_key="new")
    finally:
        (folder / "run_0").rename(away)
