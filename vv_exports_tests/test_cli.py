"""The command line as a user meets it: what it prints where, its exit codes, and what it leaves on disk."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

import vv_exports
from vv_exports.cli import main
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import REPOSITORY, Said, run, spawn, tree, write_deployment
from vv_exports_tests.deployments import CONFIG, write_config, written_files

WITH_NEW = copy.deepcopy(CONFIG)
WITH_NEW["indexes"]["idx_new"] = {}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment where nothing was done yet; it lies two folders deep, to see what leaves it."""
    return write_deployment(tmp_path_factory.mktemp("pristine") / "outer" / "deployment", WITH_NEW)


@pytest.fixture
def untouched(pristine: Path) -> Iterator[Path]:
    """The same, for commands that must not write: anything new anywhere around it fails the test."""
    around = pristine.parents[1]
    before = tree(around)
    yield pristine
    assert tree(around) == before


@dataclass(frozen=True)
class Used:
    """A deployment in use: each command that writes was run, with and without --json."""

    folder: Path
    said: dict[str, Said]

    @property
    def download_id(self) -> str:
        return self.said["download --json"].document["export_id"]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Used:
    folder = write_deployment(tmp_path_factory.mktemp("used"))
    to = ("--connector", "conn_export", "--subpath")
    commands = {
        "sync": ("runs", "sync", "idx"),
        "sync --json": ("runs", "sync", "idx", "--json"),
        "index": ("export", "index", "idx", *to, "some/where"),
        "index --json": ("export", "index", "idx", "--run", "run_124", *to, "one", "--format", "csv", "--json"),
        "run": ("export", "run", "idx", "run_123", *to, "a run"),
        "run --json": ("--json", "export", "run", "idx", "run_123", *to, "a run", "--format", "jsonl"),
        "download": ("export", "index", "idx", "--idempotency-key", "k", "--to", "out/"),
        "download --json": ("export", "index", "idx", "--idempotency-key", "k", "--json"),
        "automation": ("automations", "run", "idx", "team"),
        "automation --json": ("automations", "run", "idx", "team", "--json"),
    }
    return Used(folder, {name: run(folder, *arguments) for name, arguments in commands.items()})


# --- work -------------------------------------------------------------------------------------------------


def test_every_command_that_works_says_so_with_exit_code_0(used):
    assert {name: said.code for name, said in used.said.items()} == dict.fromkeys(used.said, 0)
    for name, said in used.said.items():
        assert "Traceback" not in said.text
        if name.endswith("--json"):
            assert isinstance(said.document, dict), name
        else:
            assert said.out, name


def test_a_sync_tells_what_it_found(used):
    assert used.said["sync"].out == "idx: 2 finished of 6 prompt runs; 2 new, 2 snapshots taken.\n"
    assert "snapshot of run_123: 3 segments" in used.said["sync"].err
    again = used.said["sync --json"].document
    assert (again["index_id"], again["prompt_runs"], again["finished"]) == ("idx", 6, 2)
    assert (again["new_partitions"], again["snapshots_taken"], again["dagster_run_ids"]) == ([], [], [])


def test_an_export_has_the_documented_keys(used):
    export = used.said["index --json"].document
    documented = {
        *("export_id", "export_type", "target_id", "status", "destination_type", "destination_connector_id"),
        *("destination_uri", "rows", "files", "bytes", "delivery_id", "dagster_run_id", "error_message"),
    }
    assert documented <= set(export)
    assert (export["export_type"], export["target_id"], export["status"]) == ("index", "idx", "completed")
    assert (export["destination_type"], export["destination_connector_id"]) == ("connector", "conn_export")
    assert (export["rows"], export["files"], export["error_message"]) == (2, 1, None)
    (file,) = Path(export["destination_uri"]).rglob("*.csv")
    assert file.stat().st_size == export["bytes"]
    assert export["destination_uri"] == str(used.folder / "deliveries/one" / export["export_id"])


def test_a_prompt_run_export_is_about_its_run(used):
    export = used.said["run --json"].document
    assert (export["export_type"], export["target_id"], export["rows"]) == ("prompt_run", "run_123", 3)
    assert list(Path(export["destination_uri"]).rglob("*.jsonl.zst"))
    assert "3 segments; 1 file, " in used.said["run"].out


def test_a_download_lands_where_it_was_asked_for_and_the_same_key_makes_no_second_one(used):
    (archive,) = (used.folder / "out").iterdir()
    assert archive.name == f"{used.download_id}.zip"
    assert str(Path("out") / archive.name) in used.said["download"].out
    assert used.said["download --json"].document["destination_type"] == "download"


