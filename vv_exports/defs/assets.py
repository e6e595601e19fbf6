"""The assets of one index: its prompt runs, its automations' collections, and the two exports on demand.

Operations have explicit names, since asset keys may hold what Dagster's names can't.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from vv_exports.config import AutomationConfig
from vv_exports.defs.export_runs import export_tags, root_run_id
from vv_exports.defs.failures import step_failures
from vv_exports.defs.io_managers import AutomationExport, OnDemandExport, SnapshotBatch
from vv_exports.defs.keys import (
    EXPORTS,
    SNAPSHOTS,
    SOURCE_POOL,
    asset_key,
    connector_key,
    destination_pool,
    group_of,
    reconciliation_name,
)
from vv_exports.defs.metadata import (
    delivered_run_metadata,
    materialization,
    reconciliation_metadata,
    snapshot_metadata,
)
from vv_exports.defs.partitions import partitions_of, run_ids_of, sync_partitions
from vv_exports.domain.exports import ExportRequest, ExportType, export_id_of, export_ids
from vv_exports.domain.names import dagster_name, partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import ConfigurationError
from vv_exports.formats.catalog import FORMATS
from vv_exports.pipeline import ExportJob, Pipeline, content_version
from vv_exports.snapshots.batch import TakenSnapshot
from vv_exports.snapshots.store import Snapshot

PARTITIONS_PER_RUN = 100
"""A Dagster run costs seconds to start, a partition in it milliseconds; beyond this a failure repeats too much."""

DOWNLOAD = "(download)"
"""Stands in a launch for no connector."""

_BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=PARTITIONS_PER_RUN)


def index_assets(pipeline: Pipeline, index_id: str) -> list[dg.AssetsDefinition]:
    """All assets of an index."""
    automations = pipeline.config.indexes[index_id].automations
    return [
        _prompt_runs(pipeline, index_id),
        *(_automation(pipeline, index_id, name, config) for name, config in automations.items()),
        *(_reconciliation(pipeline, index_id, name) for name in automations),
        _prompt_run_export(pipeline, index_id),
        _index_export(pipeline, index_id),
    ]


def _prompt_runs(pipeline: Pipeline, index_id: str) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{dagster_name(index_id)}__prompt_runs",
        outs={
            "snapshots": dg.AssetOut(
                key=asset_key(index_id, "prompt_runs"),
                description=f"Results of the prompt runs of index {index_id}: one partition, one snapshot.",
                io_manager_key=SNAPSHOTS,
                metadata={"vv_exports/index_id": index_id},
                kinds={"videovector", "parquet"},
            )
        },
        group_name=group_of(index_id),
        partitions_def=partitions_of(index_id),
        backfill_policy=_BACKFILL,
        pool=SOURCE_POOL,
    )
    def prompt_runs(context: dg.AssetExecutionContext) -> dg.Output[SnapshotBatch]:
        with step_failures(context):
            batch = pipeline.snapshot_batch(index_id, run_ids_of(context.partition_keys))
            version = dg.DataVersion(content_version(batch.snapshots))
            return dg.Output(SnapshotBatch(index_id, batch), data_version=version)

    return prompt_runs


def _automation(pipeline: Pipeline, index_id: str, name: str, config: AutomationConfig) -> dg.AssetsDefinition:
    connector = pipeline.connectors[config.destination_connector_id]

    @dg.multi_asset(
        name=f"{dagster_name(index_id)}__{dagster_name(name)}",
        outs={
            "collection": dg.AssetOut(
                key=asset_key(index_id, "exports", name),
                description=_automation_description(index_id, name, config, connector.uri(config.subpath)),
                io_manager_key=connector_key(config.destination_connector_id),
                metadata={
                    "vv_exports/index_id": index_id,
                    "vv_exports/automation": name,
                    "destination_uri": connector.uri(config.subpath),
                },
                kinds={connector.provider, config.format},
            )
        },
        deps=[asset_key(index_id, "prompt_runs")],
        group_name=group_of(index_id),
        partitions_def=partitions_of(index_id),
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=config.max_runs_per_delivery),
        pool=destination_pool(index_id, name),
    )
    def collection(context: dg.AssetExecutionContext) -> dg.Output[AutomationExport]:
        with step_failures(context):
            batch = pipeline.automation_batch(index_id, name, run_ids_of(context.partition_keys))
            _log_fresh(context, pipeline, batch.taken)
            version = dg.DataVersion(content_version(batch.snapshots))
            return dg.Output(AutomationExport(index_id, name, batch), data_version=version)

    return collection


def _reconciliation(pipeline: Pipeline, index_id: str, name: str) -> dg.AssetsDefinition:
    collection = asset_key(index_id, "exports", name)

    @dg.multi_asset(
        name=reconciliation_name(index_id, name),
        outs={
            "reconciliation": dg.AssetOut(
                key=asset_key(index_id, "reconciliations", name),
                dagster_type=dg.Nothing,
                description=(
                    f"Compares the collection of automation {name} with index {index_id} and puts it right: delivers "
                    "what is missing or changed, writes again what is damaged. Says what it found."
                ),
                kinds={"verify"},
            )
        },
        deps=[dg.AssetDep(collection, partition_mapping=dg.AllPartitionMapping())],
        group_name=group_of(index_id),
        pool=destination_pool(index_id, name),
    )
    def reconciliation(context: dg.AssetExecutionContext) -> dg.Output[None]:
        with step_failures(context):
            sync_partitions(context.instance, index_id, pipeline.listing(index_id).runs)
            found, snapshots, deliveries = pipeline.reconcile(index_id, name, context.run.run_id)
            by_id = {snapshot.run_id: snapshot for snapshot in snapshots}
            for delivery in deliveries:
                for run in delivery.prompt_runs:
                    metadata = delivered_run_metadata(run, delivery, by_id[run.run_id], pipeline.store)
                    partition = partition_key(run.run_id)
                    context.log_event(materialization(collection, partition, metadata, run.data_version))
            if found.problems:
                context.log.warning("%d prompt runs could not be put right: %s", len(found.problems), found.problems)
            return dg.Output(None, metadata=reconciliation_metadata(found))

    return reconciliation


def _prompt_run_export(pipeline: Pipeline, index_id: str) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{dagster_name(index_id)}__prompt_run_export",
        outs={
            "export": dg.AssetOut(
                key=asset_key(index_id, "prompt_run_export"),
                description=(
                    f"Export on demand of single prompt runs of index {index_id}: choose partitions and, in the "
                    "launchpad, a destination. Each run gets a folder or a download of its own."
                ),
                io_manager_key=EXPORTS,
                kinds={"file"},
            )
        },
        deps=[asset_key(index_id, "prompt_runs")],
        group_name=group_of(index_id),
        partitions_def=partitions_of(index_id),
        backfill_policy=_BACKFILL,
        config_schema=_destination_fields(pipeline),
    )
    def prompt_run_export(context: dg.AssetExecutionContext) -> dg.Output[OnDemandExport]:
        with step_failures(context):
            config = context.op_execution_context.op_config
            run_ids = run_ids_of(context.partition_keys)
            request = _request("prompt_run", index_id, None, config)
            _tag(context, request, run_ids)
            pipeline.check_destination(request)
            snapshots = _snapshots(context, pipeline, pipeline.runs_named(index_id, run_ids))
            ids = export_ids(export_id_of(root_run_id(context.run)), run_ids)
            jobs = [
                ExportJob(ids[one.run_id], replace(request, prompt_run_ids=(one.run_id,)), [one]) for one in snapshots
            ]
            return dg.Output(OnDemandExport(jobs), data_version=dg.DataVersion(content_version(snapshots)))

    return prompt_run_export


def _index_export(pipeline: Pipeline, index_id: str) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{dagster_name(index_id)}__index_export",
        outs={
            "export": dg.AssetOut(
                key=asset_key(index_id, "index_export"),
                description=(
                    f"Export on demand of index {index_id}, the collection view: all finished prompt runs or chosen "
                    "ones, in one folder or download. Configure it in the launchpad."
                ),
                io_manager_key=EXPORTS,
                kinds={"file"},
            )
        },
        deps=[dg.AssetDep(asset_key(index_id, "prompt_runs"), partition_mapping=dg.AllPartitionMapping())],
        group_name=group_of(index_id),
        config_schema={
            "prompt_run_ids": dg.Field(
                dg.Noneable([str]),
                default_value=None,
                is_required=False,
                description="The prompt runs to export. null: all finished ones. An empty list is an error.",
            ),
            **_destination_fields(pipeline),
        },
    )
    def index_export(context: dg.AssetExecutionContext) -> dg.Output[OnDemandExport]:
        with step_failures(context):
            config = context.op_execution_context.op_config
            request = _request("index", index_id, config["prompt_run_ids"], config)
            _tag(context, request, [index_id])
            snapshots = _snapshots(context, pipeline, pipeline.check_export(request))
            return dg.Output(
                OnDemandExport([ExportJob(export_id_of(root_run_id(context.run)), request, snapshots)]),
                data_version=dg.DataVersion(content_version(snapshots)),
            )

    return index_export


def _destination_fields(pipeline: Pipeline) -> dict[str, dg.Field]:
    """Where an export goes. Plain strings, not ``str`` fields of dg.Config: those would let a launch read any
    environment variable into a path (``{env: NAME}``). No default is null: the launchpad would not show it."""
    connectors = sorted(key for key, connector in pipeline.connectors.items() if "export" in connector.scopes)
    if DOWNLOAD in connectors:
        problem = f"connectors.{DOWNLOAD}: this id means a download in the launchpad; choose another"
        raise ConfigurationError("configuration", [problem])
    choices = (DOWNLOAD, *connectors)
    # A process keeps one type of a name: another deployment's clients in it must not get these choices.
    name = f"Connector_{hashlib.sha256(repr(choices).encode()).hexdigest()[:8]}"
    return {
        "destination_connector_id": dg.Field(
            dg.Enum(name, [dg.EnumValue(choice) for choice in choices]),
            default_value=DOWNLOAD,
            is_required=False,
            description=f"The connector to deliver to; {DOWNLOAD}: make a download in the pipeline's storage.",
        ),
        "destination_subpath": dg.Field(
            str,
            default_value="",
            is_required=False,
            description="Folder below the connector's export_base_path; the export makes a folder of its own in it.",
        ),
        "format": dg.Field(
            dg.Enum("Format", [dg.EnumValue(name) for name in FORMATS]),
            default_value="parquet",
            is_required=False,
            description="File format.",
        ),
    }


def destination_config(request: ExportRequest) -> dict[str, str]:
    """The launch configuration of a request's destination."""
    return {
        "destination_connector_id": request.destination_connector_id or DOWNLOAD,
        "destination_subpath": request.destination_subpath or "",
        "format": request.format,
    }


