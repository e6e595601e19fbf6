"""The component that gives a Dagster project an index, in projects as ``create-dagster`` makes them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pyarrow.dataset as ds
import pytest
import yaml

import vv_exports
from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.defs.keys import asset_key
from vv_exports.defs.limits import missing_limits
from vv_exports.errors import ConfigurationError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, write_config

ROOT = Path(vv_exports.__file__).parents[1]
EXAMPLE = ROOT / "examples" / "dagster_project"
DG = Path(sys.executable).with_name("dg")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without components: its configuration has the connectors, and no index."""
    monkeypatch.delenv("VV_EXPORTS_CONFIG", raising=False)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "theirs"\n'
    )
    (tmp_path / "src/theirs/defs").mkdir(parents=True)
    for folder in ("src/theirs", "src/theirs/defs"):
        (tmp_path / folder / "__init__.py").touch()
    write_config(tmp_path, {**CONFIG, "indexes": {}})
    write_run(tmp_path / "archive", run_id="run_1", index_id="idx")
    return tmp_path


@contextmanager
def importable(project, module="theirs"):
    """The project as it is where it is installed."""
    sys.path.insert(0, str(project / "src"))
    try:
        yield
    finally:
        sys.path.remove(str(project / "src"))
        for name in [name for name in sys.modules if name.partition(".")[0] == module]:
            del sys.modules[name]


@contextmanager
def loaded(project, module="theirs"):
    """The definitions of a project, as Dagster loads them; its modules are forgotten at the end."""
    with importable(project, module):
        yield dg.load_from_defs_folder(path_within_project=project)


def component(project, name, attributes, **more):
    """A component in a folder of this name."""
    folder = project / "src/theirs/defs" / name
    folder.mkdir(exist_ok=True)
    document = {"type": "vv_exports.IndexExports", "attributes": attributes, **more}
    (folder / "defs.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "defs.yaml"


def automation(subpath, **more):
    return {"destination_connector_id": "conn_export", "destination_subpath": subpath, **more}


def problems(project):
    """What loading the project is refused with."""
    with pytest.raises(Exception, match="Error while") as told, loaded(project):
        pass
    error = told.value
    while not isinstance(error, ConfigurationError):
        error = error.__cause__
    return error.problems


def test_components_share_source_storage_and_connectors_of_one_file(project):
    component(project, "one", {"index_id": "idx", "automations": {"team": automation("one")}})
    component(project, "two", {"index_id": "other", "automations": {"team": automation("two")}})
    with loaded(project) as defs:
        dg.Definitions.validate_loadable(defs)
        names = {"conn_export", "conn_import", "snapshots", "exports_on_demand"}
        assert set(defs.resources) == {f"vv_exports__{name}" for name in names}
        sensors = {sensor.name for sensor in defs.get_repository_def().sensor_defs}
    assert sensors == {f"{index}__{what}" for index in ("idx", "other") for what in ("discovery", "team__delivery")}


def test_what_a_deployment_has_once_is_there_once_however_many_components_there_are(project):
    targets = {
        "ops": {
            "kind": "webhook",
            "url_env": "HOOK_URL",
            "secret_env": "HOOK_SECRET",
            "events": ["delivered"],
            "automations": ["two/team"],
        }
    }
    write_config(project, {**CONFIG, "indexes": {}, "notifications": {"targets": targets}})
    for name in ("one", "two"):
        component(project, name, {"index_id": name, "automations": {"team": automation(name)}})
    with loaded(project) as defs:
        sensors = [sensor.name for sensor in defs.get_repository_def().sensor_defs]
    assert sensors.count("vv_exports__notifications") == 1


def test_an_index_of_the_file_needs_its_id_alone_and_one_that_no_component_names_is_left_out(project):
    write_config(project)
    component(project, "one", {"index_id": "idx"})
    config = {**CONFIG, "indexes": {**CONFIG["indexes"], "unnamed": {}}}
    write_config(project, config)
    with loaded(project) as defs:
        groups = {spec.group_name for spec in defs.resolve_all_asset_specs()}
        assert asset_key("idx", "exports", "held") in {spec.key for spec in defs.resolve_all_asset_specs()}
    assert groups == {"idx"}


def test_templates_are_resolved_and_other_text_stays_what_it_is(project, monkeypatch):
    monkeypatch.setenv("FOLDER", "of-the-environment")
    csv = {"name": "csv", "delimiter": ";"}
    one = automation("{{ env.FOLDER }}", format=csv, paused="{{ 1 == 1 }}", tags={"year": "2026"})
    component(project, "one", {"index_id": "2026", "automations": {"team": one}})
    with loaded(project) as defs:
        asset = {spec.key: spec for spec in defs.resolve_all_asset_specs()}[asset_key("2026", "exports", "team")]
        (sensor,) = [one for one in defs.get_repository_def().sensor_defs if one.name.endswith("__delivery")]
    assert asset.metadata["destination_uri"].endswith("/deliveries/of-the-environment")
    assert asset.tags["year"] == "2026"
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


@pytest.mark.parametrize("template", ["{{ env.NOT_THERE }}", "{{ env('NOT_THERE') }}"])
def test_a_template_of_a_variable_that_is_not_set_is_told_with_file_and_line_and_is_no_default(project, template):
    file = component(project, "one", {"index_id": "idx", "automations": {"team": automation(template)}})
    with pytest.raises(Exception, match="Error while") as told, loaded(project):
        pass
    said = str(told.value.__cause__)
    assert said.startswith(f"{file}:7: 1 problem\n  - attributes.automations.team.destination_subpath: ")
    assert "NOT_THERE" in said


def test_every_problem_of_all_components_is_told_with_file_and_line(project):
    two = {"editors": automation("exports/x", format="parquett"), "more": {"destination_connector_id": "conn_exprt"}}
    first = component(project, "one", {"index_id": "idx", "automations": {"team": automation("exports")}})
    second = component(project, "two", {"index_id": "idx2", "automations": two})
    told = problems(project)
    assert [problem.partition(": attributes")[0] for problem in told] == [f"{second}:8", f"{second}:10", f"{second}:7"]
    assert "format: 'parquett' is not allowed. Did you mean 'parquet'?" in told[0]
    assert f"'conn_exprt' is not a connector of {project}/vv_exports.yaml. Did you mean 'conn_export'?" in told[1]
    assert f"the folder of {first}:5: attributes.automations.team" in told[2], "and of one component in another"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"index_id": "idxx"}, "'idxx' is no index of .*Did you mean 'idx'"),
        (
            {"index_id": "idx", "automations": {}},
            "is an index of .* too, .*; take it out there, or leave out automations",
        ),
    ],
)
def test_an_index_that_is_described_nowhere_or_twice_is_refused(project, attributes, said):
    write_config(project)
    component(project, "one", attributes)
    (told,) = problems(project)
    assert told.startswith(f"{project}/src/theirs/defs/one/defs.yaml:3: attributes.index_id")
    assert re.search(said, told)


