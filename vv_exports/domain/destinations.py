"""Where deliveries go: which subpaths are allowed, and the names inside a collection.

Paths here are text with ``/`` between segments; nothing is looked up. Links on a local disk are therefore the
connector's to refuse.
"""

import re
import unicodedata
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import get_args

from vv_exports.domain.content_options import CueKind
from vv_exports.domain.names import caseless, path_segment, storage_segment
from vv_exports.domain.tables import DELIVERED_TABLES, TableName
from vv_exports.errors import DestinationError

MAX_SUBPATH_BYTES = 700
MAX_SUBPATH_SEGMENTS = 32
MAX_SUBPATH_SEGMENT_BYTES = 200

PIPELINES_OWN = "_vv"
"""The folder of the pipeline's own files in a collection."""
OWNER = "_vv/owner.json"
"""Which index and automation own a collection, relative to its folder."""
LOG_FOLDER = "_vv/log"
"""The delivery log of a collection, relative to its folder."""
CHECKPOINT_FOLDER = "_vv/checkpoints"
"""The checkpoints of that log."""
CHECKSUMS = "SHA256SUMS"
"""The checksums of an export on demand, beside its tables."""
CARD, CROISSANT = "README.md", "croissant.json"
"""The dataset card of a collection or an export: for people and Hugging Face, and for readers of Croissant."""
PAYLOAD = "data"
"""The folder of a bag in which the collection is."""
BROKEN_FOLDER = "_vv/broken"
"""What was in the place of entries of that log, and could not be used: kept for whoever wants to look."""

DELTA_LOG = "_delta_log"
"""The log of a Delta table, relative to the folder of a prompt in a table's folder: that is where readers look."""
ICEBERG_FOLDER = "_vv/iceberg"
"""The metadata of Iceberg tables, relative to a collection's folder: where it is, the catalog says."""

_Rules = tuple[tuple[re.Pattern[str], str], ...]

_PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_WHOLE_RULES: _Rules = (
    (re.compile(r"://"), "is a URL"),
    (re.compile(r"\A/"), "is absolute"),
    (re.compile(r"\A~"), "begins with '~', which stands for a home folder"),
    (re.compile(r"\A[A-Za-z]:"), "begins with a drive letter"),
    (re.compile(r"\\"), "contains a backslash"),
    (_PERCENT_ENCODED, "contains a percent-encoded character"),
    (re.compile(r":"), "contains ':', which names drives, schemes and streams"),
    (re.compile(r"[*?\[\]]"), "contains one of * ? [ ], which readers take for a pattern"),
    (re.compile(r"="), "contains '=', which readers take for a partition column"),
)
_SEGMENT_RULES: _Rules = (
    (re.compile(r"\A\Z"), "has an empty segment"),
    (re.compile(r"\A\.\.?\Z"), "has a '.' or '..' segment"),
    (re.compile(r"\A[._]"), "has a segment that begins with '.' or '_', which readers skip"),
    (re.compile(r"\A\s|\s\Z"), "has white space at the beginning or the end of a segment"),
    (re.compile(r"\.\Z"), "has a segment that ends in '.', which Windows drops"),
    (
        re.compile(r"\A(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$) *(\.|\Z)", re.IGNORECASE),
        "has a segment that Windows reserves for a device",
    ),
)

_UNSEEN_CATEGORIES = {
    "Cc": "control character",
    "Cf": "invisible character",
    "Cs": "half of a surrogate pair",
    "Zl": "line separator",
    "Zp": "paragraph separator",
}
# Letters, marks and symbols by their category, but nothing is drawn for them.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Drawn as a slash or a backslash, and not turned into one by NFKC.
_SLASH_LOOKALIKES = frozenset(
    "\u0337\u0338\u20e5\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f6\u29f7\u29f8\u29f9"
)
_STRUCTURAL = frozenset("./\\:")


