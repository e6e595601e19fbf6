"""What an erasure takes out of Dagster's history, and that Dagster still finds its way in the rest."""

import json
from urllib.parse import quote

import dagster as dg
import pytest

from vv_exports.defs.erased_history import ErasedHistory
from vv_exports.erasure import HistoryRequest

KEY = dg.AssetKey(["idx", "exports", "team"])


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def shown(instance, **metadata):
    event = dg.AssetMaterialization(KEY, partition="run_1", metadata=metadata, description="of exports")
    instance.report_runless_asset_event(event)


def found_in(folder, *texts):
    forms = {form for text in texts for form in (text.encode(), json.dumps(text)[1:-1].encode())}
    return {
        path.name for path in folder.rglob("*") if path.is_file() and any(form in path.read_bytes() for form in forms)
    }


def erased(instance, ids=(), markers=()):
    return ErasedHistory(instance)(HistoryRequest(frozenset(ids), frozenset(markers), {}, forgotten=False), False)


def test_a_medium_is_found_however_its_id_is_written(instance, tmp_path):
    odd = 'víd/ä 1%"x'
    shown(
        instance,
        plain=f"the id is {odd}",
        inner=json.dumps({"of": {"video_id": odd}}),
        told=dg.MetadataValue.json({"path": odd, "name": [odd]}),
        at=dg.MetadataValue.url(f"https://media/{quote(odd, safe='')}/x"),
        segment=f"{odd}_segment_0001",
        rows=dg.MetadataValue.table([dg.TableRecord({"path": odd, "status": odd})]),
    )
    written = [odd, json.dumps(odd)[1:-1], quote(odd, safe="")]
    assert found_in(tmp_path, *written)
    assert not erased(instance, ids=[odd]).unreached
    assert found_in(tmp_path, *written) == set()


def test_a_medium_whose_name_is_that_of_an_asset_does_not_rename_the_asset(instance, tmp_path):
    shown(instance, title="the film exports", team="exports", status="team")
    (unreached,) = erased(instance, ids=["vid_1"], markers=["exports", "team", "idx", "run_1", "metadata"]).unreached
    assert "was not searched for 'idx'" in unreached
    event = instance.get_latest_materialization_event(KEY)
    assert event.asset_materialization.partition == "run_1"
    assert event.asset_materialization.description == "of [erased]"
    assert {name: value.value for name, value in event.asset_materialization.metadata.items()} == {
        "title": "the film [erased]",
        "team": "[erased]",
        "status": "[erased]",
    }
    assert instance.get_materialized_partitions(KEY) == {"run_1"}


def test_another_medium_is_left_alone(instance):
    shown(instance, other="vid_10 and xvid_1")
    erased(instance, ids=["vid_1"])
    event = instance.get_latest_materialization_event(KEY)
    assert event.asset_materialization.metadata["other"].value == "vid_10 and xvid_1"
