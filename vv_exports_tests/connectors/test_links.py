"""Nothing leaves a local boundary, or enters another collection, through a link: whenever the link is put there."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import (
    DeliveredDataError,
    DestinationError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
    VVExportsError,
)

RACE = Path(__file__).parents[2] / "benchmarks" / "race_links.py"
CALLS = ("open", "mkdir", "stat", "link", "rename", "unlink", "rmdir", "scandir")
TEMPORARY = f".vv_exports_tmp/{'d' * 32}"

Act = Callable[[LocalConnector, Path], object]
ACTS: dict[str, Act] = {
    "create": lambda connector, upload: connector.create("a/b/new", b"content"),
    "create what is there": lambda connector, upload: connector.create("a/b/old", b"content"),
    "create deeper": lambda connector, upload: connector.create("a/b/c/d/new", b"content"),
    "put": lambda connector, upload: connector.put(upload, "a/b/new"),
    "put over": lambda connector, upload: connector.put(upload, "a/b/old"),
    "read": lambda connector, upload: connector.read("a/b/old"),
    "open": lambda connector, upload: _read(connector, "a/b/old"),
    "files": lambda connector, upload: connector.files("a"),
    "files of all": lambda connector, upload: connector.files(""),
    "delete": lambda connector, upload: connector.delete(["a/b/old", "a/b/never"]),
    "sweep": lambda connector, upload: connector.sweep(),
}


def _read(connector: LocalConnector, key: str) -> bytes:
    with connector.open(key) as file:
        return file.read()


def _outcome(act: str, place: "Place") -> tuple[VVExportsError | None, object]:
    """The error of ours, where there was one, and what came back. A sweep, for one, goes on where others end."""
    try:
        return None, ACTS[act](place.connector, place.upload)
    except VVExportsError as error:
        return error, None


class Place:
    """A root with a boundary in it, and a tree of the same names outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "root" / "base"
        self.outside = folder / "outside"
        self.upload = folder / "upload"
        self.upload.write_bytes(b"content")
        for top, content in ((self.base, b"inside"), (self.outside, b"OUTSIDE")):
            for name in ("a/b/old", TEMPORARY):
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_bytes(content)
        (self.outside / "a" / "only-outside").write_bytes(b"OUTSIDE")
        self.connector = LocalConnector("conn", folder / "root", "base")
        self.untouched = self.look()

    def look(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.outside).as_posix(): path.read_bytes() if path.is_file() else b"a folder"
            for path in self.outside.rglob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def before_call(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], object]) -> Iterator[list[str]]:
    """Something happens right before the call of this number of the operating system. Yields the calls made."""
    made: list[str] = []

    def around(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **named: object) -> object:
            made.append(name)
            if len(made) == number:
                happens()
            return call(*args, **named)

        return wrapped

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, around(name, getattr(os, name)))
        patch.setattr(os, "fsync", around("fsync", lambda descriptor: None))  # durability is test_local.py's
        yield made


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("swapped", ["", "a", "a/b", "a/b/old", ".vv_exports_tmp", TEMPORARY])
def test_a_link_that_is_put_in_place_of_a_name_at_any_moment_leads_nowhere(tmp_path, monkeypatch, act, swapped):
    """Looking first and acting then leaves a moment in between, and somebody else may use it."""
    number, calls = 0, 1
    while number < calls:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        place = Place(folder)
        target = place.base / swapped

        def swap(place=place, target=target) -> None:
            if target.exists():
                target.rename(place.folder / "away")
                target.symlink_to(place.outside / swapped)

        with before_call(monkeypatch, number, swap) as made:
            said, found = _outcome(act, place)
        assert said is None or "symbolic link" in str(said) or isinstance(said, DeliveredDataError | TransientError)
        calls = min(len(made), 60)
        assert place.look() == place.untouched, f"{act}, {swapped} swapped before call {number} ({made[number - 1]})"
        assert found != b"OUTSIDE"
        assert not isinstance(found, list) or not any("only-outside" in file.key for file in found)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("code", [errno.EMFILE, errno.EROFS, errno.EINVAL])
