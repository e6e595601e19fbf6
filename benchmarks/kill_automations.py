"""`kill -9` of the daemon, of run processes and of the code server while prompt runs finish and are delivered.

One automation, nobody's hand on it. Every few seconds one of the processes is killed at random; once, Dagster's whole
database is deleted as well. In the end every prompt run must be delivered exactly once, by the delivery log and by a
plain glob, and nothing else may lie at the destination.

    python benchmarks/kill_automations.py [--runs 100] [--kills 30] [--seed N]
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import yaml

from vv_exports_tests.archives import write_run

ROOT = Path(__file__).parents[1]
KINDS = {"code server": "api grpc", "run": "multiprocessing.spawn"}
CONFIG = {
    "source": {"kind": "local_archive", "path": "archive"},
    "storage": "storage",
    "connectors": {
        "conn": {"provider": "local", "root": ".", "export_base_path": "deliveries", "scopes": ["export"]},
    },
    "indexes": {
        "idx": {
            "discovery_interval_seconds": 5,
            "automations": {
                "team": {"destination_connector_id": "conn", "destination_subpath": "team", "start": "beginning"},
            },
        }
    },
}


def finish_run(folder, number):
    """A prompt run is over. Its record is written last, as a platform's would be."""
    executed_at = f"2026-11-01T00:{number // 60:02}:{number % 60:02}Z"
    write_run(folder / "archive", run_id=f"run_{number:03}", executed_at=executed_at, segments=40)


def start_daemon(folder):
    """The daemon, which starts a code server, which starts runs."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    command = [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", "workspace.yaml"]
    with (folder / "daemon.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def ours(folder, daemon):
    """Our processes by kind: the daemon, and those that it or a killed one began, which work in our folder."""
    found = {"daemon": [daemon.pid], "code server": [], "run": []}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            here = (process / "cwd").readlink() == folder
        except OSError:
            continue
        for kind, mark in KINDS.items():
            if here and mark in command:
                found[kind].append(int(process.name))
    return found


def kill(pid):
    """``kill -9``. False where it was over already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_something(folder, daemon, chance, killed):
    """Kill one process of a random kind. Returns the daemon that runs from now on."""
    kinds = {kind: pids for kind, pids in ours(folder, daemon).items() if pids}
    # A run lives for seconds only: it is hit where there is one.
    kind = "run" if "run" in kinds and chance.random() < 0.6 else chance.choice(sorted(kinds))
    killed[kind] += kill(chance.choice(kinds[kind]))
    if kind == "daemon":
        daemon.wait()
        return start_daemon(folder)
    return daemon


def delete_database(folder, daemon, killed):
    """Kill everything, and delete all that Dagster knows. Returns a new daemon."""
    for pids in ours(folder, daemon).values():
        for pid in pids:
            kill(pid)
    daemon.wait()
    shutil.rmtree(folder / ".dagster")
    killed["all of them, and the database deleted"] += 1
    return start_daemon(folder)


def entries_of(folder):
    """The delivery log."""
    return [json.loads(path.read_text()) for path in sorted((folder / "deliveries/team/_vv/log").glob("*.json"))]


def delivered(folder):
    """How often each prompt run was delivered, by the log."""
    return Counter(run["run_id"] for entry in entries_of(folder) for run in entry["prompt_runs"])


def check(folder, runs):
    """What is wrong at the end."""
    problems = [f"{run_id} {times} times in the log" for run_id, times in delivered(folder).items() if times != 1]
    there = Counter(path.parent.name for path in (folder / "deliveries").rglob("*.parquet"))
    problems += [f"{name}: {count} files by glob" for name, count in there.items() if count != 1]
    if len(there) != runs:
        problems.append(f"{len(there)} prompt runs by glob")
    committed = {file["path"] for entry in entries_of(folder) for file in entry["files"]}
    strays = [
        path
        for path in (folder / "deliveries/team").rglob("*")
        if path.is_file()
        and "_vv" not in path.parts
        and str(path.relative_to(folder / "deliveries/team")) not in committed
    ]
    return problems + [f"stray {path}" for path in strays]


def main():
    """Run, kill, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300, help="over which the runs finish and the kills happen")
    parser.add_argument("--timeout", type=float, default=600, help="seconds to catch up afterwards")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", help="a folder to work in, which stays")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    folder = Path(args.keep or tempfile.mkdtemp()).resolve()
    folder.mkdir(exist_ok=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "vv_exports.yaml").write_text(yaml.safe_dump(CONFIG))
    finish_run(folder, 0)
    daemon = start_daemon(folder)

    def finish_runs():
        for number in range(1, args.runs):
            time.sleep(args.seconds / args.runs)
            finish_run(folder, number)

    threading.Thread(target=finish_runs, daemon=True).start()
    began, killed = time.monotonic(), Counter()
    for number in range(args.kills):
        time.sleep(chance.uniform(0.5, 1.5) * args.seconds / args.kills)
        if number == args.kills // 2:
            daemon = delete_database(folder, daemon, killed)
        else:
            daemon = kill_something(folder, daemon, chance, killed)
        print(f"{time.monotonic() - began:5.0f} s: {len(delivered(folder))} delivered, {dict(killed)}", flush=True)
    stop = time.monotonic() + args.timeout
    while len(delivered(folder)) < args.runs and time.monotonic() < stop:
        time.sleep(1)
    caught_up = time.monotonic() - began
    time.sleep(40)  # a second delivery would come now
    daemon.send_signal(signal.SIGINT)
    daemon.wait(timeout=60)
    problems, all_delivered = check(folder, args.runs), len(delivered(folder)) == args.runs
    print(
        f"seed {args.seed}: {len(delivered(folder))} of {args.runs} prompt runs delivered after {caught_up:.0f} s in "
        f"{len(entries_of(folder))} deliveries; killed: {dict(killed)}"
    )
    print("\n".join(problems) or "each exactly once, by the log and by a plain glob; nothing else is there")
    if not args.keep:
        shutil.rmtree(folder)
    return 0 if all_delivered and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
