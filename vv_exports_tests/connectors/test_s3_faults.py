"""What becomes of uploads, commits and whole deliveries where the network between us and an S3 store fails."""

import hashlib
import os
import random
import re
import time
import uuid
from dataclasses import replace
from types import SimpleNamespace

import pytest
import stamina

from vv_exports.connectors import object_store, s3
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.verify import damaged_files
from vv_exports.errors import OutcomeUnknownError, RunFailedError, TransientError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.fakes.tcp_proxy import TcpProxy
from vv_exports_tests.stores import s3_connector

ALWAYS = float("inf")
MEBIBYTE = 2**20
LARGE = 33 * MEBIBYTE
"""Three parts."""
A_PART = "^PUT .*partNumber="
COMPLETION = r"^POST .*\?uploadId="
LOG_ENTRY = "^PUT .*/_vv/log/"
DATA_FILE = "^PUT .*/segments/"


@pytest.fixture(scope="module")
def server(servers):
    return servers.seaweedfs


@pytest.fixture(scope="module")
def running_proxy(server):
    with TcpProxy(server.endpoint_url) as one:
        yield one


@pytest.fixture
def proxy(running_proxy):
    running_proxy.clear()
    return running_proxy


@pytest.fixture
def base():
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def clients(server, running_proxy):
    """One client of the store itself and one that goes through the proxy: making one takes longer than most tests."""
    return s3_connector(server), s3_connector(replace(server, endpoint_url=running_proxy.url))


def with_client_of(other, base):
    made = s3_connector(SimpleNamespace(endpoint_url=other.endpoint_url, access_key="x", secret_key="x"), base)
    made._file_systems[os.getpid()] = other.file_system()
    made._refuses_taken_names = True  # as was found out before anything went wrong
    return made


@pytest.fixture
def direct(clients, base):
    """Somebody whose requests do not go through the proxy."""
    return with_client_of(clients[0], base)


@pytest.fixture
def connector(clients, proxy, base):
    return with_client_of(clients[1], base)


@pytest.fixture
def without_waits():
    """What is tried again is tried again at once, and as often as ever."""
    stamina.set_testing(True, attempts=object_store._ATTEMPTS, cap=True)
    yield
    stamina.set_testing(False)


def large_file(folder, size, seed=0):
    path = folder / f"large-{seed}"
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def sha256_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_in(store, key):
    with store.open(key) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Uploads


@pytest.mark.usefixtures("without_waits")
def test_an_upload_of_a_hundred_megabytes_survives_a_cut_in_the_middle_of_a_part(connector, direct, proxy, tmp_path):
    path = large_file(tmp_path, 100 * 10**6)
    cut = proxy.fault("cut", A_PART, after=40 * 10**6, over="all")
    connector.put(path, "a/large.bin", sha256=sha256_of(path))
    assert cut.hit.is_set()
    assert [(one.key, one.size) for one in direct.files("")] == [("a/large.bin", 100 * 10**6)]
    assert sha256_in(direct, "a/large.bin") == sha256_of(path)
    assert direct.unfinished("") == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = large_file(tmp_path_factory.mktemp("large"), LARGE, seed=1)
    return SimpleNamespace(path=path, sha256=sha256_of(path))


