"""A deployment is begun by a command: what it asks, tries, writes, and leaves alone."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.client.ui import ui_process
from vv_exports.config import load_config
from vv_exports.demo import write_demo
from vv_exports_tests.cli.running import Said, run, tree
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector

KEY = "VV_TEST_API_KEY"


def ask(folder, *arguments: str, answers: str = "", **environment: str) -> Said:
    with contextlib.chdir(folder):
        environment = {"VV_EXPORTS_CONFIG": None, "DAGSTER_HOME": None, **environment}
        result = CliRunner(env=environment).invoke(main, ["init", *arguments], input=answers)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder / ".vv_exports/archive"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.fixture(scope="module")
def server():
    platform = make_platform(media=3, runs=1, segments=(1, 2))
    platform.indexes["idx 2"] = {**platform.indexes["idx_1"], "index_id": "idx 2", "name": "Second"}
    platform.media["idx 2"] = {}
    platform.connectors += [
        {"connector_id": "g", "name": "G", "provider": "gcs", "status": "failed", "scopes": ["export"],
         "bucket": "b-b"},
        {"connector_id": "a", "name": "A", "provider": "azure", "status": "active", "scopes": ["export"],
         "storage_account": "account", "container": "videos"},
        {"connector_id": "w", "name": "W", "provider": "webdav", "status": "active", "scopes": ["export"]},
    ]  # fmt: skip
    platform.export_automations["idx_1"] = {
        "enabled": True, "paused": False, "destination_connector_id": "conn_up", "destination_subpath": "team/one"
    }  # fmt: skip
    with FakeVideoVector(platform) as running:
        yield running


def options(archive, *more: str) -> tuple[str, ...]:
    source = ("--no-input", "--source", "local_archive", "--archive", str(archive))
    return (*source, "--all-indexes", "--provider", "local", "--root", "out", *more)


@pytest.mark.slow
def test_the_questions_lead_to_a_deployment_that_delivers(folder, archive):
    said = ask(folder, answers=f"local_archive\n{archive}\n1\nlocal\nout\ncsv\n")
    assert said.code == 0, said.text
    assert said.err.count("[") == 5, "five questions have a default, and the archive's folder has none"
    config = yaml.safe_load((folder / "vv_exports.yaml").read_text())
    assert config["indexes"]["idx_archive"]["automations"]["export"] == {
        "destination_connector_id": "conn_export", "format": "csv", "start": "beginning"
    }  # fmt: skip
    assert run(folder, "config", "check").code == 0
    said = run(folder, "automations", "run", "--all")
    assert "delivered 8 prompt runs" in said.out
    assert (folder / ".dagster/storage").is_dir()
    assert not (folder / ".dagster/dagster.yaml").exists(), "the settings are beside the configuration"


def test_options_ask_nothing_and_json_is_one_document(folder, archive):
    document = ask(folder, *options(archive, "--format", "jsonl", "--json")).document
    assert [one["outcome"] for one in document["files"]] == ["written"] * 3
    assert {one["outcome"] for one in document["checks"]} == {"ok"}
    text = (folder / "vv_exports.yaml").read_text()
    assert "source:\n  kind: local_archive\n" in text
    assert "connectors:\n  conn_export:\n    provider: local\n    root: out\n    scopes: [export]\n" in text
    assert text.count("\n#") >= 6


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("--provider", "s3"), "--bucket is needed, since nobody is to be asked"),
        (("--index", "idx_archiv"), "the source has no index idx_archiv; it has: idx_archive"),
        (("--provider", "local", "--root", ""), "connectors.conn_export.root"),
        (("--provider", "local", "--root", ".vv_exports/storage"), "`storage`"),
        (
            ("--provider", "local", "--root", "made", "--all-indexes", "--automation", "no name"),
            "automations.'no name'",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_is_written(folder, archive, missing, said):
    told = ask(folder, "--no-input", "--source", "local_archive", "--archive", str(archive), *missing)
    assert (told.code, said in told.err) == (2, True), told.text
    assert tree(folder) == {}


def test_what_is_there_is_left_as_it_is_unless_it_may_be_replaced(folder, archive):
    (folder / "workspace.yaml").write_text("load_from: []\n")
    assert "workspace.yaml is kept: it is there already" in ask(folder, *options(archive)).out
    before = tree(folder)
    said = ask(folder, *options(archive, "--format", "csv"))
    assert (said.code, "vv_exports.yaml is there already" in said.err) == (2, True)
    assert tree(folder) == before
    assert "vv_exports.yaml is replaced" in ask(folder, *options(archive, "--format", "csv", "--overwrite")).out
    assert "python_module" in (folder / "workspace.yaml").read_text()


@pytest.mark.slow
def test_a_history_that_was_made_without_settings_beside_it_stays_in_use(folder, archive):
    with contextlib.chdir(folder):
        shutil.copytree(archive, folder / ".vv_exports/archive")
    assert run(folder, "automations", "run", "idx_archive", "review-team").code == 0
    said = ask(folder, *options(archive))
    assert "since the history of this folder is in" in said.out
    assert not (folder / "dagster.yaml").exists()


def test_the_file_that_the_environment_names_is_the_one_that_is_begun(folder, archive):
    named = folder / "config" / "main.yaml"
    assert ask(folder, *options(archive), VV_EXPORTS_CONFIG=str(named)).code == 0
    assert sorted(path.name for path in named.parent.iterdir()) == [
        "dagster.yaml",
        "main.yaml",
        "out",
        "workspace.yaml",
    ]
    assert load_config(named).file == named


def test_the_end_of_the_answers_writes_nothing(folder, archive):
    said = ask(folder, answers=f"local_archive\n{archive}\n")
    assert (said.code, "give --index or --all-indexes and --no-input" in said.err) == (2, True), said.text
    assert tree(folder) == {}


def test_a_key_that_is_asked_for_is_tried_and_written_nowhere(folder, server, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    answers = f"{server.api_key}\nidx 2\nn\nlocal\nout\nparquet\n"
    said = ask(folder, "--source", "videovector", "--base-url", server.base_url, "--api-key-env", KEY, answers=answers)
    os.environ.pop(KEY, None)
    assert said.code == 0, said.text
    assert f"set the environment variable {KEY} (api_key_env) before the next command" in said.out
    assert "Take over VideoVector's connectors (conn_up, g, a, w)" in said.err
    assert server.api_key not in said.text
    assert not any(server.api_key.encode() in (data or b"") for data in tree(folder).values())
    config = yaml.safe_load((folder / "vv_exports.yaml").read_text())
    assert list(config["indexes"]) == ["idx 2"]


def test_a_key_that_is_refused_stops_it_and_untested_files_are_written_when_that_is_said(folder, server):
    given = ("--no-input", "--source", "videovector", "--base-url", server.base_url, "--api-key-env", KEY)
    given = (*given, "--index", "idx_1", "--provider", "local", "--root", "out")
    said = ask(folder, *given, **{KEY: "wrong"})
    assert (said.code, "the source cannot be used yet, so nothing was written" in said.err) == (2, True), said.text
    assert tree(folder) == {}
    refused = ask(folder, *given, **{KEY: server.api_key}, VV_EXPORTS_CONFIG="/proc/vv_exports.yaml")
    assert (refused.code, "'/proc/out' cannot be made" in refused.err) == (2, True), refused.text
    assert ask(folder, *given, "--untested", **{KEY: "wrong"}).code == 0
    assert list(load_config(folder / "vv_exports.yaml").indexes) == ["idx_1"]


def test_connectors_and_automations_of_the_platform_are_taken_over_without_their_secrets(folder, server):
    given = ("--no-input", "--source", "videovector", "--base-url", server.base_url, "--api-key-env", KEY)
    said = ask(folder, *given, "--all-indexes", "--from-platform", "--json", **{KEY: server.api_key})
    assert said.code == 0, said.text
    config = yaml.safe_load((folder / "vv_exports.yaml").read_text())
    assert config["connectors"] == {
        "conn_up": {
            "provider": "s3", "bucket": "customer-bucket", "region": "eu-central-1", "export_base_path": "exports",
            "scopes": ["import", "export"], "access_key_id_env": "VV_CONN_UP_ACCESS_KEY_ID",
            "secret_access_key_env": "VV_CONN_UP_SECRET_ACCESS_KEY",
        },
        "g": {
            "provider": "gcs", "bucket": "b-b", "scopes": ["export"], "credentials_file_env": "VV_G_CREDENTIALS_FILE",
        },
        "a": {"provider": "azure", "storage_account": "account", "container": "videos", "scopes": ["export"]},
    }  # fmt: skip
    assert config["indexes"] == {
        "idx_1": {
            "automations": {
                "export": {
                    "enabled": True, "paused": False, "destination_connector_id": "conn_up",
                    "destination_subpath": "team/one", "format": "parquet", "start": "beginning",
                }
            }
        },
        "idx 2": {},
    }  # fmt: skip
    notes = "\n".join(json.loads(said.out)["notes"])
    for note in (
        "conn_up of VideoVector is taken over without its secret",
        "set VV_CONN_UP_ACCESS_KEY_ID and VV_CONN_UP_SECRET_ACCESS_KEY",
        "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
        "connector g of VideoVector is failed there",
        "connector w of VideoVector is not taken over",
        "so both it and this pipeline deliver",
        "index idx 2 has no export automation at VideoVector",
    ):
        assert note in notes


def test_an_archive_has_nothing_to_take_over(folder, archive):
    said = ask(folder, "--no-input", "--source", "local_archive", "--archive", str(archive), "--all-indexes",
               "--from-platform")  # fmt: skip
    assert (said.code, "leave out --from-platform" in said.err) == (2, True)


def test_the_ui_is_started_on_the_files_of_the_deployment(folder, archive, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    ask(folder, *options(archive))
    client = VVExports(folder / "vv_exports.yaml")
    process = ui_process(client, host="127.0.0.1", port=3999, environ={})
    assert process.arguments[-7:] == (
        "dev", "-w", str(folder / "workspace.yaml"), "-h", "127.0.0.1", "-p", "3999"
    )  # fmt: skip
    assert process.folder == folder
    assert process.environ["DAGSTER_HOME"] == str(folder)
    assert process.environ["VV_EXPORTS_CONFIG"] == str(folder / "vv_exports.yaml")
    for name in ("workspace.yaml", "dagster.yaml"):
        (folder / name).unlink()
    process = ui_process(VVExports(folder / "vv_exports.yaml"), host="127.0.0.1", port=3999, environ={})
    settings = yaml.safe_load((folder / ".dagster/dagster.yaml").read_text())
    assert process.environ["DAGSTER_HOME"] == str(folder / ".dagster")
    assert settings["concurrency"]["pools"]["default_limit"] == 1
    workspace = yaml.safe_load(Path(process.arguments[process.arguments.index("-w") + 1]).read_text())
    assert workspace["load_from"][0]["python_module"]["location_name"] == "vv_exports"


@pytest.mark.parametrize(
    "command", [("connectors", "list"), ("automations", "list"), ("source", "check"), ("runs", "list", "idx_archive")]
)
def test_a_command_without_a_configuration_says_that_it_works_on_the_demo(folder, command):
    said = run(folder, *command)
    assert "this is the packaged demo configuration (there is no vv_exports.yaml in" in said.err
    assert "vv-exports init" in said.err


def test_there_is_nothing_to_check_where_there_is_no_configuration(folder, archive):
    said = run(folder, "config", "check", "--json")
    assert (said.code, "no configuration to check" in said.document["error"]["message"]) == (2, True)
    assert ask(folder, *options(archive)).code == 0
    said = run(folder, "config", "check")
    assert (said.code, said.err) == (0, "")


def test_folders_that_are_not_there_are_said_by_the_check(folder, archive):
    assert ask(folder, *options(archive)).code == 0
    (folder / "out").rmdir()
    text = (folder / "vv_exports.yaml").read_text()
    (folder / "vv_exports.yaml").write_text(text.replace(str(archive), "gone"))
    said = run(folder, "config", "check", "--json")
    assert (said.code, said.document["ok"]) == (0, True)
    root, path = said.document["warnings"]
    assert root.startswith(f"connectors.conn_export.root: '{folder / 'out'}' is not there")
    assert path.startswith("source.path: ")
