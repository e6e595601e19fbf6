import copy
from pathlib import Path

import dagster as dg
import pyarrow.dataset as ds
import pytest

from vv_exports.defs.build import build_definitions
from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import partitions_name, stretches, sync_partitions
from vv_exports.domain.names import dagster_key, partition_key
from vv_exports.errors import DeliveredDataError, NotFoundError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, written_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    return tmp_path


@pytest.fixture
def client(folder):
    client = client_of(folder)
    sync_partitions(client.instance, "idx", client.pipeline.indexes.prompt_runs("idx"))
    return client


def _materialize(client, key, partitions=None, config=None, raise_on_error=True):
    tags = {}
    if partitions:
        tags = {
            "dagster/asset_partition_range_start": partitions[0],
            "dagster/asset_partition_range_end": partitions[1],
        }
    return client.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=client.instance,
        asset_selection=[key],
        tags=tags,
        run_config={"ops": config or {}},
        raise_on_error=raise_on_error,
    )


def test_an_automation_materialized_from_the_ui_takes_the_snapshots_it_lacks(client):
    key = asset_key("idx", "exports", "team")
    result = _materialize(client, key, ("run_1", "run_3"))
    mine = [event for event in result.get_asset_materialization_events() if event.asset_key == key]
    assert sorted(event.partition for event in mine) == ["run_1", "run_2", "run_3"]
    metadata = mine[0].materialization.metadata
    assert metadata["dagster/partition_row_count"].value == 3
    assert metadata["destination_uri"].value.endswith("deliveries/exports/team")
    assert "| video_name |" in metadata["preview"].value
    assert {column.name for column in metadata["dagster/column_schema"].schema.columns} >= {
        "metadata.title",
        "rescued",
    }
    for name in ("delivery_id", "rows", "bytes", "files", "data_version"):
        assert metadata[name].value
    snapshots = client.instance.get_materialized_partitions(asset_key("idx", "prompt_runs"))
    assert snapshots == {"run_1", "run_2", "run_3"}


def test_the_partition_by_which_the_ui_shows_an_asset_says_how_quick_its_batch_was(client):
    for path in (("prompt_runs",), ("exports", "team")):
        key = asset_key("idx", *path)
        events = _materialize(client, key, ("run_1", "run_3")).get_asset_materialization_events()
        *others, last = [event.materialization.metadata for event in events if event.asset_key == key]
        rows = sum(one["rows"].value if "rows" in one else _snapshot_rows(one) for one in (*others, last))
        assert (len(others), last["batch_rows"].value) == (2, rows)
        assert last["batch_rows_per_second"].value > 0
        assert last["batch_seconds"].value > 0
        assert not any("batch_rows" in one for one in others)
    again = _materialize(client, key, ("run_1", "run_3")).get_asset_materialization_events()
    assert not any("batch_rows" in event.materialization.metadata for event in again)  # nothing was written


def _snapshot_rows(metadata):
    return sum(metadata[name].value for name in ("dagster/partition_row_count", "video_results", "failed_segments"))


def test_a_disabled_automation_refuses_to_be_materialized(client, folder):
    key = asset_key("idx", "exports", "off")
    assert not _materialize(client, key, ("run_0", "run_4"), raise_on_error=False).success
    assert written_files(folder) == {}


def test_many_partitions_are_one_delivery(client, folder):
    _materialize(client, asset_key("idx", "exports", "team"), ("run_0", "run_4"))
    logs = [path for path in written_files(folder) if "/_vv/log/" in path]
    assert len(logs) == 1


def test_a_downstream_asset_gets_the_delivered_data_as_a_dataset(client):
    upstream = asset_key("idx", "exports", "team")
    counted = []

    @dg.asset(
        ins={"delivered": dg.AssetIn(key=upstream)},
        partitions_def=dg.DynamicPartitionsDefinition(name=partitions_name("idx")),
    )
    def report(delivered) -> None:
        assert isinstance(delivered, ds.Dataset)
        counted.append(sorted(delivered.to_table(columns=["prompt_run_id"])["prompt_run_id"].to_pylist()))

    @dg.asset(ins={"delivered": dg.AssetIn(key=upstream)})
    def overall(delivered) -> None:
        counted.append(delivered.count_rows())

    _materialize(client, upstream, ("run_0", "run_4"))
    job = dg.Definitions.merge(
        build_definitions(client.pipeline), dg.Definitions(assets=[report, overall])
    ).resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=client.instance, asset_selection=[report.key], partition_key="run_2")
    job.execute_in_process(instance=client.instance, asset_selection=[overall.key])
    assert counted == [["run_2"] * 3, 15]


