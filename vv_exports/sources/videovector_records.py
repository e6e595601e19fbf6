"""VideoVector's records as this package's nouns, without anything that must not be kept."""

import hashlib
import logging
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Raw

from vv_exports.domain.json_text import Members, decode, decode_member, encode_line, encode_sorted
from vv_exports.domain.prompt_runs import DELIVERABLE, VOLATILE, Index, JsonObject, Prompt, PromptRun, RunStatus
from vv_exports.domain.redaction import holds_link, without_link_secrets
from vv_exports.errors import SourceDataError
from vv_exports.printable import one_line
from vv_exports.sources.documents import as_object, check_counts, found_in, status_of, text_of, time_of
from vv_exports.sources.videovector_api import RESULT_FIELDS, RUN_FIELDS

MEDIA_COUNTERS = ("total_videos", "total_audios", "total_images")
_COUNTERS = (*MEDIA_COUNTERS, "total_segments", "completed_segments", "video_level_completed_items")
_STATUS_FIELDS = (
    "prompt_id",
    "status",
    "total_segments",
    "pending_segments",
    "processing_segments",
    "successful_segments",
    "failed_segments",
    "created_at",
    "updated_at",
    "attempt_id",
    "video_level",
)
_FREE_TEXTS = frozenset(
    {
        "processing_warning",
        "field_extraction_error",
        "transcription_error",
        "image_embedding_error",
        "embedding_error",
        "error_message",
        "failure_message",
        "gcs_uri",
        "thumbnail_gcs_uri",
        "gif_gcs_uri",
    }
)
"""Known fields in which a link with a token can stand. The model's own answer is not among them."""
_KNOWN = RESULT_FIELDS | {
    "failed_operations",
    "failure_stage",
    "failure_message",
    "failure_code",
    "retryable",
    "projection_only",
}
_HEAD = ("segment_id", "video_id", "run_id", "prompt_run_id", "prompt_id", "start_time")
_BULK: tuple[tuple[str, int, Any], ...] = (("metadata", ord("{"), {}), ("metadata_text", ord('"'), ""))
_LOG = logging.getLogger(__name__)


class Touched(NamedTuple):
    """What the media list says of one media item in one run; None where it does not. ``state`` is a hash of it all."""

    successful: int | None
    failed: int | None
    has_video_result: bool
    state: bytes


def touched_of(status: JsonObject) -> Touched:
    """An item of a media item's ``processing_status``."""
    video_level = status.get("video_level")
    has_result = isinstance(video_level, dict) and video_level.get("result_available") is True
    successful, total = _count(status, "successful_segments"), _count(status, "total_segments")
    state = hashlib.sha256(encode_sorted([status.get(name) for name in _STATUS_FIELDS])).digest()[:12]
    return Touched(_filled_in(successful, total), _count(status, "failed_segments"), has_result, state)


def clean(document: JsonObject) -> None:
    """Take out, in place, what must never be kept: people's marks, and links with a token wherever they stand."""
    for name in document.keys() & VOLATILE:
        del document[name]
    for name in document.keys() - _KNOWN:
        if "marker" in name or holds_link(document[name]):
            del document[name]
    for name in document.keys() & _FREE_TEXTS:
        if isinstance(document[name], str):
            document[name] = without_link_secrets(document[name])


def clean_members(members: Members) -> None:
    """The same of a result of which only the names are decoded."""
    unwanted, unknown, texts = _looked_at(tuple(members))
    for name in unwanted:
        del members[name]
    for name in unknown:
        if holds_link(decode_member(members[name])):
            del members[name]
    for name in texts:
        written = bytes(members[name])
        if b"://" in written or b"\\" in written:
            text = decode(written)
            if isinstance(text, str):
                members[name] = Raw(encode_line(without_link_secrets(text)))


