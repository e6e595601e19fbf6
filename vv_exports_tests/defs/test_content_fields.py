"""The launchpad has the configuration's choice of a content, and refuses what is closed to a wrong one."""

import dagster as dg
import pytest
from dagster._config.snap import minimal_config_for_type_snap

from vv_exports.config import content_options
from vv_exports.config.content import ContentConfig, FieldsConfig, FormatConfig
from vv_exports.defs.assets import launch_config
from vv_exports.defs.build import build_definitions
from vv_exports.defs.content_fields import CONTENT_FIELDS, content_of
from vv_exports.defs.dagster_internals import enum_or_shape
from vv_exports.defs.keys import asset_key
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.exports import ExportRequest, ExportStatus
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of, written_files

CHOSEN = {
    "format": {"name": "csv", "delimiter": ";", "excel": True, "formulas": "keep"},
    "tables": ["segments", "videos"],
    "fields": {"include": ["metadata", "video_name"], "exclude": ["metadata.a"]},
    "redact": {"metadata.b": "mask", "video_name": "drop"},
    "compression": "gzip",
    "target_file_bytes": 1 << 21,
    "on_schema_conflict": "text",
    "contract": "quarantine",
}


@pytest.fixture
def folder(tmp_path):
    for number in range(2):
        write_run(tmp_path / "archive", run_id=f"run_{number}")
    return tmp_path


@pytest.fixture
def client(folder):
    client = client_of(folder)
    client.prompt_runs.sync("idx")
    return client


def launched(client, asset, config, partition=None):
    return (
        build_definitions(client.pipeline)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=client.instance,
            asset_selection=[asset_key("idx", asset)],
            partition_key=partition,
            run_config={"ops": {f"idx__{asset}": {"config": config}}},
            raise_on_error=False,
        )
    )


def taken(config):
    """What a launch with these values gets, by Dagster's own rules."""
    got = {}

    @dg.op(config_schema=CONTENT_FIELDS)
    def op(context):
        got.update(context.op_config)

    dg.GraphDefinition("g", node_defs=[op]).to_job().execute_in_process(run_config={"ops": {"op": {"config": config}}})
    return got


def test_it_has_the_names_of_the_configuration():
    assert set(CONTENT_FIELDS) == set(ContentConfig.model_fields)
    assert set(CONTENT_FIELDS["fields"].config_type.fields) == set(FieldsConfig.model_fields)
    assert set(CONTENT_FIELDS["format"].config_type.non_scalar_type.fields) == set(FormatConfig.model_fields)
    assert all(field.description for field in CONTENT_FIELDS.values())


def test_what_is_left_alone_is_what_the_configuration_has_by_default():
    assert content_of(taken({})) == ContentOptions()
    assert content_of(taken({"format": "csv"})) == content_options({"format": "csv"})


@pytest.mark.parametrize("name", [*CHOSEN, "all"])
def test_a_launch_that_another_way_made_asks_for_the_same(name):
    chosen = CHOSEN if name == "all" else {"format": "csv", name: CHOSEN[name]}
    request = ExportRequest("index", "idx", None, None, None, content_options(chosen))
    config = launch_config(request)
    content = {key: value for key, value in config.items() if not key.startswith("destination_")}
    assert content_of(taken(content)) == request.content


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "xlsx"},
        {"format": {"name": "xlsx"}},
        {"format": {"delimiter": ";"}},
        {"format": {"name": "csv", "delimiter": ";;"}},
        {"format": {"name": "csv", "formulas": "run"}},
        {"format": {"name": "csv", "excel": "yes"}},
        {"format": {"name": "csv", "colour": "red"}},
        {"format": ["csv"]},
        {"tables": ["segment"]},
        {"tables": "segments"},
        {"fields": {"only": ["a"]}},
        {"fields": {"include": "a"}},
        {"fields": {"include": [{"env": "SECRET"}]}},
        {"redact": {"a": "kill"}},
        {"redact": ["a"]},
        {"compression": "brotli"},
        {"target_file_bytes": "many"},
        {"on_schema_conflict": "hold"},
    ],
)
def test_the_launchpad_refuses_what_nobody_can_choose(wrong):
    with pytest.raises(dg.DagsterInvalidConfigError):
        taken(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"format": "csv", "compression": "snappy"}, "compression: 'snappy': csv files can be: none, gzip, zstd"),
        ({"redact": {"metadata.a[0]": "drop"}}, "write `[]`, which means all items of a list"),
        ({"format": {"name": "json", "delimiter": ";"}}, "is an option of csv, and json has none"),
        ({"tables": []}, "tables: []: must not be empty"),
    ],
)
@pytest.mark.parametrize("asset", ["index_export", "prompt_run_export"])
def test_what_only_the_rules_know_fails_the_launch_before_any_write(client, folder, asset, wrong, said):
    result = launched(client, asset, wrong, partition="run_0" if asset == "prompt_run_export" else None)
    assert not result.success
    failures = [one.step_failure_data.error for one in result.get_step_failure_events()]
    assert any(said in f"{one.message} {one.cause}" for one in failures)
    assert written_files(folder) == {}
    assert client.exports.list() == [], "what is no request is no export"


def test_a_launch_is_remembered_with_what_it_chose(client):
    chosen = {"format": {"name": "csv", "delimiter": ";"}, "on_schema_conflict": "text", "target_file_bytes": 1 << 21}
    assert launched(client, "index_export", chosen).success
    assert launched(client, "prompt_run_export", {"compression": "snappy"}, partition="run_1").success
    of_run, of_index = client.exports.list()
    assert (of_index.status, of_index.format, of_index.content) == (ExportStatus.COMPLETED, "csv", chosen)
    assert (of_run.format, of_run.content) == ("parquet", {"format": "parquet", "compression": "snappy"})


def test_a_launch_by_hash_without_a_key_fails_and_its_record_says_why(client, folder, monkeypatch):
    monkeypatch.delenv("VV_EXPORTS_REDACTION_KEY", raising=False)
    for asset, partition in (("index_export", None), ("prompt_run_export", "run_0")):
        assert not launched(client, asset, {"redact": {"video_name": "hash"}}, partition=partition).success
    assert ["VV_EXPORTS_REDACTION_KEY" in one.error_message for one in client.exports.list()] == [True, True]
    assert written_files(folder) == {}


def test_the_type_that_is_a_choice_or_a_mapping_is_one_that_dagster_can_show():
    """See ``dagster._config.config_type.ScalarUnion``, whose parameters are what it is told and checked by."""
    union = enum_or_shape(dg.Enum("Letter", [dg.EnumValue("a")]), {"b": dg.Field(int)})
    snapshot = dg.Field(union).config_type.schema_snapshot
    said = {one.kind.name: one for one in snapshot.all_config_snaps_by_key.values()}
    assert {"SCALAR_UNION", "ENUM", "STRICT_SHAPE"} <= said.keys()
    assert said["SCALAR_UNION"].scalar_type_key == said["ENUM"].key
    assert minimal_config_for_type_snap(snapshot, said["SCALAR_UNION"]) == "a"
