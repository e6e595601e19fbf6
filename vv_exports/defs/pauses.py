"""Whether an automation is paused: the switch that the Dagster UI shows at its sensor, beside what is recorded.

A pause is kept in the pipeline's storage too, with who and why; this says which of the two is in force.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from vv_exports.automations.records import Pause
from vv_exports.config import AutomationConfig
from vv_exports.defs.dagster_internals import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)

Switches = Mapping[str, InstigatorState]
SWITCHED_OFF = "the sensor's switch"


def switches_of(instance: dg.DagsterInstance | None) -> Switches:
    """The switches of all sensors, each by its sensor's name. Without an instance there are none."""
    if instance is None or instance.schedule_storage is None:  # one in memory, which no daemon looks at
        return {}
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return {state.instigator_name: state for state in reversed(states)}


def pause_in_force(
    config: AutomationConfig,
    recorded: Pause | None,
    instance: dg.DagsterInstance | None,
    sensor: str,
    switches: Switches | None = None,
) -> Pause | None:
    """Why an automation waits, None where it does not. ``switches`` are those of the instance, where they were read
    already: Dagster reads all of them for one.

    The configuration wins. A recorded pause holds until it is lifted, or until somebody switches the sensor on after
    it: that is how it is resumed in the UI. A daemon that sees a sensor for the first time, since Dagster's database
    was lost, notes a start too, and nobody has switched anything on.
    """
    state = (switches_of(instance) if switches is None else switches).get(sensor)
    started = _started_at(state)
    if config.paused:
        return Pause(at=datetime.fromtimestamp(0, UTC), by="the configuration", reason="`paused: true`")
    if state is not None and state.status == InstigatorStatus.STOPPED:
        return recorded or Pause(at=datetime.fromtimestamp(0, UTC), by=SWITCHED_OFF, reason="it is off")
    is_switched_on = state is not None and state.status == InstigatorStatus.RUNNING
    if recorded is not None and is_switched_on and started is not None and started > recorded.at:
        return None
    return recorded


def set_switch(instance: dg.DagsterInstance, sensor: str, *, on: bool) -> None:
    """Turn a sensor on or off as the UI does. One that no daemon has seen yet has no switch: it takes the default."""
    state = switches_of(instance).get(sensor)
    if state is None:
        return
    if on and state.status == InstigatorStatus.STOPPED:
        data = state.sensor_instigator_data or SensorInstigatorData()
        now = datetime.now(UTC).timestamp()
        instance.update_instigator_state(
            state.with_status(InstigatorStatus.RUNNING).with_data(data.with_sensor_start_timestamp(now))
        )
    elif not on and state.status != InstigatorStatus.STOPPED:
        instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))


def _started_at(state: InstigatorState | None) -> datetime | None:
    data = state.sensor_instigator_data if state is not None else None
    started = data.last_sensor_start_timestamp if data is not None else None
    return None if started is None else datetime.fromtimestamp(started, UTC)
