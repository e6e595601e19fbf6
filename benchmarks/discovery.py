"""One tick of an index's discovery sensor, and of its automation's delivery sensor, where many runs are known.

An archive on disk of so many finished runs; a partition for each in a Dagster instance in SQLite; a snapshot of each in
the index's catalog, and each delivered by one automation, in log entries of 100 runs. A process of its own then loads
the definitions and looks at the index several times. Nothing is new, so that a tick has nothing to ask for.

What is counted: seconds of CPU of the whole tick, of which the source's are those within its ``listing`` and its
``change_hint``; the floor is what the files alone take (each record opened by its path and read, each run's folder
scanned and its files' sizes asked for). Memory is the process's peak, with Python's, Dagster's and pyarrow's own in it,
which is told beside it. The first tick reads the catalog and the log's checkpoint, and the others find them in memory.

    python benchmarks/discovery.py [--runs 100000] [--ticks 5] [--history]
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_RUNS_OF_AN_ENTRY = 100
_DELIVERED = {
    "destination_connector_id": "conn_export",
    "destination_subpath": "exports/team",
    "start": "beginning",
}


def record_of(number: int) -> dict:
    """A run's record, of the size that the platform's have."""
    return {
        "run_id": f"run_{number:08}",
        "prompt_id": f"prm_{number % 20}",
        "prompt_name": f"Scenes and brands, number {number % 20}",
        "prompt_type": "custom",
        "executed_at": f"{_BEGAN + timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}",
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


def build(folder: Path, count: int, *, history: bool) -> None:
    """Write all that is known."""
    import dagster as dg
    import msgspec

    from vv_exports.client import VVExports
    from vv_exports.defs.partitions import sync_partitions
    from vv_exports.delivery.checkpoints import write_checkpoint
    from vv_exports.delivery.entry import encode_entry
    from vv_exports.delivery.log import read_log
    from vv_exports.domain.destinations import log_entry_name, part_name, run_folder
    from vv_exports.snapshots.store import fingerprint_of
    from vv_exports_tests.archives import write_run
    from vv_exports_tests.deployments import CONFIG, reconciled, write_config

    automation = {**_DELIVERED, "start": "now"} if history else _DELIVERED
    write_config(folder, {**CONFIG, "indexes": {"idx": {"automations": {"team": automation}}}})
    (folder / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(folder / "dagster"))
    client = VVExports(folder / "vv_exports.yaml", instance=instance)
    pipeline = client.pipeline
    first = write_run(folder / "archive", **record_of(0))
    if not history:
        pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), pipeline.clock())
        assert reconciled(client).delivered
    for number in range(1, count):
        run = first.parent / f"run_{number:08}"
        run.mkdir()
        for name in ("prompt.json", "segment_results.jsonl"):
            os.link(first / name, run / name)
        (run / "prompt_run.json").write_text(json.dumps(record_of(number)))
    listing = pipeline.indexes.listing("idx")
    sync_partitions(instance, "idx", listing.runs)
    pipeline.automations.begin("idx", listing, pipeline.clock())
    template = pipeline.snapshots.of_runs(listing.runs[:1])[0].snapshot
    taken = [
        (
            msgspec.structs.replace(
                template, run_id=run.run_id, executed_at=run.executed_at, data_version=_digest(run.run_id)
            ),
            fingerprint_of(pipeline.source, run),
        )
        for run in listing.runs[1:]
    ]
    pipeline.snapshots.catalogs.record("idx", taken)
    if history:
        return
    destination = pipeline.automations.get("idx", "team").destination
    state = read_log(destination)
    head = state.last
    for start in range(0, len(taken), _RUNS_OF_AN_ENTRY):
        files, runs = [], []
        for snapshot, _ in taken[start : start + _RUNS_OF_AN_ENTRY]:
            path = f"{run_folder('segments', head.files[0].prompt_id, snapshot.run_id)}/{part_name(0, snapshot.data_version, '.parquet')}"
            files.append(
                msgspec.structs.replace(
                    head.files[0], path=path, prompt_run_id=snapshot.run_id, sha256=_digest(path)
                )
            )
            runs.append(
                msgspec.structs.replace(head.prompt_runs[0], run_id=snapshot.run_id, data_version=snapshot.data_version)
            )
        number = state.next_sequence
        entry = msgspec.structs.replace(head, sequence=number, delivery_id=_digest(str(number))[:32], files=files, prompt_runs=runs)
        destination.connector.create(destination.key(log_entry_name(number)), encode_entry(entry), durable=False)
        state.apply(entry)
    write_checkpoint(destination, state)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Clock:
    """Seconds of CPU by part; a part within another one is counted in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: object, method: str, part: str) -> None:
        call = getattr(owner, method)

        def timed(*args, **kwargs):
            began = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[part] += time.process_time() - began

        setattr(owner, method, timed)


    def watch_each(self, owner: object, method: str, part: str) -> None:
        call = getattr(owner, method)

        def timed(*args):
            found, end = call(*args), object()
            while True:
                began = time.process_time()
                one = next(found, end)
                self.seconds[part] += time.process_time() - began
                if one is end:
                    return
                yield one

        setattr(owner, method, timed)


