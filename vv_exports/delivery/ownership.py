"""Who may write to a subpath. Claimed once, by whoever delivers there first, in ``_vv/owner.json``.

Where that file is lost or names nobody, the delivery log says whose the subpath is: its owner claims it again, and
nobody else can.
"""

import logging
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.lease import only_writer
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.destination import Destination, Left, Owner
from vv_exports.delivery.log import LogFault, broken_log, entries_since, read_log
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import (
    LOG_FOLDER,
    OWNER,
    PIPELINES_OWN,
    VIDEO_FOLDERS,
    log_entry_name,
    log_sequence,
)
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.errors import DeliveredDataError, DestinationError, TransientError

_FOLDERS = frozenset({*DELIVERED_TABLES, *VIDEO_FOLDERS, PIPELINES_OWN, LOG_FOLDER})
"""The folders of a collection that deliveries make."""
_LOG = logging.getLogger(__name__)


class OwnerFile(Owner, frozen=True, kw_only=True):
    """What ``_vv/owner.json`` says: whose a destination is, and whether that one has left it."""

    left: Left | None = None

    @property
    def owner(self) -> Owner:
        """Whose it is, left or not."""
        return Owner(type=self.type, index_id=self.index_id, automation=self.automation, export_id=self.export_id)


def owner_file(destination: Destination) -> OwnerFile | None:
    """The owner file of exactly this subpath, or None. Raises DeliveredDataError where it names nobody."""
    data = destination.read(OWNER)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=OwnerFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeliveredDataError(
            f"{destination.uri_of(OWNER)} does not name an owner: {error}. Restore it, or delete it if nobody else "
            "delivers there."
        ) from error


def owner_of(destination: Destination) -> Owner | None:
    """Who owns exactly this subpath by its owner file, or None. Raises DeliveredDataError where that names nobody."""
    file = owner_file(destination)
    return None if file is None else file.owner


def is_ours(destination: Destination) -> bool:
    """Whether the owner file names the destination's owner, and not as one that has left. One that names nobody does
    not."""
    file = _owner_file_or_none(destination)
    return file is not None and file.owner == destination.claimant and file.left is None


def _owner_file_or_none(destination: Destination) -> OwnerFile | None:
    try:
        return owner_file(destination)
    except DeliveredDataError:
        return None


def owner_by_log(state: LogState) -> Owner | None:
    """Whose a destination is by the last entry of its log; None where nothing was ever committed."""
    return state.last.export.owner if state.last is not None else None


def owner_by_either(destination: Destination) -> Owner | None:
    """Who owns exactly this subpath: by its owner file, or by its log where that is missing or names nobody."""
    try:
        owner = owner_of(destination)
    except DeliveredDataError:
        if (owner := owner_by_log(read_log(destination))) is None:
            raise
        return owner
    return owner or owner_by_log(read_log(destination))


def check_log(destination: Destination, state: LogState) -> None:
    """Raise DeliveredDataError where an entry of the owner's log was copied in from another index or export.

    One of another automation of the same index may be from before the automation was renamed.
    """
    if all(may_be_of(writer, destination.claimant) for writer in state.writers):
        return
    ours, faults = LogState(), []
    for entry in entries_since(destination, 0):
        if may_be_of(entry.export.owner, destination.claimant):
            ours.apply(entry)
        else:
            problem = (
                f"{destination.uri_of(log_entry_name(entry.sequence))} is an entry of {entry.export.owner}, and the "
                f"folder belongs to {destination.claimant}: somebody copied it there"
            )
            faults.append(LogFault(entry.sequence, problem))
    raise broken_log(destination, ours, faults)


def may_be_of(writer: Owner, owner: Owner) -> bool:
    """Whether an entry of this writer may be in the log of this owner: an automation may have had another name."""
    return (writer.type, writer.index_id, writer.export_id) == (owner.type, owner.index_id, owner.export_id)


def check_unowned(destination: Destination, *, only_above: bool = False) -> None:
    """Raise DestinationError where anybody owns the destination, or a folder above it."""
    segments = destination.subpath.split("/") if destination.subpath else []
    for depth in range(len(segments) + (0 if only_above else 1)):
        folder = replace(destination, subpath="/".join(segments[:depth]))
        if (file := owner_file(folder)) is not None:
            raise _taken(destination, folder.subpath, file.owner, left=file.left)


@dataclass(frozen=True)
class Claim:
    """``files`` is what is there, by path, where all of it was listed; ``is_new`` says that it became ours now."""

    files: Mapping[str, StoredFile] | None
    is_new: bool


def claim(destination: Destination, *, expected: bool = False) -> Claim:
    """Make the destination its owner's, or raise DestinationError before anything is written. Repeatable.

    Nobody may own it, a folder above it or one below it: readers of either would count rows twice. ``expected`` says
    that it is ours as far as is known, which saves looking around. Where the owner file is missing or names nobody, and
    the log is ours, it is written anew.
    """
    file = _owner_file_or_none(destination) if expected else None
    if file is not None and file.owner == destination.owner:
        _come_back(destination, file)
        return Claim(None, is_new=False)  # it was looked at above and below when it was claimed
    there = destination.files()
    file = _looked_around(destination, there)
    if file is not None:
        _come_back(destination, file)
        return Claim(there, is_new=False)
    if OWNER in there:
        _LOG.warning("%s named nobody, and the log names us: it is written anew", destination.uri_of(OWNER))
        _replace(destination, destination.claimant)
        return Claim(there, is_new=True)
    connector, owner_key = destination.connector, destination.key(OWNER)
    if connector.create(owner_key, _document(destination.claimant)):
        try:
            # Someone may have claimed a folder above or below meanwhile: of two, the later one sees the earlier.
            there = destination.files()
            _looked_around(destination, {path: file for path, file in there.items() if path != OWNER})
        except DestinationError:
            if is_ours(destination):
                connector.delete([owner_key])
            raise
        if any(log_sequence(path) is not None for path in there):
            _LOG.warning("%s was missing, and the log names us: it is written anew", destination.uri_of(OWNER))
        return Claim(there, is_new=True)
    other = owner_of(destination)
    if other is None:
        raise TransientError(f"{destination.uri}: its owner file vanished while it was read; try again")
    if other != destination.owner:
        raise _taken(destination, destination.subpath, other)
    return Claim(None, is_new=False)