def test_prompts_with_different_schemas_load_as_one_dataset(folder):
    other = {
        "type": "object",
        "properties": {
            "mood": {"type": "string"},
            "brands": {
                "type": "array",
                "items": {"type": "object", "properties": {"logo": {"type": "boolean"}}},
            },
        },
    }
    rows = [segment(0, metadata={"mood": "calm", "brands": [{"logo": True}]})]
    write_run(folder / "archive", run_id="run_9", prompt_id="other", schema=other, segments=rows)
    client = client_of(folder)
    client.automations.run("idx", "team")
    upstream = asset_key("idx", "exports", "team")
    seen = []

    @dg.asset(ins={"delivered": dg.AssetIn(key=upstream)})
    def overall(delivered) -> None:
        seen.extend(delivered.to_table(columns=["prompt_id", "metadata"]).to_pylist())

    job = dg.Definitions.merge(
        build_definitions(client.pipeline), dg.Definitions(assets=[overall])
    ).resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=client.instance, asset_selection=[overall.key])
    (one,) = [row for row in seen if row["prompt_id"] == "other"]
    assert one["metadata"]["mood"] == "calm"
    assert one["metadata"]["brands"][0]["logo"] is True
    assert len(seen) == 16


def loaded(client, **metadata):
    """The segments that an asset downstream of the collection gets, with this metadata on its input."""
    seen = []

    @dg.asset(ins={"delivered": dg.AssetIn(key=asset_key("idx", "exports", "team"), metadata=metadata)})
    def overall(delivered) -> None:
        seen.extend(delivered.to_table(columns=["prompt_run_id", "metadata"]).to_pylist())

    job = dg.Definitions.merge(
        build_definitions(client.pipeline), dg.Definitions(assets=[overall])
    ).resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=client.instance, asset_selection=[overall.key])
    return seen


def test_types_that_no_column_holds_do_not_load_as_one_dataset_and_say_what_to_do(folder):
    rows = [segment(0, metadata={"title": 7})]
    schema = {"type": "object", "properties": {"title": {"type": "integer"}}}
    write_run(folder / "archive", run_id="run_9", schema=schema, segments=rows)
    client = client_of(folder)
    client.automations.run("idx", "team")
    with pytest.raises(DeliveredDataError, match=r"segments\.v2.*on_schema_conflict: text"):
        loaded(client)
    assert [row["prompt_run_id"] for row in loaded(client, folder="segments.v2")] == ["run_9"]


def test_prompts_that_share_a_field_name_with_two_types_are_named_with_the_way_out(folder):
    person = {"type": "object", "properties": {"name": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"cast": {"type": "array", "items": person}}}
    text = copy.deepcopy(schema)
    text["properties"]["cast"]["items"]["properties"]["name"]["type"] = "string"
    for run_id, prompt_id, of_it, name in (("run_8", "faces", schema, 7), ("run_9", "names", text, "Ada")):
        rows = [segment(0, metadata={"cast": [{"name": name}]})]
        write_run(folder / "archive", run_id=run_id, prompt_id=prompt_id, schema=of_it, segments=rows)
    client = client_of(folder)
    client.automations.run("idx", "team")
    with pytest.raises(DeliveredDataError) as told:
        loaded(client)
    assert "metadata.cast[].name is int64 of prompt 'faces' in segments, string of prompt 'names'" in str(told.value)
    assert """metadata={"prompt_id": "faces"}""" in str(told.value)
    assert "on_schema_conflict" not in str(told.value), "it is for one prompt that has changed"
    (row,) = loaded(client, prompt_id="faces")
    assert row["metadata"]["cast"] == [{"name": 7}]
    with pytest.raises(NotFoundError, match="'names' in segments"):
        loaded(client, prompt_id="face")


def test_the_launchpad_refuses_what_is_not_a_destination(client):
    for wrong in (
        {"destination_connector_id": "nope"},
        {"destination_connector_id": "conn_import"},
        {"format": "xlsx"},
    ):
        with pytest.raises(dg.DagsterInvalidConfigError):
            _materialize(client, asset_key("idx", "index_export"), config={"idx__index_export": {"config": wrong}})


