"""Storage that does not decide among writers of one name: found out by trying. ``lease.py`` keeps writers apart there.

Amazon S3, Google Cloud Storage and Azure refuse a name that is taken. Of other stores that speak their protocols some
ignore the condition, and both of two writers are told that they won.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import spool_folder
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
    """The last trial of a store; None where it was never tried, or what came of it is damaged."""
    data = storage.read(_key(address))
    try:
        return None if data is None else msgspec.json.decode(data, type=Trial)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remember(storage: Connector, address: str, *, refuses: bool) -> None:
    """Keep what came of a trial. A later one replaces it."""
    trial = Trial(address=address, refuses_taken_names=refuses, tried_at=datetime.now(UTC))
    with spool_folder() as spool:
        path = spool / "trial.json"
        path.write_bytes(msgspec.json.encode(trial))
        storage.put(path, _key(address))


def _key(address: str) -> str:
    return f"stores/{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
