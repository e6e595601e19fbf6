import os
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from vv_exports.connectors.spool import Spool, at_a_time, check_room, has_room, make_room, spool_folder, use_spool
from vv_exports.errors import NoRoomError, RequestError, TransientError


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    use_spool(Spool())
    with spool_folder() as folder:
        return folder.parent


@pytest.fixture
def spool(tmp_path):
    """Has this process use another spool, until the test is over."""
    yield lambda **fields: use_spool(Spool(**fields))
    use_spool(Spool())


def test_a_spool_is_gone_afterwards_also_after_an_error(top):
    with suppress(KeyError), spool_folder() as folder:
        (folder / "file").write_text("content")
        raise KeyError
    assert list(top.iterdir()) == []


def test_a_lock_file_and_a_folder_of_somebody_elses_stay(top):
    (top / "notes.lock").write_text("somebody's")
    (top / "notes").mkdir()
    (top / "notes" / "file").write_text("somebody's")
    with spool_folder():
        pass
    assert {path.name for path in top.rglob("*")} == {"notes.lock", "notes", "file"}


def test_the_spool_of_a_killed_process_goes_and_that_of_a_live_one_stays(top, tmp_path):
    script = """
        import sys, tempfile, time
        tempfile.tempdir = sys.argv[1]
        from vv_exports.connectors.spool import spool_folder
        with spool_folder() as folder:
            (folder / "file").write_text("content")
            print(folder, flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        theirs = Path(other.stdout.readline().strip())
        with spool_folder():
            assert (theirs / "file").exists()
        other.kill()
    with spool_folder() as ours:
        assert {path.stem for path in top.iterdir()} == {ours.name}
    assert list(top.iterdir()) == []


def test_no_sweep_takes_a_spool_that_is_in_use(top):
    """A sweep that comes between the making of a lock file and its locking takes the lock file for abandoned."""

    def work(number: int) -> None:
        for _ in range(60):
            with spool_folder() as folder:
                (folder / "file").write_text(f"{number}")
                os.sched_yield()
                with spool_folder():
                    assert (folder / "file").read_text() == f"{number}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert list(top.iterdir()) == []


def test_users_of_one_machine_have_spools_of_their_own(tmp_path, top):
    assert top.name.endswith(str(os.getuid()))
    top.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    top.symlink_to(elsewhere)
    with pytest.raises(RequestError, match=r"is not a folder of this user.*TMPDIR"), spool_folder():
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_full_local_disk_says_which():
    script = """
        import resource, sys, tempfile
        tempfile.tempdir = sys.argv[1]
        from vv_exports.connectors.spool import spool_folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with spool_folder() as folder:
            (folder / "file").write_bytes(b"x" * 2000)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tempfile.gettempdir()]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{TransientError.__module__}.TransientError: no room")
    assert tempfile.gettempdir() in last


def test_files_are_made_in_the_folder_that_is_configured(spool, tmp_path):
    chosen = tmp_path / "chosen"
    spool(folder=chosen)
    with pytest.raises(RequestError, match=rf"spool.folder {chosen} is not there.*mount its disk"), spool_folder():
        pass
    chosen.mkdir()
    with spool_folder() as folder:
        assert folder.is_relative_to(chosen)


def test_what_does_not_fit_the_limit_or_the_disk_is_refused_with_what_is_needed_and_what_is_there(spool):
    with pytest.raises(NoRoomError, match=r"a run needs 95,367,431,640,625 MiB .* the disk of .* has [0-9,]+ MiB free"):
        check_room(10**20, "a run")
    spool(max_bytes=300 << 20)
    check_room(300 << 20, "a run")
    with pytest.raises(NoRoomError, match=r"a run needs 301 MiB .* spool.max_bytes allows 300 MiB: raise it"):
        check_room((300 << 20) + 1, "a run")


def test_the_limit_is_of_all_folders_of_the_process_and_only_while_they_are_there(spool):
    spool(max_bytes=2_000)
    with spool_folder() as one, spool_folder() as other:
        (one / "below").mkdir()
        (one / "below" / "file").write_bytes(b"x" * 900)
        (other / "file").write_bytes(b"x" * 900)
        assert has_room(200)
        assert not has_room(201)
    assert has_room(2_000)


def test_whoever_needs_room_waits_for_uploads_first(spool):
    spool(max_bytes=1_000)
    with spool_folder() as folder:
        uploaded = folder / "uploaded"
        uploaded.write_bytes(b"x" * 900)
        make_room("a run", uploaded.unlink, 500)
        assert not uploaded.exists()
        (folder / "made").write_bytes(b"x" * 900)
        with pytest.raises(NoRoomError, match=r"a run needs more than the 1 MiB .* has 1 MiB there"):
            make_room("a run", lambda: None, 500)


def test_as_many_are_made_at_a_time_as_have_room_and_one_at_least(spool):
    assert at_a_time(10**20, 4) == 4
    spool(max_bytes=1_000)
    assert [at_a_time(needed, 4) for needed in (0, 250, 400, 1_000, 5_000)] == [4, 4, 2, 1, 1]
