"""Segments as what is shown at their time: the text that was chosen of each, and its document."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from vv_exports.content.documents import Documents
from vv_exports.domain.content_options import FormatOptions
from vv_exports.domain.field_paths import Items, Step, parse_path
from vv_exports.domain.json_text import decode, encode_text
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import RequestError
from vv_exports.formats.videos import CUES
from vv_exports.snapshots.tables import Table


@dataclass(frozen=True)
class Cues:
    """Rows of CUES, with ``segment_id`` where that is delivered."""

    table: Table
    options: FormatOptions
    schema: ClassVar[pa.Schema] = CUES

    @property
    def needs_answers(self) -> bool:
        """See ``Encoding.needs_answers``."""
        return self._documents.needs_answers

    def rows(self, batch: pa.RecordBatch, answers: pa.StringArray | None) -> pa.RecordBatch:
        """See ``Encoding.rows``."""
        documents = self._documents.rows(batch, answers).column(0)
        texts: list[str | None] = []
        notes: list[str | None] = []
        if self._texts:
            for document in documents.cast(pa.binary()).to_pylist():
                result = decode(document)
                texts.append(_text(result, self._texts))
                notes.append(_text(result, self._notes))
        rows = batch.num_rows
        has_id = "segment_id" in batch.schema.names
        return pa.RecordBatch.from_arrays(
            [
                batch.column("segment_id") if has_id else pa.nulls(rows, pa.string()),
                batch.column("start_time"),
                batch.column("end_time"),
                pa.array(texts or [None] * rows, pa.string()),
                pa.array(notes or [None] * rows, pa.string()),
                documents,
            ],
            schema=CUES,
        )

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """See ``Encoding.documents``. Raises RequestError for captions and chapters, which have none."""
        if self.options.name == "webvtt" and self._texts:
            raise RequestError(
                f"{self.options.kind} are text for people, and hold no results: read a collection of another format, "
                "or of `{name: webvtt, kind: metadata}`"
            )
        return self._documents.documents(batch.select(["document"]))

    @cached_property
    def _documents(self) -> Documents:
        return Documents(self.table)

    @cached_property
    def _texts(self) -> list[Sequence[Step]]:
        return [parse_path(path).steps for path in self.options.texts]

    @cached_property
    def _notes(self) -> list[Sequence[Step]]:
        return [parse_path(path).steps for path in self.options.note]


def _text(document: JsonObject, paths: Sequence[Sequence[Step]]) -> str:
    """What a result has at these places, a line for each; the items of a list are in one line. Text and numbers are
    as they are, objects are JSON."""
    lines = (", ".join(filter(None, _texts(document, steps))) for steps in paths)
    return "\n".join(filter(None, lines)).encode(errors="replace").decode()


def _texts(value: Any, steps: Sequence[Step]) -> Iterator[str]:
    if isinstance(value, list) and (not steps or isinstance(steps[0], Items)):
        for item in value:
            yield from _texts(item, steps[1:])
    elif steps:
        if isinstance(value, dict) and isinstance(steps[0], str) and steps[0] in value:
            yield from _texts(value[steps[0]], steps[1:])
    elif isinstance(value, str):
        yield value
    elif value is not None:
        yield encode_text(value)