def floor(folder: Path) -> dict[str, float]:
    """What the files take that a look at an archive reads."""
    runs = folder / "archive/indexes/idx/prompt_runs"
    began = time.process_time()
    names = sorted(os.listdir(runs))
    for name in names:
        with open(f"{runs}/{name}/prompt_run.json", "rb") as file:
            file.read()
    read = time.process_time()
    for name in names:
        with os.scandir(f"{runs}/{name}") as entries:
            for entry in entries:
                entry.stat()
    return {"floor: records read": read - began, "floor: folders scanned": time.process_time() - read}


def measure(folder: Path, ticks: int) -> None:
    """Print the figures of this process as JSON."""
    import dagster as dg

    from vv_exports.client import VVExports
    from vv_exports_tests.memory import peak_bytes

    if os.environ.get("FLOOR"):
        print(json.dumps(floor(folder)))
        return
    instance = dg.DagsterInstance.local_temp(str(folder / "dagster"))
    client = VVExports(folder / "vv_exports.yaml", instance=instance)
    pipeline, definitions = client.pipeline, client.definitions
    discovery = definitions.resolve_sensor_def("idx__discovery")
    delivery = definitions.resolve_sensor_def("idx__team__delivery")
    clock = Clock()
    clock.watch_each(pipeline.source, "each_run", "source: listing")
    clock.watch(pipeline.source, "change_hint", "source: hints")
    clock.watch(pipeline.snapshots.catalogs, "read", "catalog")
    clock.watch(instance, "get_dynamic_partitions", "partitions")
    clock.watch(pipeline.automations.get("idx", "team"), "collection", "log")
    clock.watch(pipeline.automations.get("idx", "team"), "standings", "standings (with log)")
    found = {"base MiB": peak_bytes() / 2**20, "ticks": [], "delivery": []}
    for _ in range(ticks + 1):
        for name, sensor in (("ticks", discovery), ("delivery", delivery)):
            clock.seconds.clear()
            began = time.process_time()
            said = sensor(dg.build_sensor_context(instance=instance, definitions=definitions))
            clock.seconds["whole"] = time.process_time() - began
            clock.seconds["MiB"] = peak_bytes() / 2**20
            found[name].append(dict(clock.seconds))
        found["said"] = said.skip_message or ""
    print(json.dumps(found))


def run_measure(folder, ticks, **env):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--measure", str(folder), "--ticks", str(ticks)],
        cwd=folder, env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(ROOT), **env}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.ticks)
        return
    folder = args.keep or Path(tempfile.mkdtemp())
    if not (folder / "vv_exports.yaml").exists():
        folder.mkdir(exist_ok=True, parents=True)
        build(folder.resolve(), args.runs, history=args.history)
    print(run_measure(folder, 0, FLOOR="1"))
    found = run_measure(folder, args.ticks)
    print(found["base MiB"], found["said"])
    for name in ("ticks", "delivery"):
        print(name)
        for tick in found[name]:
            print("  ", {k: round(v, 3) for k, v in tick.items()})
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
