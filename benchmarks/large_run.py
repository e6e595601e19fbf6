"""One prompt run of very many segments, a year of a news channel: from an archive to a committed delivery.

Two sizes of the same run, ten times apart, are read and delivered to a folder, or to a SeaweedFS server. Told are the
peak memory of all processes of the job, the most that the spool held (sampled), wall time, and CPU for each row, which
must not grow with the run. A result is what a newsroom asks for, about 0.4 kB of JSON; with ``--rich`` the one of the
other benchmarks, three times as long.

    python benchmarks/large_run.py [--sizes 2000000 20000000] [--destination local] [--limit 536870912] [--rich]
    python benchmarks/large_run.py --unordered --sizes 200000 2000000     # rows out of order: sorted on disk
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import pyarrow as pa
from archive import SCHEMA, WORDS, segment
from measuring import Measured

REPOSITORY = Path(__file__).resolve().parent.parent
KINDS = 65_537
"""Results that differ in more than ids and times, so many that what compresses them does not see one twice."""
OF_A_MEDIUM = 500
BLOCK = 4_096
MEBIBYTE = 2**20


NEWS = {
    "type": "object",
    "properties": {
        "headline": {"type": "string"},
        "topic": {"type": "string"},
        "people": {"type": ["integer", "null"]},
        "live": {"type": "boolean"},
    },
    "required": ["headline", "topic"],
}


def news(chance: random.Random) -> dict[str, Any]:
    """A short result."""
    return {
        "executed_at": "2026-10-01T10:00:00Z",
        "field_extraction_succeeded": True,
        "metadata": {
            "headline": " ".join(chance.choices(WORDS, k=10)),
            "topic": chance.choice(["politics", "sports", "weather", "culture"]),
            "people": chance.choice([None, 1, 2, 3]),
            "live": chance.random() < 0.5,
        },
    }


def write_run(archive: Path, segments: int, *, rich: bool = False, unordered: bool = False) -> int:
    """Write an archive of one run. Returns the size of its results as JSON, in bytes. Cheap: results are filled into
    texts that were made before."""
    chance = random.Random(7)
    index = archive / "indexes" / "idx"
    folder = index / "prompt_runs" / "run_000"
    folder.mkdir(parents=True)
    (index / "index.json").write_text('{"index_id": "idx", "name": "Benchmark"}')
    prompt: dict[str, Any] = {"prompt_id": "prm", "name": "Everything", "prompt_text": "…"}
    prompt["json_schema"] = SCHEMA if rich else NEWS
    (folder / "prompt.json").write_text(json.dumps(prompt))
    record = {
        "run_id": "run_000",
        "prompt_id": "prm",
        "prompt_name": "Everything",
        "status": "completed",
        "executed_at": "2026-10-01T10:00:00Z",
        "completed_segments": segments,
    }
    (folder / "prompt_run.json").write_text(json.dumps(record))
    texts = [_text(segment(chance, 0, number) if rich else news(chance)) for number in range(KINDS)]
    size = 0
    with pa.CompressedOutputStream(str(folder / "segment_results.jsonl.zst"), "zstd") as file:
        for start in range(0, segments, BLOCK):
            numbers = list(range(start, min(start + BLOCK, segments)))
            if unordered:
                chance.shuffle(numbers)
            block = "".join([_filled(texts[number % KINDS], number) for number in numbers]).encode()
            size += file.write(block)
    return size


def _text(document: dict[str, Any]) -> str:
    """A line with places for what is a segment's own."""
    kept = {"segment_id": "@0", "video_id": "@1", "video_name": "@2", "gcs_uri": "@3"}
    text = json.dumps(document | kept | {"start_time": "@4", "end_time": "@5"}).replace("%", "%%")
    for place, form in (
        ('"@0"', '"seg_%(number)010d"'),
        ('"@1"', '"vid_%(video)06d"'),
        ('"@2"', '"Broadcast %(video)d"'),
        ('"@3"', '"gs://archive/videos/vid_%(video)06d/seg_%(number)010d.mp4"'),
        ('"@4"', "%(start)d.0"),
        ('"@5"', "%(end)d.0"),
    ):
        text = text.replace(place, form)
    return text + "\n"


def _filled(text: str, number: int) -> str:
    video, place = divmod(number, OF_A_MEDIUM)
    return text % {"number": number, "video": video, "start": place * 8, "end": place * 8 + 8}


def job() -> dict[str, Any]:
    """What `vv-exports automations run` does, in the working directory."""
    from vv_exports.own_process import settle

    settle()
    from vv_exports.client import VVExports

    with measuring.work():
        outcome = VVExports(Path("vv_exports.yaml")).automations.run("idx", "all")
    return {"delivered": len(outcome.delivered), "rows": outcome.rows}


