"""Every store that connectors are tested on: a server on loopback, and connectors to it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.base import Connector
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports_tests.servers.gcs import gcs
from vv_exports_tests.servers.s3 import S3Server
from vv_exports_tests.servers.session import Servers

Connect = Callable[[str], Connector]
"""A connector with this export_base_path."""


def s3_connector(server: S3Server, base: str = "", **options: object) -> S3Connector:
    """A connector to the bucket ``bucket`` of a server."""
    environ = {"KEY": server.access_key, "SECRET": server.secret_key}
    given = {
        "bucket": "bucket",
        "access_key_id_env": "KEY",
        "secret_access_key_env": "SECRET",
        "region": "us-east-1",
        "endpoint_url": server.endpoint_url,
        "path_style": True,
        "environ": environ,
        **options,
    }
    return S3Connector("conn", export_base_path=base, **given)


@contextmanager
def _local(request: pytest.FixtureRequest) -> Iterator[Connect]:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("local")
    yield lambda base: LocalConnector("conn", folder, base)


@contextmanager
def _seaweedfs(request: pytest.FixtureRequest) -> Iterator[Connect]:
    server = _servers(request).seaweedfs
    yield lambda base: s3_connector(server, base)


@contextmanager
def _moto(request: pytest.FixtureRequest) -> Iterator[Connect]:
    server = _servers(request).moto
    yield lambda base: s3_connector(server, base)


@contextmanager
def _azurite(request: pytest.FixtureRequest) -> Iterator[Connect]:
    server = _servers(request).azurite
    yield lambda base: AzureConnector(
        "conn",
        server.account,
        server.container,
        base,
        endpoint_url=server.endpoint_url,
        account_key_env="KEY",
        environ={"KEY": server.key},
    )


@contextmanager
def _gcs(request: pytest.FixtureRequest, *, decides: bool = True) -> Iterator[Connect]:
    with gcs(_servers(request).fake_gcs, decides=decides) as server:
        yield lambda base: GcsConnector(
            "conn", server.bucket, base, endpoint_url=server.endpoint_url, anonymous=True, environ={}
        )


def _servers(request: pytest.FixtureRequest) -> Servers:
    return request.getfixturevalue("servers")


STORES = {
    "local": _local,
    "seaweedfs": _seaweedfs,
    "moto": _moto,
    "azurite": _azurite,
    "gcs": _gcs,
    "gcs_that_does_not_decide": partial(_gcs, decides=False),
}


@dataclass(frozen=True)
class Store:
    """One of STORES, which is up."""

    name: str
    connect: Connect

    def __call__(self, base: str) -> Connector:
        """A connector with this export_base_path."""
        return self.connect(base)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name == "local" else pytest.mark.slow) for name in STORES],
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One store after another, for a whole test module."""
    with STORES[request.param](request) as connect:
        yield Store(request.param, connect)


@pytest.fixture
def connect(store: Connect) -> Callable[[], Connector]:
    """Connectors to one new place in the store, which nobody else has used."""
    base = f"base/{uuid.uuid4().hex}"
    return lambda: store(base)
