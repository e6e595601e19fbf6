"""What keeps Dagster's history from being kept is said in words that help: which place, what came back, what to do."""

import copy
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy.exc import OperationalError

import vv_exports
from vv_exports.defs.instance import (
    instance_errors,
    open_instance,
    plain_text,
    settings_beside,
    warn_of_other_instances,
)
from vv_exports.errors import ConfigurationError, InstanceError, RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, write_config

ROOT = Path(vv_exports.__file__).parents[1]
STAYS = "Whatever was committed to a destination stays committed."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("storage: [\n", "line 2"),
        ("hello", "to parse to dictionary"),
        ("strage: {}\n", 'unexpected config entry "strage"'),
        ("run_monitoring: {enabled: 3}\n", "root:run_monitoring:enabled"),
        ("storage: {sqlite: {base_dir: {env: NOT_SET}}}\n", '"NOT_SET" which is not set'),
        ("storage: {mysql: {mysql_url: {env: NOT_SET}}}\n", "dagster_mysql"),
        ("storage: {sqlite: {base_dir: 7355608}}\n", "root:storage:sqlite:base_dir"),
        (b"\xff\xfe", "can't decode"),
        ("storage: 7355608\n", "storage: must be a mapping of settings, and is of type int"),
        ("concurrency: 7355608\n", "concurrency: must be a mapping of settings, and is of type int"),
        ("storage:\n", "storage: must be a mapping of settings, and is empty"),
        ("concurrency: {pools: 7355608}\n", "another shape than Dagster expects"),
    ],
)
def test_a_wrong_dagster_yaml_is_a_problem_of_that_file(tmp_path, settings, said):
    path = tmp_path / "dagster.yaml"
    path.write_bytes(settings if isinstance(settings, bytes) else settings.encode())
    with pytest.raises(ConfigurationError) as told:
        open_instance({}, tmp_path)
    assert str(told.value).startswith(f"{path}: 1 problem\n")
    assert said in str(told.value)
    assert "7355608" not in str(told.value), "a value in the wrong place may be a password"
    assert "Stack Trace" not in str(told.value)


def test_a_library_that_is_not_installed_is_told_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dagster_postgres", None)  # as where it is not installed
    (tmp_path / "dagster.yaml").write_text("storage: {postgres: {postgres_url: postgresql://h/d}}\n")
    with pytest.raises(ConfigurationError) as told:
        open_instance({}, tmp_path)
    (problem,) = told.value.problems
    assert problem == (
        "it needs packages that are not installed (dagster_postgres); install them with: "
        "pip install 'vv-exports[postgres]' (in a clone: pip install '.[postgres]')"
    )


def test_a_folder_without_settings_gets_those_of_the_repository(tmp_path):
    """It had none: runs of a crashed machine held the queue, and nothing bounded it."""
    open_instance({}, tmp_path).dispose()
    made = yaml.safe_load((tmp_path / ".dagster/dagster.yaml").read_text())
    assert made["run_monitoring"]["poll_interval_seconds"] == 15
    assert (ROOT / "dagster.yaml").read_text() == settings_beside(), "the same, but for where the history is"


