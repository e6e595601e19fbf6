"""Processes of a deployment that read at once keep to the configured rate together, as the server sees it."""

import os
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vv_exports.config import load_config
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.sources.identity import identity_of
from vv_exports.sources.shares import Share, Shares
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector
from vv_exports_tests.sources.accounts import KEY_ENV

pytestmark = pytest.mark.slow

RATE, PLACES = 40, 6
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """
source: {{kind: videovector, base_url: "{base_url}", api_key_env: {key}, max_concurrency: {places}, \
max_requests_per_second: {rate}}}
storage: storage
"""


@pytest.fixture
def server() -> Iterator[FakeVideoVector]:
    with FakeVideoVector(make_platform(media=1, runs=1), delay=0.01) as server:
        yield server


@pytest.fixture
def config(server, tmp_path) -> Path:
    config = tmp_path / "vv_exports.yaml"
    config.write_text(CONFIG.format(base_url=server.base_url, key=KEY_ENV, places=PLACES, rate=RATE))
    return config


@pytest.fixture
def asks(server, config) -> Iterator[Callable[[], subprocess.Popen]]:
    """A process on a machine of its own, that asks as often as it may."""
    processes = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "vv_exports_tests.sources.asking", str(config), "--time-to-live", "2"]
        environment = {**os.environ, KEY_ENV: server.api_key}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            pipe.close()
        process.wait(30)


@pytest.fixture
def shares(server, config, monkeypatch) -> Callable[[], list[Share]]:
    monkeypatch.setenv(KEY_ENV, server.api_key)
    storage = LocalConnector("storage", config.parent / "storage", make_root=True)
    folder = f"requests/{identity_of(load_config(config).source, os.environ)}"
    there = VersionedDocument(storage, folder, Shares, Shares)
    return lambda: list(there.read().by_token.values())


def until_shared_by(number: int, shares: Callable[[], list[Share]]) -> None:
    began = time.monotonic()
    while not (len(there := shares()) == number and all(one.has.rate > RATE / (number + 1) for one in there)):
        assert time.monotonic() - began < 30, there
        time.sleep(0.05)


def test_three_that_read_at_once_use_the_configured_rate_and_no_more_also_when_one_is_killed(server, asks, shares):
    three = [asks() for _ in range(3)]
    until_shared_by(3, shares)
    together = time.monotonic()
    time.sleep(3)
    three[0].kill()
    killed = time.monotonic()
    until_shared_by(2, shares)
    taken_over = time.monotonic()
    time.sleep(1.5)
    ended = time.monotonic()
    assert taken_over - killed < 5
    begun = sorted(request.began for request in server.requests)

    def rate(since: float, until: float) -> float:
        return (bisect_left(begun, until) - bisect_left(begun, since)) / (until - since)

    assert 0.85 * RATE < rate(together, killed) < 1.1 * RATE
    assert 0.85 * RATE < rate(taken_over, ended) < 1.1 * RATE
    # A tenth of a second is made up for; on their way requests are held up for as long again on a busy machine.
    for first, moment in enumerate(begun):
        assert bisect_left(begun, moment + 1) - first <= 1.2 * RATE + 3
    assert server.most_in_flight <= PLACES
    for left, one in enumerate(reversed(three[1:]), start=-1):
        one.stdin.close()
        one.wait(30)
        assert len(shares()) == -left, "whoever ends leaves its share to the others at once"
