"""One tick of an index's discovery sensor, and of its automation's delivery sensor, where many runs are known.

An archive on disk of so many finished runs; a partition for each in a Dagster instance in SQLite; a snapshot of each in
the index's catalog, and each delivered by one automation, in log entries of 100 runs with a checkpoint on the last one.
With ``--history`` the automation began after them: none is delivered. A process of its own then loads the definitions
and ticks several times. Nothing is new, so that a tick has nothing to ask for.

What is counted: seconds of CPU. ``whole`` is the tick; of it, ``source`` is what the archive needs to give each run and
its change hint, and ``floor`` what its files alone need (each record opened by its path and read, each run's folder
scanned and its files' sizes asked for). ``ours`` is a tick whose source is in memory: all but the source. The first
tick reads the catalog and replays the log, and the others find them in memory. ``peak`` is the most memory that the
process took, what Python, Dagster and pyarrow take in it included; that is told beside it as ``loaded``.

    python benchmarks/discovery.py [--runs 100000] [--ticks 5] [--history] [--keep FOLDER]
"""

import argparse
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import dagster as dg  # noqa: E402
import msgspec  # noqa: E402

from vv_exports.client import VVExports  # noqa: E402
from vv_exports.defs.partitions import sync_partitions  # noqa: E402
from vv_exports.delivery.checkpoints import write_checkpoint  # noqa: E402
from vv_exports.delivery.destination import Destination  # noqa: E402
from vv_exports.delivery.entry import encode_entry  # noqa: E402
from vv_exports.delivery.log import read_log  # noqa: E402
from vv_exports.domain.destinations import log_entry_name, part_name, run_folder  # noqa: E402
from vv_exports.domain.prompt_runs import JsonValue, PromptRun  # noqa: E402
from vv_exports.snapshots.store import Snapshot, fingerprint_of  # noqa: E402
from vv_exports.sources.base import UnreadableRun  # noqa: E402
from vv_exports_tests.archives import write_run  # noqa: E402
from vv_exports_tests.deployments import CONFIG, reconciled, write_config  # noqa: E402
from vv_exports_tests.memory import peak_bytes  # noqa: E402

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
RUNS_OF_AN_ENTRY = 100
_LINKS = 60_000
"""Of one file: ext4 lets it have 65,000 names."""


def record_of(number: int) -> dict[str, Any]:
    """A run's record, of the size that the platform's have."""
    return {
        "run_id": f"run_{number:08}",
        "prompt_id": f"prm_{number % 20}",
        "prompt_name": f"Scenes and brands, number {number % 20}",
        "prompt_type": "custom",
        "executed_at": f"{BEGAN + timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}",
        "executed_by": f"user_{number % 7}",
        "status": "completed",
        "run_context": {"type": "index", "index_id": "idx"},
        "total_videos": 1,
        "completed_videos": 1,
        "failed_videos": 0,
        "total_segments": 3,
        "completed_segments": 3,
        "field_extraction_failures": 0,
        "transcription_failures": 0,
        "video_segmentation_type": "fixed",
        "video_segment_duration": 10.0,
        "created_new_segments": False,
        "processing_model": "standard",
        "total_video_seconds": 30.5 + number % 60,
        "enable_transcription": True,
        "video_level_enabled": False,
        "billing_estimated_mt": 12,
        "billing_status": "settled",
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def opened(folder: Path) -> tuple[VVExports, dg.DagsterInstance]:
    instance = dg.DagsterInstance.local_temp(str(folder / "dagster"))
    return VVExports(folder / "vv_exports.yaml", instance=instance), instance


def build(folder: Path, count: int, *, history: bool) -> None:
    """Write all that is known."""
    automation = {
        "destination_connector_id": "conn_export",
        "destination_subpath": "exports/team",
        "start": "now" if history else "beginning",
    }
    write_config(folder, {**CONFIG, "indexes": {"idx": {"automations": {"team": automation}}}})
    (folder / "dagster").mkdir()
    client, instance = opened(folder)
    pipeline = client.pipeline
    first = write_run(folder / "archive", **record_of(0))
    if not history:
        pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), pipeline.clock())
        assert reconciled(client).delivered
    linked = first
    for number in range(1, count):
        run = first.parent / f"run_{number:08}"
        run.mkdir()
        for name in ("prompt.json", "segment_results.jsonl"):
            if number % _LINKS:
                os.link(linked / name, run / name)
            else:
                shutil.copy(first / name, run / name)
        linked = linked if number % _LINKS else run
        (run / "prompt_run.json").write_text(json.dumps(record_of(number)))
    listing = pipeline.indexes.listing("idx")
    sync_partitions(instance, "idx", listing.runs)
    pipeline.automations.begin("idx", listing, pipeline.clock())
    (one,) = pipeline.snapshots.of_runs(listing.runs[:1])
    taken = [
        (
            msgspec.structs.replace(
                one.snapshot, run_id=run.run_id, executed_at=run.executed_at, data_version=digest(run.run_id)
            ),
            fingerprint_of(pipeline.source, run),
        )
        for run in listing.runs[1:]
    ]
    pipeline.snapshots.catalogs.record("idx", taken)
    if not history:
        deliver(pipeline.automations.get("idx", "team").destination, [snapshot for snapshot, _ in taken])


