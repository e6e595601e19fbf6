"""The pipeline's own storage in a bucket: no machine holds state of its own."""

import uuid

import pytest

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.verify import verify
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of


@pytest.fixture(scope="module")
def server(servers):
    return servers.seaweedfs


@pytest.fixture
def config(server, tmp_path, monkeypatch):
    monkeypatch.setenv("VV_TEST_KEY", server.access_key)
    monkeypatch.setenv("VV_TEST_SECRET", server.secret_key)
    store = {
        "provider": "s3",
        "bucket": "bucket",
        "region": "us-east-1",
        "endpoint_url": server.endpoint_url,
        "path_style": True,
        "access_key_id_env": "VV_TEST_KEY",
        "secret_access_key_env": "VV_TEST_SECRET",
    }
    place = uuid.uuid4().hex
    return {
        **CONFIG,
        "source": {"kind": "local_archive", "path": str(tmp_path / "archive")},
        "storage": {**store, "export_base_path": f"{place}/state"},
        "connectors": {"conn_export": {**store, "export_base_path": f"{place}/exports", "scopes": ["export"]}},
        "indexes": {
            "idx": {"automations": {"team": {"destination_connector_id": "conn_export", "start": "beginning"}}}
        },
    }


def machine(tmp_path, name, config):
    """A client on a machine of its own: another folder, another Dagster database."""
    (tmp_path / name).mkdir()
    return client_of(tmp_path / name, config)


def test_another_machine_goes_on_where_the_first_one_was(tmp_path, config):
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    first = machine(tmp_path, "first", config)
    assert first.automations.run("idx", "team").delivered == ("run_0", "run_1", "run_2")
    first.automations.pause("idx", "team", "for a while")
    made = first.exports.create_index_export("idx", idempotency_key="k", format="csv")

    second = machine(tmp_path, "second", config)
    state = second.automations.retrieve("idx", "team")
    assert (state.delivered, state.paused, state.pause_reason) == (3, True, "for a while")
    before = {file for connector in (second.pipeline.storage, second.pipeline.connectors["conn_export"])
              for file in connector.files("")}  # fmt: skip
    outcome = second.automations.run("idx", "team")
    assert (outcome.delivered, outcome.already_delivered) == ((), ("run_0", "run_1", "run_2"))
    after = {file for connector in (second.pipeline.storage, second.pipeline.connectors["conn_export"])
             for file in connector.files("")}  # fmt: skip
    assert after == before, "what is there is found, and nothing is written again"
    assert second.exports.list() == [made]
    assert second.exports.retrieve(made.export_id[:12]) == made
    again = second.exports.create_index_export("idx", idempotency_key="k", format="csv")
    assert (again.export_id, again.rows) == (made.export_id, made.rows)
    assert second.exports.download(again.export_id, tmp_path / "out.zip").written
    assert [file.key for file in second.pipeline.storage.files("exports/downloads")] == [
        f"exports/downloads/{again.export_id[4:6]}/{again.export_id}.zip"
    ], "the mark of the reader is gone"
    assert second.exports.delete(again.export_id).bytes == again.bytes
    assert first.exports.retrieve(made.export_id).artifact == "deleted"
    assert verify(Destination(second.pipeline.connectors["conn_export"], "idx")).problems == ()

    write_run(tmp_path / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", segments=5)
    assert second.automations.run("idx", "team").delivered == ("run_1",)
    assert not [path for path in (tmp_path / "second").rglob("*") if path.is_file() and path.name != "vv_exports.yaml"]


def test_storage_that_does_not_keep_processes_apart_is_refused(tmp_path, config, monkeypatch):
    write_run(tmp_path / "archive", run_id="run_1")
    client = machine(tmp_path, "only", config)
    monkeypatch.setattr(type(client.pipeline.storage), "try_taken_name", lambda self: False)
    with pytest.raises(RequestError, match="does not refuse to create an object that is there already"):
        client.pipeline.snapshots.of_ids("idx", ["run_1"])