CUTS = [
    (seed, random.Random(seed).randrange(100_000, LARGE), times)
    for seed, times in enumerate([1] * 7 + [2, 3, 4, 5, 6, 7, 9] + [ALWAYS] * 6)
]


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize(("seed", "offset", "times"), CUTS, ids=[f"{times}-at-{offset}" for _, offset, times in CUTS])
def test_an_upload_that_is_cut_is_whole_or_not_there(  # noqa: PLR0917 - fixtures
    connector, direct, proxy, large, seed, offset, times
):
    proxy.fault("cut", after=offset, over="all", times=times)
    key = f"a/{seed}.bin"
    failed = None
    try:
        connector.put(large.path, key, sha256=large.sha256)
    except TransientError as error:
        failed = str(error)
    assert proxy.struck, "the connection was cut"
    if failed is None:
        assert [(one.key, one.size) for one in direct.files("")] == [(key, LARGE)]
        assert sha256_in(direct, key) == large.sha256
    else:
        assert failed.startswith(f"conn: could not write {connector.uri(key)}: ")
        assert direct.files("") == []
    if times == ALWAYS:
        assert failed is not None
        # The abort could not get through either. What is left costs storage, and is found and given back later.
        proxy.heal()
        (left,) = connector.unfinished("a")
        assert left.key == key
        connector.discard([left])
        assert connector.unfinished("a") == []
        assert direct.files("") == []
    if times == 1:
        assert failed is None, "one cut is tried again"


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_upload_whose_completion_is_not_heard_of_has_succeeded(connector, direct, proxy, large, times):
    lost = proxy.fault("lost", COMPLETION, times=times)
    connector.put(large.path, "a/large.bin", sha256=large.sha256)
    assert lost.times == 0
    assert sha256_in(direct, "a/large.bin") == large.sha256
    assert direct.unfinished("") == []


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("times", [1, 2])
def test_an_upload_whose_beginning_is_not_heard_of_leaves_nothing_that_is_not_found(
    connector, direct, proxy, large, times
):
    proxy.fault("lost", r"^POST .*\?uploads", times=times)
    connector.put(large.path, "a/large.bin", sha256=large.sha256)
    assert sha256_in(direct, "a/large.bin") == large.sha256
    left = direct.unfinished("")
    assert [one.key for one in left] == ["a/large.bin"] * times
    direct.discard(left)
    assert sha256_in(direct, "a/large.bin") == large.sha256
    assert direct.unfinished("") == []


# Commits


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("times", [1, 2, 3, ALWAYS])
def test_a_creation_whose_answers_are_lost_has_succeeded_where_our_content_is_there(connector, direct, proxy, times):
    lost = proxy.fault("lost", "^PUT", times=times)
    assert connector.create("a/entry.json", b"ours") is True
    assert lost.hit.is_set()
    assert direct.read("a/entry.json") == b"ours"


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("times", [1, 2, 3, ALWAYS])
def test_a_creation_whose_answers_are_lost_has_failed_where_the_content_of_others_is_there(
    connector, direct, proxy, times
):
    assert direct.create("a/entry.json", b"theirs")
    proxy.fault("lost", "^PUT", times=times)
    assert connector.create("a/entry.json", b"ours") is False
    assert direct.read("a/entry.json") == b"theirs"


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_a_creation_whose_answer_is_lost_may_have_landed_where_the_store_is_out_of_reach_since(
    connector, direct, proxy, kept
):
    if not kept:
        proxy.heal()  # which cuts the connections that there are
    proxy.fault("lost", "^PUT", dies_with_it=True)
    with pytest.raises(OutcomeUnknownError, match=r"^conn: .*a/entry\.json may be written or not\. Look whether"):
        connector.create("a/entry.json", b"ours")
    assert direct.read("a/entry.json") == b"ours"


@pytest.mark.usefixtures("without_waits")
def test_a_creation_that_was_cut_on_its_way_may_have_landed_for_all_we_know(connector, direct, proxy):
    """Nobody can tell a request that was lost from an answer that was. What is certain is said where it is read."""
    proxy.fault("cut", "^PUT", after=1000, times=ALWAYS, dies_with_it=True)
    with pytest.raises(OutcomeUnknownError):
        connector.create("a/entry.json", b"x" * 10_000)
    assert direct.read("a/entry.json") is None


@pytest.mark.usefixtures("without_waits")
def test_a_creation_that_never_reached_the_store_did_not_land(connector, direct, proxy):
    proxy.refuse()
    with pytest.raises(
        TransientError, match=r"^conn: could not create .*/a/entry\.json.* out of reach: look at endpoint_url"
    ):
        connector.create("a/entry.json", b"ours")
    proxy.heal()
    assert direct.files("") == []
    assert connector.create("a/entry.json", b"ours")


# A busy store


WORK = {
    "create": lambda store, path: store.create("a/new", b"x"),
    "put": lambda store, path: store.put(path, "a/large.bin"),
    "read": lambda store, path: store.read("a/there"),
    "open": lambda store, path: store.open("a/there").close(),
    "files": lambda store, path: store.files("a"),
    "delete": lambda store, path: store.delete(["a/other"]),
}


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("work", WORK)
def test_a_store_that_is_busy_twice_is_asked_again(connector, direct, proxy, large, work):
    direct.create("a/there", b"there")
    busy = proxy.fault("busy", times=2)
    WORK[work](connector, large.path)
    assert busy.times == 0
    if work == "put":
        assert sha256_in(direct, "a/large.bin") == large.sha256


