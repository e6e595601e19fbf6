"""Who may write to a subpath. Claimed once, by whoever delivers there first, in ``_vv/owner.json``.

Where that file is lost or names nobody, the delivery log says whose the subpath is: its owner claims it again, and
nobody else can.
"""

import logging
from collections.abc import Iterable
from typing import Literal

import msgspec

from vv_exports.connectors.base import Connector, StoredFile
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.log import ExportReference, LogFault, LogState, broken_log, read_log
from vv_exports.domain.destinations import LOG_FOLDER, OWNER, PIPELINES_OWN, log_entry_name, log_sequence
from vv_exports.errors import DeliveredDataError, DestinationError, TransientError

_FOLDERS = frozenset({"segments", "videos", "failures", PIPELINES_OWN, LOG_FOLDER})
"""The folders of a collection that deliveries make."""
_LOG = logging.getLogger(__name__)


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
    """Who owns exactly this subpath by its owner file, or None. Raises DeliveredDataError where that names nobody."""
    data = connector.read(_owner_key(subpath))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Owner)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeliveredDataError(
            f"{connector.uri(_owner_key(subpath))} does not name an owner: {error}. Restore it, or delete it if "
            "nobody else delivers there."
        ) from error


def is_owner(connector: Connector, subpath: str, owner: Owner) -> bool:
    """Whether the owner file names this owner. One that names nobody does not."""
    return _owner_or_nobody(connector, subpath) == owner


def _owner_or_nobody(connector: Connector, subpath: str) -> Owner | None:
    try:
        return owner_of(connector, subpath)
    except DeliveredDataError:
        return None


def owner_by_log(state: LogState) -> Owner | None:
    """Whose a destination is by the last entry of its log; None where nothing was ever committed."""
    return _owner_in(state.entries[-1].export) if state.entries else None


def owner_by_either(connector: Connector, subpath: str) -> Owner | None:
    """Who owns exactly this subpath: by its owner file, or by its log where that is missing or names nobody."""
    try:
        owner = owner_of(connector, subpath)
    except DeliveredDataError:
        if (owner := owner_by_log(read_log(connector, subpath))) is None:
            raise
        return owner
    return owner or owner_by_log(read_log(connector, subpath))


def check_log(connector: Connector, subpath: str, state: LogState, owner: Owner) -> None:
    """Raise DeliveredDataError where an entry of the owner's log was copied in from another index or export.

    One of another automation of the same index may be from before the automation was renamed.
    """
    strangers = [entry for entry in state.entries if not _may_be_of(entry.export, owner)]
    if strangers:
        ours = LogState()
        for entry in state.entries:
            if entry not in strangers:
                ours.apply(entry)
        faults = [
            LogFault(
                entry.sequence,
                f"{connector.uri(f'{subpath}/{log_entry_name(entry.sequence)}')} is an entry of "
                f"{_owner_in(entry.export)}, and the folder belongs to {owner}: somebody copied it there",
            )
            for entry in strangers
        ]
        raise broken_log(connector, subpath, ours, faults)


def _may_be_of(export: ExportReference, owner: Owner) -> bool:
    wrote = _owner_in(export)
    return (wrote.type, wrote.index_id, wrote.export_id) == (owner.type, owner.index_id, owner.export_id)


