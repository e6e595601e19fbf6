"""Which state the consumer's reader gives, whatever is delivered, removed or erased meanwhile, and where it is."""

import json
import posixpath
import shutil
from datetime import UTC, datetime, timedelta

import fsspec
import pyarrow.dataset as ds
import pytest
from fsspec.implementations.local import LocalFileSystem

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.erase import erase_runs
from vv_exports.delivery.vacuum import vacuum
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.reader import TABLES, open_delivery
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.delivery.earlier_version import deliver_by_0_1, snapshot_of_0_1
from vv_exports_tests.delivery.given import MINUTE, ODD

SMALL = {"type": "object", "properties": {"size": {"type": "integer"}}}


def ids(delivery, **chosen):
    return sorted(delivery.table("segments", **chosen)["segment_id"].to_pylist())


class Recording(LocalFileSystem):
    """A folder that tells which files were opened."""

    cachable = False

    def __init__(self, **options):
        super().__init__(**options)
        self.opened = []

    def open(self, path, mode="rb", **options):
        self.opened.append(path.partition("/team/")[2])
        return super().open(path, mode, **options)


def test_no_file_of_another_run_or_prompt_is_opened_than_is_asked_for(given):
    recording = Recording()
    delivery = open_delivery(given.folder, filesystem=recording)
    dataset = delivery.dataset("segments", folder="segments")

    def opened(read):
        recording.opened.clear()
        return len(read()), {posixpath.dirname(path).rpartition("=")[2] for path in recording.opened}

    assert opened(lambda: delivery.files("segments")) == (6, set())
    assert opened(lambda: delivery.table("segments", run="006")) == (2, {"006"})
    assert opened(lambda: delivery.table("segments", prompt="PRM-a")) == (1, {"005"})
    assert opened(lambda: delivery.table("quarantine", "latest")) == (0, set())
    for asked, found in (
        (ds.field("prompt_run_id") == "0001", (4, {"0001"})),
        (ds.field("prompt_id").isin(["PRM-a", "prm_a"]), (3, {"005", "006"})),
        (ds.field("prompt_id") == ODD, (1, {"a%2Fb%20c%27d"})),
        (ds.field("prompt_run_id") == "1", (0, set())),
    ):
        assert opened(lambda asked=asked: dataset.to_table(filter=asked)) == found


def test_each_table_and_version_has_its_rows_and_a_table_without_rows_is_none(given):
    delivery = open_delivery(given.folder)
    assert {table: sum(run.rows for run in _files(delivery, table)) for table in TABLES} == {
        "segments": 10,
        "videos": 0,
        "failures": 1,
        "quarantine": 1,
    }
    assert (delivery.files("videos"), delivery.table("videos").num_rows) == ([], 0)
    assert ids(delivery, folder="segments.v2") == ["seg_00001"]
    with pytest.raises(RequestError, match=r"prompt=….*segments\.v2"):
        delivery.table("segments", prompt="0007")
    (apart,) = delivery.table("quarantine").to_pylist()
    assert (apart["prompt_run_id"], apart["table"], apart["segment_id"]) == ("0002", "segments", "seg_00002")
    assert [run.run_id for run in delivery.runs("latest")] == ["0001", "005", "006"]
    whole = delivery.table("segments", run="0001").to_pylist()[-1]["metadata"]["0001"]
    assert whole == 2**60 + 1


def _files(delivery, table):
    return [file for run in delivery.runs() for file in run.files if file.table == table]


def test_an_earlier_state_is_that_of_its_entry_or_of_the_last_one_until_a_time(given):
    delivery = open_delivery(given.folder)
    first = delivery.at(entry=0)
    assert (len(first.table("segments")), len(delivery.at(entry=1).table("segments"))) == (1, 4)
    assert len(delivery.at(entry=delivery.entry).runs()) == len(delivery.runs()) == 6
    for time, entry in ((NOW, 0), (NOW + MINUTE, 1), (NOW + MINUTE - timedelta(microseconds=1), 0)):
        assert delivery.at(time=time).entry == entry
    assert delivery.at(time=datetime(2100, 1, 1, tzinfo=UTC)).entry == delivery.entry == 6
    with pytest.raises(NotFoundError, match="those from 0 to 6"):
        delivery.at(time=NOW - timedelta(microseconds=1))
    assert delivery.at(entry=3).at(entry=1).entry == 1, "an earlier state of an earlier one"
    with pytest.raises(NotFoundError):
        first.at(entry=1)


