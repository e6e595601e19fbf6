"""A run in the UI's list shows what people filter by, and no bookkeeping."""

import dagster as dg

from vv_exports.defs.processes import PROCESS, process_of, this_process
from vv_exports.defs.run_tags import run_with_hidden_tags
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of


def test_no_run_shows_more_than_three_tags_of_ours(tmp_path):
    write_run(tmp_path / "archive", status="completed_with_failures")
    client = client_of(tmp_path)
    client.prompt_runs.sync("idx")
    client.automations.run("idx", "team")
    made = client.exports.create_index_export(
        "idx", destination_connector_id="conn_export", destination_subpath="x", idempotency_key="key"
    )
    shown = {
        run.run_id: {one for one in run.tags if one.startswith("vv_exports/")} for run in client.instance.get_runs()
    }
    assert shown[made.dagster_run_id] == {"vv_exports/export_id", "vv_exports/target_id", "vv_exports/connector"}
    assert max(map(len, shown.values())) == 3


def test_what_an_earlier_version_noted_on_a_run_is_still_known():
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(dg.Definitions(jobs=[_job]).resolve_job_def("_job"))
        instance.add_run_tags(
            run.run_id, {"vv_exports/process": f"{run.run_id} {this_process()}", "vv_exports/key": "k"}
        )
        noted = instance.get_run_by_id(run.run_id)
        assert process_of(noted, PROCESS) == this_process()
        assert run_with_hidden_tags(instance, {"key": "k"}).run_id == run.run_id
        assert run_with_hidden_tags(instance, {"key": "other"}) is None


@dg.job
def _job():
    """Does nothing."""
