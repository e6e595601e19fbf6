"""The assets of one index: its prompt runs, its automations' collections, and the two exports on demand.

Operations have explicit names, since asset keys may hold what Dagster's names can't.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.deliver import take_snapshots
from vv_exports.automations.plan import AutomationPlan, plan_of
from vv_exports.automations.reconcile import Reconciliation, reconcile
from vv_exports.automations.repair import Repair, damage_of, listing_for, plan_repair, repair
from vv_exports.checks.index import checks_of_batch, checks_of_collection
from vv_exports.config import AutomationConfig
from vv_exports.defs.checks import checks_of_automation, checks_of_prompt_runs, evaluation, freshness_policy
from vv_exports.defs.content_fields import CONTENT_FIELDS, content_of
from vv_exports.defs.dagster_internals import step_of
from vv_exports.defs.dry_runs import DRY_RUN_FIELD, REPAIR_FIELD, damaged_files_of, is_dry_run, is_repair, show
from vv_exports.defs.export_runs import begin_exports, export_tags, failures_recorded, root_run_id
from vv_exports.defs.failures import step_failures
from vv_exports.defs.io_managers import AutomationExport, OnDemandExport, SnapshotBatch
from vv_exports.defs.keys import CONNECTOR, DOWNLOAD, Names, asset_key, destination_pool, reconciliation_key
from vv_exports.defs.metadata import (
    data_version,
    delivered_run_metadata,
    log_materialized,
    reconciliation_metadata,
    repair_metadata,
    snapshot_metadata,
)
from vv_exports.defs.notifications import telling
from vv_exports.defs.partitions import delivered_before, partitions_of, run_ids_of, sync_partitions
from vv_exports.defs.run_tags import with_route
from vv_exports.defs.single_assets import single_asset
from vv_exports.domain.exports import BESIDE, ExportRequest, ExportType, export_id_of, export_ids
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import ConfigurationError
from vv_exports.exports.make import ExportJob
from vv_exports.exports.plan import plan as plan_export
from vv_exports.pipeline import Pipeline
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Batch

PARTITIONS_PER_RUN = 100
"""A Dagster run costs seconds to start, a partition in it milliseconds; beyond this a failure repeats too much."""

_BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=PARTITIONS_PER_RUN)
_ALL = dg.AllPartitionMapping()
_AUTOMATION_EXPORT = dg.PythonObjectDagsterType(AutomationExport)
_SNAPSHOT_BATCH = dg.PythonObjectDagsterType(SnapshotBatch)
_KINDS = {"local_archive": "folder"}
_ON_DEMAND_EXPORT = dg.PythonObjectDagsterType(OnDemandExport)
_NOTHING = dg.Out(dg.Nothing, is_required=False)
_DRY_RUN_ALONE = dg.Field(DRY_RUN_FIELD)
_CHOSEN_RUNS = {
    "prompt_run_ids": dg.Field(
        dg.Noneable([str]),
        default_value=None,
        is_required=False,
        description="The prompt runs to export, such as [run_123, run_124]. null: all finished ones. An empty list is "
        "an error.",
    )
}


def assets_of(
    pipeline: Pipeline, names: Names, automations: Mapping[str, Sequence[Automation]]
) -> dict[str, list[dg.AssetsDefinition]]:
    """The assets of indexes and of their automations, by the index."""
    export = _export_fields(pipeline)
    of_runs, of_index = dg.Field(export), dg.Field({**_CHOSEN_RUNS, **export})
    return {
        index_id: [
            _prompt_runs(pipeline, names, index_id),
            *(_automation(pipeline, names, automation) for automation in of_it),
            *(_reconciliation(pipeline, names, automation) for automation in of_it),
            _prompt_run_export(pipeline, names, index_id, of_runs),
            _index_export(pipeline, names, index_id, of_index),
        ]
        for index_id, of_it in automations.items()
    }


def _prompt_runs(pipeline: Pipeline, names: Names, index_id: str) -> dg.AssetsDefinition:
    def prompt_runs(context: dg.AssetExecutionContext) -> dg.Output[SnapshotBatch]:
        with step_failures(context):
            began = time.monotonic()
            batch = pipeline.snapshots.of_ids(index_id, run_ids_of(context.partition_keys))
            seconds = time.monotonic() - began
            return dg.Output(SnapshotBatch(index_id, batch, seconds), data_version=data_version(batch.snapshots))

    return single_asset(
        dg.AssetSpec(
            asset_key(index_id, "prompt_runs"),
            description=f"Results of the prompt runs of index {index_id}: one partition, one snapshot.",
            metadata={"vv_exports/index_id": index_id, **_route(pipeline, index_id)},
            kinds={_KINDS.get(pipeline.config.source.kind, pipeline.config.source.kind), "parquet"},
            group_name=names.group(index_id),
            partitions_def=partitions_of(index_id),
        ),
        prompt_runs,
        op=names.op(index_id, "prompt_runs"),
        output=dg.Out(_SNAPSHOT_BATCH, io_manager_key=names.snapshots),
        backfill_policy=_BACKFILL,
        pool=names.source_pool(index_id),
        checks=checks_of_prompt_runs(index_id),
    )


def _automation(pipeline: Pipeline, names: Names, automation: Automation) -> dg.AssetsDefinition:
    index_id, name, config = automation.index_id, automation.name, automation.config
    connector, uri = automation.destination.connector, automation.destination.uri

    def collection(context: dg.AssetExecutionContext) -> dg.Output[AutomationExport] | None:
        with step_failures(context):
            if is_dry_run(context):
                show(context, [_planned(pipeline, automation, run_ids_of(context.partition_keys))])
                return None
            with telling(pipeline, names, context.instance, automation):  # of what keeps it from being delivered
                batch = take_snapshots(automation, run_ids_of(context.partition_keys), pipeline.clock())
            _log_fresh(context, pipeline, index_id, batch)
            version = data_version(batch.snapshots)
            return dg.Output(AutomationExport(index_id, name, batch), data_version=version)

    return single_asset(
        dg.AssetSpec(
            asset_key(index_id, "exports", name),
            description=_automation_description(index_id, name, config, uri),
            metadata={
                "vv_exports/index_id": index_id,
                "vv_exports/automation": name,
                CONNECTOR: config.destination_connector_id,
                "destination_uri": uri,
                **_route(pipeline, index_id, name),
            },
            kinds={connector.provider, config.content.format.name},
            owners=list(config.owners),
            tags=dict(config.tags),
            deps=[asset_key(index_id, "prompt_runs")],
            group_name=names.group(index_id),
            partitions_def=partitions_of(index_id),
            freshness_policy=freshness_policy(config),
        ),
        collection,
        op=names.collection_op(index_id, name),
        output=dg.Out(
            _AUTOMATION_EXPORT, io_manager_key=names.connectors[config.destination_connector_id], is_required=False
        ),
        config_schema=_DRY_RUN_ALONE,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=config.max_runs_per_delivery),
        pool=destination_pool(index_id, name),
        checks=checks_of_automation(index_id, name, config),
    )


def _reconciliation(pipeline: Pipeline, names: Names, automation: Automation) -> dg.AssetsDefinition:
    index_id, name, config = automation.index_id, automation.name, automation.config
    collection = asset_key(index_id, "exports", name)

    # Dagster shows the schedules of an asset only where they have jobs of their own.
    by_the_clock = ""
    if (schedule := config.schedule) is not None:
        by_the_clock = (
            f" By the clock: schedule {names.reconciliation(index_id, name)}, `{schedule.cron}` {schedule.timezone}."
        )

    def reconciliation(context: dg.AssetExecutionContext) -> dg.Output[None] | None:
        with step_failures(context):
            damage = None
            if not is_repair(context):
                listing = pipeline.indexes.listing(index_id)
            else:
                listing = listing_for(pipeline.indexes, index_id)
                before = delivered_before(context.instance, automation)
                damage = damage_of(automation, listing, pipeline.clock, before, damaged_files_of(context))
            if is_dry_run(context):
                plan = None if damage is None else plan_repair(damage, listing, pipeline.clock)
                show(context, [plan or _planned(pipeline, automation, None)])
                return None
            sync_partitions(context.instance, index_id, listing.runs)
            with telling(pipeline, names, context.instance, automation):
                found: Reconciliation | Repair = (
                    repair(damage, pipeline.deliveries, listing, context.run.run_id)
                    if damage is not None
                    else reconcile(automation, pipeline.deliveries, listing, context.run.run_id)
                )
            by_id = {snapshot.run_id: snapshot for snapshot in found.snapshots}
            delivered = (
                (
                    partition_key(run.run_id),
                    delivered_run_metadata(
                        run, delivery, by_id[run.run_id], pipeline.snapshots.store, automation.content.selection
                    ),
                )
                for delivery in found.deliveries
                for run in delivery.prompt_runs
            )
            log_materialized(step_of(context), collection, delivered)
            for outcome in checks_of_collection(automation, pipeline.clock()):
                context.log_event(evaluation(outcome))
            if found.problems:
                context.log.warning("%d prompt runs could not be put right: %s", len(found.problems), found.problems)
            metadata = repair_metadata(found) if isinstance(found, Repair) else reconciliation_metadata(found)
            return dg.Output(None, metadata=metadata)

    return single_asset(
        dg.AssetSpec(
            reconciliation_key(index_id, name),
            description=(
                f"Compares the collection of automation {name} with index {index_id} and puts it right: delivers "
                f"what is missing or changed, writes again what is damaged. Says what it found.{by_the_clock}"
            ),
            metadata={CONNECTOR: config.destination_connector_id, **_route(pipeline, index_id, name)},
            kinds={"verify"},
            deps=[dg.AssetDep(collection, partition_mapping=_ALL)],
            group_name=names.group(index_id),
        ),
        reconciliation,
        op=names.reconciliation(index_id, name),
        output=_NOTHING,
        config_schema=dg.Field({**DRY_RUN_FIELD, **REPAIR_FIELD}),
        pool=destination_pool(index_id, name),
    )


def _prompt_run_export(pipeline: Pipeline, names: Names, index_id: str, fields: dg.Field) -> dg.AssetsDefinition:
    def prompt_run_export(context: dg.AssetExecutionContext) -> dg.Output[OnDemandExport] | None:
        begun: dict[str, ExportRequest] = {}
        with step_failures(context):  # what is no request has no record
            request = _request("prompt_run", index_id, None, context.op_execution_context.op_config)
            if is_dry_run(context):
                each = [replace(request, prompt_run_ids=(one,)) for one in run_ids_of(context.partition_keys)]
                show(context, [plan_export(pipeline.exports, pipeline.snapshots, one) for one in each])
                return None
        with failures_recorded(pipeline.exports, context.run.run_id, begun), step_failures(context):
            run_ids = run_ids_of(context.partition_keys)
            _tag(context, request, run_ids)
            ids = export_ids(export_id_of(root_run_id(context.run)), run_ids)
            begun.update({ids[run_id]: replace(request, prompt_run_ids=(run_id,)) for run_id in run_ids})
            begin_exports(context, pipeline.exports, begun)
            pipeline.exports.check_request(request)
            snapshots = _snapshots(context, pipeline, pipeline.indexes.finished(index_id, run_ids), request)
            jobs = [ExportJob(ids[one.run_id], begun[ids[one.run_id]], [one]) for one in snapshots]
            return dg.Output(OnDemandExport(jobs), data_version=data_version(snapshots))

    return single_asset(
        dg.AssetSpec(
            asset_key(index_id, "prompt_run_export"),
            description=(
                f"Export on demand of single prompt runs of index {index_id}: choose partitions and, in the "
                "launchpad, a destination. Each run gets a folder or a download of its own."
            ),
            metadata=_route(pipeline, index_id),
            kinds={"file"},
            deps=[asset_key(index_id, "prompt_runs")],
            group_name=names.group(index_id),
            partitions_def=partitions_of(index_id),
        ),
        prompt_run_export,
        op=names.op(index_id, "prompt_run_export"),
        output=dg.Out(_ON_DEMAND_EXPORT, io_manager_key=names.exports, is_required=False),
        config_schema=fields,
        backfill_policy=_BACKFILL,
    )


def _index_export(pipeline: Pipeline, names: Names, index_id: str, fields: dg.Field) -> dg.AssetsDefinition:
    def index_export(context: dg.AssetExecutionContext) -> dg.Output[OnDemandExport] | None:
        export_id = export_id_of(root_run_id(context.run))
        with step_failures(context):
            config = context.op_execution_context.op_config
            request = _request("index", index_id, config["prompt_run_ids"], config)
            if is_dry_run(context):
                show(context, [plan_export(pipeline.exports, pipeline.snapshots, request)])
                return None
        with failures_recorded(pipeline.exports, context.run.run_id, [export_id]), step_failures(context):
            _tag(context, request, [index_id])
            begin_exports(context, pipeline.exports, {export_id: request})
            snapshots = _snapshots(context, pipeline, pipeline.exports.decided(export_id, request), request)
            return dg.Output(
                OnDemandExport([ExportJob(export_id, request, snapshots)]),
                data_version=data_version(snapshots),
            )

    return single_asset(
        dg.AssetSpec(
            asset_key(index_id, "index_export"),
            description=(
                f"Export on demand of index {index_id}, the collection view: all finished prompt runs or chosen "
                "ones, in one folder or download. Configure it in the launchpad."
            ),
            metadata=_route(pipeline, index_id),
            kinds={"file"},
            deps=[dg.AssetDep(asset_key(index_id, "prompt_runs"), partition_mapping=_ALL)],
            group_name=names.group(index_id),
        ),
        index_export,
        op=names.op(index_id, "index_export"),
        output=dg.Out(_ON_DEMAND_EXPORT, io_manager_key=names.exports, is_required=False),
        config_schema=fields,
    )


def _export_fields(pipeline: Pipeline) -> dict[str, dg.Field]:
    """Where an export goes, and what it holds. Plain strings, not ``str`` fields of dg.Config: those would let a launch
    read any environment variable into a path (``{env: NAME}``). No default is null: the launchpad would not show it."""
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
            description="Folder below the connector's export_base_path, such as exports/editorial. The export makes a "
            "folder of its own in it.",
        ),
        **CONTENT_FIELDS,
        "bag": dg.Field(
            bool,
            default_value=False,
            is_required=False,
            description="Whether the export is a bag of BagIt, which archives take in.",
        ),
        "dataset_card": dg.Field(
            bool,
            default_value=False,
            is_required=False,
            description="Whether a dataset card is beside the tables: README.md, for Hugging Face too, and "
            "croissant.json. Of Parquet alone.",
        ),
        **DRY_RUN_FIELD,
    }


def launch_config(request: ExportRequest) -> dict[str, Any]:
    """The launch configuration of a request: where to, and what of."""
    return {
        "destination_connector_id": request.destination_connector_id or DOWNLOAD,
        "destination_subpath": request.destination_subpath or "",
        **request.content.chosen,
        **{name: True for name in BESIDE if getattr(request, name)},
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
        content=content_of(config),
        bag=config["bag"],
        dataset_card=config["dataset_card"],
    )


def _route(pipeline: Pipeline, index_id: str, automation: str | None = None) -> dict[str, dg.MetadataValue]:
    """By which the queue finds the tags of runs."""
    index = pipeline.config.index(index_id)
    return with_route(index.run_tags if automation is None else index.run_tags_of(automation))


def _planned(pipeline: Pipeline, automation: Automation, run_ids: Sequence[str] | None) -> AutomationPlan:
    """What delivering these runs, or all that is due, comes to."""
    return plan_of(automation, pipeline.indexes.listing(automation.index_id), pipeline.clock, run_ids)


def _snapshots(
    context: dg.AssetExecutionContext, pipeline: Pipeline, runs: Sequence[PromptRun], request: ExportRequest
) -> list[Snapshot]:
    """Snapshots of the runs, for an export. Those that had to be taken show as materializations of ``prompt_runs``
    too."""
    taken = pipeline.snapshots.of_runs(runs, answers=not request.content.format.has_columns)
    _log_fresh(context, pipeline, request.index_id, Batch(taken, {}))
    return [one.snapshot for one in taken]


def _log_fresh(context: dg.AssetExecutionContext, pipeline: Pipeline, index_id: str, batch: Batch) -> None:
    """Show what was read for another asset at ``prompt_runs`` too, and how the check there stands by now."""
    fresh = Batch([one for one in batch.taken if one.fresh], batch.problems)
    if fresh.taken or fresh.problems:
        for outcome in checks_of_batch(pipeline.snapshots, index_id, fresh, pipeline.clock()):
            context.log_event(evaluation(outcome))
    store, shown = pipeline.snapshots.store, pipeline.automations.shown(index_id)
    taken = ((partition_key(one.run_id), snapshot_metadata(one, store, shown)) for one in fresh.snapshots)
    log_materialized(step_of(context), asset_key(index_id, "prompt_runs"), taken)


def _tag(context: dg.AssetExecutionContext, request: ExportRequest, targets: Sequence[str]) -> None:
    """Make a launch findable as an export, wherever it was launched, and also where it fails."""
    tags = export_tags(root_run_id(context.run), request, targets)
    context.instance.add_run_tags(context.run.run_id, tags)


def _automation_description(index_id: str, name: str, config: AutomationConfig, uri: str) -> str:
    state = "is paused in the configuration" if config.paused else f"delivers {config.by_itself}"
    if not config.enabled:
        state = "is disabled in the configuration"
    history = (
        "It delivers all finished prompt runs, those from before it began too."
        if config.start == "beginning"
        else "Prompt runs that were finished before it began are missing until a backfill delivers them."
    )
    return f"Collection of automation {name} of index {index_id}, kept at {uri}. The automation {state}. {history}"
