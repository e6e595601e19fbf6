"""Checkpoints of a log: the state up to one entry, so that a reader needs not begin at the first one.

Layout: ``_vv/checkpoints/<sequence>.json.zst``, written beside entry ``sequence`` by whoever committed it, every
``EVERY`` entries. The files are compressed since they grow with the collection, and nobody has to open them.

A checkpoint is a hint, and may be missing, late, damaged, or from another log. It names the entry that it stands on by
its hash, so that it counts only in the log that it was made of: not in a folder that was begun anew with the same
numbers, nor in one that was set back to before it. Entries are never replaced, so what a checkpoint says of them stays
true; ``verify`` reads all of them nevertheless, and compares.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports.connectors.spool import spool_folder
from vv_exports.connectors.versioned_document import NOT_PACKED, packed, unpacked
from vv_exports.delivery.columns import EarlierColumns, Shape, are_earlier_parquet, earlier_columns
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, entry_hash, read_entry
from vv_exports.delivery.holdings import HeldRun, Holdings
from vv_exports.delivery.state import CommittedRun, EntryHead, Held, LogState, folders_of
from vv_exports.domain.destinations import CHECKPOINT_FOLDER, checkpoint_name, checkpoint_sequence
from vv_exports.errors import DeliveredDataError, RequestError, UnusableEntryError, VVExportsError

EVERY = 100
KEPT = 2
"""So that a reader that has just listed the folder finds what it saw, and another one where the newest is damaged."""
FORMAT_VERSION = 1
_TRIED = 3
_READ_AT_ONCE = 8
_LOG = logging.getLogger(__name__)
_Replay = TypeVar("_Replay")


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """``entry`` is the sequence of one of the heads, ``earlier`` the place of what its files have in the state's
    list."""

    entry: int
    run: DeliveredRun
    files: tuple[DeliveredFile, ...]
    earlier: int | UnsetType = UNSET


class _Path(msgspec.Struct, frozen=True, gc=False):
    path: str


class _RunItself(msgspec.Struct, frozen=True, gc=False):
    run_id: str
    prompt_id: str
    status: str
    data_version: str


class _RunWithoutFiles(msgspec.Struct, frozen=True):
    """The same as far as ``Holdings`` know it."""

    entry: int
    run: _RunItself
    files: tuple[_Path, ...]
    earlier: int | UnsetType = UNSET


_RUN = msgspec.json.Decoder(_Run)
_RUN_WITHOUT_FILES = msgspec.json.Decoder(_RunWithoutFiles)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """``earlier`` are the columns of files of version 0.1: each once for all runs that share them. Checkpoints of
    earlier versions have none."""

    heads: list[EntryHead]
    runs: list[msgspec.Raw]
    abandoned: list[str]
    last_delivery: EntryHead | None
    count: int
    writers: list[tuple[Owner, int]]
    began: dict[str, datetime]
    retained: dict[str, datetime] = {}
    shapes: dict[str, dict[str, Shape]] = {}
    earlier: list[dict[str, EarlierColumns]] = []


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """``state_sha256`` is of the state's JSON as it stands."""

    format_version: int
    sequence: int
    entry_sha256: str
    state_sha256: str
    state: msgspec.Raw


def newest_checkpoint(destination: Destination, listed: Iterable[str] | None = None) -> LogState | None:
    """The state up to the newest entry that a checkpoint stands on; None where there is none that can be used.
    ``listed`` are the paths that are there, where that is known."""
    return _newest(destination, listed, read_checkpoint)


def newest_holdings(destination: Destination) -> Holdings | None:
    """The same without the files."""
    return _newest(destination, None, _read_holdings)


def _newest(
    destination: Destination, listed: Iterable[str] | None, read: Callable[[Destination, int], _Replay | None]
) -> _Replay | None:
    for sequence in sorted(checkpoints_in(_paths(destination) if listed is None else listed), reverse=True)[:_TRIED]:
        try:
            state = read(destination, sequence)
        except (DeliveredDataError, RequestError) as error:  # the log says it too, one entry at a time
            _LOG.info("%s is not used: %s", destination.uri_of(checkpoint_name(sequence)), error)
        else:
            if state is not None:
                return state
    return None


