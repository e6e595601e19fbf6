"""The life of a file that is being written: a block at a time, complete or not there at all.

Knows no format: an ``Encoder`` is what formats differ in.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import pyarrow as pa

from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.hashed_file import HashedFile


class Encoder(Protocol):
    """Blocks to bytes, into a file that the writer opened and closes."""

    def write(self, block: Block) -> None:
        """Append the rows of a block."""

    def finish(self) -> None:
        """Write what completes the file."""

    def discard(self) -> None:
        """Write nothing more, not even when garbage collected. The file is closed already."""


class FileWriter:
    """A ``TableWriter`` for one local file.

    The bytes go to ``<name>.unfinished``, and ``close`` gives the file its name: a CSV file that was cut off
    between two rows looks like any other, no reader could refuse it.
    """

    def __init__(self, path: Path, schema: pa.Schema, start: Callable[[BinaryIO], Encoder], blocks: Blocks) -> None:
        self._path = path
        self._schema = schema
        self._blocks = blocks
        self._state = "open"
        self._bytes = 0
        self._unfinished = path.with_name(f"{path.name}.unfinished")
        self._file = HashedFile(self._unfinished)
        try:
            self._encoder = start(self._file)
        except BaseException:
            self._remove()
            raise

    def write(self, batch: pa.RecordBatch) -> None:
        """See ``TableWriter.write``."""
        if self._state != "open":
            raise ValueError(f"{self._path}: the writer is {self._state}, no batch can be added")
        try:
            self._require_schema(batch)
            for block in self._blocks.add(batch):
                self._encoder.write(block)
        except BaseException:
            self.abandon()
            raise

    @property
    def bytes_written(self) -> int:
        """See ``TableWriter.bytes_written``."""
        if self._state == "open":
            self._bytes = self._file.tell()
        return self._bytes

    @property
    def sha256(self) -> str:
        """See ``TableWriter.sha256``."""
        if self._state != "closed":
            raise ValueError(
                f"{self._path}: the writer is {self._state}, and the file has no hash before it is complete"
            )
        return self._file.sha256

    def close(self) -> None:
        """See ``TableWriter.close``."""
        if self._state == "closed":
            return
        if self._state == "abandoned":
            raise ValueError(f"{self._path} was abandoned and cannot be completed: write it again")
        try:
            for block in self._blocks.rest():
                self._encoder.write(block)
            self._encoder.finish()
            self._file.close()
            self._bytes = self._unfinished.stat().st_size
            self._unfinished.replace(self._path)
        except BaseException:
            self.abandon()
            raise
        self._state = "closed"

    def abandon(self) -> None:
        """See ``TableWriter.abandon``."""
        if self._state == "open":
            self._state = "abandoned"
            try:
                self._remove()
            finally:
                self._encoder.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        # Encoders complete their file when they are collected, so the file goes first. ``_encoder`` is
        # missing where the encoder could not start.
        if hasattr(self, "_encoder"):
            self.abandon()

    def _remove(self) -> None:
        try:
            self._file.close()  # flushes, which a full disk refuses
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _require_schema(self, batch: pa.RecordBatch) -> None:
        if not batch.schema.equals(self._schema):
            raise ValueError(
                f"{self._path}: the batch has another schema than the file.\n"
                f"batch:\n{batch.schema}\nfile:\n{self._schema}"
            )