def _owner_in(export: ExportReference) -> Owner:
    if export.type == "automation":
        return Owner(type="automation", index_id=export.index_id, automation=export.automation)
    return Owner(type="export", index_id=export.index_id, export_id=export.id)


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
    that it is ours as far as is known, which saves looking around. Where the owner file is missing or names nobody, and
    the log is ours, it is written anew. Returns the files that are there where it became ours now; None where it was
    ours.
    """
    if expected and is_owner(connector, subpath, owner):
        return None  # it was looked at above and below when it was claimed
    there = connector.files(subpath)
    if _looked_around(connector, subpath, owner, there):
        return None
    if any(file.key == f"{subpath}/{OWNER}" for file in there):
        _write_anew(connector, subpath, owner)
        return there
    if connector.create(f"{subpath}/{OWNER}", _document(owner)):
        try:
            # Someone may have claimed a folder above or below meanwhile: of two, the later one sees the earlier.
            there = connector.files(subpath)
            _looked_around(connector, subpath, owner, [file for file in there if file.key != f"{subpath}/{OWNER}"])
        except DestinationError:
            if is_owner(connector, subpath, owner):
                connector.delete([f"{subpath}/{OWNER}"])
            raise
        if any(log_sequence(file.key.removeprefix(f"{subpath}/")) is not None for file in there):
            _LOG.warning("%s was missing, and the log names us: it is written anew", connector.uri(_owner_key(subpath)))
        return there
    other = owner_of(connector, subpath)
    if other is None:
        raise TransientError(f"{connector.uri(subpath)}: its owner file vanished while it was read; try again")
    if other != owner:
        raise _taken(connector, subpath, subpath, other)
    return None


def _looked_around(connector: Connector, subpath: str, owner: Owner, there: list[StoredFile]) -> bool:
    """Whether the subpath is ours by its owner file. Raises DestinationError where someone else owns it, a folder above
    or one below."""
    check_unowned_above(connector, subpath.rpartition("/")[0], asked=subpath)
    keys = {file.key for file in there}
    ours = False
    for file in there:
        if file.is_link and file.key.removeprefix(f"{subpath}/") in _FOLDERS:
            raise DestinationError(
                f"{connector.uri(file.key)} is a symbolic link, so that the collection would share its files with what "
                "it leads to; remove the link or choose another destination_subpath"
            )
    for folder in owned_folders(there):
        by_file = _owner_or_nobody(connector, folder) if f"{folder}/{OWNER}" in keys else None
        other = by_file or owner_by_either(connector, folder)
        if other is not None and (other != owner or folder != subpath):
            renamed = (other.type, other.index_id) == (owner.type, owner.index_id) and owner.type == "automation"
            only_by_log = by_file is None and folder == subpath
            raise _taken(connector, subpath, folder, other, wanted_by=owner if only_by_log and renamed else None)
        ours = ours or by_file is not None
    return ours


def owned_folders(there: Iterable[StoredFile]) -> list[str]:
    """The folders that, by their owner file or their log, somebody delivered to."""
    found = set()
    for file in there:
        folder, marker, rest = file.key.rpartition(f"/{PIPELINES_OWN}/")
        if marker and (f"{PIPELINES_OWN}/{rest}" == OWNER or log_sequence(f"{PIPELINES_OWN}/{rest}") is not None):
            found.add(folder)
    return sorted(found)


def _write_anew(connector: Connector, subpath: str, owner: Owner) -> None:
    """Replace an owner file that names nobody, where the log has said that the subpath is ours."""
    _LOG.warning("%s named nobody, and the log names us: it is written anew", connector.uri(_owner_key(subpath)))
    with spool_folder() as spool:
        path = spool / "owner.json"
        path.write_bytes(_document(owner))
        connector.put(path, _owner_key(subpath))


def _document(owner: Owner) -> bytes:
    return msgspec.json.format(msgspec.json.encode(owner), indent=1) + b"\n"


def _taken(
    connector: Connector, subpath: str, folder: str, other: Owner, *, wanted_by: Owner | None = None
) -> DestinationError:
    """``wanted_by`` is set where only the log of the subpath names the other one, which may be its earlier name."""
    where = "belongs" if folder == subpath else f"overlaps {connector.uri(folder)}, which belongs"
    renamed = (
        f" Its owner file is missing or names nobody, and its log says so: if it is to belong to {wanted_by} from now "
        f"on, write {msgspec.json.encode(wanted_by).decode()} into {connector.uri(_owner_key(subpath))}."
        if wanted_by is not None
        else ""
    )
    return DestinationError(
        f"destination {subpath!r} of connector {connector.connector_id!r} {where} to {other}; its readers would count "
        f"rows twice. Choose another destination_subpath.{renamed}"
    )
