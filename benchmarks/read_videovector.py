"""Reading prompt runs from VideoVector: the pipeline beside the plain loop of the SDK's documentation.

Both read the same runs from the local server of the tests, which answers each request after a fixed delay. The plain
loop asks for the results of one video after the other. What the limits allow is the number of requests, of which so
many may be under way at a time and begin each second. One process each; times are of the reading alone.

    python benchmarks/read_videovector.py --media 200 --runs 5 --delay 0.05
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from videovector import NotFoundError, VideoVector

from vv_exports.connectors.local import LocalConnector
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.registry import SOURCES
from vv_exports_tests.memory import peak_bytes

ROOT = Path(__file__).parents[1]


@contextmanager
def server(args):
    """The server in a process of its own, which ends with its standard input."""
    command = [sys.executable, "-m", "vv_exports_tests.fakes", "--port", "0", "--delay", str(args.delay)]
    command += ["--media", str(args.media), "--runs", str(args.runs), "--segments", args.segments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def plain_loop(place, run_ids):
    """As in the SDK's documentation: one video after the other."""
    rows = requests = 0
    with VideoVector(api_key=place["api_key"], base_url=place["base_url"]) as client:
        began = time.perf_counter()
        for run_id in run_ids:
            for video in client.indexes.list_videos(place["index_ids"][0], limit=100).auto_paging_iter():
                page = client.prompt_runs.list_results(run_id, video_id=video.video_id, limit=100)
                while page is not None:
                    requests += 1
                    rows += len(page)
                    page = page.next_page()
                requests += 1
                with suppress(NotFoundError):
                    client.prompt_runs.get_video_result(run_id, video.video_id)
    return {"seconds": time.perf_counter() - began, "rows": rows, "requests": requests}


def snapshots(place, run_ids, limits, folder):
    """Snapshots of the runs, typed and stored."""
    os.environ["VIDEO_VECTOR_API_KEY"] = place["api_key"]
    source = SOURCES["videovector"](
        base_url=place["base_url"], api_key_env="VIDEO_VECTOR_API_KEY", request_timeout_seconds=60, **limits
    )
    storage = LocalConnector("storage", Path(folder), make_root=True)
    kept = Snapshots(source, storage, clock=lambda: datetime.now(UTC), progress=lambda *_: None)
    index_id = place["index_ids"][0]
    runs = [run for run in source.prompt_runs(index_id) if run.run_id in run_ids]
    before = source.api.budget.spent.requests
    began = time.perf_counter()
    rows = sum(taken.snapshot.rows("segments") for taken in kept.of_runs(runs))
    seconds = time.perf_counter() - began
    requests = source.api.budget.spent.requests - before
    source.close()
    return {"seconds": seconds, "rows": rows, "requests": requests, "peak_mib": peak_bytes() / 2**20}


def in_a_process(work, *arguments):
    """What one side measured, in a process of its own."""
    program = (
        "import json, sys, read_videovector as this; "
        "print(json.dumps(getattr(this, sys.argv[1])(*json.loads(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, work, json.dumps(arguments)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=200)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--segments", default="10,60", help="fewest and most segments of a media item")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that a request takes")
    parser.add_argument("--max-concurrency", type=int, default=16)
    parser.add_argument("--max-requests-per-second", type=float, default=None, help="no limit where it is left out")
    args = parser.parse_args()
    limits = {
        "max_concurrency": args.max_concurrency,
        "max_requests_per_second": args.max_requests_per_second,
    }
    with server(args) as place, tempfile.TemporaryDirectory() as folder:
        run_ids = place["run_ids"]
        ours = in_a_process("snapshots", place, run_ids, limits, folder)
        plain = in_a_process("plain_loop", place, run_ids)
    allowed = ours["requests"] * args.delay / args.max_concurrency
    if args.max_requests_per_second:
        allowed = max(allowed, ours["requests"] / args.max_requests_per_second)
    assert plain["rows"] == ours["rows"], "both read the same"
    for name, side in (("plain loop", plain), ("pipeline", ours)):
        pace = side["requests"] / side["seconds"]
        print(
            f"{name:10}  {side['seconds']:6.2f} s, {side['requests']:,} requests, {pace:.0f}/s, "
            f"{side['rows']:,} segments"
        )
    print(
        f"limits      {allowed:6.2f} s is what they allow for that many requests"
        f"; peak of the pipeline {ours['peak_mib']:.0f} MiB"
    )
    print(f"the pipeline is {plain['seconds'] / ours['seconds']:.1f} times as fast as the plain loop")
    print(f"and takes {ours['seconds'] / allowed:.2f} times what the limits allow")


if __name__ == "__main__":
    main()
