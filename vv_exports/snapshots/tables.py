"""The three tables of a prompt run: which fields of a result become which columns.

A table is described by one Object column over the result's document, so that its rows, what did not fit and what was
absent all come from the same place. Columns that are the same for the whole run are set beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from vv_exports.domain.json_text import encode_text
from vv_exports.domain.prompt_runs import VOLATILE, JsonObject, Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.snapshots.columns import Boolean, Built, Column, Integer, List, Number, Object, Text, Timestamp
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.rebuild import rebuild_documents, rescue_columns
from vv_exports.sources.documents import own_ids

LAYOUT_VERSION = 3
"""Part of every delivery id: raised when the same results would give other columns, or other bytes."""

_ALIKE = frozenset({2, 3})
"""The layout versions whose columns and documents are the same, though their bytes are not."""


def layouts_like(version: int) -> frozenset[int]:
    """The layout versions of which files, and snapshots, are as good as those of this one: they need not be made anew
    to be read beside them."""
    return _ALIKE if version in _ALIKE else frozenset({version})


_TEXT = Text(nullable=True)
_NUMBER = Number(nullable=True)
_INTEGER = Integer(nullable=True)
_FLAG = Boolean(nullable=True)

_SEGMENTS: Mapping[str, Column] = {
    "video_id": _TEXT,
    "video_name": _TEXT,
    "segment_id": _TEXT,
    "start_time": _NUMBER,
    "end_time": _NUMBER,
    "executed_at": Timestamp(nullable=True),
    "field_extraction_succeeded": _FLAG,
    "transcription_succeeded": _FLAG,
    "image_embedding_succeeded": _FLAG,
    "field_extraction_error": _TEXT,
    "transcription_error": _TEXT,
    "image_embedding_error": _TEXT,
    "processing_warning": _TEXT,
    "gcs_uri": _TEXT,
    "thumbnail_gcs_uri": _TEXT,
    "gif_gcs_uri": _TEXT,
    "thumbnail_available": _FLAG,
    "gif_available": _FLAG,
    "result_id": _TEXT,
    "source_index_id": _TEXT,
    "schema_used": _TEXT,
    "metadata_text": _TEXT,
}

_VIDEOS: Mapping[str, Column] = {
    "video_id": _TEXT,
    "video_name": _TEXT,
    "status": _TEXT,
    "executed_at": Timestamp(nullable=True),
    "started_at": Timestamp(nullable=True),
    "completed_at": Timestamp(nullable=True),
    "successful_segment_count": _INTEGER,
    "failed_segment_count": _INTEGER,
    "error_message": _TEXT,
    "processing_warning": _TEXT,
    "embedding_status": _TEXT,
    "embedding_error": _TEXT,
    "gcs_uri": _TEXT,
    "thumbnail_gcs_uri": _TEXT,
    "gif_gcs_uri": _TEXT,
    "thumbnail_available": _FLAG,
    "gif_available": _FLAG,
    "preview_segment_id": _TEXT,
    "preview_start_time": _NUMBER,
    "preview_end_time": _NUMBER,
    "source_fingerprint": _TEXT,
    "attempt_id": _TEXT,
    "result_id": _TEXT,
    "source_index_id": _TEXT,
    "schema_used": _TEXT,
    "raw_llm_response": _TEXT,
    "metadata_text": _TEXT,
}

_FAILURES: Mapping[str, Column] = {
    "video_id": _TEXT,
    "segment_id": _TEXT,
    "start_time": _NUMBER,
    "end_time": _NUMBER,
    "failed_operations": List(Text(nullable=False), nullable=True),
    "field_extraction_error": _TEXT,
    "transcription_error": _TEXT,
    "image_embedding_error": _TEXT,
    "failure_stage": _TEXT,
    "failure_message": _TEXT,
    "failure_code": _TEXT,
    "retryable": _FLAG,
    "projection_only": _FLAG,
}

_REASON = Object(dict.fromkeys(("place", "pointer", "keyword", "message"), _TEXT), nullable=False)

_QUARANTINE: Mapping[str, Column] = {
    "table": _TEXT,
    "video_id": _TEXT,
    "video_name": _TEXT,
    "segment_id": _TEXT,
    "start_time": _NUMBER,
    "end_time": _NUMBER,
    "executed_at": Timestamp(nullable=True),
    "answer": _TEXT,
    "reasons": List(_REASON, nullable=True),
}
"""Of rows of another table that break its schema: which one they are of, and ``metadata`` as JSON text."""

_FIELDS: Mapping[TableName, Mapping[str, Column]] = {
    "segments": _SEGMENTS,
    "videos": _VIDEOS,
    "failures": _FAILURES,
    "quarantine": _QUARANTINE,
}

_RESULT_TYPES: Mapping[TableName, str] = {"segments": "segment", "videos": "video"}

SORT_KEYS: Mapping[TableName, tuple[str, ...]] = {
    "segments": ("video_id", "start_time", "segment_id"),
    "videos": ("video_id",),
    "failures": ("video_id", "start_time", "segment_id"),
}


ANSWERS = pa.schema([pa.field("metadata", pa.string(), nullable=False)])
"""What is kept beside a table's rows: the ``metadata`` of each as canonical JSON text, as the model answered it."""

