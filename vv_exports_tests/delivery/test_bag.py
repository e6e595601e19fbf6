"""Exports as bags: the Library of Congress's own library finds them valid, and a flipped bit in them."""

import json
import logging
import re
import shutil
import zipfile
from pathlib import Path

import bagit
import pytest

from vv_exports.client.anywhere import verify_at
from vv_exports.errors import IdempotencyError, RequestError
from vv_exports.reader import open_delivery
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import client_of

ASKED = {"index_id": "idx", "destination_connector_id": "conn_export", "destination_subpath": "x y", "bag": True}


@pytest.fixture(autouse=True)
def _quietly(caplog):
    caplog.set_level(logging.ERROR, "bagit")


@pytest.fixture
def client(tmp_path):
    write_run(
        tmp_path / "archive", run_id="run/1 ü%", segments=[segment(1), segment(2, video="vid_2")], prompt_id="p/%"
    )
    write_run(tmp_path / "archive", run_id="run_2", segments=2, executed_at="2026-10-02T00:00:00Z")
    return client_of(tmp_path)


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_an_export_as_a_bag_is_valid_also_once_it_is_made_again_erased_from_and_vacuumed(client, tmp_path):
    made = client.exports.create_index_export(**ASKED, dataset_card=True, idempotency_key="k")
    folder = tmp_path / "deliveries/x y" / made.export_id
    assert (made.bag, made.dataset_card, made.destination_uri) == (True, True, str(folder))
    assert client.exports.retrieve(made.export_id) == made
    bag = bagit.Bag(str(folder))
    assert bag.validate()
    assert {"data/README.md", "data/croissant.json", "data/SHA256SUMS"} <= bag.payload_entries().keys()
    log = json.loads((folder / "data/_vv/log/00000000000000000000.json").read_text())
    assert bag.info["External-Identifier"] == made.export_id
    assert (bag.info["Bagging-Date"], bag.info["Internal-Sender-Identifier"]) == (
        log["committed_at"][:10],
        made.delivery_id,
    )
    assert open_delivery(folder).table().num_rows == 4

    before = everything(folder)
    assert client.exports.create_index_export(**ASKED, dataset_card=True, idempotency_key="k") == made
    with pytest.raises(IdempotencyError):
        client.exports.create_index_export(**{**ASKED, "bag": False}, dataset_card=True, idempotency_key="k")
    assert everything(folder) == before, "nothing is written twice"

    client.erasure.erase(video_id="vid_2", reason="ticket 2")
    client.erasure.erase(run_id="run_2", reason="ticket 1")
    assert bagit.Bag(str(folder)).validate()
    assert open_delivery(folder).table().num_rows == 1
    assert client.vacuum("conn_export", f"x y/{made.export_id}/data").left_alone == ()
    assert all(one.problems == () for one in client.verify("conn_export", f"x y/{made.export_id}"))


def test_one_flipped_bit_of_a_bag_is_named_by_both(client, tmp_path):
    made = client.exports.create_index_export(**ASKED)
    folder = tmp_path / "deliveries/x y" / made.export_id
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = str(path.relative_to(folder)), path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        if name != "tagmanifest-sha256.txt":  # of which nothing has the hash
            with pytest.raises(bagit.BagError, match=None if name == "bagit.txt" else re.escape(name)):
                bagit.Bag(str(folder)).validate()
        told = "\n".join(client.verify("conn_export", f"x y/{made.export_id}")[0].problems)
        # What the log says is changed by a changed entry, and that is seen at what was made of it.
        assert f"{folder / name}" in told or (name.startswith("data/_vv/log/") and "manifest-sha256.txt" in told), name
        path.write_bytes(data)
    assert bagit.Bag(str(folder)).validate()


def test_a_bag_without_its_declaration_is_repaired(client, tmp_path):
    made = client.exports.create_index_export(**ASKED)
    folder = tmp_path / "deliveries/x y" / made.export_id
    before = {name: data for name, (data, _) in everything(folder).items() if "/_vv/" not in name}
    (folder / "bagit.txt").unlink()
    next(folder.glob("data/segments/*/*/*.parquet")).write_bytes(b"")
    (found,) = client.verify("conn_export", f"x y/{made.export_id}")
    assert any("bagit.txt is missing, without which" in problem for problem in found.problems)
    (repaired,) = client.repairs.repair_at("conn_export", f"x y/{made.export_id}")
    assert repaired.after.problems == ()
    assert bagit.Bag(str(folder)).validate()
    assert before.keys() <= everything(folder).keys()


def test_a_file_of_somebody_else_in_a_bag_is_a_problem_as_it_is_to_tools(client, tmp_path):
    made = client.exports.create_index_export(**ASKED, dataset_card=True)
    folder = tmp_path / "deliveries/x y" / made.export_id
    (folder / "data/README.md").write_text("ours")
    (folder / "data/notes").mkdir()
    (folder / "data/notes/a.txt").write_text("ours")
    with pytest.raises(bagit.BagError):
        bagit.Bag(str(folder)).validate()
    for found in (client.verify("conn_export", f"x y/{made.export_id}")[0], verify_at(str(folder))[0]):
        told = [problem.partition(" is not the")[0] for problem in found.problems if "Move it out" in problem]
        assert [one.rpartition("data/")[2] for one in told] == ["README.md", "notes/a.txt"]
    (folder / "data/README.md").rename(tmp_path / "README.md")
    shutil.rmtree(folder / "data/notes")
    assert client.repairs.repair_at("conn_export", f"x y/{made.export_id}")[0].after.problems == ()
    assert bagit.Bag(str(folder)).validate()


def test_a_download_is_a_zip_file_of_a_bag(client, tmp_path):
    made = client.exports.create_index_export("idx", format="jsonl", bag=True)
    archive = client.exports.download(made.export_id, tmp_path / "out.zip").path
    assert verify_at(str(archive))[0].problems == ()
    with zipfile.ZipFile(archive) as zipped:
        assert {name.partition("/")[0] for name in zipped.namelist()} == {made.export_id}
        zipped.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / made.export_id
    assert bagit.Bag(str(folder)).validate()
    shutil.rmtree(folder / "data/_vv")
    assert verify_at(str(folder))[0].problems == ()


def test_what_cannot_be_is_refused_before_anything_is_written(client, tmp_path):
    write_run(tmp_path / "archive", run_id="run\n3", segments=1, executed_at="2026-10-03T00:00:00Z")
    with pytest.raises(RequestError, match=r"the id 'run\\n3' has a line break in it"):
        client.exports.create_index_export(**ASKED)
    with pytest.raises(RequestError, match="tells the columns of Parquet files, and format is 'csv'"):
        client.exports.create_index_export("idx", format="csv", dataset_card=True)
    assert client.exports.list() == []
    assert not (tmp_path / "deliveries").exists()
