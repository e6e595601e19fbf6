"""The servers of a test session: each is started when a test first asks for it, and is there until the last test is
over. Starting them takes longer than most tests, so whoever uses one has a folder of his own in its bucket: Google's
with and without a condition are the same server."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest
import s3fs

from vv_exports_tests.servers.azure import AzureServer, azurite
from vv_exports_tests.servers.gcs import GcsServer, fake_gcs
from vv_exports_tests.servers.s3 import S3Server, moto, seaweedfs

_Server = TypeVar("_Server")


class Servers:
    """Each has a bucket, or container, "bucket"."""

    def __init__(self, folders: pytest.TempPathFactory, until: ExitStack) -> None:
        self._folders = folders
        self._until = until

    @cached_property
    def seaweedfs(self) -> S3Server:
        """S3, faithful, with credentials that may do less than others."""
        return _with_bucket(self._started(seaweedfs))

    @cached_property
    def moto(self) -> S3Server:
        """S3, with any credentials."""
        return _with_bucket(self._started(moto))

    @cached_property
    def azurite(self) -> AzureServer:
        """Azure's blobs."""
        return self._started(azurite)

    @cached_property
    def fake_gcs(self) -> GcsServer:
        """What stands for Google Cloud Storage behind a ``gcs`` proxy."""
        return self._started(fake_gcs)

    def _started(self, server: Callable[[Path], AbstractContextManager[_Server]]) -> _Server:
        return self._until.enter_context(server(self._folders.mktemp(server.__name__)))


def make_bucket(server: S3Server, name: str = "bucket") -> None:
    """Make a bucket."""
    s3fs.S3FileSystem(
        key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url, skip_instance_cache=True
    ).mkdir(name)


def _with_bucket(server: S3Server) -> S3Server:
    make_bucket(server)
    return server
