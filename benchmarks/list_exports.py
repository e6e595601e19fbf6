"""Listing exports where many were made: seconds in this process, seconds of the command, and requests to the storage.

Medians of several tries, by the clock and in seconds of CPU: on a machine that others use these differ. Records
are written as the pipeline writes them, without waiting for the disk. Of the requests, a listing of names takes one for
each 1,000 objects of a store.

    python benchmarks/list_exports.py [--exports 10000]
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import measuring

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from vv_exports.connectors.local import LocalConnector  # noqa: E402
from vv_exports.domain.exports import ExportRequest, ExportStatus, export_id_of  # noqa: E402
from vv_exports.exports.records import Attempt, Outcome, Record, Records  # noqa: E402
from vv_exports_tests.deployments import client_of  # noqa: E402
from vv_exports_tests.fakes.faulty_connector import FaultyConnector  # noqa: E402

REPEATS = 5


class Hasty(LocalConnector):
    """Does not wait for the disk: ten thousand files would take minutes."""

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:  # noqa: ARG002
        return super().create(key, data, durable=False)


def write(records: Records, count: int) -> list[str]:
    chance = random.Random(7)
    began = datetime.now(UTC) - timedelta(minutes=count)
    ids = []
    for number in range(count):
        run = str(uuid.UUID(int=chance.getrandbits(128)))
        at = began + timedelta(minutes=number)
        failed = number % 20 == 0
        to_connector = number % 2 == 0
        outcome = Outcome(
            destination_uri=f"/deliveries/{run}", rows=number, files=3, bytes=40_000, delivery_id=uuid.UUID(run).hex
        )
        records.begin(
            Record(
                export_id=export_id_of(run),
                launch=run,
                request=ExportRequest("index", "idx", None, "conn_export" if to_connector else None, None),
                prompt_run_ids=tuple(f"run_{n}" for n in range(number % 10 + 1)),
                created_at=at,
                status=ExportStatus.FAILED if failed else ExportStatus.COMPLETED,
                attempts=(Attempt(dagster_run_id=run, began_at=at, launched_by="client", process="machine 1 1"),),
                completed_at=at + timedelta(seconds=3),
                outcome=None if failed else outcome,
                error="the source did not answer" if failed else None,
            )
        )
        ids.append(export_id_of(run))
    return ids


def cpu() -> float:
    """Of this process and those that it waited for."""
    return sum(os.times()[:4])


def taken(work: Callable[[], object]) -> list[str]:
    """Seconds and seconds of CPU, medians of several."""
    seconds, of_cpu = [], []
    for _ in range(REPEATS):
        began, used = time.perf_counter(), cpu()
        work()
        seconds.append(time.perf_counter() - began)
        of_cpu.append(cpu() - used)
    return [measuring.middle(seconds, 3), measuring.middle(of_cpu)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--exports", type=int, default=10_000)
    count = parser.parse_args().exports
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client = client_of(folder)
        ids = write(Records(Hasty("storage", folder / "storage", make_root=True)), count)
        exports, real = client.pipeline.exports, client.pipeline.storage
        lists: dict[str, Callable[[], object]] = {
            "the newest 50": partial(client.exports.list, limit=50),
            "the 50 behind the middle": partial(client.exports.list, limit=50, after=ids[count // 2]),
            "the newest 50 that failed": partial(client.exports.list, limit=50, status="failed"),
            "the newest 50 of an index": partial(client.exports.list, limit=50, index_id="idx"),
            "those of the last hour": partial(client.exports.list, since=datetime.now(UTC) - timedelta(hours=1)),
            "one, by its id": partial(client.exports.retrieve, ids[1]),
            "one, by 12 characters of it": partial(client.exports.retrieve, ids[1][:12]),
            "all": client.exports.list,
        }
        rows = []
        for what, work in lists.items():
            counted = FaultyConnector(real, {})
            exports.records = Records(counted)
            work()
            calls = Counter(counted.log)
            exports.records = Records(real)
            rows.append([what, *taken(work), calls["files"], calls["read"]])
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        for arguments in (
            ["exports", "list"],
            ["exports", "list", "--status", "failed", "--json"],
            ["config", "check"],
        ):
            command = [sys.executable, "-m", "vv_exports", *arguments]
            run = partial(subprocess.run, command, cwd=folder, env=environment, check=True, capture_output=True)
            rows.append([f"`vv-exports {' '.join(arguments)}`", *taken(run), "", ""])
    measuring.show(
        f"Listing exports: {count:,} were made, local storage",
        ["", "s", "CPU s", "listings", "reads"],
        rows,
        f"Medians of {REPEATS} (least–most).",
    )


if __name__ == "__main__":
    main()
