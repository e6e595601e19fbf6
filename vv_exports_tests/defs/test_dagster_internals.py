"""How what this package uses of Dagster beyond its public interface behaves. Which names it uses is in
``test_dagster_canaries.py``, with what to look at when one changes: a failure here ends with that sentence."""

import importlib
import inspect
import json

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin

from vv_exports.defs import dagster_internals
from vv_exports.defs.dagster_internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    GRPC_INFO_TAG,
    IMPLICIT_ASSET_JOB_NAME,
    STARTED_PROCESS,
    BulkActionStatus,
    CheckError,
    DagsterRunAlreadyExists,
    DefaultRunLauncher,
    InstanceRef,
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    JobFailureData,
    PartitionBackfill,
    SensorInstigatorData,
    add_partition_metadata,
    log_materializations,
    make_new_run_id,
    partition_keys,
    step_of,
)
from vv_exports_tests.defs.test_dagster_canaries import BACKFILL, LOST, SWITCH, USED


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_partition_keys_come_in_pages_and_in_their_order(count, monkeypatch):
    monkeypatch.setattr(dagster_internals, "_KEYS_AT_A_TIME", 2)
    keys = [f"key-{number}" for number in reversed(range(count))]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("other", ["not this"])
        if keys:
            instance.add_dynamic_partitions("these", keys)
        found = list(partition_keys(instance, "these"))
    assert found == keys, "defs/partitions.py reads keys in pages: see DagsterInstance.get_paginated_dynamic_partitions"


def test_a_step_takes_metadata_of_single_partitions_and_materializations_before_it_ends():
    class Reports(dg.IOManager):
        def handle_output(self, context, obj):
            add_partition_metadata(step_of(context), context.asset_key, {"a": {"rows": 1}, "b": {"rows": 2}})

        def load_input(self, context): ...

    letters = dg.StaticPartitionsDefinition(["a", "b"])
    several = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=letters, backfill_policy=several)
    def good(context: dg.AssetExecutionContext): ...

    @dg.asset(partitions_def=letters, backfill_policy=several)
    def bad(context: dg.AssetExecutionContext):
        log_materializations(step_of(context), [dg.AssetMaterialization("bad", partition="a")])
        raise ValueError("the rest")

    said = "see StepExecutionContext._metadata_accumulator, which AssetExecutionContext.add_asset_metadata writes to"
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
        dg.materialize([good], instance=instance, tags=tags, resources={"io_manager": Reports()})
        rows = {
            record.partition_key: record.asset_materialization.metadata["rows"].value
            for record in instance.fetch_materializations(good.key, limit=10).records
        }
        assert rows == {"a": 1, "b": 2}, said
        assert not dg.materialize([bad], instance=instance, tags=tags, raise_on_error=False).success
        kept = [record.partition_key for record in instance.fetch_materializations(bad.key, limit=10).records]
        assert kept == ["a"], USED["DagsterEvent"]


def test_a_run_id_is_taken_once_and_a_failed_run_says_why():
    @dg.asset
    def bad():
        raise ValueError("no")

    job = dg.Definitions(assets=[bad]).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = make_new_run_id()
        job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
        with pytest.raises(DagsterRunAlreadyExists):
            job.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
        (record,) = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    assert isinstance(record.event_log_entry.dagster_event.event_specific_data, JobFailureData), USED["JobFailureData"]


def test_a_schedule_finds_the_job_of_all_assets():
    repository = dg.Definitions(assets=[dg.AssetsDefinition.from_op(_an_op)]).get_repository_def()
    assert repository.get_implicit_asset_job_names() == [IMPLICIT_ASSET_JOB_NAME], USED["IMPLICIT_ASSET_JOB_NAME"]


@dg.op
def _an_op(): ...


def test_a_wrong_dagster_yaml_is_one_of_the_errors_that_are_told(tmp_path):
    (tmp_path / "dagster.yaml").write_text("hello\n")
    with pytest.raises(CheckError):
        dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path)))


def test_the_switch_of_a_sensor_is_kept_with_when_it_was_turned_on(tmp_path):
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "a")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, None))
        (state,) = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        data = SensorInstigatorData().with_sensor_start_timestamp(7.0)
        instance.update_instigator_state(state.with_status(InstigatorStatus.RUNNING).with_data(data))
        (state,) = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        found = (state.instigator_name, state.status, state.sensor_instigator_data.last_sensor_start_timestamp)
        assert found == ("a", InstigatorStatus.RUNNING, 7.0), SWITCH


def test_a_backfill_of_partitions_is_asked_for_with_what_the_daemon_reads(tmp_path):
    taken = set(inspect.signature(PartitionBackfill.from_asset_partitions).parameters)
    passed = {
        *("backfill_id", "asset_graph", "partition_names", "asset_selection", "backfill_timestamp", "tags"),
        *("dynamic_partitions_store", "all_partitions", "title", "description", "run_config"),
    }
    assert taken == passed, BACKFILL
    over = {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.FAILED}
    assert over <= set(BULK_ACTION_TERMINAL_STATUSES), BACKFILL
    assert BulkActionStatus.REQUESTED not in BULK_ACTION_TERMINAL_STATUSES, BACKFILL


def test_a_run_tells_which_code_server_and_which_process_have_it():
    launching = inspect.getsource(DefaultRunLauncher.launch_run_from_grpc_client)
    said = f"the tag of the code server holds other fields now. {LOST}"
    assert all(json.dumps(field) in launching for field in ("host", "port", "socket")), said
    assert "GRPC_INFO_TAG" in launching, said
    assert GRPC_INFO_TAG == ".dagster/grpc_info", said
    serving = inspect.getsource(importlib.import_module("dagster._grpc.impl"))
    assert 'f"Started process for run (pid: {pid})."' in serving, f"the pid is told in other words now. {LOST}"
    assert STARTED_PROCESS.match("Started process for run (pid: 42).")[1] == "42"
