"""What the documents of a prompt run must be, wherever they are read. It refuses, and repairs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from reprlib import Repr
from types import NoneType
from typing import Any

from vv_exports.domain.prompt_runs import JsonObject, PromptRun, RunStatus
from vv_exports.domain.tables import TableName
from vv_exports.errors import SourceDataError
from vv_exports.sources.base import DocumentPage, Page

_SHORT = 80
_DOCUMENT_BYTES_FOR_A_VALUE = 64
_RECORD_BYTES_FOR_A_VALUE = 8
_FEW_VALUES = 10_000


@dataclass(frozen=True)
class Limits:
    """How much is read of one document, and of one line of a results file: bytes of (decompressed) text.

    Decoded, a value takes many times its text: ``{},`` takes 24 times. So the values are limited too; one with a name
    counts as three.
    """

    max_document_bytes: int = 64 << 20
    max_record_bytes: int = 16 << 20

    @property
    def document_values(self) -> int:
        """Most values (objects, arrays, strings, numbers, …) in a document."""
        return max(_FEW_VALUES, self.max_document_bytes // _DOCUMENT_BYTES_FOR_A_VALUE)

    @property
    def record_values(self) -> int:
        """Most values in a line of a results file."""
        return max(_FEW_VALUES, self.max_record_bytes // _RECORD_BYTES_FOR_A_VALUE)


def too_large(where: str, most: int, size: int | None = None, *, field: str = "max_document_bytes") -> SourceDataError:
    """The refusal of what is over a limit; ``size`` where it is known."""
    found = f"{size:,} bytes" if size is not None else f"more than {most:,} bytes"
    return SourceDataError(
        f"{where}: found {found}, and the limit is {most:,}. Where that is right, set source.{field} to more; "
        "memory grows with it."
    )


def too_many_values(where: str, found: int, most: int, field: str) -> SourceDataError:
    """The refusal of what would take many times its size when it is decoded."""
    return SourceDataError(
        f"{where}: found {found:,} values (a named one counts as three), and the limit is {most:,}. It follows from "
        f"source.{field}: where so many are right, set that to more; memory grows with it."
    )


@dataclass(frozen=True)
class Rule:
    """What a field of every document of a table must be."""

    field: str
    types: frozenset[type]
    expected: str
    may_be_empty: bool = True

    @property
    def is_required(self) -> bool:
        """Whether the field must be there, and not null."""
        return NoneType not in self.types


_STATUSES = {str(status): status for status in RunStatus if status is not RunStatus.UNKNOWN}
_METADATA = Rule("metadata", frozenset({dict}), "an object")
_METADATA_TEXT = Rule("metadata_text", frozenset({str, NoneType}), "a string")
_SEGMENT_ID = Rule("segment_id", frozenset({str}), "a non-empty string", may_be_empty=False)
_VIDEO_ID = Rule("video_id", frozenset({str}), "a non-empty string", may_be_empty=False)

RULES: Mapping[TableName, Sequence[Rule]] = {
    "segments": (_SEGMENT_ID, _METADATA, _METADATA_TEXT),
    "videos": (_VIDEO_ID, _METADATA, _METADATA_TEXT),
    "failures": (_SEGMENT_ID, _VIDEO_ID),
}
"""What every document of a table must be, beside one of its own run."""


def own_ids(run: PromptRun) -> dict[str, str]:
    """The fields that must be the run's own in each document, where they are there and not null."""
    return {"run_id": run.run_id, "prompt_run_id": run.run_id, "prompt_id": run.prompt_id}


def check_page(page: Page, run: PromptRun, table: TableName) -> None:
    """Refuse the first document that is not what it must be. One pass for each field: a run has millions."""
    documents = page.documents
    if set(map(type, documents)) - {dict}:
        bad = next(i for i, document in enumerate(documents) if type(document) is not dict)
        raise SourceDataError(f"{page.locate(bad)}: expected a JSON object, found {short(documents[bad])}")
    for rule in RULES[table]:
        values = [document.get(rule.field) for document in documents]
        if not set(map(type, values)) <= rule.types or not (rule.may_be_empty or all(values)):
            bad = next(i for i, v in enumerate(values) if type(v) not in rule.types or not (rule.may_be_empty or v))
            found = found_in(documents[bad], rule.field)
            raise SourceDataError(f"{page.locate(bad)}: expected {rule.field} to be {rule.expected}, found {found}")
    for field, own in own_ids(run).items():
        values = [document.get(field, own) for document in documents]
        if values.count(own) != len(values):
            for i, value in enumerate(values):
                if value is not None and value != own:
                    raise SourceDataError(
                        f"{page.locate(i)}: expected {field} to be the run's, {own!r}, found {short(value)}"
                    )


