"""Many indexes that are alike are a few lines: which there are is asked of the source, and none is lost unnoticed."""

import json
import re
import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml

from vv_exports.client import VVExports
from vv_exports.config import load_config
from vv_exports.definitions import defs
from vv_exports.defs.keys import Names
from vv_exports.errors import ConfigurationError, RequestError, TransientError
from vv_exports.index_list import IndexList, load
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, write_config

ROOT = Path(__file__).parent.parent
TEMPLATE = {
    "match": "prod-*",
    "automations": {
        "editorial": {"destination_connector_id": "conn_export", "destination_subpath": "{index_id}/editorial"},
        "legal": {
            "destination_connector_id": "conn_export",
            "destination_subpath": "legal/{index_id}",
            "format": "csv",
        },
    },
}


def config_with(indexes=None, notifications=None, **templates):
    further = {"notifications": notifications} if notifications else {}
    return {**CONFIG, "indexes": indexes or {}, "index_templates": templates or {"production": TEMPLATE}, **further}


def index(folder, index_id, name=None):
    write_run(folder / "archive", index_id=index_id)
    if name is not None:
        file = folder / "archive/indexes" / index_id / "index.json"
        file.write_text(json.dumps({"index_id": index_id, "name": name}))


@pytest.fixture
def client(tmp_path):
    for index_id in ("prod-1", "prod-2", "test-1"):
        index(tmp_path, index_id)
    return VVExports(write_config(tmp_path, config_with()), instance=dg.DagsterInstance.ephemeral())


def followed(client):
    return {one.index_id: one.template for one in client.indexes.list()}


def test_those_that_match_are_followed_once_the_source_was_asked_and_each_has_folders_of_its_own(client, tmp_path):
    assert followed(client) == {}
    done = client.indexes.sync()
    assert (done.followed, done.new) == (2, ("prod-1", "prod-2"))
    assert followed(client) == {"prod-1": "production", "prod-2": "production"}
    again = VVExports(tmp_path / "vv_exports.yaml", instance=dg.DagsterInstance.ephemeral())
    assert followed(again) == followed(client), "whoever begins later need not ask"
    subpaths = {one.id: one.config.subpath for one in again.pipeline.automations}
    assert subpaths == {
        "prod-1/editorial": "prod-1/editorial",
        "prod-1/legal": "legal/prod-1",
        "prod-2/editorial": "prod-2/editorial",
        "prod-2/legal": "legal/prod-2",
    }
    assert again.automations.run("prod-2", "editorial").delivered == ()  # it begins now
    again.automations.backfill("prod-2", "editorial")
    assert list((tmp_path / "deliveries/prod-2/editorial/segments").rglob("*.parquet"))


def test_definitions_load_with_them_and_ask_no_source(client, tmp_path, monkeypatch):
    client.indexes.sync()
    shutil.rmtree(tmp_path / "archive")
    monkeypatch.chdir(tmp_path)
    repository = defs.load_fn().get_repository_def()
    names = {sensor.name for sensor in repository.sensor_defs}
    assert {"prod_1__discovery", "prod_2__legal__delivery", "index_list"} <= names
    assert "test_1__discovery" not in names


def test_one_that_comes_later_renames_no_sensor_of_another(client, tmp_path):
    """A sensor that is switched off in the UI would be on again. Dagster takes neither `-` nor `.` in a name."""

    def sensor():
        client.indexes.sync()
        return Names.of(load(tmp_path / "vv_exports.yaml")).delivery_sensor("prod-1.a", "legal")

    index(tmp_path, "prod-1.a")
    before = sensor()
    index(tmp_path, "prod-1-a")
    assert sensor() == before == "prod_1_a__legal__delivery"


def test_what_the_file_describes_itself_is_no_templates(client, tmp_path):
    mine = {"team": {"destination_connector_id": "conn_export", "destination_subpath": "mine"}}
    write_config(tmp_path, config_with({"prod-1": {"automations": mine}}))
    client.indexes.sync()
    assert followed(client) == {"prod-1": None, "prod-2": "production"}
    assert list(client.pipeline.config.index("prod-1").automations) == ["team"]


def test_one_that_the_source_has_no_more_keeps_its_automations_until_the_file_says_otherwise(client, tmp_path):
    client.indexes.sync()
    shutil.rmtree(tmp_path / "archive/indexes/prod-1")
    assert client.indexes.sync().gone == ("prod-1",)
    (gone,) = [one for one in client.indexes.list() if one.gone_since is not None]
    assert (gone.index_id, gone.automations) == ("prod-1", ("editorial", "legal"))
    assert (client.indexes.sync().gone, len(followed(client))) == (("prod-1",), 2), "it is said each time"
    index(tmp_path, "prod-1")
    assert client.indexes.sync().back == ("prod-1",)
    write_config(tmp_path, config_with(production={**TEMPLATE, "exclude": "prod-1"}))
    client.refresh()
    assert followed(client) == {"prod-2": "production"}


