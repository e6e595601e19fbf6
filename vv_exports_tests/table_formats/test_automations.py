"""Tables of an automation, as whoever configures it and looks after it sees them."""

import copy
import shutil
from datetime import timedelta

import dagster as dg
import deltalake
import polars as pl
import pytest

from vv_exports.errors import ConfigurationError, RequestError
from vv_exports.reader import open_delivery
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.defs.test_sensors import TEAM, Daemon, finish
from vv_exports_tests.deployments import CONFIG, client_of, write_config


def config_with(tables, **fields):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    config["indexes"]["idx"]["automations"] = {"team": {**team, "tables": tables, **fields}}
    return config


def checked(client) -> dict[str, str]:
    found = {one.check: one for one in client.checks.list("idx") if one.path[-1] == "team"}
    return {name: one.outcome for name, one in found.items()} | {"says": found["tables"].description}


def rows_in(folder, table="segments"):
    return pl.scan_delta(str(folder / f"deliveries/exports/team/{table}/prompt_id=prm")).collect()


def break_log(folder):
    """What nobody can write over: a folder in the place of the next commit."""
    log = folder / "deliveries/exports/team/segments/prompt_id=prm/_delta_log"
    (log / f"{1:020}.json").mkdir()
    return log / f"{1:020}.json"


