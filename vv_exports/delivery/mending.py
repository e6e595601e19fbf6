"""A log of which entries are lost, unusable or somebody else's, made whole: as it will be, and then in storage.

In the place of such an entry comes one that delivers nothing and says so. Before that, what it held is delivered again
behind it: readers find a log that is broken, and then one that is whole and has everything. What is replaced is kept.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import msgspec

from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.lease import only_writer
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.checkpoints import checkpoints_in, newest_checkpoint
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import ExportReference, LogEntry, Replaced, bare_entry, encode_entry
from vv_exports.delivery.log import LogFault, entries_and_faults, scan_log
from vv_exports.delivery.ownership import could_claim, may_be_of, owner_file
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import no_log_folder
from vv_exports.domain.destinations import LOG_FOLDER, PIPELINES_OWN, broken_name, log_entry_name
from vv_exports.errors import DeliveredDataError, DestinationError

_MOST_MISSING = 1000
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MendedEntry:
    """An entry that is replaced, or, behind the last one that can be used, moved. ``problem`` says what is wrong with
    it, ``kept_at`` where in the collection its bytes are kept."""

    sequence: int
    why: Literal["missing", "unusable", "foreign"]
    problem: str
    kept_at: str | None
    sha256: str | None = field(repr=False, default=None)


@dataclass(frozen=True)
class MendedDestination(Destination):
    """A destination as it is read once its log is whole. ``entries`` are those that come in the place of others, by
    path; ``hidden`` are those that are moved, and checkpoints, which tell of the others."""

    entries: Mapping[str, bytes] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()

    def read(self, path: str) -> bytes | None:
        """The content of a small file, or None where there is none."""
        if path in self.hidden:
            return None
        return self.entries[path] if path in self.entries else super().read(path)

    def files(self, folder: str = "", *, after: str = "") -> dict[str, StoredFile]:
        """Every file of it, or of a folder in it, by path; those behind a path, where one is named."""
        listed = super().files(folder, after=after)
        listed |= {
            path: StoredFile(self.key(path), len(data))
            for path, data in self.entries.items()
            if path > after and (not folder or path.startswith(f"{folder}/"))
        }
        return {path: listed[path] for path in sorted(listed.keys() - self.hidden)}


@dataclass(frozen=True)
class Mending:
    """What is to be done with a log. ``as_mended`` is the destination as it will be. ``replaced`` entries get another
    one in their place; ``moved`` are behind the last one that can be used. ``outdated`` are the checkpoints that tell
    of entries which are lost, and ``known`` is what they tell."""

    destination: Destination
    as_mended: MendedDestination
    replaced: tuple[MendedEntry, ...] = ()
    moved: tuple[MendedEntry, ...] = ()
    outdated: tuple[str, ...] = ()
    known: LogState | None = None

    @property
    def entries(self) -> tuple[MendedEntry, ...]:
        """All that is done something with."""
        return (*self.replaced, *self.moved)


def mending_of(
    destination: Destination, export: ExportReference, clock: Callable[[], datetime], *, was_ours: bool
) -> Mending:
    """What is to be done with the log of a destination. Reads each entry, and writes nothing. ``was_ours`` says that
    its owner is known to have delivered there last, which counts where nothing there says whose it is.

    Raises DestinationError where the destination is not its owner's, DeliveredDataError for what is to be mended by
    hand: an entry of a later version, a link.
    """
    listed = destination.files(PIPELINES_OWN)
    if LOG_FOLDER in listed:
        raise no_log_folder(destination)
    usable, bad = _sorted_out(destination)
    if not usable and bad and not was_ours and not _has_owner(destination):
        raise DestinationError(
            f"{destination.uri} has no owner file that can be read, nor an entry of its log: nothing says whose it is. "
            f"If it is of {destination.claimant}, write {msgspec.json.encode(destination.claimant).decode()} into "
            f"{destination.uri_of('_vv/owner.json')}, and run the same again."
        )
    last = max(usable, default=-1)
    missing = [number for number in range(last + 1) if number not in usable and number not in bad]
    if last >= len(usable) + len(bad) + _MOST_MISSING:
        raise DeliveredDataError(
            f"{destination.uri_of(log_entry_name(last))} is there, and {len(missing):,} entries before it are not: "
            "somebody put it there. Move it out of the folder, and run the same again."
        )
    bad |= {number: _missing(destination, number) for number in missing}
    behind = sorted(number for number in bad if number > last)
    # The place right behind is the next delivery's: what is in it gets something in its place, like those before.
    moved = [number for number in behind if number != last + 1]
    replaced = sorted(bad.keys() - moved)
    # A checkpoint that stands on an entry before all of these stays as true as it is.
    outdated = {number: path for number, path in checkpoints_in(listed).items() if replaced and number >= replaced[0]}
    as_mended = MendedDestination(
        destination.connector,
        destination.subpath,
        destination.owner,
        entries={log_entry_name(number): _instead(destination, bad[number], export, clock()) for number in replaced},
        hidden=frozenset((*outdated.values(), *map(log_entry_name, moved))),
    )
    could_claim(as_mended)
    known = newest_checkpoint(destination, outdated.values())
    return Mending(
        destination=destination,
        as_mended=as_mended,
        replaced=tuple(bad[number] for number in replaced),
        moved=tuple(bad[number] for number in moved),
        outdated=tuple(outdated.values()),
        known=None if known is None else scan_log(destination, known)[0],
    )


def _has_owner(destination: Destination) -> bool:
    """Whether an owner file names somebody, whoever that is."""
    try:
        return owner_file(destination) is not None
    except DeliveredDataError:
        return False


def _sorted_out(destination: Destination) -> tuple[set[int], dict[int, MendedEntry]]:
    """The numbers of the entries that can be used, and what is wrong with the others that are there."""
    usable: set[int] = set()
    bad: dict[int, MendedEntry] = {}
    for found in entries_and_faults(destination):
        if isinstance(found, LogEntry) and may_be_of(found.export.owner, destination.claimant):
            usable.add(found.sequence)
        elif isinstance(found, LogEntry):
            problem = (
                f"{destination.uri_of(log_entry_name(found.sequence))} is an entry of {found.export.owner}, and the "
                f"folder belongs to {destination.claimant}"
            )
            bad[found.sequence] = _there(destination, found.sequence, "foreign", problem)
        else:
            _check_mendable(found)
            bad[found.sequence] = _there(destination, found.sequence, "unusable", found.problem)
    return usable, bad


def _check_mendable(fault: LogFault) -> None:
    if fault.newer:
        raise DeliveredDataError(f"{fault.problem}. Upgrade vv_exports: nothing of it is broken, and nothing is done.")
    if fault.is_no_file:
        raise DeliveredDataError(f"{fault.problem}. Move it out of the folder, and run the same again.")


def _there(destination: Destination, sequence: int, why: Literal["unusable", "foreign"], problem: str) -> MendedEntry:
    data = destination.read(log_entry_name(sequence))
    if data is None:
        return _missing(destination, sequence)  # somebody has just moved it away
    sha256 = hashlib.sha256(data).hexdigest()
    return MendedEntry(sequence, why, problem, broken_name(sequence, sha256), sha256)


def _missing(destination: Destination, sequence: int) -> MendedEntry:
    problem = f"{destination.uri_of(log_entry_name(sequence))} is missing"
    return MendedEntry(sequence, "missing", problem, None)


def _instead(destination: Destination, entry: MendedEntry, export: ExportReference, now: datetime) -> bytes:
    bare = bare_entry(destination, entry.sequence, export, now, "mend")
    return encode_entry(msgspec.structs.replace(bare, replaces=Replaced(why=entry.why, kept_at=entry.kept_at)))


def move_what_is_behind(mending: Mending) -> Mending:
    """Move what is behind the place of the next delivery out of its way, the last first: until the first is moved, or
    replaced, readers are told that the log is broken. Returns what is left to be done: entries that deliveries write in
    these places are read."""
    if not mending.moved:
        return mending
    destination = mending.destination
    with only_writer(destination.connector, destination.subpath):
        for entry in reversed(mending.moved):
            if _keep(destination, entry):
                destination.connector.delete([destination.key(log_entry_name(entry.sequence))])
    return replace(mending, as_mended=replace(mending.as_mended, hidden=frozenset(mending.outdated)), moved=())


def complete(mending: Mending, erased: Collection[str]) -> None:
    """Put what comes in the place of the entries there, once what they held is delivered again, but for ``erased``
    prompt runs. Repeatable.

    Raises DeliveredDataError where a checkpoint tells of prompt runs that were not: nothing is replaced then.
    """
    destination = mending.destination
    if mending.known is not None:
        state, _ = scan_log(mending.as_mended)
        if lost := sorted(mending.known.runs.keys() - state.runs.keys() - set(erased)):
            raise DeliveredDataError(
                f"{destination.uri}: of the prompt runs {', '.join(map(repr, lost[:5]))}"
                f"{f' and {len(lost) - 5} more' if len(lost) > 5 else ''} only a checkpoint of the log tells, and they "  # noqa: PLR2004
                "could not be delivered again. So the log stays as it is: deliveries go by the checkpoint. Restore "
                "the entry from a backup."
            )
    with only_writer(destination.connector, destination.subpath):
        for entry in mending.replaced:
            _replace(mending, entry)
        if mending.outdated:
            destination.connector.delete([destination.key(path) for path in mending.outdated])


def _replace(mending: Mending, entry: MendedEntry) -> None:
    destination, path = mending.destination, log_entry_name(entry.sequence)
    data = mending.as_mended.read(path) or b""
    if entry.kept_at is None:
        if not destination.connector.create(destination.key(path), data):
            _LOG.warning("%s is there again: it stays as it is", destination.uri_of(path))
        return
    if not _keep(destination, entry):
        return
    with spool_folder() as spool:
        local = spool / "entry.json"
        local.write_bytes(data)
        destination.connector.put(local, destination.key(path))


def _keep(destination: Destination, entry: MendedEntry) -> bool:
    """Keep a copy of what is in the place of an entry. False where that is something else by now."""
    path = log_entry_name(entry.sequence)
    data = destination.read(path)
    if data is None or entry.kept_at is None or hashlib.sha256(data).hexdigest() != entry.sha256:
        _LOG.warning("%s is not what it was a moment ago: it stays as it is", destination.uri_of(path))
        return False
    destination.connector.create(destination.key(entry.kept_at), data)
    return True
