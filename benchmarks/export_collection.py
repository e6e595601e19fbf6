"""The main job at size: an archive of prompt runs to a committed local Parquet collection, through Dagster.

Beside it, in the same run, DuckDB reads the same JSON Lines and writes zstd Parquet: untyped by a schema, unhashed,
unsorted, without log or commit, on all cores. A change is judged by the ratio; absolute times are the machine's.

    python benchmarks/export_collection.py [--segments 1000000] [--runs 10] [--repeat 3] [--profile]
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "mood": {"type": "string", "enum": ["calm", "tense", "joyful", "sad"]},
        "shot": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "camera": {"type": "string"},
                "people": {"type": ["integer", "null"]},
                "brightness": {"type": "number"},
            },
        },
        "brands": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "seconds": {"type": "number"},
                    "confidence": {"type": "number"},
                    "logo": {"type": "boolean"},
                },
            },
        },
        "objects": {"type": "array", "items": {"type": "string"}},
        "safe": {"type": "boolean"},
    },
    "required": ["summary", "mood"],
}
WORDS = (  # noqa: SIM905 - a text is easier to read than its words
    "a wide view over the harbour while boats come in and the speaker talks about the price of fish this winter "
    "two players run for the ball near the corner as the crowd rises and the keeper shouts at his defence "
    "the council votes on the new tram line after a long debate about noise trees parking and the cost of tunnels"
).split()

JOB = """
import sys, time
from pathlib import Path
started = time.perf_counter()
from vv_exports.client import VVExports
if {profile}:
    import cProfile, pstats
    profile = cProfile.Profile()
    profile.enable()
outcome = VVExports(Path("vv_exports.yaml")).automations.run("idx", "all")
if {profile}:
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
assert len(outcome.delivered) == {runs} and outcome.rows == {segments}, outcome
"""
DUCKDB = """
import duckdb
duckdb.sql("SET enable_progress_bar = false")
duckdb.sql("COPY (FROM read_json('archive/indexes/idx/prompt_runs/*/segment_results.jsonl')) "
           "TO 'duckdb.parquet' (FORMAT parquet, COMPRESSION zstd)")
"""
CONFIG = """
source: {kind: local_archive, path: archive}
storage: storage
connectors: {conn: {provider: local, root: ., export_base_path: out, scopes: [export]}}
indexes: {idx: {automations: {all: {destination_connector_id: conn, start: beginning}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-") as name:
        folder = Path(name)
        size = write_archive(folder / "archive", options.segments, options.runs)
        (folder / "vv_exports.yaml").write_text(CONFIG)
        print(
            f"archive: {options.segments:,} segments in {options.runs} runs, {size / options.segments:.0f} bytes each"
        )
        job = JOB.format(profile=options.profile, runs=options.runs, segments=options.segments)
        ours, theirs = [], []
        for _ in range(options.repeat):
            theirs.append(measured("DuckDB COPY", DUCKDB, folder, options.segments))
            ours.append(measured("vv_exports ", job, folder, options.segments))
            again = measured("  unchanged", JOB.format(profile=False, runs=0, segments=0), folder, None)
            print(f"             the same again took {again:.1f} s")
            for made in ("storage", "out", ".dagster"):
                shutil.rmtree(folder / made)
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        spread = f"of {options.repeat}: {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"vv_exports takes {statistics.median(ratios):.2f} times DuckDB's time ({spread})")


def write_archive(archive: Path, segments: int, runs: int) -> int:
    """Write the runs of one index. Returns the size of the results in bytes."""
    chance = random.Random(7)
    index = archive / "indexes" / "idx"
    index.mkdir(parents=True)
    (index / "index.json").write_text('{"index_id": "idx", "name": "Benchmark"}')
    size = 0
    for run in range(runs):
        folder = index / "prompt_runs" / f"run_{run:03}"
        folder.mkdir(parents=True)
        count = segments // runs
        with (folder / "segment_results.jsonl").open("w") as file:
            for number in range(count):
                size += file.write(json.dumps(segment(chance, run, number)) + "\n")
        prompt = {"prompt_id": "prm", "name": "Everything", "prompt_text": "…", "json_schema": SCHEMA}
        (folder / "prompt.json").write_text(json.dumps(prompt))
        record = {
            "run_id": folder.name,
            "prompt_id": "prm",
            "prompt_name": "Everything",
            "status": "completed",
            "executed_at": f"2026-10-{run % 28 + 1:02}T10:00:00Z",
            "completed_segments": count,
        }
        (folder / "prompt_run.json").write_text(json.dumps(record))
    return size


def segment(chance: random.Random, run: int, number: int) -> dict[str, object]:
    """One segment result of about 1.1 kB."""
    video, start = divmod(number, 500)
    text = " ".join(chance.choices(WORDS, k=28))
    return {
        "segment_id": f"seg_{run:03}_{number:08}",
        "run_id": f"run_{run:03}",
        "prompt_id": "prm",
        "video_id": f"vid_{video:06}",
        "video_name": f"Broadcast {video}",
        "executed_at": "2026-10-01T10:00:00Z",
        "start_time": start * 8.0,
        "end_time": start * 8.0 + 8,
        "gcs_uri": f"gs://archive/videos/vid_{video:06}/seg_{number:08}.mp4",
        "field_extraction_succeeded": True,
        "transcription_succeeded": True,
        "image_embedding_succeeded": None,
        "metadata_text": text,
        "metadata": {
            "summary": text[:140],
            "mood": chance.choice(["calm", "tense", "joyful", "sad"]),
            "shot": {
                "type": chance.choice(["wide", "close", "medium"]),
                "camera": chance.choice(["static", "pan", "handheld"]),
                "people": chance.choice([None, 1, 2, 3]),
                "brightness": round(chance.random(), 3),
            },
            "brands": [
                {
                    "name": chance.choice(["Acme", "Globex", "Initech", "Umbrella"]),
                    "seconds": round(chance.random() * 8, 2),
                    "confidence": round(chance.random(), 3),
                    "logo": chance.random() < 0.5,
                }
                for _ in range(chance.randrange(4))
            ],
            "objects": chance.choices(WORDS, k=5),
            "safe": True,
        },
    }


def measured(what: str, code: str, folder: Path, rows: int | None) -> float:
    """Run code in a process of its own. Returns seconds; prints them with the rate and the peak memory."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"{what.strip()} failed")
    if rows is not None:
        print(f"{what}: {seconds:6.1f} s, {rows / seconds:9,.0f} rows/s, peak {usage.ru_maxrss / 1024:,.0f} MiB")
    return seconds


if __name__ == "__main__":
    main()