def test_tables_that_are_chosen_later_hold_what_was_delivered_before(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    client_of(tmp_path).automations.run("idx", "team")
    client = client_of(tmp_path, config_with({"delta": True}))
    client.automations.run("idx", "team")
    assert rows_in(tmp_path).height == 3
    assert client.automations.retrieve("idx", "team").table_formats == {"delta": "1 table as of entry 0 of 0"}
    (table,) = client.tables.list("idx", "team")
    assert (table.table, table.version, table.entry, table.behind) == ("segments/prompt_id=prm", 0, 0, None)
    assert checked(client)["tables"] == "passed"


@pytest.mark.slow
def test_a_table_that_fails_fails_no_delivery_and_the_next_tick_mends_it(tmp_path):
    finish(tmp_path, 0)
    daemon = Daemon(tmp_path, config_with({"delta": True}))
    daemon.deliver(TEAM)
    client = daemon.client
    assert checked(client)["tables"] == "passed"
    in_the_way = break_log(tmp_path)
    finish(tmp_path, 1)
    daemon.deliver(TEAM)
    assert [run.success for run in daemon.runs][-1]
    assert daemon.delivered()["run_1"] == 1
    assert (checked(client)["tables"], "segments/prompt_id=prm" in checked(client)["says"]) == ("failed", True)
    key = dg.AssetCheckKey(dg.AssetKey(["idx", "exports", "team"]), "tables")

    def in_dagster():
        record = daemon.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        return record.event.asset_check_evaluation.passed

    assert in_dagster() is False
    in_the_way.rmdir()
    daemon.tick(TEAM)
    assert checked(client)["tables"] == "failed"  # it waits a little
    daemon.now += timedelta(minutes=2)
    definitions = client.definitions
    context = dg.build_sensor_context(instance=daemon.instance, definitions=definitions)
    result = definitions.resolve_sensor_def(TEAM)(context)
    assert [event.passed for event in result.asset_events] == [True]
    assert checked(client)["tables"] == "passed"
    assert rows_in(tmp_path).height == 6


def test_an_erasure_takes_rows_out_of_tables_before_their_files_go(tmp_path):
    for number in (1, 2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number}T00:00:00Z")
    client = client_of(tmp_path, config_with({"delta": True}))
    client.automations.run("idx", "team")
    report = client.erasure.erase(run_id="run_1", reason="asked for")
    assert report.unreached == ()
    assert set(rows_in(tmp_path)["prompt_run_id"]) == {"run_2"}
    client.erasure.erase(video_id="vid_1", reason="asked for")
    assert rows_in(tmp_path).height == 0
    assert open_delivery(tmp_path / "deliveries/exports/team").table().num_rows == 0


@pytest.mark.parametrize("earlier", ["csv", {"name": "webvtt", "text": ["metadata.title"]}])
def test_what_stays_in_another_format_is_in_no_table_and_is_named(tmp_path, earlier):
    for number in (1, 2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number}T00:00:00Z")
    config = config_with({"include": ["segments"]}, format=earlier)
    client_of(tmp_path, config).automations.run("idx", "team")
    shutil.rmtree(tmp_path / "storage")
    shutil.rmtree(tmp_path / "archive/indexes/idx/prompt_runs/run_1")
    client = client_of(tmp_path, config_with({"delta": True}))
    client.automations.run("idx", "team")
    assert set(rows_in(tmp_path)["prompt_run_id"]) == {"run_2"}
    (told,) = [one.behind for one in client.tables.list("idx", "team") if one.behind]
    assert "1 prompt run (run_1)" in told
    outcomes = checked(client)
    assert (outcomes["tables"], told in outcomes["says"]) == ("warning", True)
    client.erasure.erase(run_id="run_1", reason="asked for")
    assert [one.behind for one in client.tables.list("idx", "team")] == [None]
    assert checked(client)["tables"] == "passed"


def test_a_log_that_begins_anew_at_the_same_number_is_another_one_to_tables(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    client = client_of(tmp_path, config_with({"delta": True}))
    client.automations.run("idx", "team")
    shutil.rmtree(tmp_path / "deliveries/exports/team/_vv")
    write_run(tmp_path / "archive", run_id="run_1", segments=5)
    client.automations.run("idx", "team")
    assert client.automations.retrieve("idx", "team").table_formats == {"delta": "1 table as of entry 0 of 0"}
    assert rows_in(tmp_path).height == 5


def test_a_collection_of_which_the_log_of_a_table_alone_is_left_is_repaired(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    client = client_of(tmp_path, config_with({"delta": True}))
    client.automations.run("idx", "team")
    shutil.rmtree(tmp_path / "deliveries/exports/team/_vv")
    shutil.rmtree(tmp_path / "deliveries/exports/team/segments/prompt_id=prm/prompt_run_id=run_1")
    assert client.repairs.repair("idx", "team").is_fine
    assert rows_in(tmp_path).height == 3


def test_a_repair_of_a_lost_entry_leaves_tables_no_file_of_it(tmp_path):
    client = client_of(tmp_path, config_with({"delta": True}))
    for number in (1, 2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number}T00:00:00Z")
        client.automations.run("idx", "team")
    (tmp_path / "deliveries/exports/team/_vv/log" / f"{0:020}.json").unlink()
    write_run(tmp_path / "archive", run_id="run_1", executed_at="2026-10-01T00:00:00Z", segments=5)
    assert client.repairs.repair("idx", "team").is_fine
    assert sorted(rows_in(tmp_path)["prompt_run_id"]) == ["run_1"] * 5 + ["run_2"] * 3
    assert checked(client)["tables"] == "passed"


@pytest.mark.slow
def test_commands_show_and_rebuild_tables_and_the_file_keeps_what_is_not_named(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    write_config(tmp_path, config_with(["segments"]))
    assert "choose some" in run(tmp_path, "tables", "list", "idx", "team").err
    assert run(tmp_path, "automations", "set", "idx", "team", "--delta").code == 0
    assert run(tmp_path, "automations", "set", "idx", "team", "--tables", "segments,failures").code == 0
    assert "tables: {include: [segments, failures], delta: true}" in (tmp_path / "vv_exports.yaml").read_text()
    assert run(tmp_path, "automations", "run", "idx", "team").code == 0
    before = deltalake.DeltaTable(tmp_path / "deliveries/exports/team/segments/prompt_id=prm").metadata().id
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-02T00:00:00Z")
    assert run(tmp_path, "automations", "run", "idx", "team").code == 0
    (table,) = run(tmp_path, "tables", "rebuild", "idx", "team", "--json").document
    assert (table["format"], table["version"], table["entry"]) == ("delta", 0, 1)
    assert deltalake.DeltaTable(table["location"]).metadata().id != before
    assert run(tmp_path, "verify", "conn_export").code == 0
    assert run(tmp_path, "automations", "set", "idx", "team", "--no-delta").code == 0
    assert "tables: [segments, failures]" in (tmp_path / "vv_exports.yaml").read_text()
    assert "would be no table" in run(tmp_path, "tables", "drop", "idx", "team", "--dry-run").out
    assert run(tmp_path, "tables", "drop", "idx", "team", "--json").document == [table["location"]]
    assert list((tmp_path / "deliveries").rglob("_delta_log/*")) == []
    assert "nothing to drop" in run(tmp_path, "tables", "drop", "idx", "team").out
    assert run(tmp_path, "verify", "conn_export").code == 0


@pytest.mark.parametrize(
    ("tables", "fields", "said"),
    [
        (
            {"delta": True},
            {"format": "csv"},
            "team.tables: {'delta': True}: delta and iceberg are for parquet, and the format is csv",
        ),
        ({"delta": "yes"}, {}, "team.tables.delta: 'yes': must be true or false"),
        ({"delat": True}, {}, "team.tables.delat: is not a known key. Did you mean 'delta'?"),
        ({"include": ["segment"]}, {}, "team.tables.include.0: 'segment' is not allowed. Did you mean 'segments'?"),
        ({"include": []}, {}, "team.tables.include: []: must not be empty"),
        ({"iceberg": {}}, {}, "team.tables.iceberg.catalog: is missing."),
        ({"iceberg": {"catalog": {"type": "hive"}}}, {}, "team.tables.iceberg.catalog.type: 'hive' is not supported"),
        ({"iceberg": {"catalog": {"type": "sql"}}}, {}, "team.tables.iceberg.catalog.uri_env: is missing."),
        (
            {"iceberg": {"namespace": "a-b", "catalog": {"type": "sql", "uri_env": "X"}}},
            {},
            "team.tables.iceberg.namespace: 'a-b': must be of letters, digits and _",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_when_the_configuration_loads(tmp_path, tables, fields, said):
    with pytest.raises(ConfigurationError) as error:
        client_of(tmp_path, config_with(tables, **fields))
    assert said in str(error.value)


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("vv_exports.parts.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"tables.iceberg: needs packages .*'vv-exports\[iceberg\]'"):
        client_of(tmp_path, config_with({"iceberg": {"catalog": {"type": "sql", "uri_env": "X"}}}))


def test_an_automation_without_tables_says_so(tmp_path):
    with pytest.raises(RequestError, match="choose some"):
        client_of(tmp_path).tables.rebuild("idx", "team")