def test_a_source_that_does_not_answer_changes_nothing(client, monkeypatch):
    client.indexes.sync()

    def fails():
        raise TransientError("the source does not answer")

    monkeypatch.setattr(client.pipeline.source, "indexes", fails)
    with pytest.raises(TransientError):
        client.indexes.sync()
    assert len(followed(client)) == 2


def test_the_sensor_keeps_what_is_new_and_says_how_it_is_followed(client, tmp_path, caplog):
    client.indexes.sync()
    sensor = client.definitions.resolve_sensor_def("index_list")
    assert sensor(dg.build_sensor_context()).skip_message == "2 indexes matched by templates."
    index(tmp_path, "prod-3")
    shutil.rmtree(tmp_path / "archive/indexes/prod-2")
    said = sensor(dg.build_sensor_context()).skip_message
    assert "1 of them not followed yet: prod-3; `vv-exports reload`" in said
    assert "1 of them gone from the source: prod-2; they keep their automations until `exclude`" in said
    assert "prod-3" in load(tmp_path / "vv_exports.yaml").indexes


def test_names_match_too(client, tmp_path):
    index(tmp_path, "a1", "News, morning")
    index(tmp_path, "a2", "Sports")
    write_config(tmp_path, config_with(news={**TEMPLATE, "match": ["a*", "b*"], "match_name": "News*"}))
    client.indexes.sync()
    assert followed(client) == {"a1": "news"}


def test_one_that_gets_another_name_at_the_source_keeps_its_automations(client, tmp_path):
    """It was followed no more, and neither the command nor the sensor had said so."""
    index(tmp_path, "a1", "News, morning")
    news, shows = ({**TEMPLATE, "match": "a*", "match_name": name} for name in ("News*", "Show*"))
    write_config(tmp_path, config_with(news=news, shows=shows))
    client.indexes.sync()
    for name in ("Morning", "Show: morning", "News, early"):
        index(tmp_path, "a1", name)
        client.indexes.sync()
        assert followed(client) == {"a1": "news"}
    index(tmp_path, "a2", "Sports")
    client.indexes.sync()
    index(tmp_path, "a2", "Show: sports")
    assert client.indexes.sync().followed == 2, "one that nothing matched until then"
    write_config(tmp_path, config_with(news={**news, "exclude": "a1"}))
    client.refresh()
    assert followed(client) == {}


def test_one_that_two_templates_match_is_refused_and_what_is_followed_stays(client, tmp_path):
    client.indexes.sync()
    other = {"match": "prod-9*", "automations": {}}
    write_config(tmp_path, config_with(production=TEMPLATE, other=other))
    index(tmp_path, "prod-91")
    with pytest.raises(ConfigurationError, match=r"index 'prod-91' .* matches production and other; let all but one"):
        client.indexes.sync()
    kept = IndexList(client.pipeline.storage).read()
    assert "prod-91" not in kept.indexes
    assert len(load(tmp_path / "vv_exports.yaml").indexes) == 2, "so that Dagster goes on"


def test_one_whose_collection_would_meet_another_is_refused_and_what_is_followed_stays(client, tmp_path):
    client.indexes.sync()
    legal = {"match": "prod-*", "automations": {"x": {"destination_connector_id": "conn_export"}}}
    write_config(tmp_path, config_with(production=legal))
    index(tmp_path, "prod-1/deeper")
    with pytest.raises(ConfigurationError, match="or inside it; give each automation a folder of its own"):
        client.indexes.sync()
    assert len(load(tmp_path / "vv_exports.yaml").indexes) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"match": None}, "needs match"),
        ({"match": []}, "needs match"),
        ({"match": ""}, "must not be empty"),
        ({"matches": "x"}, "index_templates.production.matches: is not a known key"),
        (
            {"automations": {"a": {"destination_connector_id": "conn_export", "destination_subpath": "all"}}},
            "index_templates.production.automations.a.destination_subpath: 'all' is the same for all indexes",
        ),
        (
            {"dataset": {"titel": "x"}},
            "index_templates.production.dataset.titel: is not a known key. Did you mean 'title'",
        ),
        (
            {"automations": {"a": {"destination_connector_id": "nobody"}}},
            "index_templates.production.automations.a.destination_connector_id: 'nobody' is not a connector",
        ),
        (
            {"automations": {"a": {"destination_connector_id": "conn_export", "format": {"name": "csv", "x": 1}}}},
            "index_templates.production.automations.a.format.x: is not a known key",
        ),
    ],
)
def test_a_template_that_is_wrong_is_told_before_any_index_is_known(tmp_path, change, said):
    template = {name: value for name, value in {**TEMPLATE, **change}.items() if value is not None}
    with pytest.raises(ConfigurationError, match=said):
        load_config(write_config(tmp_path, config_with(production=template)))