@pytest.mark.parametrize("home", ["relative", "/not/there", "{file}"])
def test_a_dagster_home_that_is_no_folder_is_explained(tmp_path, home):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"DAGSTER_HOME is .* not the absolute path of a folder"):
        open_instance({"DAGSTER_HOME": home.format(file=tmp_path / "file")}, tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The history of a folder."""
    folder = tmp_path_factory.mktemp("made")
    open_instance({}, folder).dispose()
    return folder / ".dagster"


def _not_a_database(home: Path) -> None:
    (home / "history/runs.db").write_bytes(b"x" * 5000)


def _malformed(home: Path) -> None:
    path = home / "schedules/schedules.db"
    path.write_bytes(path.read_bytes()[:5000])


def _older(home: Path) -> None:
    with closing(sqlite3.connect(home / "history/runs.db")) as connection:
        connection.execute("DROP TABLE run_tags")


def _folder_in_a_files_place(home: Path) -> None:
    for path in (home / "history").glob("runs.db*"):
        path.unlink()
    (home / "history/runs.db").mkdir()


def _file_in_a_folders_place(home: Path) -> None:
    shutil.rmtree(home / "schedules")
    (home / "schedules").touch()


def _look_at_runs(folder: Path) -> None:
    instance = open_instance({}, folder)
    with instance_errors(lambda: instance):
        instance.get_runs(dg.RunsFilter(tags={"a": "b"}))


@pytest.mark.parametrize(
    ("harm", "place", "advice"),
    [
        (_not_a_database, "history/runs.db", "is broken. Restore it from a backup; or move it away"),
        (_malformed, "schedules/schedules.db", "is broken. Restore it from a backup; or move it away"),
        (_older, "history", "was made by another version of Dagster. Run `dagster instance migrate`"),
        (_folder_in_a_files_place, "history", "cannot be opened"),
        (_file_in_a_folders_place, "schedules", "cannot be kept in"),
        (lambda home: (shutil.rmtree(home), home.touch()), "", "cannot be kept in"),
    ],
)
def test_a_history_that_cannot_be_used_says_where_it_is_and_what_to_do(tmp_path, made, harm, place, advice):
    home = tmp_path / ".dagster"
    shutil.copytree(made, home)
    harm(home)
    with pytest.raises(InstanceError) as told:
        _look_at_runs(tmp_path)
    assert str(home / place) in str(told.value)
    assert advice in str(told.value)
    assert str(told.value).endswith(STAYS)
    assert "SQL:" not in str(told.value)


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("CREATE TABLE more (data)")


def _change_what_is_read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = 1")
    connection.execute("CREATE TABLE more (data)")


def _wait_for_another(connection: sqlite3.Connection) -> None:
    (path,) = (row[2] for row in connection.execute("PRAGMA database_list"))
    connection.execute("BEGIN EXCLUSIVE")
    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("BEGIN EXCLUSIVE")


@pytest.mark.parametrize(
    ("work", "advice"),
    [
        (_fill, "is full"),
        (_change_what_is_read_only, "may not be written to. Mend the rights"),
        (_wait_for_another, "is kept busy by another process. Try again later"),
    ],
)
def test_what_the_database_refuses_in_the_middle_of_work_is_explained(tmp_path, made, work, advice):
    shutil.copytree(made, tmp_path / ".dagster")
    with open_instance({}, tmp_path) as instance, closing(sqlite3.connect(tmp_path / "any.db")) as connection:
        with pytest.raises(InstanceError) as told, instance_errors(lambda: instance):
            work(connection)
        assert advice in str(told.value)
        assert str(tmp_path / ".dagster/history") in str(told.value)


def test_a_database_server_that_is_out_of_reach_is_named_without_its_address(tmp_path, made):
    """Its address may hold a password, as the statement's parameters may hold anything."""
    refused = OSError('connection to server at "db", port 5432 failed: Connection refused\n\tIs the server running?')
    shutil.copytree(made, tmp_path / ".dagster")
    with open_instance({}, tmp_path) as instance:
        with pytest.raises(InstanceError) as told, instance_errors(lambda: instance):
            raise OperationalError("SELECT 1", {"password": "geheim"}, refused)
        assert f"which {tmp_path / '.dagster/dagster.yaml'} names" in str(told.value)
        assert 'refuses: connection to server at "db", port 5432 failed: Connection refused. Start it' in str(
            told.value
        )
        assert "geheim" not in str(told.value)


def test_what_is_not_the_instances_is_somebody_elses_to_explain(tmp_path, made):
    """With a dagster.yaml beside the configuration, the instance's folder is the deployment's."""
    shutil.copytree(made, tmp_path / ".dagster")
    (tmp_path / "dagster.yaml").write_text("storage: {sqlite: {base_dir: %s}}" % (tmp_path / ".dagster"))
    with open_instance({}, tmp_path) as instance:
        no_room = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "archive/prompt.json"))
        with pytest.raises(OSError, match="archive") as told, instance_errors(lambda: instance):
            raise no_room
        assert told.value is no_room
        no_room = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "storage/run/compute_logs/step.out"))
        with (
            pytest.raises(InstanceError, match=r"compute_logs/step\.out cannot grow"),
            instance_errors(lambda: instance),
        ):
            raise no_room
        with pytest.raises(FileNotFoundError), instance_errors(lambda: instance):
            (tmp_path / "elsewhere").read_text()
        with pytest.raises(ValueError, match="a bug"), instance_errors(lambda: instance):
            raise ValueError("a bug")