def test_a_reader_that_begins_before_a_redelivery_and_a_vacuum_ends_with_the_state_it_began_with(deployment):
    def give(*numbers, at):
        snapshot = deployment.snapshot(segments=[segment(number) for number in numbers])
        request = deployment.request(snapshot, retain_superseded=timedelta(hours=1))
        deliver(request, deployment.store, lambda: at)

    give(1, 2, at=NOW)
    folder = deployment.folder / "deliveries/exports/team"
    began = open_delivery(folder)
    scan = began.dataset("segments").scanner().to_batches()
    give(1, 3, 4, at=NOW + MINUTE)
    vacuum(deployment.destination(), lambda: NOW + 2 * MINUTE)
    assert sum(batch.num_rows for batch in scan) == 2
    assert ids(began) == ["seg_00001", "seg_00002"]
    assert ids(open_delivery(folder)) == ["seg_00001", "seg_00003", "seg_00004"]
    vacuum(deployment.destination(), lambda: NOW + timedelta(hours=2))
    with pytest.raises(DeliveredDataError, match="open the delivery again"):
        began.table("segments")
    assert len(ids(open_delivery(folder))) == 3


def test_an_erased_run_has_no_rows_until_it_is_delivered_again(deployment, clock):
    for run_id, number in (("run_1", 1), ("run_2", 2)):
        deliver(deployment.request(deployment.snapshot(run_id, segments=[segment(number)])), deployment.store, clock)
    folder = deployment.folder / "deliveries/exports/team"
    assert erase_runs(deployment.destination(), ["run_2"], "ticket 1", clock) == ("run_2",)
    delivery = open_delivery(folder)
    assert ([run.run_id for run in delivery.runs()], ids(delivery)) == (["run_1"], ["seg_00001"])
    assert [run.run_id for run in delivery.runs("latest")] == ["run_1"]
    assert len(delivery.at(entry=1).runs()) == 2
    with pytest.raises(NotFoundError, match="run_2"):
        delivery.files(run="run_2")
    deliver(deployment.request(deployment.read("run_2")), deployment.store, clock)
    assert ids(open_delivery(folder)) == ["seg_00001", "seg_00002"]


def test_a_log_that_version_0_1_began_is_read_on(deployment, clock):
    earlier = snapshot_of_0_1(deployment, "run_1", schema=SMALL, segments=[segment(1, metadata={"size": 2**53 + 1})])
    deliver_by_0_1(deployment, earlier)
    later = deployment.snapshot("run_2", schema=SMALL, segments=[segment(2, metadata={"size": 3})])
    deliver(deployment.request(later), deployment.store, clock)
    rows = open_delivery(deployment.folder / "deliveries/exports/team").table("segments")
    assert sorted(one["size"] for one in rows["metadata"].to_pylist()) == [3, 2**53 + 1]


def test_a_run_that_an_entry_lists_twice_counts_once(given, tmp_path):
    folder = shutil.copytree(given.folder, tmp_path / "team")
    last = folder / f"_vv/log/{6:020d}.json"
    entry = json.loads(last.read_text())
    last.write_text(json.dumps({**entry, "prompt_runs": entry["prompt_runs"] * 2}))
    assert ids(open_delivery(folder), run="006") == ["seg_00004", "seg_00005"]
    assert len(open_delivery(folder).runs()) == 6


def test_in_a_store_it_gives_the_same_and_a_file_that_is_gone_is_told(given, servers):
    server = servers.moto
    options = {"key": server.access_key, "secret": server.secret_key, "endpoint_url": server.endpoint_url}
    address = "s3://bucket/reader states/it's"
    local = open_delivery(given.folder)
    with pytest.raises(NotFoundError, match="no entries"):
        open_delivery(address, storage_options=options)
    store, path = fsspec.url_to_fs(address, **options)
    store.put(f"{given.folder}/", f"{path}/", recursive=True)
    there = open_delivery(address, storage_options=options)
    for view in ("current", "latest"):
        assert there.runs(view) == local.runs(view)
        assert ids(there, view=view, folder="segments") == ids(local, view=view, folder="segments")
    chosen = there.table("segments", filter=ds.field("prompt_run_id") == "a/b c'd", folder="segments")
    assert chosen["prompt_id"].to_pylist() == [ODD]
    store.rm(there.files("segments", run="006"))
    with pytest.raises(DeliveredDataError, match="open the delivery again"):
        there.table("segments", run="006")
    assert len(there.table("segments", run="005")) == 1
