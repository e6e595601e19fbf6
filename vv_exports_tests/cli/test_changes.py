"""Commands that change the configuration's file, as a user gives them."""

import pytest
import yaml

from vv_exports.client import VVExports
from vv_exports.client.automations import AutomationFields
from vv_exports.client.connectors import ConnectorFields
from vv_exports.config import PROVIDERS, AutomationConfig
from vv_exports.errors import ConfigurationError, NotFoundError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run, write_deployment
from vv_exports_tests.cli.test_counterparts import COMMANDS
from vv_exports_tests.deployments import client_of


@pytest.fixture
def folder(tmp_path):
    return write_deployment(tmp_path / "deployment")


def config_of(folder) -> dict:
    return yaml.safe_load((folder / "vv_exports.yaml").read_text())


SET = ("automations", "set", "idx", "legal", "--connector", "conn_export", "--subpath", "exports/legal")


def test_an_automation_is_created_by_a_command_and_delivers(folder):
    labels = ("--owner", "team:editorial", "--tag", "domain=news", "--on-upstream-delete", "keep")
    options = (
        *labels,
        "--format",
        '{name: csv, delimiter: ";"}',
        "--redact",
        "video_name=mask",
        "--tables",
        "segments",
    )
    said = run(folder, *SET, *options, "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin", "--start", "beginning")
    assert said.code == 0, said.text
    assert "vv-exports reload" in said.out
    assert config_of(folder)["indexes"]["idx"]["automations"]["legal"] == {
        "destination_connector_id": "conn_export",
        "destination_subpath": "exports/legal",
        "format": {"name": "csv", "delimiter": ";"},
        "tables": ["segments"],
        "redact": {"video_name": "mask"},
        "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
        "start": "beginning",
        "owners": ["team:editorial"],
        "tags": {"domain": "news"},
        "on_upstream_delete": "keep",
    }
    assert run(folder, "automations", "run", "idx", "legal").code == 0
    assert list(folder.glob("deliveries/exports/legal/segments/**/*.csv"))


def test_fields_that_are_not_named_stay_and_defaults_are_had_again(folder):
    assert run(folder, *SET, "--paused", "--schedule", "0 3 * * *").code == 0
    name = ("automations", "set", "idx", "legal")
    assert (
        run(folder, *name, "--timezone", "Europe/Berlin", "--no-paused", "--default", "destination-subpath").code == 0
    )
    assert config_of(folder)["indexes"]["idx"]["automations"]["legal"] == {
        "destination_connector_id": "conn_export",
        "paused": False,
        "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    }
    said = run(folder, *name, "--paused", "--default", "paused")
    assert (said.code, "paused: is given a value and its default" in said.err) == (2, True)


def test_a_dry_run_prints_the_lines_and_writes_nothing(folder):
    before = (folder / "vv_exports.yaml").read_text()
    said = run(folder, *SET, "--dry-run")
    assert "+        destination_subpath: exports/legal" in said.out.splitlines()
    document = run(folder, *SET, "--dry-run", "--json").document
    assert (document["changed"], document["dry_run"]) == (True, True)
    assert (folder / "vv_exports.yaml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("automations", "set", "idxx", "legal", "--connector", "conn_export"), "no index 'idxx'. Did you mean 'idx'?"),
        (("automations", "set", "idx", "legal"), "legal.destination_connector_id"),
        (("automations", "set", "idx", "legal", "--connector", "conn_import"), "a destination needs export"),
        ((*SET[:-1], "exports/team/inside"), "the folder of indexes.idx.automations.team"),
        (("automations", "set", "idx", "team", "--default", "papused"), "papused"),
        (("automations", "remove", "idx", "legal"), "no automation 'legal'"),
        (("connectors", "set", "c", "--provider", "s3", "--root", "x"), "connectors.c.bucket"),
        (("indexes", "add", ""), "indexes"),
    ],
)
def test_what_would_be_wrong_is_said_and_not_written(folder, arguments, problem):
    before = (folder / "vv_exports.yaml").read_text()
    said = run(folder, *arguments)
    assert (said.code, problem in said.err) == (2, True), said.err
    assert (folder / "vv_exports.yaml").read_text() == before


@pytest.mark.slow
def test_what_follows_from_a_change_is_said(folder):
    assert run(folder, "automations", "run", "idx", "team").code == 0
    moved = run(folder, "automations", "set", "idx", "team", "--subpath", "exports/new").out
    assert "exports/team, with 2 prompt runs, stays as it is" in moved
    taken = run(folder, "automations", "set", "idx", "held", "--subpath", "exports/team").out
    assert "exports/team belongs to automation 'team' of index 'idx': what automation held" in taken
    gone = run(folder, "automations", "remove", "idx", "team").out
    assert "exports/new, and nobody keeps it up to date any more" in gone
    assert set(config_of(folder)["indexes"]["idx"]["automations"]) == {"held", "off"}
    moved = run(folder, "connectors", "set", "conn_export", "--export-base-path", "other", "--dry-run").out
    assert "automation held of index idx" in moved