def test_an_automation_delivers_and_then_has_nothing_new(used):
    assert "delivered 2 prompt runs (5 segments; 2 files, " in used.said["automation"].out
    assert str(used.folder / "deliveries/exports/team") in used.said["automation"].out
    again = used.said["automation --json"].document
    assert (again["delivered"], again["already_delivered"]) == ([], ["run_123", "run_124"])
    assert run(used.folder, "automations", "run", "idx", "team").out.startswith(
        "idx/team: nothing new, nothing written; "
    )


READING = {
    "runs list": ("runs", "list", "idx"),
    "exports list": ("exports", "list"),
    "automations list": ("automations", "list"),
    "automations show": ("automations", "show", "idx", "team"),
    "automations history": ("automations", "history", "idx", "team"),
    "status": ("status",),
    "connectors list": ("connectors", "list"),
    "connectors browse": ("connectors", "browse", "conn_export"),
    "connectors browse --prefix": ("connectors", "browse", "conn_export", "--prefix", "exports/team/segments/"),
    "config check": ("config", "check"),
    "config schema": ("config", "schema"),
    "verify": ("verify", "conn_export"),
    "verify --subpath": ("verify", "conn_export", "--subpath", "exports/team"),
}


@pytest.mark.parametrize("name", READING)
def test_commands_that_read_print_for_people_or_one_document(used, name):
    plain, as_json = run(used.folder, *READING[name]), run(used.folder, *READING[name], "--json")
    assert (plain.code, as_json.code, plain.err, as_json.err) == (0, 0, "", "")
    assert plain.out.strip()
    assert as_json.document, name
    assert run(used.folder, "--json", *READING[name]).document == as_json.document


def test_lists_have_an_object_for_each_with_the_names_of_the_sdk(used):
    runs = run(used.folder, "runs", "list", "idx", "--json").document
    assert [(one["run_id"], one["status"]) for one in runs[:2]] == [("run_123", "completed"), ("run_124", "completed")]
    assert len(runs) == 6
    assert (
        runs[0].items() >= {"prompt_id": "prm", "executed_at": "2026-10-01T00:00:00Z", "snapshot_segments": 3}.items()
    )
    exports = run(used.folder, "exports", "list", "--json").document
    assert exports[0]["export_id"] == used.download_id, "newest first"
    assert len(exports) == 5
    files = run(used.folder, "connectors", "browse", "conn_export", "--json").document
    assert sum(file["path"].startswith("exports/team/segments/") for file in files) == 2
    (team,) = [one for one in run(used.folder, "automations", "list", "--json").document if one["automation"] == "team"]
    assert (team["delivered"], team["due"], team["held"]) == (2, 0, 0)


def test_one_export_can_be_shown_and_downloaded_again(used):
    shown = run(used.folder, "exports", "show", used.download_id, "--json").document
    assert shown == used.said["download --json"].document
    assert f"export_id: {used.download_id}" in run(used.folder, "exports", "show", used.download_id).out
    target = used.folder / "again.zip"
    first = run(used.folder, "exports", "download", used.download_id, "--to", str(target), "--json").document
    again = run(used.folder, "exports", "download", used.download_id, "--to", str(target), "--json").document
    assert (first["written"], again["written"], first["bytes"]) == (True, False, target.stat().st_size)
    assert "was there already" in run(used.folder, "exports", "download", used.download_id, "--to", str(target)).out


def test_an_export_without_an_artifact_cannot_be_downloaded(used):
    said = run(used.folder, "exports", "download", used.said["run --json"].document["export_id"])
    assert (said.code, said.out) == (2, "")
    assert "has no artifact to download" in said.err


def test_a_download_that_cannot_be_put_in_place_gives_one_document(used):
    (used.folder / "file").touch()
    said = run(used.folder, "export", "index", "idx", "--idempotency-key", "k", "--to", "file/x.zip", "--json")
    assert said.code in {1, 2}
    assert set(said.document) == {"error"}


def test_a_connector_is_tried_step_by_step_and_nothing_is_left_of_it(used):
    before = written_files(used.folder)
    said = run(used.folder, "connectors", "test", "conn_export", "--json").document
    assert [step["outcome"] for step in said["steps"]] == ["ok"] * 8
    assert [step["step"] for step in said["steps"]] == [
        *("folder", "list", "write", "read back", "delete"),
        *("second create", "unfinished uploads", "boundary"),
    ]
    assert (said["ok"], said["connector_id"], said["policies"]) == (True, "conn_export", {})
    told = run(used.folder, "connectors", "test", "conn_export")
    assert (told.code, told.out.count("ok  ")) == (0, 8)
    assert written_files(used.folder) == before
    assert run(used.folder, "connectors", "test", "nowhere").code == 2


