"""Local scratch folders that do not outlive their process, not even a killed one."""

import fcntl
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A new empty folder on local disk, removed at the end. Folders of processes that died are removed on the way in:
    the lock on a folder's lock file dies with its process."""
    top = Path(tempfile.gettempdir()) / "vv_exports_spool"
    top.mkdir(mode=0o700, exist_ok=True)
    _sweep(top)
    folder = top / secrets.token_hex(16)
    lock = folder.with_suffix(".lock")
    with lock.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        folder.mkdir()
        try:
            # A sweep that came between the two lines that make and lock the file has taken it for abandoned.
            lock.touch()
            yield folder
        finally:
            shutil.rmtree(folder)
            lock.unlink(missing_ok=True)


def _sweep(top: Path) -> None:
    for lock in top.glob("*.lock"):
        with suppress(FileNotFoundError, BlockingIOError, PermissionError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
