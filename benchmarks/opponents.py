"""The same JSON Lines to zstd Parquet by other tools, and whether what they hold is what was delivered.

No opponent applies the prompt's schema, keeps the order, hashes, logs or commits. Each is in the shape that its
documentation gives for speed.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import measuring

LINES = "archive/indexes/idx/prompt_runs/*/segment_results.jsonl"


def duckdb_copy(target: str, threads: int) -> None:
    """DuckDB's COPY; 0 threads are as many as DuckDB takes by itself."""
    import duckdb

    with measuring.work():
        connection = duckdb.connect(config={"threads": threads} if threads else {})
        connection.sql("SET enable_progress_bar = false")
        connection.sql(f"COPY (FROM read_json('{LINES}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def polars_sink(target: str) -> None:
    """Polars' streaming engine."""
    import polars as pl

    with measuring.work():
        pl.scan_ndjson(LINES).sink_parquet(target, compression="zstd")


def dlt_filesystem(target: str) -> None:
    """dlt's source for JSON Lines in files, and its filesystem destination.

    As "Optimizing dlt" advises: pages instead of rows, orjson, a worker of the normalization for each core, and files
    of the extraction that are rotated, so that each worker has some; larger buffers. Nested lists become tables.
    """
    _run_dlt(target, as_arrow=False)


def dlt_arrow(target: str) -> None:
    """dlt with what its documentation calls more performant: tables of Arrow, which it does not normalize.

    Here pyarrow reads the JSON, with types that it infers, and dlt writes and moves the tables.
    """
    _run_dlt(target, as_arrow=True)


def _run_dlt(target: str, *, as_arrow: bool) -> None:
    rows_of_a_file = 10_000
    os.environ.update(
        {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "NORMALIZE__WORKERS": str(os.cpu_count()),
            "NORMALIZE__START_METHOD": "spawn",
            "DATA_WRITER__BUFFER_MAX_ITEMS": str(rows_of_a_file),
            "SOURCES__DATA_WRITER__FILE_MAX_ITEMS": str(rows_of_a_file),
            "NORMALIZE__PARQUET__COMPRESSION": "zstd",
        }
    )
    import dlt
    import pyarrow.json
    from dlt.sources.filesystem import filesystem, read_jsonl

    folder = Path.cwd()
    with measuring.work():
        pipeline = dlt.pipeline(
            "benchmark",
            pipelines_dir=str(folder / f"{target}-working"),
            destination=dlt.destinations.filesystem(bucket_url=(folder / target).as_uri()),
            dataset_name="dataset",
        )
        if as_arrow:

            @dlt.resource(name="segments")
            def tables():
                for path in sorted(folder.glob(LINES)):
                    with pyarrow.json.open_json(path) as reader:
                        for batch in reader:
                            yield pyarrow.Table.from_batches([batch])

            data = tables()
        else:
            files = filesystem(bucket_url=folder.as_uri(), file_glob=LINES)
            data = (files | read_jsonl(chunksize=rows_of_a_file)).with_name("segments")
        pipeline.run(data, loader_file_format="parquet", write_disposition="append")


@dataclass(frozen=True)
class Compared:
    """What another tool's files hold beside ours."""

    rows: int
    equal: tuple[str, ...]
    differing: dict[str, int]  # column → rows


# What dlt made of a row: its own lists, from the tables that they became.
_DLT = """
SELECT s.* EXCLUDE (metadata__summary, metadata__mood, metadata__shot__type, metadata__shot__camera,
                    metadata__shot__people, metadata__shot__brightness, metadata__safe),
       struct_pack(
           summary := metadata__summary, mood := metadata__mood,
           shot := struct_pack(type := metadata__shot__type, camera := metadata__shot__camera,
                               people := metadata__shot__people, brightness := metadata__shot__brightness),
           brands := coalesce(b.items, []), objects := coalesce(o.items, []), safe := metadata__safe
       ) AS metadata
FROM read_parquet('{target}/dataset/segments/*.parquet', union_by_name = true) s
LEFT JOIN (
    SELECT _dlt_parent_id, list(struct_pack(name := name, seconds := seconds, confidence := confidence, logo := logo)
                                ORDER BY _dlt_list_idx) AS items
    FROM read_parquet('{target}/dataset/segments__metadata__brands/*.parquet', union_by_name = true) GROUP BY ALL
) b ON b._dlt_parent_id = s._dlt_id
LEFT JOIN (
    SELECT _dlt_parent_id, list(value ORDER BY _dlt_list_idx) AS items
    FROM read_parquet('{target}/dataset/segments__metadata__objects/*.parquet', union_by_name = true) GROUP BY ALL
) o ON o._dlt_parent_id = s._dlt_id
"""
SELECTS = {
    "file": "FROM read_parquet('{target}')",
    "dlt": _DLT,
    "dlt Arrow": "FROM read_parquet('{target}/dataset/segments/*.parquet', union_by_name = true)",
}


def compared(folder: Path, target: str, kind: str) -> Compared:
    """Each row beside the delivered row of its segment, column by column; what the sides name differently is renamed.

    A column of which a tool made no column (all of it null) is all null at ours. Types are ours: what a tool kept as
    text, like Polars the times, is cast, and equal is what is equal after that.
    """
    import duckdb

    with duckdb.connect(config={"preserve_insertion_order": False}) as connection:
        connection.sql("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        connection.sql("SET memory_limit = '6GB'")
        connection.sql(f"CREATE VIEW ours AS FROM read_parquet('{folder}/out/**/*.parquet')")
        select = SELECTS[kind].format(target=folder / target)
        connection.sql(f"CREATE VIEW theirs AS SELECT run_id AS prompt_run_id, * EXCLUDE (run_id) FROM ({select})")
        types = {name: kind for name, kind, *_ in connection.sql("DESCRIBE ours").fetchall()}
        theirs = [name for name, *_ in connection.sql("DESCRIBE theirs").fetchall() if not name.startswith("_dlt")]
        if unknown := set(theirs) - set(types):
            raise AssertionError(f"{target} has columns that were not delivered: {unknown}")
        of_theirs = {
            name: f"CAST(theirs.{name} AS {kind})" if name in theirs else f"CAST(NULL AS {kind})"
            for name, kind in types.items()
            if name not in {"index_id", "segment_id"}  # the folder's name tells the index, and no line does
        }
        counted = ", ".join(
            f"count(*) FILTER (ours.{name} IS DISTINCT FROM {value})" for name, value in of_theirs.items()
        )
        rows, unmatched, *differing = connection.sql(
            "SELECT count(theirs.segment_id), "
            f"count(*) FILTER (ours.segment_id IS NULL OR theirs.segment_id IS NULL), {counted} "
            "FROM ours FULL JOIN theirs USING (segment_id)"
        ).fetchall()[0]
        if unmatched:
            raise AssertionError(f"{unmatched} segments are only in {target} or only in what was delivered")
        found = dict(zip(of_theirs, differing, strict=True))
        return Compared(
            rows=rows,
            equal=tuple(name for name, count in found.items() if not count),
            differing={name: count for name, count in found.items() if count},
        )


def child_rows(folder: Path, target: str) -> dict[str, int]:
    """The rows of the tables that dlt made of nested lists."""
    import duckdb

    return {
        table.name: duckdb.sql(f"SELECT count(*) FROM read_parquet('{table}/*.parquet')").fetchall()[0][0]
        for table in sorted((folder / target / "dataset").glob("segments__*"))
    }


def lists_of(folder: Path) -> dict[str, int]:
    """How many items the delivered lists hold."""
    import duckdb

    delivered = f"read_parquet('{folder}/out/**/*.parquet')"
    brands, objects = duckdb.sql(
        f"SELECT sum(len(metadata.brands)), sum(len(metadata.objects)) FROM {delivered}"
    ).fetchall()[0]
    return {"segments__metadata__brands": brands, "segments__metadata__objects": objects}


def said(compared: Compared) -> str:
    """For a table."""
    told = f"{compared.rows:,} rows, {len(compared.equal)} columns equal"
    return told + (f"; differing: {json.dumps(compared.differing)}" if compared.differing else "")