def test_a_connector_that_cannot_be_used_says_at_which_step(tmp_path):
    config = {**CONFIG, "connectors": {"conn_export": {"provider": "local", "root": "gone", "scopes": ["export"]}}}
    write_config(tmp_path, config)
    said = run(tmp_path, "connectors", "test", "conn_export", "--json")
    assert said.code == 2
    assert [(step["step"], step["outcome"]) for step in said.document["steps"]] == [("folder", "failed")]
    assert "is not a folder; create it" in said.document["steps"][0]["detail"]
    assert said.document["ok"] is False


def test_what_is_left_over_at_a_destination_goes_and_nothing_else(used):
    name = hashlib.sha256(b"of a delivery that died").hexdigest()[:16]
    stray = f"segments/prompt_id=prm/prompt_run_id=run_1/part-00000-{name}.parquet"
    foreign = "segments/prompt_id=prm/prompt_run_id=run_1/part-00000-0123456789abcdef.parquet"
    place = used.folder / "deliveries" / "exports" / "team"
    (place / stray).parent.mkdir(parents=True, exist_ok=True)
    (place / stray).write_bytes(b"of a delivery that died")
    (place / foreign).write_bytes(b"somebody's")
    before = written_files(used.folder)
    arguments = ("vacuum", "conn_export", "--subpath", "exports/team")
    planned = run(used.folder, *arguments, "--dry-run")
    assert (planned.code, "would remove 0 superseded and 1 stray file (23 bytes)" in planned.out) == (0, True)
    assert stray in planned.out
    assert f"  stays: {foreign}\n" in planned.out
    verified = run(used.folder, "verify", "conn_export", "--subpath", "exports/team")
    assert (verified.code, "2 problems" in verified.out) == (1, True)
    assert f"{foreign} is not the pipeline's, and a glob of the table's folder takes it" in verified.out
    assert f"  not the pipeline's, and left alone: {foreign}\n" in verified.out
    assert written_files(used.folder) == before
    done = run(used.folder, *arguments, "--json").document
    assert (done["strays"], done["superseded"], done["bytes"], done["dry_run"]) == ([stray], [], 23, False)
    kept = {path: content for path, content in before.items() if not path.endswith(stray)}
    after = written_files(used.folder)
    assert {path: after[path] for path in kept} == kept
    again = run(used.folder, *arguments, "--json").document
    assert (again["strays"], again["left_alone"]) == ([], [foreign])
    (place / foreign).unlink()
    del after[f"deliveries/exports/team/{foreign}"]
    for wrong in ("exports", "nowhere", "../exports", "exports/team/segments"):
        refused = run(used.folder, "vacuum", "conn_export", "--subpath", wrong)
        assert (refused.code, refused.out) == (2, ""), wrong
    assert run(used.folder, "vacuum", "conn_import", "--subpath", "exports/team").code == 2, "it has no export scope"
    assert run(used.folder, "vacuum", "conn_export").code == 2
    assert written_files(used.folder) == after


def test_every_command_has_help_and_is_tried_here():
    tried = {" ".join(words) for words in _commands(main)}
    assert tried == {
        "demo",
        *("config check", "config schema", "source check", "runs sync", "runs list", "export index", "export run"),
        *("exports list", "exports show", "exports download", "exports delete", "exports vacuum"),
        *("status", "automations list", "automations show", "automations history"),
        *("automations pause", "automations resume", "automations run"),
        *("backfill", "runs prune", "connectors list", "connectors browse", "connectors test"),
        *("verify", "provenance", "checks", "vacuum", "erase", "sql", "report", "log schema"),
        *("tables list", "tables rebuild", "tables drop"),
        *("notifications test", "notifications list", "notifications send", "notifications schema"),
        *("indexes list", "indexes sync"),
        # In cli/test_changes.py, cli/test_init.py and test_metrics.py.
        *("metrics", "automations set", "automations remove", "connectors set", "indexes add", "reload", "init", "ui"),
    }
    for words in _commands(main):
        said = run(REPOSITORY, *words, "--help")
        assert said.code == 0
        assert said.out.startswith(f"Usage: main {' '.join(words)} ")


def _commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *before, name)
        else:
            yield (*before, name)


def test_a_paused_automation_says_who_and_why_everywhere(tmp_path):
    write_deployment(tmp_path)
    run(tmp_path, "automations", "run", "idx", "team")
    write_run(tmp_path / "archive", run_id="run_new")
    assert run(tmp_path, "automations", "pause", "idx", "team", "--reason", "the share moves").out.endswith(
        "(the share moves); due: 1 prompt run, delivered: 2\n"
    )
    for command in (("show", "idx", "team"), ("pause", "idx", "team"), ("list",)):
        document = run(tmp_path, "automations", *command, "--json").document
        shown = document if isinstance(document, dict) else next(o for o in document if o["automation"] == "team")
        assert (shown["paused"], shown["pause_reason"], shown["due"]) == (True, "the share moves", 1)
        assert shown["paused_by"]
    assert "idx/team is resumed; due: 1 prompt run," in run(tmp_path, "automations", "resume", "idx", "team").out
    assert run(tmp_path, "automations", "show", "idx", "team", "--json").document["paused"] is False


