"""What it costs to keep Delta and Iceberg tables up with a delivery log: one more prompt run beside 10 and beside many.

    .venv/bin/python -m benchmarks.table_formats [--runs 10000] [--formats delta iceberg]

Each prompt run is an entry of the log and so a version of the table, which is the most that there can be. Data files are
links to one Parquet file: their inodes tell that none is written. Prints medians, and their ratio.
"""

import argparse
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vv_exports.config import IcebergConfig
from vv_exports.connectors.lease import Lease
from vv_exports.connectors.local import LocalConnector
from vv_exports.content.column_json import column_to_json
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import (
    DeliveredFile,
    DeliveredRun,
    ExportReference,
    LogEntry,
    Provenance,
    RowCounts,
    TableColumns,
    write_entry,
)
from vv_exports.delivery.state import LogState
from vv_exports.snapshots.columns import Number, Text
from vv_exports.table_formats.delta import DeltaTables
from vv_exports.table_formats.following import follow
from vv_exports.table_formats.progress import Progress

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MEASURED = 60
COLUMNS = {"prompt_run_id": Text(), "title": Text(nullable=True), "seconds": Number(nullable=True)}


class Collection:
    """A collection whose log grows by one prompt run at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        owner = Owner(type="automation", index_id="idx", automation="team")
        self.destination = Destination(LocalConnector("conn", folder, "", make_root=True), "team", owner)
        self.template = folder / "template.parquet"
        rows = {name: ["x"] if isinstance(column, Text) else [1.0] for name, column in COLUMNS.items()}
        pq.write_table(pa.table(rows), self.template)
        self.state = LogState()

    def deliver(self) -> None:
        """One more prompt run: a link in the place of its file, and an entry."""
        number = self.state.next_sequence
        run_id = f"run_{number:06}"
        path = f"segments/prompt_id=prm/prompt_run_id={run_id}/part-00000-{number:016x}.parquet"
        place = self.folder / "team" / path
        place.parent.mkdir(parents=True)
        os.link(self.template, place)
        size = self.template.stat().st_size
        told = {name: column_to_json(column) for name, column in COLUMNS.items()}
        entry = LogEntry(
            format_version=2,
            delivery_id=f"{number:032x}",
            sequence=number,
            committed_at=(NOW + number * timedelta(seconds=1)).isoformat(),
            export=ExportReference(id="idx/team", type="automation", index_id="idx", automation="team"),
            files=[
                DeliveredFile(
                    path=path, table="segments", prompt_id="prm", prompt_run_id=run_id, rows=1, bytes=size, sha256="0"
                )
            ],
            prompt_runs=[
                DeliveredRun(
                    run_id=run_id,
                    prompt_id="prm",
                    status="completed",
                    revision=1,
                    data_version="1",
                    counts=RowCounts(expected=1, delivered=1, failed=0),
                    supersedes=None,
                )
            ],
            provenance=Provenance(
                vv_exports_version="0",
                dagster_run_id=None,
                snapshot_store="",
                format="parquet",
                layout_version=3,
                prompt_runs=[],
                json_schemas={},
                content_id="c",
            ),
            tables=[
                TableColumns(
                    prompt_id="prm",
                    table="segments",
                    folder="segments",
                    columns=told,
                    metadata={"type": "object", "fields": [{"name": "title", "type": "string"}]},
                    shape="s",
                    kept_as_json={},
                )
            ],
        )
        assert write_entry(self.destination, entry, Lease())
        self.state.apply(entry)


def tables_of(name: str, collection: Collection):
    """The tables of a format, opened anew as each run of an automation does."""
    if name == "delta":
        return DeltaTables(collection.destination)
    from vv_exports.table_formats.iceberg import IcebergTables

    config = IcebergConfig.model_validate({"catalog": {"type": "sql", "uri_env": "CATALOG"}})
    return IcebergTables(collection.destination, config, {"CATALOG": f"sqlite:///{collection.folder}/catalog.db"})


def measure(name: str, runs: int, folder: Path) -> list[float]:
    """Seconds of each of the last additions to a table, of ``runs`` before them."""
    collection, progress, seconds = Collection(folder), Progress(), []
    for number in range(runs + MEASURED):
        collection.deliver()
        began = time.perf_counter()
        tables = tables_of(name, collection)
        progress = follow(tables, collection.destination, collection.state, progress, NOW)
        tables.close()
        seconds.append(time.perf_counter() - began)
        assert not progress.behind, progress.behind
    inodes = {path.stat().st_ino for path in (folder / "team/segments").glob("*/prompt_run_id=*/*.parquet")}
    assert inodes == {collection.template.stat().st_ino}, "a data file was written"
    (head,) = progress.heads.values()
    assert head.entry == runs + MEASURED - 1
    print(
        f"  {name}, {runs} runs: table of {len(tables_of(name, collection).read('segments/prompt_id=prm').paths)} files"
    )
    return seconds[-MEASURED:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--formats", nargs="+", default=["delta", "iceberg"])
    arguments = parser.parse_args()
    for name in arguments.formats:
        found = {}
        for runs in (10, arguments.runs):
            with tempfile.TemporaryDirectory() as folder:
                found[runs] = measure(name, runs, Path(folder))
        few, many = (statistics.median(found[runs]) * 1000 for runs in found)
        deviation = {runs: statistics.quantiles(one, n=10) for runs, one in found.items()}
        said = ", ".join(f"{runs}: {nine[0] * 1000:.1f}–{nine[-1] * 1000:.1f}" for runs, nine in deviation.items())
        print(
            f"{name}: {few:.2f} ms beside 10, {many:.2f} ms beside {arguments.runs}: {many / few:.2f} times ({said} ms)"
        )


if __name__ == "__main__":
    main()
