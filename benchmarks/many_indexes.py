"""What the code location costs with many indexes: CPU seconds to load, size of what it tells the UI and the daemon.

Each index has two automations, one of them with a schedule. Each number of indexes is measured in a process of its own,
which does what Dagster's code server does: load the definitions, resolve all jobs, and serialize what it answers, with
the data of each job, since the UI and the daemon ask for these one by one.

    python benchmarks/many_indexes.py [1 50 200 1000]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from dagster._core.remote_representation.external_data import JobDataSnap, RepositorySnap
from dagster._serdes import serialize_value

from vv_exports.definitions import defs

ROOT = Path(__file__).parent.parent


def configuration(indexes):
    """As in the README's example, with indexes that nobody has results of."""

    def automations(index):
        editorial = {"destination_connector_id": "conn", "destination_subpath": f"{index}/editorial"}
        review = {"destination_connector_id": "conn", "destination_subpath": f"{index}/review-team"}
        return {"editorial": editorial, "review-team": {**review, "schedule": {"cron": "0 3 * * *"}}}

    return {
        "source": {"kind": "local_archive", "path": "archive"},
        "storage": "storage",
        "connectors": {
            "conn": {"provider": "local", "root": ".", "export_base_path": "deliveries", "scopes": ["export"]},
        },
        "indexes": {f"idx_{n}": {"automations": automations(f"idx_{n}")} for n in range(indexes)},
    }


def measure():
    """In the folder of a configuration: print what each step of loading it costs."""
    began = time.process_time()
    definitions = defs.load_fn()
    built = time.process_time()
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    resolved = time.process_time()
    told = len(serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True)))
    jobs = repository.get_all_jobs()
    told_of_jobs = sum(
        len(serialize_value(JobDataSnap.from_job_def(job, include_parent_snapshot=True))) for job in jobs
    )
    done = time.process_time()
    document = {
        "import": began,
        "build": built - began,
        "resolve": resolved - built,
        "serialize": done - resolved,
        "load": done - began,
        "snapshot_mb": told / 1e6,
        "jobs": len(jobs),
        "jobs_mb": told_of_jobs / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(document))


def main():
    """A row for each number of indexes."""
    if sys.argv[1:] == ["measure"]:
        measure()
        return
    print("| indexes | build s | resolve s | serialize s | CPU s in all | definitions MB | jobs | jobs MB | peak MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for indexes in map(int, sys.argv[1:] or ["1", "50", "200", "1000"]):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "vv_exports.yaml").write_text(yaml.safe_dump(configuration(indexes)))
            done = subprocess.run(
                [sys.executable, str(Path(__file__).resolve()), "measure"],
                cwd=folder,
                env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": folder},
                stdout=subprocess.PIPE,
                check=True,
            )
        found = json.loads(done.stdout)
        seconds = " | ".join(f"{found[name]:.2f}" for name in ("build", "resolve", "serialize", "load"))
        print(
            f"| {indexes:,} | {seconds} | {found['snapshot_mb']:.2f} | {found['jobs']:,} | {found['jobs_mb']:.2f} | "
            f"{found['peak_mb']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
