"""What only the Parquet format promises."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vv_exports.errors import DeliveredDataError
from vv_exports.formats import parquet
from vv_exports.formats.parquet import Parquet
from vv_exports_tests.formats.tables import HARD

MEBIBYTE = 1 << 20


def footer(tmp_path, batches):
    with Parquet().open(tmp_path / "x.parquet", batches[0].schema) as writer:
        for batch in batches:
            writer.write(batch)
    return pq.read_metadata(tmp_path / "x.parquet")


def test_small_batches_share_a_row_group(tmp_path):
    assert footer(tmp_path, HARD.to_batches(max_chunksize=1) * 50).num_row_groups == 1


def test_a_row_group_ends_at_65536_rows(tmp_path):
    rows = pa.record_batch({"n": pa.array(range(100_000), pa.int64())})
    found = footer(tmp_path, [rows])
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [65_536, 34_464]


def test_a_row_group_ends_with_the_row_that_reaches_32_mebibytes(tmp_path):
    rows = pa.record_batch({"text": ["x" * MEBIBYTE] * 70})
    found = footer(tmp_path, [rows])
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [32, 32, 6]


def test_columns_are_zstd_with_statistics_and_the_arrow_schema(tmp_path):
    found = footer(tmp_path, HARD.to_batches())
    column = found.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert (column.statistics.min, column.statistics.max) == (-(2**63), 2**63 - 1)
    assert b"ARROW:schema" in found.metadata


@pytest.mark.parametrize(
    ("compression", "codec"), [("zstd", "ZSTD"), ("gzip", "GZIP"), ("snappy", "SNAPPY"), ("none", "UNCOMPRESSED")]
)
def test_columns_are_compressed_as_chosen(compression, codec, tmp_path):
    with Parquet(compression).open(tmp_path / "x", HARD.schema) as writer:
        writer.write(HARD.to_batches()[0])
    assert pq.read_metadata(tmp_path / "x").row_group(0).column(0).compression == codec


def test_other_columns_than_expected_are_refused(tmp_path):
    with Parquet().open(tmp_path / "x", HARD.schema) as writer:
        writer.write(HARD.to_batches()[0])
    with pytest.raises(DeliveredDataError, match="other columns than expected"):
        list(Parquet().read(tmp_path / "x", HARD.drop_columns("shot").schema))


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_what_goes_wrong_in_the_thread_that_encodes_is_raised_and_leaves_no_file(tmp_path, monkeypatch, fails_at):
    monkeypatch.setattr(parquet, "_WORTH_A_THREAD", 0)
    encode, calls = pq.ParquetWriter.write_table, []

    def write_table(self, table, *args, **options):
        calls.append(table.num_rows)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        encode(self, table, *args, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    rows = pa.record_batch({"n": pa.array(range(65_536), pa.int64())})
    with pytest.raises(OSError, match="No space left"):
        footer(tmp_path, [rows] * 3)
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parquet")]


def test_a_writer_that_is_given_up_waits_for_its_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_WORTH_A_THREAD", 0)
    rows = pa.record_batch({"n": pa.array(range(65_536), pa.int64())})
    writer = Parquet().open(tmp_path / "x.parquet", rows.schema)
    for _ in range(3):
        writer.write(rows)
    writer.abandon()
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parquet")]
