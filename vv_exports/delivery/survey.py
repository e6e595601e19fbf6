"""What there is at a destination, in one look: what its log holds, and what lies there beside that.

Only what is provably the pipeline's may be removed by anyone: a file that the log names, or one whose name is of the
pipeline's form and carries the hash of the content that it has. Uploads are atomic, so what a delivery left that died
is always whole. Everything else is somebody's, and stays.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from vv_exports.connectors.base import StoredFile
from vv_exports.delivery.cards.marks import is_card
from vv_exports.delivery.checkpoints import newest_checkpoint
from vv_exports.delivery.checksums import has_checksums
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, named_hash
from vv_exports.delivery.log import broken_log, scan_log
from vv_exports.delivery.ownership import OwnerFile, owner_file
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import (
    CHECKPOINT_FOLDER,
    CHECKSUMS,
    LOG_FOLDER,
    OWNER,
    PIPELINES_OWN,
    checkpoint_name,
    checkpoint_sequence,
    is_kept_broken,
    log_sequence,
    registered_in,
)
from vv_exports.errors import DeliveredDataError, DestinationError, RequestError, VVExportsError

_FILES_IN_A_PAGE = 1000


@dataclass(frozen=True)
class Beside:
    """Files that lie beside the committed ones: path -> size in bytes. ``superseded`` are named by the log, which
    abandons them; ``retained`` were superseded too, and are kept for readers that began before; ``strays`` are of the
    pipeline's form and carry their own hash, and no delivery committed them: one is under way, or has died. ``foreign``
    are not the pipeline's."""

    superseded: dict[str, int]
    retained: dict[str, int]
    strays: dict[str, int]
    foreign: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """One reading of a destination. ``state`` is the replay of the log's usable entries, ``log_problem`` is what is
    wrong with others. ``owner`` is what its owner file says, ``owner_problem`` why that says nothing. ``there`` is
    every file, path -> size, ``links`` those of them that are symbolic links; ``damaged`` are the committed ones that
    are missing or of another size."""

    state: LogState
    log_problem: VVExportsError | None
    owner: OwnerFile | None
    owner_problem: VVExportsError | None
    there: dict[str, int]
    links: frozenset[str]
    damaged: tuple[DeliveredFile, ...]
    beside: Beside

    @property
    def runs_damaged(self) -> set[str]:
        """Those of which committed files are missing or of another size. What is in them is not looked at."""
        return {file.prompt_run_id for file in self.damaged}

    def runs_unfinished(self, run_ids: Iterable[str]) -> set[str]:
        """Those of these of which deliveries left files behind. Delivering a run again removes them."""
        folders = self.state.folders_of(run_ids)
        left = {path.rpartition("/")[0] for path in (*self.beside.superseded, *self.beside.strays)}
        return {folders[folder] for folder in left & folders.keys()}


def survey(
    destination: Destination,
    state: LogState | None = None,
    *,
    whole_log: bool = False,
    now: datetime | None = None,
) -> Survey:
    """Look at all of a destination. ``state`` is what its log says, where that is known: it is not read then. With
    ``whole_log`` each entry is read, and no checkpoint is believed. ``now``, by default by the machine's clock, says
    which superseded files are still kept.

    Reads other files only where their names say that they may be what a dead delivery left.
    """
    problem: VVExportsError | None = None
    if state is None:
        # The log first: what is listed after it and committed later is new, and never missing.
        try:
            state, problem = _log(destination, whole=whole_log)
        except DestinationError as error:  # a link is in the place of its folder
            state, problem = LogState(), error
    owner, owner_problem = _owner(destination)
    files = destination.files()
    there = {path: file.size for path, file in files.items()}
    links = frozenset(path for path, file in files.items() if file.is_link)
    if LOG_FOLDER in there and problem is None:
        problem = no_log_folder(destination)
    damaged = tuple(file for file in state.files if there.get(file.path) != file.bytes)
    named = _Named.of(state, now or datetime.now(UTC))
    beside = _sort_out(destination, state, there, links, named)
    return Survey(state, problem, owner, owner_problem, there, links, damaged, beside)


def _log(destination: Destination, *, whole: bool) -> tuple[LogState, DeliveredDataError | None]:
    listed = destination.files(PIPELINES_OWN)
    if LOG_FOLDER in listed:
        destination.files(LOG_FOLDER)  # says so where it is a link
    believed = newest_checkpoint(destination, listed)
    if believed is None or not whole:
        state, faults = scan_log(destination, believed, listed=listed)
        return state, broken_log(destination, state, faults) if faults else None
    # Listed once more, since a listing is no moment: that one may have the checkpoint, and not the entry it stands on.
    listed = destination.files(LOG_FOLDER)
    up_to = [path for path in listed if (log_sequence(path) or 0) < believed.next_sequence]
    state, faults = scan_log(destination, listed=up_to)
    says_otherwise = state != believed and not faults
    state, more = scan_log(destination, state, listed=listed)
    if faults or more:
        return state, broken_log(destination, state, [*faults, *more], read_from=believed.next_sequence)
    return state, _changed_entries(destination, believed.next_sequence - 1) if says_otherwise else None


def _changed_entries(destination: Destination, sequence: int) -> DeliveredDataError:
    checkpoint = checkpoint_name(sequence)
    return DeliveredDataError(
        f"{destination.uri_of(checkpoint)} says otherwise of the log up to entry {sequence} than its entries do: "
        "somebody has changed or replaced one. Readers go by the checkpoint. Restore the entries from a backup; or, "
        f"where they are right as they are, delete {CHECKPOINT_FOLDER}, and what is read from then on are they."
    )


