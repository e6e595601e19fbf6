"""What there is at a destination, in one look: what its log holds, and what lies there beside that.

Only what is provably the pipeline's may be removed by anyone: a file that the log names, or one whose name is of the
pipeline's form and carries the hash of the content that it has. Uploads are atomic, so what a delivery left that died
is always whole. Everything else is somebody's, and stays.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, named_hash
from vv_exports.delivery.log import broken_log, scan_log
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import LOG_FOLDER, OWNER, checkpoint_sequence, log_sequence
from vv_exports.errors import DeliveredDataError, DestinationError, RequestError


@dataclass(frozen=True)
class Beside:
    """Files that lie beside the committed ones: path -> size in bytes. ``superseded`` are named by the log, which
    abandons them; ``strays`` are of the pipeline's form and carry their own hash, and no delivery committed them: one
    is under way, or has died. ``foreign`` are not the pipeline's."""

    superseded: dict[str, int]
    strays: dict[str, int]
    foreign: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """One reading of a destination. ``state`` is the replay of the log's usable entries, ``log_problem`` says what is
    wrong with others. ``there`` is every file, path -> size; ``damaged`` are the committed ones that are missing or of
    another size."""

    state: LogState
    log_problem: str | None
    there: dict[str, int]
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


def survey(destination: Destination, state: LogState | None = None) -> Survey:
    """Look at all of a destination. ``state`` is what its log says, where that is known: it is not read then.

    Reads files only where their names say that they may be what a dead delivery left.
    """
    problem = None
    if state is None:
        # The log first: what is listed after it and committed later is new, and never missing.
        try:
            state, faults = scan_log(destination)
            problem = str(broken_log(destination, state, faults)) if faults else None
        except DestinationError as error:  # a link is in the place of its folder
            state, problem = LogState(), str(error)
    files = destination.files()
    there = {path: file.size for path, file in files.items()}
    links = {path for path, file in files.items() if file.is_link}
    if LOG_FOLDER in there and problem is None:
        problem = str(no_log_folder(destination))
    damaged = tuple(file for file in state.files if there.get(file.path) != file.bytes)
    return Survey(state, problem, there, damaged, sort_out(destination, state, there, links))


def sort_out(destination: Destination, state: LogState, there: Mapping[str, int], links: Collection[str]) -> Beside:
    """Whose the files are that the log does not hold. ``links`` are those of them that are symbolic links, which no
    delivery makes."""
    committed = {file.path for file in state.files}
    beside = Beside({}, {}, {})
    for path, size in there.items():
        if path in committed or _is_of_the_log(path):
            continue
        if path in links:
            beside.foreign[path] = size
        elif path in state.abandoned:
            beside.superseded[path] = size
        elif _carries_its_hash(destination, path):
            beside.strays[path] = size
        else:
            beside.foreign[path] = size
    return beside


def _is_of_the_log(path: str) -> bool:
    return path == OWNER or log_sequence(path) is not None or checkpoint_sequence(path) is not None


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
