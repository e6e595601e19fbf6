"""The contract on real S3 servers, and what an S3 connector says when something is wrong."""

import uuid

import botocore.exceptions
import polars as pl
import pyarrow.dataset as ds
import pytest

from vv_exports.connectors.s3 import S3Connector
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.verify import verify
from vv_exports.errors import CredentialsError, DeliveredDataError, RequestError, TransientError
from vv_exports_tests.archives import write_run
from vv_exports_tests.connectors.contract import ConnectorContract
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.servers.processes import free_ports
from vv_exports_tests.stores import s3_connector


@pytest.fixture(scope="module", params=["seaweedfs", "moto"])
def server(request, servers):
    return getattr(servers, request.param)


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, server):
        return s3_connector(server, f"base/{uuid.uuid4().hex}")


def test_without_a_base_path_the_bucket_is_the_boundary(server):
    whole = s3_connector(server)
    key = f"{uuid.uuid4().hex}/a.bin"
    assert whole.create(key, b"x")
    assert key in {one.key for one in whole.files("")}
    assert whole.uri(key) == f"s3://bucket/{key}"


def test_a_bucket_that_does_not_exist_is_named(server):
    gone = s3_connector(server, bucket="no-such-bucket")
    for work in (lambda: gone.create("a", b"x"), lambda: gone.files("a"), lambda: gone.read("a")):
        with pytest.raises(
            RequestError, match=r"^conn: could not \w+ s3://no-such-bucket/.*There is no bucket 'no-such-bucket'"
        ):
            work()


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_wrong_credentials_are_told_without_a_secret(server):
    wrong = s3_connector(server, environ={"KEY": "admin-key", "SECRET": "not-the-secret"})
    with pytest.raises(CredentialsError, match="the environment variables KEY, SECRET") as caught:
        wrong.create("a", b"x")
    assert "not-the-secret" not in str(caught.value)
    unknown = s3_connector(server, environ={"KEY": "nobody", "SECRET": "not-the-secret"})
    with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
        unknown.files("")


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_what_may_not_be_written_is_told(server):
    reader = s3_connector(server, environ={"KEY": "reader-key", "SECRET": "reader-secret"})
    assert reader.files("nothing") == []
    with pytest.raises(RequestError, match=r"AccessDenied.* may not do this"):
        reader.create("a", b"x")


def test_a_credential_that_is_not_set_is_named_before_anything_is_asked(server):
    with pytest.raises(CredentialsError, match="the environment variable KEY is not set"):
        s3_connector(server, environ={}).read("a")


def test_no_credentials_at_all_are_told(server):
    with pytest.raises(CredentialsError, match="where the AWS SDK looks for them"):
        s3_connector(server, access_key_id_env=None, secret_access_key_env=None).create("a", b"x")


class _ListsBelowAPrefix:
    """A client whose credentials may list below a prefix alone: Amazon then does not say that an object is missing."""

    def __init__(self, client) -> None:
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def get_object(self, **request):
        try:
            return await self._client.get_object(**request)
        except botocore.exceptions.ClientError:
            raise botocore.exceptions.ClientError(
                {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "GetObject"
            ) from None


def test_credentials_that_may_list_below_a_prefix_alone_find_out_what_is_missing(server, monkeypatch):
    connector = s3_connector(server, uuid.uuid4().hex)
    client = connector._client

    async def limited():
        return _ListsBelowAPrefix(await client())

    monkeypatch.setattr(connector, "_client", limited)
    assert connector.read("a/b") is None
    assert connector.create("a/bc", b"x")
    assert connector.read("a/b") is None
    assert connector.read("a/bc") == b"x"
    with pytest.raises(DeliveredDataError, match="is not there"):
        connector.open("a/b")


def test_a_store_that_the_sdks_configuration_names_is_not_taken_for_amazon(server, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = {server.endpoint_url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    connector = s3_connector(server, uuid.uuid4().hex, endpoint_url=None)
    assert connector.decides_among_writers()
    assert connector.endpoint_url == server.endpoint_url
    monkeypatch.delenv("AWS_CONFIG_FILE")
    amazon = s3_connector(server, endpoint_url=None)
    assert amazon.decides_among_writers()
    assert amazon.endpoint_url is None


def test_a_store_out_of_reach_is_transient(server):
    (port,) = free_ports(1)
    away = S3Connector(
        "conn", "bucket", endpoint_url=f"http://127.0.0.1:{port}", region="us-east-1", path_style=True,
        access_key_id_env="KEY", secret_access_key_env="SECRET", environ={"KEY": "a", "SECRET": "b"},
    )  # fmt: skip
    with pytest.raises(TransientError, match="out of reach"):
        away.files("a")


def test_an_automation_delivers_to_a_bucket_and_verify_reads_it_back(server, tmp_path, monkeypatch):
    monkeypatch.setenv("VV_TEST_KEY", server.access_key)
    monkeypatch.setenv("VV_TEST_SECRET", server.secret_key)
    base = uuid.uuid4().hex
    config = {
        **CONFIG,
        "connectors": {
            "conn_export": {
                "provider": "s3",
                "bucket": "bucket",
                "region": "us-east-1",
                "endpoint_url": server.endpoint_url,
                "path_style": True,
                "access_key_id_env": "VV_TEST_KEY",
                "secret_access_key_env": "VV_TEST_SECRET",
                "export_base_path": base,
                "scopes": ["export"],
            }
        },
    }
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    client = client_of(tmp_path, config)
    outcome = client.automations.run("idx", "team")
    assert outcome.delivered == ("run_0", "run_1", "run_2")
    assert outcome.destination_uri == f"s3://bucket/{base}/exports/team"
    connector = client.pipeline.connectors["conn_export"]
    before = connector.files("")
    assert client.automations.run("idx", "team").delivered == ()
    assert connector.files("") == before
    assert verify(Destination(connector, "exports/team")).problems == ()
    write_run(tmp_path / "archive", run_id="run_1", executed_at="2026-10-02T00:00:00Z", segments=5)
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    parts = [file.key for file in connector.files("exports/team/segments")]
    assert len(parts) == 3, "the superseded file is gone"
    assert (
        pl.read_parquet(
            f"s3://bucket/{base}/exports/team/segments/**/*.parquet",
            storage_options={
                "aws_access_key_id": server.access_key,
                "aws_secret_access_key": server.secret_key,
                "aws_endpoint_url": server.endpoint_url,
                "aws_region": "us-east-1",
                "aws_allow_http": "true",
            },
        ).shape[0]
        == 3 + 5 + 3
    )
    filesystem, place = connector.arrow_filesystem()
    paths = [f"{place}/{part}" for part in parts]
    assert ds.dataset(paths, filesystem=filesystem, format="parquet").count_rows() == 3 + 5 + 3