def checkpoints_in(paths: Iterable[str]) -> dict[int, str]:
    """Those of paths that are checkpoints: sequence -> path."""
    return {number: path for path in paths if (number := checkpoint_sequence(path)) is not None}


def _paths(destination: Destination) -> Iterable[str]:
    try:
        return destination.files(CHECKPOINT_FOLDER)
    except RequestError as error:
        _LOG.info("checkpoints of %s are not used: %s", destination.uri, error)
        return ()


def read_checkpoint(destination: Destination, sequence: int) -> LogState | None:
    """What a checkpoint says; None where it is gone. Raises DeliveredDataError where it is damaged, of a later version,
    or of another log."""
    found = _Found.read(destination, sequence)
    if found is None:
        return None
    runs = found.runs()
    untold = {run_id: run for run_id, run in runs.items() if _is_untold(run)}
    state = found.state
    return LogState(
        next_sequence=sequence + 1,
        runs=runs
        | {
            run_id: replace(untold[run_id], earlier=earlier)
            for run_id, earlier in _told_of(destination, untold).items()
        },
        abandoned=set(state.abandoned),
        retained=state.retained,
        shapes=state.shapes,
        last=found.last,
        last_delivery=state.last_delivery,
        count=state.count,
        writers=dict(state.writers),
        began=state.began,
        checkpoint=sequence,
        was_completed=bool(untold),
    )


def _read_holdings(destination: Destination, sequence: int) -> Holdings | None:
    found = _Found.read(destination, sequence)
    if found is None:
        return None
    runs = found.held()
    untold = {run_id: run for run_id, run in runs.items() if _is_untold(run)}
    for run_id, earlier in _told_of(destination, untold).items():
        runs[run_id] = msgspec.structs.replace(runs[run_id], earlier=earlier)
    return Holdings(
        next_sequence=sequence + 1, runs=runs, shapes=found.state.shapes, last=found.last, began=found.state.began
    )


def _is_untold(run: Held) -> bool:
    """Whether the columns of its files are not told, though its entry tells them."""
    return run.earlier is None and are_earlier_parquet(run.entry)


@dataclass(frozen=True)
class _Found:
    """A checkpoint that stands on the entry ``last`` of its log."""

    state: _State
    last: LogEntry

    @classmethod
    def read(cls, destination: Destination, sequence: int) -> "_Found | None":
        data = destination.read(checkpoint_name(sequence))
        if data is None:
            return None
        try:
            unpacked_data = unpacked(data, msgspec.Raw)
            del data  # what follows takes several times as much
            version = msgspec.json.decode(unpacked_data, type=_Version).format_version
            if version != FORMAT_VERSION:
                raise DeliveredDataError(f"it has format_version {version}; this version reads {FORMAT_VERSION}")
            found = msgspec.json.decode(unpacked_data, type=_Checkpoint)
            if hashlib.sha256(found.state).hexdigest() != found.state_sha256:
                raise DeliveredDataError("it is damaged: its state has another hash than it says")
            state = msgspec.json.decode(found.state, type=_State)
        except NOT_PACKED as error:
            raise DeliveredDataError(f"it is no checkpoint: {error}") from error
        last = read_entry(destination, sequence)
        if last is None or found.sequence != sequence or found.entry_sha256 != entry_hash(last):
            raise DeliveredDataError(f"it is of another log: it does not stand on entry {sequence} as it is there")
        return cls(state, last)

    def runs(self) -> dict[str, CommittedRun]:
        """The runs that it has."""
        with self._no_checkpoint_errors():
            return {
                one.run.run_id: CommittedRun(self._heads[one.entry], one.run, one.files, self._earlier_of(one))
                for one in map(_RUN.decode, self.state.runs)
            }

    def held(self) -> dict[str, HeldRun]:
        """The same without the files, and without decoding them: one run after the other, since they take several times
        their text. What has few values is one object for all runs."""
        shared: dict[str, str] = {}
        with self._no_checkpoint_errors():
            return {
                one.run.run_id: HeldRun(
                    self._heads[one.entry],
                    shared.setdefault(one.run.prompt_id, one.run.prompt_id),
                    one.run.data_version,
                    shared.setdefault(one.run.status, one.run.status),
                    folders_of(file.path for file in one.files),
                    self._earlier_of(one),
                )
                for one in map(_RUN_WITHOUT_FILES.decode, self.state.runs)
            }

    @cached_property
    def _heads(self) -> dict[int, EntryHead]:
        return {head.sequence: head for head in self.state.heads}

    def _earlier_of(self, one: _Run | _RunWithoutFiles) -> Mapping[str, EarlierColumns] | None:
        return None if one.earlier is UNSET else self.state.earlier[one.earlier]

    @staticmethod
    @contextmanager
    def _no_checkpoint_errors() -> Iterator[None]:
        try:
            yield
        except (*NOT_PACKED, LookupError) as error:
            raise DeliveredDataError(f"it is no checkpoint: {error}") from error


