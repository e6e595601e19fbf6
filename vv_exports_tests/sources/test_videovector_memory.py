"""Memory does not grow with a run: 100,000 segments, read from a server in a process of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

READ = """
import json, sys
from pathlib import Path
from datetime import UTC, datetime
from vv_exports.connectors.local import LocalConnector
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources.registry import SOURCES
from vv_exports_tests.memory import peak_bytes

place = json.loads(sys.argv[1])
source = SOURCES["videovector"](
    base_url=place["base_url"], api_key_env="KEY", request_timeout_seconds=60, max_concurrency=16,
    max_requests_per_second=None, environ={"KEY": place["api_key"]},
)
store = SnapshotStore(LocalConnector("storage", Path(sys.argv[2]), make_root=True))
run = source.prompt_run(place["index_ids"][0], place["run_ids"][0])
snapshot = store.take(source, run, datetime(2026, 11, 24, tzinfo=UTC))
source.close()
print(snapshot.rows("segments"), peak_bytes())
"""


def test_a_run_of_100_000_segments_is_read_in_less_than_400_mib(tmp_path):
    serve = [sys.executable, "-m", "vv_exports_tests.fakes", "--media", "501", "--runs", "1", "--segments", "200,201"]
    with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        place = server.stdout.readline()
        read = [sys.executable, "-c", READ, place, str(tmp_path)]
        done = subprocess.run(
            read, env={**os.environ, "NO_PROXY": "127.0.0.1"}, capture_output=True, text=True, check=False, timeout=300
        )
        server.stdin.close()
        server.wait(timeout=30)
    assert done.returncode == 0, done.stderr
    rows, peak = map(int, done.stdout.split())
    assert rows >= 99_000
    assert peak < 400 * 2**20
