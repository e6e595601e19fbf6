"""Every benchmark once, at sizes that end in a quarter of an hour, or with ``--full`` at those of published figures.

What a benchmark prints is Markdown, and so is this: redirect it, and it is what `benchmarks/README.md` keeps. A
benchmark that fails does not keep the others from their turn; the suite fails at the end.

    python benchmarks/suite.py [--full] [--only REGEX] [--before FOLDER]
"""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import measuring


@dataclass(frozen=True)
class Benchmark:
    """A file of this folder, what it is told in the short suite, and what in the full one."""

    name: str
    short: str
    full: str


BENCHMARKS = (
    Benchmark("export_collection", "--segments 40000", "--segments 1000000"),
    Benchmark("memory", "--sizes 20000 100000", "--sizes 1000000 5000000"),
    Benchmark("large_run", "--sizes 20000 200000", "--sizes 2000000 20000000"),
    Benchmark("content_costs", "--segments 5000 --rounds 5", "--segments 50000 --runs 1 --rounds 7"),
    Benchmark("second_destination", "--segments 100000", "--segments 1000000"),
    Benchmark("read_videovector", "--media 50 --runs 2", "--media 200 --runs 6"),
    # What a kill costs does not grow with the size.
    Benchmark("kill_reading", "--seed 7 --kills 3 --media 100 --runs 3", "--seed 7"),
    Benchmark("shared_requests", "--seconds 10 --folder", "--seconds 30"),
    Benchmark("contract_check", "--segments 50000", "--segments 200000"),
    Benchmark("discovery", "--runs 5000", "--runs 100000"),
    Benchmark("backfill_history", "--runs 100 --single 2 --no-kill", "--runs 1000 --single 30"),
    Benchmark("upload_s3", "", ""),
    Benchmark("list_exports", "--exports 2000", "--exports 10000"),
    Benchmark("log_growth", "--sizes 10 1000 --no-s3", "--sizes 10 1000 10000"),
    Benchmark("table_formats", "--runs 1000 --formats delta", "--runs 10000 --formats delta"),
    Benchmark("start_times", "--rounds 5", "--rounds 15"),
    Benchmark("many_indexes", "1 50", "1 50 200 1000"),
)


def main() -> None:
    """Run one after the other: they would disturb each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="takes hours")
    parser.add_argument("--only", default="", metavar="REGEX", help="only benchmarks in whose name this is")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version, for content_costs")
    options = parser.parse_args()
    print(f"{measuring.machine()}.", flush=True)
    failed = []
    for benchmark in BENCHMARKS:
        if not re.search(options.only, benchmark.name):
            continue
        arguments = (benchmark.full if options.full else benchmark.short).split()
        if options.before and benchmark.name == "content_costs":
            arguments += ["--before", str(options.before.resolve())]
        program = Path(__file__).with_name(f"{benchmark.name}.py")
        began = time.monotonic()
        done = subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, check=False)
        print(done.stdout, end="")
        print(f"\n`{' '.join([program.name, *arguments])}`: {time.monotonic() - began:.0f} s.", flush=True)
        if done.returncode:
            failed.append(benchmark.name)
            print(f"\nFailed with {done.returncode}:\n\n```text\n{done.stderr[-3000:]}\n```", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
