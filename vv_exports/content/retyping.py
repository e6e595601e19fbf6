"""Rows of a snapshot under other columns than those of their own run: the same documents. It knows no files.

Only ``metadata`` is described by a prompt's schema: the columns of the record stay as they are.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.snapshots.columns import Built, Object
from vv_exports.snapshots.rebuild import rebuild_documents, rescue_columns
from vv_exports.snapshots.tables import Table

_PLACE = "/metadata"


def retyped(batch: pa.RecordBatch, answers: pa.StringArray | None, own: Table, wanted: Table) -> pa.RecordBatch:
    """The rows of ``own`` as ``wanted`` has them: what it would have made of the same documents.

    ``answers`` are the rows' ``metadata`` as canonical JSON text, null where a document has none. Without them it is
    taken from the rows themselves, where ``5.0`` may have become ``5``, and the other way round.

    Raises:
        ValueError: the tables differ in more than ``metadata``.
    """
    if own.is_typed_like(wanted):
        return batch
    if _record(own) != _record(wanted):
        raise ValueError(f"the columns of two tables {own.name} differ in more than metadata")
    documents = _answered(answers) if answers is not None else _rebuilt(batch, own.column)
    built = Object({"metadata": wanted.column.fields["metadata"]}, absence_is_null=True).build(documents)
    rescued, absent = _said_beside(batch, built)
    arrays = {"metadata": built.array.field(0), "rescued": rescued, "absent": absent}
    return pa.RecordBatch.from_arrays(
        [arrays.get(name, batch[name]) for name in batch.schema.names], schema=wanted.schema
    )


def _record(table: Table) -> list[tuple[str, Any]]:
    return [(name, column) for name, column in table.column.fields.items() if name != "metadata"]


def _answered(answers: pa.StringArray) -> list[JsonObject]:
    return [{} if text is None else {"metadata": decode(text.encode())} for text in answers.to_pylist()]


def _rebuilt(batch: pa.RecordBatch, column: Object) -> list[JsonObject]:
    """What the rows say of ``metadata`` alone."""
    metadata = Object({"metadata": column.fields["metadata"]}, absence_is_null=True)
    rows = [
        {
            "metadata": value,
            "rescued": encode_sorted(
                {place: found for place, found in _values(rescued) if _in_metadata(place)}
            ).decode(),
            "absent": [place for place in absent or () if _in_metadata(place)],
        }
        for value, rescued, absent in zip(
            batch["metadata"].to_pylist(), batch["rescued"].to_pylist(), batch["absent"].to_pylist(), strict=True
        )
    ]
    return rebuild_documents(rows, metadata)


def _said_beside(batch: pa.RecordBatch, built: Built) -> tuple[pa.StringArray, pa.ListArray]:
    """``rescued`` and ``absent`` with what they said of the record, and what the new ``metadata`` cannot say."""
    rescued, absent = rescue_columns(built, batch.num_rows)
    if batch["rescued"].null_count < batch.num_rows:
        texts = map(_with_record, batch["rescued"].to_pylist(), rescued.to_pylist())
        rescued = pa.array(texts, pa.string())
    return rescued, absent


def _with_record(before: str | None, now: str | None) -> bytes | str | None:
    record = {place: value for place, value in _values(before) if not _in_metadata(place)}
    return encode_sorted(record | dict(_values(now))) if record else now


def _values(rescued: str | None) -> Iterator[tuple[str, Any]]:
    return iter(decode(rescued.encode()).items() if rescued else ())


def _in_metadata(place: str) -> bool:
    return place == _PLACE or place.startswith(_PLACE + "/")
