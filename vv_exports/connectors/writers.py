"""Storage that does not decide among writers of one name: found out by trying, and then used by one writer at a time.

Amazon S3, Google Cloud Storage and Azure refuse a name that is taken. Of other stores that speak their protocols some
ignore the condition, and both of two writers are told that they won.
"""

import fcntl
import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import spool_folder, spool_top
from vv_exports.errors import TransientError, VVExportsError

_LOG = logging.getLogger(__name__)
TRIALS = ".vv_exports_trial"
"""The folder below a boundary in which things are tried."""
_TRIED = (f"{TRIALS}/taken-name", *(f"{TRIALS}/taken-name-{number}" for number in range(1, 8)))


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a trial."""

    address: str
    refuses_taken_names: bool
    tried_at: datetime


def refuses_taken_names(
    create: Callable[[str, bytes], bool],
    read: Callable[[str], bytes | None],
    delete: Callable[[list[str]], None],
) -> bool:
    """Create a file below the boundary twice, and delete it. Whether the second creation was refused.

    What cannot be deleted stays and changes nothing. A later trial takes another of a few names, so that no more than
    these are ever left.
    """
    for key in _TRIED:
        # Of an earlier trial, or one at the same time, or what became of ours is not known: one alone proves nothing.
        if not create(key, secrets.token_bytes(16)):
            continue
        try:
            return not create(key, secrets.token_bytes(16))
        finally:
            try:
                delete([key])
            except VVExportsError as error:  # credentials may deliver and not delete, and a store may be unable to
                _LOG.warning("%s stays: %s", key, error)
    if read(_TRIED[-1]) is None:
        raise TransientError(f"{_TRIED[-1]} could not be created, though there is no such object; try again")
    return True  # every one of them was refused


def remembered(storage: Connector, address: str) -> Trial | None:
    """The last trial of a store; None where it was never tried."""
    data = storage.read(_key(address))
    return None if data is None else msgspec.json.decode(data, type=Trial)


def remember(storage: Connector, address: str, *, refuses: bool) -> None:
    """Keep what came of a trial. A later one replaces it."""
    trial = Trial(address=address, refuses_taken_names=refuses, tried_at=datetime.now(UTC))
    with spool_folder() as spool:
        path = spool / "trial.json"
        path.write_bytes(msgspec.json.encode(trial))
        storage.put(path, _key(address))


def _key(address: str) -> str:
    return f"stores/{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"


@contextmanager
def only_writer(connector: Connector, subpath: str) -> Iterator[None]:
    """Be the only writer of a destination, on this machine and for this user, where the storage does not decide.

    Waits for the writer that is there. The lock dies with its process. Among machines, Dagster's pool for the
    destination, which lets in one run at a time, is all there is.
    """
    if connector.decides_among_writers():
        yield
        return
    name = hashlib.sha256(f"{connector.address} {subpath}".encode()).hexdigest()
    with _locked(spool_top() / f"{name}.writer", f"another writer at {connector.uri(subpath)}"):
        yield


@contextmanager
def _locked(path: Path, holder: str) -> Iterator[None]:
    """Hold the lock on a file that is there only as long as somebody holds it or waits for it."""
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _LOG.info("waiting for %s", holder)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):
                continue  # the holder before us has removed it, and others lock a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
