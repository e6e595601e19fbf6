"""Processes that read from one VideoVector server at once keep to the configured rate together.

The server is the tests' own; `storage`, in which the processes agree, is a bucket of SeaweedFS, or with `--folder` a
folder. Each process asks as often as it may, in a namespace of processes of its own (`unshare --pid`, as root), so that
others see of it only what it writes, as of one on another machine. Said is, for each phase, what share of the rate was
used, the most requests that arrived in any second and in any five, how often the document changed, and how long it took
until the shares were fair: from when the last process came, was killed or ended.

    python benchmarks/shared_requests.py [--rate 60] [--seconds 20] [--folder]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from contextlib import ExitStack
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from vv_exports.config import load_config  # noqa: E402
from vv_exports.connectors.versioned_document import VersionedDocument  # noqa: E402
from vv_exports.parts import open_parts  # noqa: E402
from vv_exports.sources.identity import identity_of  # noqa: E402
from vv_exports.sources.shares import Shares  # noqa: E402
from vv_exports_tests.fakes.platform import make_platform  # noqa: E402
from vv_exports_tests.fakes.server import FakeVideoVector  # noqa: E402
from vv_exports_tests.servers.s3 import seaweedfs  # noqa: E402
from vv_exports_tests.servers.session import make_bucket  # noqa: E402

PLACES = 16
BUCKET = """storage:
  provider: s3
  bucket: bucket
  endpoint_url: {endpoint_url}
  path_style: true
  access_key_id_env: VV_REQUESTS_KEY
  secret_access_key_env: VV_REQUESTS_SECRET
"""
CONFIG = """source:
  kind: videovector
  base_url: {base_url}
  api_key_env: VV_REQUESTS_API_KEY
  max_concurrency: {places}
  max_requests_per_second: {rate}
{storage}"""


class Rounds:
    """The processes, and what the server sees of them."""

    def __init__(self, config: Path, server: FakeVideoVector, rate: float) -> None:
        self.config, self.server, self.rate = config, server, rate
        loaded = load_config(config)
        storage = open_parts(loaded).storage
        folder = f"requests/{identity_of(loaded.source, os.environ)}"
        self.storage, self.folder = storage, folder
        self.document = VersionedDocument(storage, folder, Shares, Shares)
        self.processes: list[subprocess.Popen] = []

    def start(self) -> None:
        apart = ["unshare", "--pid", "--fork", "--kill-child"] if os.geteuid() == 0 else []
        command = [*apart, sys.executable, "-m", "vv_exports_tests.sources.asking", str(self.config)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.processes.append(subprocess.Popen(command, cwd=REPOSITORY, **pipes))

    def until_come(self, number: int) -> None:
        """Until so many are there: starting Python takes as long as it takes."""
        while len(self.document.read().by_token) < number:
            time.sleep(0.05)

    def until(self, number: int) -> float:
        """How long it took until so many have fair shares."""
        began = time.monotonic()
        while True:
            there = list(self.document.read().by_token.values())
            if len(there) == number and all(one.has.rate > 0.9 * self.rate / number for one in there):
                return time.monotonic() - began
            if time.monotonic() - began > 90:
                raise SystemExit(f"no fair shares of {number} in 90 s: {there}")
            time.sleep(0.1)

    def measure(self, what: str, took: str, seconds: float) -> None:
        versions = self._version()
        began = time.monotonic()
        time.sleep(seconds)
        ended = time.monotonic()
        arrived = sorted(one.began for one in self.server.requests if began <= one.began <= ended)
        used = len(arrived) / seconds / self.rate
        written = (self._version() - versions) / seconds * 60
        print(
            f"| {what} | {took} | {used:.1%} | {_most(arrived, 1)} | {_most(arrived, 5)} | {written:.0f} |", flush=True
        )

    def _version(self) -> int:
        return max(int(one.key.rpartition("/")[2].partition(".")[0]) for one in self.storage.files(self.folder))

    def end(self) -> None:
        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                pipe.close()
            process.wait(60)


def _most(arrived: list[float], seconds: float) -> int:
    return max((bisect_left(arrived, moment + seconds) - first for first, moment in enumerate(arrived)), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--folder", action="store_true")
    args = parser.parse_args()
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory()))
        server = until.enter_context(FakeVideoVector(make_platform(media=1, runs=1), delay=0.03))
        storage = "storage: storage\n"
        os.environ |= {"NO_PROXY": "127.0.0.1", "VV_REQUESTS_API_KEY": server.api_key}
        if not args.folder:
            store = until.enter_context(seaweedfs(folder / "seaweedfs"))
            make_bucket(store)
            os.environ |= {"VV_REQUESTS_KEY": store.access_key, "VV_REQUESTS_SECRET": store.secret_key}
            storage = BUCKET.format(endpoint_url=store.endpoint_url)
        config = folder / "vv_exports.yaml"
        config.write_text(
            CONFIG.format(base_url=server.base_url, places=PLACES, rate=args.rate, storage=storage), "utf-8"
        )
        rounds = Rounds(config, server, args.rate)
        until.callback(rounds.end)
        print(f"\n{args.rate:g} requests a second are configured, and {PLACES} at a time.\n")
        print("| | fair after, s | of the rate | most in 1 s | most in 5 s | changes a minute |")
        print("|---|---:|---:|---:|---:|---:|")
        rounds.start()
        rounds.until_come(1)
        rounds.measure("one", f"{rounds.until(1):.1f}", args.seconds)
        rounds.start()
        rounds.start()
        rounds.until_come(3)
        rounds.measure("three", f"{rounds.until(3):.1f}", args.seconds)
        killed = rounds.processes.pop(0)
        killed.kill()
        killed.wait()
        rounds.measure("two, after `kill -9` of the first", f"{rounds.until(2):.1f}", args.seconds)
        ends = rounds.processes.pop(0)
        for pipe in (ends.stdin, ends.stdout):
            pipe.close()
        ends.wait()
        rounds.measure("one, after the second ended", f"{rounds.until(1):.1f}", args.seconds)
        print(f"\nAt most {server.most_in_flight} requests were under way.")


if __name__ == "__main__":
    main()