def check_subpath(value: object, *, boundary: str) -> str:
    """The canonical form of a subpath: segments joined by ``/``.

    One trailing slash is dropped, as VideoVector users write ``daily/``; everything else is taken as it is or
    refused. Whatever is accepted names a folder below the boundary, also once it was percent-decoded or
    normalised (NFKC) by something on the way, and that folder is visible to readers of plain files.

    Args:
        value: as the user gave it.
        boundary: the folder that the subpath is relative to, for the message.

    Raises:
        DestinationError: with the value, the reason and the boundary.
    """
    if not isinstance(value, str):
        raise _refused(value, f"is not text but {type(value).__name__}", boundary)
    subpath = value.removesuffix("/") if value != "/" else value
    reason = _size_reason(subpath) or _form_reason(subpath)
    if reason:
        raise _refused(value, reason, boundary)
    return subpath


def comparable(path: str) -> tuple[str, ...]:
    """A path's segments in the form in which two names of one folder are equal.

    Case and composition of characters are set aside, because the disks of macOS and Windows, and people, do
    not tell such names apart.
    """
    return tuple(caseless(segment) for segment in path.split("/") if segment)


def overlaps(a: str, b: str) -> bool:
    """Whether two paths name the same folder, or one a folder inside the other."""
    shorter, longer = sorted((comparable(a), comparable(b)), key=len)
    return longer[: len(shorter)] == shorter


def table_folder(table: TableName, version: int = 1) -> str:
    """The folder of a table in a collection; of a prompt whose runs have types that no column holds, there are several
    versions."""
    return table if version == 1 else f"{table}.v{version}"


_TABLE_FOLDER = rf"(?P<table>{'|'.join(DELIVERED_TABLES)})(?:\.v(?P<version>[2-9]|[1-9][0-9]{{1,8}}))?"

VIDEO_FOLDERS: tuple[str, ...] = (*get_args(CueKind), "markers")
"""The folders of files that are of one video each (``FormatOptions.folder``)."""
_VIDEO_FOLDER = "|".join(VIDEO_FOLDERS)


def version_of_folder(table: TableName, folder: str) -> int | None:
    """The inverse of ``table_folder``; None for a folder of another table, or of none."""
    found = re.fullmatch(_TABLE_FOLDER, folder)
    return int(found["version"] or 1) if found is not None and found["table"] == table else None


def run_folder(folder: str, prompt_id: str, prompt_run_id: str, segment: Callable[[str], str] = path_segment) -> str:
    """The folder of one run's rows in a table's folder. ``segment`` names an id.

    Raises:
        ValueError: an id is empty or cannot be encoded in UTF-8.
    """
    return f"{folder}/prompt_id={segment(prompt_id)}/prompt_run_id={segment(prompt_run_id)}"


def possible_folders(prompt_id: str, prompt_run_id: str, tables: Collection[str] = DELIVERED_TABLES) -> frozenset[str]:
    """Every folder that a run's rows may be in, below those of its tables: under the names that version 0.1 gave to
    long ids, too."""
    return frozenset(
        f"{table}/prompt_id={prompt}/prompt_run_id={run}"
        for table in tables
        for prompt in segments_of(prompt_id)
        for run in segments_of(prompt_run_id)
    )


def segments_of(text: str) -> frozenset[str]:
    """The names that an id may have in a collection: one, unless it is long and in another script."""
    return frozenset((path_segment(text), storage_segment(text)))


def segments_in(folder: str) -> frozenset[str]:
    """The names that ids have in the path of a file or folder of a collection."""
    return frozenset(value for name in folder.split("/") if (value := name.partition("=")[2]))


def part_name(number: int, sha256_hex: str, suffix: str) -> str:
    """The name of a data file. It holds the content's hash: the same name is the same bytes."""
    return f"part-{number:05d}-{sha256_hex[:16]}{suffix}"


_LONGEST_NAME = 96
_LONGEST_ID = 48
_MEDIA_ENDING = re.compile(r"\.[A-Za-z0-9]{2,4}\Z")
_KEPT = frozenset("LMN")
"""The major categories of characters that names keep: letters, their marks, and numbers."""


def video_stem(video_id: str, video_name: str | None) -> str:
    """How the names of files of a video begin: with what can be kept of its name, and then of its id. Letters and
    digits of any script stay, since people look for them, and so does ``-``; all else becomes ``_``. Videos may share
    it: what their files hold tells them apart, and so does the hash in the names of the files."""
    name = _MEDIA_ENDING.sub("", video_name or "")
    kept = (_named(name, _LONGEST_NAME), _named(video_id, _LONGEST_ID))
    return "-".join(filter(None, kept)) or "video"