def test_two_components_of_one_index_are_refused(project):
    for name in ("one", "two"):
        component(project, name, {"index_id": "idx", "automations": {"team": automation(name)}})
    (told,) = problems(project)
    assert "one/defs.yaml" in told
    assert "two/defs.yaml" in told


def test_a_project_without_the_file_is_told_where_it_is_looked_for(project):
    (project / "vv_exports.yaml").unlink()
    component(project, "one", {"index_id": "idx", "automations": {}})
    with pytest.raises(Exception, match="Error while") as told, loaded(project):
        pass
    assert str(told.value.__cause__).startswith(f"{project}/vv_exports.yaml: 1 problem\n  - is not there")


def test_a_component_in_python_is_one_as_well(project):
    component(project, "one", {"index_id": "idx", "automations": {"team": automation("one")}})
    (project / "src/theirs/defs/two.py").write_text(
        "import dagster as dg\nfrom vv_exports import IndexExports\n\n@dg.component_instance\n"
        "def load(context: dg.ComponentLoadContext) -> IndexExports:\n"
        f"    return IndexExports('other', automations={{'team': {automation('two')!r}}})\n"
    )
    with loaded(project) as defs:
        assert {spec.group_name for spec in defs.resolve_all_asset_specs()} == {"idx", "other"}


def test_components_of_two_files_are_two_deployments_of_one_project(project):
    write_run(project / "archive2", run_id="run_1", index_id="idx")
    second = {**CONFIG, "indexes": {}, "storage": "storage2"}
    (project / "partner.yaml").write_text(yaml.safe_dump(second))
    component(project, "one", {"index_id": "idx", "automations": {"team": automation("one")}})
    component(project, "two", {"index_id": "b", "config": "partner.yaml", "automations": {"team": automation("two")}})
    with loaded(project) as defs:
        assert {"vv_exports__snapshots", "partner__snapshots"} <= set(defs.resources)


