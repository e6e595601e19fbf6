"""The on-off switch that the Dagster UI shows at a sensor, read and set from elsewhere.

A pause is kept in the pipeline's storage too, with who and why; this says which of the two is in force.
"""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from vv_exports.automations.records import Pause
from vv_exports.config import AutomationConfig

SWITCHED_OFF = "the sensor's switch"


def pause_in_force(
    config: AutomationConfig, recorded: Pause | None, instance: dg.DagsterInstance | None, sensor: str
) -> Pause | None:
    """Why an automation waits, None where it does not. Without an instance there is no switch.

    The configuration wins. A recorded pause holds until it is lifted, or until somebody switches the sensor on after
    it: that is how it is resumed in the UI. A daemon that sees a sensor for the first time, since Dagster's database
    was lost, notes a start too, and nobody has switched anything on.
    """
    state = _state(instance, sensor)
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
    state = _state(instance, sensor)
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


def _state(instance: dg.DagsterInstance | None, sensor: str) -> InstigatorState | None:
    if instance is None or instance.schedule_storage is None:  # one in memory, which no daemon looks at
        return None
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return next((state for state in states if state.instigator_name == sensor), None)


def _started_at(state: InstigatorState | None) -> datetime | None:
    data = state.sensor_instigator_data if state is not None else None
    started = data.last_sensor_start_timestamp if data is not None else None
    return None if started is None else datetime.fromtimestamp(started, UTC)
