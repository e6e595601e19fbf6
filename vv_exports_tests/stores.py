"""Every store that connectors are tested on: a server on loopback, and connectors to it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import s3fs

from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.base import Connector
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports_tests.servers.azure import azurite
from vv_exports_tests.servers.gcs import gcs
from vv_exports_tests.servers.s3 import S3Server, moto, seaweedfs

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


def make_bucket(server: S3Server, name: str = "bucket") -> None:
    """Make a bucket."""
    s3fs.S3FileSystem(
        key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url, skip_instance_cache=True
    ).mkdir(name)


@contextmanager
def _local(folder: Path) -> Iterator[Connect]:
    folder.mkdir(parents=True, exist_ok=True)
    yield lambda base: LocalConnector("conn", folder, base)


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[Connect]:
    with seaweedfs(folder) as server:
        make_bucket(server)
        yield lambda base: s3_connector(server, base)


@contextmanager
def _moto(folder: Path) -> Iterator[Connect]:
    with moto(folder) as server:
        make_bucket(server)
        yield lambda base: s3_connector(server, base)


@contextmanager
def _azurite(folder: Path) -> Iterator[Connect]:
    with azurite(folder) as server:
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
def _gcs(folder: Path, *, decides: bool = True) -> Iterator[Connect]:
    with gcs(folder, decides=decides) as server:
        yield lambda base: GcsConnector(
            "conn", server.bucket, base, endpoint_url=server.endpoint_url, anonymous=True, environ={}
        )


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


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store after another, for a whole test module."""
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as connect:
        yield Store(request.param, connect)


@pytest.fixture
def connect(store: Connect) -> Callable[[], Connector]:
    """Connectors to one new place in the store, which nobody else has used."""
    base = f"base/{uuid.uuid4().hex}"
    return lambda: store(base)
