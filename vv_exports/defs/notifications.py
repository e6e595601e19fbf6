"""When people are told what is new of automations: by whoever changes something, at once, and by a sensor that looks at
all of them, which finds what a process that died did not tell, a switch in the UI, and what is to be tried again.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import Pause
from vv_exports.defs.intervals import delivery_interval
from vv_exports.defs.keys import Names
from vv_exports.defs.pauses import Switches, pause_in_force, switches_of
from vv_exports.errors import VVExportsError
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line

INTERVAL_SECONDS = 30
_TICK_SECONDS = 20.0
"""A tick that takes 60 s fails."""
_LOG = logging.getLogger(__name__)


@contextmanager
def telling(
    pipeline: Pipeline, names: Names, instance: dg.DagsterInstance | None, automation: Automation
) -> Iterator[None]:
    """Around what changes something of an automation: what became of it is told, also where it fails. It never fails
    for that: what could not be told is found by the next one who looks."""
    notifications, pause_of = pipeline.notifications, pauses(names, instance)
    if not notifications.are_wanted:
        yield
        return
    _guarded(automation.id, lambda: notifications.begin(automation, pause_of(automation)))
    try:
        yield
    finally:
        _guarded(automation.id, lambda: notifications.tell([automation], pause_of))


@contextmanager
def telling_of_the_source(pipeline: Pipeline, index_id: str) -> Iterator[None]:
    """Around a look at an index: that it fails, or does not any more, is told by the sensor."""
    try:
        yield
    except VVExportsError as error:
        failed = error  # the name of an except clause ends with it
        _guarded(index_id, lambda: pipeline.notifications.source_failed(index_id, failed))
        raise
    _guarded(index_id, lambda: pipeline.notifications.source_is_well(index_id))


def pauses(
    names: Names, instance: dg.DagsterInstance | None, switches: Switches | None = None
) -> Callable[[Automation], Pause | None]:
    """Who paused an automation, now. ``switches`` are those of the instance, where many are asked for."""

    def pause_of(automation: Automation) -> Pause | None:
        sensor = names.delivery_sensor(automation.index_id, automation.name)
        return pause_in_force(automation.config, automation.record.state().pause, instance, sensor, switches)

    return pause_of


def notification_sensors(pipeline: Pipeline, names: Names) -> list[dg.SensorDefinition]:
    """One, where somebody is to be told."""
    if not pipeline.notifications.are_wanted:
        return []

    @dg.sensor(
        name=names.notifications,
        description=(
            "Tells the targets of `notifications` in the configuration what is new of all automations, and sends again "
            "what did not arrive. Off, nothing is lost: what is new is told when it is on again, unless it is older "
            "than `give_up_after`."
        ),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=max(INTERVAL_SECONDS, delivery_interval(len(list(pipeline.automations)))),
    )
    def notifications(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        pause_of = pauses(names, context.instance, switches_of(context.instance))
        done = pipeline.notifications.tell(pipeline.automations, pause_of, _TICK_SECONDS)
        said = f"{counted(done.sent, 'message')} sent."
        for target, problem in done.problems.items():
            said += f" Target {target} was not told, which is tried again: {one_line(problem)}"
        return dg.SkipReason(said)

    return [notifications]


def _guarded(of: str, tell: Callable[[], object]) -> None:
    try:
        tell()
    except Exception:  # noqa: BLE001
        # Whatever it is, what was delivered is delivered, and what failed has an error of its own.
        _LOG.warning("what is new of %s is told later", one_line(of), exc_info=True)