@pytest.mark.slow
def test_a_backfill_says_what_it_would_deliver_and_delivers_that(tmp_path):
    write_deployment(tmp_path)
    before = tree(tmp_path)
    said = run(tmp_path, "backfill", "idx", "team", "--dry-run")
    assert said.out.startswith("would deliver 2 prompt runs (")
    assert "run_123" in said.out
    plan = run(tmp_path, "backfill", "idx", "team", "--run", "run_124", "--dry-run", "--json").document
    assert [(one["run_id"], one["why"]) for one in plan["prompt_runs"]] == [("run_124", "missing")]
    nothing = run(tmp_path, "backfill", "idx", "team", "--until", "2020-01-01", "--dry-run").out
    assert nothing.startswith("would deliver 0")
    assert nothing.count("\n") == 1, "no empty line follows"
    assert tree(tmp_path) == before
    outcome = run(tmp_path, "backfill", "idx", "team", "--run", "run_124", "--json").document
    assert outcome["delivered"] == ["run_124"]
    assert run(tmp_path, "backfill", "idx", "team").out.startswith("idx/team: delivered 1 prompt run (")
    assert run(tmp_path, "backfill", "idx", "team").out.startswith("idx/team: nothing new, nothing written;")
    assert run(tmp_path, "backfill", "idx", "team", "--in-daemon").err.startswith("Error: no Dagster daemon works on")


def test_runs_that_are_gone_are_forgotten_when_asked_for(tmp_path):
    write_deployment(tmp_path)
    assert run(tmp_path, "automations", "run", "idx", "team").code == 0
    shutil.rmtree(tmp_path / "archive/indexes/idx/prompt_runs/run_124")
    delivered = tree(tmp_path / "deliveries")
    assert run(tmp_path, "runs", "prune", "idx", "--dry-run").out.startswith("would forget 1 prompt run of idx")
    assert run(tmp_path, "runs", "prune", "idx", "--json").document["prompt_runs"] == ["run_124"]
    assert run(tmp_path, "runs", "prune", "idx").out.startswith("forgot 0 prompt runs")
    assert tree(tmp_path / "deliveries") == delivered


# --- wrong requests: exit code 2, nothing written -----------------------------------------------------------