def test_whatever_call_fails_the_error_is_ours_and_no_descriptor_stays_open(tmp_path, monkeypatch, act, code):
    number, calls = 0, 1
    while number < calls:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        place = Place(folder)
        before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208

        def fail() -> None:
            raise OSError(code, os.strerror(code))

        with before_call(monkeypatch, number, fail) as made:
            said, _ = _outcome(act, place)
        assert said is None or isinstance(said, RequestError | TransientError | OutcomeUnknownError)
        assert said is None or (str(place.base) in str(said) and os.strerror(code) in str(said))
        calls = len(made)
        assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        for path in place.base.rglob("*"):
            assert (
                path.is_dir() or path.parent.name == ".vv_exports_tmp" or path.read_bytes() in {b"inside", b"content"}
            )


@pytest.mark.parametrize("act", ACTS)
def test_no_descriptor_stays_open(place, act):
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    ACTS[act](place.connector, place.upload)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (errno.EACCES, RequestError, "Mend the permissions"),
        (errno.EROFS, RequestError, "mounted for reading only: mount it for writing"),
        (errno.ENAMETOOLONG, RequestError, "choose a shorter destination_subpath"),
        (errno.EINVAL, RequestError, "does not take such a name"),
        (errno.EXDEV, RequestError, "Another disk is mounted below export_base_path"),
        (errno.ENOSPC, TransientError, "Free space"),
        (errno.EDQUOT, TransientError, "Free space"),
        (errno.EMFILE, TransientError, "ulimit -n"),
        (errno.ESTALE, TransientError, "see that it is mounted"),
        (errno.EIO, TransientError, "mend the disk"),
    ],
)
def test_what_a_disk_cannot_do_is_told_with_the_place_and_what_to_do(place, monkeypatch, code, kind, advice):
    def fail(*args: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(kind, match=advice) as caught:
        place.connector.create("a/b/new", b"content")
    assert f"could not create {place.base}/a/b/new: {os.strerror(code)}" in str(caught.value)
    assert [path.name for path in (place.base / "a" / "b").iterdir()] == ["old"]


def test_a_name_that_is_too_long_is_explained(place):
    with pytest.raises(RequestError, match="choose a shorter destination_subpath"):
        place.connector.create(f"a/{'x' * 300}", b"content")
    with pytest.raises(DestinationError, match="half of a surrogate pair"):
        place.connector.create("a/\ud800", b"content")


class TestLinksInside:
    """Of two collections one is linked into the other: what is delivered to one would be read, or deleted, in both."""

    @pytest.fixture
    def two(self, place):
        place.connector.create("one/segments/x", b"one's")
        place.connector.create("two/_vv/owner.json", b"{}")
        (place.base / "two" / "segments").symlink_to("../one/segments")
        (place.base / "two" / "x.parquet").symlink_to("../one/segments/x")
        (place.base / "two" / "dangling").symlink_to("nowhere")
        return place

    @pytest.mark.parametrize("key", ["two/segments/x", "two/segments/new", "two/segments/deeper/x", "two/x.parquet"])
    def test_it_is_refused_by_name(self, two, key):
        connector = two.connector
        link = "/".join(key.split("/")[:2])
        for act in (
            lambda: connector.create(key, b"two's"),
            lambda: connector.put(two.upload, key),
            lambda: connector.read(key),
            lambda: connector.open(key),
            lambda: connector.delete([key]),
        ):
            with pytest.raises(DestinationError, match=rf"{two.base}/{link} is a symbolic link"):
                act()
        assert [(file.key, file.size) for file in connector.files("one")] == [("one/segments/x", 5)]
        assert connector.read("one/segments/x") == b"one's"

    def test_it_is_listed_as_what_it_is_and_not_followed(self, two):
        found = {file.key: file.is_link for file in two.connector.files("two")}
        assert found == {
            "two/_vv/owner.json": False,
            "two/dangling": True,
            "two/segments": True,
            "two/x.parquet": True,
        }
        with pytest.raises(DestinationError, match="two/segments is a symbolic link"):
            two.connector.files("two/segments")

    def test_the_way_to_the_root_may_lead_through_links(self, place):
        (place.folder / "mounted").symlink_to("root")
        connector = LocalConnector("conn", place.folder / "mounted", "base")
        assert connector.create("a/b/new", b"content")
        assert place.connector.read("a/b/new") == b"content"

    def test_a_base_path_that_is_a_link_may_stay_in_the_root(self, place):
        (place.folder / "root" / "current").symlink_to("base")
        (place.folder / "root" / "new").symlink_to("made/when/needed")
        assert LocalConnector("conn", place.folder / "root", "current").read("a/b/old") == b"inside"
        assert LocalConnector("conn", place.folder / "root", "new").create("x", b"content")
        assert (place.folder / "root" / "made" / "when" / "needed" / "x").read_bytes() == b"content"

    def test_a_base_path_that_is_a_circle_of_links_is_refused(self, place):
        (place.folder / "root" / "circle").symlink_to("circle")
        with pytest.raises(DestinationError, match="export_base_path"):
            LocalConnector("conn", place.folder / "root", "circle").create("x", b"content")


class TestWhatIsNoFile:
    """Whoever may write there can put other things where a file should be. None of them is waited for."""

    @pytest.fixture(params=["a folder", "a FIFO", "a socket", "a device"])
    def kind(self, request, place, monkeypatch):
        path = place.base / "a" / "odd"
        match request.param:
            case "a folder":
                path.mkdir()
            case "a FIFO":
                os.mkfifo(path)
            case "a socket":
                monkeypatch.chdir(path.parent)  # a socket's path may be about a hundred characters long
                with socket.socket(socket.AF_UNIX) as bound:
                    bound.bind("odd")
            case "a device":
                try:
                    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
                except PermissionError:
                    pytest.skip("only root can make devices")
        return request.param

    def test_it_is_not_read(self, place, kind):
        with pytest.raises(DeliveredDataError, match=f"could not read .*a/odd: it is {kind}, and no file"):
            place.connector.read("a/odd")
        with pytest.raises(DeliveredDataError, match=f"it is {kind}, and no file. Remove it"):
            place.connector.open("a/odd")

    def test_nothing_is_created_in_its_place_and_the_writer_is_told(self, place, kind):
        with pytest.raises(DestinationError, match=f"could not create .*a/odd: it is {kind}"):
            place.connector.create("a/odd", b"content")
        assert not (place.base / "a" / "odd").is_file()

    def test_it_is_listed_unless_it_is_a_folder(self, place, kind):
        assert ("a/odd" in [file.key for file in place.connector.files("a")]) == (kind != "a folder")

    def test_it_is_left_by_a_sweep(self, place, kind):
        odd = place.base / ".vv_exports_tmp" / ("e" * 32)
        (place.base / "a" / "odd").rename(odd)
        place.connector.sweep()
        assert list(odd.parent.iterdir()) == [odd]


def test_a_folder_at_a_files_name_is_neither_deleted_nor_replaced(place):
    (place.base / "a" / "folder").mkdir()
    with pytest.raises(RequestError, match=r"could not delete .*a/folder"):
        place.connector.delete(["a/folder"])
    with pytest.raises(RequestError, match=r"could not write .*a/folder"):
        place.connector.put(place.upload, "a/folder")
    assert (place.base / "a" / "folder").is_dir()


def test_folders_may_be_nested_deeper_than_calls(place):
    """How deep they are is up to whoever may write there."""
    descriptor = os.open(place.base, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        keys = [file.key for file in place.connector.files("")]
    finally:
        sys.setrecursionlimit(limit)
    assert f"{'d/' * 400}leaf" in keys


def test_a_folder_that_may_only_be_passed_through_is_passed_through(place):
    """As with paths, the right to search a folder above the boundary is enough."""
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    (place.folder / "root").chmod(0o311)
    try:
        assert place.connector.create("a/b/new", b"content")
        assert len(place.connector.files("a")) == 2
    finally:
        (place.folder / "root").chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged in one step on Linux alone")
def test_a_race_with_one_who_swaps_folders_for_links_touches_nothing_outside():
    command = [sys.executable, str(RACE), "--seconds", "2", "--seed", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 written, 0 deleted, 0 read, 0 listed outside; 0 errors that are not ours" in found.stdout
