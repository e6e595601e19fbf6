"""What choosing, redacting and reshaping content costs, and what a run costs beside an earlier version.

Each number is the CPU time of a prompt run's whole way: read from the archive, snapshot, delivery to a local folder. A
round has every case once, in turn, in processes that stay; of the rounds the least is taken, and the spread is told.
What is compared is the ratio: to the same format without any choice, and to the same run by the code in ``--before``.

    python benchmarks/content_costs.py [--segments 20000] [--runs 1] [--rounds 7] [--before FOLDER] [--only REGEX]
    python benchmarks/content_costs.py --memory 200000
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from export_collection import SCHEMA, write_archive

FORMATS = ("parquet", "jsonl", "csv")
CHOICES: dict[str, dict[str, Any]] = {
    "": {},
    "exclude two": {"fields": {"exclude": ["metadata.mood", "metadata.shot.camera"]}},
    "redact drop": {"redact": {"metadata.brands[].name": "drop"}},
    "redact hash": {"redact": {"metadata.brands[].name": "hash"}},
    "redact mask": {"redact": {"metadata.brands[].name": "mask"}},
}
RESHAPE = "reshape"
_HERE = Path(__file__).resolve().parents[1]

WORKER = """
import json, os, resource, shutil, sys, tempfile, time
from pathlib import Path
import vv_exports
assert Path(vv_exports.__file__).is_relative_to(sys.argv[1]), vv_exports.__file__
from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.config import load_config
from vv_exports.pipeline import Pipeline

def deliver(pipeline, run_ids):
    automation = pipeline.automations.get("idx", "all")
    started = time.process_time()
    batch = take_snapshots(automation, run_ids, pipeline.clock())
    taken = time.process_time()
    outcome = deliver_batch(automation, pipeline.deliveries, batch, None)
    assert not batch.problems and not outcome.problems, (batch.problems, outcome.problems)
    return taken - started, time.process_time() - taken