def _request(
    export_type: ExportType, index_id: str, run_ids: Sequence[str] | None, config: Mapping[str, Any]
) -> ExportRequest:
    connector_id = config["destination_connector_id"]
    return ExportRequest(
        export_type=export_type,
        index_id=index_id,
        prompt_run_ids=None if run_ids is None else tuple(run_ids),
        destination_connector_id=None if connector_id == DOWNLOAD else connector_id,
        destination_subpath=config["destination_subpath"] or None,
        format=config["format"],
    )


def _snapshots(context: dg.AssetExecutionContext, pipeline: Pipeline, runs: Sequence[PromptRun]) -> list[Snapshot]:
    """Snapshots of the runs. Those that had to be taken show as materializations of ``prompt_runs`` too."""
    taken = pipeline.snapshots(runs)
    _log_fresh(context, pipeline, taken)
    return [one.snapshot for one in taken]


def _log_fresh(context: dg.AssetExecutionContext, pipeline: Pipeline, taken: Sequence[TakenSnapshot]) -> None:
    for one in taken:
        snapshot = one.snapshot
        if one.fresh:
            key = asset_key(snapshot.index_id, "prompt_runs")
            metadata = snapshot_metadata(snapshot, pipeline.store)
            partition = partition_key(snapshot.run_id)
            context.log_event(materialization(key, partition, metadata, snapshot.data_version))


def _tag(context: dg.AssetExecutionContext, request: ExportRequest, targets: Sequence[str]) -> None:
    """Make a launch findable as an export, wherever it was launched, and also where it fails."""
    tags = export_tags(root_run_id(context.run), request, targets)
    context.instance.add_run_tags(context.run.run_id, tags)


def _automation_description(index_id: str, name: str, config: AutomationConfig, uri: str) -> str:
    state = "is paused in the configuration" if config.paused else "delivers while its delivery sensor is switched on"
    if not config.enabled:
        state = "is disabled in the configuration"
    return (
        f"Collection of automation {name} of index {index_id}, kept at {uri}. The automation {state}. Prompt runs that "
        "were finished before it began are missing until a backfill delivers them."
    )
