"""Which place a path or URL names: two ways to one place are seen to be one, as far as text and links tell.

Not seen are bind mounts, a share that is mounted twice, and a store that answers at two addresses.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vv_exports.config.connectors import (
    AzureConnectorConfig,
    ConnectorConfig,
    GcsConnectorConfig,
    LocalConnectorConfig,
    S3ConnectorConfig,
    real_folder,
)
from vv_exports.config.messages import dotted
from vv_exports.config.models import Config, LocalArchiveConfig
from vv_exports.domain.destinations import comparable

_LOCAL = re.compile(r"(?:file|local)://", re.IGNORECASE)
_USER = re.compile(r"[^/@]*@")
_AZURE_HOST = re.compile(r"([^@/]+)@([^./]+)\.(?:dfs|blob)\.core\.windows\.net", re.IGNORECASE)
# Where the libraries that read an archive look for the address of a store.
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL")
_GCS_ENDPOINTS = ("STORAGE_EMULATOR_HOST", "FSSPEC_GCS_ENDPOINT_URL")
_AZURE_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"

_Segments = tuple[str, ...]
_Related = Callable[[_Segments, _Segments], bool]


@dataclass(frozen=True)
class Reserved:
    """A place that nothing is delivered to: how messages call it, and every way to write where it is."""

    called: str
    places: tuple[str, ...]
    apart: str
    """What messages advise to keep apart."""

    @property
    def shown(self) -> str:
        """Where it is."""
        return self.places[0]

    def meets(self, place: str) -> bool:
        """Whether a place is the same, above it or inside it."""
        return self._any(place, lambda ours, theirs: ours[: len(theirs)] == theirs[: len(ours)])

    def holds(self, place: str) -> bool:
        """Whether a place is the same or inside it."""
        return self._any(place, lambda ours, theirs: theirs[: len(ours)] == ours)

    def _any(self, place: str, related: _Related) -> bool:
        return any(related(ours, theirs) for one in self.places for ours in _forms(one) for theirs in _forms(place))


def destination_place(connector: ConnectorConfig, subpath: str) -> str:
    """The full folder of a destination, with links followed; the boundary itself where the subpath is empty."""
    boundary = connector.real_boundary()
    place = f"{boundary}/{subpath}" if subpath else boundary
    return real_folder(place) if isinstance(connector, LocalConnectorConfig) else place


def reserved_places(config: Config) -> list[Reserved]:
    """The pipeline's own storage, and the archive that it reads."""
    storage = config.storage
    if isinstance(storage, str | LocalConnectorConfig):
        ours = _folders(storage if isinstance(storage, str) else storage.boundary)
    else:
        ours = (storage.real_boundary(),)
    found = [Reserved("`storage`", ours, "the pipeline's own files apart from what it delivers")]
    if isinstance(config.source, LocalArchiveConfig):
        places = tuple(_archive(config.source.path))
        found.append(Reserved("the source archive", places, "the archive apart from what is made of it"))
    return found


def missing_folders(config: Config) -> list[str]:
    """What to say of folders that the configuration names and that are not there. They may be mounted elsewhere."""
    named = {dotted(("connectors", connector_id, "root")): one for connector_id, one in config.connectors.items()}
    if not isinstance(config.storage, str):
        named["storage.root"] = config.storage
    folders = {at: one.root for at, one in named.items() if isinstance(one, LocalConnectorConfig)}
    if isinstance(config.source, LocalArchiveConfig):
        folders["source.path"] = config.source.path
    places = {at: (folder, _LOCAL.sub("", folder, count=1)) for at, folder in folders.items()}
    return [
        f"{at}: {folder!r} is not there, or is no folder; create or mount it where this runs"
        for at, (folder, path) in places.items()
        if "://" not in path and not Path(path).is_dir()
    ]


def _archive(path: str) -> Iterator[str]:
    """The folder of an archive, or of a URL the places that a connector would name so. Holds no password."""
    address = path.rpartition("::")[2] if "://" in path else path  # what a cache or a packed archive is made of
    scheme, separator, rest = address.partition("://")
    bucket, _, base = rest.partition("/")
    match scheme.lower() if separator else "":
        case "" | "file" | "local":
            yield from _folders(address)
        case "s3" | "s3a":
            for endpoint in _endpoints(_S3_ENDPOINTS):
                yield S3ConnectorConfig.model_construct(
                    provider="s3", bucket=_USER.sub("", bucket), export_base_path=base, endpoint_url=endpoint
                ).real_boundary()
        case "gs" | "gcs":
            for endpoint in _endpoints(_GCS_ENDPOINTS):
                yield GcsConnectorConfig.model_construct(
                    provider="gcs", bucket=_USER.sub("", bucket), export_base_path=base, endpoint_url=endpoint
                ).real_boundary()
        case "abfs" | "abfss" | "az":
            host = _AZURE_HOST.fullmatch(bucket)
            container, account = (host[1], host[2]) if host else (bucket, os.environ.get(_AZURE_ACCOUNT, ""))
            yield AzureConnectorConfig.model_construct(
                provider="azure", container=container, storage_account=account, export_base_path=base
            ).real_boundary()
        case _:
            yield f"{scheme}://{_USER.sub('', rest, count=1)}"


def _folders(place: str) -> tuple[str, ...]:
    """Where a folder is, and the link that leads there: what is delivered around that would lead there too."""
    path = _LOCAL.sub("", place, count=1)
    return real_folder(path), os.path.abspath(path)  # noqa: PTH100 - which leaves links alone


def _endpoints(variables: tuple[str, ...]) -> list[str | None]:
    return [None, *(value.rstrip("/") for name in variables if (value := os.environ.get(name)))]


def _forms(place: str) -> set[_Segments]:
    """As it is written, and as it reads to whatever decodes it on the way."""
    return {comparable(place), comparable(unquote(place))}
