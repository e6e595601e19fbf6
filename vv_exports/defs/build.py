"""A pipeline as Dagster definitions. Touches neither storage nor network."""

import dagster as dg

from vv_exports.defs.assets import all_assets
from vv_exports.defs.io_managers import ConnectorIOManager, SnapshotIOManager
from vv_exports.defs.keys import EXPORTS, SNAPSHOTS, Names
from vv_exports.defs.notifications import notification_sensors
from vv_exports.defs.schedules import reconciliation_schedule
from vv_exports.defs.sensors import delivery_sensor, discovery_sensor
from vv_exports.defs.turns import Turns, seconds_between
from vv_exports.pipeline import Pipeline


def build_definitions(pipeline: Pipeline) -> dg.Definitions:
    """Assets, sensors and connectors of every configured index."""
    names = Names.of(pipeline.config)
    turns = Turns(seconds_between([index.discovery_interval_seconds for index in pipeline.config.indexes.values()]))
    return dg.Definitions(
        assets=all_assets(pipeline, names),
        sensors=[
            *(discovery_sensor(pipeline, names, turns, index_id) for index_id in pipeline.config.indexes),
            *(delivery_sensor(pipeline, names, automation) for automation in pipeline.automations),
            *notification_sensors(pipeline, names),
        ],
        schedules=[
            schedule
            for automation in pipeline.automations
            if (schedule := reconciliation_schedule(names, automation)) is not None
        ],
        resources={
            SNAPSHOTS: SnapshotIOManager(pipeline),
            EXPORTS: ConnectorIOManager(pipeline),
            **{name: ConnectorIOManager(pipeline) for name in names.connectors.values()},
        },
        # One process for a run: a step process of its own would cost seconds more and outlive a killed run.
        executor=dg.in_process_executor,
    )
