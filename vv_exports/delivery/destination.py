"""Where a delivery goes: one folder below a connector's boundary, and whose it is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.connectors.console_pages import console_page


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Owner of a subpath: an automation of an index, or one on-demand export."""

    type: Literal["automation", "export"]
    index_id: str
    automation: str | None = None
    export_id: str | None = None

    def __str__(self) -> str:
        if self.type == "automation":
            return f"automation {self.automation!r} of index {self.index_id!r}"
        return f"export {self.export_id!r} of index {self.index_id!r}"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """That an automation delivers elsewhere: since when, and at which address. ``place`` is the address that it left: a
    copy that somebody made of the folder says it of another one."""

    at: datetime
    to: str
    place: str = ""

    def __str__(self) -> str:
        return f"left on {self.at:%Y-%m-%d} for {self.to}"


@dataclass(frozen=True)
class Destination:
    """A connector and a canonical subpath. ``owner`` is who delivers there; None for whoever only looks.

    Paths are relative to the subpath, as they stand in a log; keys are relative to the connector's boundary.
    """

    connector: Connector
    subpath: str
    owner: Owner | None = None

    @property
    def uri(self) -> str:
        """The folder's address."""
        return self.connector.uri(self.subpath)

    @property
    def page(self) -> str | None:
        """Where people look at the folder in their browser: see ``console_page``."""
        return console_page(self.connector, self.subpath)

    @property
    def claimant(self) -> Owner:
        """The owner of a destination that is delivered to."""
        if self.owner is None:
            raise ValueError(f"nobody is named who delivers to {self.uri}")
        return self.owner

    def key(self, path: str) -> str:
        """The connector's key of a path."""
        return f"{self.subpath}/{path}" if self.subpath else path

    def path(self, key: str) -> str:
        """The inverse of ``key``."""
        return key.removeprefix(f"{self.subpath}/") if self.subpath else key

    def uri_of(self, path: str) -> str:
        """The address of a path."""
        return self.connector.uri(self.key(path))

    def read(self, path: str) -> bytes | None:
        """The content of a small file, or None where there is none."""
        return self.connector.read(self.key(path))

    def files(self, folder: str = "", *, after: str = "") -> dict[str, StoredFile]:
        """Every file of it, or of a folder in it, by path; those behind a path, where one is named."""
        listed = self.connector.files(
            self.key(folder) if folder else self.subpath, after=self.key(after) if after else ""
        )
        return {self.path(file.key): file for file in listed}