TO = ("--connector", "conn_export")
WRONG = {
    "unknown index": (("export", "index", "idy"), "index 'idy' does not exist", "Did you mean 'idx'?"),
    "unknown index of a listing": (("runs", "list", "idy"), "index 'idy' does not exist", "Did you mean 'idx'?"),
    "unknown index of a sync": (("runs", "sync", "idy"), "index 'idy' does not exist", "Did you mean 'idx'?"),
    "unknown run": (("export", "index", "idx", "--run", "run_12"), "'run_12' does not exist", "Did you mean 'run_12"),
    "unknown single run": (("export", "run", "idx", "run_999"), "'run_999' does not exist in index 'idx'", "'run_123'"),
    "unknown connector": (
        ("export", "index", "idx", "--connector", "con_export"),
        "'con_export' does",
        "'conn_export'?",
    ),
    "unknown connector to browse": (("connectors", "browse", "nope"), "connector 'nope' does not exist", "conn_export"),
    "unknown connector to verify": (("verify", "nope"), "connector 'nope' does not exist", "conn_export"),
    "unknown automation": (("automations", "run", "idx", "teem"), "index 'idx' has no automation 'teem'", "'team'?"),
    "unknown automation to show": (("automations", "show", "idx", "teem"), "has no automation 'teem'", "'team'?"),
    "unknown index of an automation": (("automations", "show", "idy", "team"), "has no index 'idy'", "'idx'?"),
    "unknown format": (
        ("export", "index", "idx", "--format", "xlsx"),
        "format: 'xlsx' is not",
        "csv, json, jsonl, markers, parquet, webvtt",
    ),
    "a run named twice": (("export", "index", "idx", *["--run", "run_123"] * 2), "named twice", "run_123"),
    "nothing to select": (("export", "index", "idx_new"), "no finished prompt run", "1 runs in all"),
    "an empty run id": (("export", "index", "idx", "--run", ""), "prompt run '' does not exist", ""),
    "no export scope": (("export", "index", "idx", "--connector", "conn_import"), "conn_import", "not 'export'"),
    "a subpath alone": (("export", "index", "idx", "--subpath", "x"), "without a connector", "'x'"),
    "an automation's subpath": (("export", "index", "idx", *TO, "--subpath", "exports/team"), "automation 'team'", ""),
    "below an automation": (("export", "index", "idx", *TO, "--subpath", "exports/team/x"), "automation 'team'", ""),
    "a copy of no download": (("export", "index", "idx", *TO, "--to", "x.zip"), "--to copies a download", ""),
    "a blank key": (("export", "index", "idx", "--idempotency-key", " "), "blank", ""),
    "a disabled automation": (("automations", "run", "idx", "off"), "disabled", "enabled: true"),
    "a disabled automation's backfill": (("backfill", "idx", "off"), "disabled", "enabled: true"),
    "a backfill of no automation": (("backfill", "idx", "teem", "--dry-run"), "has no automation 'teem'", "'team'?"),
    "a pause of no automation": (("automations", "pause", "idx", "teem"), "has no automation 'teem'", "'team'?"),
    "a resume of what the configuration pauses": (("automations", "resume", "idx", "held"), "paused in the", "false"),
    "unknown index of a prune": (("runs", "prune", "idy"), "index 'idy' does not exist", "Did you mean 'idx'?"),
    "nothing delivered there": (("verify", "conn_export", "--subpath", "x"), "no delivery log", ""),
    "browsing outside": (("connectors", "browse", "conn_export", "--prefix", "../archive"), "../archive", "below"),
    "verifying outside": (("verify", "conn_export", "--subpath", "../archive"), "'../archive'", "deliveries"),
    **{
        f"a {status} run": (("export", "run", "idx", f"run_{status}"), f"'run_{status}' is {status}", "Leave ")
        for status in ("pending", "processing", "failed", "cancelled")
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_explained_and_nothing_is_written(untouched, name):
    arguments, *phrases = WRONG[name]
    said = run(untouched, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: ")
    assert "Traceback" not in said.err
    assert [phrase for phrase in phrases if phrase not in said.err] == []
    as_json = run(untouched, *arguments, "--json")
    assert (as_json.code, as_json.err) == (2, said.err)
    assert as_json.document["error"]["message"] == said.err.removeprefix("Error: ").removesuffix("\n")


LEAVING = [
    *("..", "../x", "../../x", "x/..", "x/../..", "x/../../y", "./..", "a/./../../b", "../deliveries2", "..//x"),
    *("/", "/tmp/x", "//x", "/../x", "~", "~/x", "~root/x", "C:\\x", "C:/x", "c:x"),
    *("\\x", "..\\x", "a\\..\\..\\x", "\\\\server\\share", "a/..\\x"),
    *("%2e%2e/x", "%2E%2E%2Fx", "..%2fx", "x/%2e%2e/%2e%2e/y", "%252e%252e/x", "%c0%ae%c0%ae/x", "..%5cx", "%00"),
    *("．．/x", "․․/x", "‥/x", "…/x", "..／x", "..∕x", "..⁄x", "..＼x", "a⧸b", "．．／x"),
    *("..\0/x", "../x\n", "a\n/../b", ".. /x", " ../x", "..\t/x", "\u202e../x", "..\u200b/x", "\ufeff../x"),
    *("file:///tmp/x", "s3://bucket/x", "gs://x", "memory://x", "local:x", "", " ", "a//b", "x//", "."),
    *("_vv/log", "exports/_vv", ".hidden", "*", "a/**", "prompt_id=1/x", "\ud800", "nul", "x" * 300),
    *("link", "link/x", "deep/link", "deep/link/x"),
]


@pytest.mark.slow
def test_no_subpath_leads_out_of_the_base_and_nothing_is_written(tmp_path):
    assert len(set(LEAVING)) >= 70
    folder = write_deployment(tmp_path / "outer" / "deployment")
    (folder / "deliveries/deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for link in ("link", "deep/link"):
        (folder / "deliveries" / link).symlink_to(tmp_path / "outside", target_is_directory=True)
    before = tree(tmp_path)
    for subpath in LEAVING:
        said = run(folder, "export", "index", "idx", *TO, "--subpath", subpath, "--json")
        assert said.code == 2, subpath
        assert said.document["error"]["type"] == "DestinationError", subpath
        assert "deliveries" in said.document["error"]["message"], "names the boundary"
        assert tree(tmp_path) == before, subpath


@pytest.mark.parametrize("arguments", [("export", "index", "idx"), ("export", "run", "idx", "run_123")])
@pytest.mark.parametrize("where", [(), (*TO, "--subpath", "new/place")])
def test_a_dry_run_tells_everything_and_writes_nothing(untouched, arguments, where):
    plain = run(untouched, *arguments, *where, "--dry-run")
    assert plain.code == 0
    assert "would export" in plain.out
    assert "run_123" in plain.out
    document = run(untouched, *arguments, *where, "--dry-run", "--json").document
    wanted = ["run_123"] if "run" in arguments else ["run_123", "run_124"]
    assert (document["dry_run"], [one["run_id"] for one in document["prompt_runs"]]) == (True, wanted)
    assert document["destination"] == (str(untouched / "deliveries/new/place") if where else "a download")


def test_a_dry_run_refuses_what_the_export_would_refuse(untouched):
    for arguments, *_ in (WRONG["unknown run"], WRONG["no export scope"], WRONG["below an automation"]):
        assert run(untouched, *arguments, "--dry-run").code == 2


@pytest.mark.parametrize("flag", [(), ("--json",)])
@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("export", "index", "idx", "--nope"), "--nope"),
        (("export", "index", "idx", "--form", "csv"), "--form"),
        (("export", "index"), "INDEX"),
        (("export", "run", "idx"), "RUN"),
        (("exports", "download"), "EXPORT_ID"),
        (("nope",), "nope"),
        (("runs", "nope"), "nope"),
        (("runs", "list", "idx", "more"), "more"),
        (("backfill", "idx", "team", "--since", "soon"), "is no time"),
        (("exports", "list", "--since", "9999-12-31T23:00:00-12:00"), "is no time"),
    ],
)
def test_a_command_that_is_not_understood_prints_its_usage_on_stderr(untouched, arguments, phrase, flag):
    said = run(untouched, *arguments, *flag)
    assert said.code == 2
    assert said.err.startswith("Usage: ")
    assert phrase in said.err
    if flag:
        (problem,) = said.document["error"]["problems"]
        assert phrase in problem
    else:
        assert said.out == ""


def test_an_export_that_does_not_exist_is_a_wrong_request(used):
    for command in (("exports", "show", "exp_x"), ("exports", "download", "exp_x")):
        said = run(used.folder, *command)
        assert (said.code, said.out) == (2, "")
        assert "export 'exp_x' does not exist" in said.err
        assert "exports list" in said.err


def test_debug_shows_where_an_error_came_from_and_json_stays_one_document(untouched):
    for arguments in (("--debug", "runs", "list", "idy"), ("runs", "list", "idy", "--debug")):
        said = run(untouched, *arguments, "--json")
        assert said.code == 2
        assert "Traceback (most recent call last)" in said.err
        assert said.document["error"]["type"] == "NotFoundError"


def test_a_missing_archive_is_named_with_what_to_do(tmp_path):
    write_config(tmp_path)
    before = tree(tmp_path)
    for command in (("runs", "list", "idx"), ("runs", "sync", "idx"), ("export", "index", "idx")):
        said = run(tmp_path, *command)
        assert (said.code, said.out) == (2, "")
        assert f"no archive at {tmp_path / 'archive'}" in said.err
        assert "source.path" in said.err
    assert tree(tmp_path) == before


# --- the configuration ------------------------------------------------------------------------------------


def broken_config() -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    automations = config["indexes"]["idx"]["automations"]
    automations["team"]["colour"] = "red"
    automations["held"]["format"] = "xlsx"
    automations["off"] |= {"destination_connector_id": "nope", "destination_subpath": "../x"}
    return config


@pytest.mark.parametrize("command", [("config", "check"), ("runs", "list", "idx"), ("export", "index", "idx")])
def test_every_problem_of_the_configuration_is_listed_at_once(tmp_path, command):
    write_deployment(tmp_path, broken_config())
    before = tree(tmp_path)
    said = run(tmp_path, *command)
    assert (said.code, said.out) == (2, "")
    assert "vv_exports.yaml: 4 problems" in said.err
    for phrase in ("team.colour", "held.format", "'xlsx'", "'nope'", "'../x'"):
        assert phrase in said.err
    assert "Traceback" not in said.err
    as_json = run(tmp_path, *command, "--json")
    assert as_json.document["error"]["type"] == "ConfigurationError"
    assert as_json.document["error"]["message"].count("\n") == 4
    assert tree(tmp_path) == before


@pytest.mark.parametrize("other", ["exports/team", "exports/team/deep", "exports", "Exports/TEAM"])
def test_two_automations_on_equal_or_nested_subpaths_are_refused(tmp_path, other):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx_2"] = {
        "automations": {"other": {"destination_connector_id": "conn_export", "destination_subpath": other}}
    }
    write_deployment(tmp_path, config)
    before = tree(tmp_path)
    for command in (("config", "check"), ("automations", "run", "idx", "team")):
        said = run(tmp_path, *command)
        assert said.code == 2
        assert "other" in said.err
        assert "team" in said.err
    assert tree(tmp_path) == before


