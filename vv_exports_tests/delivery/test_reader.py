"""Whoever receives a delivery reads one state of it, with nothing configured."""

import json
import shutil
import subprocess
import sys
from datetime import datetime

import fsspec
import pyarrow.dataset as ds
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.entry import FORMAT_VERSION
from vv_exports.delivery.reading import documents_in
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.reader import NEWEST_FORMAT, open_delivery
from vv_exports_tests.archives import segment

NUMBER = {"type": "object", "properties": {"0001": {"type": "integer"}, "it's": {"type": "string"}}}
MORE = {"type": "object", "properties": {"0001": {"type": "integer"}, "mood": {"type": "string"}}}


@pytest.fixture
def folder(deployment, clock):
    """Two runs of a prompt, the later one first, one of another that is not complete, and one again."""
    one = deployment.snapshot(
        "0001",
        prompt_id="0007",
        executed_at="2026-10-02T00:00:00Z",
        schema=NUMBER,
        segments=[segment(number, metadata={"0001": 2**60 + number, "it's": "a"}) for number in range(3)],
    )
    two = deployment.snapshot(
        "0002", prompt_id="0007", executed_at="2026-10-01T00:00:00Z", schema=MORE, segments=[segment(7)]
    )
    three = deployment.snapshot(
        "003", prompt_id="it's", status="completed_with_failures", segments=[segment(8, metadata={})]
    )
    for snapshot in (one, two, three):
        deliver(deployment.request(snapshot), deployment.store, clock)
    return deployment.folder / "deliveries" / "exports" / "team"


def ids(found):
    return sorted(found["segment_id"].to_pylist())


def test_the_rows_are_those_that_the_pipeline_itself_reads(folder):
    ours = [(one.prompt_run_id, one.document["segment_id"]) for one in documents_in(folder)]
    rows = open_delivery(folder).table("segments")
    assert sorted(zip(rows["prompt_run_id"].to_pylist(), rows["segment_id"].to_pylist(), strict=True)) == sorted(ours)
    whole = [one["0001"] for one in rows["metadata"].to_pylist() if one["0001"] is not None]
    assert sorted(whole) == [2**60, 2**60 + 1, 2**60 + 2]
    assert {"0001", "it's", "mood"} <= {field.name for field in rows.schema.field("metadata").type}


def test_latest_is_of_each_prompt_the_complete_run_that_was_executed_last(folder):
    delivery = open_delivery(folder)
    assert [run.run_id for run in delivery.runs()] == ["0001", "0002", "003"]
    assert [run.run_id for run in delivery.runs("latest")] == ["0001"]
    assert len(delivery.table("segments", "latest")) == 3
    assert [run.run_id for run in delivery.runs(prompt="it's")] == ["003"]
    assert len(delivery.table("segments", filter=ds.field("prompt_run_id") == "0002")) == 1
    assert delivery.table("videos", run="0001").num_rows == 0
    for wrong in ({"run": "004"}, {"prompt": "none"}):
        with pytest.raises(NotFoundError, match=next(iter(wrong.values()))):
            delivery.runs(**wrong)


def test_a_state_stays_what_it_is_and_earlier_ones_are_there(folder, deployment, clock):
    before = open_delivery(folder)
    deliver(deployment.request(deployment.snapshot("004", segments=[segment(9)])), deployment.store, clock)
    assert (len(before.runs()), len(open_delivery(folder).runs())) == (3, 4)
    assert [run.run_id for run in open_delivery(folder).at(entry=0).runs()] == ["0001"]
    entry = json.loads((folder / "_vv/log/00000000000000000001.json").read_text())
    moment = datetime.fromisoformat(entry["committed_at"])
    assert open_delivery(folder).at(time=moment).entry >= 1
    for wrong in ({"entry": 4}, {"entry": -1}, {"time": datetime.fromisoformat("2020-01-01T00:00:00Z")}):
        with pytest.raises(NotFoundError):
            open_delivery(folder).at(**wrong)
    with pytest.raises(RequestError, match="time zone"):
        open_delivery(folder).at(time=moment.replace(tzinfo=None))


def test_what_was_superseded_meanwhile_is_an_error_and_never_a_part(folder, deployment, clock):
    before = open_delivery(folder)
    again = deployment.snapshot(
        "0002", prompt_id="0007", executed_at="2026-10-01T00:00:00Z", schema=MORE, segments=[segment(70)]
    )
    deliver(deployment.request(again), deployment.store, clock)
    with pytest.raises(DeliveredDataError, match="open the delivery again"):
        before.table("segments")
    assert segment(70)["segment_id"] in ids(open_delivery(folder).table("segments"))
    assert segment(7)["segment_id"] not in ids(open_delivery(folder).table("segments"))


def test_a_zip_file_and_an_address_read_like_the_folder(folder, tmp_path):
    expected = ids(open_delivery(folder).table("segments"))
    zipped = shutil.make_archive(str(tmp_path / "packed"), "zip", folder.parent, folder.name)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/reader-bucket/team", recursive=True)
    try:
        for place in (zipped, f"file://{folder}", "memory://reader-bucket/team", f"{folder}/"):
            assert ids(open_delivery(place).table("segments")) == expected
        assert ids(open_delivery("/reader-bucket/team", filesystem=memory).table("segments")) == expected
    finally:
        memory.rm("/reader-bucket", recursive=True)


def test_a_log_that_cannot_be_trusted_is_named(folder, tmp_path):
    log = folder / "_vv/log"
    last = log / f"{2:020d}.json"
    whole = last.read_text()
    last.write_text(whole[: len(whole) // 2])
    with pytest.raises(DeliveredDataError, match=last.name):
        open_delivery(folder)
    last.write_text(json.dumps({**json.loads(whole), "format_version": 99}))
    with pytest.raises(DeliveredDataError, match="upgrade vv_exports"):
        open_delivery(folder)
    last.write_text(whole)
    (log / f"{1:020d}.json").unlink()
    with pytest.raises(DeliveredDataError, match="lacks entry 1"):
        open_delivery(folder)
    with pytest.raises(NotFoundError, match="no entries"):
        open_delivery(tmp_path / "nowhere")


def test_text_formats_have_paths_and_no_dataset(deployment, clock):
    snapshot = deployment.snapshot("run_1", segments=[segment(1)])
    deliver(deployment.request(snapshot, format_name="csv"), deployment.store, clock)
    delivery = open_delivery(deployment.folder / "deliveries/exports/team")
    assert [path.endswith(".csv") for path in delivery.files("segments")] == [True]
    with pytest.raises(RequestError, match="not Parquet"):
        delivery.dataset("segments")


def test_it_imports_neither_the_pipeline_nor_what_that_is_made_of():
    code = "import sys, vv_exports.reader; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {one for one in loaded if one.startswith("vv_exports")}
    assert ours == {"vv_exports", "vv_exports.errors", "vv_exports.printable", "vv_exports.reader"}
    assert not {"dagster", "msgspec", "pydantic", "videovector", "s3fs", "fsspec", "pyarrow.dataset", "pandas"} & set(
        loaded
    )


def test_it_reads_the_log_entries_that_are_written():
    assert NEWEST_FORMAT == FORMAT_VERSION


def test_a_zip_file_that_was_cut_short_is_told(tmp_path):
    archive = tmp_path / "download.zip"
    archive.write_bytes(b"PK cut")
    with pytest.raises(DeliveredDataError, match="no whole zip file"):
        open_delivery(archive)
