"""Peak memory of the main job at two sizes, each format: archive to committed delivery, through Dagster.

The peak is that of all the job's processes together. Between the sizes it should hardly grow: work is done in batches.

    python benchmarks/memory.py [--sizes 1000000 5000000] [--runs 10] [--formats parquet jsonl json csv] [--rounds 1]
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import measuring
from archive import write_archive
from export_collection import job
from measuring import Measured

FORMATS = ("parquet", "jsonl", "json", "csv")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=[1_000_000, 5_000_000], metavar="SEGMENTS")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    few, many = options.sizes
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-") as name:
        folder = Path(name)
        for size in options.sizes:
            write_archive(folder / f"archive-{size}", size, options.runs)
        sides = {
            f"{one}, {size}": partial(peak_of, folder, one, size, options.runs)
            for one in options.formats
            for size in options.sizes
        }
        found = measuring.in_turns(sides, options.rounds)
    rows = []
    for one in options.formats:
        small, large = found[f"{one}, {few}"], found[f"{one}, {many}"]
        rows.append(
            [
                one,
                measuring.middle([measured.peak for measured in small], 0),
                measuring.middle([measured.peak for measured in large], 0),
                measuring.middle(measuring.ratios(large, small, "peak")),
                f"{many / median(measured.wall for measured in large):,.0f}",
            ]
        )
    measuring.show(
        f"Memory: the job's peak with {few:,} and with {many:,} segments in {options.runs} runs",
        ["", f"MiB at {few:,}", f"MiB at {many:,}", "ratio", f"rows/s at {many:,}"],
        rows,
        measuring.noise(found),
    )


def peak_of(folder: Path, file_format: str, size: int, runs: int) -> Measured:
    """The job in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        configuration = {
            "source": {"kind": "local_archive", "path": str(folder / f"archive-{size}")},
            "storage": "storage",
            "connectors": {"conn": {"provider": "local", "root": ".", "export_base_path": "out", "scopes": ["export"]}},
            "indexes": {
                "idx": {
                    "automations": {
                        "all": {"destination_connector_id": "conn", "start": "beginning", "format": file_format}
                    }
                }
            },
        }
        Path(name, "vv_exports.yaml").write_text(json.dumps(configuration))
        measured = measuring.once(Path(name), job)
    assert measured.result == {"delivered": runs, "rows": size // runs * runs}, measured.result
    return measured


if __name__ == "__main__":
    main()
