"""A collection that tables are kept of, and how readers see them."""

import hashlib
import json
import os
from datetime import timedelta
from pathlib import Path

import deltalake
import polars as pl
import pyarrow as pa

from vv_exports.connectors.base import Connector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.erase import erase_runs
from vv_exports.delivery.log import read_log
from vv_exports.reader import Delivery, open_delivery
from vv_exports.table_formats.collection import CollectionTables
from vv_exports.table_formats.delta import DeltaTables
from vv_exports_tests.delivery.conftest import NOW, TEAM, Deployment

MINUTE = timedelta(minutes=1)
PROMPT = "prompt_id=prm"
EVERY_CALL = 1 if os.environ.get("VV_EXPORTS_TESTS_EVERY_CALL") else None


class Kept:
    """A deployment whose collection has Delta tables. ``connector`` stands for its own, where one is given."""

    def __init__(self, folder: Path, connector: Connector | None = None) -> None:
        self.deployment = Deployment(folder)
        self.connector = connector or self.deployment.connector
        self.folder = folder / "deliveries" / TEAM
        self.tables = CollectionTables(self.deployment.store._storage, "idx", "team", {"delta": DeltaTables})

    @property
    def destination(self):
        return self.deployment.destination(connector=self.connector)

    @property
    def progress(self):
        return self.tables.progress()["delta"]

    def deliver(self, *runs: str, follow: bool = True, kept: timedelta | None = None, **run: object) -> None:
        """Deliver runs as an automation does, in one entry."""
        snapshots = [self.deployment.snapshot(run_id, **run) for run_id in runs]
        self.deliver_snapshots(*snapshots, follow=follow, kept=kept)

    def deliver_snapshots(self, *snapshots, follow: bool = True, kept: timedelta | None = None) -> None:
        request = self.deployment.request(
            *snapshots,
            connector=self.connector,
            on_commit=self.follow if follow else None,
            retain_superseded=kept,
        )
        entries = read_log(self.destination).next_sequence
        deliver(request, self.deployment.store, lambda: NOW + entries * MINUTE)

    def erase(self, *runs: str) -> None:
        erase_runs(self.destination, runs, "asked for", lambda: NOW)
        self.follow()

    def follow(self, state=None) -> None:
        self.tables.follow(self.destination, state or read_log(self.destination), NOW)

    def rebuild(self) -> None:
        self.tables.rebuild(self.destination, read_log(self.destination), NOW)

    def table(self, name: str = "segments", prompt: str = PROMPT) -> Path:
        return self.folder / name / prompt

    def versions(self, name: str = "segments") -> dict[int, int]:
        """The entry of each version, by the table's own log."""
        history = deltalake.DeltaTable(self.table(name)).history()
        return {one["version"]: one["vv_exports.entry"] for one in history}

    def log_files(self) -> dict[str, str]:
        """Every file of the tables' logs, by its hash."""
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.glob("*/*/_delta_log/*"))
        }

    def data_files(self) -> dict[str, tuple[int, int, int]]:
        """Every data file: its inode, size and time of change."""
        stats = {path: path.stat() for path in self.folder.glob("*/*/prompt_run_id=*/*")}
        return {path.name: (one.st_ino, one.st_size, one.st_mtime_ns) for path, one in stats.items()}


def rows_of(delivery: Delivery, folder: str, prompt_id: str | None = None) -> pl.DataFrame:
    """What the delivery log says a table holds."""
    table = delivery.table(folder.partition(".")[0], folder=folder, prompt=prompt_id)
    return in_order(pl.DataFrame(pl.from_arrow(table))) if table.num_columns else pl.DataFrame()


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(sorted(rows.columns)).sort("prompt_run_id", "video_id", "start_time", "segment_id")


def assert_tables_are_the_collection(kept: Kept, *names: str) -> None:
    """Polars and deltalake read what ``vv_exports.reader`` reads."""
    delivery = open_delivery(kept.folder)
    for name in names or ("segments",):
        expected = rows_of(delivery, name)
        by_polars = in_order(pl.scan_delta(str(kept.table(name))).collect())
        table = deltalake.DeltaTable(kept.table(name))
        by_arrow = in_order(pl.DataFrame(pl.from_arrow(table.to_pyarrow_table())))
        counted = deltalake.QueryBuilder().register("t", table).execute("select count(*) from t").read_all()
        if expected.is_empty():
            assert (len(by_polars), len(by_arrow)) == (0, 0), name
            continue
        expected = expected.select(by_polars.columns)
        assert by_polars.equals(expected), name
        assert by_arrow.cast(expected.schema).equals(expected), name
        assert pa.table(counted).column(0).to_pylist() == [len(expected)], name


def actions_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
