import errno
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import DestinationError, OutcomeUnknownError, RequestError, TransientError
from vv_exports_tests.connectors.contract import ConnectorContract


@pytest.fixture
def connector(tmp_path: Path) -> LocalConnector:
    return LocalConnector("conn", tmp_path, "base")


def _file(tmp_path: Path, content: bytes = b"content") -> Path:
    path = tmp_path / "upload"
    path.write_bytes(content)
    return path


def test_what_was_put_is_read_listed_and_deleted(connector, tmp_path):
    connector.put(_file(tmp_path), "a/b/c.parquet")
    assert connector.read("a/b/c.parquet") == b"content"
    assert [(file.key, file.size) for file in connector.files("a")] == [("a/b/c.parquet", 7)]
    assert [file.key for file in connector.files("")] == ["a/b/c.parquet"]
    connector.delete(["a/b/c.parquet", "a/b/never.parquet"])
    assert connector.read("a/b/c.parquet") is None
    assert not (tmp_path / "base" / "a").exists(), "an emptied folder is tidied away"


def test_create_lets_one_of_many_writers_win(connector):
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda n: connector.create("log/0.json", f"{n}".encode()), range(64)))
    assert outcomes.count(True) == 1
    assert connector.read("log/0.json") == f"{outcomes.index(True)}".encode()


@pytest.mark.parametrize("write", ["put", "create"])
def test_a_folder_that_another_writer_tidies_away_meanwhile_is_made_again(connector, tmp_path, monkeypatch, write):
    vanished = []
    fsync = os.fsync

    def vanishing(descriptor):
        """The moment at which the content is durable and not yet in place."""
        fsync(descriptor)
        folder = tmp_path / "base" / "a"
        if folder.is_dir() and len(vanished) < 3:
            vanished.append(folder.rmdir())

    monkeypatch.setattr(os, "fsync", vanishing)
    (tmp_path / "base" / "a").mkdir(parents=True)
    if write == "put":
        connector.put(_file(tmp_path), "a/b.json")
    else:
        assert connector.create("a/b.json", b"content")
    assert len(vanished) == 3
    assert connector.read("a/b.json") == b"content"


def test_a_folder_that_keeps_vanishing_is_an_error_and_not_an_endless_loop(connector, tmp_path, monkeypatch):
    mkdir = os.mkdir

    def vanishing(path, *args, dir_fd=None):
        mkdir(path, *args, dir_fd=dir_fd)
        if path == "a":
            os.rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", vanishing)
    with pytest.raises(TransientError, match="kept vanishing"):
        connector.create("a/b.json", b"content")


def test_nothing_but_the_file_is_left_behind(connector, tmp_path):
    connector.put(_file(tmp_path), "a.parquet")
    connector.create("b.json", b"{}")
    connector.create("b.json", b"{}")
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == ["a.parquet", "b.json"]


def test_the_temporary_folder_stays_for_many_writes_and_goes_with_them(connector, tmp_path):
    folder = tmp_path / "base" / ".vv_exports_tmp"
    with connector.many_writes():
        before = folder.stat().st_ino
        for number in range(3):
            connector.put(_file(tmp_path), f"{number}.parquet")
            assert connector.create(f"{number}.json", b"{}")
        connector.sweep()
        assert folder.stat().st_ino == before
        assert len(connector.files("")) == 6
    assert not folder.exists()


def test_many_writes_that_are_not_possible_are_told_by_the_first(tmp_path):
    connector = LocalConnector("conn", tmp_path / "not-mounted", "base")
    with connector.many_writes(), pytest.raises(RequestError, match=r"its root .* is not a folder"):
        connector.create("x", b"")


