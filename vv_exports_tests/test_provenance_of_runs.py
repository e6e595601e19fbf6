"""The chain of a prompt run: where it comes from, what is kept of it, and every delivery of it."""

import json
import os
import shutil
import zipfile

import pytest

from vv_exports.client.anywhere import provenance_at, verify_at
from vv_exports.errors import NotFoundError, RequestError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of, reconciled


@pytest.fixture
def client(tmp_path):
    rows = [segment(number, video=f"vid_{number:02}") for number in range(30)]
    write_run(tmp_path / "archive", run_id="run/1", segments=rows, processing_model="vision-3")
    client = client_of(tmp_path)
    client.pipeline.automations.begin("idx", client.pipeline.indexes.listing("idx"), client.pipeline.clock())
    reconciled(client)
    return client


def test_a_run_tells_its_chain_and_each_delivery_with_what_superseded_it(client, tmp_path):
    write_run(tmp_path / "archive", run_id="run/1", segments=2, processing_model="vision-3")
    reconciled(client)
    reconciled(client, "held")
    found = client.provenance.of_run("run/1")
    assert (found.index_id, found.source_kind, found.status) == ("idx", "local_archive", "completed")
    assert (found.origin.prompt_id, found.origin.processing_model) == ("prm", "vision-3")
    assert (found.snapshot.revision, found.snapshot.rows, found.snapshot.media) == (
        2,
        {"segments": 2},
        {"vid_1": "Video vid_1"},
    )
    told = [(one.export, one.entry, one.rows, one.reason, one.superseded_by) for one in found.deliveries]
    assert told == [
        ("idx/team", 0, {"segments": 30}, "new", 1),
        ("idx/team", 1, {"segments": 2}, "changed", None),
        ("idx/held", 0, {"segments": 2}, "new", None),
    ]
    assert found.deliveries[1].data_version == found.snapshot.data_version
    assert found.problems == []


def test_media_are_counted_and_named_up_to_a_bound_or_all(client, tmp_path):
    some, all_ = (client.provenance.of_run("run/1", "idx", all_media=one).snapshot for one in (False, True))
    assert (some.media_count, len(some.media), len(all_.media)) == (30, 20, 30)
    said = run(tmp_path, "provenance", "run/1", "--index", "idx")
    assert "and 10 more (--media names all)" in said.out
    assert (said.code, "held there now" in said.out) == (0, True)
    document = run(tmp_path, "provenance", "run/1", "--index", "idx", "--media", "--json").document
    assert len(document["snapshot"]["media"]) == 30


def test_what_was_erased_says_so_and_the_entry_that_took_it_out(client):
    client.erasure.erase(run_id="run/1", reason="ticket 1")
    found = client.provenance.of_run("run/1")
    assert found.erased.endswith(": ticket 1")
    assert found.snapshot is None
    assert [(one.is_erased, one.erasure) for one in found.deliveries] == [(False, None), (True, "ticket 1")]
    assert found.origin.prompt_id == "prm", "as the log tells it"


def test_a_log_that_cannot_be_read_as_a_whole_is_told(client, tmp_path):
    log = tmp_path / "deliveries/exports/team/_vv/log"
    (log / "00000000000000000001.json").write_text("{")
    found = client.provenance.of_run("run/1")
    assert (len(found.deliveries), "000001.json is not a delivery log entry" in found.problems[0]) == (1, True)
    file = next((tmp_path / "deliveries").rglob("*.parquet"))
    assert "000001.json is not" in provenance_at(str(file)).log_problem


def test_a_run_that_nobody_knows_or_that_is_in_several_indexes_is_told(tmp_path):
    config = {**CONFIG, "indexes": {**CONFIG["indexes"], "other": {}}}
    for index_id in ("idx", "other"):
        write_run(tmp_path / "archive", index_id=index_id, run_id="run_1")
    client = client_of(tmp_path, config)
    with pytest.raises(NotFoundError, match="nothing is known of a prompt run 'run_1'"):
        client.provenance.of_run("run_1")
    for index_id in ("idx", "other"):
        client.pipeline.snapshots.of_ids(index_id, ["run_1"])
    with pytest.raises(RequestError, match="'idx', 'other': say which with --index"):
        client.provenance.of_run("run_1")
    assert client.provenance.of_run("run_1", "other").deliveries == []


def test_a_file_in_a_zip_file_has_its_provenance(tmp_path):
    write_run(tmp_path / "archive", segments=3)
    client = client_of(tmp_path)
    made = client.exports.create_index_export("idx")
    archive = client.exports.download(made.export_id, tmp_path / "out.zip").path
    path = json.loads(run(tmp_path, "verify", str(archive), "--json").out)[0]["uri"]
    (delivery,) = client.provenance.of_run("run_1").downloads
    assert delivery.export_id == made.export_id
    assert client.provenance.of_run("run_1").deliveries == []
    name = f"segments/prompt_id=prm/prompt_run_id=run_1/{_only_part(archive)}"
    assert provenance_at(f"{path}/{name}").is_as_delivered
    with pytest.raises(NotFoundError):
        provenance_at(f"{path}/segments/elsewhere.parquet")


def _only_part(archive):
    with zipfile.ZipFile(archive) as zipped:
        (name,) = (one.rpartition("/")[2] for one in zipped.namelist() if "part-" in one)
    return name


def test_what_is_in_the_place_of_a_file_and_cannot_be_read_is_told(client, tmp_path):
    file = next((tmp_path / "deliveries/exports/team").rglob("*.parquet"))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    found = provenance_at(str(file))
    assert (found.is_as_delivered, "symbolic link" in found.problem) == (False, True)
    file.unlink()
    os.mkfifo(file)
    assert "FIFO" in provenance_at(str(file)).problem
    file.unlink()
    assert (provenance_at(str(file)).problem, provenance_at(str(file)).found_sha256) == (None, None)


def test_deliveries_within_one_another_and_under_any_name_are_all_verified(client, tmp_path):
    team = tmp_path / "deliveries/exports/team"
    inner = team / "_copies/team=old"
    inner.parent.mkdir()
    (tmp_path / "aside").mkdir()
    shutil.copytree(team, tmp_path / "aside/x", ignore=shutil.ignore_patterns("_copies"))
    (tmp_path / "aside/x").rename(inner)
    next(inner.rglob("*.parquet")).unlink()
    outer, within = verify_at(str(team))
    assert (outer.uri, outer.problems) == (str(team), ())
    assert (within.uri, len(within.problems)) == (str(inner), 1)
