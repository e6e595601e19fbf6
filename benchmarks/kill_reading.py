"""`kill -9` while prompt runs are read from VideoVector, and what it costs to go on.

The local server of the tests counts requests. First all runs are read undisturbed. Then they are read a few times more,
each time into an empty storage, killed at a random moment and started again; and once more, killed ten times on the
way. Every snapshot must hold what the server holds, row for row, and nothing may be left on the stage.

    python benchmarks/kill_reading.py [--kills 10] [--alone 2] [--seed N] [--media 300] [--runs 5] [--segments 1,110]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import measuring

from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector
from vv_exports_tests.sources.accounts import INDEX, Account, held

ROOT = Path(__file__).parents[1]
READER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from vv_exports.connectors.local import LocalConnector
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.registry import SOURCES

source = SOURCES["videovector"](
    base_url=sys.argv[1], api_key_env="KEY", max_concurrency=int(sys.argv[3]), max_requests_per_second=None,
    request_timeout_seconds=60,
)
storage = LocalConnector("storage", Path(sys.argv[2]), make_root=True)
kept = Snapshots(source, storage, clock=lambda: datetime.now(UTC), progress=lambda *_: None)
kept.of_runs(source.prompt_runs("idx_1"))
"""


def reader(server, folder, max_concurrency):
    """A process that takes the snapshots."""
    environment = {**os.environ, "KEY": server.api_key, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", READER, server.base_url, str(folder), str(max_concurrency)]
    return subprocess.Popen(command, env=environment)


def finish(process):
    """Wait for a reader; it must succeed."""
    if process.wait(timeout=300) != 0:
        sys.exit("a reader failed")


def requests_of(server, max_concurrency, moments, expected):
    """The requests of a reading that is killed after so many requests, and of going on each time."""
    server.clear()
    with tempfile.TemporaryDirectory() as folder:
        for moment in moments:
            process = reader(server, folder, max_concurrency)
            while len(server.requests) < moment and process.poll() is None:
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        finish(reader(server, folder, max_concurrency))
        spent = len(server.requests)
        here = Account(server, Path(folder))
        for run_id, documents in expected.items():
            if here.kept(here.store.current(INDEX, run_id)) != documents:
                sys.exit(f"{run_id} is not what the server holds")
        if here.staged():
            sys.exit(f"left on the stage: {here.staged()[:3]}")
        here.source.close()
    return spent


def main():
    """Read, kill, read on, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--alone", type=int, default=2, help="readings that are killed once")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--media", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--segments", default="1,110")
    parser.add_argument("--max-concurrency", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    fewest, most = map(int, args.segments.split(","))
    platform = make_platform(media=args.media, runs=args.runs, segments=(fewest, most), failed_share=0.01)
    expected = {run_id: held(platform, run_id) for run_id in platform.runs}
    with FakeVideoVector(platform, delay=args.delay) as server:
        needed = requests_of(server, args.max_concurrency, [], expected)
        print(f"{needed:,} requests undisturbed; readings that are killed follow", flush=True)
        moments = sorted(chance.sample(range(1, needed), args.kills))
        alone = [
            requests_of(server, args.max_concurrency, [moment], expected)
            for moment in chance.sample(moments, min(args.alone, args.kills))
        ]
        together = requests_of(server, args.max_concurrency, moments, expected)
    more = sorted(one / needed - 1 for one in alone)
    measuring.show(
        f"Killed while reading VideoVector: {needed:,} requests undisturbed",
        ["", "more requests", "requests for each kill"],
        [
            [
                f"one kill, {len(alone)} readings",
                f"{median(more):.1%} ({more[0]:.1%}–{more[-1]:.1%})",
                f"{median(more) * needed:.0f}",
            ],
            [
                f"{args.kills} kills in one reading",
                f"{together / needed - 1:.1%}",
                f"{(together - needed) / args.kills:.0f}",
            ],
        ],
        f"Seed {args.seed}; kills after {', '.join(map(str, moments))} requests. "
        "Every snapshot holds what the server holds.",
    )


if __name__ == "__main__":
    main()
