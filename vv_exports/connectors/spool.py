"""Local scratch folders that do not outlive their process, not even a killed one, and how much they may hold.

Files are made here before they are uploaded. Where that is, and the most that one process keeps there, is the
configuration's, and the same for the whole process: the disk is.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vv_exports.errors import NoRoomError, RequestError, TransientError

_LOCK = re.compile(r"[0-9a-f]{32}\.lock")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_MEMORY_BYTES = 64 << 20
"""What writers may hold of a file that is not on the disk yet."""


@dataclass(frozen=True)
class Spool:
    """``folder``: where scratch folders are made; None: the system's temporary folder. ``max_bytes``: the most that
    files of this process have there together; None: as the disk has room."""

    folder: Path | None = None
    max_bytes: int | None = None


@dataclass
class _OfThisProcess:
    spool: Spool
    open_folders: set[Path]
    guard: threading.Lock


_OURS = _OfThisProcess(Spool(), set(), threading.Lock())


def use_spool(spool: Spool) -> None:
    """Let scratch folders be made there from now on, by this process."""
    _OURS.spool = spool


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A new empty folder on local disk, removed at the end. Folders of processes that died are removed on the way in:
    the lock on a folder's lock file dies with its process. A full disk becomes a TransientError."""
    top = spool_top()
    try:
        _sweep(top)
        with _lock(top) as lock:
            folder = lock.with_suffix("")
            folder.mkdir()
            with _OURS.guard:
                _OURS.open_folders.add(folder)
            try:
                yield folder
            finally:
                shutil.rmtree(folder)
                with _OURS.guard:
                    _OURS.open_folders.discard(folder)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise TransientError(
            f"no room for temporary files in {top}: {error.strerror}. Free space there or set spool.folder, or TMPDIR, "
            "to another folder, and try again."
        ) from error


def sweep_spools() -> None:
    """Remove the folders of processes that died."""
    _sweep(spool_top())


def spool_top() -> Path:
    """One folder for each user: they share the system's temporary folder, and not their files in it."""
    chosen = _OURS.spool.folder
    if chosen is not None and not chosen.is_dir():
        raise RequestError(f"spool.folder {chosen} is not there, or is no folder: make it, or mount its disk")
    top = (chosen or Path(tempfile.gettempdir())) / f"vv_exports_spool_{os.getuid()}"
    with suppress(FileExistsError):
        top.mkdir(mode=0o700)
    if top.is_symlink() or not top.is_dir() or top.stat().st_uid != os.getuid():
        raise RequestError(
            f"{top} is not a folder of this user; remove it, or set spool.folder, or TMPDIR, to another folder"
        )
    return top


def spooled_bytes() -> int:
    """What files of this process have in its scratch folders together."""
    with _OURS.guard:
        folders = list(_OURS.open_folders)
    return sum(map(_bytes_below, folders))


def has_room(more: int) -> bool:
    """Whether there is room for so many bytes beside what is there."""
    limit = _OURS.spool.max_bytes
    if limit is not None and spooled_bytes() + more > limit:
        return False
    return more <= shutil.disk_usage(spool_top()).free


def at_a_time(needed: int, most: int) -> int:
    """How many of those that need so many bytes each have room beside one another: one at least, at most ``most``."""
    limit = _OURS.spool.max_bytes
    return most if limit is None or not needed else max(1, min(most, limit // needed))


def check_room(needed: int, what: str) -> None:
    """Raise NoRoomError where so many bytes, all that ``what`` needs at a time, do not fit: into the limit, or onto
    the disk beside what others have there."""
    limit = _OURS.spool.max_bytes
    if limit is not None and needed > limit:
        raise NoRoomError(
            f"{what} needs {_mib(needed)} of temporary files at a time, and spool.max_bytes allows {_mib(limit)}: "
            "raise it. Nothing was delivered."
        )
    top = spool_top()
    free = shutil.disk_usage(top).free
    if needed > spooled_bytes() + free:
        raise NoRoomError(
            f"{what} needs {_mib(needed)} of temporary files at a time, and the disk of {top} has {_mib(free)} free: "
            "free space there, or set spool.folder to another disk. Nothing was delivered."
        )


def nothing_to_wait_for() -> None:
    """Where nothing is uploaded meanwhile."""


def make_room(what: str, wait: Callable[[], None], more: int | None = None) -> None:
    """Before so many more bytes are written, by default what writers hold in memory: ``wait`` for what is uploaded
    where there is no room. Raise NoRoomError where files of this process would exceed the limit all the same."""
    limit, more = _OURS.spool.max_bytes, IN_MEMORY_BYTES if more is None else more
    if limit is None or has_room(more):
        return
    wait()
    if (there := spooled_bytes()) + more > limit:
        raise NoRoomError(
            f"{what} needs more than the {_mib(limit)} of temporary files that spool.max_bytes allows: this process "
            f"has {_mib(there)} there, and is about to write up to {_mib(more)}. Raise it. Nothing was delivered."
        )


def _mib(size: int) -> str:
    return f"{-(-size // (1 << 20)):,} MiB"


def _bytes_below(folder: Path | str) -> int:
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:  # they come and go
        for entry in entries:
            with suppress(FileNotFoundError):
                total += _bytes_below(entry.path) if entry.is_dir() else entry.stat().st_size
    return total


@contextmanager
def _lock(top: Path) -> Iterator[Path]:
    """A new lock file, locked."""
    while True:
        lock = top / f"{secrets.token_hex(16)}.lock"
        with lock.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A sweep that came between these two lines has taken it for abandoned and removed it.
            if not lock.exists():
                continue
            try:
                yield lock
            finally:
                lock.unlink(missing_ok=True)
        return


def _sweep(top: Path) -> None:
    for lock in top.iterdir():
        if not _LOCK.fullmatch(lock.name):
            continue
        with suppress(FileNotFoundError, BlockingIOError, PermissionError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