def failed_segments(manifest: JsonObject, run: PromptRun, where: str) -> DocumentPage:
    """The segments of the SDK's manifest of failed segments, one document each with its video's id in it."""
    if manifest.get("run_id", run.run_id) != run.run_id:
        raise SourceDataError(f"{where}: expected run_id {run.run_id!r}, found {short(manifest['run_id'])}")
    documents: list[Any] = []
    places: list[str] = []
    for v, video in enumerate(_array(manifest, "videos", where)):
        place = f"{where}, videos[{v}]"
        for s, segment in enumerate(_array(video, "segments", place)):
            documents.append(_failed_segment(video, segment, f"{place}.segments[{s}]"))
            places.append(f"{place}.segments[{s}]")
    stated = manifest.get("failed_segments", len(documents))
    if stated != len(documents):
        raise SourceDataError(f"{where} lists {len(documents)} segments, but its failed_segments is {short(stated)}")
    return DocumentPage(documents, places.__getitem__)


def as_object(value: Any, where: str) -> JsonObject:
    """A decoded value that must be an object."""
    if not isinstance(value, dict):
        raise SourceDataError(f"{where}: expected a JSON object, found {short(value)}")
    return value


def text_of(record: JsonObject, field: str, where: str, *, may_be_empty: bool = False) -> str:
    """A field that must be text."""
    value = record.get(field)
    if not isinstance(value, str) or not (value or may_be_empty):
        kind = "a string" if may_be_empty else "a non-empty string"
        raise SourceDataError(f"{where}: expected {field} to be {kind}, found {found_in(record, field)}")
    return value


def schema_of(value: Any, where: str) -> Any:
    """The ``json_schema`` of an object that must have one."""
    schema = as_object(value, where).get("json_schema")
    if schema is None:
        raise SourceDataError(
            f"{where}: expected json_schema to be a JSON Schema ({{}} where there is none), "
            f"found {found_in(value, 'json_schema')}"
        )
    return schema


def status_of(record: JsonObject, where: str) -> RunStatus:
    """The status of a prompt run's record."""
    status = record.get("status")
    if not isinstance(status, str) or (found := _STATUSES.get(status)) is None:
        known = ", ".join(_STATUSES)
        raise SourceDataError(f"{where}: expected status to be one of {known}; found {found_in(record, 'status')}")
    return found


def time_of(record: JsonObject, field: str, where: str) -> datetime:
    """An aware time in UTC; a time without an offset is meant as UTC."""
    text = text_of(record, field, where)
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SourceDataError(
            f"{where}: expected {field} to be an ISO 8601 time such as 2026-09-14T08:30:00Z, found {short(text)}"
        ) from None


def check_counts(record: JsonObject, counters: Sequence[str], where: str) -> None:
    """Refuse a record in which one of these is there, and no count."""
    for counter in counters:
        value = record.get(counter)
        if value is not None and (type(value) is not int or value < 0):
            raise SourceDataError(f"{where}: expected {counter} to be a count, found {short(value)}")


def found_in(record: JsonObject, field: str) -> str:
    """What a field holds, for a message."""
    return short(record[field]) if field in record else "nothing"


def short(value: Any) -> str:
    """A value for a message, cut where it is long. Never more than a little of it is looked at."""
    text = _REPR.repr(value) if not isinstance(value, str) else repr(value[: _SHORT + 1])
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


_REPR = Repr()
_REPR.maxlevel = _REPR.maxtuple = _REPR.maxlist = _REPR.maxdict = 20
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 2 * _SHORT


def _failed_segment(video: JsonObject, segment: Any, where: str) -> Any:
    if not isinstance(segment, dict) or segment.get("video_id", video.get("video_id")) != video.get("video_id"):
        raise SourceDataError(
            f"{where}: expected an object with the video_id of its video, {found_in(video, 'video_id')}, "
            f"found {short(segment)}"
        )
    return {"video_id": video.get("video_id"), **segment}


def _array(value: Any, field: str, where: str) -> list[Any]:
    array = as_object(value, where).get(field)
    if not isinstance(array, list):
        raise SourceDataError(f"{where}: expected {field} to be an array, found {found_in(value, field)}")
    return array
