"""What an idempotency key stands for.

Kept in the pipeline's storage, written if there is none, so that two callers at once agree, and that losing Dagster's
database loses no key. The key itself stays with its owner. Layout: ``exports/idempotency/<sha256 of the key>.json``.
"""

import hashlib
from datetime import datetime

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError, IdempotencyError, TransientError
from vv_exports.exports.stored_requests import stored


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The launch that a key stands for: its first Dagster run, when it was asked for, and the hash of what for."""

    run_id: str
    created_at: datetime
    request: str


def request_hash(request: ExportRequest) -> str:
    """64 hex characters that tell a request from any other."""
    return hashlib.sha256(msgspec.json.encode(stored(request))).hexdigest()


def check_key(key: str) -> None:
    """Raise IdempotencyError for a key that is none."""
    if not key.strip():
        raise IdempotencyError("an idempotency key may not be blank")


def earlier_launch(storage: Connector, key: str, request: ExportRequest) -> Launch | None:
    """The launch that a key stands for; None where the key is new. Raises IdempotencyError where it was used for
    another request."""
    path = _path(key)
    data = storage.read(path)
    if data is None:
        return None
    try:
        remembered = msgspec.json.decode(data, type=Launch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeliveredDataError(
            f"{storage.uri(path)} does not say which export the idempotency key {key!r} stands for: {error}. "
            "Restore it; or remove it and ask again, which makes the export anew where Dagster does not know the "
            "key any more."
        ) from error
    if remembered.request != request_hash(request):
        raise IdempotencyError(
            f"the idempotency key {key!r} was used before, for another request; use a new key, or repeat that request"
        )
    return remembered


def remembered_launch(
    storage: Connector, key: str, request: ExportRequest, run_id: str, created_at: datetime
) -> Launch:
    """The launch that a key stands for: this one where the key is new. Raises IdempotencyError where it was used for
    another request."""
    launch = Launch(run_id=run_id, created_at=created_at, request=request_hash(request))
    storage.create(_path(key), msgspec.json.encode(launch))
    remembered = earlier_launch(storage, key, request)
    if remembered is None:
        raise TransientError(f"{storage.uri(_path(key))} was written and cannot be read back; try again")
    return remembered


def _path(key: str) -> str:
    return f"exports/idempotency/{hashlib.sha256(key.encode()).hexdigest()}.json"
