"""Processes that ask one server keep to the limits together, whatever becomes of one of them."""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.errors import TransientError
from vv_exports.sources import process_share
from vv_exports.sources.request_budget import NOTHING, Limits, RequestBudget
from vv_exports.sources.shared_budget import SharedBudget
from vv_exports.sources.shares import Share, Shares

pytestmark = pytest.mark.slow

RATE = 200.0
TIMES = {
    "TIME_TO_LIVE_SECONDS": 1.0,
    "_SECONDS_OF_EACH": 0.0,
    "_LOOK_SECONDS": 0.1,
    "_LOOK_ALONE_SECONDS": 0.1,
    "_LOOK_SHORT_SECONDS": 0.05,
    "_IDLE_SECONDS": 0.3,
    "_PLACES_FOR_SECONDS": 0.2,
}


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    for name, seconds in TIMES.items():
        monkeypatch.setattr(process_share, name, seconds)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Switched:
    """A storage, and whether it is out of reach."""

    def __init__(self, storage: Connector) -> None:
        self.storage, self.is_out_of_reach, self.asked = storage, False, []

    def __getattr__(self, name):
        found = getattr(self.storage, name)
        if not callable(found) or name == "uri":
            return found

        def call(*given, **named):
            self.asked.append(name)
            if self.is_out_of_reach:
                raise TransientError("the storage is out of reach")
            return found(*given, **named)

        return call


class Process:
    """What one process has of its own, in a thread of this one."""

    def __init__(self, loop, folder: Path, limits: Limits) -> None:
        self.loop = loop
        self.storage = Switched(LocalConnector("storage", folder, make_root=True))
        self.budget = RequestBudget(limits, NOTHING)
        self.shared = SharedBudget(self.budget, lambda: document(self.storage), "http://server")
        self.begun: list[float] = []
        self._asking: list = []

    def asks(self, at_once=8, seconds=0.005) -> "Process":
        """Ask without end."""

        async def ask():
            while True:
                async with self.budget.request():
                    self.begun.append(time.monotonic())
                    await asyncio.sleep(seconds)

        self._asking += [asyncio.run_coroutine_threadsafe(ask(), self.loop) for _ in range(at_once)]
        return self

    def stops(self) -> None:
        for one in self._asking:
            one.cancel()
        self._asking.clear()

    def error(self) -> BaseException:
        return self._asking[0].exception(timeout=5)

    def pause(self, seconds) -> None:
        self.loop.call_soon_threadsafe(self.budget.pause, seconds)

    def rate(self, since: float) -> float:
        return (len(self.begun) - bisect_left(self.begun, since)) / (time.monotonic() - since)


def document(storage) -> VersionedDocument[Shares]:
    return VersionedDocument(storage, "requests", Shares, Shares)


@pytest.fixture
def process(loop, tmp_path) -> Iterator[Callable[..., Process]]:
    """Another process, with the same storage."""
    made: list[Process] = []

    def make(places=8, per_second: float | None = RATE) -> Process:
        made.append(Process(loop, tmp_path / "storage", Limits(places, per_second)))
        return made[-1]

    yield make
    for one in made:
        one.stops()
        one.storage.is_out_of_reach = False
        one.shared.leave()


@pytest.fixture
def shares(tmp_path) -> Callable[[], dict[str, Share]]:
    there = document(LocalConnector("storage", tmp_path / "storage", make_root=True))
    return lambda: there.read().by_token


