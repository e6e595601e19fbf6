"""Delivering snapshots to a second connector, where they were taken for the first: no result is read again.

Beside it ``cp`` copies the files that were delivered, once as it is, and once with what a delivery promises besides:
the hash of each file and a wait for the disk (`sha256sum`, `sync`). The second destination must hold the same bytes.

    python benchmarks/second_destination.py [--segments 1000000] [--runs 10] [--rounds 5]
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import measuring
from archive import write_archive
from measuring import Measured

CONNECTOR = {"provider": "local", "root": ".", "scopes": ["export"]}
CONFIG = {
    "source": {"kind": "local_archive", "path": "archive"},
    "storage": "storage",
    "connectors": {name: {**CONNECTOR, "export_base_path": name} for name in ("first", "second")},
    "indexes": {
        "idx": {
            "automations": {
                name: {"destination_connector_id": name, "start": "beginning"} for name in ("first", "second")
            }
        }
    },
}


def deliver(automation: str) -> int:
    """What an automation's run does in Dagster, without Dagster."""
    from vv_exports.automations.deliver import deliver_batch, take_snapshots
    from vv_exports.config import load_config
    from vv_exports.pipeline import Pipeline

    pipeline = Pipeline.from_config(load_config(Path("vv_exports.yaml")))
    runs = [run.run_id for run in pipeline.indexes.listing("idx").runs]
    with measuring.work():
        one = pipeline.automations.get("idx", automation)
        batch = take_snapshots(one, runs, pipeline.clock())
        outcome = deliver_batch(one, pipeline.deliveries, batch, None)
    assert not batch.problems and not outcome.problems, (batch.problems, outcome.problems)
    return sum(snapshot.rows("segments") for snapshot in batch.snapshots)


def through_dagster(automation: str) -> int:
    """`vv-exports automations run`."""
    from vv_exports.own_process import settle

    settle()
    from vv_exports.client import VVExports

    with measuring.work():
        return VVExports(Path("vv_exports.yaml")).automations.run("idx", automation).rows


def cp(careful: bool) -> None:
    """Copy what was delivered."""
    with measuring.work():
        subprocess.run(["cp", "-r", "first/idx/segments", "copied"], check=True)
        if careful:
            files = [str(path) for path in Path("copied").rglob("*.parquet")]
            subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["sync", *files], check=True)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-") as name:
        folder = Path(name)
        write_archive(folder / "archive", options.segments, options.runs)
        (folder / "vv_exports.yaml").write_text(json.dumps(CONFIG))
        measuring.once(folder, through_dagster, "first")
        segments = options.segments // options.runs * options.runs
        found = measuring.in_turns(
            {
                "cp": partial(again, folder, cp, False),
                "cp, sha256sum, sync": partial(again, folder, cp, True),
                "delivery": partial(again, folder, deliver, "second"),
                "delivery, through Dagster": partial(again, folder, through_dagster, "second"),
            },
            options.rounds,
        )
        files, size = held(folder / "first/idx/segments")
        copied, _ = held(folder / "second/idx/segments")
        assert files == copied, "the second destination holds other bytes than the first"
    rows = [
        [
            side,
            measuring.middle([one.wall for one in measured], 3),
            measuring.middle([one.cpu for one in measured], 3),
            f"{segments / median(one.wall for one in measured):,.0f}",
            measuring.middle(measuring.ratios(measured, found["cp"]), 1),
        ]
        for side, measured in found.items()
    ]
    measuring.show(
        f"Second destination: {segments:,} rows in {options.runs} runs, {size / 2**20:.0f} MiB of Parquet",
        ["", "wall s", "CPU s", "rows/s", "times cp, wall"],
        rows,
        f"{len(files)} files with the same bytes in both destinations.",
        measuring.noise(found),
    )


def again(folder: Path, side: object, argument: object) -> Measured:
    """A side, with nothing there of what it makes."""
    for made in ("second", "copied"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return measuring.once(folder, side, argument)


def held(folder: Path) -> tuple[dict[str, str], int]:
    """The hash of each file by its path, and the bytes of all."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*.parquet")}
    return (
        {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
        sum(path.stat().st_size for path in files.values()),
    )


if __name__ == "__main__":
    main()
