"""Connectors as IO managers: an asset says what to export, storing its output is the delivery."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from vv_exports.automations.deliver import deliver_batch
from vv_exports.checks.index import checks_of_batch, checks_of_collection
from vv_exports.defs.checks import log_checks
from vv_exports.defs.dagster_internals import add_partition_metadata, step_of
from vv_exports.defs.datasets import Wanted, dataset_of
from vv_exports.defs.export_runs import failures_recorded
from vv_exports.defs.failures import PARTLY_FAILED, step_failures
from vv_exports.defs.keys import Names
from vv_exports.defs.metadata import (
    Metadata,
    batch_pace,
    collection_metadata,
    delivered_run_metadata,
    export_metadata,
    log_materialized,
    pace,
    snapshot_metadata,
)
from vv_exports.defs.notifications import telling
from vv_exports.defs.partitions import run_ids_of
from vv_exports.delivery.log import read_log
from vv_exports.domain.names import partition_key
from vv_exports.domain.tables import TABLES
from vv_exports.errors import NotFoundError, PartlyFailedError
from vv_exports.exports.make import ExportJob
from vv_exports.pipeline import Pipeline
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Batch

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class SnapshotBatch:
    """Output of ``prompt_runs``: the snapshots that could be taken, and how long that took."""

    index_id: str
    batch: Batch
    seconds: float


@dataclass(frozen=True)
class AutomationExport:
    """Output of an automation's asset: the snapshots that its collection should hold, as far as there are some."""

    index_id: str
    automation: str
    batch: Batch


@dataclass(frozen=True)
class OnDemandExport:
    """Output of an on-demand export asset: one job for each folder or download."""

    jobs: Sequence[ExportJob]


