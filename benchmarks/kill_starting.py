"""`kill -9` of everything at the moment that a sensor's run is being started: how long until it is delivered?

The daemon, its code server and all runs are killed while a Dagster run is STARTING, so that it never gets a process.
The daemon is started again at once. What counts is the time from that start until the prompt run is delivered.

    python benchmarks/kill_starting.py [--rounds 5] [--seed N]
"""

import argparse
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import yaml
from kill_automations import CONFIG, ROOT, delivered, finish_run, kill, ours, start_daemon


def starting(folder):
    """The runs that Dagster holds to be starting."""
    database = folder / ".dagster/storage/history/runs.db"
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        try:
            return [row[0] for row in connection.execute("SELECT run_id FROM runs WHERE status = 'STARTING'")]
        except sqlite3.OperationalError:  # its tables are being made
            return []


def wait_for(what, seconds):
    """Look until something is there. Returns it."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if found := what():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"nothing came of it in {seconds} s")


def main():
    """Finish a prompt run, kill, start again, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=1.0, help="the most seconds from STARTING to the kill")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    chance = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp()).resolve()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "vv_exports.yaml").write_text(yaml.safe_dump(CONFIG))
    daemon = start_daemon(folder)
    try:
        for number in range(args.rounds):
            finish_run(folder, number)
            # Every other time the run that reads the prompt run is hit, otherwise the one that delivers it.
            which = number % 2
            seen = set()
            while len(seen) <= which:
                seen.update(wait_for(lambda: starting(folder), args.timeout))
            delay = chance.uniform(0, args.delay)
            time.sleep(delay)
            for pids in ours(folder, daemon).values():
                for pid in pids:
                    kill(pid)
            daemon.wait()
            left = starting(folder)
            daemon, began = start_daemon(folder), time.monotonic()
            wait_for(lambda: delivered(folder).get(f"run_{number:03}"), args.timeout)  # noqa: B023 - called at once
            said = "left STARTING" if left else "had started, or was not launched yet"
            kind = "delivery" if which else "snapshot"
            print(f"{kind} run, killed after {delay:.2f} s, {said}: {time.monotonic() - began:.1f} s", flush=True)
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
