"""Definitions of a configuration beside those of somebody's own project: nothing of one is in the way of the other."""

import dagster as dg
import pytest

import vv_exports
from vv_exports.defs.keys import asset_key
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, write_config, written_files


@pytest.fixture
def project(tmp_path):
    """The path of a configuration with an archive."""
    write_run(tmp_path / "archive", run_id="run_1")
    return write_config(tmp_path)


@dg.asset
def theirs(conn_export: dg.ResourceParam[str]) -> str:
    return conn_export


THEIRS = dg.Definitions(
    assets=[theirs],
    resources={"conn_export": "theirs", "io_manager": dg.mem_io_manager},
    executor=dg.in_process_executor,
)


def test_they_merge_with_definitions_that_have_an_executor_and_a_resource_called_like_a_connector(project):
    whole = dg.Definitions.merge(vv_exports.build_definitions(project), THEIRS)
    dg.Definitions.validate_loadable(whole)
    job = whole.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("prompt_runs__idx", ["run_1"])
        key = asset_key("idx", "exports", "team")
        assert job.execute_in_process(instance=instance, asset_selection=[key], partition_key="run_1").success
        assert (
            job.execute_in_process(instance=instance, asset_selection=[theirs.key]).output_for_node("theirs")
            == "theirs"
        )
    assert any("exports/team/segments" in path for path in written_files(project.parent))


def test_two_configurations_in_one_project_have_prefixes_of_their_own(project, tmp_path):
    (tmp_path / "second").mkdir()
    second = write_config(tmp_path / "second", {**CONFIG, "indexes": {"other": {}}})
    whole = dg.Definitions.merge(
        vv_exports.build_definitions(project), vv_exports.build_definitions(str(second), prefix="second__")
    )
    dg.Definitions.validate_loadable(whole)
    names = {"conn_export", "conn_import", "snapshots", "exports_on_demand"}
    assert set(whole.resources) == {f"{prefix}{name}" for prefix in ("vv_exports__", "second__") for name in names}
    asset = whole.resolve_assets_def(asset_key("other", "prompt_runs"))
    assert asset.op.pool == "second__source/other"


def test_what_they_are_imported_by_is_among_the_names_of_the_package_and_costs_nothing_before():
    assert {"IndexExports", "build_definitions"} <= set(dir(vv_exports))
    with pytest.raises(AttributeError, match="has no attribute 'IndexExport'"):
        vv_exports.IndexExport  # noqa: B018 - asking for it is the test
