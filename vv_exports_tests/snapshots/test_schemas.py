"""The schemas of an index are known without a look at each run, and none of a kept snapshot is missing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.json_text import encode_sorted
from vv_exports.errors import DeliveredDataError, TransientError
from vv_exports.snapshots.catalog import Catalogs
from vv_exports.snapshots.schemas import KnownSchema, Schemas
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import SCHEMA, write_run

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OTHER = {"type": "object", "properties": {"other": {"type": "string"}}}
VIDEO = {"type": "object", "properties": {"plot": {"type": "string"}}}


class Requests(LocalConnector):
    """A storage that notes which keys were asked for, and fails where it is told to."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.read_keys, self.created, self.fails_on = [], [], "nothing"

    def read(self, key):
        self.read_keys.append(key)
        return super().read(key)

    def create(self, key, data, **options):
        if self.fails_on in key:
            raise TransientError("killed here")
        self.created.append(key)
        return super().create(key, data, **options)


class Index:
    def __init__(self, folder):
        self.folder = folder

    def write(self, run_id, schema=SCHEMA, **run):
        write_run(self.folder / "archive", run_id=run_id, schema=schema, **run)

    def snapshots(self):
        """As a process sees them that has just begun."""
        storage = Requests("storage", self.folder / "storage", make_root=True)
        source = LocalArchive(str(self.folder / "archive"))
        return Snapshots(source, storage, clock=lambda: NOW, progress=lambda *_: None)

    def take(self, *run_ids):
        snapshots = self.snapshots()
        snapshots.of_ids("idx", run_ids)
        return snapshots

    def forget_schemas(self):
        """As version 0.1 left a storage."""
        for path in (self.folder / "storage/schemas").rglob("*.json"):
            path.unlink()


@pytest.fixture
def index(tmp_path):
    return Index(tmp_path)


def in_order(schemas):
    return sorted(schemas, key=encode_sorted)


def found(snapshots):
    return in_order((one.table, one.json_schema) for one in snapshots.schemas("idx"))


BOTH = in_order([("segments", SCHEMA), ("segments", OTHER), ("videos", VIDEO)])


def test_each_schema_is_noted_once_and_no_revision_is_opened_for_it(index):
    for number in range(5):
        index.write(f"run_{number}", OTHER if number == 3 else SCHEMA, video_level_schema=VIDEO, videos=[])
    taken = index.take(*(f"run_{number}" for number in range(5)))
    assert sum(key.startswith("schemas/") for key in taken.storage.created) == len(BOTH) + 1
    other = index.snapshots()
    assert found(other) == BOTH
    assert not any("revisions/" in key for key in other.storage.read_keys)


def test_an_index_without_snapshots_has_no_schemas(index):
    assert found(index.snapshots()) == []
    index.write("run_1")
    index.take("run_1")
    assert found(index.snapshots()) == [("segments", SCHEMA)]


def test_schemas_of_snapshots_from_before_are_noted_the_first_time_they_are_asked_for(index):
    for number, schema in enumerate([SCHEMA, OTHER, SCHEMA]):
        index.write(f"run_{number}", schema, video_level_schema=VIDEO, videos=[])
    index.take("run_0", "run_1", "run_2")
    index.forget_schemas()
    index.write("new", {"properties": {"new": {}}})
    index.take("new")
    first, second = index.snapshots(), index.snapshots()
    assert found(first) == in_order([*BOTH, ("segments", {"properties": {"new": {}}})])
    assert any("revisions/" in key for key in first.storage.read_keys)
    assert found(second) == found(first)
    assert not any("revisions/" in key for key in second.storage.read_keys)


def test_a_look_that_is_cut_off_is_begun_again(index):
    index.write("run_1")
    index.write("run_2", OTHER)
    index.take("run_1", "run_2")
    index.forget_schemas()
    broken = index.snapshots()
    broken.storage.fails_on = "complete.json"
    with pytest.raises(TransientError):
        broken.schemas("idx")
    assert found(index.snapshots()) == in_order([("segments", SCHEMA), ("segments", OTHER)])


@pytest.mark.parametrize("place", ["revisions/", "catalogs/"])
def test_a_process_that_dies_while_it_keeps_a_snapshot_leaves_no_schema_out(index, place):
    index.write("run_1")
    index.take("run_1")
    index.write("run_2", OTHER)
    killed = index.snapshots()
    killed.storage.fails_on = place
    with pytest.raises(TransientError, match="killed here"):
        killed.of_ids("idx", ["run_2"])
    index.take("run_2")
    assert found(index.snapshots()) == in_order([("segments", SCHEMA), ("segments", OTHER)])


def test_one_that_version_0_1_kept_and_did_not_get_into_the_catalog_is_noted_when_it_does(index):
    index.write("run_1")
    index.take("run_1")
    index.forget_schemas()
    for path in (index.folder / "storage/catalogs").rglob("*.zst"):
        path.unlink()
    assert not Catalogs(index.snapshots().storage).read("idx").runs
    index.take("run_1")
    assert found(index.snapshots()) == [("segments", SCHEMA)]


def test_a_run_that_is_read_again_with_another_schema_notes_it(index):
    index.write("run_1")
    snapshots = index.take("run_1")
    index.write("run_1", OTHER)
    snapshots.read_again(snapshots.store.current("idx", "run_1"), 0)
    assert ("segments", OTHER) in found(index.snapshots())


def test_schemas_of_any_text_and_number_come_back(tmp_path):
    schemas = Schemas(LocalConnector("storage", tmp_path, make_root=True))
    odd = {"properties": {"\ud800": {"description": "ü"}, "": {"maximum": Decimal("1e400")}, "n": {"const": 5.0}}}
    schemas.note("an index/ü", [KnownSchema(table="segments", json_schema=odd)])
    (one,) = schemas.read("an index/ü")
    assert repr(one.json_schema) == repr({"properties": dict(sorted(odd["properties"].items()))})


def test_a_damaged_file_of_a_schema_is_named_and_the_way_out_works(index):
    index.write("run_1")
    index.take("run_1")
    folder = index.folder / "storage/schemas/idx"
    (path,) = [path for path in folder.iterdir() if path.name != "complete.json"]
    path.write_text("{")
    with pytest.raises(
        DeliveredDataError, match=rf"{path.name} is no schema .*Move it away; with complete\.json beside"
    ):
        index.snapshots().schemas("idx")
    path.unlink()
    (folder / "complete.json").unlink()
    assert found(index.snapshots()) == [("segments", SCHEMA)]