def _told_of(destination: Destination, runs: Mapping[str, Held]) -> dict[str, Mapping[str, EarlierColumns]]:
    """The columns of the runs' files, as the entries of version 0.1 which hold them tell it. An entry that is damaged
    by now tells none: the checkpoint stands without it, and such runs are delivered again."""
    heads = {run.entry.sequence: run.entry for run in runs.values()}
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        told = dict(zip(heads, pool.map(partial(_told, destination), heads.values()), strict=True))
    return {run_id: told[run.entry.sequence].get(run_id, {}) for run_id, run in runs.items()}


def _told(destination: Destination, head: EntryHead) -> Mapping[str, Mapping[str, EarlierColumns]]:
    try:
        entry = read_entry(destination, head.sequence)
    except UnusableEntryError as error:
        _LOG.warning("what this entry holds is delivered again: %s", error)
        return {}
    return earlier_columns(entry) if entry is not None and entry.delivery_id == head.delivery_id else {}


class _Version(msgspec.Struct, frozen=True):
    """What checkpoints of all versions have."""

    format_version: int


def write_checkpoint(destination: Destination, state: LogState) -> None:
    """Write the checkpoint of what a log holds up to its last entry, and remove those before the last ones."""
    if (last := state.last) is None:
        return
    with spool_folder() as spool:
        path = spool / "checkpoint"
        path.write_bytes(packed(_checkpoint(state, last)))
        # It replaces what is there: a log that was begun anew comes to the same numbers again.
        destination.connector.put(path, destination.key(checkpoint_name(last.sequence)))
    there = checkpoints_in(_paths(destination))
    if over := superseded_checkpoints((there[number] for number in there if number <= last.sequence), state):
        try:
            destination.connector.delete([destination.key(path) for path in over])
        except VVExportsError as error:  # credentials may deliver and not delete
            _LOG.warning("%d old checkpoints stay until `vv-exports vacuum` removes them: %s", len(over), error)


def superseded_checkpoints(paths: Iterable[str], state: LogState) -> tuple[str, ...]:
    """Those of paths that are checkpoints before the last ones of a log, or stand on entries that it has not."""
    found = checkpoints_in(paths)
    kept = sorted(number for number in found if number < state.next_sequence)[-KEPT:]
    return tuple(path for number, path in sorted(found.items()) if number not in kept)


def _checkpoint(state: LogState, last: LogEntry) -> _Checkpoint:
    heads = {run.entry.sequence: run.entry for run in state.runs.values()}
    earlier = {id(run.earlier): run.earlier for run in state.runs.values() if run.earlier is not None}
    places = {one: place for place, one in enumerate(earlier)}
    encoded = msgspec.json.encode(
        _State(
            heads=list(heads.values()),
            runs=[
                msgspec.Raw(
                    msgspec.json.encode(
                        _Run(
                            entry=one.entry.sequence,
                            run=one.run,
                            files=one.files,
                            earlier=UNSET if one.earlier is None else places[id(one.earlier)],
                        )
                    )
                )
                for one in state.runs.values()
            ],
            abandoned=sorted(state.abandoned),
            last_delivery=state.last_delivery,
            count=state.count,
            writers=list(state.writers.items()),
            began=state.began,
            retained=state.retained,
            shapes=state.shapes,
            earlier=[dict(one) for one in earlier.values()],
        )
    )
    return _Checkpoint(
        format_version=FORMAT_VERSION,
        sequence=last.sequence,
        entry_sha256=entry_hash(last),
        state_sha256=hashlib.sha256(encoded).hexdigest(),
        state=msgspec.Raw(encoded),
    )