@pytest.mark.parametrize("work", ["create", "put", "files"])
def test_a_store_that_stays_busy_is_given_up_soon(connector, direct, proxy, large, work):
    direct.create("a/there", b"there")
    proxy.fault("busy", times=ALWAYS)
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"^conn: could not \w+ s3://bucket/.*SlowDown.*is busy: try again later"):
        WORK[work](connector, large.path)
    assert time.monotonic() - began < 20
    assert len(proxy.struck) <= object_store._ATTEMPTS + 1, "a few attempts, and the abort of an upload"
    assert [one.key for one in direct.files("")] == ["a/there"]


@pytest.mark.usefixtures("without_waits")
def test_parts_that_stay_refused_take_the_upload_with_them(connector, direct, proxy, large):
    proxy.fault("busy", A_PART, times=ALWAYS)
    with pytest.raises(TransientError, match="SlowDown"):
        connector.put(large.path, "a/large.bin")
    assert direct.files("") == []
    assert direct.unfinished("") == []


def test_attempts_end_after_a_minute_however_many_there_are(connector, proxy, monkeypatch):
    assert object_store._RETRYING_SECONDS <= 60
    assert object_store._ATTEMPTS <= 5
    monkeypatch.setattr(object_store, "_ATTEMPTS", 10**6)
    monkeypatch.setattr(object_store, "_RETRYING_SECONDS", 1)
    proxy.fault("busy", times=ALWAYS)
    began = time.monotonic()
    with pytest.raises(TransientError, match="is busy"):
        connector.read("a")
    assert time.monotonic() - began < 1 + 5 + 1, "the time, the longest wait, and some for a slow machine"


# A peer that goes silent


@pytest.fixture
def impatient(monkeypatch):
    for module in (object_store, s3):
        monkeypatch.setattr(module, "READ_SECONDS", 0.5)
        monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(object_store, "_ATTEMPTS", 2)
    monkeypatch.setattr(object_store, "_SLOWEST_BYTES_PER_SECOND", 16 * MEBIBYTE)  # a second for a part


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("after", [0, 20 * MEBIBYTE])
def test_a_peer_that_goes_silent_is_given_up_in_time(  # noqa: PLR0917 - fixtures
    server, direct, proxy, base, large, after
):
    connector = s3_connector(replace(server, endpoint_url=proxy.url), base)
    silent = proxy.fault("silent", after=after, over="all", times=ALWAYS)
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"^conn: could not write .*did not answer in time: try again later"):
        connector.put(large.path, "a/large.bin")
    assert silent.hit.is_set()
    # Creating, a part and the abort: each attempt is limited by itself.
    assert time.monotonic() - began < 20
    proxy.heal()
    assert direct.files("") == []


@pytest.mark.usefixtures("impatient")
def test_a_creation_that_nobody_answers_may_have_landed(server, direct, proxy, base):
    connector = s3_connector(replace(server, endpoint_url=proxy.url), base)
    assert connector.decides_among_writers()
    proxy.fault("silent", times=ALWAYS)
    with pytest.raises(OutcomeUnknownError, match="may be written or not"):
        connector.create("a/entry.json", b"ours")
    proxy.heal()
    assert direct.read("a/entry.json") is None


def test_a_slow_store_is_no_fault(connector, direct, proxy, large):
    proxy.latency = 0.2
    connector.put(large.path, "a/large.bin", sha256=large.sha256)
    assert connector.create("a/new", b"x")
    proxy.heal()
    assert proxy.struck == []
    assert sha256_in(direct, "a/large.bin") == large.sha256


# Whole deliveries


class Deployed:
    """An automation whose connector goes through the proxy, and its archive, of which it has delivered everything."""

    def __init__(self, client, archive):
        self.client = client
        self.archive = archive
        self.segments = {}

    def write(self, run_id, segments):
        self.segments[run_id] = segments
        executed_at = f"2026-10-{len(self.segments):02}T00:00:00Z"
        write_run(self.archive, run_id=run_id, executed_at=executed_at, segments=segments)

    def run(self):
        return self.client.automations.run("idx", "team").delivered