def test_a_dead_writers_leftover_is_swept_and_a_live_ones_is_not(connector, tmp_path):
    script = """
        import sys, time
        from pathlib import Path
        from vv_exports.connectors.local import LocalConnector
        with LocalConnector("conn", Path(sys.argv[1]), "base")._temporary():
            print("ready", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        connector.sweep()
        assert len(list((tmp_path / "base" / ".vv_exports_tmp").iterdir())) == 1
        assert connector.files("") == [], "unfinished files are not listed"
        writer.kill()
    connector.sweep()
    assert list((tmp_path / "base").iterdir()) == []


@pytest.mark.parametrize("key", ["", "../x", "a/../../x", "/etc/x", "a//b", "a/./b", "a\\b", "a/\x00"])
def test_a_key_that_leaves_the_boundary_is_refused(connector, tmp_path, key):
    with pytest.raises(DestinationError, match="is not a path below"):
        connector.put(_file(tmp_path), key)
    assert not (tmp_path / "base").exists()


def test_a_symbolic_link_out_of_the_boundary_is_refused(connector, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "link").symlink_to(outside)
    for act in (
        lambda: connector.put(_file(tmp_path), "link/x"),
        lambda: connector.create("link/deeper/x", b""),
        lambda: connector.read("link/x"),
        lambda: connector.files("link"),
        lambda: connector.delete(["link/x"]),
    ):
        with pytest.raises(DestinationError, match="through a symbolic link"):
            act()
    assert list(outside.iterdir()) == []


def test_a_base_path_that_is_a_link_out_of_the_root_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "base").symlink_to(outside)
    with pytest.raises(DestinationError, match="export_base_path"):
        LocalConnector("conn", root, "base").create("x", b"")
    assert list(outside.iterdir()) == []


def test_a_missing_root_is_not_created(tmp_path):
    with pytest.raises(RequestError, match=r"its root .* is not a folder"):
        LocalConnector("conn", tmp_path / "not-mounted", "base").create("x", b"")
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.skipif(os.geteuid() != 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_file_in_the_way_of_a_folder_is_explained(connector, tmp_path):
    connector.create("a", b"I am a file")
    with pytest.raises(RequestError, match=r"could not write .*a/b"):
        connector.put(_file(tmp_path), "a/b")


def test_a_temporary_folder_that_is_a_link_is_neither_used_nor_swept(connector, tmp_path):
    """Whoever may write to a destination could otherwise have files deleted that only the pipeline may delete."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("a" * 32)).write_text("somebody's")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / ".vv_exports_tmp").symlink_to(outside)
    with pytest.raises(DestinationError, match="through a symbolic link"):
        connector.sweep()
    with pytest.raises(DestinationError, match="through a symbolic link"):
        connector.create("x", b"content")
    assert [path.read_text() for path in outside.iterdir()] == ["somebody's"]


def test_a_sweep_leaves_what_is_not_ours(connector, tmp_path):
    folder = tmp_path / "base" / ".vv_exports_tmp"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("somebody's")
    (folder / ("b" * 32)).mkdir()
    os.mkfifo(folder / ("c" * 32))
    (folder / ("d" * 32)).write_text("a dead writer's")
    connector.sweep()
    assert sorted(path.name[0] for path in folder.iterdir()) == ["b", "c", "n"]


