"""Rows as they are typed: what a format with nested types is given."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.snapshots.tables import Table


@dataclass(frozen=True)
class Typed:
    """The table's own columns."""

    table: Table
    needs_answers: ClassVar[bool] = False

    @property
    def schema(self) -> pa.Schema:
        """See ``Encoding.schema``."""
        return self.table.schema

    def rows(self, batch: pa.RecordBatch, answers: pa.StringArray | None) -> pa.RecordBatch:
        """See ``Encoding.rows``."""
        del answers
        return batch

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """See ``Encoding.documents``."""
        return self.table.documents(batch)
