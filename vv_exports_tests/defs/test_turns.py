"""Discovery sensors of many indexes list a few at a time, and not all in one moment."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import dagster as dg
import pytest

from vv_exports.defs import turns
from vv_exports.defs.turns import AT_ONCE, Turns, seconds_between
from vv_exports_tests.deployments import CONFIG, client_of, with_parts


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def sleep(self, seconds):
        self.now += seconds


class CountingSource:
    """Counts the listings that are under way at once."""

    def __init__(self, source):
        self._source = source
        self._lock = Lock()
        self.under_way = 0
        self.most = 0
        self.listed = []

    def __getattr__(self, name):
        return getattr(self._source, name)

    def each_run(self, index_id):
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.listed.append(index_id)
        time.sleep(0.005)
        with self._lock:
            self.under_way -= 1
        return iter(())


def deployment(folder, indexes):
    """A client whose source counts, with this many indexes."""
    config = copy.deepcopy(CONFIG)
    config["indexes"] = {f"idx_{number}": {"automations": {}} for number in range(indexes)}
    client = client_of(folder, config)
    with_parts(client.pipeline, source=CountingSource(client.pipeline.source))
    return client


def tick(client, index_id):
    """One tick of an index's discovery sensor."""
    context = dg.build_sensor_context(instance=client.instance, definitions=client.definitions)
    return client.definitions.resolve_sensor_def(f"{index_id}__discovery")(context)


def test_sensors_that_are_due_in_one_moment_list_a_few_indexes_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_LONGEST_WAIT_SECONDS", 0.0)
    client = deployment(tmp_path, 12)
    indexes = list(client.pipeline.config.indexes)
    assert client.definitions
    begin = Barrier(len(indexes))

    def at_once(index_id):
        begin.wait()
        return tick(client, index_id)

    with ThreadPoolExecutor(len(indexes)) as pool:
        said = [result.skip_reason.skip_message for result in pool.map(at_once, indexes)]
    assert said == ["0 new of 0 finished prompt runs; 0 in all."] * len(indexes)
    assert sorted(client.pipeline.source.listed) == sorted(indexes)
    assert client.pipeline.source.most <= AT_ONCE


def test_one_that_does_not_get_its_turn_says_so_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.05)
    client = deployment(tmp_path, 1 + AT_ONCE)
    source, go_on, begun = client.pipeline.source, Event(), Barrier(1 + AT_ONCE)
    plainly = source.each_run

    def slowly(index_id):
        begun.wait()
        go_on.wait()
        return plainly(index_id)

    source.each_run = slowly
    with ThreadPoolExecutor(AT_ONCE) as pool:
        slow = [pool.submit(tick, client, f"idx_{number}") for number in range(AT_ONCE)]
        begun.wait()
        skipped = tick(client, f"idx_{AT_ONCE}")
        go_on.set()
        assert all(one.result().skip_reason.skip_message.startswith("0 new") for one in slow)
    assert skipped.skip_message == "2 other indexes are being listed; the next tick tries again."
    source.each_run = plainly
    assert tick(client, f"idx_{AT_ONCE}").skip_reason.skip_message.startswith("0 new")


def test_two_hundred_indexes_do_not_begin_in_the_same_second():
    clock = Clock()
    waiting = Turns(seconds_between([30] * 200), clock=lambda: clock.now, sleep=clock.sleep)
    begun = []
    for _ in range(200):
        with waiting.turn() as is_its_turn:
            assert is_its_turn
            begun.append(clock.now)
    assert max(sum(start <= moment < start + 1 for moment in begun) for start in begun) <= 14
    assert begun[-1] - begun[0] <= 15, "all have their turn within half of their interval"


@pytest.mark.parametrize("indexes", [1, 10])
def test_a_small_deployment_is_looked_at_within_a_second(indexes):
    clock = Clock()
    waiting = Turns(seconds_between([30] * indexes), clock=lambda: clock.now, sleep=clock.sleep)
    for _ in range(indexes):
        with waiting.turn():
            pass
    assert clock.now - 1000 <= 1


def test_a_listing_that_fails_gives_its_turn_back():
    waiting = Turns(0.0)
    for _ in range(3 * AT_ONCE):
        with pytest.raises(ValueError, match="no"), waiting.turn():
            raise ValueError("no")
    with waiting.turn() as is_its_turn:
        assert is_its_turn
