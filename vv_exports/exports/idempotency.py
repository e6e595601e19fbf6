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


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The launch that a key stands for: its first Dagster run, when it was asked for, and the hash of what for."""

    run_id: str
    created_at: datetime
    request: str


def request_hash(request: ExportRequest) -> str:
    """64 hex characters that tell a request from any other."""
    return hashlib.sha256(msgspec.json.encode(request)).hexdigest()


def check_key(key: str) -> None:
    """Raise IdempotencyError for a key that is none."""
    if not key.strip():
        raise IdempotencyError("an idempotency key may not be blank")


def remembered_launch(storage: Connector, key: str, launch: Launch) -> Launch:
    """The launch that a key stands for: ``launch`` where the key is new. Raises IdempotencyError where it was used for
    another request."""
    path = f"exports/idempotency/{hashlib.sha256(key.encode()).hexdigest()}.json"
    storage.create(path, msgspec.json.encode(launch))
    data = storage.read(path)
    if data is None:
        raise TransientError(f"{storage.uri(path)} was written and cannot be read back; try again")
    try:
        remembered = msgspec.json.decode(data, type=Launch)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeliveredDataError(
            f"{storage.uri(path)} does not say which export the idempotency key {key!r} stands for: {error}. "
            "Restore it; or remove it and ask again, which makes the export anew where Dagster does not know the "
            "key any more."
        ) from error
    if remembered.request != launch.request:
        raise IdempotencyError(
            f"the idempotency key {key!r} was used before, for another request; use a new key, or repeat that request"
        )
    return remembered
