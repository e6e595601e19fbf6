"""One deployment is in one place: where one stands changes nothing, and whoever only reads leaves nothing behind."""

import contextlib
import copy
import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from vv_exports.client import VVExports
from vv_exports.config import load_config, parse_config
from vv_exports.defs.instance import find_instance, open_instance
from vv_exports.defs.pauses import SWITCHED_OFF
from vv_exports_tests.cli.running import REPOSITORY, run, tree, write_deployment
from vv_exports_tests.deployments import CONFIG

pytestmark = pytest.mark.slow

WITH_NEW = copy.deepcopy(CONFIG)
WITH_NEW["indexes"]["idx_new"] = {}

READING = {
    "runs list": ("runs", "list", "idx"),
    "runs list of an index without finished runs": ("runs", "list", "idx_new"),
    "runs prune": ("runs", "prune", "idx", "--dry-run"),
    "export index": ("export", "index", "idx", "--dry-run"),
    "export run": ("export", "run", "idx", "run_123", "--connector", "conn_export", "--dry-run"),
    "exports list": ("exports", "list"),
    "exports show": ("exports", "show", "exp_1"),
    "exports download": ("exports", "download", "exp_1"),
    "automations list": ("automations", "list"),
    "automations show": ("automations", "show", "idx", "team"),
    "backfill": ("backfill", "idx", "team", "--dry-run"),
    "automations run": ("automations", "run", "idx", "team", "--dry-run"),
    "automations pause": ("automations", "pause", "idx", "team", "--dry-run"),
    "runs sync": ("runs", "sync", "idx", "--dry-run"),
    "source check": ("source", "check"),
    "connectors list": ("connectors", "list"),
    "connectors browse": ("connectors", "browse", "conn_export"),
    "config check": ("config", "check"),
    "config schema": ("config", "schema"),
    "verify": ("verify", "conn_export"),
    "verify --subpath": ("verify", "conn_export", "--subpath", "exports/team"),
    "vacuum": ("vacuum", "conn_export", "--subpath", "exports/team", "--dry-run"),
}
PAUSE = ("automations", "pause", "idx", "team")
"""The least that needs an instance, and makes one."""
REFUSED = {"exports show", "exports download", "verify --subpath", "vacuum"}
"""There is no such export, and nothing was ever delivered."""


@pytest.fixture
def pristine(tmp_path):
    """A deployment where nothing was done yet."""
    return write_deployment(tmp_path / "outer" / "deployment", WITH_NEW)


@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads_leaves_nothing_where_nothing_was_done_yet(pristine, command):
    before = tree(pristine.parents[1])
    said = run(pristine, *READING[command], "--json")
    assert said.code == (2 if command in REFUSED else 0), said.text
    assert said.document is not None
    assert tree(pristine.parents[1]) == before


@pytest.mark.parametrize("command", READING)
def test_nor_in_an_empty_folder_without_a_configuration(tmp_path, command):
    words = [
        {"idx": "idx_archive", "idx_new": "idx_archive", "team": "review-team"}.get(w, w) for w in READING[command]
    ]
    run(tmp_path, *words)
    assert list(tmp_path.iterdir()) == []


def test_without_an_instance_the_state_of_an_automation_is_what_is_recorded_of_it(tmp_path):
    write_deployment(tmp_path)
    assert run(tmp_path, *PAUSE, "--reason", "stocktaking").code == 0
    shutil.rmtree(tmp_path / ".dagster")
    shown = run(tmp_path, "automations", "show", "idx", "team", "--json").document
    assert (shown["paused"], shown["pause_reason"]) == (True, "stocktaking")
    assert not (tmp_path / ".dagster").exists()


def test_an_instance_that_was_named_and_is_empty_stays_so_while_one_only_reads(pristine, tmp_path):
    (tmp_path / "named").mkdir()
    for name in ("automations list", "automations show", "exports list", "runs prune"):
        assert run(pristine, *READING[name], DAGSTER_HOME=str(tmp_path / "named")).code == 0
        assert list((tmp_path / "named").iterdir()) == []


def _everything(folder: Path, config: str) -> list[object]:
    told = (
        ("exports", "list"),
        ("automations", "list"),
        ("automations", "show", "idx", "team"),
        ("runs", "list", "idx"),
        ("verify", "conn_export"),
    )
    return [run(folder, *words, "--json", VV_EXPORTS_CONFIG=config).document for words in told]


@pytest.mark.parametrize("settings", [None, "clone"])
def test_from_another_directory_everything_is_as_in_its_own(tmp_path, settings):
    """The instance went by the working directory: the list of exports was empty there, and a pause forgotten."""
    home, elsewhere = write_deployment(tmp_path / "home"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if settings is not None:
        shutil.copy(REPOSITORY / "dagster.yaml", home)
    assert run(home, "export", "index", "idx", "--connector", "conn_export").code == 0
    before = _everything(home, "vv_exports.yaml")
    assert len(before[0]) == 1
    for config in (str(home / "vv_exports.yaml"), "../home/vv_exports.yaml"):
        assert _everything(elsewhere, config) == before
        assert run(elsewhere, *PAUSE, VV_EXPORTS_CONFIG=config).code == 0
        assert list(elsewhere.iterdir()) == []
        assert run(home, "automations", "show", "idx", "team", "--json").document["paused"]
        assert run(home, "automations", "resume", "idx", "team").code == 0


def test_a_pause_by_the_sensors_switch_is_seen_from_another_directory(tmp_path):
    """The list said "paused False" of one that somebody had switched off in the UI."""
    home = write_deployment(tmp_path / "home")
    sensor = _sensor(VVExports(home / "vv_exports.yaml"), "team")
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("vv_exports"), "__repository__")
    origin = RemoteInstigatorOrigin(repository, sensor)
    with open_instance({}, home) as instance:
        off = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData())
        instance.add_instigator_state(off)
    config = {"VV_EXPORTS_CONFIG": "home/vv_exports.yaml"}
    shown = run(tmp_path, "automations", "show", "idx", "team", "--json", **config).document
    assert (shown["paused"], shown["paused_by"]) == (True, SWITCHED_OFF)


