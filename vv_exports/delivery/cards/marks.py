"""The mark in the files of a dataset card: the hash of the file, by which one that somebody changed is known."""

import hashlib
import re

from vv_exports.delivery.destination import Destination
from vv_exports.domain.destinations import CARD, CROISSANT
from vv_exports.errors import DeliveredDataError, RequestError

_MARK = "vv_exports-dataset-card:"
_NO_HASH = "0" * 64
_MARKED = re.compile(rf"{_MARK}[0-9a-f]{{64}}".encode())
UNMARKED = _MARK + _NO_HASH
"""What stands in a text for its mark. The last one counts: others may be in what people say."""


def marked(text: str) -> bytes:
    """A file that holds a text, with its hash as the mark: that of the same file with 64 zeros in its place."""
    data = text.encode(errors="backslashreplace")
    return _with_hash(data, hashlib.sha256(data).hexdigest())


def is_as_marked(data: bytes) -> bool:
    """Whether a file is as it was when it was marked."""
    if not _MARKED.search(data):
        return False
    unmarked = _with_hash(data, _NO_HASH)
    return data == _with_hash(unmarked, hashlib.sha256(unmarked).hexdigest())


def is_card(destination: Destination, path: str) -> bool:
    """Whether a file of a destination is of a dataset card, and as it was written."""
    if path not in {CARD, CROISSANT}:
        return False
    try:
        return is_as_marked(destination.read(path) or b"")
    except (RequestError, DeliveredDataError):
        return False  # it may not be read, or is no file: nothing is proved


def _with_hash(data: bytes, sha256: str) -> bytes:
    found = list(_MARKED.finditer(data))[-1]
    return data[: found.start()] + _MARK.encode() + sha256.encode() + data[found.end() :]
