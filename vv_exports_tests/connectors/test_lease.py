"""One writer at a time where the store does not decide: among threads, processes and machines of one deployment."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vv_exports.connectors import lease as leases
from vv_exports.connectors.lease import Holder, Holders, only_writer
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.errors import OutcomeUnknownError, RequestError, TransientError
from vv_exports_tests.fakes.careless_folder import CarelessFolder
from vv_exports_tests.fakes.faulty_connector import FaultyConnector, fails
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore

pytestmark = pytest.mark.slow

TEAM = "exports/team"
REPOSITORY = Path(__file__).resolve().parents[2]

HOLDS_IT = """
import sys, time
from pathlib import Path
from vv_exports.connectors import lease
from vv_exports_tests.fakes.careless_folder import CarelessFolder

lease.TIME_TO_LIVE_SECONDS = 0.5
root, storage = map(Path, sys.argv[1:])
with lease.only_writer(CarelessFolder(root, storage), "exports/team") as held:
    print("inside", flush=True)
    sys.stdin.readline()
    held.check()
"""


@pytest.fixture(autouse=True)
def time_to_live(monkeypatch):
    monkeypatch.setattr(leases, "TIME_TO_LIVE_SECONDS", 0.5)


@pytest.fixture
def store(tmp_path):
    return CarelessFolder(tmp_path / "store", tmp_path / "storage")


def document(store: CarelessFolder) -> VersionedDocument[Holders]:
    return VersionedDocument(store.pipeline_storage, "writers", Holders, Holders)


def held_by(store: CarelessFolder, holder: Holder | None) -> None:
    """As another process would write it."""
    at = f"{store.address}/{TEAM}"
    document(store).update(lambda _: Holders(by_destination={} if holder is None else {at: holder}))


def another(**changes) -> Holder:
    now = datetime.now(UTC)
    fields = {"token": "another", "host": "other-machine", "process_id": 77, "since": now, "alive_at": now}
    return Holder(**{**fields, **changes})


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lease, with a temporary folder of its own."""
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_IT, str(tmp_path / "store"), str(tmp_path / "storage")],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "inside\n"
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()


def test_one_of_many_threads_is_inside_at_a_time_and_no_files_pile_up(store):
    inside, most = [], []

    def write(_):
        with only_writer(store, TEAM):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))
    assert most == [1] * 12
    assert len(store.pipeline_storage.files("")) <= 4
    assert document(store).read() == Holders()


def test_two_destinations_do_not_wait_for_each_other_and_one_by_two_ways_does(tmp_path, caplog):
    whole = CarelessFolder(tmp_path / "store", tmp_path / "storage")
    part = CarelessFolder(tmp_path / "store/exports", tmp_path / "storage")
    with only_writer(whole, "exports/team"), only_writer(whole, "exports/other"), ThreadPoolExecutor(1) as pool:

        def enter():
            with only_writer(part, "team"):
                return "inside"

        waiting = pool.submit(enter)
        while "waiting for another writer" not in caplog.text:
            assert not waiting.done()
            time.sleep(0.01)
        held_by(whole, None)
        assert waiting.result() == "inside"


def test_a_store_that_decides_needs_no_lease(tmp_path):
    connector = MemoryStore(Memory())
    connector.remember_in(LocalConnector("storage", tmp_path, make_root=True))
    with only_writer(connector, TEAM) as lease:
        lease.check()
        assert lease.loss() is None
    assert connector.pipeline_storage.files("") == []


def test_without_a_storage_that_decides_nobody_is_let_in(tmp_path):
    connector = MemoryStore(Memory(refuses_taken_names=False), endpoint_url="http://a")
    with (
        pytest.raises(RequestError, match="there is no `storage` in which they could agree"),
        only_writer(connector, ""),
    ):
        pass
    connector.remember_in(CarelessFolder(tmp_path / "a", tmp_path / "b"))
    with pytest.raises(RequestError, match="keep `storage` in a store"), only_writer(connector, ""):
        pass


def test_whoever_waits_says_for_whom_and_is_let_in_when_that_one_is_done(store, other_process, caplog):
    with ThreadPoolExecutor(1) as pool:

        def enter():
            with only_writer(store, TEAM):
                return other_process.poll()

        waiting = pool.submit(enter)
        while not caplog.messages:
            time.sleep(0.01)
        assert f"waiting for another writer at {store.uri(TEAM)}: process {other_process.pid} on " in caplog.text
        other_process.communicate("done\n")
        waiting.result()
    assert other_process.returncode == 0
    assert "took over" not in caplog.text


