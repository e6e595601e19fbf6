"""A folder, a zip file or an address in a store as a connector, for whoever has no configuration.

Credentials are those of the environment, under the names that each store's own tools use.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.registry import CONNECTORS
from vv_exports.connectors.spool import spool_folder
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError

CONNECTOR_ID = "CONNECTOR"
"""What advice calls a connector that nobody has configured."""


@contextmanager
def opened_at(target: str, environ: Mapping[str, str] = os.environ) -> Iterator[Connector]:
    """What is at a path or an address.

    Raises NotFoundError where nothing is there, DeliveredDataError for a zip file that is none, RequestError for an
    address of another kind.
    """
    if "://" in target and not target.startswith("file://"):
        yield _in_a_store(target, environ)
        return
    path = Path(target.removeprefix("file://"))
    if path.is_dir():
        yield LocalConnector(CONNECTOR_ID, path.absolute())
    elif path.is_file():
        with spool_folder() as folder:
            _unpack(path, folder)
            yield _Unpacked(path.absolute(), folder)
    else:
        raise NotFoundError(f"{target} is neither a folder nor a file; name a folder, a zip file or an address")


class _Unpacked(LocalConnector):
    """The content of a zip file, which is named by the file's path."""

    def __init__(self, archive: Path, folder: Path) -> None:
        super().__init__(CONNECTOR_ID, folder)
        self._archive = archive

    def uri(self, key: str) -> str:
        """The path of the zip file, then that in it."""
        return f"{self._archive}/{key}" if key else str(self._archive)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)  # never above the folder, whatever the names in it are
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DeliveredDataError(
            f"{archive} is no whole zip file ({error}); get it again from where it was downloaded"
        ) from error


def _in_a_store(address: str, environ: Mapping[str, str]) -> Connector:
    url = urlsplit(address)
    base = url.path.strip("/")
    match url.scheme:
        case "s3":
            endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
            made = {"bucket": url.netloc, "endpoint_url": endpoint, "path_style": endpoint is not None}
            return CONNECTORS["s3"](CONNECTOR_ID, export_base_path=base, environ=environ, **made)
        case "gs" | "gcs":
            endpoint = environ.get("STORAGE_EMULATOR_HOST") or None
            made = {"bucket": url.netloc, "endpoint_url": endpoint, "anonymous": endpoint is not None}
            return CONNECTORS["gcs"](CONNECTOR_ID, export_base_path=base, environ=environ, **made)
        case "az" | "abfs":
            return CONNECTORS["azure"](
                CONNECTOR_ID, export_base_path=base, environ=environ, **_at_azure(url.netloc, environ)
            )
    raise RequestError(
        f"{address} is no address that can be read: it begins with {url.scheme}://, known are s3://BUCKET/PATH, "
        "gs://BUCKET/PATH and az://CONTAINER/PATH"
    )


def _at_azure(container: str, environ: Mapping[str, str]) -> dict[str, str]:
    account = environ.get("AZURE_STORAGE_ACCOUNT_NAME") or environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise RequestError(f"az://{container} is of a storage account: name it in AZURE_STORAGE_ACCOUNT_NAME")
    variables = {
        "account_key_env": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        "connection_string_env": ("AZURE_STORAGE_CONNECTION_STRING",),
        "sas_token_env": ("AZURE_STORAGE_SAS_TOKEN",),
    }
    found = {option: name for option, names in variables.items() for name in names if environ.get(name)}
    return {"storage_account": account, "container": container, **found}