@pytest.fixture(scope="module")
def deployed(server, running_proxy, tmp_path_factory):
    place = {
        "provider": "s3",
        "bucket": "bucket",
        "region": "us-east-1",
        "endpoint_url": running_proxy.url,
        "path_style": True,
        "access_key_id_env": "VV_TEST_KEY",
        "secret_access_key_env": "VV_TEST_SECRET",
        "export_base_path": "deliveries",
        "scopes": ["export"],
    }
    folder = tmp_path_factory.mktemp("deployment")
    running_proxy.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VV_TEST_KEY", server.access_key)
        patched.setenv("VV_TEST_SECRET", server.secret_key)
        archive = folder / "archive"
        one = Deployed(client_of(folder, {**CONFIG, "connectors": {"conn_export": place}}), archive)
        one.write("run_0", 3)
        assert one.run() == ("run_0",)
        yield one


def seen(reader):
    """What a reader of the log sees: segments by run, of which every file is there as the log says."""
    state = read_log(Destination(reader, "exports/team"))
    assert damaged_files(Destination(reader, "exports/team"), state.files) == {}
    return {
        run_id: sum(file.rows for file in run.files if file.table == "segments") for run_id, run in state.runs.items()
    }


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize(
    ("kind", "on", "options", "landed"),
    [
        ("cut", DATA_FILE, {"after": 700}, ("run_0", "new")),
        ("cut", DATA_FILE, {"after": 700, "times": ALWAYS}, ()),
        ("cut", A_PART, {"after": 5000, "times": ALWAYS}, ()),
        ("cut", LOG_ENTRY, {"after": 700}, ("run_0", "new")),
        ("cut", LOG_ENTRY, {"after": 700, "times": ALWAYS}, ()),
        ("cut", LOG_ENTRY, {"after": 700, "times": ALWAYS, "dies_with_it": True}, ()),
        ("lost", LOG_ENTRY, {}, ("run_0", "new")),
        ("lost", LOG_ENTRY, {"times": ALWAYS}, ("run_0", "new")),
        ("lost", LOG_ENTRY, {"dies_with_it": True}, ("run_0",)),
        ("lost", "^POST .*delete", {"times": ALWAYS}, ("run_0", "new")),
        ("busy", LOG_ENTRY, {"times": ALWAYS}, ()),
    ],
)
def test_a_delivery_that_is_cut_off_is_seen_whole_or_not_at_all(  # noqa: PLR0917 - fixtures
    deployed, clients, proxy, monkeypatch, kind, on, options, landed
):
    reader = with_client_of(clients[0], "deliveries")
    deployed.run()  # what an earlier test has left undone
    before, entries_before = dict(deployed.segments), len(entries_since(Destination(reader, "exports/team"), 0))
    assert seen(reader) == before
    new = f"run_{len(before)}"
    # Another content of a run that is there, and one more run.
    deployed.write("run_0", before["run_0"] + 1)
    deployed.write(new, 2000)
    if on == A_PART:
        monkeypatch.setattr(object_store, "WHOLE_BYTES", 5000)  # so that data files are uploaded in parts
    fault = proxy.fault(kind, on, **options)
    first, failed = (), ""
    try:
        first = deployed.run()
    except RunFailedError as error:
        failed = str(error)
    assert first or re.search(r"conn_export: could not \w+ s3://bucket/", failed)
    assert fault.hit.is_set()
    # Each run is delivered by itself: the state after one of them is a state, and what is between is none.
    landed = {new if one == "new" else one for one in landed}
    assert seen(reader) == before | {one: deployed.segments[one] for one in landed}
    proxy.heal()
    second = deployed.run()
    assert not set(first) & set(second)
    assert seen(reader) == deployed.segments
    state = read_log(Destination(reader, "exports/team"))
    entries = entries_since(Destination(reader, "exports/team"), entries_before)
    committed_now = [run.run_id for entry in entries for run in entry.prompt_runs]
    assert sorted(committed_now) == ["run_0", new], "each of them once"
    there = {file.key for file in reader.files("exports/team") if "/_vv/" not in file.key}
    assert there == {f"exports/team/{file.path}" for file in state.files}, "what was superseded and left over is gone"
