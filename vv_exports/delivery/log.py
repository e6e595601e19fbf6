"""The delivery log: the numbered entries under ``_vv/log/`` that say what a destination holds.

Writing an entry is the commit. The state of a destination is the replay of its entries, from the newest checkpoint on
where there is one. The entries are the truth: what is only a hint is in ``checkpoints.py``.
"""

import logging
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from vv_exports.delivery import checkpoints
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import LogEntry, read_entry
from vv_exports.delivery.holdings import Holdings
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import BROKEN_FOLDER, CHECKPOINT_FOLDER, LOG_FOLDER, log_entry_name, log_sequence
from vv_exports.errors import DeliveredDataError, UnusableEntryError, VVExportsError
from vv_exports.printable import one_line

_READ_AT_ONCE = 8
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogFault:
    """An entry that is missing, or that cannot be used. ``newer`` where a later version of the package wrote it,
    ``is_no_file`` where a link, a folder or a device is in its place."""

    sequence: int
    problem: str
    newer: bool = False
    is_no_file: bool = False


def read_log(
    destination: Destination, state: LogState | None = None, *, listed: Iterable[str] | None = None
) -> LogState:
    """Replay the log of a destination, from its newest checkpoint or on from an earlier state. ``listed`` are the paths
    that are there, where that is known.

    Raises DeliveredDataError where an entry is missing, is not one of ours or was written by a newer layout.
    """
    if state is None:
        state = checkpoints.newest_checkpoint(destination, listed)
    state, faults = scan_log(destination, state, listed=listed)
    if faults:
        raise broken_log(destination, state, faults)
    return state


def read_holdings(destination: Destination, held: Holdings | None = None) -> Holdings:
    """The same without the files, for whoever asks often what is to be delivered."""
    held = held or checkpoints.newest_holdings(destination) or Holdings()
    expected = held.next_sequence
    for number, found in _read(destination, _sequences(destination, expected, None)):
        if number != expected or isinstance(found, LogFault):
            read_log(destination)  # says what is wrong
            return read_holdings(destination)  # and it was mended meanwhile
        held.apply(found)
        expected += 1
    return held


def scan_log(
    destination: Destination, state: LogState | None = None, *, listed: Iterable[str] | None = None
) -> tuple[LogState, list[LogFault]]:
    """The same as far as it can be read: the replay of the entries that can be used, and what is wrong with others.
    Without a state it reads all of them, and believes no checkpoint."""
    state = LogState() if state is None else state
    faults: list[LogFault] = []
    expected = state.next_sequence
    behind = _sequences(destination, expected, listed)
    for number, found in _read(destination, behind):
        if number != expected:
            # An entry that took the free number would be overruled by the older ones behind it.
            faults.append(LogFault(expected, f"{_missing(destination, expected)}, while entry {behind[-1]} is there"))
        expected = number + 1
        if isinstance(found, LogFault):
            faults.append(found)
        else:
            state.apply(found)
    return state, faults


def entries_and_faults(destination: Destination) -> Iterator[LogEntry | LogFault]:
    """Each entry that is there, in their order, or what is wrong with it. Says nothing of those that are missing."""
    for _, found in _read(destination, _sequences(destination, 0, None)):
        yield found


def entries_since(destination: Destination, sequence: int) -> list[LogEntry]:
    """The entries from this one on, each of them read; those that cannot be used are left out."""
    found = _read(destination, _sequences(destination, sequence, None))
    return [entry for _, entry in found if isinstance(entry, LogEntry)]


def keep_checkpoint(destination: Destination, state: LogState, committed: int) -> None:
    """Write a checkpoint where one is due after this entry: after so many of them, and where that of an earlier version
    lets every reader read entries before it. Nothing depends on it, so what goes wrong is a warning."""
    try:
        if (committed + 1) % checkpoints.EVERY and not _is_outdated(destination, state):
            return
        if not destination.connector.decides_among_writers():
            state = read_log(destination)  # what was read a while ago may have been replaced by another writer
        checkpoints.write_checkpoint(destination, state)
    except VVExportsError as error:
        _LOG.warning("the log of %s gets no checkpoint at entry %d: %s", destination.uri, committed, error)