def test_a_configuration_behind_a_link_has_its_instance_beside_the_link(tmp_path):
    """Where its relative paths start: a mounted configuration is often a link into a folder that changes."""
    write_deployment(tmp_path / "here")
    (tmp_path / "mounted").mkdir()
    config = (tmp_path / "here/vv_exports.yaml").rename(tmp_path / "mounted/v1.yaml")
    (tmp_path / "here/vv_exports.yaml").symlink_to(config)
    here = str(tmp_path / "here/vv_exports.yaml")
    assert run(tmp_path, *PAUSE, VV_EXPORTS_CONFIG=here).code == 0
    assert (tmp_path / "here/.dagster/dagster.yaml").is_file()
    assert [path.name for path in (tmp_path / "mounted").iterdir()] == ["v1.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "mounted"]


def test_dagster_home_wins_and_its_relative_folders_lie_in_it(tmp_path):
    home = write_deployment(tmp_path / "home")
    named, elsewhere = tmp_path / "named", tmp_path / "elsewhere"
    for folder in (named, elsewhere):
        folder.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", named)
    environment = {"VV_EXPORTS_CONFIG": str(home / "vv_exports.yaml"), "DAGSTER_HOME": str(named)}
    assert run(elsewhere, *PAUSE, **environment).code == 0
    assert list(elsewhere.iterdir()) == []
    assert not (home / ".dagster").exists()
    assert (named / ".dagster/storage/history/runs.db").is_file()


def test_the_instance_of_the_demo_that_needs_no_file_is_in_the_working_directory(tmp_path):
    with contextlib.chdir(tmp_path):
        assert load_config(environ={}).folder == tmp_path
    assert run(tmp_path, "demo").code == 0
    (tmp_path / "vv_exports.yaml").unlink()
    assert run(tmp_path, "automations", "pause", "idx_archive", "review-team").code == 0
    assert (tmp_path / ".dagster").is_dir()


def test_a_configuration_without_a_place_has_its_instance_in_the_working_directory(tmp_path, monkeypatch):
    home = write_deployment(tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    text = (home / "vv_exports.yaml").read_text()
    placed = parse_config(text, folder=home, where="a test")
    assert VVExports(placed).folder == home
    without = type(placed).model_validate(placed.model_dump(by_alias=True))
    assert without.folder is None
    assert VVExports(without).folder == tmp_path


def test_an_instance_is_found_only_where_it_was_made(tmp_path):
    assert find_instance({}, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "dagster.yaml").write_text("storage: {sqlite: {base_dir: .history}}\n")
    assert find_instance({}, tmp_path) is None
    open_instance({}, tmp_path).dispose()
    found = find_instance({}, tmp_path)
    assert found is not None
    found.dispose()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".history"]


def _sensor(client: VVExports, of: str) -> str:
    (name,) = (one.name for one in client.definitions.get_repository_def().sensor_defs if of in one.name)
    return name


def _tick(folder: Path, instance: dg.DagsterInstance) -> None:
    client = VVExports(folder / "vv_exports.yaml", instance=instance)
    context = dg.build_sensor_context(instance=instance, definitions=client.definitions)
    client.definitions.resolve_sensor_def(_sensor(client, "discovery"))(context)


def test_dagster_that_records_elsewhere_than_commands_says_so_once(tmp_path, monkeypatch, caplog):
    """`dagster dev` that was started in another folder, or with a DAGSTER_HOME that commands do not have."""
    home = write_deployment(tmp_path / "home")
    (tmp_path / "elsewhere").mkdir()
    with open_instance({}, tmp_path / "elsewhere") as instance:
        _tick(home, instance)
        _tick(home, instance)
        (said,) = caplog.messages
        assert f"is in {tmp_path}/elsewhere/.dagster/history, and commands use" in said
        assert f"the instance of {home}/.dagster: " in said
        caplog.clear()
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere/.dagster"))
        _tick(home, instance)
        assert caplog.messages == [], "nobody has used the other one"
        open_instance({}, write_deployment(tmp_path / "used")).dispose()
        _tick(tmp_path / "used", instance)
        (said,) = caplog.messages
        assert f"and commands without DAGSTER_HOME use the instance of {tmp_path}/used/.dagster: " in said


def test_dagster_that_records_where_commands_look_says_nothing(tmp_path, caplog):
    home = write_deployment(tmp_path)
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    with open_instance({}, home) as instance:
        _tick(home, instance)
        _tick(home / "archive" / "..", instance)
    with dg.DagsterInstance.ephemeral() as instance:
        _tick(home, instance)
    assert caplog.messages == []


def test_settings_that_nobody_uses_stop_no_tick(tmp_path, monkeypatch, caplog):
    home = write_deployment(tmp_path / "home")
    (home / "dagster.yaml").write_text("storage: [\n")
    with open_instance({}, tmp_path) as instance:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
        _tick(home, instance)
    assert caplog.messages == []
