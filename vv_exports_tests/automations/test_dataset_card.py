"""The dataset card that a collection keeps."""

import copy
import json
import logging

import pytest
import yaml

from vv_exports.errors import ConfigurationError
from vv_exports_tests.archives import SCHEMA, segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, with_parts
from vv_exports_tests.fakes.faulty_connector import FaultyConnector, fails

NEWER = {
    "type": "object",
    "properties": {**SCHEMA["properties"], "mood": {"type": "string", "description": "It feels"}},
}


def client_with(folder, dataset=None, **automation):
    config = copy.deepcopy(CONFIG)
    index = config["indexes"]["idx"]
    index["automations"] = {"team": {**index["automations"]["team"], "dataset_card": True, **automation}}
    index["dataset"] = dataset or {}
    return client_of(folder, config)


@pytest.fixture
def collection(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    return tmp_path / "deliveries/exports/team"


def card(collection):
    """The columns of segments, and the rows, as both of its files tell them."""
    croissant = json.loads((collection / "croissant.json").read_text())
    metadata = yaml.safe_load((collection / "README.md").read_text().split("---\n")[1])
    (record_set,) = croissant["recordSet"]
    (info,) = metadata["dataset_info"]
    fields = {one["name"]: [part["name"] for part in one.get("subField", ())] for one in record_set["field"]}
    features = {one["name"]: [part["name"] for part in one.get("struct", ())] for one in info["features"]}
    assert {f"metadata.{name}" for name in features["metadata"]} == set(fields["metadata"])
    assert features.keys() == fields.keys()
    return features["metadata"], record_set["description"].partition(" of the prompt ")[0]


@pytest.mark.slow
def test_a_card_is_brought_up_to_date_by_deliveries_erasures_and_a_run_with_nothing_due(tmp_path, collection):
    client_with(tmp_path, dataset_card=False).automations.run("idx", "team")
    assert not (collection / "README.md").exists()
    client = client_with(tmp_path)
    assert client.automations.run("idx", "team").delivered == ()
    assert card(collection) == (["title", "brands", "people"], "3 rows of 1 prompt run")

    newer = [segment(1, metadata={"title": "x", "mood": "calm"}), segment(2, video="vid_2")]
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-02T00:00:00Z", schema=NEWER, segments=newer)
    client.automations.run("idx", "team")
    assert card(collection) == (["title", "brands", "people", "mood"], "5 rows of 2 prompt runs")
    assert "| `metadata.mood` | `string` | It feels |" in (collection / "README.md").read_text()

    client.erasure.erase(video_id="vid_2", reason="ticket 1")
    assert card(collection)[1] == "4 rows of 2 prompt runs"
    client.erasure.erase(run_id="run_1", reason="ticket 2")
    assert card(collection)[1] == "1 row of 1 prompt run"
    assert client.vacuum("conn_export", "exports/team").left_alone == ()
    assert client.verify("conn_export", "exports/team")[0].foreign == ()

    said = client_with(tmp_path, {"title": "Scenes", "license": "MIT"})
    said.automations.run("idx", "team")
    assert "# Scenes\n" in (collection / "README.md").read_text()


@pytest.mark.slow
def test_a_card_that_cannot_be_written_fails_no_delivery_and_a_readme_that_was_there_stays(
    tmp_path, collection, caplog
):
    caplog.set_level(logging.WARNING)
    collection.mkdir(parents=True)
    (collection / "README.md").write_text("Ours")
    client = client_with(tmp_path)
    pipeline = client.pipeline
    connector = pipeline.connectors["conn_export"]

    class _Unwritable(FaultyConnector):
        def put(self, local, key, **options):
            return fails(None) if key.endswith(".json") else connector.put(local, key, **options)

    with_parts(pipeline, connectors={**pipeline.connectors, "conn_export": _Unwritable(connector, {})})
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    assert "the dataset card is not brought up to date: conn: the store is busy" in caplog.text
    assert not (collection / "croissant.json").exists()
    client_with(tmp_path).automations.run("idx", "team")
    assert (collection / "croissant.json").exists()
    assert (collection / "README.md").read_text() == "Ours"
    assert "README.md was written or changed by somebody, and stays" in caplog.text


def test_a_card_of_other_formats_than_parquet_is_refused_when_the_configuration_loads(tmp_path, collection):
    with pytest.raises(
        ConfigurationError, match="dataset_card: True: a dataset card tells the columns of Parquet files"
    ):
        client_with(tmp_path, format={"name": "csv", "delimiter": ";"})
    for wrong in ({"license": " "}, {"url": "example"}, {"creators": ["a\nb"]}):
        with pytest.raises(ConfigurationError, match=f"dataset.{next(iter(wrong))}"):
            client_with(tmp_path, wrong)
