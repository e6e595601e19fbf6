"""A process that asks a VideoVector server as often as it may: ``python -m vv_exports_tests.sources.asking CONFIG``.

Says ``asking`` once the first answer is there, and ends with its standard input.
"""

import asyncio
import sys
from pathlib import Path

from vv_exports.config import load_config
from vv_exports.parts import open_parts
from vv_exports.sources.videovector import VideoVector


async def ask(source: VideoVector) -> None:
    while True:
        await source.api.get("indexes")


def main() -> None:
    source = open_parts(load_config(Path(sys.argv[1]))).source
    assert isinstance(source, VideoVector)
    source.indexes()
    asking = [source.api.start(ask(source)) for _ in range(source.api.budget.limits.places)]
    print("asking", flush=True)
    sys.stdin.read()
    for one in asking:
        source.api.stop(one)


if __name__ == "__main__":
    main()