def _owner(destination: Destination) -> tuple[OwnerFile | None, VVExportsError | None]:
    try:
        return owner_file(destination), None
    except (DestinationError, DeliveredDataError) as error:
        return None, error


@dataclass(frozen=True)
class RunFiles:
    """What is there of one run: every file, path -> size; those that are symbolic links; the committed ones that
    somebody took away, or cut short; and whose the others are."""

    sizes: dict[str, int]
    links: frozenset[str]
    missing: frozenset[str]
    beside: Beside


def survey_runs(
    destination: Destination,
    state: LogState,
    folders: Mapping[str, str],
    listed: Mapping[str, StoredFile] | None = None,
    *,
    damaged: Collection[str] = (),
    now: datetime,
) -> dict[str, RunFiles]:
    """Look at some runs of a destination. ``folders`` are theirs, each with its run; ``listed`` is what is there, where
    that is known. ``damaged`` files count as missing."""
    if listed is None:
        listed = _listed(destination, state, folders)
    if LOG_FOLDER in listed:
        raise no_log_folder(destination)
    found: dict[str, dict[str, StoredFile]] = {run_id: {} for run_id in folders.values()}
    for path, file in listed.items():
        run_id = folders.get(path.rpartition("/")[0])
        if run_id is not None and path not in damaged:
            found[run_id][path] = file
    named = _Named.of(state, now)
    return {run_id: _run_files(destination, state, run_id, files, named) for run_id, files in found.items()}


def _listed(destination: Destination, state: LogState, folders: Iterable[str]) -> dict[str, StoredFile]:
    """The files in these folders, at least: from one listing of all where that takes fewer requests."""
    if 1 + len(state.files) // _FILES_IN_A_PAGE <= len(list(folders)):
        return destination.files()
    with of_one_run():
        return {path: file for folder in folders for path, file in destination.files(folder).items()}


def _run_files(
    destination: Destination, state: LogState, run_id: str, files: Mapping[str, StoredFile], named: "_Named"
) -> RunFiles:
    sizes = {path: file.size for path, file in files.items()}
    links = frozenset(path for path, file in files.items() if file.is_link)
    held = state.runs[run_id].files if run_id in state.runs else ()
    missing = frozenset(file.path for file in held if sizes.get(file.path) != file.bytes)
    return RunFiles(sizes, links, missing, _sort_out(destination, state, sizes, links, named))


@contextmanager
def of_one_run() -> Iterator[None]:
    """Around what is done in the folder of a run: a link or a folder in its way is not in the way of other runs."""
    try:
        yield
    except DestinationError as error:
        raise DeliveredDataError(str(error)) from error


@dataclass(frozen=True)
class _Named:
    """Paths that a log names: made once for all runs that are looked at, since a collection may hold a million."""

    committed: Collection[str]
    retained: Collection[str]

    @classmethod
    def of(cls, state: LogState, now: datetime) -> Self:
        return cls({file.path for file in state.files}, state.retained_at(now))


def _sort_out(
    destination: Destination, state: LogState, there: Mapping[str, int], links: Collection[str], named: _Named
) -> Beside:
    """Whose the files are that the log does not hold. ``links`` are those of them that are symbolic links, which no
    delivery makes."""
    beside = Beside({}, {}, {}, {})
    for path, size in there.items():
        if path in named.committed or is_of_the_log(path) or (path == CHECKSUMS and has_checksums(state)):
            continue
        if registered_in(path) is not None and path not in links:
            continue  # it repeats what the log says, for readers of such tables
        if path in links:
            beside.foreign[path] = size
        elif is_card(destination, path):
            continue
        elif path in named.retained:
            beside.retained[path] = size
        elif path in state.abandoned:
            beside.superseded[path] = size
        elif _carries_its_hash(destination, path):
            beside.strays[path] = size
        else:
            beside.foreign[path] = size
    return beside


def is_of_the_log(path: str) -> bool:
    """Whether a path is of what says what a collection holds, and whose it is."""
    is_entry = log_sequence(path) is not None or is_kept_broken(path)
    return path == OWNER or is_entry or checkpoint_sequence(path) is not None


def no_log_folder(destination: Destination) -> DeliveredDataError:
    """A file lies where the log belongs."""
    return DeliveredDataError(
        f"{destination.uri_of(LOG_FOLDER)} is a file, and belongs to be the folder of the delivery log: "
        "somebody put it there. Move it away; restore the folder from a backup where there was one, or deliver again."
    )


def sha256_of(destination: Destination, path: str) -> tuple[int, str]:
    """Size and hash of a file. Raises DeliveredDataError where it is not there."""
    with destination.connector.open(destination.key(path)) as content:
        size = content.seek(0, 2)
        content.seek(0)
        return size, hashlib.file_digest(content, "sha256").hexdigest()


def _carries_its_hash(destination: Destination, path: str) -> bool:
    named = named_hash(path)
    if named is None:
        return False
    try:
        return sha256_of(destination, path)[1].startswith(named)
    except RequestError:
        return False  # it is a link, which no delivery makes, or may not be read: nothing is proved
    except DeliveredDataError:
        return False  # it has gone meanwhile, so there is nothing to be removed, or is no file
