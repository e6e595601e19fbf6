"""The schedules: one for each automation that has one, which puts its collection right by the clock."""

from collections.abc import Mapping

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.defs.dagster_internals import IMPLICIT_ASSET_JOB_NAME
from vv_exports.defs.keys import Names, reconciliation_key
from vv_exports.defs.pauses import pause_in_force


def reconciliation_schedule(
    names: Names, automation: Automation, route: Mapping[str, str]
) -> dg.ScheduleDefinition | None:
    """None where the configuration has none. Its runs have the tags of ``route``. Of ticks that were missed, Dagster
    makes up for the last one."""
    index_id, name, config = automation.index_id, automation.name, automation.config
    if config.schedule is None:
        return None
    active = config.enabled and not config.paused
    asset = reconciliation_key(index_id, name)

    @dg.schedule(
        name=names.reconciliation(index_id, name),
        # Dagster shows the target of a schedule only where that has a job of its own, which would cost more with every
        # other asset that there is.
        description=(
            f"Puts the collection of automation {name} of index {index_id} right by the clock: materializes "
            f"{asset.to_user_string()}."
        ),
        job_name=IMPLICIT_ASSET_JOB_NAME,
        cron_schedule=config.schedule.cron,
        execution_timezone=config.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if active else dg.DefaultScheduleStatus.STOPPED,
    )
    def reconciliation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        recorded = automation.record.state().pause
        pause = pause_in_force(config, recorded, context.instance, names.delivery_sensor(index_id, name))
        if not config.enabled:
            return dg.SkipReason("The automation is disabled in the configuration.")
        if pause is not None:
            return dg.SkipReason(f"The automation is paused by {pause.by}: {pause.reason}.")
        return dg.RunRequest(asset_selection=[asset], tags=dict(route))

    return reconciliation
