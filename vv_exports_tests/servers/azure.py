"""Stores that speak Azure's blob protocol."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from vv_exports_tests.servers.processes import free_ports, not_here, running

_START = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
# Azurite's only account, and its key, are in its documentation.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class AzureServer:
    """Where it is, with the account in the path, and the key of the account. There is a container "bucket"."""

    endpoint_url: str
    account: str
    key: str
    container: str = "bucket"


@contextmanager
def azurite(folder: Path) -> Iterator[AzureServer]:
    """Azurite: compares checksums and credentials, and honours ``If-None-Match``."""
    node = shutil.which("node")
    homes = [Path(sys.prefix) / "azurite", Path(os.environ.get("VV_EXPORTS_AZURITE", sys.prefix))]
    start = next((home / _START for home in homes if (home / _START).is_file()), None)
    if node is None or start is None:
        not_here(
            "Azurite",
            "`make install` installs it where npm is there; else `npm install --prefix FOLDER azurite@3` and set "
            "VV_EXPORTS_AZURITE=FOLDER",
        )
    (port,) = free_ports(1)
    # Its telemetry is on unless it is told otherwise, and new SDKs speak a version that it does not know yet.
    command = [
        *(str(node), str(start), "--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    ]
    server = AzureServer(f"http://127.0.0.1:{port}/{_ACCOUNT}", _ACCOUNT, _KEY)
    with running(command, f"http://127.0.0.1:{port}/", folder):
        credential = {"account_name": server.account, "account_key": server.key}
        with BlobServiceClient(server.endpoint_url, credential=credential) as client:
            client.create_container(server.container)
        yield server
