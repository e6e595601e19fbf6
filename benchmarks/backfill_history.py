"""Backfills of historical prompt runs through the Dagster daemon, beside one Dagster run for each prompt run.

An archive of many runs; one automation delivers them with the snapshots still to be taken, another one with the
snapshots there, a third one in the command's own process, a fourth one, which takes one prompt run to a Dagster run,
some of them. The last one's backfill is stopped half-way with ``kill -9`` of the daemon and all its processes, and
started again. The daemon looks for backfills every 30 seconds, which is in the times.

    python benchmarks/backfill_history.py [--runs 1000] [--segments 200] [--single 30] [--no-kill]
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import measuring
import yaml
from kill_automations import ROOT, kill, ours, start_daemon

from vv_exports_tests.archives import write_run


def configuration(names):
    """Paused automations: nothing but the backfills delivers."""
    automations = {
        name: {
            "destination_connector_id": "conn",
            "destination_subpath": name,
            "paused": True,
            "max_runs_per_delivery": 1 if name == "single" else 100,
        }
        for name in names
    }
    return {
        "source": {"kind": "local_archive", "path": "archive"},
        "storage": "storage",
        "connectors": {
            "conn": {"provider": "local", "root": ".", "export_base_path": "deliveries", "scopes": ["export"]},
        },
        "indexes": {"idx": {"automations": automations}},
    }


def vv_exports(folder, *command):
    """The command line. Returns seconds and what it printed."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "vv_exports", *command, "--json"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(folder), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return time.monotonic() - began, json.loads(done.stdout)


def delivered(folder, automation):
    """How often each prompt run is in an automation's log, and the files that a glob finds."""
    target = folder / "deliveries" / automation
    entries = [json.loads(path.read_text()) for path in target.glob("_vv/log/*.json")]
    runs = Counter(run["run_id"] for entry in entries for run in entry["prompt_runs"])
    return runs, len(list(target.rglob("*.parquet"))), len(entries)


def stopped_and_continued(folder, daemon, runs):
    """Kill everything in the middle of a backfill, and start again. Returns seconds, both together, and the daemon."""
    began = time.monotonic()
    command = [sys.executable, "-m", "vv_exports", "backfill", "idx", "stopped", "--in-daemon"]
    first = subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(folder), "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(delivered(folder, "stopped")[0]) < runs // 2:
        time.sleep(0.2)
    kill(first.pid)
    first.wait()
    for pids in ours(folder, daemon).values():
        for pid in pids:
            kill(pid)
    daemon.wait()
    at = len(delivered(folder, "stopped")[0])
    daemon = start_daemon(folder)
    time.sleep(15)
    vv_exports(folder, "backfill", "idx", "stopped", "--in-daemon")
    return time.monotonic() - began, at, daemon


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--single", type=int, default=30)
    parser.add_argument("--no-kill", action="store_true", help="without the backfill that is stopped half-way")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp()).resolve()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    configured = configuration(["fresh", "there", "here", "single", "stopped"])
    (folder / "vv_exports.yaml").write_text(yaml.safe_dump(configured))
    run_ids = [f"run_{number:04}" for number in range(args.runs)]
    for number, run_id in enumerate(run_ids):
        executed_at = f"2026-{number // 600 + 1:02}-01T{number // 60 % 24:02}:{number % 60:02}:00Z"
        write_run(folder / "archive", run_id=run_id, executed_at=executed_at, segments=args.segments)
    daemon = start_daemon(folder)
    time.sleep(20)
    seconds, rows = {}, []
    for name in ("fresh", "there"):
        seconds[name], outcome = vv_exports(folder, "backfill", "idx", name, "--in-daemon")
        runs, files, entries = delivered(folder, name)
        assert set(runs.values()) == {1}, name
        assert len(runs) == len(outcome["delivered"]) == files == args.runs, name
        what = "with the snapshots to take" if name == "fresh" else "with the snapshots there"
        rows.append([what, args.runs, f"{seconds[name]:.1f}", f"{seconds[name] / args.runs * 1000:.0f}", entries])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    here, outcome = vv_exports(folder, "backfill", "idx", "here")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    runs, _, entries = delivered(folder, "here")
    assert set(runs.values()) == {1}, "here"
    assert len(runs) == len(outcome["delivered"]) == args.runs, "here"
    what = f"in the command's own process, {cpu:.1f} s of CPU"
    rows.append([what, args.runs, f"{here:.1f}", f"{here / args.runs * 1000:.0f}", entries])
    again, outcome = vv_exports(folder, "backfill", "idx", "there", "--in-daemon")
    assert not outcome["delivered"]
    rows.append(["repeated, nothing written", args.runs, f"{again:.1f}", f"{again / args.runs * 1000:.0f}", 0])
    chosen = [word for run_id in run_ids[: args.single] for word in ("--run", run_id)]
    single, _ = vv_exports(folder, "backfill", "idx", "single", *chosen, "--in-daemon")
    assert len(delivered(folder, "single")[0]) == args.single
    ratio = single / args.single / (seconds["there"] / args.runs)
    rows.append(
        ["a Dagster run for each", args.single, f"{single:.1f}", f"{single / args.single * 1000:.0f}", args.single]
    )
    if not args.no_kill:
        took, at, daemon = stopped_and_continued(folder, daemon, args.runs)
        runs, files, _ = delivered(folder, "stopped")
        assert set(runs.values()) == {1}, "stopped"
        assert len(runs) == files == args.runs, "stopped"
        rows.append(
            [
                f"killed after {at}, started again: all once",
                args.runs,
                f"{took:.1f}",
                f"{took / args.runs * 1000:.0f}",
                "",
            ]
        )
    measuring.show(
        f"Backfills through the daemon: prompt runs of {args.segments} segments",
        ["", "prompt runs", "s", "ms each", "commits"],
        rows,
        f"In a batch a prompt run is {ratio:.0f} times as fast as with a Dagster run for each. Once each.",
    )
    daemon.terminate()
    daemon.wait(timeout=60)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