def _named(text: str, most_bytes: int) -> str:
    composed = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    kept = "".join(one if one == "-" or unicodedata.category(one)[0] in _KEPT else " " for one in composed)
    first = next((at for at, one in enumerate(kept) if unicodedata.category(one)[0] in "LN"), len(kept))
    cut = "_".join(kept[first:].split()).encode()[:most_bytes].decode(errors="ignore")
    return unicodedata.normalize("NFC", cut).strip("_-")


def video_file_name(stem: str, number: int, sha256_hex: str, suffix: str) -> str:
    """The name of a file of one video. As ``part_name``, it holds the content's hash. Before that are four digits by
    which a name that somebody made of it, a copy's, is told from it. ``number`` is 0 unless that path is taken."""
    stem = f"{stem}-{number + 1}" if number else stem
    digest = sha256_hex[:16]
    return f"{stem}-{_check_digits(stem, digest)}-{digest}{suffix}"


def _check_digits(stem: str, digest: str) -> str:
    return sha256(f"{stem}-{digest}".encode()).hexdigest()[:4]


_RUN_FOLDER = r"prompt_id=[A-Za-z0-9_.~%-]+/prompt_run_id=[A-Za-z0-9_.~%-]+"
_DATA_FILE = re.compile(
    rf"{_TABLE_FOLDER}/{_RUN_FOLDER}/part-[0-9]{{5,}}-(?P<hash>[0-9a-f]{{16}})(?P<suffix>\..+)", re.ASCII
)
_VIDEO_FILE = re.compile(
    rf"(?:{_VIDEO_FOLDER})/{_RUN_FOLDER}/(?P<stem>[^/]+)-(?P<check>[0-9a-f]{{4}})-(?P<hash>[0-9a-f]{{16}})"
    r"(?P<suffix>\.[a-z]+)"
)


def hash_in_name(path: str, suffixes: Collection[str]) -> str | None:
    """The beginning of the content's hash (16 hex characters) that a data file's path, relative to a collection's
    folder, says it has. None for a path that is not as ``table_folder`` and ``part_name``, or ``video_file_name``, make
    it with one of these suffixes."""
    found = _DATA_FILE.fullmatch(path)
    if found is None:
        found = _VIDEO_FILE.fullmatch(path)
        if found is None or found["check"] != _check_digits(found["stem"], found["hash"]):
            return None
    return found["hash"] if found["suffix"] in suffixes else None


_PROMPT_FOLDER = rf"{_TABLE_FOLDER}/prompt_id=[\w.~%-]+"
_DELTA_LOG_FILE = re.compile(
    rf"{_PROMPT_FOLDER}/{DELTA_LOG}/(?:[0-9]{{20}}\.(?:json|checkpoint\.parquet)|_last_checkpoint)", re.ASCII
)
_ICEBERG_FILE = re.compile(rf"{ICEBERG_FOLDER}/{_PROMPT_FOLDER}/metadata/[^/]+", re.ASCII)


def prompt_folder(path: str) -> str:
    """The folder of a prompt in a table's folder, such as ``segments/prompt_id=prm_1``, in which a data file is."""
    return "/".join(path.split("/")[:2])


def registered_in(path: str) -> str | None:
    """The folder of the prompt (see ``prompt_folder``) whose Delta or Iceberg table a path is metadata of; None for any
    other path."""
    if _DELTA_LOG_FILE.fullmatch(path):
        return prompt_folder(path)
    if _ICEBERG_FILE.fullmatch(path):
        return prompt_folder(path.removeprefix(f"{ICEBERG_FOLDER}/"))
    return None


def is_in_table(path: str) -> bool:
    """Whether a path, relative to a collection's folder, is one that a plain glob such as ``segments/**`` takes: of any
    name and at any depth, since DuckDB leaves out none, not even those that begin with a dot or an underscore. So is
    what lies among files of videos."""
    folder, slash, _ = path.partition("/")
    return bool(slash) and (folder in VIDEO_FOLDERS or re.fullmatch(_TABLE_FOLDER, folder) is not None)


def log_entry_name(sequence: int) -> str:
    """Where entry ``sequence`` (from 0) of the delivery log is, relative to the collection's folder.

    Raises:
        ValueError: the number is negative or has more than 20 digits.
    """
    name = f"{LOG_FOLDER}/{sequence:020d}.json"
    if log_sequence(name) != sequence:
        raise ValueError(f"{sequence} is not a sequence number of a delivery log")
    return name


