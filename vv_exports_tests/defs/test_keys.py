"""What things are called in Dagster, within a configuration."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.config import parse_config
from vv_exports.defs.build import build_definitions
from vv_exports.defs.keys import Names
from vv_exports.pipeline import Pipeline


def config_of(indexes):
    """A configuration of these indexes: of each, the names of its automations."""
    conn = {"provider": "local", "root": ".", "export_base_path": "x", "scopes": ["export"]}
    document = {
        "source": {"kind": "local_archive", "path": "archive"},
        "storage": "storage",
        "connectors": {"conn": conn},
        "indexes": {
            index_id: {
                "automations": {
                    name: {"destination_connector_id": "conn", "destination_subpath": f"{number}-{place}"}
                    for place, name in enumerate(automations)
                }
            }
            for number, (index_id, automations) in enumerate(indexes.items())
        },
    }
    return parse_config(json.dumps(document), folder=Path("/deployment"), where="vv_exports.yaml")


def sensors(indexes):
    """The delivery sensors of a configuration, by index and automation."""
    names = Names.of(config_of(indexes))
    return {pair: names.delivery_sensor(*pair) for pair in names.automations}


def test_a_hyphen_becomes_an_underscore_and_no_hash_follows():
    assert sensors({"idx-archive": ["review-team"]}) == {
        ("idx-archive", "review-team"): "idx_archive__review_team__delivery"
    }


def test_of_two_names_that_would_meet_the_later_one_gets_a_hash():
    found = sensors({"idx": ["review-team", "review_team"], "idx2": ["review_team", "review-team"]})
    assert found["idx", "review-team"] == "idx__review_team__delivery"
    assert re.fullmatch(r"idx__review_team__[0-9a-f]{8}__delivery", found["idx", "review_team"])
    assert found["idx2", "review_team"] == "idx2__review_team__delivery"
    assert re.fullmatch(r"idx2__review_team__[0-9a-f]{8}__delivery", found["idx2", "review-team"])


def test_an_index_or_an_automation_that_is_added_behind_the_others_renames_none():
    before = {"idx-a": ["team-a"], "idx_b": ["team"]}
    after = {"idx-a": ["team-a", "team_a"], "idx_b": ["team"], "idx_a": ["team-a"], "idx-b": ["team"]}
    assert sensors(before).items() <= sensors(after).items()


@pytest.mark.parametrize("name", ["prompt_runs", "prompt-run-export", "index_export", "team__reconciliation"])
def test_an_automation_may_be_called_like_what_an_index_has_anyway(name):
    definitions = build_definitions(Pipeline.from_config(config_of({"idx": ["team", name]})))
    ops = [asset.op.name for asset in definitions.get_repository_def().assets_defs_by_key.values()]
    assert len(set(ops)) == len(ops) == 7


names_of_automations = st.sampled_from(
    ["a", "a-b", "a_b", "a__b", "b__c", "c", "prompt_runs", "b__prompt_runs", "a.b", "delivery"]
)
ids = names_of_automations | st.sampled_from(["é", "a b", "a/b"])


@given(st.dictionaries(ids, st.lists(names_of_automations, unique=True, max_size=3), min_size=1, max_size=5))
def test_no_two_things_of_one_kind_have_one_name(indexes):
    names = Names.of(config_of(indexes))
    ops = [
        *(names.op(index_id, asset) for index_id in indexes for asset in ("prompt_runs", "prompt_run_export")),
        *(names.op(index_id, "index_export") for index_id in indexes),
        *(names.collection_op(*pair) for pair in names.automations),
        *(names.reconciliation(*pair) for pair in names.automations),
    ]
    found = [
        *(names.discovery_sensor(index_id) for index_id in indexes),
        *(names.delivery_sensor(*pair) for pair in names.automations),
    ]
    for named in (ops, found, [names.group(index_id) for index_id in indexes]):
        assert len(set(named)) == len(named)