def test_a_recorded_error_is_told_without_its_statement():
    recorded = "(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO event_logs …]\n(Background …)"
    assert plain_text(recorded) == (
        f"Dagster's database refused: database or disk is full. Look at its disk and its rights. {STAYS}"
    )
    assert plain_text("run_1 is gone") == "run_1 is gone"


SCENES = """
import json, os, subprocess, sys
from pathlib import Path
from click.testing import CliRunner
from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.errors import InstanceError

def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", ".dagster"], check=True)

def fill(leave=0):
    with open(".dagster/ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
        ballast.truncate(max(0, ballast.tell() - leave))

def free():
    Path(".dagster/ballast").unlink()

def told(scene, work):
    try:
        work()
        said = None
    except InstanceError as error:
        said = str(error)
    print(json.dumps([scene, said]), flush=True)

def cli(scene, *arguments):
    result = CliRunner().invoke(main, arguments)
    print(json.dumps([scene, [result.exit_code, json.loads(result.stdout), "Traceback" in result.stderr]]), flush=True)

Path(".dagster").mkdir()
mount("size=4m")
fill(leave=100_000)
cli("first creation", "--json", "runs", "sync", "idx")
free()

client = VVExports(Path("vv_exports.yaml"))
client.instance
deliveries = client.pipeline.deliveries
deliver = deliveries.deliver

def deliver_then_fill(*arguments):
    delivered = deliver(*arguments)
    fill()
    return delivered

deliveries.deliver = deliver_then_fill
told("after the commit", lambda: client.automations.run("idx", "team"))
print(json.dumps(["entries", len(list(Path("deliveries/exports/team/_vv/log").glob("*.json")))]), flush=True)
deliveries.deliver = deliver
told("pause", lambda: client.automations.pause("idx", "team"))
cli("list", "--json", "automations", "list")
free()
told("again", lambda: client.automations.run("idx", "team"))
print(json.dumps(["entries again", len(list(Path("deliveries/exports/team/_vv/log").glob("*.json")))]), flush=True)
subprocess.run(["mount", "-o", "remount,ro", ".dagster"], check=True)
cli("read-only", "--json", "automations", "run", "idx", "team")
subprocess.run(["umount", ".dagster"], check=True)
mount("size=4m,nr_inodes=3")
cli("no more files", "--json", "runs", "sync", "idx")
subprocess.run(["umount", ".dagster"], check=True)

Path("mounted").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "mounted"], check=True)
Path("mounted/conf.yaml").write_text(Path("absolute.yaml").read_text())
subprocess.run(["mount", "-o", "remount,ro", "mounted"], check=True)
os.environ["VV_EXPORTS_CONFIG"] = "mounted/conf.yaml"
for words in (("automations", "list"), ("exports", "list"), ("runs", "prune", "idx", "--dry-run"), ("config", "check")):
    cli("reading beside a read-only configuration: " + words[0], "--json", *words)
cli("writing beside a read-only configuration", "--json", "runs", "sync", "idx")
Path("home").mkdir()
os.environ["DAGSTER_HOME"] = os.path.abspath("home")
cli("writing as it advises", "--json", "runs", "sync", "idx")
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A small disk of its own as a folder's .dagster, in a mount namespace that ends with its process."""
    folder = tmp_path_factory.mktemp("disk")
    write_run(folder / "archive", run_id="run_0", executed_at="2026-10-01T00:00:00Z")
    write_config(folder)
    elsewhere = copy.deepcopy(CONFIG) | {"storage": str(folder / "storage")}
    elsewhere["source"]["path"] = str(folder / "archive")
    elsewhere["connectors"]["conn_export"]["root"] = str(folder)
    (folder / "absolute.yaml").write_text(yaml.safe_dump(elsewhere))
    alone = ["unshare", "--map-root-user", "--mount"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", str(folder)], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*alone, sys.executable, "-c", SCENES],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, dict(json.loads(line) for line in done.stdout.splitlines())


def _is_said_to_be_full(said, folder) -> None:
    assert f"Dagster's history in {folder}/.dagster" in said
    assert f"cannot grow: its disk, mounted at {folder}/.dagster, is full (" in said
    assert "bytes" in said
    assert "Make room there, or set DAGSTER_HOME to a folder on another disk" in said
    assert said.endswith(STAYS)


def test_a_full_disk_is_named_when_the_history_is_made(scenes):
    """It was a raw OperationalError … CREATE INDEX."""
    folder, found = scenes
    code, document, traceback = found["first creation"]
    assert (code, document["error"]["type"], traceback) == (1, "InstanceError", False)
    _is_said_to_be_full(document["error"]["message"], folder)


def test_a_disk_that_fills_up_after_the_commit_leaves_the_delivery_committed_and_says_so(scenes):
    folder, found = scenes
    _is_said_to_be_full(found["after the commit"], folder)
    assert found["entries"] == 1
    assert (found["again"], found["entries again"]) == (None, 1), "with room again, nothing is delivered twice"


def test_a_full_disk_is_named_by_pauses_and_lists(scenes):
    folder, found = scenes
    _is_said_to_be_full(found["pause"], folder)
    code, document, traceback = found["list"]
    assert (code, traceback) == (1, False)
    _is_said_to_be_full(document["error"]["message"], folder)


def test_a_read_only_disk_is_named(scenes):
    folder, found = scenes
    code, document, traceback = found["read-only"]
    assert (code, document["error"]["type"], traceback) == (1, "InstanceError", False)
    assert f"{folder}/.dagster" in document["error"]["message"]
    assert "how its disk is mounted" in document["error"]["message"]


def test_a_configuration_in_a_read_only_folder_is_enough_to_read(scenes):
    """As one that is mounted into a container. What has to be written down says how."""
    folder, found = scenes
    reading = [outcome for scene, outcome in found.items() if scene.startswith("reading beside")]
    assert [outcome[0] for outcome in reading] == [0, 0, 0, 0]
    code, document, traceback = found["writing beside a read-only configuration"]
    assert (code, document["error"]["type"], traceback) == (1, "InstanceError", False)
    assert f"cannot be kept in {folder}/mounted/.dagster: Read-only file system" in document["error"]["message"]
    assert "or set DAGSTER_HOME to another folder" in document["error"]["message"]
    assert found["writing as it advises"][0] == 0


def test_a_disk_that_takes_no_more_files_is_named(scenes):
    folder, found = scenes
    code, document, traceback = found["no more files"]
    assert (code, traceback) == (1, False)
    _is_said_to_be_full(document["error"]["message"], folder)
    assert "and room for 0 more files left" in document["error"]["message"]


def test_dagster_with_our_settings_records_where_commands_look(tmp_path, monkeypatch, caplog):
    open_instance({}, tmp_path).dispose()
    home = tmp_path / ".dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        dg.materialize([dg.AssetsDefinition.from_op(_an_op)], instance=instance)
        warn_of_other_instances(instance, {}, tmp_path)
    monkeypatch.delenv("DAGSTER_HOME")
    with open_instance({}, tmp_path) as instance:
        assert len(instance.get_runs()) == 1
    assert not [one for one in caplog.messages if "the history of this Dagster" in one]


@dg.op
def _an_op(): ...
