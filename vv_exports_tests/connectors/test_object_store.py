"""What all object stores have in common: retries, time limits, unknown outcomes, stores that decide nothing."""

import asyncio
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.connectors import object_store
from vv_exports.connectors.diagnosis import Cause
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.object_store import part_size
from vv_exports.errors import (
    CredentialsError,
    DeliveredDataError,
    ForbiddenError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
)
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore, began, lost

MEBIBYTE = 2**20
PASSING = [Cause.THROTTLED, Cause.UNREACHABLE, Cause.INTERRUPTED, Cause.TIMEOUT]


@pytest.fixture(autouse=True)
def no_waiting():
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def connector(memory):
    return MemoryStore(memory)


@given(st.integers(1, 50 * 2**40))
def test_a_file_never_has_more_parts_than_the_store_takes(size):
    length = part_size(size, most_parts=10_000)
    assert -(-size // length) <= 10_000
    assert length % MEBIBYTE == 0
    assert length >= 16 * MEBIBYTE
    assert length <= max(16 * MEBIBYTE, size // 10_000 + 2 * MEBIBYTE), "no larger than it must be"


@pytest.mark.parametrize("cause", PASSING)
def test_what_may_pass_is_tried_again_and_not_for_ever(connector, memory, cause):
    memory.faults = [cause, cause]
    assert connector.read("a") is None
    assert len(memory.requests) == 3
    memory.requests.clear()
    memory.faults = [cause] * 100
    with pytest.raises(TransientError, match=rf"conn: could not read memory://bucket/base/a: {cause.name}.*try again"):
        connector.read("a")
    assert len(memory.requests) == 4


@pytest.mark.parametrize(
    ("cause", "kind", "advice"),
    [
        (Cause.CREDENTIALS, CredentialsError, "The credentials come from nowhere: put valid credentials there."),
        (Cause.FORBIDDEN, ForbiddenError, "These credentials may not do this: extend their policy"),
        (Cause.NO_BUCKET, RequestError, "There is no bucket 'bucket': create it, or mend its name"),
        (Cause.REFUSED, RequestError, "Mend the connector's configuration or its policy."),
        (Cause.TAKEN, RequestError, "Look who else writes there."),
    ],
)
def test_what_does_not_pass_is_told_at_once(connector, memory, cause, kind, advice):
    memory.faults = [cause]
    with pytest.raises(kind) as caught:
        connector.files("a")
    assert str(caught.value).startswith(f"conn: could not list memory://bucket/base/a: {cause.name}: the store says")
    assert advice in str(caught.value)
    assert len(memory.requests) == 1


def test_retries_are_told_to_the_log_alone(connector, memory, capsys, caplog):
    """`--json` prints one document on stdout."""
    memory.faults = [Cause.THROTTLED]
    with caplog.at_level("INFO"):
        connector.read("a")
    assert capsys.readouterr() == ("", "")
    assert "conn: THROTTLED the store says THROTTLED" in caplog.text


def test_a_request_that_takes_too_long_is_given_up(connector, memory, monkeypatch):
    monkeypatch.setattr(object_store, "READ_SECONDS", 0.05)
    monkeypatch.setattr(object_store, "CONNECT_SECONDS", 0)

    async def silent(prefix):
        await asyncio.sleep(60)

    connector.uploads_under_way = silent
    with pytest.raises(TransientError, match="did not answer in time"):
        connector.unfinished("a")


# Whether a creation has landed


def test_a_creation_whose_answer_was_lost_is_found_out_by_reading(connector, memory):
    memory.faults = [lost()]
    assert connector.create("a", b"ours"), "the second attempt is refused, since the first one has landed"
    memory.faults = [lost()] * 4
    assert connector.create("b", b"ours"), "no attempt is answered, and all of them have landed"


def test_a_creation_that_lost_to_another_writer_says_so_whatever_became_of_its_answers(connector, memory):
    memory.objects["base/a"] = b"theirs"
    assert not connector.create("a", b"ours")
    memory.faults = [Cause.INTERRUPTED]
    assert not connector.create("a", b"ours")
    memory.faults = [Cause.INTERRUPTED] * 4
    assert not connector.create("a", b"ours"), "what is there is theirs"


def test_a_creation_that_may_land_later_is_of_unknown_outcome(connector, memory):
    memory.faults = [Cause.TIMEOUT] * 4
    with pytest.raises(OutcomeUnknownError, match=r"memory://bucket/base/a may be written or not"):
        connector.create("a", b"ours")
    memory.faults = [Cause.TIMEOUT] * 8
    with pytest.raises(OutcomeUnknownError):
        connector.create("a", b"ours")


@pytest.mark.parametrize("cause", [Cause.UNREACHABLE, Cause.THROTTLED])
def test_a_creation_that_never_reached_the_store_did_not_land(connector, memory, cause):
    memory.faults = [cause] * 4
    with pytest.raises(TransientError):
        connector.create("a", b"ours")
    assert len(memory.requests) == 4, "there is nothing to look up"


# Stores that decide nothing


def test_a_store_behind_another_endpoint_is_tried_once_and_that_is_remembered(tmp_path):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    for memory, refuses in ((Memory(), True), (Memory(refuses_taken_names=False), False)):
        address = f"http://{refuses}"
        first = MemoryStore(memory, endpoint_url=address)
        first.remember_in(storage)
        assert first.decides_among_writers() is refuses
        assert memory.objects == {}, "nothing is left of the trial"
        count = len(memory.requests)
        second = MemoryStore(memory, endpoint_url=address)
        second.remember_in(storage)
        assert second.decides_among_writers() is refuses
        assert first.decides_among_writers() is refuses
        assert len(memory.requests) == count


def test_what_an_earlier_trial_left_proves_nothing(memory):
    for refuses in (False, True):
        memory = Memory(refuses_taken_names=refuses)
        memory.objects["base/.vv_exports_trial/taken-name"] = b"of a trial that was killed"
        memory.faults = [lost()] * 4  # so that what is there is looked up
        assert MemoryStore(memory, endpoint_url="http://a").decides_among_writers() is refuses


def test_a_single_writer_leaves_alone_what_came_meanwhile(memory):
    """The server was upgraded, and others no longer wait for us."""
    memory.refuses_taken_names = False
    connector = MemoryStore(memory, endpoint_url="http://a")
    assert not connector.decides_among_writers()
    memory.refuses_taken_names = True
    theirs = lambda: memory.objects.__setitem__("base/a", b"theirs")  # noqa: E731
    memory.faults = [None, theirs]
    assert not connector.create("a", b"ours")
    assert memory.objects["base/a"] == b"theirs"


def test_a_trial_anew_replaces_what_was_remembered(tmp_path):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    memory = Memory(refuses_taken_names=False)
    connector = MemoryStore(memory, endpoint_url="http://a")
    connector.remember_in(storage)
    assert not connector.decides_among_writers()
    memory.refuses_taken_names = True  # the server was upgraded
    assert not connector.decides_among_writers()
    assert connector.try_taken_name()
    again = MemoryStore(memory, endpoint_url="http://a")
    again.remember_in(storage)
    assert again.decides_among_writers()


@pytest.mark.parametrize("content", ["", "{", "null", "{}"])
def test_a_store_is_tried_again_where_what_was_remembered_is_damaged(tmp_path, content):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    for _ in range(2):
        connector = MemoryStore(Memory(refuses_taken_names=False), endpoint_url="http://a")
        connector.remember_in(storage)
        assert not connector.decides_among_writers()
        (remembered,) = (tmp_path / "stores").iterdir()
        remembered.write_text(content)


def test_the_provider_itself_is_not_tried(connector, memory):
    assert connector.decides_among_writers()
    assert memory.requests == []


def test_where_the_store_does_not_decide_a_name_that_is_taken_is_refused_all_the_same():
    connector = MemoryStore(Memory(refuses_taken_names=False), endpoint_url="http://a")
    assert connector.create("a", b"first")
    assert not connector.create("a", b"second")
    assert connector.read("a") == b"first"


def test_a_creation_that_cannot_be_looked_at_afterwards_is_of_unknown_outcome(memory):
    memory.refuses_taken_names = False
    connector = MemoryStore(memory, endpoint_url="http://a")
    assert not connector.decides_among_writers()
    memory.faults = [None, None, *[Cause.UNREACHABLE] * 4]
    with pytest.raises(OutcomeUnknownError, match="base/a was written, and could not be looked at afterwards"):
        connector.create("a", b"ours")
    assert memory.objects["base/a"] == b"ours"


# Files


def test_a_file_is_read_in_ranges_wherever_one_looks(connector, memory):
    content = bytes(n % 251 for n in range(20 * MEBIBYTE + 7))
    memory.objects["base/a"] = content
    expected = io.BytesIO(content)
    with connector.open("a") as file:
        for where, whence, size in [(0, 0, 10), (-10, 2, 20), (9 * MEBIBYTE, 0, MEBIBYTE), (5, 1, 3), (7, 0, 0)]:
            assert file.seek(where, whence) == expected.seek(where, whence)
            assert file.read(size) == expected.read(size)
        expected.seek(3)
        file.seek(3)
        count = len(memory.requests)
        assert file.read() == expected.read()
        assert len(memory.requests) <= count + 2
    memory.objects["base/empty"] = b""
    with connector.open("empty") as file:
        assert file.read() == b""


def test_a_range_that_fails_on_the_way_is_asked_for_again(connector, memory):
    memory.objects["base/a"] = b"x" * 30 * MEBIBYTE
    with connector.open("a") as file:
        memory.faults = [None, Cause.INTERRUPTED, Cause.INTERRUPTED]
        assert len(file.read(10 * MEBIBYTE)) == 10 * MEBIBYTE
        memory.faults = [Cause.INTERRUPTED] * 100
        with pytest.raises(TransientError, match="could not read memory://bucket/base/a"):
            file.read()


def test_parts_are_tried_again_by_themselves_and_few_are_in_memory(connector, memory, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(n % 253 for n in range(256)) * (100 * MEBIBYTE // 256))
    memory.faults = [None, Cause.INTERRUPTED, None, Cause.THROTTLED]
    connector.put(path, "a")
    assert memory.objects["base/a"] == path.read_bytes()
    assert len(memory.requests) == 7 + 2, "seven parts of 16 MiB, two of them twice"
    assert memory.most_under_way <= 4, "64 MiB"
    memory.faults = [Cause.INTERRUPTED] * 100
    with pytest.raises(TransientError):
        connector.put(path, "b")
    assert "base/b" not in memory.objects


def test_files_that_go_up_together_share_the_memory_for_parts(connector, memory, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"x" * 70 * MEBIBYTE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: connector.put(path, name), "abcd"))
    assert memory.most_under_way <= 4
    assert {len(content) for content in memory.objects.values()} == {70 * MEBIBYTE}


# Uploads that nobody completes


def test_a_sweep_aborts_old_uploads_after_an_upload_in_parts_and_asks_nothing_otherwise(connector, memory, tmp_path):
    now = datetime.now(UTC)
    old, live = began("a", "1", now - timedelta(days=2)), began("b", "2", now - timedelta(hours=1))
    memory.uploads = [old, live]
    connector.sweep()
    assert memory.requests == []
    path = tmp_path / "large"
    path.write_bytes(b"x" * 17 * MEBIBYTE)
    connector.put(path, "c")
    connector.sweep()
    assert memory.uploads == [live]
    memory.requests.clear()
    connector.sweep()
    assert memory.requests == []


def test_a_sweep_leaves_alone_what_is_not_of_the_same_folder(connector, memory, tmp_path):
    old = datetime.now(UTC) - timedelta(days=2)
    ours, theirs = began("team/run_1/part", "1", old), began("backups/db.tar", "2", old)
    memory.uploads = [ours, theirs]
    path = tmp_path / "large"
    path.write_bytes(b"x" * 17 * MEBIBYTE)
    connector.put(path, "team/run_1/part")
    connector.sweep()
    assert memory.uploads == [theirs]


def test_a_sweep_aborts_uploads_of_the_same_kind_of_file_alone(connector, memory, tmp_path):
    """Somebody else may upload to a run's folder as well."""
    old = datetime.now(UTC) - timedelta(days=2)
    folder = "team/segments/prompt_id=prm/prompt_run_id=run_1"
    ours = began(f"{folder}/part-00003-0123456789abcdef.parquet", "1", old)
    theirs = [
        began(f"{folder}/{name}", str(number), old)
        for number, name in enumerate(
            ["x.parquet", "copy-of-part-00003-0123456789abcdef.parquet", "part-00003-0123456789abcdef.parquet.bak"], 2
        )
    ]
    memory.uploads = [ours, *theirs]
    path = tmp_path / "large"
    path.write_bytes(b"x" * 17 * MEBIBYTE)
    connector.put(path, f"{folder}/part-00000-fedcba9876543210.parquet")
    connector.sweep()
    assert memory.uploads == theirs


@pytest.mark.parametrize("sparsely", [False, True])
def test_of_an_object_that_is_opened_sparsely_little_is_sent(connector, memory, monkeypatch, sparsely):
    """To tell the size of what a zip file holds, its first 8 MiB were sent."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", bytes(9 * MEBIBYTE))
    memory.objects["base/x.zip"] = packed.getvalue()
    sent = []
    read_range = connector.read_range
    monkeypatch.setattr(connector, "read_range", lambda *what: sent.append(len((r := read_range(*what))[0])) or r)
    with connector.open("x.zip", sparsely=sparsely) as content, zipfile.ZipFile(content) as archive:
        assert [one.file_size for one in archive.infolist()] == [9 * MEBIBYTE]
        assert (sum(sent) < MEBIBYTE // 4) == sparsely
        assert archive.read("a") == bytes(9 * MEBIBYTE)


def test_an_object_that_goes_while_it_is_read_is_told(connector, memory):
    memory.objects["base/a"] = b"x" * 30 * MEBIBYTE
    with connector.open("a") as file:
        memory.objects.clear()
        with pytest.raises(DeliveredDataError, match="memory://bucket/base/a is not there"):
            file.read()


def test_uploads_below_a_folder_are_listed_and_aborted(connector, memory):
    now = datetime.now(UTC)
    memory.uploads = [began("team/a", "1", now), began("team-2/a", "2", now)]
    (upload,) = connector.unfinished("team")
    assert upload.key == "team/a"
    connector.discard([upload])
    assert [one.key for one in memory.uploads] == ["base/team-2/a"]
