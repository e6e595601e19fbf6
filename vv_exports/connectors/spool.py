"""Local scratch folders that do not outlive their process, not even a killed one."""

import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vv_exports.errors import RequestError, TransientError

_LOCK = re.compile(r"[0-9a-f]{32}\.lock")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
            try:
                yield folder
            finally:
                shutil.rmtree(folder)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise TransientError(
            f"no room for temporary files in {top}: {error.strerror}. Free space there or set TMPDIR to another "
            "folder, and try again."
        ) from error


def sweep_spools() -> None:
    """Remove the folders of processes that died."""
    _sweep(spool_top())


def spool_top() -> Path:
    """One folder for each user: they share the system's temporary folder, and not their files in it."""
    top = Path(tempfile.gettempdir()) / f"vv_exports_spool_{os.getuid()}"
    with suppress(FileExistsError):
        top.mkdir(mode=0o700)
    if top.is_symlink() or not top.is_dir() or top.stat().st_uid != os.getuid():
        raise RequestError(f"{top} is not a folder of this user; remove it, or set TMPDIR to another folder")
    return top


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