UNLIKE = frozenset(
    {
        "segment_id",
        "start_time",
        "end_time",
        "gcs_uri",
        "thumbnail_gcs_uri",
        "gif_gcs_uri",
        "result_id",
        "metadata_text",
        "rescued",
    }
)
"""The columns in which hardly any two rows have the same value."""

RUN_COLUMNS = ("index_id", "prompt_id", "prompt_run_id")


@dataclass(frozen=True)
class Table:
    """One table of a prompt's results. It is the same for all runs of the prompt."""

    name: TableName
    column: Object

    @property
    def has_answers(self) -> bool:
        """Whether its rows have ``metadata``."""
        return "metadata" in self.column.fields

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema: the run's ids, the result's fields, ``rescued`` and ``absent``."""
        return pa.schema(
            [
                *((name, pa.string()) for name in RUN_COLUMNS),
                *((name, column.arrow_type) for name, column in self.column.fields.items()),
                ("rescued", pa.string()),
                ("absent", pa.list_(pa.string())),
            ]
        )

    def is_typed_like(self, other: "Table") -> bool:
        """Whether the rows of one are rows of the other. Objects are equal whatever the order of their fields, which
        columns have."""
        return self.column == other.column and self.schema == other.schema

    def batch(self, documents: list[JsonObject], run: PromptRun) -> pa.RecordBatch:
        """Typed rows of prepared documents (see ``prepare``), in their order."""
        return self.of_built(self.column.build(documents), len(documents), run)

    def of_built(self, built: Built, rows: int, run: PromptRun) -> pa.RecordBatch:
        """Typed rows, so many, of what their documents' column has built."""
        rescued, absent = rescue_columns(built, rows)
        ids = [pa.repeat(pa.scalar(text), rows) for text in (run.index_id, run.prompt_id, run.run_id)]
        return pa.RecordBatch.from_arrays([*ids, *built.array.flatten(), rescued, absent], schema=self.schema)

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """The result documents that rows were made from: the inverse of ``batch``.

        Fields of the record that were absent are null, times are in UTC. ``metadata`` is as the model answered.
        """
        return rebuild_documents(batch, self.column)


_KNOWN: dict[tuple[TableName, int, str], Table] = {}
"""The runs of a prompt share a schema, and to compile a wide one takes a while."""
_MOST_KNOWN = 256


def table_of(name: TableName, json_schema: Any, layout_version: int = LAYOUT_VERSION) -> Table:
    """A table whose ``metadata`` is described by this JSON Schema, as a version of the layout has it; the others have
    no metadata."""
    try:
        key = name, layout_version, encode_text(json_schema)
    except ValueError:  # nested too deep to be written down
        return _described(name, json_schema, layout_version)
    if (known := _KNOWN.get(key)) is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[key] = _described(name, json_schema, layout_version)
    return known


def _described(name: TableName, json_schema: Any, layout_version: int) -> Table:
    fields = _FIELDS[name]
    if name in _RESULT_TYPES:
        fields = {**fields, "metadata": compile_schema(json_schema, layout_version).column}
    return Table(name, Object(fields, nullable=False, absence_is_null=True))


def with_metadata(table: Table, metadata: Column | None) -> Table:
    """The same table with another column of that name, or without one."""
    fields = {name: column for name, column in table.column.fields.items() if name != "metadata"}
    return Table(
        table.name, replace(table.column, fields=fields if metadata is None else {**fields, "metadata": metadata})
    )


def tables_of(prompt: Prompt, layout_version: int = LAYOUT_VERSION) -> dict[TableName, Table]:
    """The tables that a run of this prompt can have: ``videos`` only where the prompt has a video level."""
    tables: dict[TableName, Table] = {
        "segments": table_of("segments", prompt.json_schema, layout_version),
        "failures": table_of("failures", None, layout_version),
    }
    if prompt.video_level_schema is not None:
        tables["videos"] = table_of("videos", prompt.video_level_schema, layout_version)
    return tables


def stated_of(run: PromptRun, table: TableName) -> dict[str, str | None]:
    """The fields that only repeat, in each result, what the run and the table say of all. None: there is nothing that
    one could repeat."""
    return {**own_ids(run), "index_id": run.index_id, "result_type": _RESULT_TYPES.get(table)}


def prepare(documents: list[JsonObject], run: PromptRun, table: TableName) -> None:
    """Take out, in place, what is volatile, and what only repeats what the run and the table say of all results."""
    names = set().union(*documents)  # most of what may be there mostly is not
    for name in VOLATILE & names:
        for document in documents:
            document.pop(name, None)
    for name, value in stated_of(run, table).items():
        if name in names:
            for document in documents:
                if document.get(name) in (None, value):  # not a set: what is there may not be hashable
                    document.pop(name, None)
