"""Serve a made-up account in a process of its own: ``python -m vv_exports_tests.fakes --media 200 --runs 5``.

Prints one line of JSON with where it is and what it holds, and ends with its standard input.
"""

import argparse
import json
import sys

from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--media", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--segments", default="10,40", help="fewest and most of a media item")
    parser.add_argument("--failed-share", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    fewest, most = map(int, args.segments.split(","))
    platform = make_platform(
        media=args.media, runs=args.runs, segments=(fewest, most), failed_share=args.failed_share, seed=args.seed
    )
    with FakeVideoVector(platform, delay=args.delay, port=args.port) as server:
        place = {
            "base_url": server.base_url,
            "api_key": server.api_key,
            "index_ids": list(platform.indexes),
            "run_ids": list(platform.runs),
        }
        print(json.dumps(place), flush=True)  # noqa: T201
        for line in sys.stdin:
            if line.strip() == "stats":
                stats = {"requests": len(server.requests), "most_in_flight": server.most_in_flight}
                print(json.dumps(stats), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