def could_claim(destination: Destination) -> Mapping[str, StoredFile]:
    """What is at a destination, by path, where ``claim`` would make it its owner's, or find it so. Writes nothing, and
    raises what that raises."""
    there = destination.files()
    _looked_around(destination, there)
    return there


def _looked_around(destination: Destination, there: Mapping[str, StoredFile]) -> OwnerFile | None:
    """The owner file of the subpath, where it is ours by that. Raises DestinationError where someone else owns it, a
    folder above or one below."""
    owner, subpath = destination.claimant, destination.subpath
    check_unowned(destination, only_above=True)
    for path, found in there.items():
        if found.is_link and path in _FOLDERS:
            raise DestinationError(
                f"{destination.uri_of(path)} is a symbolic link, so that the collection would share its files with "
                "what it leads to; remove the link or choose another destination_subpath"
            )
    ours = None
    keys = {found.key for found in there.values()}
    for found_at in owned_folders(keys):
        # Of itself, as it is read: its log may be one that is being mended.
        folder = destination if found_at == subpath else Destination(destination.connector, found_at)
        file = _owner_file_or_none(folder) if folder.key(OWNER) in keys else None
        other = file.owner if file is not None else owner_by_either(folder)
        if other is not None and (other != owner or folder.subpath != subpath):
            renamed = (other.type, other.index_id) == (owner.type, owner.index_id) and owner.type == "automation"
            only_by_log = file is None and folder.subpath == subpath
            raise _taken(
                destination,
                folder.subpath,
                other,
                left=file.left if file is not None else None,
                wanted_by=owner if only_by_log and renamed else None,
            )
        ours = ours or file
    return ours


def owned_folders(keys: Iterable[str]) -> list[str]:
    """The folders that, by their owner file or their log, somebody delivered to."""
    found = set()
    for key in keys:
        folder, marker, rest = key.rpartition(f"/{PIPELINES_OWN}/")
        if marker and (f"{PIPELINES_OWN}/{rest}" == OWNER or log_sequence(f"{PIPELINES_OWN}/{rest}") is not None):
            found.add(folder)
    return sorted(found)


def claim_again(destination: Destination, state: LogState) -> None:
    """Put the owner file of our own collection back where it is missing or names nobody. ``state`` is its log.

    Raises DestinationError where the subpath is somebody else's, DeliveredDataError where the log is partly so.
    """
    if not is_ours(destination):
        with only_writer(destination.connector, destination.subpath):
            claim(destination)
    # Only now: the entries of a folder that is somebody else's were not copied there.
    check_log(destination, state)


def leave(destination: Destination, left: Left) -> bool:
    """Let the owner file say that its owner delivers elsewhere now. False where that is not its owner, or is not there:
    then nothing of it is left."""
    file = owner_file(destination)
    if file is None or file.owner != destination.owner:
        return False
    told = msgspec.structs.replace(left, place=destination.uri)
    _replace(destination, OwnerFile(**msgspec.structs.asdict(file.owner), left=told))
    return True


def _come_back(destination: Destination, file: OwnerFile) -> None:
    """The owner of a destination that it had left delivers there again; all that its log holds counts."""
    if file.left is not None:
        _LOG.warning("%s was %s, and is taken over again", destination.uri, file.left)
        _replace(destination, file.owner)


def _replace(destination: Destination, owner: Owner) -> None:
    """Replace the owner file."""
    with spool_folder() as spool:
        path = spool / "owner.json"
        path.write_bytes(_document(owner))
        destination.connector.put(path, destination.key(OWNER))


def _document(owner: Owner) -> bytes:
    return msgspec.json.format(msgspec.json.encode(owner), indent=1) + b"\n"


def _taken(
    asked: Destination, folder: str, other: Owner, *, left: Left | None = None, wanted_by: Owner | None = None
) -> DestinationError:
    """``wanted_by`` is set where only the log of the subpath names the other one, which may be its earlier name."""
    where = "belongs" if folder == asked.subpath else f"overlaps {asked.connector.uri(folder)}, which belongs"
    renamed = (
        f" Its owner file is missing or names nobody, and its log says so: if it is to belong to {wanted_by} from now "
        f"on, write {msgspec.json.encode(wanted_by).decode()} into {asked.uri_of(OWNER)}."
        if wanted_by is not None
        else ""
    )
    connector_id = asked.connector.connector_id
    was_left = (
        f" It was {left}: once nobody reads it any more, `vv-exports vacuum {connector_id} --abandoned --subpath "
        f"{shlex.quote(folder)}` removes it."
        if left is not None
        else ""
    )
    return DestinationError(
        f"destination {asked.subpath!r} of connector {connector_id!r} {where} to {other}; its readers would count rows "
        f"twice. Choose another destination_subpath.{was_left}{renamed}"
    )