class SnapshotIOManager(dg.IOManager):
    """The pipeline's snapshots. They are written while they are read from the source, so storing only reports them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def handle_output(self, context: dg.OutputContext, obj: SnapshotBatch) -> None:
        """Report each snapshot on its partition, with its first rows as they are read back."""
        with step_failures(context):
            store, shown = self._pipeline.snapshots.store, self._pipeline.automations.shown(obj.index_id)
            metadata = {
                partition_key(snapshot.run_id): snapshot_metadata(snapshot, store, shown)
                for snapshot in obj.batch.snapshots
            }
            if rows := sum(_rows(one.snapshot) for one in obj.batch.taken if one.fresh):
                metadata[_last(context, metadata, obj.batch.problems)] |= batch_pace(rows, obj.seconds)
            now = self._pipeline.clock()
            log_checks(context.step_context, checks_of_batch(self._pipeline.snapshots, obj.index_id, obj.batch, now))
            _report(context, metadata, "read", obj.batch.problems)

    def load_input(self, context: dg.InputContext) -> list[Snapshot]:
        """The current snapshots of the partitions that a downstream asset asks for."""
        index_id = _stated(context, "vv_exports/index_id")
        found = {
            run_id: self._pipeline.snapshots.store.current(index_id, run_id)
            for run_id in run_ids_of(context.asset_partition_keys)
        }
        missing = [run_id for run_id, snapshot in found.items() if snapshot is None]
        if missing:
            raise NotFoundError(
                f"no snapshot of prompt runs {missing} of index {index_id!r}; materialize prompt_runs first"
            )
        return [snapshot for snapshot in found.values() if snapshot is not None]


class ConnectorIOManager(dg.IOManager):
    """Delivers to a connector: to the one of an automation, or to the one that an export on demand names."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def handle_output(self, context: dg.OutputContext, obj: AutomationExport | OnDemandExport) -> None:
        """Deliver, then report what the destination holds."""
        export_ids = [job.export_id for job in obj.jobs] if isinstance(obj, OnDemandExport) else []
        with failures_recorded(self._pipeline.exports, context.run_id, export_ids), step_failures(context):
            if isinstance(obj, AutomationExport):
                self._deliver_automation(context, obj)
            else:
                self._deliver_exports(context, obj)

    def load_input(self, context: dg.InputContext) -> "ds.Dataset":
        """The delivered segments as a pyarrow dataset, of the partitions asked for or of all that are delivered.

        Columns are those of the files; where prompts differ in schema, the dataset has the columns of all of them.
        ``AssetIn(metadata={"prompt_id": …})`` loads one prompt alone, and ``"folder"`` beside it one version of its
        table, such as segments.v2. Raises NotFoundError where nothing was delivered, DeliveredDataError where the
        files are no Parquet, or have types that no column holds together.
        """
        destination = self._pipeline.automations.get(
            _stated(context, "vv_exports/index_id"), _stated(context, "vv_exports/automation")
        ).destination
        state = read_log(destination)
        # An unpartitioned asset downstream asks for all partitions, those that Dagster does not know yet included.
        keys = context.asset_partition_keys if context.has_asset_partitions else ()
        wanted = run_ids_of(keys) or list(state.runs)
        missing = [run_id for run_id in wanted if run_id not in state.runs]
        if missing or not wanted:
            what = f"prompt runs {missing}" if missing else "anything"
            raise NotFoundError(f"{destination.uri} holds no delivery of {what}")
        files = [file for run_id in wanted for file in state.runs[run_id].files if file.table == "segments"]
        wanted_files = Wanted(_asked(context, "prompt_id"), _asked(context, "folder")).of(files, destination)
        return dataset_of(destination, wanted_files)

    def _deliver_automation(self, context: dg.OutputContext, obj: AutomationExport) -> None:
        pipeline = self._pipeline
        automation = pipeline.automations.get(obj.index_id, obj.automation)
        with telling(pipeline, Names.of(pipeline.config), step_of(context).instance, automation):
            began = time.monotonic()
            outcome = deliver_batch(automation, pipeline.deliveries, obj.batch, context.run_id)
            seconds = time.monotonic() - began
        snapshots = {snapshot.run_id: snapshot for snapshot in obj.batch.snapshots}
        metadata = {
            partition_key(run.run_id): delivered_run_metadata(
                run, delivery, snapshots[run.run_id], pipeline.snapshots.store, automation.content.selection
            )
            for delivery in outcome.deliveries
            for run in delivery.prompt_runs
        }
        problems = {**obj.batch.problems, **outcome.problems}
        if metadata:
            last = _last(context, metadata, problems)
            metadata[last] |= collection_metadata(automation.collection(), pipeline.clock())
            runs = [run for delivery in outcome.deliveries for run in delivery.prompt_runs if run.written]
            if runs:
                metadata[last] |= batch_pace(sum(run.rows() for run in runs), seconds)
        log_checks(context.step_context, checks_of_collection(automation, pipeline.clock()))
        _report(context, metadata, "delivered", problems)

    def _deliver_exports(self, context: dg.OutputContext, obj: OnDemandExport) -> None:
        pipeline = self._pipeline
        for job in obj.jobs:
            began = time.monotonic()
            outcome = pipeline.exports.make(job, context.run_id)
            seconds = time.monotonic() - began
            shown = pipeline.exports.content_of(job.request).selection
            metadata = export_metadata(outcome, job, pipeline.snapshots.store, shown)
            if outcome.delivery.committed:
                metadata |= pace(outcome.delivery.rows, seconds)
            segments = sum(run.rows("segments") for run in outcome.delivery.prompt_runs)
            if job.request.export_type == "index":
                context.add_output_metadata({**metadata, "dagster/row_count": segments})
                continue
            (snapshot,) = job.snapshots
            metadata |= {"data_version": snapshot.data_version, "dagster/partition_row_count": segments}
            partition = partition_key(snapshot.run_id)
            add_partition_metadata(context.step_context, context.asset_key, {partition: metadata})


def _last(context: dg.OutputContext, metadata: Mapping[str, Metadata], problems: Mapping[str, Exception]) -> str:
    """The partition that is materialized last: Dagster shows an asset by it."""
    return next(reversed(list(metadata))) if problems else context.asset_partition_keys[-1]


def _rows(snapshot: Snapshot) -> int:
    return sum(snapshot.rows(table) for table in TABLES)


def _report(
    context: dg.OutputContext, metadata: Mapping[str, Metadata], what: str, problems: Mapping[str, Exception]
) -> None:
    """Of each partition what became of it; then fail if some failed."""
    if problems:
        context.step_context.instance.add_run_tags(context.run_id, PARTLY_FAILED)
    if len(problems) == 1 and not metadata:
        raise next(iter(problems.values()))
    if problems:
        log_materialized(context.step_context, context.asset_key, metadata.items())
        raise PartlyFailedError(what, len(metadata), problems)
    add_partition_metadata(context.step_context, context.asset_key, metadata)


def _asked(context: dg.InputContext, name: str) -> str | None:
    """What the metadata of the input asks for."""
    value = (context.definition_metadata or {}).get(name)
    return None if value is None else str(value.value if isinstance(value, dg.MetadataValue) else value)


def _stated(context: dg.InputContext, name: str) -> str:
    """What the definition of the asset that is loaded says of itself."""
    upstream = context.upstream_output
    definition = upstream.definition_metadata if upstream is not None else {}
    if name not in definition:
        raise NotFoundError("only the prompt runs and the automations of vv_exports can be loaded by this IO manager")
    value = definition[name]
    return str(value.value if isinstance(value, dg.MetadataValue) else value)
