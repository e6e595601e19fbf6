"""Rows as JSON documents: the ids of the run, the fields of the result, and ``metadata`` as the model answered.

What did not fit the column of a field, or has no column, stands in its place as the source had it: there is no
``rescued`` and no ``absent``. A row that has nothing of the kind is put together by Arrow's string kernels.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.domain.json_text import decode, encode_text
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.json_text import json_objects, timestamp_text
from vv_exports.snapshots.columns import Object, Timestamp
from vv_exports.snapshots.instants import normalized_instant
from vv_exports.snapshots.json_pointer import tokens
from vv_exports.snapshots.rebuild import rebuild_documents
from vv_exports.snapshots.tables import RUN_COLUMNS, Table

_METADATA = "metadata"
_STATED_PREFIX = re.compile(rf"^stated_(?=(stated_)*({'|'.join(RUN_COLUMNS)})\Z)")
_STATED = re.compile(rf"(stated_)*({'|'.join(RUN_COLUMNS)})")
"""Names of what a result states of its run other than the run does: they get ``stated_`` before them in a row, where
the run's own ids stand under these names. What has it already gets one more, so that it can be taken away again."""


@dataclass(frozen=True)
class Documents:
    """One column, each row's JSON object as text."""

    table: Table
    schema: ClassVar[pa.Schema] = pa.schema([("document", pa.string())])

    @property
    def needs_answers(self) -> bool:
        """See ``Encoding.needs_answers``."""
        return _METADATA in self.table.column.fields

    def rows(self, batch: pa.RecordBatch, answers: pa.StringArray | None) -> pa.RecordBatch:
        """See ``Encoding.rows``."""
        if not self.needs_answers:
            answers = None
        elif answers is None:
            raise ValueError("documents are made of the answers' JSON text, and there is none")
        typed = self._with_times_as_text(batch.select([*RUN_COLUMNS, *self._record.fields]))
        texts = json_objects(typed, None if answers is None else (_METADATA, answers))
        unusual = self._misfits(batch.column("rescued"))
        if unusual:
            built = self._built(typed, answers, unusual)
            mask = pa.array([position in unusual for position in range(batch.num_rows)])
            texts = pc.replace_with_mask(texts, mask, pa.array(built, pa.string()))
        return pa.record_batch([texts], schema=self.schema)

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """See ``Encoding.documents``."""
        return list(map(self._document, batch.column(0).cast(pa.binary()).to_pylist()))

    @cached_property
    def _record(self) -> Object:
        fields = {name: column for name, column in self.table.column.fields.items() if name != _METADATA}
        return Object(fields, absence_is_null=True)

    @cached_property
    def _times(self) -> list[str]:
        return [name for name, column in self._record.fields.items() if isinstance(column, Timestamp)]

    def _with_times_as_text(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        for name in self._times:
            rows = rows.set_column(rows.schema.get_field_index(name), name, timestamp_text(rows.column(name)))
        return rows

    def _misfits(self, rescued: pa.StringArray) -> dict[int, dict[str, Any]]:
        """What did not fit the columns of the record's own fields, by row. ``absent`` tells nothing of them: where one
        is absent, it is null. What it tells of ``metadata``, and what did not fit there, is in the answer itself."""
        found: dict[int, dict[str, Any]] = {}
        rows = pc.indices_nonzero(rescued.is_valid())
        for position, text in zip(rows.to_pylist(), rescued.take(rows).to_pylist(), strict=True):
            values = decode(text.encode())
            if self.needs_answers:
                values = {place: value for place, value in values.items() if tokens(place)[0] != _METADATA}
            if values:
                found[position] = values
        return found

    def _built(
        self, typed: pa.RecordBatch, answers: pa.StringArray | None, unusual: dict[int, dict[str, Any]]
    ) -> list[str]:
        where = pa.array(unusual, pa.int64())
        rows = typed.take(where).to_pylist()
        texts = [None] * len(rows) if answers is None else answers.take(where).to_pylist()
        built = []
        for row, misfits, answer in zip(rows, unusual.values(), texts, strict=True):
            row |= {"rescued": encode_text(misfits), "absent": None}
            (record,) = rebuild_documents([row], self._record)
            ids = {name: row[name] for name in RUN_COLUMNS}
            text = encode_text({**ids, **{_beside_the_ids(name): value for name, value in record.items()}})
            built.append(text if answer is None else f'{text[:-1]},"{_METADATA}":{answer}}}')
        return built

    def _document(self, text: bytes) -> JsonObject:
        try:
            row = decode(text)
        except ValueError as error:
            raise DeliveredDataError(f"a row is not JSON: {error}. Deliver again.") from error
        if not isinstance(row, dict) or not row.keys() >= set(RUN_COLUMNS):
            raise DeliveredDataError("a row has not the ids of its prompt run. Deliver again.")
        document = {_STATED_PREFIX.sub("", name): value for name, value in row.items() if name not in RUN_COLUMNS}
        for name in self._times:
            if isinstance(document.get(name), str):
                document[name] = normalized_instant(document[name])
        return document


def _beside_the_ids(name: str) -> str:
    return f"stated_{name}" if _STATED.fullmatch(name) else name
