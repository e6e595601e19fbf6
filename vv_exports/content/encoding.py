"""How the rows of a table stand in the files of a format: typed, as documents, flat, or as cues. It knows no files."""

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from vv_exports.content.cues import Cues
from vv_exports.content.documents import Documents
from vv_exports.content.flat import Flat
from vv_exports.content.typed import Typed
from vv_exports.domain.content_options import FormatName, FormatOptions
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.snapshots.tables import Table


class Encoding(Protocol):
    """The rows of one table, in the columns that a format takes, and back."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that the format is given."""

    @property
    def needs_answers(self) -> bool:
        """Whether ``rows`` takes each row's ``metadata`` from its JSON text."""

    def rows(self, batch: pa.RecordBatch, answers: pa.StringArray | None) -> pa.RecordBatch:
        """Rows for the format, of rows that have the table's schema.

        ``answers``: the JSON text of each row's ``metadata``, null where the document has none; None where it is not
        needed. Raises SourceDataError for a value that the format cannot hold.
        """

    def documents(self, batch: pa.RecordBatch) -> list[JsonObject]:
        """The result documents that the rows were made from, as ``Table.documents`` gives them.

        Raises DeliveredDataError where a row is none that ``rows`` gave.
        """


_ENCODINGS: dict[FormatName, Callable[[Table, FormatOptions], Encoding]] = {
    "parquet": lambda table, _: Typed(table),
    "jsonl": lambda table, _: Documents(table),
    "json": lambda table, _: Documents(table),
    "csv": lambda table, _: Flat(table),
    "webvtt": Cues,
    "markers": Cues,
}


def encoding_of(options: FormatOptions, table: Table) -> Encoding:
    """How this format's files hold the rows of a table with these columns."""
    return _ENCODINGS[options.name](table, options)
