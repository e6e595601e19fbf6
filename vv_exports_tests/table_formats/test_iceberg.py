"""Iceberg tables beside the delivery log, in a catalog of SQLite, as pyiceberg and Polars read them."""

import gzip
import shutil
from contextlib import closing
from datetime import timedelta

import polars as pl
import pytest
from pyiceberg.catalog import load_catalog

from vv_exports.config import IcebergConfig
from vv_exports.delivery.survey import survey
from vv_exports.delivery.vacuum import vacuum
from vv_exports.reader import open_delivery
from vv_exports.table_formats.collection import CollectionTables
from vv_exports.table_formats.iceberg import IcebergTables
from vv_exports_tests.archives import SCHEMA, segment, write_run
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, crashes_after
from vv_exports_tests.fakes.iceberg_rest import TOKEN, rest_catalog
from vv_exports_tests.table_formats.given import EVERY_CALL, PROMPT, Kept, in_order, rows_of

pytestmark = pytest.mark.slow
BRANDS = [{"name": "a", "seconds": 1.0}]
"""In each answer: pyiceberg 0.12 reads a null list of objects as an empty one."""
WIDER = {**SCHEMA, "properties": {**SCHEMA["properties"], "people": {"type": "number"}}}
MORE = {**SCHEMA, "properties": {**SCHEMA["properties"], "mood": {"type": "string"}}}


class KeptInCatalog(Kept):
    """A deployment whose collection has Iceberg tables."""

    def __init__(self, folder, connector=None):
        super().__init__(folder, connector)
        self.environ = {"CATALOG": f"sqlite:///{folder}/catalog.db"}
        config = IcebergConfig.model_validate({"catalog": {"type": "sql", "uri_env": "CATALOG"}})

        def opened(destination):
            return IcebergTables(destination, config, self.environ)

        self.tables = CollectionTables(self.deployment.store._storage, "idx", "team", {"iceberg": opened})

    @property
    def progress(self):
        return self.tables.progress()["iceberg"]

    def read(self, name="segments__prm", entry=None):
        """A table's rows, as of an entry of the log, and its entries by snapshot."""
        with closing(load_catalog("vv_exports", type="sql", uri=self.environ["CATALOG"])) as catalog:
            table = catalog.load_table(f"idx__team.{name}")
            entries = {one.summary["vv_exports.entry"]: one.snapshot_id for one in table.snapshots()}
            snapshot = None if entry is None else entries[str(entry)]
            rows = in_order(pl.DataFrame(pl.from_arrow(table.scan(snapshot_id=snapshot).to_arrow())))
            return rows, sorted(map(int, entries)), table.metadata_location


@pytest.fixture
def kept(tmp_path):
    return KeptInCatalog(tmp_path)


def assert_table_is_the_collection(kept, entry=None):
    delivery = open_delivery(kept.folder)
    expected = rows_of(delivery if entry is None else delivery.at(entry=entry), "segments")
    rows, *_ = kept.read(entry=entry)
    if expected.is_empty():
        assert rows.is_empty()
        return
    assert set(rows.columns) == set(expected.columns)
    expected = expected.select(rows.columns)
    assert rows.cast(expected.schema).equals(expected)


