"""What choosing, redacting and reshaping content costs, and what a run costs beside an earlier version.

Each number is the CPU time of a prompt run's whole way: read from the archive, snapshot, delivery to a local folder. A
round has every case once, in turn, in processes that stay; of the rounds the least is taken, and the spread is told.
What is compared is the ratio: to the same format without any choice, and to the same run by the code in ``--before``.

    python benchmarks/content_costs.py [--segments 20000] [--runs 1] [--rounds 7] [--before FOLDER] [--only REGEX]
    python benchmarks/content_costs.py --memory 200000
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
from archive import SCHEMA, write_archive
from measuring import Measured, Worker

FORMATS = ("parquet", "jsonl", "json", "csv")
CHOICES: dict[str, dict[str, Any]] = {
    "": {},
    "exclude two": {"fields": {"exclude": ["metadata.mood", "metadata.shot.camera"]}},
    "redact drop": {"redact": {"metadata.brands[].name": "drop"}},
    "redact hash": {"redact": {"metadata.brands[].name": "hash"}},
    "redact mask": {"redact": {"metadata.brands[].name": "mask"}},
}
RESHAPE = "reshape"
KEY = {"VV_EXPORTS_REDACTION_KEY": "a key for the benchmark alone"}


def deliver_once(archive: str, spool: str, automation: dict[str, Any], reshape: bool) -> dict[str, float]:
    """A run's whole way in a folder of its own. Returns seconds of CPU, and KiB before it and at the peak."""
    from vv_exports.automations.deliver import deliver_batch, take_snapshots
    from vv_exports.config import load_config
    from vv_exports.pipeline import Pipeline

    def deliver(run_ids: list[str]) -> dict[str, float]:
        automation = pipeline.automations.get("idx", "all")
        began, used = time.perf_counter(), time.process_time()
        batch = take_snapshots(automation, run_ids, pipeline.clock())
        taken, taken_used = time.perf_counter(), time.process_time()
        outcome = deliver_batch(automation, pipeline.deliveries, batch, None)
        done, done_used = time.perf_counter(), time.process_time()
        assert not batch.problems and not outcome.problems, (batch.problems, outcome.problems)
        return {
            "snapshot": taken_used - used,
            "delivery": done_used - taken_used,
            "snapshot_wall": taken - began,
            "delivery_wall": done - taken,
        }

    with tempfile.TemporaryDirectory(dir=spool) as name:
        Path(name, "vv_exports.yaml").write_text(
            json.dumps(
                {
                    "source": {"kind": "local_archive", "path": archive},
                    "storage": "storage",
                    "connectors": {
                        "conn": {"provider": "local", "root": ".", "export_base_path": "out", "scopes": ["export"]}
                    },
                    "indexes": {"idx": {"automations": {"all": {"destination_connector_id": "conn", **automation}}}},
                }
            )
        )
        pipeline = Pipeline.from_config(load_config(Path(name, "vv_exports.yaml")))
        runs = [run.run_id for run in pipeline.indexes.listing("idx").runs]
        if reshape:
            *runs, brings_more = runs
            deliver(runs)
            deliver([brings_more])
        before = measuring.peak_mib()
        with measuring.work():
            return {**deliver(runs), "before": before}


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
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-", dir=measuring.scratch()) as name:
        folder = Path(name)
        if options.memory is not None:
            memory(folder, options.memory)
        else:
            compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    archive, growing = folder / "archive", folder / "growing"
    write_archive(archive, options.segments, options.runs)
    write_growing(growing, options.segments, options.runs)
    cases = {f"{one} {choice}".strip(): {"format": one, **CHOICES[choice]} for one in FORMATS for choice in CHOICES}
    cases = {case: chosen for case, chosen in cases.items() if re.search(options.only, case)}
    reshapes = [f"{one} {RESHAPE}" for one in ("parquet", "csv") if re.search(options.only, f"{one} {RESHAPE}")]
    here = Worker(folder, environment=KEY)
    earlier = Worker(folder, code=options.before.resolve(), environment=KEY) if options.before else None
    sides: dict[str, Callable[[], Measured]] = {}
    for case, chosen in cases.items():
        sides[case] = partial(here.call, deliver_once, str(archive), str(folder), chosen, False)
        if earlier is not None and case in FORMATS:
            sides[f"{case} before"] = partial(earlier.call, deliver_once, str(archive), str(folder), chosen, False)
    for case in reshapes:
        chosen = {"format": case.split()[0]}
        sides[case] = partial(here.call, deliver_once, str(growing), str(folder), chosen, True)
    found = measuring.in_turns(sides, options.rounds, warm_up=True)
    here.close()
    if earlier is not None:
        earlier.close()
    rows = options.segments // options.runs * options.runs
    measuring.show(
        f"Formats and choices of content: {rows:,} rows in {options.runs} runs, to a local folder",
        [
            "",
            "rows/s from a snapshot",
            "delivery, CPU µs/row",
            "with the snapshot",
            "times without a choice",
            "before ÷ now",
        ],
        [line(case, found, rows) for case in found],
        "CPU in µs a row, least of the rounds; behind it, in brackets, the median as a multiple of that. Rows/s are "
        "wall time, medians. "
        "`times without a choice` is of the whole way, `before ÷ now` of the delivery from a snapshot: CPU, then wall.",
        measuring.noise(found),
    )


def line(case: str, found: dict[str, list[Measured]], rows: int) -> list[str]:
    """A case's row in the table."""
    name, _, choice = case.partition(" ")
    deliveries = figures(found[case], "delivery")
    told = [
        case,
        f"{rows / statistics.median(figures(found[case], 'delivery_wall')):,.0f}",
        f"{min(deliveries) / rows * 1e6:.1f} ({statistics.median(deliveries) / min(deliveries):.2f})",
        "" if choice == RESHAPE else f"{whole(case, found) / rows * 1e6:.1f}",
    ]
    chosen = choice and choice not in {"before", RESHAPE} and name in found
    told.append(f"{whole(case, found) / whole(name, found):.2f}" if chosen else "")
    before = found.get(f"{case} before")
    if before is None:
        return [*told, ""]
    walls = [
        one.result["delivery_wall"] / other.result["delivery_wall"]
        for one, other in zip(before, found[case], strict=True)
    ]
    return [*told, f"{min(figures(before, 'delivery')) / min(deliveries):.2f}; {measuring.middle(walls)}"]


def figures(measured: list[Measured], name: str) -> list[float]:
    return [one.result[name] for one in measured]


def whole(case: str, found: dict[str, list[Measured]]) -> float:
    """The least of a delivery and of a snapshot, which is the same whatever is chosen: that of the cases without a
    choice counts. What others do on the machine only ever adds."""
    version = " before" if case.endswith(" before") else ""
    snapshots = [least for name in FORMATS for least in figures(found.get(name + version, found[case]), "snapshot")]
    return min(snapshots) + min(figures(found[case], "delivery"))


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
    lines = []
    for case, (of, automation, reshape) in cases.items():
        done = measuring.once(folder, deliver_once, str(of), str(folder), automation, reshape, environment=KEY)
        lines.append([case, f"{done.peak:,.0f}", f"{done.result['before']:,.0f}"])
    measuring.show(
        f"Peak memory with {rows:,} rows in one run", ["", "peak MiB", "of it before what is measured"], lines
    )


if __name__ == "__main__":
    main()
