"""What stands in a file's place, and where links lead. A run's trouble is that run's, with the file named."""

import os
import shutil
import socket
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from vv_exports.errors import SourceDataError
from vv_exports.sources.archive_folder import ArchiveFolder
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.sources.archives import lines, segment, write_index, write_run


def dangling(path):
    path.symlink_to("../../../.git/annex/objects/SHA256E-s48--d2c0")


def looping(path):
    path.symlink_to(path.name)


def a_socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


NO_FILES = {
    "dangling": (dangling, r"is a link to \.\./.*SHA256E-s48--d2c0, which does not exist: fetch"),
    "dangling to a long name": (
        lambda path: path.symlink_to("x" * 300),
        "is a link to x+, which does not exist: fetch",
    ),
    "loop": (looping, "cannot be read: Too many levels of symbolic links"),
    "folder": (Path.mkdir, "is a folder, and must be a file"),
    "fifo": (os.mkfifo, "is a FIFO, and must be a file"),
    "socket": (a_socket, "is a socket, and must be a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "leads out of the archive, to /dev/zero"),
}
FILES = [
    "segment_results.jsonl",
    "segment_results.jsonl.zst",
    "video_results.jsonl",
    "failed_segments.jsonl.gz",
    "failed_segments.json",
    "prompt.json",
    "prompt_run.json",
]


def read_all(here, run):
    here.prompt(run)
    for read in (here.segment_results, here.video_results, here.failed_segments):
        for _ in read(run):
            pass


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_its_runs_error_with_the_file_named(tmp_path, name, kind):
    make, message = NO_FILES[kind]
    segments = {} if name.startswith("segment") else {"segment_results.jsonl": lines(segment())}
    prompt = {"prompt_id": "prm_1", "name": "Mood", "prompt_text": "", "json_schema": {}, "video_level": None}
    run = write_run(tmp_path, segments, prompt=prompt | {"video_level": {"json_schema": {}}})
    write_run(tmp_path, {"segment_results.jsonl": lines(segment())}, run_id="fine")
    (run / name).unlink(missing_ok=True)
    make(run / name)
    here = LocalArchive(str(tmp_path))
    with pytest.raises(SourceDataError, match=f"run_1/{name} {message}"):
        read_all(here, here.prompt_run("idx_1", "run_1"))
    listing = here.listing("idx_1")
    assert listing.problems.keys() == ({"run_1"} if name == "prompt_run.json" else set())
    for one in listing.runs:
        here.change_hint(one)
    read_all(here, next(one for one in listing.runs if one.run_id == "fine"))


def test_a_device_is_not_opened_where_links_may_lead_out(tmp_path):
    run = write_run(tmp_path)
    (run / "segment_results.jsonl").symlink_to("/dev/zero")
    here = LocalArchive(str(tmp_path), follow_links=True)
    with pytest.raises(SourceDataError, match=r"segment_results\.jsonl is a device, and must be a file"):
        read_all(here, here.prompt_run("idx_1", "run_1"))


@pytest.mark.parametrize("name", ["run_1", "run_1/prompt_run.json"])
def test_a_run_folder_or_record_that_is_a_dangling_link_is_not_taken_for_no_run(tmp_path, name):
    write_run(tmp_path, run_id="fine")
    folder = write_run(tmp_path).parent
    shutil.rmtree(folder / "run_1")
    if "/" in name:
        (folder / "run_1").mkdir()
    (folder / name).symlink_to("gone")
    listing = LocalArchive(str(tmp_path)).listing("idx_1")
    assert [run.run_id for run in listing.runs] == ["fine"]
    assert f"{folder}/{name} is a link to gone" in str(listing.problems["run_1"])


@contextmanager
def without_privileges():
    """As a user to whom permissions apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_archive():
    """An archive where any user may get at it, unlike pytest's folders."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def read_again(here, run):
    here.prompt_run(run.index_id, run.run_id)
    read_all(here, run)


@pytest.mark.parametrize("name", ["segment_results.jsonl", "prompt.json", "prompt_run.json", ""])
def test_what_may_not_be_read_is_its_runs_error(open_archive, name):
    run = write_run(open_archive, {"segment_results.jsonl": lines(segment())})
    write_run(open_archive, {"segment_results.jsonl": lines(segment())}, run_id="fine")
    here = LocalArchive(str(open_archive))
    whole = here.prompt_run("idx_1", "run_1")
    (run / name).chmod(0)
    with without_privileges():
        with pytest.raises(SourceDataError, match=f"run_1(/.*)?{name} cannot be read: Permission denied.*permissions"):
            read_again(here, whole)
        here.change_hint(whole)
        listing = here.listing("idx_1")
        assert listing.problems.keys() == ({"run_1"} if name in {"prompt_run.json", ""} else set())
        read_all(here, next(one for one in listing.runs if one.run_id == "fine"))


def test_a_file_that_vanishes_after_the_listing_is_its_runs_error(tmp_path):
    write_run(tmp_path, {"a.jsonl": b""})
    folder = ArchiveFolder(str(tmp_path), follow_links=False)
    path = "indexes/idx_1/prompt_runs/run_1/a.jsonl"
    (tmp_path / path).unlink()
    with pytest.raises(SourceDataError, match=r"a\.jsonl was there a moment ago"), folder.reader(path):
        pass


def test_a_fifo_that_takes_a_files_place_is_not_waited_for(tmp_path, monkeypatch):
    """Between the look and the opening, as only a schedule can tell: the look is made of another file."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("x")
    looked = (tmp_path / "file").stat()
    assert stat.S_ISREG(looked.st_mode)
    monkeypatch.setattr(Path, "stat", lambda self, **_: looked)
    with (
        pytest.raises(SourceDataError, match="fifo is a FIFO"),
        ArchiveFolder(str(tmp_path), follow_links=False).reader("fifo"),
    ):
        pass


@pytest.fixture(params=["absolute", "relative"])
def link(request):
    """Put a link in the place of something that was moved away."""

    def to(target, place):
        target.parent.mkdir(parents=True, exist_ok=True)
        place.rename(target)
        place.symlink_to(target if request.param == "absolute" else os.path.relpath(target, place.parent))

    return to


PLACES = {
    "indexes": "indexes",
    "index": "indexes/idx_1",
    "index.json": "indexes/idx_1/index.json",
    "runs": "indexes/idx_1/prompt_runs",
    "run": "indexes/idx_1/prompt_runs/run_1",
    "record": "indexes/idx_1/prompt_runs/run_1/prompt_run.json",
    "prompt": "indexes/idx_1/prompt_runs/run_1/prompt.json",
    "file": "indexes/idx_1/prompt_runs/run_1/segment_results.jsonl",
}


def everything(here):
    (run,) = here.prompt_runs("idx_1")
    read_all(here, run)
    return here.change_hint(run)


@pytest.mark.parametrize("place", PLACES)
def test_a_link_out_of_the_archive_is_refused_unless_it_is_allowed(tmp_path, link, place):
    archive, outside = tmp_path / "archive", tmp_path / "archive-2" / place
    write_run(archive, {"segment_results.jsonl": lines(segment())})
    link(outside, archive / PLACES[place])
    with pytest.raises(
        SourceDataError, match=f"{PLACES[place]}.* leads out of the archive, to {outside}.*follow_links: true"
    ):
        everything(LocalArchive(str(archive)))
    everything(LocalArchive(str(archive), follow_links=True))


@pytest.mark.parametrize("place", PLACES)
def test_a_link_within_the_archive_is_followed(tmp_path, link, place):
    write_run(tmp_path, {"segment_results.jsonl": lines(segment())})
    link(tmp_path / "pool" / place, tmp_path / PLACES[place])
    everything(LocalArchive(str(tmp_path)))


LOOKS = {
    "reader": lambda here, run: here.reader(f"{run}/secret.json").__enter__(),
    "read": lambda here, run: [here.raised(one) for one in here.read([f"{run}/secret.json"], 100)],
    "names": lambda here, run: here.names(run),
    "versions": lambda here, run: here.versions(run),
}


class Folder(ArchiveFolder):
    def raised(self, one):
        if isinstance(one, Exception):
            raise one


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("moment", ["before it is opened", "after its path was resolved"])
def test_a_folder_that_is_swapped_for_a_link_out_is_not_followed(tmp_path, monkeypatch, look, moment):
    for folder in ("archive/run", "outside"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "secret.json").write_text(folder)
    (tmp_path / "archive/alias").symlink_to("run")  # a path with a link in it is resolved
    plain_open, real_of = os.open, os.path.realpath

    def swap():
        if not (tmp_path / "archive/run").is_symlink():
            (tmp_path / "archive/run").rename(tmp_path / "moved")
            (tmp_path / "archive/run").symlink_to("../outside")

    def realpath(path, **options):
        found = real_of(path, **options)
        if str(path).startswith(f"{tmp_path}/archive/alias"):
            swap()
        return found

    def opened(path, flags, **options):
        if path == "run":
            swap()
        return plain_open(path, flags, **options)

    if moment == "before it is opened":
        monkeypatch.setattr(os, "open", opened)
    else:
        monkeypatch.setattr(os.path, "realpath", realpath)
    here = Folder(str(tmp_path / "archive"), follow_links=False)
    with pytest.raises(SourceDataError, match=r"archive/(run|alias).* (cannot be read|leads out)"):
        LOOKS[look](here, "run" if moment == "before it is opened" else "alias")
    assert (tmp_path / "archive/run").is_symlink(), "it was swapped"


def test_the_archives_own_folder_may_be_a_link(tmp_path):
    write_run(tmp_path / "real", {"segment_results.jsonl": lines(segment())})
    (tmp_path / "link").symlink_to("real")
    everything(LocalArchive(str(tmp_path / "link")))
    everything(LocalArchive(f"{tmp_path}/link/"))


def test_a_link_out_of_one_index_keeps_no_other_from_being_read(tmp_path):
    archive = tmp_path / "archive"
    write_run(archive)
    (write_index(tmp_path / "away", "away")).rename(tmp_path / "moved")
    (archive / "indexes" / "away").symlink_to(tmp_path / "moved")
    here = LocalArchive(str(archive))
    assert len(here.prompt_runs("idx_1")) == 1
    with pytest.raises(SourceDataError, match="leads out of the archive"):
        here.prompt_runs("away")


def test_a_change_behind_a_link_is_seen(tmp_path):
    run = write_run(tmp_path, {"segment_results.jsonl": lines(segment())})
    (run / "segment_results.jsonl").rename(tmp_path / "pool")
    (run / "segment_results.jsonl").symlink_to(tmp_path / "pool")
    here = LocalArchive(str(tmp_path))
    before = here.change_hint(here.prompt_run("idx_1", "run_1"))
    (tmp_path / "pool").unlink()
    without = here.change_hint(here.prompt_run("idx_1", "run_1"))
    (tmp_path / "pool").write_bytes(lines(segment(7)))
    os.utime(tmp_path / "pool", (1, 1))
    after = here.change_hint(here.prompt_run("idx_1", "run_1"))
    assert len({str(before), str(without), str(after)}) == 3


def test_a_broken_folder_is_told_apart_from_all_others(tmp_path):
    runs = write_run(tmp_path).parent
    for name in (b"\xff", b"\xfe", b"run%5F1", b"a b"):
        folder = os.path.join(os.fsencode(runs), name)  # noqa: PTH118 - pathlib takes no bytes
        os.mkdir(folder)  # noqa: PTH102
        Path(os.fsdecode(folder), "prompt_run.json").write_text('{"run_id": "run_1"}')
    listing = LocalArchive(str(tmp_path)).listing("idx_1")
    assert [run.run_id for run in listing.runs] == ["run_1"]
    assert set(listing.problems) == {"\\xff", "\\xfe", "run%5F1", "a b"}


def test_an_id_that_no_storage_can_name_is_its_runs_error(tmp_path):
    write_run(tmp_path, run_id="fine")
    write_run(tmp_path, run_id="half \ud800", folder="half%20%ED%A0%80")
    no_text = tmp_path / "indexes/idx_1/prompt_runs" / os.fsdecode(b"\xff")
    no_text.mkdir()
    (no_text / "prompt_run.json").write_text("{}")
    listing = LocalArchive(str(tmp_path)).listing("idx_1")
    assert [run.run_id for run in listing.runs] == ["fine"]
    assert len(listing.problems) == 2
    for run_id, error in listing.problems.items():
        (run_id + str(error)).encode()
