"""What a file format must provide: tables in, one file out. It knows nothing of prompt runs."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa


class TableWriter(Protocol):
    """An open file that takes record batches. Only ``close`` completes it: a writer that is dropped, or whose
    ``with`` block is left by an exception, leaves nothing under the file's name."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch that has the writer's schema.

        Raises ValueError once the writer is closed and where the schema differs, SourceDataError for a value
        that the format cannot hold. Any error abandons the file: what is missing a row must not be completed.
        """

    @property
    def bytes_written(self) -> int:
        """How many bytes the file has so far. Rows that wait for their block, or in a compressor, come later."""

    @property
    def sha256(self) -> str:
        """The hash of the file, in hex. Raises ValueError before it is closed."""

    def close(self) -> None:
        """Complete the file. Closing again does nothing; closing an abandoned file raises ValueError."""

    def abandon(self) -> None:
        """Give the file up. Does nothing once the writer is closed."""

    def __enter__(self) -> Self:
        """The writer itself: leaving the block closes it, leaving it by an exception abandons it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Format(Protocol):
    """One file format. The same rows always give the same bytes, however they are split into batches."""

    @property
    def name(self) -> str:
        """As in the configuration: ``parquet``, ``jsonl``, ``csv``, ``json``, ``webvtt``, ``markers``."""

    @property
    def suffix(self) -> str:
        """End of a file's name, with the leading dot: ``.parquet``, ``.jsonl.zst``."""

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """Start a new local file. Memory is bounded by a batch and a constant, never by the file.

        Raises ValueError for columns that the format does not take: ``parquet`` takes any, ``csv`` flat ones,
        ``jsonl`` and ``json`` one column with the JSON text of each row; ``webvtt`` and ``markers`` the columns of cues
        (``videos.CUES``), the rows of one video.
        """

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of a file that this format wrote with this schema, typed again, in bounded memory; what the files of
        a format for people have no place for is null.

        Raises DeliveredDataError where the file is missing, incomplete or of another schema.
        """
