"""Apache Parquet: typed columns, nested values as they are, zstd."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.reading import readable

_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 << 20
_READ_ROWS = 8_192


class Parquet:
    """One row group for each block: a row group is what a reader holds in memory."""

    name: Final = "parquet"
    suffix: Final = ".parquet"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        return FileWriter(path, schema, partial(_ParquetEncoder, schema), Blocks(_GROUP_ROWS, _GROUP_BYTES))

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """See ``Format.read``."""
        with readable(path, self.name), pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                raise DeliveredDataError(f"{path} has other columns than expected. Deliver again.\n{file.schema_arrow}")
            for batch in file.iter_batches(_READ_ROWS, use_threads=False):
                yield batch.cast(schema)


class _ParquetEncoder:
    def __init__(self, schema: pa.Schema, file: BinaryIO) -> None:
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=True,
            write_statistics=True,
            store_schema=True,
        )

    def write(self, block: pa.RecordBatch) -> None:
        self._writer.write_table(pa.Table.from_batches([block]), row_group_size=block.num_rows)

    def finish(self) -> None:
        self._writer.close()

    def discard(self) -> None:
        self._writer.is_open = False  # else its ``__del__`` writes a footer, and complains of the closed file