for line in sys.stdin:
    asked = json.loads(line)
    folder = Path(tempfile.mkdtemp(dir=asked["spool"]))
    (folder / "vv_exports.yaml").write_text(json.dumps({
        "source": {"kind": "local_archive", "path": asked["archive"]}, "storage": "storage",
        "connectors": {"conn": {"provider": "local", "root": ".", "export_base_path": "out", "scopes": ["export"]}},
        "indexes": {"idx": {"automations": {"all": {"destination_connector_id": "conn", **asked["automation"]}}}},
    }))
    pipeline = Pipeline.from_config(load_config(folder / "vv_exports.yaml"))
    runs = [run.run_id for run in pipeline.indexes.listing("idx").runs]
    if asked["reshape"]:
        *runs, brings_more = runs
        deliver(pipeline, runs)
        deliver(pipeline, [brings_more])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    snapshot, delivery = deliver(pipeline, runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shutil.rmtree(folder)
    told = {"snapshot": snapshot, "delivery": delivery, "peak": peak, "before": before}
    print(json.dumps(told), flush=True)
"""


class Worker:
    """A process with one version of the code, which does one case after the other."""

    def __init__(self, code: Path, spool: Path) -> None:
        self._spool = str(spool)
        environment = {
            **os.environ,
            "PYTHONPATH": str(code),
            "VV_EXPORTS_REDACTION_KEY": "a key for the benchmark alone",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=spool,  # where the code is run from comes first in the path
        )

    def do(self, archive: Path, automation: dict[str, Any], *, reshape: bool = False) -> dict[str, Any]:
        asked = {"archive": str(archive), "spool": self._spool, "automation": automation, "reshape": reshape}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"the worker ended with {self._process.wait()} at {automation}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version, to compare with")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases in whose name this is")
    parser.add_argument(
        "--memory", type=int, metavar="ROWS", help="only the peak of memory, of one run with so many rows"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-", dir=_memory_disk()) as name:
        folder = Path(name)
        if options.memory is not None:
            memory(folder, options.memory)
        else:
            compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    archive, growing = folder / "archive", folder / "growing"
    write_archive(archive, options.segments, options.runs)
    write_growing(growing, options.segments, options.runs)
    here = Worker(_HERE, folder)
    earlier = Worker(options.before.resolve(), folder) if options.before else None
    cases = {f"{one} {choice}".strip(): {"format": one, **CHOICES[choice]} for one in FORMATS for choice in CHOICES}
    cases = {case: chosen for case, chosen in cases.items() if re.search(options.only, case)}
    reshapes = [f"{one} {RESHAPE}" for one in ("parquet", "csv") if re.search(options.only, f"{one} {RESHAPE}")]
    times: dict[str, list[dict[str, Any]]] = {}
    for number in range(options.rounds + 1):
        done = {case: here.do(archive, chosen) for case, chosen in cases.items()}
        done |= {case: here.do(growing, {"format": case.split()[0]}, reshape=True) for case in reshapes}
        if earlier is not None:
            done |= {f"{case} before": earlier.do(archive, cases[case]) for case in cases if case in FORMATS}
        if number:  # the first round is for imports and caches
            for case, one in done.items():
                times.setdefault(case, []).append(one)
    here.close()
    if earlier is not None:
        earlier.close()
    print(f"{options.segments:,} rows in {options.runs} runs, {options.rounds} rounds; CPU, least of the rounds")
    for case, rounds in times.items():
        show(case, rounds, times, options.segments)


def show(case: str, rounds: list[dict[str, Any]], times: dict[str, list[dict[str, Any]]], rows: int) -> None:
    name, _, choice = case.partition(" ")
    deliveries = [one["delivery"] for one in rounds]
    line = f"{case:20} delivery {min(deliveries) / rows * 1e6:5.1f} us/row (middle {middle(deliveries):.2f} times that)"
    if choice != RESHAPE:
        line += f"; with the snapshot {whole(case, times) / rows * 1e6:5.1f}"
    if choice and choice not in {"before", RESHAPE} and name in times:
        line += f", {whole(case, times) / whole(name, times):.2f} times {name}"
    if not choice and f"{case} before" in times:
        line += f", {whole(case, times) / whole(f'{case} before', times):.2f} times before"
    print(line)


def whole(case: str, times: dict[str, list[dict[str, Any]]]) -> float:
    """The least of a delivery and of a snapshot, which is the same whatever is chosen: that of the cases without a
    choice counts. What others do on the machine only ever adds."""
    version = " before" if case.endswith(" before") else ""
    snapshots = [one["snapshot"] for name in FORMATS for one in times.get(name + version, times[case])]
    return min(snapshots) + min(one["delivery"] for one in times[case])


def middle(figures: list[float]) -> float:
    return statistics.median(figures) / min(figures)


def write_growing(archive: Path, segments: int, runs: int) -> None:
    """Runs whose prompt described less than the last one does: its columns are what the others are reshaped to."""
    write_archive(archive, segments, runs)
    folder = archive / "indexes" / "idx" / "prompt_runs"
    more = folder / "run_more"
    more.mkdir()
    first = folder / "run_000"
    record = json.loads((first / "prompt_run.json").read_text())
    (more / "prompt_run.json").write_text(
        json.dumps({**record, "run_id": "run_more", "executed_at": "2026-11-01T10:00:00Z", "completed_segments": 1})
    )
    with (first / "segment_results.jsonl").open() as lines:
        result = json.loads(lines.readline())
    (more / "segment_results.jsonl").write_text(json.dumps({**result, "run_id": "run_more"}) + "\n")
    schema = {
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "weather": {"type": "string"}, "crowd": {"type": "integer"}},
    }
    prompt = json.loads((first / "prompt.json").read_text())
    (more / "prompt.json").write_text(json.dumps({**prompt, "json_schema": schema}))


def memory(folder: Path, rows: int) -> None:
    archive, growing = folder / "archive", folder / "growing"
    write_growing(growing, rows, 1)
    write_archive(archive, rows, 1)
    cases: dict[str, tuple[Path, dict[str, Any], bool]] = {
        "parquet": (archive, {"format": "parquet"}, False),
        "jsonl redact hash": (archive, {"format": "jsonl", **CHOICES["redact hash"]}, False),
        "csv redact hash": (archive, {"format": "csv", **CHOICES["redact hash"]}, False),
        f"parquet {RESHAPE}": (growing, {"format": "parquet"}, True),
    }
    for case, (of, automation, reshape) in cases.items():
        worker = Worker(_HERE, folder)
        done = worker.do(of, automation, reshape=reshape)
        worker.close()
        told = f"{done['peak'] / 1024:,.0f} MiB at the peak of {rows:,} rows"
        print(f"{case:22} {told}" + (f", {done['before'] / 1024:,.0f} MiB of it before the reshape" if reshape else ""))


def _memory_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main()