def test_the_example_project_delivers_and_an_asset_downstream_reads_it(tmp_path):
    project = shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns(".*", "deliveries"))
    with loaded(project, "my_videos") as defs, dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("prompt_runs__idx_news", ["run_news_1", "run_news_2"])
        job, key = defs.resolve_implicit_global_asset_job_def(), asset_key("idx_news", "exports", "editors")
        tags = {"dagster/asset_partition_range_start": "run_news_1", "dagster/asset_partition_range_end": "run_news_2"}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")  # as after Dagster has loaded components: our filters are gone
            assert job.execute_in_process(instance=instance, asset_selection=[key], tags=tags).success
        assert not [one for one in told if issubclass(one.category, dg.BetaWarning)]
        run = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("topics")])
        (materialized,) = run.asset_materializations_for_node("topics")
        domains = {spec.key.path[0]: spec.tags.get("domain") for spec in defs.resolve_all_asset_specs()}
    assert {name: entry.value for name, entry in materialized.metadata.items()} == {
        "elections": 1,
        "science": 1,
        "transport": 1,
        "weather": 1,
    }
    delivered = ds.dataset(project / "deliveries/exports/news/editors/segments")
    assert delivered.count_rows() == 4
    assert (domains["idx_sports"], domains["idx_news"]) == ("sports", None)


def test_commands_see_the_indexes_of_components_where_the_file_names_the_project(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    write_config(project, {**CONFIG, "dagster_project": "."})
    component(project, "one", {"index_id": "other", "automations": {"press": automation("press", start="beginning")}})
    write_run(project / "archive", run_id="run_1", index_id="other")

    def run(*arguments):
        with importable(project), pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code, capsys.readouterr()

    assert "Indexes: 2, automations: 4" in run("config", "check")[1].out
    code, _ = run("automations", "run", "other", "press")
    assert code == 0
    assert (project / "deliveries/press/segments").is_dir()
    with importable(project):
        assert VVExports().automations.retrieve("other", "press").destination_subpath == "press"
    component(project, "one", {"index_id": "other", "automations": {"press": automation("exports/team")}})
    code, told = run("config", "check")
    assert code == 2
    assert f"{project}/src/theirs/defs/one/defs.yaml:7: attributes.automations.press.destination_subpath" in told.err


def test_commands_tell_that_a_project_does_not_load(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    write_config(project, {**CONFIG, "dagster_project": "."})
    with pytest.raises(SystemExit) as ended:
        main(["config", "check"])
    assert ended.value.code == 2
    assert "dagster_project" in (told := capsys.readouterr().err)
    assert "`pip install -e .`" in told


def documented(language, *, holding):
    """The only block of the page in this language that holds a text."""
    page = (ROOT / "docs" / "library.md").read_text()
    (found,) = [block for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if holding in block]
    return found


def test_the_limits_that_are_documented_are_all_that_there_are(tmp_path):
    (tmp_path / "dagster.yaml").write_text(documented("yaml", holding="concurrency:"))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert missing_limits(instance, ["destination/idx/team"]) == []


def test_the_python_that_is_documented_loads(tmp_path, monkeypatch):
    write_config(tmp_path, {**CONFIG, "indexes": {"idx_news": {"automations": {"editors": automation("editors")}}}})
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in ("build_definitions(", "def topics"):
        exec(compile(documented("python", holding=block), "docs/library.md", "exec"), names)
    whole = dg.Definitions.merge(names["defs"], dg.Definitions(assets=[names["topics"]]))
    dg.Definitions.validate_loadable(whole)
    assert whole.resolve_assets_def("topics").keys_by_input_name["segments"].path == ["idx_news", "exports", "editors"]


@pytest.mark.slow
def test_the_commands_that_are_documented_scaffold_check_and_list(tmp_path):
    project = shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns(".*", "deliveries", "idx_*"))
    shutil.copytree(EXAMPLE / "archive", project / "archive", dirs_exist_ok=True)
    environment = {"PATH": f"{DG.parent}:/usr/bin:/bin", "PYTHONPATH": "src", "HOME": str(tmp_path)}

    def run(*arguments):
        return subprocess.run(
            arguments, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    line, *_ = documented("bash", holding="dg scaffold").splitlines()
    made = run(*shlex.split(line))
    assert made.returncode == 0, made.stderr
    written = project / "src/my_videos/defs/idx_news/defs.yaml"
    assert written.read_text() == documented("yaml", holding="vv_exports.IndexExports")
    assert documented("bash", holding="dg check").startswith("dg check defs\n")
    checked = run("dg", "check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = json.loads(run("dg", "list", "defs", "--json").stdout)
    assert "idx_news/exports/editors" in {asset["asset_key"] for asset in listed["assets"]}
    written.write_text(written.read_text() + "      format: parquett\n")
    refused = run("dg", "check", "yaml")
    assert refused.returncode == 1
    assert f"{written}:12" in refused.stdout + refused.stderr
