"""Every run that is launched for an index has the tags that the configuration has for it."""

import copy
import json
import re
from pathlib import Path

import dagster as dg
import pytest
import yaml

from vv_exports.client import VVExports
from vv_exports.config import load_config
from vv_exports.defs.backfills import submit
from vv_exports.defs.keys import asset_key
from vv_exports.defs.run_tags import route_of
from vv_exports.errors import ConfigurationError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, write_config

POD = {"container_config": {"resources": {"limits": {"cpu": 2, "memory": "8Gi"}}}, "job_spec_config": {"ttl": 7200}}
OF_INDEX = {"dagster-celery/queue": "index", "dagster/priority": "3"}
OF_TEAM = {**OF_INDEX, "dagster-celery/queue": "heavy", "dagster-k8s/config": json.dumps(POD)}


def routed() -> dict:
    config = copy.deepcopy(CONFIG)
    index = config["indexes"]["idx"]
    index["run_tags"] = {"dagster-celery/queue": "index", "dagster/priority": 3}
    index["automations"]["team"] |= {
        "run_tags": {"dagster-celery/queue": "heavy", "dagster-k8s/config": POD},
        "schedule": {"cron": "0 3 * * *"},
    }
    return config


@pytest.fixture
def client(tmp_path) -> VVExports:
    write_run(tmp_path / "archive")
    (tmp_path / "dagster").mkdir()
    return VVExports(
        write_config(tmp_path, routed()), instance=dg.DagsterInstance.local_temp(str(tmp_path / "dagster"))
    )


def route(tags) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key in OF_TEAM}


@pytest.mark.slow
def test_what_sensors_and_schedules_ask_for(client):
    definitions = client.definitions

    def tick(sensor):
        context = dg.build_sensor_context(instance=client.instance, definitions=definitions)
        return [route(one.tags) for one in definitions.resolve_sensor_def(sensor)(context).run_requests]

    assert tick("idx__discovery") == [OF_INDEX]
    client.prompt_runs.sync("idx")
    assert tick("idx__team__delivery") == [OF_TEAM]
    schedule = definitions.resolve_schedule_def("idx__team__reconciliation")
    asked = schedule.evaluate_tick(dg.build_schedule_context(instance=client.instance)).run_requests
    assert [route(one.tags) for one in asked] == [OF_TEAM]


@pytest.mark.slow
def test_what_commands_launch_and_have_launched(client):
    client.prompt_runs.sync("idx")
    client.automations.run("idx", "team")
    client.exports.create_index_export("idx")
    found = {str(*run.asset_selection): route(run.tags) for run in client.instance.get_runs()}
    assert found == {
        str(asset_key("idx", "exports", "team")): OF_TEAM,
        str(asset_key("idx", "index_export")): OF_INDEX,
        str(asset_key("idx", "prompt_runs")): OF_INDEX,
    }
    (partition,) = client.instance.get_dynamic_partitions("prompt_runs__idx")
    backfill = submit(client.instance, client.definitions, asset_key("idx", "exports", "team"), [partition], "title")
    assert client.instance.get_backfill(backfill).tags == OF_TEAM


def test_a_run_of_several_assets_is_routed_by_the_first_that_says_how(client):
    graph = client.definitions.get_repository_def().asset_graph
    team, runs = asset_key("idx", "exports", "team"), asset_key("idx", "prompt_runs")
    assert route_of(graph, [runs, team]) == OF_TEAM
    assert route_of(graph, [runs, dg.AssetKey("of somebody else")]) == OF_INDEX


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (
            {"dagster/partition": "x"},
            "one of Dagster's own, of which only `dagster/max_runtime` and `dagster/priority`",
        ),
        ({".dagster/vv_exports.process": "x"}, "one of Dagster's own"),
        ({"vv_exports/connector": "x"}, "begins with `vv_exports/`"),
        ({"two words": "x"}, "must be of letters"),
        ({"dagster/priority": "high"}, "dagster/priority must be a whole number, and is 'high'"),
        ({"dagster/max_runtime": "1 h"}, "dagster/max_runtime must be a number of seconds"),
        ({"dagster-k8s/config": "heavy"}, "dagster-k8s/config must be a mapping, or JSON of one"),
        ({"dagster-celery/queue": ""}, "must not be empty"),
        ({"dagster-celery/queue": True}, "must be text, a number or a mapping"),
        ({"dagster-celery/queue": None}, "must be text, a number or a mapping"),
        (["dagster-celery/queue"], "must be a mapping"),
    ],
)
def test_tags_by_which_a_run_finds_its_work_and_those_that_nobody_could_read_are_refused(tmp_path, tags, said):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"] |= {"run_tags": tags}
    config["indexes"]["idx"]["automations"]["team"]["run_tags"] = tags
    with pytest.raises(ConfigurationError) as refused:
        load_config(write_config(tmp_path, config))
    places = [problem.partition(":")[0] for problem in refused.value.problems]
    assert all(said in problem for problem in refused.value.problems), refused.value.problems
    assert {place.partition(".run_tags")[0] for place in places} == {"indexes.idx", "indexes.idx.automations.team"}


def test_an_index_or_automation_with_the_name_of_the_key_keeps_its_texts(tmp_path):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    config["indexes"] = {"run_tags": {"automations": {"run_tags": {**team, "tags": {"year": "2026"}}}}}
    text = write_config(tmp_path, config).read_text().replace("'2026'", "2026")
    (tmp_path / "vv_exports.yaml").write_text(text)
    loaded = load_config(tmp_path / "vv_exports.yaml")
    assert loaded.index("run_tags").automations["run_tags"].tags == {"year": "2026"}


def test_what_the_documentation_shows_loads(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "run_tags" in block]
    config = {key: value for key, value in CONFIG.items() if key != "indexes"}
    (tmp_path / "vv_exports.yaml").write_text(f"{yaml.safe_dump(config)}{shown}")
    index = load_config(tmp_path / "vv_exports.yaml").index("idx_news")
    assert index.run_tags == {"dagster-celery/queue": "heavy", "dagster/priority": "-1"}
    pod = json.loads(index.run_tags_of("archive").pop("dagster-k8s/config"))
    assert pod["container_config"]["resources"]["requests"] == {"cpu": 2, "memory": "8Gi"}


def test_they_are_set_through_the_client(client):
    client.automations.set("idx", "team", run_tags={"dagster-k8s/config": POD, "team": "7"})
    client.indexes.add("idx", run_tags={"dagster/priority": -1})
    index = load_config(client.pipeline.config.file).index("idx")
    assert index.run_tags_of("team") == {"dagster/priority": "-1", "dagster-k8s/config": json.dumps(POD), "team": "7"}