def _bytes_below(folder: Path) -> int:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                total += Path(top, name).stat().st_size
    return total


@dataclass(frozen=True)
class Found:
    """One job at one size."""

    segments: int
    json_bytes: int
    measured: Measured
    spool: int
    kept: int
    parts: int
    log_bytes: int


def measure(segments: int, options: argparse.Namespace, connector: dict[str, Any], keys: dict[str, str]) -> Found:
    """Write the archive, do the job in a process of its own, remove all."""
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-", dir=options.folder) as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        json_bytes = write_run(folder / "archive", segments, rich=options.rich, unordered=options.unordered)
        configuration: dict[str, Any] = {
            "source": {"kind": "local_archive", "path": "archive"},
            "storage": "storage",
            "connectors": {"conn": {**connector, "export_base_path": f"out-{segments}", "scopes": ["export"]}},
            "indexes": {"idx": {"automations": {"all": {"destination_connector_id": "conn", "start": "beginning"}}}},
        }
        if options.limit:
            configuration["spool"] = {"folder": "tmp", "max_bytes": options.limit}
        (folder / "vv_exports.yaml").write_text(json.dumps(configuration))
        with measuring.Sampled(partial(_bytes_below, folder / "tmp")) as spool:
            measured = measuring.once(folder, job, environment={"TMPDIR": str(folder / "tmp"), **keys})
        assert measured.result == {"delivered": 1, "rows": segments}, measured.result
        kept = _bytes_below(folder / "storage")
        out = folder / f"out-{segments}"
        parts = len(list((folder / "storage").rglob("segments-*.parquet"))) // 2  # each with that of its answers
        log_bytes = _bytes_below(out / "idx" / "_vv") if out.exists() else 0
    return Found(segments, json_bytes, measured, spool.peak, kept, parts, log_bytes)


@contextlib.contextmanager
def destination(kind: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The connector's fields, and the environment that they need."""
    if kind == "local":
        yield {"provider": "local", "root": "."}, {}
        return
    sys.path.insert(0, str(REPOSITORY))
    import s3fs

    from vv_exports_tests.servers.s3 import seaweedfs

    os.environ["NO_PROXY"] = "127.0.0.1"
    scratch = tempfile.mkdtemp(prefix="vv_exports-bench-")
    try:
        with seaweedfs(Path(scratch) / "seaweedfs") as server:
            s3fs.S3FileSystem(key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url).mkdir(
                "bucket"
            )
            fields = {
                "provider": "s3", "bucket": "bucket", "region": "us-east-1", "endpoint_url": server.endpoint_url,
                "path_style": True, "access_key_id_env": "BENCH_KEY", "secret_access_key_env": "BENCH_SECRET",
            }  # fmt: skip
            yield fields, {"BENCH_KEY": server.access_key, "BENCH_SECRET": server.secret_key}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000_000, 20_000_000], metavar="SEGMENTS")
    parser.add_argument("--destination", choices=("local", "seaweedfs"), default="local")
    parser.add_argument("--limit", type=int, default=2**29, help="spool.max_bytes; 0: none")
    parser.add_argument("--unordered", action="store_true", help="segments out of order")
    parser.add_argument("--rich", action="store_true", help="results of 1.1 kB")
    parser.add_argument("--folder", help="where everything is written; 20 M segments take 10 GB")
    options = parser.parse_args()
    with destination(options.destination) as (connector, keys):
        found = [measure(size, options, connector, keys) for size in options.sizes]
    each = [one.measured.cpu / one.segments * 1e6 for one in found]
    limit = f"{options.limit / MEBIBYTE:,.0f} MiB" if options.limit else "none"
    measuring.show(
        f"A large run to {options.destination}{', segments out of order' if options.unordered else ''}; "
        f"limit of the spool: {limit}",
        ["segments in one run", "JSON GB", "kept GB", "parts", "log kB", "peak MiB", "spool's peak MiB", "wall s",
         "CPU µs/row", "times the first"],
        [
            [
                f"{one.segments:,}", f"{one.json_bytes / 1e9:.1f}", f"{one.kept / 1e9:.2f}", one.parts,
                f"{one.log_bytes / 1e3:.0f}" if one.log_bytes else "–",
                f"{one.measured.peak:,.0f}", f"{one.spool / MEBIBYTE:,.0f}",
                f"{one.measured.wall:,.0f}", f"{cost:.1f}", f"{cost / each[0]:.2f}",
            ]
            for one, cost in zip(found, each, strict=True)
        ],
        measuring.noise({str(one.segments): [one.measured] for one in found}),
    )  # fmt: skip


if __name__ == "__main__":
    main()
