"""The code location as a whole: what it is made of grows with the indexes, and by as much for each."""

import copy
import importlib.util
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import JobDataSnap, RepositorySnap
from dagster._serdes import serialize_value

from vv_exports.defs.build import build_definitions
from vv_exports.defs.keys import asset_key, reconciliation_key
from vv_exports_tests.deployments import CONFIG, client_of

SCHEDULED = {
    "destination_connector_id": "conn_export",
    "destination_subpath": "scheduled",
    "schedule": {"cron": "0 3 * * *"},
}


def deployment(folder, indexes):
    """A client for this many indexes, each with two automations, one of them by the clock."""
    config = copy.deepcopy(CONFIG)
    config["indexes"] = {
        f"idx_{number:02}": {
            "automations": {
                "review-team": {**SCHEDULED, "destination_subpath": f"{number:02}/review-team"},
                "editorial": {
                    "destination_connector_id": "conn_export",
                    "destination_subpath": f"{number:02}/editorial",
                },
            }
        }
        for number in range(indexes)
    }
    return client_of(folder, config)


def told(folder, indexes):
    """How many bytes a code server says of itself."""
    repository = deployment(folder, indexes).definitions.get_repository_def()
    jobs = [JobDataSnap.from_job_def(job, include_parent_snapshot=True) for job in repository.get_all_jobs()]
    return sum(
        len(serialize_value(part)) for part in (RepositorySnap.from_def(repository, defer_snapshots=True), *jobs)
    )


def test_what_a_code_server_tells_is_linear_in_the_indexes(tmp_path):
    few, more, many = (told(tmp_path, indexes) for indexes in (4, 8, 16))
    assert many - more <= 2.01 * (more - few)
    assert more - few < 4 * 33_000, "200 indexes are told in 6.6 MB"


def test_sensors_and_schedules_have_no_jobs_of_their_own(tmp_path):
    repository = deployment(tmp_path, 2).definitions.get_repository_def()
    assert [job.name for job in repository.get_all_jobs()] == ["__ASSET_JOB"]


def test_a_sensor_is_shown_at_the_asset_that_it_materializes(tmp_path):
    repository = deployment(tmp_path, 1).definitions.get_repository_def()
    graph = repository.asset_graph
    found = {sensor.name: sensor.asset_selection.resolve(graph) for sensor in repository.sensor_defs}
    assert found == {
        "idx_00__discovery": {asset_key("idx_00", "prompt_runs")},
        "idx_00__review_team__delivery": {asset_key("idx_00", "exports", "review-team")},
        "idx_00__editorial__delivery": {asset_key("idx_00", "exports", "editorial")},
    }


def test_a_schedule_materializes_the_reconciliation_of_its_automation_alone(tmp_path):
    client = deployment(tmp_path, 2)
    schedule = client.definitions.resolve_schedule_def("idx_01__review_team__reconciliation")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        request = schedule(dg.build_schedule_context(instance=instance))
    asset = reconciliation_key("idx_01", "review-team")
    assert request.asset_selection == [asset]
    assert schedule.job_name == "__ASSET_JOB"
    description = client.definitions.get_repository_def().asset_graph.get(asset).description
    assert description.endswith("By the clock: schedule idx_01__review_team__reconciliation, `0 3 * * *` UTC.")


def test_an_operation_keeps_its_name_whatever_other_indexes_there_are(tmp_path):
    def ops(indexes):
        assets = build_definitions(deployment(tmp_path, indexes).pipeline).get_repository_def().assets_defs_by_key
        return {key: asset.op.name for key, asset in assets.items()}

    few, many = ops(1), ops(3)
    assert few.items() <= many.items()
    assert sorted(few.values()) == [
        "idx_00__editorial",
        "idx_00__editorial__reconciliation",
        "idx_00__index_export",
        "idx_00__prompt_run_export",
        "idx_00__prompt_runs",
        "idx_00__review_team",
        "idx_00__review_team__reconciliation",
    ]


def test_a_collection_says_what_becomes_of_runs_that_were_finished_before_it_began(tmp_path):
    told_of_history = {}
    for start in ("now", "beginning"):
        config = copy.deepcopy(CONFIG)
        config["indexes"]["idx"]["automations"]["team"]["start"] = start
        graph = client_of(tmp_path, config).definitions.get_repository_def().asset_graph
        told_of_history[start] = graph.get(asset_key("idx", "exports", "team")).description
    assert told_of_history["now"].endswith("before it began are missing until a backfill delivers them.")
    assert told_of_history["beginning"].endswith("all finished prompt runs, those from before it began too.")


@pytest.mark.slow
def test_a_process_that_loads_the_definitions_does_not_import_pandas_where_that_is_installed():
    assert importlib.util.find_spec("pandas") is not None
    code = "import sys, vv_exports.client, vv_exports.defs.build; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
