"""Automations that deliver to Azure and Google Cloud Storage, as the configuration describes them."""

import sys
import uuid
from contextlib import contextmanager

import pyarrow.dataset as ds
import pytest

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since
from vv_exports.delivery.verify import verify
from vv_exports.errors import ConfigurationError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.servers.gcs import gcs


@contextmanager
def _azure(servers):
    server = servers.azurite
    options = {"storage_account": server.account, "container": server.container, "account_key_env": "VV_TEST_KEY"}
    yield {"provider": "azure", "endpoint_url": server.endpoint_url, **options}, server.key


@contextmanager
def _gcs(servers):
    with gcs(servers.fake_gcs) as server:
        yield {"provider": "gcs", "bucket": "bucket", "endpoint_url": server.endpoint_url, "anonymous": True}, "none"


@contextmanager
def _gcs_that_does_not_decide(servers):
    with gcs(servers.fake_gcs, decides=False) as server:
        yield {"provider": "gcs", "bucket": "bucket", "endpoint_url": server.endpoint_url, "anonymous": True}, "none"


@pytest.fixture(scope="module", params=[_azure, _gcs, _gcs_that_does_not_decide], ids=lambda one: one.__name__)
def place(request, servers):
    with request.param(servers) as (options, key), pytest.MonkeyPatch.context() as patch:
        patch.setenv("VV_TEST_KEY", key)
        yield options, request.param is not _gcs_that_does_not_decide


def test_an_automation_delivers_and_is_read_back(place, tmp_path):
    options, decides = place
    connector_options = {**options, "export_base_path": uuid.uuid4().hex, "scopes": ["export"]}
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    client = client_of(tmp_path, {**CONFIG, "connectors": {"conn_export": connector_options}})
    assert client.automations.run("idx", "team").delivered == ("run_0", "run_1", "run_2")
    assert client.automations.run("idx", "team").delivered == ()
    write_run(tmp_path / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", segments=5)
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    connector = client.pipeline.connectors["conn_export"]
    assert verify(Destination(connector, "exports/team")).problems == ()
    entries = entries_since(Destination(connector, "exports/team"), 0)
    commit = "put_if_absent" if decides else "single_writer"
    assert [entry.provenance.commit for entry in entries] == [commit] * 2
    outcomes = {finding.step: finding.outcome for finding in client.connectors.test("conn_export")}
    assert outcomes.pop("second create") == ("ok" if decides else "warning")
    assert set(outcomes.values()) == {"ok"}
    filesystem, top = connector.arrow_filesystem()
    parts = [f"{top}/{file.key}" for file in connector.files("exports/team/segments")]
    assert ds.dataset(parts, filesystem=filesystem, format="parquet").count_rows() == 3 + 5 + 3
    export = client.exports.create_index_export("idx", None, "conn_export", "exports/editorial")
    assert (export.status, export.rows) == ("completed", 3 + 5 + 3)
    done = client.vacuum("conn_export", "exports/team")
    assert (done.superseded, done.strays, done.uploads) == ((), (), ())


@pytest.mark.parametrize(("provider", "extra"), [("gcs", "gcs"), ("azure", "azure")])
def test_a_provider_that_is_not_installed_says_how_to_install_it(provider, extra, monkeypatch, tmp_path):
    module = f"vv_exports.connectors.{provider}"
    for name in [module, "gcsfs", "gcsfs.core", "adlfs"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    monkeypatch.setitem(sys.modules, "adlfs", None)
    fields = {"gcs": {"bucket": "bucket"}, "azure": {"storage_account": "account", "container": "box"}}[provider]
    place = {"provider": provider, **fields}
    for at, config in (
        ("connectors.conn", {**CONFIG, "connectors": {**CONFIG["connectors"], "conn": place}}),
        ("storage", {**CONFIG, "storage": place}),
    ):
        with pytest.raises(ConfigurationError, match=rf" {at}: .*pip install 'vv-exports\[{extra}\]'"):
            client_of(tmp_path, config)