@lru_cache(maxsize=64)
def _looked_at(names: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Of a result's names: those of what is never kept, those that the SDK does not know, those of free texts."""
    unknown = [name for name in names if name not in _KNOWN and name not in VOLATILE]
    unwanted = [name for name in names if name in VOLATILE] + [name for name in unknown if "marker" in name]
    return unwanted, [name for name in unknown if "marker" not in name], [name for name in names if name in _FREE_TEXTS]


def head_of(members: Members) -> JsonObject:
    """What of a result is looked at before it is typed. Whether ``metadata`` is an object is all that is told of it,
    and of ``metadata_text`` whether it is a text."""
    head = {name: decode_member(members[name]) for name in _HEAD if name in members}
    for name, begin, empty in _BULK:
        if name in members:
            written = members[name]
            head[name] = empty if memoryview(written)[0] == begin else decode_member(written)
    return head


def index_of(record: Any, where: str) -> Index:
    """An index."""
    index = as_object(record, where)
    description = index.get("description")
    return Index(
        text_of(index, "index_id", where),
        text_of(index, "name", where),
        description if isinstance(description, str) else None,
    )


def listed_run(record: JsonObject, index_id: str, where: str) -> PromptRun | None:
    """A run of a listing. One that is not finished and not in order yet is left out: it cannot be exported anyway."""
    try:
        return run_of(record, index_id, where)
    except SourceDataError as error:
        if str(record.get("status")).lower() in DELIVERABLE:
            raise
        _LOG.warning("%s: an unfinished one is left out: %s", where, error)
        return None


def run_of(record: JsonObject, index_id: str, where: str) -> PromptRun:
    """A prompt run, with the fields that the SDK knows: others may change with every request."""
    run_id = text_of(record, "run_id", where)
    where = f"prompt run {one_line(run_id)}"
    known = {name: value for name, value in record.items() if name in RUN_FIELDS}
    check_counts(known, _COUNTERS, where)
    if isinstance(known.get("error_message"), str):
        known["error_message"] = without_link_secrets(known["error_message"])
    return PromptRun(
        run_id=run_id,
        index_id=index_id,
        prompt_id=text_of(record, "prompt_id", where),
        prompt_name=text_of(record, "prompt_name", where),
        status=_status(record, where),
        executed_at=time_of(record, "executed_at", where),
        record=known,
    )


def _status(record: JsonObject, where: str) -> RunStatus:
    status = text_of(record, "status", where).lower()
    if status not in set(RunStatus) - {RunStatus.UNKNOWN}:
        shown = one_line(status)
        _LOG.warning("%s has the status %s, which this version does not know: not taken for finished", where, shown)
        return RunStatus.UNKNOWN
    return status_of({"status": status}, where)


def prompt_of(record: JsonObject, run: PromptRun) -> Prompt:
    """The prompt of a run, as it stands now: VideoVector keeps no earlier ones."""
    where = f"prompt {one_line(run.prompt_id)}"
    if record.get("prompt_id") != run.prompt_id:
        raise SourceDataError(f"{where} was asked for, and {found_in(record, 'prompt_id')} was the answer")
    video_level = record.get("video_level")
    text = record.get("prompt_text")
    return Prompt(
        prompt_id=run.prompt_id,
        name=run.prompt_name,
        prompt_text=text if isinstance(text, str) else "",
        json_schema=schema_in(record.get("json_schema")) or {},
        video_level_schema=(schema_in(video_level.get("json_schema")) or {}) if isinstance(video_level, dict) else None,
    )


def schema_in(value: Any) -> Any:
    """A JSON Schema that is given as an object or as its text; None where there is none."""
    if not isinstance(value, str):
        return value
    try:
        return decode(value.encode())
    except ValueError:
        return None


def stated_media(run: PromptRun) -> int | None:
    """How many media the run's counters state; None where they do not, as where they are not filled in."""
    return sum(run.count(name) or 0 for name in MEDIA_COUNTERS) or None


def named_media(run: PromptRun) -> list[str]:
    """The media that a run of chosen media names itself."""
    context = run.record.get("run_context")
    named = context.get("video_ids") if isinstance(context, dict) else None
    return [one for one in named if isinstance(one, str) and one] if isinstance(named, list) else []


def stated_segments(run: PromptRun) -> int | None:
    """How many segment results the run's counters state; None where they do not state it."""
    return _filled_in(run.count("completed_segments"), run.count("total_segments"))


def full_manifest(manifest: JsonObject) -> JsonObject:
    """The manifest of failed segments with empty lists where it leaves lists out, as the SDK reads it."""
    videos = manifest.get("videos") or []
    full = {**manifest, "videos": [_full_video(video) if isinstance(video, dict) else video for video in videos]}
    if full.get("failed_segments") is None:
        full.pop("failed_segments", None)
    return full


def _full_video(video: JsonObject) -> JsonObject:
    return {**video, "segments": video.get("segments") or []}


def _filled_in(part: int | None, total: int | None) -> int | None:
    """A counter; None where both it and the total are zero, as they are where the server does not count."""
    return part if part or total else None


def _count(record: JsonObject, name: str) -> int | None:
    value = record.get(name)
    return value if type(value) is int else None
