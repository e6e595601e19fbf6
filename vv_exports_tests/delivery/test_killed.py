"""`kill -9` at random moments of `deliver()`, in a process of its own. `benchmarks/kill_deliveries.py` does the same to
the real commands, which takes minutes."""

import hashlib
import json
import multiprocessing
import multiprocessing.util
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.snapshots.store import Snapshot
from vv_exports_tests.delivery.conftest import NOW, Deployment

SEED = 20261101
KILLS = 25
RUNS = 4


def _deliver(folder: Path, snapshots: list[Snapshot], ready: Connection) -> None:
    """The child: says that it begins, and delivers."""
    tempfile.tempdir = str(folder / "tmp")
    deployment = Deployment(folder)
    ready.send("ready")
    deliver(deployment.request(*snapshots, format_name="csv"), deployment.store, lambda: NOW)


class Killer:
    """Starts deliveries of a deployment and kills them. The server imports the package once and forks."""

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        self.deployment = deployment
        self.chance = chance
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["vv_exports_tests.delivery.test_killed"])

    def started(self, snapshots: list[Snapshot]) -> multiprocessing.Process:
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_deliver, args=(self.deployment.folder, snapshots, theirs))
        process.start()
        assert ours.recv() == "ready"
        return process

    def seconds(self, snapshots: list[Snapshot]) -> float:
        """How long an unkilled delivery takes."""
        process = self.started(snapshots)
        began = time.perf_counter()
        process.join()
        assert process.exitcode == 0
        return time.perf_counter() - began

    def kill(self, snapshots: list[Snapshot], seconds: float, entry: Path | None) -> None:
        """Kill a delivery after so many seconds, counted from when ``entry`` is there, or from its begin."""
        process = self.started(snapshots)
        while entry is not None and not entry.exists() and process.is_alive():
            time.sleep(0.0002)
        time.sleep(seconds)
        process.kill()
        process.join()


def _read(destination: Path) -> tuple[dict[str, int], set[str]]:
    """Rows of each run and the files, as the log says; each file was read and is what the log says."""
    latest = {}
    for number, path in enumerate(sorted((destination / "_vv/log").glob("*"))):
        entry = json.loads(path.read_text())
        assert (path.name, entry["sequence"]) == (f"{number:020}.json", number)
        for run in entry["prompt_runs"]:
            latest[run["run_id"]] = [file for file in entry["files"] if file["prompt_run_id"] == run["run_id"]]
    for file in (file for files in latest.values() for file in files):
        content = (destination / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    rows = {run_id: sum(file["rows"] for file in files) for run_id, files in latest.items()}
    return rows, {file["path"] for files in latest.values() for file in files}


def _rows(snapshots: list[Snapshot]) -> dict[str, int]:
    return {snapshot.run_id: snapshot.rows("segments") for snapshot in snapshots}


def _unfinished(folder: Path) -> list[Path]:
    return [*(folder / "tmp").glob("vv_exports_spool*/*"), *folder.rglob(".vv_exports_tmp")]


@pytest.mark.slow
def test_a_killed_delivery_is_before_or_after_to_a_reader_and_the_next_run_completes_it(tmp_path, monkeypatch):
    print(f"seed {SEED}")  # noqa: T201 - shown where it fails
    chance = random.Random(SEED)
    # Chosen before the scratch folder changes: a socket's path may have no more than 107 bytes.
    multiprocessing.util.get_temp_dir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    deployment = Deployment(tmp_path)
    destination = tmp_path / "deliveries/exports/team"
    killer = Killer(deployment, chance)
    rows = iter(range(500, 10_000))

    def content() -> list[Snapshot]:
        return [deployment.snapshot(f"run_{n}", segments=next(rows)) for n in range(RUNS)]

    def finish(snapshots: list[Snapshot]) -> None:
        deliver(deployment.request(*snapshots, format_name="csv"), deployment.store, lambda: NOW)
        held, files = _read(destination)
        there = {path.removeprefix("exports/team/") for path in _keys(deployment.connector)}
        assert held == _rows(snapshots)
        assert {path for path in there if not path.startswith("_vv/")} == files
        assert _unfinished(tmp_path) == []

    finish(content())
    seconds = killer.seconds(content())
    hits = {"before": 0, "after": 0}
    for number in range(KILLS):
        before, _ = _read(destination)
        wanted = content()
        entries = len(list((destination / "_vv/log").glob("*")))
        if number % 3 == 0:
            killer.kill(wanted, chance.uniform(0, 0.003), destination / f"_vv/log/{entries:020}.json")
        else:
            killer.kill(wanted, chance.uniform(0, seconds), None)
        held, _ = _read(destination)
        assert held in (before, _rows(wanted)), f"kill {number}"
        hits["after" if held == _rows(wanted) else "before"] += 1
        follow_up = chance.random()
        if follow_up < 0.4:
            finish(wanted)
        elif follow_up < 0.7:  # newer content: the killed delivery's files were never committed by anyone
            finish(content())
        # else: the next delivery is killed as well
    finish(content())
    print(hits)  # noqa: T201
    assert min(hits.values()) >= 1, hits


def _keys(connector: LocalConnector) -> list[str]:
    return [file.key for file in connector.files("exports/team")]