def test_a_configuration_that_was_named_and_is_not_there_does_not_start_the_demo(tmp_path):
    said = spawn(tmp_path, "runs", "list", "idx_archive", VV_EXPORTS_CONFIG="other.yaml")
    assert said.code == 2
    assert "other.yaml (from VV_EXPORTS_CONFIG)" in said.err
    assert list(tmp_path.iterdir()) == []


def test_demo_writes_its_files_and_says_so_again(tmp_path):
    first, again = run(tmp_path, "demo"), run(tmp_path, "demo", "--json")
    assert (first.code, again.code) == (0, 0)
    assert (tmp_path / "vv_exports.yaml").is_file()
    assert again.document["already_there"] is True
    assert "11" in first.out


# --- work that fails: exit code 1 -------------------------------------------------------------------------


@pytest.mark.slow
def test_broken_data_fails_the_work_and_nothing_of_it_is_delivered(tmp_path):
    write_deployment(tmp_path)
    results = tmp_path / "archive/indexes/idx/prompt_runs/run_124/segment_results.jsonl"
    results.write_bytes(results.read_bytes()[:-5])
    commands = (
        ("runs", "sync", "idx"),
        ("export", "index", "idx", *TO),
        ("export", "run", "idx", "run_124"),
        ("automations", "run", "idx", "team"),
        ("backfill", "idx", "team"),
    )
    for command in commands:
        said = run(tmp_path, *command)
        assert (said.code, said.out) == (1, ""), command
        assert "run_124/segment_results.jsonl, line 2" in said.err
        assert "Traceback" not in said.err
        as_json = run(tmp_path, *command, "--json")
        assert as_json.code == 1
        assert "segment_results.jsonl, line 2" in json.dumps(as_json.document)
    delivered = {path.parent.name for path in tmp_path.glob("deliveries/**/*.parquet")}
    assert delivered == {"prompt_run_id=run_123"}, "an automation's runs do not wait for the broken one"
    assert len(list(tmp_path.glob("deliveries/**/log"))) == 1, (
        "an export is of all that it was asked for, or of nothing"
    )
    export = run(tmp_path, "export", "index", "idx", *TO, "--json").document
    assert (export["status"], export["rows"]) == ("failed", None)
    assert "line 2" in export["error_message"]


