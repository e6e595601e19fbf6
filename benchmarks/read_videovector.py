"""Reading prompt runs from VideoVector: the pipeline beside the plain loop of the SDK's documentation.

Both read the same runs from the local server of the tests, which answers each request after a fixed delay. The plain
loop asks for the results of one video after the other. What the limits allow is the number of requests, of which so
many may be under way at a time and begin each second. How near the server and the machine let anybody come to that, a
client shows that asks for the results of every media item, as many at a time, and looks at nothing of what it gets. A
process each, in turns; times are of the reading alone.

    python benchmarks/read_videovector.py [--media 200] [--runs 6] [--delay 0.05] [--rounds 5]
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import measuring
from videovector import NotFoundError, VideoVector

from vv_exports.connectors.local import LocalConnector
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.registry import SOURCES

ROOT = Path(__file__).parents[1]
PLAIN, BARE, OURS = "plain loop of the SDK", "requests alone", "pipeline"


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
    with VideoVector(api_key=place["api_key"], base_url=place["base_url"]) as client, measuring.work():
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
    return {"rows": rows, "requests": requests}


def requests_alone(place, run_ids, media, max_concurrency):
    """The requests for results, over connections that are used again, and nothing is done with the answers."""
    paths = [
        path
        for run_id in run_ids
        for i in range(media)
        for path in (
            f"/prompt-runs/{run_id}/results?video_id=vid_{i:04}&limit=100",
            f"/prompt-runs/{run_id}/videos/vid_{i:04}/video-result",
        )
    ]
    at = urlsplit(place["base_url"])
    waiting = iter(paths)

    async def work():
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        for path in waiting:
            head = f"GET {at.path}{path} HTTP/1.1\r\nHost: {at.netloc}\r\nX-API-Key: {place['api_key']}\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split(maxsplit=2)[1] in {b"200", b"404"}, answer  # a run may have no video results
            await reader.readexactly(int(re.search(rb"content-length: *(\d+)", answer, re.IGNORECASE)[1]))
        writer.close()

    async def everything():
        await asyncio.gather(*(work() for _ in range(max_concurrency)))

    with measuring.work():
        asyncio.run(everything())
    return {"requests": len(paths)}


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
    with measuring.work():
        rows = sum(taken.snapshot.rows("segments") for taken in kept.of_runs(runs))
    requests = source.api.budget.spent.requests - before
    source.close()
    return {"rows": rows, "requests": requests}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=200)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--segments", default="10,60", help="fewest and most segments of a media item")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that a request takes")
    parser.add_argument("--max-concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-requests-per-second", type=float, default=None, help="no limit where it is left out")
    args = parser.parse_args()
    limits = {
        "max_concurrency": args.max_concurrency,
        "max_requests_per_second": args.max_requests_per_second,
    }
    with server(args) as place, tempfile.TemporaryDirectory(prefix="vv_exports-bench-") as name:
        folder = Path(name)
        found = measuring.in_turns(
            {
                PLAIN: partial(measuring.once, folder, plain_loop, place, place["run_ids"]),
                BARE: partial(
                    measuring.once, folder, requests_alone, place, place["run_ids"], args.media, args.max_concurrency
                ),
                OURS: partial(into_a_new_storage, folder, place, limits),
            },
            args.rounds,
        )
    (rows,) = {one.result["rows"] for side in (PLAIN, OURS) for one in found[side]}  # both read the same

    def allowed(requests):
        at_a_time = requests * args.delay / args.max_concurrency
        each_second = requests / args.max_requests_per_second if args.max_requests_per_second else 0
        return max(at_a_time, each_second)

    table = [
        [
            side,
            measuring.middle([one.wall for one in measured]),
            measuring.middle([one.cpu / rows * 1e6 for one in measured], 0),
            measuring.middle([one.cpu / one.result["requests"] * 1e3 for one in measured]),
            f"{median(one.result['requests'] for one in measured):,.0f}",
            measuring.middle([one.wall / allowed(one.result["requests"]) for one in measured]),
            measuring.middle(measuring.ratios(found[PLAIN], measured), 1),
            f"{median(one.peak for one in measured):,.0f}",
        ]
        for side, measured in found.items()
    ]
    measuring.show(
        f"VideoVector as the source: {rows:,} segments, {args.max_concurrency} requests of {args.delay} s at a time",
        [
            "",
            "wall s",
            "CPU µs/row",
            "CPU ms/request",
            "requests",
            "times what the limits allow",
            "plain loop ÷ this",
            "peak MiB",
        ],
        table,
        f"The limits allow {allowed(found[OURS][0].result['requests']):.2f} s for the pipeline's requests.",
        measuring.noise(found),
    )


def into_a_new_storage(folder, place, limits):
    """The pipeline, where nothing was read before."""
    with tempfile.TemporaryDirectory(dir=folder) as storage:
        return measuring.once(folder, snapshots, place, place["run_ids"], limits, storage)


if __name__ == "__main__":
    main()