def log_sequence(name: str) -> int | None:
    """The inverse of ``log_entry_name``; None for any other file that somebody put beside the entries."""
    found = re.fullmatch(rf"{LOG_FOLDER}/([0-9]{{20}})\.json", name)
    return int(found[1]) if found else None


def checkpoint_name(sequence: int) -> str:
    """Where the checkpoint that stands on a log's entry is, relative to the collection's folder."""
    return f"{CHECKPOINT_FOLDER}/{sequence:020d}.json.zst"


def checkpoint_sequence(name: str) -> int | None:
    """The inverse of ``checkpoint_name``; None for any other file."""
    found = re.fullmatch(rf"{CHECKPOINT_FOLDER}/([0-9]{{20}})\.json\.zst", name)
    return int(found[1]) if found else None


def broken_name(sequence: int, sha256_hex: str) -> str:
    """Where what was in the place of an entry is kept."""
    return f"{BROKEN_FOLDER}/{sequence:020d}-{sha256_hex[:16]}.json"


def is_kept_broken(name: str) -> bool:
    """Whether a path is one of ``broken_name``."""
    return re.fullmatch(rf"{BROKEN_FOLDER}/[0-9]{{20}}-[0-9a-f]{{16}}\.json", name) is not None


def _refused(value: object, reason: str, boundary: str) -> DestinationError:
    shown = repr(value)
    if len(shown) > 120:  # noqa: PLR2004 - about a line of a terminal
        shown = f"{shown[:100]}… ({len(shown)} characters)"
    return DestinationError(
        f"subpath {shown} is refused: it {reason}. "
        f"It must name a folder inside {boundary}, in the manner of 'exports/review-team'"
    )


def _size_reason(subpath: str) -> str | None:
    segments = subpath.split("/")
    if not subpath:
        return "is empty"
    if _bytes(subpath) > MAX_SUBPATH_BYTES:
        return f"is longer than {MAX_SUBPATH_BYTES} bytes"
    if len(segments) > MAX_SUBPATH_SEGMENTS:
        return f"has more than {MAX_SUBPATH_SEGMENTS} segments"
    if max(map(_bytes, segments)) > MAX_SUBPATH_SEGMENT_BYTES:
        return f"has a segment longer than {MAX_SUBPATH_SEGMENT_BYTES} bytes"
    return None


def _form_reason(subpath: str) -> str | None:
    """Why a subpath is refused, as it is written or as it reads to software that applies NFKC to names."""
    reason = _character_reason(subpath) or _rule_reason(subpath)
    if reason:
        return reason
    composed = unicodedata.normalize("NFC", subpath)
    if composed != subpath:
        return f"is not in Unicode's composed form (NFC), which is {composed!r} ({composed!a})"
    compatible = unicodedata.normalize("NFKC", subpath)
    reason = _character_reason(compatible) or _rule_reason(compatible)
    if reason is None and _PERCENT_ENCODED.search(unicodedata.normalize("NFKD", subpath)):
        return "contains a percent-encoded character once its letters and their accents are taken apart (NFD)"
    return f"reads as {compatible!r} in Unicode's compatible form (NFKC), which {reason}" if reason else None


def _character_reason(subpath: str) -> str | None:
    for character in subpath:
        if character.isascii() and character.isprintable():
            continue
        named = f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
        unseen = _UNSEEN_CATEGORIES.get(unicodedata.category(character))
        if unseen or character in _UNSEEN:
            return f"contains {named} ({unseen or 'invisible character'})"
        if character in _SLASH_LOOKALIKES:
            return f"contains {named}, which looks like a slash"
        stands_for = _STRUCTURAL & set(unicodedata.normalize("NFKC", character))
        if stands_for:
            return f"contains {named}, which can be read as {' '.join(sorted(stands_for))!r}"
    return None


def _rule_reason(subpath: str) -> str | None:
    for pattern, reason in _WHOLE_RULES:
        if pattern.search(subpath):
            return reason
    for segment in subpath.split("/"):
        for pattern, reason in _SEGMENT_RULES:
            if pattern.search(segment):
                return reason
    return None


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
