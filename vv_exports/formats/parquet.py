"""Apache Parquet: typed columns, nested values as they are, compressed in the file."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from vv_exports.domain.content_options import Compression
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.reading import readable

_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 << 20
_GROUP_BYTES_UNLIKE = 8 << 20
_READ_ROWS = 8_192
_WORTH_A_THREAD = 4 << 20
_LEVELS: dict[Compression, int | None] = {"zstd": 3, "gzip": 6, "snappy": None, "none": None}


@dataclass(frozen=True)
class Parquet:
    """One row group for each block: a row group is what a reader holds in memory. ``unlike`` are columns whose values
    are all unlike: dictionaries of them are of no use, and cost time; where all are, statistics too. Where files are to
    have ``file_bytes``, no row group is larger: what waits for one is in no file yet."""

    compression: Compression = "zstd"
    unlike: frozenset[str] = frozenset()
    file_bytes: int | None = None
    name: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        start = partial(_ParquetEncoder, self, schema)
        most = _GROUP_BYTES_UNLIKE if self.unlike.issuperset(schema.names) else _GROUP_BYTES
        return FileWriter(path, schema, start, Blocks(_GROUP_ROWS, min(most, self.file_bytes or most)))

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        with readable(path, self), pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                raise DeliveredDataError(f"{path} has other columns than expected. Deliver again.\n{file.schema_arrow}")
            for group in range(file.num_row_groups):  # all at once would collect rows of many groups for a batch
                for batch in file.iter_batches(_READ_ROWS, row_groups=[group], use_threads=False):
                    yield batch.cast(schema)


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns of a file with this schema, as Parquet names them."""
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    columns = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [columns.column(i).path for i in range(len(columns))]


class _ParquetEncoder:
    """Row groups of some size are encoded in a thread of their own, one at a time, while the next one is collected."""

    def __init__(self, chosen: Parquet, schema: pa.Schema, file: BinaryIO) -> None:
        all_unlike = chosen.unlike.issuperset(schema.names)
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression=chosen.compression,
            compression_level=1 if all_unlike else _LEVELS[chosen.compression],
            use_dictionary=[path for path in _leaves(schema) if path.partition(".")[0] not in chosen.unlike]
            if chosen.unlike
            else True,
            write_statistics=not all_unlike,
            store_schema=True,
        )
        # Where files end by their size, that must not depend on how far the thread is.
        self._may_wait = chosen.file_bytes is None
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def write(self, block: Block) -> None:
        self._finish_block()
        if self._may_wait and block.nbytes >= _WORTH_A_THREAD:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="parquet")
            self._under_way = self._thread.submit(self._encode, block)
        else:
            self._encode(block)

    def finish(self) -> None:
        self._finish_block()
        self._writer.close()
        if self._thread is not None:
            self._thread.shutdown()

    def discard(self) -> None:
        self._writer.is_open = False  # else its ``__del__`` writes a footer, and complains of the closed file
        if self._thread is not None:
            self._thread.shutdown()

    def _encode(self, block: Block) -> None:
        self._writer.write_table(pa.Table.from_batches([block.join()]), row_group_size=block.num_rows)

    def _finish_block(self) -> None:
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()