def test_an_index_and_a_connector_are_added(folder):
    assert "has no index idx_2; it has: idx, idx_new" in run(folder, "indexes", "add", "idx_2").out
    assert "the source has no" not in run(folder, "indexes", "add", "idx_new").out
    assert run(folder, "indexes", "add", "idx_new", "--discovery-interval-seconds", "60").code == 0
    assert run(folder, "connectors", "set", "share", "--provider", "local", "--root", ".").code == 0
    assert run(folder, "automations", "set", "idx_new", "a", "--connector", "share").code == 0
    config = config_of(folder)
    assert config["connectors"]["share"] == {"provider": "local", "root": ".", "scopes": ["export"]}
    assert config["indexes"]["idx_2"] == {}
    assert config["indexes"]["idx_new"] == {
        "discovery_interval_seconds": 60,
        "automations": {"a": {"destination_connector_id": "share"}},
    }
    assert "says so already" in run(folder, "indexes", "add", "idx_new").out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--trigger", "schedule"), "legal.trigger: 'schedule': needs a schedule, which says when"),
        (("--trigger", "manual", "--schedule", "0 3 * * *"), "legal.trigger: 'manual': contradicts the schedule"),
        (("--trigger", "nightly"), "legal.trigger: 'nightly'"),
        (("--trigger", "schedule", "--timezone", "Europe/Berlin"), "legal.schedule.cron"),
        (("--trigger", "schedule", "--schedule", "0 3 * * *", "--timezone", "Berlin"), "legal.schedule.timezone"),
    ],
)
def test_a_trigger_that_comes_to_nothing_is_refused(folder, options, problem):
    said = run(folder, *SET, *options)
    assert (said.code, problem in said.err) == (2, True), said.err
    assert (
        run(folder, *SET, "--trigger", "schedule", "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin").code == 0
    )


@pytest.mark.slow
def test_all_automations_are_run_and_those_that_wait_are_named(folder):
    run(folder, *SET, "--trigger", "manual", "--start", "beginning")
    broken = ("automations", "set", "idx", "broken", "--connector", "gone", "--start", "beginning")
    run(folder, "connectors", "set", "gone", "--provider", "local", "--root", "nowhere")
    run(folder, *broken)
    planned = run(folder, "automations", "run", "--all", "--dry-run")
    assert "would deliver 2 prompt runs" in planned.out
    said = run(folder, "automations", "run", "idx")
    assert said.code == 1
    assert "idx/team: delivered 2 prompt runs" in said.out
    assert "idx/held is left alone: it is paused by the configuration" in said.out
    assert "idx/off is left alone: it is disabled in the configuration" in said.out
    assert "idx/legal is left alone: it delivers when it is named alone" in said.out
    assert "Error: idx/broken: " in said.err
    assert run(folder, "automations", "run", "idx", "legal").code == 0
    turns = {one["automation"]: one for one in run(folder, "automations", "run", "--all", "--json").document}
    assert turns["team"]["already_delivered"] == ["run_123", "run_124"]
    assert "nowhere" in turns["broken"]["error"]
    assert turns["held"]["waits"].startswith("it is paused")


@pytest.mark.parametrize("arguments", [(), ("idx", "--all"), ("idx", "--run", "run_123"), ("idxx",)])
def test_what_to_run_must_be_said(folder, arguments):
    assert run(folder, "automations", "run", *arguments).code == 2


def test_a_range_of_no_time_is_refused_and_one_of_no_run_says_which_times_there_are(folder):
    backfill = ("backfill", "idx", "team", "--since", "2026-10-05")
    said = run(folder, *backfill, "--until", "2026-10-01", "--dry-run")
    assert (said.code, "since 2026-10-05T00:00:00Z and before 2026-10-01T00:00:00Z" in said.err) == (2, True)
    said = run(folder, *backfill)
    assert (said.code, "they were from 2026-10-01T00:00:00Z to 2026-10-02T00:00:00Z" in said.err) == (0, True)
    assert "they were" not in run(folder, "backfill", "idx", "team", "--since", "2026-10-02").err


def test_the_demo_of_the_package_is_not_changed(tmp_path):
    said = run(tmp_path, "automations", "set", "idx_archive", "legal", "--connector", "conn_export")
    assert (said.code, "vv-exports init` writes one here" in said.err) == (2, True)


def test_a_client_goes_on_with_what_it_changed_and_with_what_others_changed(tmp_path):
    write_run(tmp_path / "archive", index_id="idx", run_id="run_123")
    client = client_of(tmp_path)
    other = VVExports(tmp_path / "vv_exports.yaml")
    other.automations.set("idx", "legal", destination_connector_id="conn_export", start="beginning", format="csv")
    change = client.automations.set("idx", "legal", destination_subpath="exports/legal")
    assert config_of(tmp_path)["indexes"]["idx"]["automations"]["legal"]["format"] == "csv"
    assert change.changed
    assert client.automations.run("idx", "legal").delivered == ("run_123",)
    client.automations.remove("idx", "legal")
    with pytest.raises(NotFoundError):
        client.automations.retrieve("idx", "legal")
    with pytest.raises(ConfigurationError, match="partly"):
        client.automations.set("idx", "team", partial="partly")


def test_whatever_an_automation_or_a_connector_has_can_be_set():
    assert AutomationFields.__annotations__.keys() == AutomationConfig.model_fields.keys()
    of_connectors = {name for provider in PROVIDERS.values() for name in provider.model_fields}
    assert ConnectorFields.__annotations__.keys() == of_connectors
    taken = {str(param.name) for param in COMMANDS["automations set"].params}
    other = {"format": "format_name", "fields": "include", "schedule": "cron"}
    assert {other.get(name, name) for name in AutomationFields.__annotations__} <= taken
    assert of_connectors <= {str(param.name) for param in COMMANDS["connectors set"].params}


def test_reload_says_where_nobody_answers(folder):
    said = run(folder, "reload", "--url", "http://127.0.0.1:9")
    assert (said.code, "does not answer: [Errno 111]" in said.err) == (1, True), said.err
