"""Ids as names: of folders, of Dagster partitions, of Dagster definitions.

An id is any text that the platform allows, so no place can take it as it is. Two ids never get the same name, but for
``dagster_name``.
This module knows the rules of those places, not what is stored in them, and imports none of them.
"""

import keyword
import re
import unicodedata
from hashlib import sha256
from urllib.parse import quote, unquote, unquote_to_bytes

MAX_SEGMENT_BYTES = 200
"""Longest name of a folder; with ``prompt_run_id=`` in front it fits a file name's 255 bytes."""

_SHORTENED = re.compile(r"~[0-9a-f]{32}\Z")
_HASHED = re.compile(r"__[0-9a-f]{8}\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_PARTITION = re.compile(r"[A-Za-z0-9_~-]*")  # an index can have a hundred thousand
_MAX_NAME_STEM = 80

# Dagster refuses these as names of definitions, beside the keywords of Python.
_RESERVED = frozenset(keyword.kwlist) | {
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict"),
    *("int", "meta", "output", "output_arg_dict", "str", "type"),
}


def path_segment(text: str) -> str:
    """An id as (the value part of) one folder name in a collection, at most 200 bytes of ``A-Z a-z 0-9 . _ ~ - %``.

    Percent-encoded, as readers of Hive-style folders decode it. An id whose encoding is longer than 200 bytes
    becomes its beginning and ``~`` with 32 hex digits of its SHA-256; no other id ends like that.

    Raises:
        ValueError: the id is empty, or is no text that UTF-8 can hold.
    """
    stem, digest = _shortened(text)
    # Cut between characters: of a name that is no UTF-8 when decoded, DuckDB, Polars and pyarrow refuse all there is.
    whole = unquote_to_bytes(stem).decode(errors="ignore") if digest else ""
    return f"{_percent_encoded(whole)}{digest}" if digest else stem


def storage_segment(text: str) -> str:
    """An id as one folder name in the pipeline's own storage; so, too, in collections that version 0.1 began.

    As ``path_segment``, but a long id is cut between bytes, inside a character maybe. Nobody decodes these names, and
    what is stored under them would be lost under others.

    Raises:
        ValueError: the id is empty, or is no text that UTF-8 can hold.
    """
    return "".join(_shortened(text))


def _shortened(text: str) -> tuple[str, str]:
    """An id's encoding, and nothing; or the beginning of it, and what tells it from others that begin like that."""
    if not text:
        raise ValueError("an empty id cannot be the name of a folder")
    if text in {".", ".."}:
        return text.replace(".", "%2E"), ""
    encoded = _percent_encoded(text)
    if _SHORTENED.search(encoded):
        encoded = "%7E".join(encoded.rsplit("~", 1))
    if len(encoded) <= MAX_SEGMENT_BYTES:
        return encoded, ""
    digest = "~" + sha256(text.encode()).hexdigest()[:32]
    # A cut through the middle of a %XX would leave a name that nobody can decode.
    return re.sub(r"%[0-9A-F]?\Z", "", encoded[: MAX_SEGMENT_BYTES - len(digest)]), digest


def partition_key(run_id: str) -> str:
    """A prompt run's id as a Dagster partition key, of any length; the id itself in all usual cases.

    Dagster separates the ends of a range of partitions by ``...`` and checks no key, so dots are encoded in a
    run id that holds that separator, or could be taken for a part of it.

    Raises:
        ValueError: the id is no text that UTF-8 can hold.
    """
    if _PLAIN_PARTITION.fullmatch(run_id):
        return run_id
    encoded = _percent_encoded(run_id)
    if "..." in run_id or run_id.startswith(".") or run_id.endswith("."):
        return encoded.replace(".", "%2E")
    return encoded


def run_id_from_partition_key(key: str) -> str:
    """The run id whose ``partition_key`` this is.

    Raises:
        ValueError: no run id has it, so the partition was not made by this package.
    """
    if _PLAIN_PARTITION.fullmatch(key):
        return key
    run_id = unquote(key, errors="strict")
    if partition_key(run_id) != key:
        raise ValueError(f"partition {key!r} is not a run id as partition_key writes it")
    return run_id


def dagster_key(text: str) -> str:
    """An id in an asset key, a partitions definition, a pool: ``[A-Za-z0-9_-]+``, never empty.

    The id itself where it is that already; else ``hashed_name``. Two ids never get the same key, and the same id always
    gives the same one: Dagster keeps the history of an asset by it.
    """
    return text if _PLAIN_KEY.fullmatch(text) and not _HASHED.search(text) else hashed_name(text)


def dagster_name(text: str) -> str:
    """An id as the name of an op, a resource, a sensor, a group: ``[A-Za-z0-9_]+``, never empty.

    The id, with ``_`` for ``-`` and ``.``, where Dagster takes that; else ``hashed_name``. Only ids that differ in
    these characters alone get the same name: who names things keeps these apart.
    """
    name = re.sub(r"[.-]", "_", text)
    is_usual = _PLAIN_NAME.fullmatch(name) and not _HASHED.search(name) and name not in _RESERVED
    return name if is_usual else hashed_name(text)


def hashed_name(text: str) -> str:
    """What can be kept of an id as a name (80 characters at most), ``__``, and 8 hex digits of its SHA-256."""
    stem = re.sub(r"[^A-Za-z0-9_]", "_", text)[:_MAX_NAME_STEM]
    return f"{stem}__{sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def caseless(text: str) -> str:
    """What is equal for texts that differ in case, or in how Unicode composes their characters, alone."""
    if text.isascii():
        return text.lower()
    # Unicode's canonical caseless matching: folding case can undo the normalisation before it.
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _percent_encoded(text: str) -> str:
    try:
        return quote(text, safe="~")
    except UnicodeEncodeError as error:
        raise ValueError(f"the id {text!r} holds half a surrogate pair: UTF-8 cannot encode it") from error
