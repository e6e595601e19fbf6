"""A process that asks a VideoVector server as often as it may: ``python -m vv_exports_tests.sources.asking CONFIG``.

Says ``asking`` once the first answer is there, and ends with its standard input. With ``--time-to-live`` it is one of
another machine, of which others see only what it writes.
"""

import argparse
import sys
import uuid
from pathlib import Path

from vv_exports.config import load_config
from vv_exports.parts import open_parts
from vv_exports.sources import process_share
from vv_exports.sources.videovector import VideoVector


async def ask(source: VideoVector) -> None:
    while True:
        await source.api.get("indexes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--time-to-live", type=float)
    args = parser.parse_args()
    if args.time_to_live:
        elsewhere = uuid.uuid4().hex
        process_share.TIME_TO_LIVE_SECONDS = args.time_to_live
        process_share._processes = lambda: elsewhere
    source = open_parts(load_config(args.config)).source
    assert isinstance(source, VideoVector)
    source.indexes()
    asking = [source.api.start(ask(source)) for _ in range(source.api.budget.limits.places)]
    print("asking", flush=True)  # noqa: T201
    sys.stdin.read()
    for one in asking:
        source.api.stop(one)


if __name__ == "__main__":
    main()
