"""A pipeline as Dagster definitions. Touches neither storage nor network."""

from collections.abc import Iterable, Sequence

import dagster as dg

from vv_exports.defs.assets import assets_of
from vv_exports.defs.io_managers import ConnectorIOManager, SnapshotIOManager
from vv_exports.defs.keys import Names
from vv_exports.defs.notifications import notification_sensors
from vv_exports.defs.schedules import reconciliation_schedule
from vv_exports.defs.sensors import delivery_sensor, discovery_sensor
from vv_exports.defs.turns import Turns, seconds_between
from vv_exports.pipeline import Pipeline


def build_definitions(pipeline: Pipeline) -> dg.Definitions:
    """Assets, sensors and connectors of every configured index: all that a deployment of its own needs."""
    of_all = IndexDefinitions(pipeline, Names.of(pipeline.config), pipeline.config.indexes).all()
    # One process for a run: a step process of its own would cost seconds more and outlive a killed run.
    return dg.Definitions.merge(of_all, dg.Definitions(executor=dg.in_process_executor))


class IndexDefinitions:
    """The definitions of indexes of one pipeline, index by index. They share their resources, as Dagster asks of
    definitions that are merged; what there is once for all of them is with those of the first."""

    def __init__(self, pipeline: Pipeline, names: Names, index_ids: Iterable[str]) -> None:
        self._automations = {
            index_id: [pipeline.automations.get(index_id, name) for name in pipeline.config.index(index_id).automations]
            for index_id in index_ids
        }
        self._pipeline, self._names = pipeline, names
        self._assets = assets_of(pipeline, names, self._automations)
        intervals = [pipeline.config.index(index_id).discovery_interval_seconds for index_id in self._automations]
        self._turns = Turns(seconds_between(intervals))
        self._of_all = notification_sensors(pipeline, names)
        self._resources = {
            names.snapshots: SnapshotIOManager(pipeline),
            names.exports: ConnectorIOManager(pipeline),
            **{name: ConnectorIOManager(pipeline) for name in names.connectors.values()},
        }

    def all(self) -> dg.Definitions:
        """Those of all indexes."""
        return self._of(self._automations, self._of_all)

    def of_index(self, index_id: str) -> dg.Definitions:
        """Those of one index."""
        is_first = index_id == next(iter(self._automations))
        return self._of([index_id], self._of_all if is_first else [])

    def _of(self, index_ids: Iterable[str], further: Sequence[dg.SensorDefinition]) -> dg.Definitions:
        pipeline, names = self._pipeline, self._names
        automations = [automation for index_id in index_ids for automation in self._automations[index_id]]
        schedules = [
            reconciliation_schedule(names, one, pipeline.config.index(one.index_id).run_tags_of(one.name))
            for one in automations
        ]
        return dg.Definitions(
            assets=[asset for index_id in index_ids for asset in self._assets[index_id]],
            sensors=[
                *(discovery_sensor(pipeline, names, self._turns, index_id) for index_id in index_ids),
                *(delivery_sensor(pipeline, names, automation) for automation in automations),
                *further,
            ],
            schedules=[schedule for schedule in schedules if schedule is not None],
            resources=self._resources,
        )
