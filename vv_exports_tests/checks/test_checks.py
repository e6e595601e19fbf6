"""Checks stand where Dagster users look, and the command says the same."""

import copy
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from vv_exports.checks.freshness import freshness
from vv_exports.defs.checks import news_of
from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import sync_partitions
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of, reconciled

RUNS, TEAM = asset_key("idx", "prompt_runs"), asset_key("idx", "exports", "team")
NOW = datetime(2026, 10, 10, tzinfo=UTC)


def add(folder, run_id, day, types=None, **fields):
    types = types or {"title": "string"}
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}}
    fields = {"segments": [segment(0, metadata={"title": "a"})], "schema": schema, **fields}
    write_run(folder / "archive", run_id=run_id, executed_at=f"2026-10-{day:02}T00:00:00Z", **fields)


def shown(client):
    """What Dagster has last of each check that was evaluated, by asset and check."""
    found = {}
    for asset, checks in ((RUNS, client.definitions), (TEAM, client.definitions)):
        keys = [key for key in checks.resolve_asset_graph().asset_check_keys if key.asset_key == asset]
        latest = client.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        for key, record in latest.items():
            data = record.event.dagster_event.event_specific_data
            if isinstance(data, dg.AssetCheckEvaluation):
                found[asset.path[-1], key.name] = data
    return found


def said(client):
    return {(one.path[-1], one.check): one for one in client.checks.list("idx")}


def test_a_delivery_evaluates_the_checks_of_what_it_read_and_delivered_and_the_client_says_the_same(tmp_path):
    add(tmp_path, "run_1", 1, total_segments=1, completed_segments=1)
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    dagster, ours = shown(client), said(client)
    names = {("prompt_runs", "completeness"), ("prompt_runs", "contract")}
    names |= {("team", name) for name in ("contract", "schema_change")}
    assert dagster.keys() == names
    for key in names:
        assert (dagster[key].passed, dagster[key].description) == (ours[key].passed, ours[key].description)
    assert "run_1 adds up" in ours["prompt_runs", "completeness"].description
    assert dagster["prompt_runs", "completeness"].metadata["speaks_of"].value == "run_1"
    assert ours["team", "verification"].outcome == "not yet", "and what nobody has looked at has not passed"


def test_a_run_that_does_not_add_up_fails_its_check_until_it_is_mended_and_the_others_go_on(tmp_path):
    add(tmp_path, "run_1", 1)
    add(tmp_path, "run_short", 2, total_segments=4, completed_segments=1)
    client = client_of(tmp_path)
    instance = client.instance
    sync_partitions(instance, "idx", client.pipeline.indexes.prompt_runs("idx"))
    job = client.definitions.resolve_implicit_global_asset_job_def()

    def materialize(first, last):
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        job.execute_in_process(instance=instance, asset_selection=[RUNS], tags=tags, raise_on_error=False)
        return shown(client)["prompt_runs", "completeness"]

    both = materialize("run_1", "run_short")
    assert (both.passed, both.blocking, both.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    assert "run_short" in both.description
    assert both.metadata["prompt_runs_not_whole"].value == 1
    assert instance.get_materialized_partitions(RUNS) == {"run_1"}
    # What is read next does not hide it.
    assert not materialize("run_1", "run_1").passed
    assert said(client)["prompt_runs", "completeness"].outcome == "failed"
    add(tmp_path, "run_short", 2)
    assert materialize("run_short", "run_short").passed


def test_answers_that_break_their_schema_are_counted_by_place_with_an_example_until_none_does(tmp_path):
    add(tmp_path, "run_bad", 1, segments=[segment(0, metadata={"title": 5}), segment(1, metadata={"title": "a"})])
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    add(tmp_path, "run_good", 2)
    client.automations.run("idx", "team")
    for asset in ("prompt_runs", "team"):
        evaluation = shown(client)[asset, "contract"]
        assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
        (row,) = [record.data for record in evaluation.metadata["found"].records]
        assert (row["place"], row["keyword"], row["rows"]) == ("/title", "type", 1)
        assert row["first"] == "/title of seg_00000 in run_bad"
    assert run(tmp_path, "checks", "idx").code == 0  # a warning is no failure
    add(tmp_path, "run_bad", 1)
    client.automations.run("idx", "team")
    assert shown(client)["team", "contract"].passed


@pytest.mark.parametrize(
    ("types", "policy", "passed", "readers"),
    [
        ({"title": "string", "mood": "string"}, "new_version", True, "not affected"),
        ({"title": "integer"}, "new_version", False, "in another folder"),
        ({"title": "integer"}, "text", False, "JSON text"),
    ],
)
def test_a_change_of_columns_says_what_it_is_to_readers_also_after_older_files_were_reshaped(
    tmp_path, types, policy, passed, readers
):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"]["on_schema_conflict"] = policy
    add(tmp_path, "run_1", 1)
    client = client_of(tmp_path, config)
    client.automations.run("idx", "team")
    metadata = {name: 1 if kind == "integer" else "a" for name, kind in types.items()}
    add(tmp_path, "run_2", 2, types, segments=[segment(0, metadata=metadata)])
    client.automations.run("idx", "team")
    client.automations.run("idx", "team")
    evaluation, ours = shown(client)["team", "schema_change"], said(client)["team", "schema_change"]
    assert evaluation.passed is ours.passed is passed
    (row,) = [record.data for record in evaluation.metadata["found"].records]
    assert readers in row["readers"]
    assert "run_2" in row["change"]


def test_the_check_of_verification_is_of_the_last_one_whoever_made_it(tmp_path):
    add(tmp_path, "run_1", 1)
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    assert said(client)["team", "verification"].outcome == "not yet"
    (file,) = (tmp_path / "deliveries/exports/team/segments").rglob("*.parquet")
    file.unlink()
    client.verify("conn_export", "exports/team")
    assert "is missing" in shown(client)["team", "verification"].description
    assert said(client)["team", "verification"].outcome == "failed"
    command = run(tmp_path, "checks", "idx", "--json")
    assert command.code == 1
    assert {one["check"]: one["outcome"] for one in command.document if one["asset"] == "idx/exports/team"}[
        "verification"
    ] == "failed"
    reconciled(client)
    assert said(client)["team", "verification"].outcome == "warning"
    reconciled(client)
    assert said(client)["team", "verification"].outcome == "passed"


def test_what_is_expected_and_does_not_come_is_late_and_dagster_is_told_once(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"]["expect_every"] = "24h"
    client = client_of(tmp_path, config)
    node = client.definitions.resolve_asset_graph().get(TEAM)
    assert node.freshness_policy_or_from_metadata.fail_window.to_timedelta() == timedelta(hours=24)
    day, began = timedelta(hours=24), NOW - timedelta(hours=30)
    assert freshness("idx", "team", day, None, None, NOW).outcome == "not yet"
    late = freshness("idx", "team", day, None, began, NOW)
    assert late.outcome == "failed"
    assert "Nothing was delivered since" in late.description
    assert "1 d 6 h" in late.description
    assert freshness("idx", "team", day, NOW - timedelta(hours=1), began, NOW).passed
    (told,) = news_of(client.instance, late)
    client.instance.report_runless_asset_event(told)
    assert news_of(client.instance, late) == []
