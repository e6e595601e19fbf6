"""What every format promises, run for every format with every compression."""

import gc
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.domain.content_options import VIDEO_FORMATS
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import Format
from vv_exports_tests.formats.tables import EVERY_FORMAT, HARD, as_taken, split, tables

MEBIBYTE = 1 << 20
REPOSITORY = Path(__file__).parents[2]


def write(fmt: Format, path: Path, batches: list[pa.RecordBatch], schema: pa.Schema) -> Path:
    with fmt.open(path, schema) as writer:
        for batch in batches:
            writer.write(batch)
    return path


def read(fmt: Format, path: Path, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(fmt.read(path, schema), schema)


def same(one: pa.Table, other: pa.Table) -> bool:
    """Arrow holds 0.0 and -0.0 to be equal: their text is not."""
    return one.equals(other) and repr(one.to_pylist()) == repr(other.to_pylist())


def comes_back(fmt: Format, table: pa.Table) -> None:
    table = as_taken(fmt, table)
    with TemporaryDirectory() as folder:
        path = write(fmt, Path(folder) / "x", table.to_batches(), table.schema)
        assert same(read(fmt, path, table.schema), table)


def split_does_not_show(fmt: Format, table: pa.Table, places: list[int]) -> None:
    table = as_taken(fmt, table)
    with TemporaryDirectory() as folder:
        whole = write(fmt, Path(folder) / "whole", table.to_batches(), table.schema)
        parts = write(fmt, Path(folder) / "parts", split(table, places), table.schema)
        assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("fmt", EVERY_FORMAT.values(), ids=EVERY_FORMAT)
class TestFormatContract:
    def test_values_that_get_lost_elsewhere_come_back(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        path = write(fmt, tmp_path / f"hard{fmt.suffix}", hard.to_batches(), hard.schema)
        assert same(read(fmt, path, hard.schema), hard)

    @settings(deadline=None, max_examples=15)
    @given(table=tables(), places=st.lists(st.integers(1, 11)))
    def test_tables_come_back_compressed_and_their_split_into_batches_does_not_show(self, fmt, table, places):
        comes_back(fmt, table)
        split_does_not_show(fmt, table, places)

    def test_neither_does_it_across_blocks(self, fmt, tmp_path):
        rows = 2_500 if fmt.name in VIDEO_FORMATS else 150_000  # of blocks that are as small as those of text
        table = as_taken(fmt, pa.table({"n": pa.array(range(rows), pa.int64())}))
        whole = write(fmt, tmp_path / "whole", table.to_batches(), table.schema)
        parts = write(fmt, tmp_path / "parts", table.to_batches(max_chunksize=rows // 21), table.schema)
        assert parts.read_bytes() == whole.read_bytes()
        assert read(fmt, parts, table.schema).equals(table)

    def test_a_file_without_rows_is_complete(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        path = write(fmt, tmp_path / "empty", [], hard.schema)
        assert path.stat().st_size > 0 or fmt.suffix == ".jsonl"  # no line, no byte
        assert read(fmt, path, hard.schema).num_rows == 0

    def test_a_row_larger_than_a_block_comes_back(self, fmt, tmp_path):
        table = as_taken(fmt, pa.table({"text": ["a\r\n" * MEBIBYTE, None, 'b"' * MEBIBYTE], "n": [1, 2, 3]}))
        path = write(fmt, tmp_path / "large", table.to_batches(), table.schema)
        assert read(fmt, path, table.schema).equals(table)

    def test_a_block_left_by_an_exception_leaves_no_file(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)

        def interrupted():
            with fmt.open(tmp_path / "x", hard.schema) as writer:
                writer.write(hard.to_batches()[0])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        gc.collect()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(DeliveredDataError, match=f"cannot be read as a complete {fmt.name} file"):
            read(fmt, tmp_path / "x", hard.schema)

    def test_a_dropped_writer_leaves_no_file(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        writer = fmt.open(tmp_path / "x", hard.schema)
        writer.write(hard.to_batches()[0])
        del writer
        gc.collect()
        assert list(tmp_path.iterdir()) == []

    def test_nothing_has_the_files_name_before_it_is_complete(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        path = tmp_path / "x"
        with fmt.open(path, hard.schema) as writer:
            writer.write(hard.to_batches()[0])
            assert not path.exists()
        assert list(tmp_path.iterdir()) == [path]

    def test_an_abandoned_rewrite_leaves_the_earlier_file(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        path = write(fmt, tmp_path / "x", hard.to_batches(), hard.schema)
        fmt.open(path, hard.schema).abandon()
        assert same(read(fmt, path, hard.schema), hard)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_leaves_no_file(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        (tmp_path / "x.unfinished").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            write(fmt, tmp_path / "x", hard.to_batches() * 100, hard.schema)
        gc.collect()
        assert list(tmp_path.iterdir()) == []

    def test_a_closed_writer_takes_no_batch(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        writer = fmt.open(tmp_path / "x", hard.schema)
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match="the writer is closed"):
            writer.write(hard.to_batches()[0])

    def test_a_batch_of_another_schema_is_refused_and_the_file_abandoned(self, fmt, tmp_path):
        hard = as_taken(fmt, HARD)
        writer = fmt.open(tmp_path / "x", hard.schema)
        with pytest.raises(ValueError, match="another schema than the file"):
            writer.write(pa.record_batch({"other": ["{}"]}))
        with pytest.raises(ValueError, match="was abandoned and cannot be completed"):
            writer.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_file_of_no_bytes_is_refused(self, fmt, tmp_path):
        if fmt.suffix == ".jsonl":
            pytest.skip("a file of lines that has none")
        hard = as_taken(fmt, HARD)
        (tmp_path / "x").touch()
        with pytest.raises(DeliveredDataError, match="has no bytes"):
            read(fmt, tmp_path / "x", hard.schema)

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
    def test_a_cut_off_file_is_refused(self, fmt, kept, tmp_path):
        hard = as_taken(fmt, HARD)
        path = write(fmt, tmp_path / "x", hard.to_batches() * 100, hard.schema)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept) - 1])
        with pytest.raises(DeliveredDataError, match="Deliver again"):
            read(fmt, path, hard.schema)

    def test_the_bytes_written_grow_to_the_size_of_the_file(self, fmt, tmp_path):
        table = as_taken(fmt, pa.table({"text": [str(n).zfill(1_000) for n in range(5_000)]}))
        writer = fmt.open(tmp_path / "x", table.schema)
        sizes = [writer.bytes_written]
        for batch in table.to_batches(max_chunksize=500):
            writer.write(batch)
            sizes.append(writer.bytes_written)
        writer.close()
        assert sizes == sorted(sizes)
        assert writer.bytes_written == (tmp_path / "x").stat().st_size > sizes[0]

    def test_the_hash_is_that_of_the_file_that_is_complete(self, fmt, tmp_path):
        rows = 2_500 if fmt.name in VIDEO_FORMATS else 20_000
        table = as_taken(fmt, pa.table({"n": pa.array(range(rows), pa.int64())}))
        with fmt.open(tmp_path / "x", table.schema) as writer:
            for batch in table.to_batches(max_chunksize=rows // 3):
                writer.write(batch)
            with pytest.raises(ValueError, match="has no hash before it is complete"):
                _ = writer.sha256
        assert writer.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()


UNCOMPRESSED = {name: fmt for name, fmt in EVERY_FORMAT.items() if getattr(fmt, "compression", "") == "none"}
"""What compresses a file sees bytes alone: many tables tell nothing more of it than few do."""


@pytest.mark.slow
@pytest.mark.parametrize("fmt", UNCOMPRESSED.values(), ids=UNCOMPRESSED)
class TestUncompressed:
    @settings(deadline=None, max_examples=150)
    @given(table=tables())
    def test_any_table_comes_back_as_it_was(self, fmt, table):
        comes_back(fmt, table)

    @settings(deadline=None, max_examples=50)
    @given(table=tables(), places=st.lists(st.integers(1, 11)))
    def test_the_split_into_batches_does_not_show_in_the_bytes(self, fmt, table, places):
        split_does_not_show(fmt, table, places)


OF_MEMORY = ("parquet zstd", "parquet none", "jsonl zstd", "jsonl none", "json none", "csv none", "csv gzip")
"""Each format as it is by default and uncompressed, and each compression of text once: one module compresses them all,
and CSV's dialects differ in single cells."""


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_MEMORY)
def test_memory_does_not_grow_with_the_file(name):
    done = subprocess.run(
        [sys.executable, "-m", "vv_exports_tests.formats.many_rows", name, str(310 * MEBIBYTE)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
    )
    peak = json.loads(done.stdout)
    assert peak["values"] > 300 * MEBIBYTE
    assert peak["writing"] < 200 * MEBIBYTE, peak
    # One process writes and reads, and a peak stays: that of reading is never below that of writing.
    assert peak["reading"] < max(160 * MEBIBYTE, peak["writing"] + 16 * MEBIBYTE), peak
