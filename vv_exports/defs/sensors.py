"""Discovery: finished prompt runs become partitions, so that the UI shows what can be exported."""

import dagster as dg

from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import sync_partitions
from vv_exports.domain.names import dagster_name
from vv_exports.pipeline import Pipeline

_INTERVAL_SECONDS = 30


def discovery_sensor(pipeline: Pipeline, index_id: str) -> dg.SensorDefinition:
    """Looks for finished runs of an index. Runs from the daemon's start, so the UI needs no step before it."""

    @dg.sensor(
        name=f"{dagster_name(index_id)}__discovery",
        description=f"Adds a partition for each finished prompt run of index {index_id}.",
        target=dg.AssetSelection.assets(asset_key(index_id, "prompt_runs")),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=_INTERVAL_SECONDS,
    )
    def discovery(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        runs = pipeline.prompt_runs(index_id)
        new = sync_partitions(context.instance, index_id, runs)
        finished = sum(run.deliverable for run in runs)
        return dg.SkipReason(f"{len(new)} new of {finished} finished prompt runs; {len(runs)} in all.")

    return discovery
