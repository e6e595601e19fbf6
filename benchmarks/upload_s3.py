"""How fast a connector uploads to S3, beside a bare `put_file` of s3fs with the same files, in turns in one run.

python benchmarks/upload_s3.py [--rounds 5]
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import measuring
import s3fs

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from vv_exports.connectors.s3 import S3Connector  # noqa: E402
from vv_exports_tests.servers.s3 import S3Server, seaweedfs  # noqa: E402

MEBIBYTE = 2**20
SETS = {
    "one of 300 MiB": (300, 1),
    "one of 64 MiB": (64, 1),
    "twenty of 8 MiB": (8, 20),
    "a hundred of 256 KiB": (0.25, 100),
}


def seconds(put: Callable[[int], object], count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        put(number)
    return time.perf_counter() - began


def _put_bare(bare: s3fs.S3FileSystem, path: Path, number: int) -> None:
    bare.put_file(str(path), f"bucket/bare/{number}")


def _put(connector: S3Connector, path: Path, sha256: str, number: int) -> None:
    connector.put(path, f"ours/{number}", sha256=sha256)


def compare(server: S3Server, folder: Path, rounds: int) -> list[list[str]]:
    bare = s3fs.S3FileSystem(key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url)
    bare.mkdir("bucket")
    connector = S3Connector(
        "conn", "bucket", endpoint_url=server.endpoint_url, region="us-east-1", path_style=True,
        access_key_id_env="KEY", secret_access_key_env="SECRET",
        environ={"KEY": server.access_key, "SECRET": server.secret_key},
    )  # fmt: skip
    rows = []
    for name, (mebibytes, count) in SETS.items():
        path = folder / "file"
        path.write_bytes(os.urandom(int(mebibytes * MEBIBYTE)))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(seconds(partial(_put_bare, bare, path), count))
            ours.append(seconds(partial(_put, connector, path, sha256), count))
        times = [our / their for our, their in zip(ours, theirs, strict=True)]
        rows.append([name, measuring.middle(theirs), measuring.middle(ours), measuring.middle(times)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ["NO_PROXY"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as scratch, seaweedfs(Path(scratch) / "seaweedfs") as server:
        rows = compare(server, Path(scratch), rounds)
    measuring.show(
        "Uploads to S3: the connector beside s3fs",
        ["", "s3fs put_file, s", "connector, s", "times s3fs"],
        rows,
        f"Medians of {rounds} rounds in turns (least–most).",
    )


if __name__ == "__main__":
    main()