def _is_outdated(destination: Destination, state: LogState) -> bool:
    """Whether the checkpoint that a state began with had to be completed, and nobody has written a later one."""
    if not state.was_completed or state.checkpoint is None:
        return False
    return max(checkpoints.checkpoints_in(destination.files(CHECKPOINT_FOLDER)), default=-1) <= state.checkpoint


def broken_log(
    destination: Destination, state: LogState, faults: Sequence[LogFault], *, read_from: int = 0
) -> DeliveredDataError:
    """What is wrong with a log, what is known all the same, and the way out. ``state`` is of the entries that can be
    used; ``read_from`` is the first one that readers need, where a checkpoint has those before it."""
    first = faults[0]
    more = f" ({len(faults) - 1} more of its entries are missing or unusable.)" if len(faults) > 1 else ""
    known = (
        f"The entries that can be read, {state.count}, hold {len(state.runs)} prompt runs in {len(state.files)} files."
    )
    if first.newer:
        return DeliveredDataError(f"{first.problem}. Upgrade vv_exports.{more} {known}")
    goes_on = (
        f"Deliveries go on from the checkpoint at entry {read_from - 1}."
        if all(fault.sequence < read_from for fault in faults)
        else "Nothing is delivered there until this is mended."
    )
    repair = _repair(destination, state, faults)
    return DeliveredDataError(
        f"{first.problem}.{more} {known} {goes_on} Restore the entry from a backup.{repair} Or, while "
        f"nothing delivers there, move every entry from {log_entry_name(first.sequence)} on out of {destination.uri}, "
        f"and {_again(state)}: what they held is delivered again, files that are as they should be are kept, and "
        "prompt runs that the source has no more are lost to the log."
    )


def _repair(destination: Destination, state: LogState, faults: Sequence[LogFault]) -> str:
    """The command that mends a log, where it can."""
    if any(fault.is_no_file or fault.newer for fault in faults):
        return ""
    owner = None if state.last is None else state.last.export.owner
    if not destination.subpath and (owner is None or owner.automation is None):
        return ""  # a copy that somebody looks at
    command = repair_command(destination, owner)
    return (
        f" Or run {command}: it delivers again what is lost, and keeps what is there of the entry in {BROKEN_FOLDER}."
    )


def repair_command(destination: Destination, owner: Owner | None) -> str:
    """The command that mends what is at a destination, for a message."""
    if owner is not None and owner.automation is not None:
        return f"`vv-exports verify {shlex.quote(one_line(owner.index_id))} {one_line(owner.automation)} --repair`"
    subpath = shlex.quote(one_line(destination.subpath))
    return f"`vv-exports verify {destination.connector.connector_id} --subpath {subpath} --repair`"


def _again(state: LogState) -> str:
    export = state.last.export if state.last is not None else None
    if export is None:
        return "deliver there again (`vv-exports automations run INDEX NAME`; of an export on demand, make a new one)"
    if export.automation is not None:
        return (
            f"run `vv-exports automations run {shlex.quote(one_line(export.index_id))} {one_line(export.automation)}`"
        )
    return "make a new export in place of this one"


def _missing(destination: Destination, number: int) -> str:
    return f"{destination.uri_of(log_entry_name(number))} is missing"


def _sequences(destination: Destination, first: int, listed: Iterable[str] | None) -> list[int]:
    if listed is None:
        listed = destination.files(LOG_FOLDER, after=log_entry_name(first - 1) if first else "")
    return sorted(number for path in listed if (number := log_sequence(path)) is not None and number >= first)


def _read(destination: Destination, sequences: Sequence[int]) -> Iterator[tuple[int, LogEntry | LogFault]]:
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        yield from zip(sequences, pool.map(partial(_entry_or_fault, destination), sequences), strict=True)


def _entry_or_fault(destination: Destination, sequence: int) -> LogEntry | LogFault:
    try:
        entry = read_entry(destination, sequence)
    except UnusableEntryError as error:
        return LogFault(sequence, str(error), error.is_newer, error.is_no_file)
    return entry or LogFault(sequence, f"{_missing(destination, sequence)}, and was there a moment ago")
