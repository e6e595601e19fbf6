"""What is beside the tables of an export: it is there once the export is complete, whatever dies on the way."""

import copy
import dataclasses
import json

import bagit
import pytest

from vv_exports.domain.exports import ExportRequest
from vv_exports.exports.make import ExportJob
from vv_exports.exports.stored_requests import restored, stored
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of, with_parts, write_config, written_files
from vv_exports_tests.exports.records import attempt_of, record_of
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes_after

BAG = ExportRequest("index", "idx", None, "conn_export", "there", bag=True, dataset_card=True)
WRITES = frozenset({"put", "create"})
SAID = {"title": "Scenes", "license": "CC-BY-4.0", "creators": ["The archive"]}


@pytest.fixture
def config(tmp_path):
    write_run(tmp_path / "archive")
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["dataset"] = SAID
    return config


def made(pipeline):
    record = record_of(1, "processing", request=BAG, prompt_run_ids=None)
    pipeline.exports.processing(record, attempt_of("1"))
    runs = pipeline.exports.decided(record.export_id, BAG)
    snapshots = [one.snapshot for one in pipeline.snapshots.of_runs(runs)]
    pipeline.exports.make(ExportJob(record.export_id, BAG, snapshots), "1")
    return pipeline.exports.find(record.export_id)


@pytest.mark.slow
def test_an_export_that_dies_after_each_write_is_a_whole_bag_in_the_end_and_says_so_not_before(tmp_path, config):
    folder = tmp_path / "deliveries/there" / record_of(1, "processing", request=BAG).export_id
    number, there, deaths = 0, set(), 0
    while True:
        pipeline = client_of(tmp_path, config).pipeline
        dying = FaultyConnector(pipeline.connectors["conn_export"], {number: crashes_after}, only=WRITES)
        with_parts(pipeline, connectors={**pipeline.connectors, "conn_export": dying})
        try:
            made(pipeline)
            break
        except Crash:
            before, there = there, written_files(tmp_path).keys()
            deaths += there != before
            number += there == before  # it wrote what was there, as it may
            if (folder / "bagit.txt").exists():
                assert bagit.Bag(str(folder)).validate()
    assert bagit.Bag(str(folder)).validate()
    files = {name.partition(f"{folder.name}/")[2] for name in written_files(tmp_path)}
    assert {"bagit.txt", "data/README.md", "data/croissant.json", "data/SHA256SUMS"} <= files
    assert deaths >= len(files) // 2, "it died in the middle of everything"


def test_a_card_says_what_the_configuration_says_of_the_index(tmp_path, config):
    record = made(client_of(tmp_path, config).pipeline)
    folder = tmp_path / "deliveries/there" / record.export_id / "data"
    card = json.loads((folder / "croissant.json").read_text())
    assert (card["name"], card["license"]) == ("Scenes", "https://spdx.org/licenses/CC-BY-4.0")
    assert card["creator"] == [{"@type": "sc:Organization", "name": "The archive"}]
    assert not card["isLiveDataset"]
    assert "# Scenes\n" in (folder / "README.md").read_text()


def test_a_request_is_kept_with_what_is_beside_it_and_without_as_it_always_was():
    assert restored(json.loads(json.dumps(stored(BAG)))) == BAG
    plain = dataclasses.replace(BAG, bag=False, dataset_card=False)
    assert not {"bag", "dataset_card"} & stored(plain).keys()
    assert restored(stored(plain)) == plain


def test_the_command_line_makes_what_it_plans(tmp_path, config):
    write_config(tmp_path, config)
    asked = ("export", "index", "idx", "--connector", "conn_export", "--bag", "--dataset-card")
    planned = json.loads(run(tmp_path, *asked, "--dry-run", "--json").out)
    assert (planned["bag"], planned["dataset_card"]) == (True, True)
    export = json.loads(run(tmp_path, *asked, "--json").out)
    assert (export["bag"], export["dataset_card"], export["rows"]) == (True, True, planned["rows"])
    assert bagit.Bag(export["destination_uri"]).validate()
    refused = run(tmp_path, *asked, "--format", "csv")
    assert (refused.code, "tells the columns of Parquet files" in refused.err) == (2, True)