def test_each_entry_is_a_snapshot_through_deliveries_columns_erasure_vacuum_and_a_rebuild(kept, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    hour = {"kept": timedelta(hours=1)}
    kept.deliver("run_1", "run_2", **hour)
    files = kept.data_files()
    kept.deliver("run_1", segments=5, **hour)
    assert_table_is_the_collection(kept)
    assert_table_is_the_collection(kept, entry=0)
    metadata = {"title": "t", "brands": BRANDS, "people": 1, "mood": "calm"}
    kept.deliver("run_3", schema=MORE, segments=[segment(1, metadata=metadata)], **hour)
    assert_table_is_the_collection(kept)
    assert_table_is_the_collection(kept, entry=1)
    metadata = {"title": "t", "brands": BRANDS, "people": 1.5}
    kept.deliver("run_4", schema=WIDER, segments=[segment(1, metadata=metadata)], **hour)
    assert kept.progress.behind[f"segments/{PROMPT}"].why == "waits"
    kept.deliver_snapshots(*(kept.deployment.read(f"run_{run}") for run in (1, 2, 3)), **hour)
    assert kept.progress.behind == {}
    assert_table_is_the_collection(kept)
    assert_table_is_the_collection(kept, entry=1)  # of columns as they were
    kept.erase("run_3")
    assert_table_is_the_collection(kept)
    assert kept.read()[1] == [0, 1, 2, 4, 5]
    assert survey(kept.destination, now=NOW).beside.foreign == {}
    vacuum(kept.destination, lambda: NOW + timedelta(hours=3))
    assert_table_is_the_collection(kept)
    by_polars = pl.scan_iceberg(kept.read()[2]).select(pl.len()).collect().item()
    assert by_polars == len(rows_of(open_delivery(kept.folder), "segments"))
    now = kept.data_files()
    kept.rebuild()
    assert_table_is_the_collection(kept)
    assert (kept.read()[1], kept.data_files()) == ([5], now)
    assert {name: one for name, one in now.items() if name in files}.items() <= files.items()


def test_no_value_of_a_result_and_no_secret_stands_in_metadata(kept):
    kept.deliver("run_1", segments=[segment(1, metadata={"title": "hush-hush"}, metadata_text="hush-hush")])
    kept.deliver("run_2")
    written = [path.read_bytes() for path in (kept.folder / "_vv/iceberg").rglob("*") if path.is_file()]
    plain = [gzip.decompress(one) if one[:2] == b"\x1f\x8b" else one for one in written]
    assert len(plain) > 4
    assert not any(b"hush" in one or b"catalog.db" in one or b"py-io-impl" in one for one in plain)


def test_killed_at_any_call_while_tables_follow_the_next_run_catches_up(tmp_path):
    def killed_at(fault, call, folder):
        kept = KeptInCatalog(folder)
        kept.deliver("run_1")
        kept.deliver("run_1", segments=4, follow=False)
        faulty = FaultyConnector(kept.deployment.connector, {call: fault} if fault else {})
        try:
            KeptInCatalog(folder, faulty).follow()
        except Crash:
            kept.follow()
        assert_table_is_the_collection(kept)
        assert kept.read()[1] == [0, 1]
        return faulty.calls

    calls = killed_at(None, 0, tmp_path / "unkilled")
    for call in range(0, calls, EVERY_CALL or 19):
        for fault in (crashes, crashes_after):
            killed_at(fault, call, tmp_path / f"{call}-{fault.__name__}")


def test_a_catalog_that_is_away_keeps_tables_behind_and_says_no_secret(kept, caplog):
    kept.environ["CATALOG"] = f"sqlite:///{kept.deployment.folder}/none/s3cret.db"
    kept.deliver("run_1")
    (failed,) = kept.progress.failed
    assert "its database cannot be used: OperationalError" in failed.message
    assert open_delivery(kept.folder).entry == 0
    assert "s3cret" not in failed.message + caplog.text
    del kept.environ["CATALOG"]
    kept.follow()
    assert "the environment variable CATALOG is not set" in kept.progress.failed[0].message
    kept.environ["CATALOG"] = f"sqlite:///{kept.deployment.folder}/catalog.db"
    kept.follow()
    assert_table_is_the_collection(kept)


def test_a_rest_catalog_keeps_tables_with_a_token_that_nobody_is_told(kept):
    with rest_catalog(kept.deployment.folder) as server:
        catalog = {"type": "rest", "uri": server.uri, "token_env": "TOKEN"}
        config = IcebergConfig.model_validate({"catalog": catalog, "namespace": "a.b"})
        kept.tables = CollectionTables(
            kept.deployment.store._storage,
            "idx",
            "team",
            {"iceberg": lambda destination: IcebergTables(destination, config, kept.environ)},
        )
        kept.environ["TOKEN"] = "s3cret"
        kept.deliver("run_1")
        (refused,) = kept.progress.failed
        assert (refused.kind, "s3cret" in refused.message) == ("CredentialsError", False)
        kept.environ["TOKEN"] = TOKEN
        kept.follow()
        kept.deliver("run_1", segments=5)
        kept.deliver("run_2")
        assert kept.progress.behind == {}
        reader = load_catalog("any", type="rest", uri=server.uri, token=TOKEN)
        table = reader.load_table("a.b.segments__prm")
        assert len(table.scan().to_arrow()) == 8
        assert [one.summary["vv_exports.entry"] for one in table.snapshots()] == ["0", "1", "2"]
        kept.rebuild()
        assert len(reader.load_table("a.b.segments__prm").scan().to_arrow()) == 8
        assert any(one.startswith("DELETE ") for one in server.asked)


def test_of_very_many_snapshots_the_oldest_are_forgotten(kept, monkeypatch):
    monkeypatch.setattr("vv_exports.table_formats.iceberg._MOST_SNAPSHOTS", 2)
    monkeypatch.setattr("vv_exports.table_formats.iceberg._VERSIONS_TO_A_LOOK", 2)
    for run in range(5):
        kept.deliver(f"run_{run}")
    assert kept.read()[1] in ([2, 3, 4], [3, 4])
    assert_table_is_the_collection(kept)


def automations_with(config, folder, monkeypatch, **places):
    """A client of automations, by their destinations, whose Iceberg tables share one namespace."""
    monkeypatch.setenv("CATALOG", f"sqlite:///{folder}/catalog.db")
    tables = {"iceberg": {"catalog": {"type": "sql", "uri_env": "CATALOG"}, "namespace": "shared"}}
    team = {**config["indexes"]["idx"]["automations"]["team"], "tables": tables}
    automations = {name: {**team, "destination_subpath": place} for name, place in places.items()}
    return client_of(folder, {**config, "indexes": {"idx": {"automations": automations}}})


def shared_rows(folder):
    with closing(load_catalog("vv_exports", type="sql", uri=f"sqlite:///{folder}/catalog.db")) as catalog:
        table = catalog.load_table("shared.segments__prm")
        return table.location(), table.scan().to_arrow().num_rows


def test_a_table_moves_with_its_collection(tmp_path, monkeypatch):
    write_run(tmp_path / "archive")
    automations_with(CONFIG, tmp_path, monkeypatch, team="before").automations.run("idx", "team")
    client = automations_with(CONFIG, tmp_path, monkeypatch, team="after")
    client.automations.run("idx", "team")
    client.vacuum_abandoned("conn_export")
    assert not (tmp_path / "deliveries/before").exists()
    location, rows = shared_rows(tmp_path)
    assert ("/deliveries/after/" in location, rows) == (True, 3)
    assert [one.behind for one in client.tables.list("idx", "team")] == [None]


def test_two_collections_share_no_table(tmp_path, monkeypatch):
    write_run(tmp_path / "archive")
    client = automations_with(CONFIG, tmp_path, monkeypatch, team="one", other="two")
    client.automations.run("idx", "team")
    client.automations.run("idx", "other")
    (told,) = client.tables.list("idx", "other")
    assert "choose another `namespace`" in told.behind
    assert "/deliveries/one/" in shared_rows(tmp_path)[0]
    assert [one.behind for one in client.tables.list("idx", "team")] == [None]


def test_a_log_that_begins_anew_at_the_same_number_is_another_one(kept):
    kept.deliver("run_1", segments=2)
    shutil.rmtree(kept.folder / "_vv/log")
    (kept.folder / "_vv/owner.json").unlink()
    kept.deliver("run_1", segments=[segment(number, metadata={"brands": BRANDS}) for number in range(5)])
    assert kept.read()[0].height == 5
