import os
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from vv_exports.connectors.spool import spool_folder
from vv_exports.errors import RequestError, TransientError


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with spool_folder() as folder:
        return folder.parent


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
