"""What the columns of a table are, for people: each by its path, with what the prompt's schema, or this module, says.

What people came for is first: what is on screen when, then what the prompt extracted, then what keeps the books.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote

from vv_exports.domain.field_paths import ITEMS, FieldPath, Step
from vv_exports.snapshots.columns import Column, Json, List, Object
from vv_exports.snapshots.json_pointer import tokens
from vv_exports.snapshots.tables import Table

RECORD: Mapping[str, str] = {
    "index_id": "The index whose media the prompt ran over",
    "prompt_id": "The prompt",
    "prompt_run_id": "The execution of the prompt that this row is of",
    "video_id": "The medium",
    "video_name": "The medium's name at the platform",
    "segment_id": "The segment of the medium",
    "start_time": "Where the segment begins, in seconds from the medium's beginning",
    "end_time": "Where the segment ends, in seconds from the medium's beginning",
    "executed_at": "When this answer was made (UTC)",
    "started_at": "When work on the medium began (UTC)",
    "completed_at": "When work on the medium ended (UTC)",
    "status": "What became of the medium as a whole",
    "successful_segment_count": "Segments of the medium that have a result",
    "failed_segment_count": "Segments of the medium that failed",
    "error_message": "Why the medium as a whole failed",
    "embedding_status": "What became of the embedding of the whole medium",
    "embedding_error": "Why that embedding failed",
    "field_extraction_succeeded": "Whether the model's answer was had",
    "transcription_succeeded": "Whether speech was transcribed",
    "image_embedding_succeeded": "Whether the pictures were embedded",
    "field_extraction_error": "Why there is no answer",
    "transcription_error": "Why there is no transcript",
    "image_embedding_error": "Why there is no embedding of the pictures",
    "processing_warning": "What the platform warned of",
    "gcs_uri": "Where the platform keeps the media file",
    "thumbnail_gcs_uri": "Where the platform keeps a still",
    "gif_gcs_uri": "Where the platform keeps an animation",
    "thumbnail_available": "Whether there is a still",
    "gif_available": "Whether there is an animation",
    "preview_segment_id": "The segment that stands for the medium",
    "preview_start_time": "Where that segment begins, in seconds",
    "preview_end_time": "Where that segment ends, in seconds",
    "source_fingerprint": "What the platform knows the medium's file by",
    "attempt_id": "The platform's number of this attempt",
    "result_id": "The platform's number of this result",
    "source_index_id": "The index that the medium came from, where that is another one",
    "schema_used": "The JSON Schema that the model was given, as text",
    "raw_llm_response": "What the model answered, as text",
    "metadata_text": "The answer as the platform writes it out for search",
    "failed_operations": "What failed of the segment",
    "failure_stage": "Where the work on the segment failed",
    "failure_message": "Why it failed",
    "failure_code": "The platform's code of the failure",
    "retryable": "Whether the platform says that another try may help",
    "projection_only": "Whether only the derived form of the result failed",
    "table": "The table that the row would be in",
    "answer": "The model's answer as JSON text",
    "reasons": "Where and how the answer breaks the prompt's JSON Schema",
    "metadata": "What the prompt extracted",
    "rescued": "JSON text: values that do not fit their column, by JSON Pointer",
    "absent": "JSON Pointers of what was not in the answer at all, where null could be meant",
}
"""What the columns that are the same for every prompt hold."""

_FIRST = ("video_name", "segment_id", "start_time", "end_time")
_MOST_VALUES = 12
_MOST_SCHEMAS = 32  # of one place: references and alternatives can go on for ever


class DescribedColumn(NamedTuple):
    """``path`` as in ``metadata.brands[].name``, ``type`` as Arrow names it."""

    path: str
    type: str
    description: str


def described(table: Table, json_schema: Any, *, values: bool = True) -> Iterator[DescribedColumn]:
    """The columns of a table whose ``metadata`` has this JSON Schema; of ``metadata``, those that have no columns in
    them. ``values``: say which values the schema allows, too. It names some that may be hidden."""
    names = table.schema.names
    first = [name for name in _FIRST if name in names]
    for name in (*first, "metadata", *(name for name in names if name not in {*first, "metadata"})):
        column = table.column.fields.get(name)
        if name == "metadata" and column is not None:
            yield from _leaves(column, [json_schema], json_schema, (name,), values=values)
        elif name in names:
            yield DescribedColumn(name, str(table.schema.field(name).type), RECORD.get(name, ""))


def _leaves(
    column: Column, schemas: list[Any], root: Any, place: tuple[Step, ...], *, values: bool
) -> Iterator[DescribedColumn]:
    here = list(islice(_views(schemas, root), _MOST_SCHEMAS))
    match column:
        case Object():
            for name, inner in column.fields.items():
                below = [one["properties"][name] for one in here if name in _mapping(one.get("properties"))]
                yield from _leaves(inner, below, root, (*place, name), values=values)
        case List(item=item):
            below = [one["items"] for one in here if "items" in one]
            yield from _leaves(item, below, root, (*place, ITEMS), values=values)
        case _:
            kind = "JSON text" if isinstance(column, Json) else str(column.arrow_type)
            said = [_said(here), _allowed(here) if values else ""]
            text = "; ".join(filter(None, said)) or (RECORD["metadata"] if len(place) == 1 else "")
            yield DescribedColumn(str(FieldPath(place)), kind, text)


def _said(schemas: list[dict[str, Any]]) -> str:
    texts = (one.get(name) for one in schemas for name in ("description", "title"))
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def _allowed(schemas: list[dict[str, Any]]) -> str:
    allowed: list[Any] = next((one["enum"] for one in schemas if isinstance(one.get("enum"), list)), [])
    texts = [text for text in allowed[:_MOST_VALUES] if isinstance(text, str)]
    return f"one of {', '.join(texts)}{', …' if len(allowed) > _MOST_VALUES else ''}" if texts else ""


def _views(schemas: list[Any], root: Any) -> Iterator[dict[str, Any]]:
    """Schemas, and those that they refer to or are made of: there may be no end of them."""
    waiting = [one for one in schemas if isinstance(one, dict)]
    while waiting:
        schema = waiting.pop(0)
        yield schema
        found = [_referred(schema["$ref"], root)] if "$ref" in schema else []
        for name in ("allOf", "anyOf", "oneOf"):
            parts = schema.get(name)
            found += parts if isinstance(parts, list) else []
        waiting += [one for one in found[:_MOST_SCHEMAS] if isinstance(one, dict)]


def _referred(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    try:
        for token in tokens(unquote(reference[1:])):
            found = found[int(token)] if isinstance(found, list) else found[token]
    except (LookupError, TypeError, ValueError):
        return None
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
