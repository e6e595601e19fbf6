"""What it costs to keep Delta and Iceberg tables up with a delivery log: one more prompt run beside 10 and beside many.

    python benchmarks/table_formats.py [--runs 10000] [--formats delta iceberg]

Each prompt run is an entry of the log and so a version of the table, which is the most that there can be. Data files
are links to one Parquet file: their inodes tell that none is written. Prints medians of the CPU and of the time that
one addition takes, with the tenth and the ninetieth of a hundred, and the ratio.
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


def measure(name: str, runs: int, folder: Path) -> list[tuple[float, float]]:
    """CPU and time, in milliseconds, of each addition to a table that has so many runs."""
    collection, progress, taken = Collection(folder), Progress(), []

    def followed() -> Progress:
        tables = tables_of(name, collection)
        found = follow(tables, collection.destination, collection.state, progress, NOW)
        tables.close()
        assert not found.behind, found.behind
        return found

    collection.deliver()
    progress = followed()
    for _ in range(runs - 1):
        collection.deliver()
    progress = followed()  # a version for each of them
    for _ in range(MEASURED):
        collection.deliver()
        began, used = time.perf_counter(), time.process_time()
        progress = followed()
        taken.append(((time.process_time() - used) * 1000, (time.perf_counter() - began) * 1000))
    inodes = {path.stat().st_ino for path in (folder / "team/segments").glob("*/prompt_run_id=*/*.parquet")}
    assert inodes == {collection.template.stat().st_ino}, "a data file was written"
    (head,) = progress.heads.values()
    assert head.entry == runs + MEASURED - 1
    there = tables_of(name, collection)
    assert len(there.read("segments/prompt_id=prm").paths) == runs + MEASURED
    there.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--formats", nargs="+", default=["delta", "iceberg"])
    arguments = parser.parse_args()
    print(f"| table | what | beside 10 runs | beside {arguments.runs:,} | ratio |\n|---|---|---|---|---|")
    for name in arguments.formats:
        found = {}
        for runs in (10, arguments.runs):
            with tempfile.TemporaryDirectory() as folder:
                found[runs] = measure(name, runs, Path(folder))
        for what, place in (("CPU", 0), ("time", 1)):
            few, many = ([one[place] for one in taken] for taken in found.values())
            ratio = statistics.median(many) / statistics.median(few)
            print(f"| {name} | {what} of one more run | {_told(few)} | {_told(many)} | {ratio:.2f} |")


def _told(values: list[float]) -> str:
    nine = statistics.quantiles(values, n=10)
    return f"{statistics.median(values):.2f} ms ({nine[0]:.2f}–{nine[-1]:.2f})"


if __name__ == "__main__":
    main()
