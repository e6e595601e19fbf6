"""How long commands take before they do anything: CPU of their processes, and that times the import of click.

All take turns within a round, and the least of the rounds counts: what else the machine does only adds. ``automations
list`` is of 50 automations of one index, one of which has delivered.

    python benchmarks/start_times.py [--rounds 7]
"""

import argparse
import copy
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
AUTOMATIONS = 50
COMMANDS = {
    "`import click`": ("-c", "import click"),
    "`vv-exports --help`": ("-m", "vv_exports", "--help"),
    "`config check`": ("-m", "vv_exports", "config", "check"),
    "`import dagster`": ("-c", "import dagster"),
    f"`automations list` of {AUTOMATIONS}": ("-m", "vv_exports", "automations", "list"),
    f"`status` of {AUTOMATIONS}": ("-m", "vv_exports", "status"),
}


def cpu_seconds(folder: Path, arguments: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VV_", "DAGSTER_"))}
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path) -> None:
    """The demo, with an automation that has delivered, and many more."""
    cpu_seconds(folder, ("-m", "vv_exports", "demo"))
    cpu_seconds(folder, ("-m", "vv_exports", "automations", "run", "idx_archive", "review-team"))
    path = folder / "vv_exports.yaml"
    config = yaml.safe_load(path.read_text())
    automations = config["indexes"]["idx_archive"]["automations"]
    for number in range(AUTOMATIONS - len(automations)):
        one = copy.deepcopy(automations["review-team"])
        automations[f"many-{number}"] = {**one, "destination_subpath": f"many/{number}"}
    path.write_text(yaml.safe_dump(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for _ in range(rounds):
            for what, arguments in COMMANDS.items():
                taken = cpu_seconds(Path(name), arguments)
                least[what] = min(taken, least.get(what, taken))
    click = least["`import click`"]
    print(f"| least of {rounds} | s of CPU | times `import click` |\n|---|---:|---:|")
    for what, taken in least.items():
        print(f"| {what} | {taken:.2f} | {taken / click:.1f} |")


if __name__ == "__main__":
    main()