def until(holds: Callable[[], object], seconds=10.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_one_that_asks_alone_has_all_and_looks_with_one_request(process, shares):
    one = process().asks()
    until(lambda: len(one.begun) > 10)
    (share,) = shares().values()
    assert share.has == Limits(8, RATE)
    before, began = len(one.storage.asked), time.monotonic()
    time.sleep(0.7)
    asked = one.storage.asked[before:]
    assert set(asked) == {"files"}
    assert len(asked) <= (time.monotonic() - began) / (0.9 * TIMES["_LOOK_ALONE_SECONDS"]) + 1
    assert one.rate(began) > 0.85 * RATE


def test_three_together_keep_to_the_limits_and_use_them(process, shares):
    three = [process().asks() for _ in range(3)]
    until(lambda: [one.has.rate > RATE / 4 for one in shares().values()] == [True] * 3)
    began = time.monotonic()
    time.sleep(1.5)
    assert 0.8 * RATE < sum(one.rate(began) for one in three) < 1.1 * RATE
    assert all(one.rate(began) > 0.2 * RATE for one in three)
    begun = sorted(moment for one in three for moment in one.begun)
    for first, moment in enumerate(begun):
        assert bisect_left(begun, moment + 1) - first <= 1.2 * RATE + 3
    assert sum(one.has.places for one in shares().values()) <= 8


def test_who_wants_little_leaves_the_rest_to_others(process, shares):
    much, little = process().asks(), process().asks(at_once=1, seconds=0.1)
    until(lambda: much.rate(time.monotonic() - 0.5) > 0.75 * RATE and len(shares()) == 2)
    assert little.rate(time.monotonic() - 0.5) > 5
    assert min(one.has.rate for one in shares().values()) >= 10


def test_a_newcomer_has_its_share_soon_and_leaves_it_when_it_has_nothing_to_ask(process, shares):
    one = process().asks()
    until(lambda: one.begun)
    other = process().asks()
    assert until(lambda: len(shares()) == 2 and all(one.has.rate > RATE / 3 for one in shares().values())) < 3
    other.stops()
    until(lambda: [one.has for one in shares().values()] == [Limits(8, RATE)])
    other.asks()
    until(lambda: len(shares()) == 2)


def test_one_that_cannot_be_seen_to_live_stops_before_others_take_its_share(process, shares):
    lost, other = process().asks(), process().asks()
    until(lambda: len(shares()) == 2 and all(one.has.rate > RATE / 3 for one in shares().values()))
    lost.storage.is_out_of_reach = True
    assert isinstance(lost.error(), TransientError)
    assert "http://server is asked by all processes" in str(lost.error())
    assert "the storage is out of reach" in str(lost.error())
    until(lambda: [one.has for one in shares().values()] == [Limits(8, RATE)])
    assert lost.begun[-1] < time.monotonic()
    taken_over = time.monotonic()
    time.sleep(0.3)
    assert lost.begun[-1] < taken_over
    assert other.rate(taken_over) > 0.8 * RATE
    lost.storage.is_out_of_reach = False
    lost.stops()
    lost.asks()
    until(lambda: len(shares()) == 2)


def test_a_killed_process_of_this_machine_is_not_waited_for_nor_one_of_long_ago(process, shares, tmp_path):
    there = document(LocalConnector("storage", tmp_path / "storage", make_root=True))
    dead = Share(
        host="here",
        process_id=2**22 + 1,
        among=process_share._processes(),
        alive=3,
        turn=0,
        alive_at=datetime.now(UTC),
        time_to_live=3600.0,
        pause_left=0.0,
        **dict.fromkeys(("limits", "wants", "has"), Limits(8, RATE)),
    )
    long_ago = msgspec.structs.replace(dead, among="another", alive_at=datetime.now(UTC) - timedelta(hours=1))
    for one in (dead, long_ago):
        there.update(lambda _, one=one: Shares(by_token={"killed": one}))
        other = process().asks()
        assert until(lambda other=other: other.begun) < 2
        assert "killed" not in shares()
        other.stops()
        other.shared.leave()


def test_one_that_finds_no_storage_asks_a_little_until_it_does(process, shares, caplog):
    one = process()
    one.storage.is_out_of_reach = True
    one.asks()
    until(lambda: one.begun)
    assert "this process asks little: the storage is out of reach" in caplog.text
    began = time.monotonic()
    time.sleep(0.5)
    assert 0 < one.rate(began) < RATE / 6
    one.storage.is_out_of_reach = False
    until(lambda: [one.has for one in shares().values()] == [Limits(8, RATE)])
    until(lambda: one.rate(time.monotonic() - 0.3) > 0.8 * RATE)


def test_one_that_others_took_for_dead_comes_anew(process, shares, tmp_path, caplog):
    one = process().asks()
    until(lambda: one.begun)
    before = set(shares())
    document(LocalConnector("storage", tmp_path / "storage")).update(lambda _: Shares())
    until(lambda: shares() and not before & set(shares()))
    assert "took this one for dead" in caplog.text
    now = time.monotonic()
    until(lambda: one.begun[-1] > now)


def test_a_pause_that_the_server_asks_for_is_told_to_the_others(process, shares):
    two = [process().asks(), process().asks()]
    until(lambda: len(shares()) == 2 and all(one.begun for one in two))
    two[0].pause(1.5)
    time.sleep(0.5)
    told = time.monotonic()
    time.sleep(0.7)
    assert [one.rate(told) for one in two] == [0, 0]
    until(lambda: all(one.begun[-1] > told for one in two))


def test_where_there_are_fewer_places_than_processes_each_has_its_turn(process):
    three = [process(1, None).asks(at_once=2) for _ in range(3)]
    until(lambda: all(one.begun for one in three))
    first = [len(one.begun) for one in three]
    until(lambda: all(len(one.begun) > before for one, before in zip(three, first, strict=True)))


def test_a_storage_in_which_processes_cannot_agree_leaves_each_its_limits_and_says_so(loop, caplog):
    budget = RequestBudget(Limits(2, None), NOTHING)
    shared = SharedBudget(budget, lambda: None, "http://server")

    async def ask():
        async with budget.request():
            return "asked"

    assert asyncio.run_coroutine_threadsafe(ask(), loop).result(5) == "asked"
    assert "each process keeps to the limits by itself" in caplog.text
    shared.leave()