def deliver(destination: Destination, snapshots: list[Snapshot]) -> None:
    """Entries as deliveries write them, without their files, and a checkpoint on the last one."""
    state = read_log(destination)
    head = state.last
    assert head is not None
    for start in range(0, len(snapshots), RUNS_OF_AN_ENTRY):
        files, runs = [], []
        for one in snapshots[start : start + RUNS_OF_AN_ENTRY]:
            part = part_name(0, one.data_version, ".parquet")
            path = f"{run_folder('segments', head.files[0].prompt_id, one.run_id)}/{part}"
            files.append(
                msgspec.structs.replace(head.files[0], path=path, prompt_run_id=one.run_id, sha256=digest(path))
            )
            runs.append(msgspec.structs.replace(head.prompt_runs[0], run_id=one.run_id, data_version=one.data_version))
        number = state.next_sequence
        delivery_id = digest(str(number))[:32]
        entry = msgspec.structs.replace(head, sequence=number, delivery_id=delivery_id, files=files, prompt_runs=runs)
        destination.connector.create(destination.key(log_entry_name(number)), encode_entry(entry), durable=False)
        state.apply(entry)
    write_checkpoint(destination, state)


class InMemory:
    """A source whose runs were read before."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._runs = list(source.each_run("idx"))
        self._hints = {run.run_id: source.change_hint(run) for run in self._runs}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def each_run(self, _: str) -> Iterator[PromptRun | UnreadableRun]:
        return iter(self._runs)

    def change_hint(self, run: PromptRun) -> JsonValue:
        return self._hints[run.run_id]


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def read_records(folder: Path) -> None:
    for run in os.scandir(folder / "archive/indexes/idx/prompt_runs"):
        with open(f"{run.path}/prompt_run.json", "rb") as file:  # noqa: PTH123 - what pathlib adds is not the floor
            file.read()


def scan_folders(folder: Path) -> None:
    for run in os.scandir(folder / "archive/indexes/idx/prompt_runs"):
        with os.scandir(run.path) as entries:
            for entry in entries:
                entry.stat()


def look_only(source: Any) -> None:
    for run in source.each_run("idx"):
        source.change_hint(run)


def measure(folder: Path, what: str, ticks: int) -> None:
    """Print what this process measured as JSON: ``whole`` ticks, those of ``ours`` alone, or the ``source`` alone."""
    client, instance = opened(folder)
    pipeline, definitions = client.pipeline, client.definitions
    found: dict[str, list[float]] = {"loaded": [peak_bytes() / 2**20]}
    if what == "source":
        for name, work in (
            ("records", lambda: read_records(folder)),
            ("folders", lambda: scan_folders(folder)),
            ("source", lambda: look_only(pipeline.source)),
        ):
            found[name] = [cpu(work) for _ in range(ticks)]
    else:
        if what == "ours":
            pipeline.snapshots.source = pipeline.indexes._source = InMemory(pipeline.source)  # noqa: SLF001
            gc.freeze()  # what is here for the measurement alone costs nothing in it
        for name, sensor in (("discovery", "idx__discovery"), ("delivery", "idx__team__delivery")):
            tick = definitions.resolve_sensor_def(sensor)

            def one(tick: dg.SensorDefinition = tick) -> None:
                said = tick(dg.build_sensor_context(instance=instance, definitions=definitions))
                assert not getattr(said, "run_requests", None), said

            found[name] = [cpu(one) for _ in range(ticks + 1)]
    found["peak"] = [peak_bytes() / 2**20]
    print(json.dumps(found))


def measured(folder: Path, what: str, ticks: int) -> dict[str, list[float]]:
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).resolve()),
            "--measure",
            what,
            "--keep",
            str(folder),
            "--ticks",
            str(ticks),
        ],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "DAGSTER_HOME": str(folder / "dagster")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Build, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--keep", type=Path, help="build there, or use what was built there")
    parser.add_argument("--measure", choices=["whole", "ours", "source"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.keep, args.measure, args.ticks)
        return
    folder = (args.keep or Path(tempfile.mkdtemp())).resolve()
    if not (folder / "vv_exports.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build(folder, args.runs, history=args.history)
    whole, ours, source = (measured(folder, what, args.ticks) for what in ("whole", "ours", "source"))
    print(f"{args.runs:,} known runs, seconds of CPU; of {args.ticks} ticks after the first: least / median")
    print("| | first | after that |")
    print("|---|---:|---:|")
    for name, found in (
        ("discovery, whole", whole["discovery"]),
        ("discovery, ours", ours["discovery"]),
        ("delivery", whole["delivery"]),
    ):
        print(f"| {name} | {found[0]:.2f} | {min(found[1:]):.2f} / {median(found[1:]):.2f} |")
    for name, title in (
        ("source", "source: each run and its hint"),
        ("records", "floor: records read"),
        ("folders", "floor: folders scanned"),
    ):
        print(f"| {title} | | {min(source[name]):.2f} / {median(source[name]):.2f} |")
    print(f"memory: {whole['peak'][0]:.0f} MiB at its peak, {whole['loaded'][0]:.0f} MiB of it when all was loaded")
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