def test_every_new_folder_is_durable_before_the_file_is_said_to_be_written(connector, tmp_path, monkeypatch):
    """After a power failure a log entry must not be there without the folders of the files that it names."""
    synced = []
    fsync = os.fsync

    def noted(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    connector.put(_file(tmp_path), "a/b/c.parquet")
    base = tmp_path / "base"
    assert {str(folder) for folder in (tmp_path, base, base / "a", base / "a" / "b")} <= set(synced)
    synced.clear()
    connector.create("a/d/e.json", b"{}")
    assert {str(base / "a"), str(base / "a" / "d")} <= set(synced)


def test_an_error_behind_the_creation_is_no_promise_that_nothing_landed(connector, tmp_path, monkeypatch):
    fsync = os.fsync

    def failing(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir() and (tmp_path / "base/log/0.json").exists():
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutcomeUnknownError, match=r"0\.json may be written.*Input/output error"):
        connector.create("log/0.json", b"{}")
    monkeypatch.setattr(os, "fsync", fsync)
    assert connector.read("log/0.json") == b"{}"
    assert connector.create("log/0.json", b"{}") is False


def test_a_full_disk_leaves_nothing_and_may_be_tried_again(tmp_path):
    script = """
        import resource, sys
        from pathlib import Path
        from vv_exports.connectors.local import LocalConnector
        folder = Path(sys.argv[1])
        (folder / "upload").write_bytes(b"x" * 5000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for act in (lambda c: c.put(folder / "upload", "a/b"), lambda c: c.create("a/b", b"x" * 5000)):
            try:
                act(LocalConnector("conn", folder, "base"))
            except Exception as error:
                print(type(error).__name__, error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["TransientError"] * 2
    assert all("base/a/b: File too large. Free space" in line for line in said)
    assert [path for path in (tmp_path / "base").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_many_writers_in_one_process_do_not_get_into_each_others_way(tmp_path):
    connector = LocalConnector("c", tmp_path, make_root=True)
    with ThreadPoolExecutor(16) as threads:
        created = list(threads.map(lambda n: connector.create(f"folder/{n:04}", b"x"), range(3_000)))
    assert created == [True] * 3_000
    assert len(connector.files("folder")) == 3_000


class TestContract(ConnectorContract):
    """With what every other connector promises."""

    test_a_large_file_arrives_whole = None  # nothing is sent in parts here, and making the file takes seconds


class TestDatasets:
    """What pyarrow reads keeps to the boundary too."""

    @pytest.fixture
    def filled(self, connector, tmp_path):
        for name in ("n=1/a.parquet", "n=2/b.parquet", "n=2/deeper/c.parquet"):
            pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "upload")
            connector.put(tmp_path / "upload", f"t/{name}")
        return connector

    def test_a_folder_is_a_dataset_with_its_partitions(self, filled):
        filesystem, base = filled.arrow_filesystem()
        found = ds.dataset(f"{base}/t", filesystem=filesystem, format="parquet", partitioning="hive")
        assert found.count_rows() == 6
        assert sorted(found.to_table()["n"].to_pylist()) == [1, 1, 2, 2, 2, 2]
        assert pickle.loads(pickle.dumps(found)).count_rows() == 6

    def test_what_there_is_is_told_apart(self, filled):
        filesystem, base = filled.arrow_filesystem()
        names = ["t", "t/n=1/a.parquet", "t/no", ""]
        kinds = [info.type.name for info in filesystem.get_file_info([f"{base}/{name}".rstrip("/") for name in names])]
        assert kinds == ["Directory", "File", "NotFound", "Directory"]
        below = filesystem.get_file_info(FileSelector(f"{base}/t/n=2"))
        assert sorted((info.base_name, info.type.name) for info in below) == [
            ("b.parquet", "File"),
            ("deeper", "Directory"),
        ]
        with pytest.raises(FileNotFoundError):
            filesystem.get_file_info(FileSelector(f"{base}/no"))

    def test_a_link_is_not_followed(self, filled, tmp_path):
        filesystem, base = filled.arrow_filesystem()
        dataset = ds.dataset([f"{base}/t/n=1/a.parquet"], filesystem=filesystem, format="parquet")
        (tmp_path / "base" / "t" / "n=1").rename(tmp_path / "moved")
        (tmp_path / "base" / "t" / "n=1").symlink_to(tmp_path / "moved")
        with pytest.raises(DestinationError, match="n=1 is a symbolic link"):
            dataset.to_table()

    def test_nothing_outside_is_read_and_nothing_is_written(self, filled, tmp_path):
        filesystem, base = filled.arrow_filesystem()
        for path in (str(tmp_path / "upload"), f"{base}/../upload", f"{base}-2/x"):
            with pytest.raises(DestinationError, match="is not"):
                filesystem.open_input_file(path)
        for act in (filesystem.create_dir, filesystem.delete_file, filesystem.open_output_stream):
            with pytest.raises(RequestError, match="this file system is for reading"):
                act(f"{base}/t/new")


def test_a_file_that_is_replaced_by_one_of_another_name_while_it_is_listed_is_there_under_one_of_them(tmp_path):
    """A folder whose versions were tidied away one after the other looked empty, and as if it had never been used."""
    (tmp_path / "1").touch()
    stat = os.stat

    def once_it_was_replaced(name, **options):
        if name in {"1", "2"}:
            (tmp_path / str(int(name) + 1)).touch()
            (tmp_path / name).unlink()
        return stat(name, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.stat", once_it_was_replaced)
        found = LocalConnector("conn", tmp_path).files("")
    assert [file.key for file in found] == ["3"]
