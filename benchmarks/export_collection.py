"""The main job at size: an archive of prompt runs to a committed local Parquet collection, through Dagster.

Beside it, in turns in the same run, other tools read the same JSON Lines and write zstd Parquet. What they wrote must
hold the rows and values that were delivered. ``odd`` is the same archive with five odd rows in a thousand: a wrong
type, a property that no schema declares, null where none is declared, and 5.0 for an integer.

Wall time is of the work alone, from the configuration to the commit, as it is of the opponents' work without their
imports; what the process takes as a whole stands beside it.

    python benchmarks/export_collection.py [--segments 1000000] [--runs 10] [--rounds 5] [--dlt-rounds 5] [--only REGEX]
    python benchmarks/export_collection.py --profile
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import measuring
import opponents
from archive import ODD_EVERY, write_archive
from measuring import Measured

CONFIG = """
source: {kind: local_archive, path: archive, processes: PROCESSES}
storage: storage
connectors: {conn: {provider: local, root: ., export_base_path: out, scopes: [export]}}
indexes: {idx: {automations: {all: {destination_connector_id: conn, start: beginning}}}}
"""
OURS, ODD, SMALL = "vv_exports", "vv_exports, odd rows", "vv_exports, a segment each"
TWO = "vv_exports, processes: 2"


def job(profile: bool = False) -> dict[str, Any]:
    """What `vv-exports automations run` does, in the working directory."""
    from vv_exports.own_process import settle

    settle()
    import pyarrow as pa

    from vv_exports.client import VVExports

    pa.array([0])  # imports pandas, where something has brought it here
    profiler = None
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    with measuring.work():
        outcome = VVExports(Path("vv_exports.yaml")).automations.run("idx", "all")
    if profiler is not None:
        import pstats

        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return {"delivered": len(outcome.delivered), "rows": outcome.rows}


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dlt-rounds", type=int, default=5, help="dlt takes most of the time: 0 leaves it out")
    parser.add_argument("--only", default="", metavar="REGEX", help="vv_exports, and opponents in whose name this is")
    parser.add_argument("--profile", action="store_true", help="only a profile of the job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vv_exports-bench-") as name:
        folder = Path(name)
        plain, odd, small = (folder / one for one in ("plain", "odd", "small"))
        for one in (plain, odd, small):
            one.mkdir()
            _configure(one, processes=1)
        size = write_archive(plain / "archive", options.segments, options.runs)
        if options.profile:
            measuring.once(plain, job, True)
            return
        write_archive(odd / "archive", options.segments, options.runs, odd=True)
        write_archive(small / "archive", options.runs, options.runs)
        compare(plain, odd, small, size, options)


def compare(plain: Path, odd: Path, small: Path, size: int, options: argparse.Namespace) -> None:
    segments, runs = options.segments // options.runs * options.runs, options.runs
    others: dict[str, tuple[str, str, Callable[[], Measured]]] = {  # kind and target of what they write
        "DuckDB COPY, threads=1": ("file", "duckdb-1.parquet", _other(plain, opponents.duckdb_copy, 1)),
        "DuckDB COPY, all threads": ("file", "duckdb.parquet", _other(plain, opponents.duckdb_copy, 0)),
        "Polars sink_parquet": ("file", "polars.parquet", _other(plain, opponents.polars_sink)),
        "dlt filesystem": ("dlt", "dlt", _other(plain, opponents.dlt_filesystem)),
        "dlt filesystem, Arrow tables": ("dlt Arrow", "dlt-arrow", _other(plain, opponents.dlt_arrow)),
    }
    sides: dict[str, Callable[[], Measured]] = {
        OURS: partial(_ours, plain, segments, runs),
        TWO: partial(_ours, plain, segments, runs, processes=2),
        ODD: partial(_ours, odd, segments, runs),
        SMALL: partial(_ours, small, runs, runs),
    }
    others = {side: one for side, one in others.items() if re.search(options.only, side, re.IGNORECASE)}
    equal = {}
    found: dict[str, list[Measured]] = {}
    for number in range(options.rounds):
        turn = [side for side in others if number < options.dlt_rounds or not side.startswith("dlt")]
        round_of = sides | {
            side: partial(_checked_rows, *others[side][:2], others[side][2], plain, segments) for side in turn
        }
        for side, (measured,) in measuring.in_turns(round_of, 1).items():
            found.setdefault(side, []).append(measured)
        if number == 0:
            _check_odd(plain, odd)
            equal = {side: _checked(plain, *others[side][:2]) for side in turn}
    odd_rows = measuring.middle(measuring.ratios(found[ODD], found[OURS], "cpu"))
    walls, cpus = ([getattr(one, of) for one in found[SMALL]] for of in ("wall", "cpu"))
    each = [(one.cpu - few.cpu) / segments * 1e6 for one, few in zip(found[OURS], found[SMALL], strict=True)]
    times = {side: measuring.ratios(found[side], found[OURS][: len(found[side])]) for side in equal}
    two = {side: measuring.ratios(found[TWO][: len(found[side])], found[side]) for side in equal}
    measuring.show(
        f"Export: {segments:,} segments in {runs} runs, {size / segments:.0f} bytes each, to Parquet",
        ["", "rows/s", "wall s", "CPU µs/row", "process s", "peak MiB", "ours ÷ this, wall", "ours ÷ this, CPU"],
        [_line(side, found[side], found[OURS], runs if side == SMALL else segments) for side in found],
        f"Five odd rows in a thousand cost {odd_rows} times the CPU.",
        f"Whatever the size, {runs} runs through Dagster take {measuring.middle(walls)} s and "
        f"{measuring.middle(cpus)} s of CPU. Beyond that a row takes {measuring.middle(each, 1)} µs of CPU.",
        *(
            f"{side} takes {measuring.middle(times[side])} times as long as ours, ours with two processes "
            f"{measuring.middle(two[side])} times as long as it; {told}."
            for side, told in equal.items()
        ),
        measuring.noise(found),
    )


def _line(side: str, measured: list[Measured], ours: list[Measured], rows: int) -> list[str]:
    """A side's row in the table."""
    ours = ours[: len(measured)]
    return [
        side,
        f"{rows / median(one.wall for one in measured):,.0f}",
        measuring.middle([one.wall for one in measured]),
        measuring.middle([one.cpu / rows * 1e6 for one in measured], 1),
        measuring.middle([one.process_wall for one in measured], 1),
        f"{median(one.peak for one in measured):,.0f}",
        measuring.middle(measuring.ratios(ours, measured)),
        measuring.middle(measuring.ratios(ours, measured, "cpu")),
    ]


