"""Who may write to a subpath. Claimed once, by whoever delivers there first, in ``_vv/owner.json``."""

from typing import Literal

import msgspec

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.domain.destinations import LOG_FOLDER, OWNER, PIPELINES_OWN
from vv_exports.errors import DeliveredDataError, DestinationError, TransientError

_FOLDERS = frozenset({"segments", "videos", "failures", PIPELINES_OWN, LOG_FOLDER})
"""The folders of a collection that deliveries make."""


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


def owner_of(connector: Connector, subpath: str) -> Owner | None:
    """Who owns exactly this subpath, or None."""
    data = connector.read(_owner_key(subpath))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Owner)
    except msgspec.MsgspecError as error:
        raise DeliveredDataError(
            f"{connector.uri(_owner_key(subpath))} does not name an owner: {error}. Restore it, or delete it if "
            "nobody else delivers there."
        ) from error


def _owner_key(subpath: str) -> str:
    return f"{subpath}/{OWNER}" if subpath else OWNER


def check_unowned_above(connector: Connector, subpath: str, *, asked: str) -> None:
    """Raise DestinationError where anybody owns the subpath or a folder above it; ``asked`` is named in the error."""
    segments = subpath.split("/") if subpath else []
    for depth in range(len(segments) + 1):
        folder = "/".join(segments[:depth])
        if (other := owner_of(connector, folder)) is not None:
            raise _taken(connector, asked, folder, other)


def claim(connector: Connector, subpath: str, owner: Owner, *, expected: bool = False) -> list[StoredFile] | None:
    """Make the subpath ours, or raise DestinationError before anything is written. Repeatable.

    Nobody may own it, a folder above it or one below it: readers of either would count rows twice. ``expected`` says
    that it is ours as far as is known, which saves looking around. Returns the files that are there where it became
    ours now; None where it was ours.
    """
    if expected and owner_of(connector, subpath) == owner:
        return None  # it was looked at above and below when it was claimed
    if _looked_around(connector, subpath, owner, connector.files(subpath)):
        return None
    document = msgspec.json.format(msgspec.json.encode(owner), indent=1) + b"\n"
    if connector.create(f"{subpath}/{OWNER}", document):
        try:
            # Someone may have claimed a folder above or below meanwhile: of two, the later one sees the earlier.
            there = connector.files(subpath)
            _looked_around(connector, subpath, owner, [file for file in there if file.key != f"{subpath}/{OWNER}"])
        except DestinationError:
            connector.delete([f"{subpath}/{OWNER}"])
            raise
        return there
    other = owner_of(connector, subpath)
    if other is None:
        raise TransientError(f"{connector.uri(subpath)}: its owner file vanished while it was read; try again")
    if other != owner:
        raise _taken(connector, subpath, subpath, other)
    return None


def _looked_around(connector: Connector, subpath: str, owner: Owner, there: list[StoredFile]) -> bool:
    """Whether the subpath is ours. Raises DestinationError where someone else owns it, a folder above or one below."""
    check_unowned_above(connector, subpath.rpartition("/")[0], asked=subpath)
    ours = False
    for file in there:
        if file.is_link and file.key.removeprefix(f"{subpath}/") in _FOLDERS:
            raise DestinationError(
                f"{connector.uri(file.key)} is a symbolic link, so that the collection would share its files with what "
                "it leads to; remove the link or choose another destination_subpath"
            )
        folder, marker, _ = file.key.rpartition(f"/{OWNER}")
        if marker and (other := owner_of(connector, folder)) is not None:
            if other != owner or folder != subpath:
                raise _taken(connector, subpath, folder, other)
            ours = True
    return ours


def _taken(connector: Connector, subpath: str, folder: str, other: Owner) -> DestinationError:
    where = "belongs" if folder == subpath else f"overlaps {connector.uri(folder)}, which belongs"
    return DestinationError(
        f"destination {subpath!r} of connector {connector.connector_id!r} {where} to {other}; its readers would count "
        "rows twice. Choose another destination_subpath."
    )