@pytest.mark.slow
def test_verify_finds_a_changed_and_a_missing_file(tmp_path):
    write_deployment(tmp_path)
    assert run(tmp_path, "verify", "conn_export").out == "nothing was delivered to connector conn_export yet\n"
    assert run(tmp_path, "automations", "run", "idx", "team").code == 0
    changed, missing = sorted((tmp_path / "deliveries/exports/team/segments").rglob("*.parquet"))
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    missing.unlink()
    said = run(tmp_path, "verify", "conn_export")
    assert said.code == 1
    assert "2 problems" in said.out
    assert f"{missing} is missing" in said.out
    (found,) = run(tmp_path, "verify", "conn_export", "--json").document
    assert (found["subpath"], found["prompt_runs"], len(found["problems"])) == ("exports/team", 2, 2)
    mended = run(tmp_path, "automations", "run", "idx", "team").out
    assert mended.endswith("; 1 was there already; files were put right, and no row changed, of 1 prompt run\n")


def test_the_list_of_automations_counts_runs_that_fail_although_none_waits(tmp_path):
    write_deployment(tmp_path)
    assert run(tmp_path, "automations", "run", "idx", "team").code == 0
    (tmp_path / "archive/indexes/idx/prompt_runs/run_124/prompt_run.json").write_text("{")
    assert run(tmp_path, "automations", "run", "idx", "team").code == 1
    names, *rows = (line.split("\t") for line in run(tmp_path, "automations", "list").out.splitlines())
    team = next(cells for row in rows if (cells := dict(zip(names, row, strict=True)))["automation"] == "team")
    assert (team["delivered"], team["due"], team["failing"]) == ("2", "0", "1")


# --- in a process of its own ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_way_in_real_processes(tmp_path):
    assert spawn(tmp_path, "demo").code == 0
    said = spawn(tmp_path, "automations", "run", "idx_archive", "review-team", "--json")
    assert (said.code, len(said.document["delivered"]), said.document["rows"]) == (0, 8, 663)
    assert "uploaded run_123 segments: 75 rows" in said.err, "plain lines where stderr is no terminal"
    assert "\x1b" not in said.text
    refused = spawn(tmp_path, "export", "index", "idx_archive", "--connector", "conn_ingest")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.count("\n") == 1


@pytest.mark.slow
def test_a_mistake_does_not_wait_for_dagster_to_be_imported(tmp_path):
    write_config(tmp_path, broken_config())
    program = """
import sys
from vv_exports.cli import main
try:
    main(sys.argv[1:])
finally:
    print("dagster" in sys.modules, file=sys.stderr)
"""
    for command in (("export", "index", "idx"), ("automations", "run", "idx", "team"), ("config", "check")):
        said = spawn(tmp_path, *command, program=("-c", program))
        assert (said.code, said.out) == (2, "")
        assert "4 problems" in said.err
        assert said.err.endswith("\nFalse\n"), "the import alone takes longer than everything else"


