"""What it costs to check answers against their prompt's schema while a run is read: with the check, and without.

Three archives: one whose schema columns tell (``columns``); the same with a keyword that they do not tell, so that each
answer is decoded again and validated (``validator``); and the first with five odd rows in a thousand (``odd rows``).

    python benchmarks/contract_check.py [--segments 200000] [--rounds 5]
"""

import argparse
import json
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch, sentinel

import measuring
from archive import write_archive

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vv_exports.snapshots import reading  # noqa: E402
from vv_exports.snapshots.contract import Contract  # noqa: E402
from vv_exports.sources.local_archive import LocalArchive  # noqa: E402

UNTOLD = {"not": {"required": ["no such property"]}}


def read(archive: str, checked: bool) -> int:
    """Read all runs of an archive. Returns how many rows break the schema."""
    source = LocalArchive(archive)
    how: Any = nullcontext() if checked else patch.object(reading, "contract_of", lambda _: Contract("not checked"))
    broken = 0
    with tempfile.TemporaryDirectory() as spool, how:
        for number, run in enumerate(source.prompt_runs("idx")):
            folder = Path(spool) / str(number)
            folder.mkdir()
            with measuring.work(), source.results(run, sentinel.stage) as results:
                found = reading.read_run(results, run, folder)
            broken += found.contract["segments"].broken
    return broken


def write(folder: Path, segments: int, runs: int) -> dict[str, Path]:
    """The archives by what is tried in each."""
    archives = {name: folder / name for name in ("columns", "validator", "odd rows")}
    for name, archive in archives.items():
        write_archive(archive, segments, runs, odd=name == "odd rows")
        for path in archive.rglob("prompt.json") if name == "validator" else ():
            prompt = json.loads(path.read_text())
            prompt["json_schema"] |= UNTOLD
            path.write_text(json.dumps(prompt))
    return archives


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=measuring.scratch()) as scratch:
        sides = {
            f"{name}, {how}": partial(measuring.once, Path(scratch), read, str(archive), how == "checked")
            for name, archive in write(Path(scratch), options.segments, options.runs).items()
            for how in ("unchecked", "checked")
        }
        found = measuring.in_turns(sides, options.rounds)
    rows = []
    for name in ("columns", "validator", "odd rows"):
        without, with_it = found[f"{name}, unchecked"], found[f"{name}, checked"]
        ratios = measuring.ratios(with_it, without, "cpu")
        each = [measuring.middle([one.cpu / options.segments * 1e6 for one in side], 1) for side in (without, with_it)]
        rows.append([name, *each, measuring.middle(ratios), with_it[0].result])
    measuring.show(
        f"Checking {options.segments:,} answers against their schema",
        ["", "CPU µs/row, unchecked", "checked", "checked ÷ unchecked", "rows that break it"],
        rows,
        measuring.noise(found),
    )


if __name__ == "__main__":
    main()