def _other(folder: Path, side: Callable[..., Any], *arguments: int) -> Callable[[str], Measured]:
    return lambda target: measuring.once(folder, side, target, *arguments)


def _configure(folder: Path, processes: int) -> None:
    (folder / "vv_exports.yaml").write_text(CONFIG.replace("PROCESSES", str(processes)))


def _ours(folder: Path, segments: int, runs: int, processes: int = 1) -> Measured:
    _configure(folder, processes)
    for made in ("storage", "out", ".dagster"):
        shutil.rmtree(folder / made, ignore_errors=True)
    measured = measuring.once(folder, job)
    assert measured.result == {"delivered": runs, "rows": segments}, measured.result
    return measured


def _checked_rows(kind: str, target: str, side: Callable[[str], Measured], folder: Path, segments: int) -> Measured:
    for made in folder.glob(f"{target}*"):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    measured = side(target)
    import duckdb

    of = folder / target if kind == "file" else f"{folder / target}/dataset/segments/*.parquet"
    (rows,) = duckdb.sql(f"SELECT count(*) FROM read_parquet('{of}')").fetchall()[0]
    assert rows == segments, f"{target} has {rows} rows"
    return measured


def _checked(folder: Path, kind: str, target: str) -> str:
    """Raise where an opponent's values are not those that were delivered."""
    found = opponents.compared(folder, target, kind)
    if found.differing:
        sys.exit(f"{target} differs from what was delivered: {json.dumps(found.differing)}")
    told = f"{found.rows:,} rows and all values of {len(found.equal)} columns equal ours"
    if kind == "dlt":
        children, items = opponents.child_rows(folder, target), opponents.lists_of(folder)
        assert children == items, f"dlt's tables of lists hold {children}, the delivered lists {items}"
        told += f", put together from its tables of lists, which have {sum(children.values()):,} rows more"
    return told


# What an odd row's own columns cannot hold, by the place of its way of being odd in ``archive.ODD``.
RESCUED = (
    '{"/metadata/mood":7}',
    '{"/metadata/weather":{"sky":"grey"}}',
    '{"/metadata/summary":null}',
    None,  # 5.0 is the integer 5
)


def _check_odd(plain: Path, odd: Path) -> None:
    """Rows that are not odd are as in the plain archive; of the odd ones every oddity is kept."""
    import duckdb

    with duckdb.connect() as connection:
        for one in (plain, odd):
            connection.sql(f"CREATE VIEW {one.name} AS FROM read_parquet('{one}/out/**/*.parquet')")
        differing = connection.sql(
            f"SELECT count(*) FROM odd FULL JOIN plain USING (segment_id) WHERE odd IS DISTINCT FROM plain "
            f"AND CAST(right(segment_id, 8) AS BIGINT) % {ODD_EVERY} <> {ODD_EVERY // 2}"
        ).fetchall()[0][0]
        kept = connection.sql(
            f"SELECT DISTINCT n // {ODD_EVERY} % {len(RESCUED)} AS way, rescued, "
            f"CASE WHEN way = 3 THEN metadata.shot.people END "
            f"FROM (SELECT CAST(right(segment_id, 8) AS BIGINT) AS n, * FROM odd) "
            f"WHERE n % {ODD_EVERY} = {ODD_EVERY // 2} ORDER BY way"
        ).fetchall()
    assert not differing, f"{differing} rows that are not odd differ from those of the plain archive"
    expected = [(way, rescued, 5 if rescued is None else None) for way, rescued in enumerate(RESCUED)]
    assert kept == expected, f"of odd rows this is kept: {kept}"


if __name__ == "__main__":
    main()