def test_help_and_a_check_of_the_configuration_do_not_wait_for_dagster_either(tmp_path):
    """Nor does help wait for anything else that takes long to import."""
    write_deployment(tmp_path)
    program = """
import json, sys
from vv_exports.cli import main
loaded = []
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as done:
        loaded.append([done.code, sorted({"dagster", "pyarrow", "pydantic", "fsspec"} & sys.modules.keys())])
print(json.dumps(loaded), file=sys.stderr)
"""
    words = [["--help"], ["--version"], *([*one, "--help"] for one in _commands(main)), ["config", "check"]]
    said = spawn(tmp_path, json.dumps(words), program=("-c", program))
    *helped, checked = json.loads(said.err)
    assert helped == [[0, []]] * (len(words) - 1)
    assert (checked[0], "dagster" in checked[1]) == (0, False)


WATCH = """
import json, os, sys, sysconfig

seen = []
here = os.path.dirname(os.path.abspath(sys.argv[1]))

standard_library = sysconfig.get_path("stdlib")

def on_behalf_of():
    '''The file whose code wanted this: the nearest one that is not the standard library's.'''
    frame = sys._getframe(2)
    while frame:
        file = frame.f_code.co_filename
        frozen = file.startswith("<frozen ") and "importlib" not in file
        if not frozen and (not file.startswith(standard_library) or "site-packages" in file):
            return file
        frame = frame.f_back
    return ""

def hook(event, arguments):
    if event in {"open", "os.listdir", "os.scandir", "os.mkdir", "socket.connect", "socket.getaddrinfo"}:
        seen.append((event, str(arguments[0]), on_behalf_of()))

class Environment(type(os.environ)):
    def __getitem__(self, name):
        seen.append(("environ", str(name), on_behalf_of()))
        return super().__getitem__(name)

    def __iter__(self):
        seen.append(("environ", "*", on_behalf_of()))
        return super().__iter__()

os.environ.__class__ = Environment
sys.addaudithook(hook)
"""


def test_importing_the_package_opens_no_file_and_reads_no_environment(tmp_path):
    program = WATCH + "import vv_exports\nfound = list(seen)\nprint(json.dumps(found))"
    events = spawn(tmp_path, vv_exports.__file__, program=("-c", program)).document
    assert events, "the module's own file was seen"
    assert [event for event in events if event[0] == "environ" or "importlib" not in event[2]] == []


@pytest.mark.slow
def test_no_module_of_the_package_opens_a_file_or_reads_the_environment_when_imported(tmp_path):
    program = (
        WATCH
        + """
import pkgutil, importlib, vv_exports
names = [m.name for m in pkgutil.walk_packages(vv_exports.__path__, "vv_exports.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"names": names, "ours": [event for event in seen if event[2].startswith(here)]}))
"""
    )
    said = spawn(tmp_path, vv_exports.__file__, program=("-c", program))
    found = said.document
    assert {"vv_exports.cli", "vv_exports.client", "vv_exports.definitions", "vv_exports.defs.assets"} <= set(
        found["names"]
    )
    assert found["ours"] == []


@pytest.mark.slow
def test_two_hundred_indexes_load_without_network_archive_or_storage(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["indexes"] = {
        f"idx_{number}": {
            "automations": {
                "team": {"destination_connector_id": "conn_export", "destination_subpath": f"exports/{number}"}
            }
        }
        for number in range(200)
    }
    write_config(tmp_path, config)
    program = (
        WATCH
        + """
import vv_exports.definitions
start = len(seen)
definitions = vv_exports.definitions.defs.load_fn()
repository = definitions.get_repository_def()
assets = list(repository.assets_defs_by_key)
sensors = [sensor.name for sensor in repository.sensor_defs]
touched = [event for event in seen[start:] if event[0].startswith("socket") or event[1].startswith(os.getcwd())]
groups = {group for asset in repository.assets_defs_by_key.values() for group in asset.group_names_by_key.values()}
print(json.dumps({"assets": len(assets), "sensors": sensors, "groups": len(groups), "touched": touched}))
"""
    )
    found = spawn(tmp_path, vv_exports.__file__, program=("-c", program)).document
    assert (found["assets"], found["groups"]) == (200 * 5, 200)
    assert {f"idx_{number}__discovery" for number in range(200)} <= set(found["sensors"])
    assert {Path(path).name for _, path, *_ in found["touched"]} <= {"vv_exports.yaml"}
    assert [path.name for path in tmp_path.iterdir()] == ["vv_exports.yaml"]
