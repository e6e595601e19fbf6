"""What every connector promises, whatever is behind it."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from vv_exports.errors import DeliveredDataError, DestinationError

ODD = "a b/ü=#%&+@,;!$'()*[]{}~`^|<>😀/part-00000.parquet"


class ConnectorContract:
    """Subclasses have a fixture ``connector``, with nothing below its boundary."""

    @staticmethod
    def file(tmp_path: Path, content: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(content)
        return path

    def test_what_was_put_is_read_listed_and_deleted(self, connector, tmp_path):
        connector.put(self.file(tmp_path, b"content"), "a/b/c.bin")
        connector.put(self.file(tmp_path, b"other"), "a/bc.bin")
        assert connector.read("a/b/c.bin") == b"content"
        with connector.open("a/b/c.bin") as file:
            assert file.read() == b"content"
        assert [(one.key, one.size) for one in connector.files("a")] == [("a/b/c.bin", 7), ("a/bc.bin", 5)]
        assert [one.key for one in connector.files("a/b")] == ["a/b/c.bin"], "a/bc.bin is not below a/b"
        connector.delete(["a/b/c.bin", "a/b/never.bin"])
        assert connector.read("a/b/c.bin") is None
        assert [one.key for one in connector.files("")] == ["a/bc.bin"]

    def test_what_is_not_there(self, connector):
        assert connector.read("no/such.bin") is None
        assert connector.files("no") == []
        connector.delete([])
        with pytest.raises(DeliveredDataError, match="is not there"):
            connector.open("no/such.bin")

    def test_put_replaces_and_an_empty_file_is_one(self, connector, tmp_path):
        connector.put(self.file(tmp_path, b"before"), "a.bin")
        connector.put(self.file(tmp_path, b""), "a.bin")
        assert connector.read("a.bin") == b""
        assert [(one.key, one.size) for one in connector.files("")] == [("a.bin", 0)]

    def test_create_lets_one_of_many_writers_win(self, connector):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n: connector.create("log/0.json", f"{n}".encode()), range(32)))
        assert won.count(True) == 1
        assert connector.read("log/0.json") == f"{won.index(True)}".encode()

    def test_names_stay_what_they_are(self, connector, tmp_path):
        connector.put(self.file(tmp_path, b"x"), ODD)
        assert connector.read(ODD) == b"x"
        assert [one.key for one in connector.files("")] == [ODD]
        connector.delete([ODD])
        assert connector.files("") == []

    @pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", ".", "a\\b", "a\x00b"])
    def test_a_key_that_could_leave_the_boundary_is_refused(self, connector, tmp_path, key):
        with pytest.raises(DestinationError):
            connector.create(key, b"x")
        with pytest.raises(DestinationError):
            connector.put(self.file(tmp_path, b"x"), key)
        with pytest.raises(DestinationError):
            connector.delete([key])

    def test_a_large_file_arrives_whole(self, connector, tmp_path):
        content = random.Random(0).randbytes(120 * 2**20)
        connector.put(self.file(tmp_path, content), "large.bin")
        assert [one.size for one in connector.files("")] == [len(content)]
        with connector.open("large.bin") as file:
            assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(content).digest()

    def test_more_files_than_a_page_of_a_listing_holds(self, connector):
        keys = [f"many/{number:04}" for number in range(1050)]
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda key: connector.create(key, b"x", durable=False), keys))
        assert [one.key for one in connector.files("many")] == keys
        assert [one.key for one in connector.files("many", after=keys[30])] == keys[31:]
        assert connector.files("many", after=keys[-1]) == []
        connector.delete(keys)
        assert connector.files("") == []

    def test_datasets_are_read_through_arrow(self, connector, tmp_path):
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table({"n": [1, 2, 3]}), path)
        connector.put(path, "t/one.parquet")
        filesystem, base = connector.arrow_filesystem()
        assert ds.dataset(f"{base}/t/one.parquet", filesystem=filesystem, format="parquet").count_rows() == 3

    def test_a_uri_names_the_place(self, connector):
        assert connector.uri("a/b").endswith("/a/b")
        assert not connector.uri("").endswith("/")