def test_a_launch_cannot_read_an_environment_variable_into_a_path(client, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    config = {"destination_connector_id": "conn_export", "destination_subpath": {"env": "SECRET"}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        _materialize(client, asset_key("idx", "index_export"), config={"idx__index_export": {"config": config}})


def test_a_launch_from_the_ui_is_an_export_like_any_other(client):
    config = {"idx__index_export": {"config": {"destination_connector_id": "conn_export", "destination_subpath": "ui"}}}
    result = _materialize(client, asset_key("idx", "index_export"), config=config)
    (export,) = client.exports.list()
    assert export.export_id == f"exp_{result.run_id.replace('-', '')}"
    assert (export.rows, export.destination_subpath) == (15, "ui")


def test_several_partitions_on_demand_become_one_folder_each(client, folder):
    config = {"idx__prompt_run_export": {"config": {"destination_connector_id": "conn_export"}}}
    _materialize(client, asset_key("idx", "prompt_run_export"), ("run_0", "run_2"), config)
    assert len({path.split("/")[1] for path in written_files(folder)}) == 3


@pytest.mark.parametrize("bad", ["../up", "exports/team/below"])
def test_a_wrong_subpath_from_the_launchpad_fails_before_any_write(client, folder, bad):
    config = {"idx__index_export": {"config": {"destination_connector_id": "conn_export", "destination_subpath": bad}}}
    result = _materialize(client, asset_key("idx", "index_export"), config=config, raise_on_error=False)
    assert not result.success
    assert written_files(folder) == {}


@pytest.mark.slow
def test_ids_that_dagster_cannot_hold_work_and_never_collide(tmp_path):
    indexes = ["a b", "a/b", "a_b", "a%b", "é", "ü", "a..b", "a|b", "a...b", "日本"]
    runs = ["run a", "run/a", "run%a", "run%20a", "a...b", "a|b", "é", "..", "[r]", "r,s", "'q'"]
    config = {**CONFIG, "indexes": {}}
    for number, index_id in enumerate(indexes):
        automation = {
            "destination_connector_id": "conn_export",
            "destination_subpath": f"c{number}",
            "start": "beginning",
        }
        config["indexes"][index_id] = {
            "automations": {"a.b": automation, "a-b": {**automation, "destination_subpath": f"d{number}"}}
        }
        for run_id in runs:
            write_run(tmp_path / "archive", index_id=index_id, run_id=run_id, segments=[segment(0)])
    client = client_of(tmp_path, config)
    assert len({dagster_key(index_id) for index_id in indexes}) == len(indexes)
    assert len({partition_key(run_id) for run_id in runs}) == len(runs)
    for index_id in indexes:
        outcome = client.automations.run(index_id, "a.b")
        assert sorted(outcome.delivered) == sorted(runs)
        assert client.automations.retrieve(index_id, "a-b").delivered == 0


def test_stretches_are_contiguous_and_bounded(client):
    def found(runs, limit):
        return stretches(client.instance, "idx", runs, limit)

    assert found(["run_4", "run_0", "run_1"], 100) == [("run_0", "run_1"), ("run_4", "run_4")]
    assert found([f"run_{n}" for n in range(5)], 2) == [
        ("run_0", "run_1"),
        ("run_2", "run_3"),
        ("run_4", "run_4"),
    ]
    assert found([], 2) == []


def test_partitions_come_in_the_order_of_execution(client, folder):
    write_run(folder / "archive", run_id="a_later_one", executed_at="2026-11-01T00:00:00Z")
    assert sync_partitions(client.instance, "idx", client.pipeline.indexes.prompt_runs("idx")) == ["a_later_one"]
    assert sync_partitions(client.instance, "idx", client.pipeline.indexes.prompt_runs("idx")) == []
    keys = list(client.instance.get_dynamic_partitions(partitions_name("idx")))
    assert keys == [*(f"run_{n}" for n in range(5)), "a_later_one"]


def test_the_discovery_sensor_adds_finished_runs(folder):
    client = client_of(folder, {**CONFIG, "indexes": {"idx": {}}})
    write_run(folder / "archive", run_id="still", status="processing")
    sensor = client.definitions.resolve_sensor_def("idx__discovery")
    context = dg.build_sensor_context(instance=client.instance, definitions=client.definitions)
    assert sensor(context).skip_reason.skip_message == "5 new of 5 finished prompt runs; 6 in all."
    assert sensor(context).skip_message.startswith("Nothing has happened since ")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_definitions_are_valid(client):
    dg.Definitions.validate_loadable(client.definitions)


SECRET = {"env": "VV_TEST_SECRET"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, SECRET) for name in ("destination_connector_id", "destination_subpath", "format", "compression")),
        *((name, SECRET) for name in ("contract", "on_schema_conflict", "target_file_bytes", "dry_run")),
        ("prompt_run_ids", [SECRET]),
        ("tables", [SECRET]),
        ("fields", {"include": [SECRET]}),
        ("fields", {"exclude": [SECRET]}),
        ("redact", {"metadata.title": SECRET}),
        ("format", {"name": "csv", "delimiter": SECRET}),
    ],
)
def test_no_field_of_a_launch_reads_the_environment(client, monkeypatch, name, value):
    """Where a field did, whoever may launch could put a secret into a path, or into what is shown of a run."""
    monkeypatch.setenv("VV_TEST_SECRET", "hunter2")
    job = build_definitions(client.pipeline).resolve_implicit_global_asset_job_def()
    config = {"ops": {"idx__index_export": {"config": {name: value}}}}
    with pytest.raises(dg.DagsterInvalidConfigError) as refused:
        dg.validate_run_config(job, config)
    assert "hunter2" not in str(refused.value)
