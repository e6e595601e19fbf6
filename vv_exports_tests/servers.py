"""Object stores on loopback, each in a process of its own, with data in a folder that goes with it."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """Where it is, and the keys of somebody who may do anything."""

    endpoint_url: str
    access_key: str
    secret_key: str


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS: compares checksums and credentials, and honours ``If-None-Match``."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        raise FileNotFoundError("weed")
    master, volume, filer, s3, iceberg = free_ports(5)
    keys = {"accessKey": "admin-key", "secretKey": "admin-secret"}
    writer = {"accessKey": "writer-key", "secretKey": "writer-secret"}
    identities = [
        {"name": "admin", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
        {"name": "reader", "credentials": [writer], "actions": ["Read:bucket", "List:bucket"]},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    command = [
        *(weed, "-logtostderr=true", "-v=0", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"),
        *(f"-s3.config={folder / 's3.json'}", f"-s3.port.iceberg={iceberg}", "-s3.port.lance=0", "-webdav=false"),
        *("-admin.ui=false", "-master.telemetry=false", "-s3.autoCreateBucket=false"),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = S3Server(f"http://127.0.0.1:{s3}", keys["accessKey"], keys["secretKey"])
            _wait(server.endpoint_url, process, folder / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """moto: quick, and accepts any key and any checksum."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = S3Server(f"http://127.0.0.1:{port}", "any", "any")
            _wait(server.endpoint_url, process, folder / "log")
            yield server
        finally:
            process.terminate()
            process.wait(10)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    stop = time.monotonic() + _READY_SECONDS
    while time.monotonic() < stop and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as refused:
            refused.close()
            return  # it answers
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"no server at {url}: {log.read_text(errors='replace')[-2000:]}")