def test_what_a_dataset_does_not_have_is_told_of_an_index_too(tmp_path):
    """It was a KeyError."""
    config = {**CONFIG, "indexes": {"idx": {"dataset": {"titel": "x"}}}}
    with pytest.raises(ConfigurationError, match=r"indexes.idx.dataset.titel: is not a known key. Did you mean"):
        load_config(write_config(tmp_path, config))


def test_all_that_is_said_of_an_index_may_be_said_in_a_template(client, tmp_path):
    more = {
        "discovery_interval_seconds": 60,
        "run_tags": {"dagster-celery/queue": "heavy"},
        "dataset": {"title": "News"},
    }
    write_config(tmp_path, config_with(production={**TEMPLATE, **more}))
    client.indexes.sync()
    found = client.pipeline.config.index("prod-1")
    assert (found.discovery_interval_seconds, found.run_tags, found.dataset.title) == (
        60,
        {"dagster-celery/queue": "heavy"},
        "News",
    )


def test_notifications_may_name_an_automation_that_a_template_gives(client, tmp_path):
    target = {"kind": "webhook", "url_env": "URL", "secret_env": "SECRET", "events": ["failed"]}
    told = {"targets": {"desk": {**target, "automations": ["prod-1/legal"]}}}
    load_config(write_config(tmp_path, config_with(notifications=told)))
    wrong = {"targets": {"desk": {**target, "automations": ["prod-1/legall"]}}}
    with pytest.raises(ConfigurationError, match="'prod-1/legall' is not an automation"):
        load_config(write_config(tmp_path, config_with(notifications=wrong)))


def test_one_index_of_a_template_is_not_changed_alone_by_accident(client):
    client.indexes.sync()
    for change in (
        lambda: client.automations.set("prod-1", "legal", paused=True),
        lambda: client.automations.remove("prod-1", "legal"),
        lambda: client.indexes.add("prod-1"),
    ):
        with pytest.raises(RequestError, match="is followed by the template 'production'"):
            change()


def test_without_templates_there_is_nothing_to_ask_for(tmp_path):
    client = VVExports(write_config(tmp_path), instance=dg.DagsterInstance.ephemeral())
    with pytest.raises(RequestError, match="has no `index_templates`"):
        client.indexes.sync()


def test_five_hundred_indexes_are_ten_lines(tmp_path):
    text = yaml.safe_dump({"index_templates": {"production": TEMPLATE}})
    assert text.count("\n") <= 12
    config = load_config(write_config(tmp_path, config_with()))
    storage = VVExports(config, instance=dg.DagsterInstance.ephemeral()).pipeline.storage
    source = VVExports(config, instance=dg.DagsterInstance.ephemeral()).pipeline.source
    index(tmp_path, "prod-0")
    (one,) = source.indexes()
    many = [type(one)(index_id=f"prod-{n}", name=f"Production {n}") for n in range(500)]
    synced = IndexList(storage).sync(config, many, VVExports(config).pipeline.now())
    assert len(synced.followed) == 500
    assert sum(len(one.automations) for one in load(tmp_path / "vv_exports.yaml").indexes.values()) == 1000


@pytest.mark.slow
def test_the_template_that_is_documented_works_as_is_said_there(tmp_path):
    page = (ROOT / "docs/many-indexes.md").read_text()
    (template,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    for index_id in ("prod-1", "prod-scratch-2", "test-1"):
        index(tmp_path, index_id)
    write_config(tmp_path, {**CONFIG, "indexes": {}, **yaml.safe_load(template)})
    assert "prod-1: new" in run(tmp_path, "indexes", "sync", "--dry-run").out
    assert run(tmp_path, "indexes", "list").out == "No index is followed: `vv-exports indexes add` follows one.\n"
    said = run(tmp_path, "indexes", "sync")
    assert said.code == 0
    assert said.out.splitlines() == ["1 index followed by templates; 1 new.", "prod-1: new"]
    assert "after `vv-exports reload`" in said.err
    (listed,) = run(tmp_path, "--json", "indexes", "list").document
    assert (listed["index_id"], listed["template"], listed["automations"]) == (
        "prod-1",
        "production",
        ["editorial", "legal"],
    )
    assert run(tmp_path, "automations", "run", "prod-1", "legal", "--history").code == 0
    assert list((tmp_path / "deliveries/legal/prod-1/segments").rglob("*.csv"))
    shutil.rmtree(tmp_path / "archive/indexes/prod-1")
    said = run(tmp_path, "indexes", "sync")
    assert "prod-1: gone from the source" in said.out
    assert "keeps its automations until `exclude`" in said.err
    write_config(
        tmp_path, {**CONFIG, "index_templates": {**yaml.safe_load(template)["index_templates"], "b": {"match": "*"}}}
    )
    said = run(tmp_path, "indexes", "sync")
    assert (said.code, "matches production and b" in said.err) == (2, True)