def test_a_writer_that_is_busy_for_longer_than_the_time_to_live_is_not_taken_for_dead(store, other_process):
    entered = threading.Event()

    def enter():
        with only_writer(store, TEAM):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(enter)
        assert not entered.wait(3 * leases.TIME_TO_LIVE_SECONDS)
        other_process.communicate("done\n")
        waiting.result()
    assert other_process.returncode == 0


def test_a_writer_that_was_killed_makes_others_wait_for_one_time_to_live(store, other_process, caplog):
    other_process.kill()
    other_process.wait()
    began = time.monotonic()
    with only_writer(store, TEAM):
        assert time.monotonic() - began >= leases.TIME_TO_LIVE_SECONDS
    assert "which showed no life any more" in caplog.text


def test_a_writer_that_was_stopped_and_goes_on_after_its_turn_was_taken_over_stops(store, other_process):
    other_process.send_signal(signal.SIGSTOP)
    with only_writer(store, TEAM):
        other_process.send_signal(signal.SIGCONT)
        _, said = other_process.communicate("done\n")
    assert other_process.returncode == 1
    assert "TransientError: this process was the only writer at" in said
    assert f"process {os.getpid()} on " in said


def test_what_fails_or_is_interrupted_inside_lets_the_next_one_in(store):
    for error in (KeyboardInterrupt, TransientError("busy"), ValueError):
        with pytest.raises(type(error) if isinstance(error, Exception) else error), only_writer(store, TEAM):
            raise error
        assert document(store).read() == Holders()


@pytest.mark.parametrize("error", [OutcomeUnknownError("no answer"), KeyboardInterrupt()])
def test_a_commit_that_may_land_later_lets_nobody_in_before_the_time_to_live_is_over(store, error):
    with pytest.raises(type(error)), only_writer(store, TEAM) as lease, lease.committing():
        raise error
    assert len(document(store).read().by_destination) == 1
    began = time.monotonic()
    with only_writer(store, TEAM):
        assert time.monotonic() - began >= leases.TIME_TO_LIVE_SECONDS


def test_a_commit_that_did_not_land_lets_the_next_one_in(store):
    with pytest.raises(TransientError), only_writer(store, TEAM) as lease, lease.committing():
        raise TransientError("busy")
    assert document(store).read() == Holders()


def test_the_clock_of_another_machine_is_not_believed(store):
    """A holder whose clock is an hour late is alive all the same, and so is one whose clock is ahead."""
    for wrong in (-timedelta(hours=1), timedelta(hours=1)):
        held_by(store, another(alive_at=datetime.now(UTC) + wrong))
        entered = threading.Event()

        def enter(entered=entered):
            with only_writer(store, TEAM):
                entered.set()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(enter)
            for beat in range(6):
                assert not entered.wait(leases.TIME_TO_LIVE_SECONDS / 4)
                held_by(store, another(alive_at=datetime.now(UTC) + wrong + timedelta(seconds=beat)))
            held_by(store, None)
            waiting.result()


def test_a_lease_that_its_storage_forgot_is_lost(store):
    """A backup of `storage` was restored meanwhile."""
    with only_writer(store, TEAM) as lease:
        held_by(store, None)
        with pytest.raises(TransientError, match="another writer, which is done, took over"):
            lease.check()
        with only_writer(store, TEAM) as next_one:
            next_one.check()


def test_whoever_was_killed_where_nobody_comes_back_is_not_remembered_for_ever(store):
    old = another(alive_at=datetime.now(UTC) - timedelta(days=31))
    document(store).update(lambda _: Holders(by_destination={"elsewhere": old, "there": another()}))
    with only_writer(store, TEAM):
        assert document(store).read().by_destination.keys() == {"there", f"{store.address}/{TEAM}"}


def test_a_storage_that_cannot_tell_does_not_say_that_the_lease_is_ours(store, caplog):
    storage = store.pipeline_storage
    with only_writer(store, TEAM) as lease:
        lease._holders = VersionedDocument(  # out of reach from here on
            FaultyConnector(storage, dict.fromkeys(range(1000), fails)), "writers", Holders, Holders
        )
        assert "is not known: conn: the store is busy" in str(lease.loss())
        with pytest.raises(TransientError, match="the store is busy"):
            lease.check()
    assert "since this one could not tell that it is done: conn: the store is busy" in caplog.text
