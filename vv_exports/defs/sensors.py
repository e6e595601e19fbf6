"""The sensors: one for each index that discovers prompt runs, one for each automation that delivers them.

What is to be done is decided elsewhere, from what there is and what the delivery log says; a sensor asks, and turns the
answer into requests. It keeps no cursor: losing Dagster's database loses nothing and delivers nothing twice.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import AutomationRecord, Pause
from vv_exports.checks.index import freshness_of, tables_of
from vv_exports.checks.outcome import CheckOutcome
from vv_exports.config import AutomationConfig
from vv_exports.defs.automation_runs import delivery_tags, reason_to_wait, requests_of, snapshot_tags
from vv_exports.defs.checks import news_of
from vv_exports.defs.instance import warn_of_other_instances
from vv_exports.defs.keys import Names, asset_key, destination_pool
from vv_exports.defs.limits import warn_of_missing_limits
from vv_exports.defs.lost_runs import close_lost
from vv_exports.defs.notifications import telling_of_the_source
from vv_exports.defs.partitions import Partitions, stretches
from vv_exports.defs.pauses import pause_in_force, set_switch
from vv_exports.defs.run_tags import shown
from vv_exports.defs.turns import AT_ONCE, Turns
from vv_exports.defs.upstream_deletions import ErasedUpstream, at_work, erase_deleted_upstream, mark_gone
from vv_exports.domain.failures import wait_for_a_whole_one
from vv_exports.errors import UnreadableRunsError, VVExportsError
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line
from vv_exports.snapshots.catalog import SeenRun
from vv_exports.sources.base import Listed

DELIVERY_INTERVAL_SECONDS = 10
SNAPSHOTS_PER_RUN = 100
_RUNS_PER_TICK = 10
_NAMED = 5


def discovery_sensor(pipeline: Pipeline, names: Names, turns: Turns, index_id: str) -> dg.SensorDefinition:
    """Looks for new and changed runs of an index. Runs from the daemon's start, so the UI needs no step before it."""
    key = asset_key(index_id, "prompt_runs")
    pools = [destination_pool(index_id, name) for name in pipeline.config.index(index_id).automations]

    @dg.sensor(
        name=names.discovery_sensor(index_id),
        description=(
            f"Adds a partition for each finished prompt run of index {index_id}, and has those read that an automation "
            "follows and that are new or changed."
        ),
        asset_selection=[key],
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=pipeline.config.index(index_id).discovery_interval_seconds,
    )
    def discovery(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        warn_of_other_instances(context.instance, os.environ, pipeline.config.folder or Path.cwd())
        warn_of_missing_limits(context.instance, pools)
        close_lost(context.instance, pipeline.clock(), pipeline.config.indexes)
        pipeline.automations.replay_logs(index_id)
        with turns.turn() as is_its_turn:
            if not is_its_turn:
                return dg.SkipReason(f"{AT_ONCE} other indexes are being listed; the next tick tries again.")
            with telling_of_the_source(pipeline, index_id):
                listing = pipeline.snapshots.look(index_id, pipeline.indexes.each_run(index_id))
        runs = listing.runs
        partitions = Partitions(context.instance, index_id)
        new = partitions.add(runs)
        now = pipeline.clock()
        pipeline.automations.begin(index_id, listing, now)
        pipeline.snapshots.note_unreadable(index_id, listing)
        lost, events = mark_gone(pipeline, partitions, index_id, listing)
        erased = _erased_upstream(pipeline, names, context, index_id, listing)
        events += erased.events
        to_read = pipeline.automations.to_read(index_id, listing, now)
        said = " ".join(
            [
                _discovered(len(new), listing, to_read.failing, lost),
                *(f"{one}." for one in (*erased.said, *erased.not_erased)),
            ]
        )
        requests: list[dg.RunRequest] = []
        if to_read.due:
            tags = snapshot_tags(index_id)
            route = pipeline.config.index(index_id).run_tags
            waits = reason_to_wait(context.instance, tags, now)
            said += f" {len(to_read.due)} are to be read. {waits or ''}".rstrip()
            if waits is None:
                ranges = stretches(context.instance, index_id, to_read.due, SNAPSHOTS_PER_RUN)
                requests = requests_of(key, ranges[:_RUNS_PER_TICK], {**route, **tags})
        if listing.problems:
            # A tick that fails asks for nothing, so what there is to do is done first.
            if not requests and not events:
                raise UnreadableRunsError("listed", len(runs), listing.problems)
            context.log.error("%s", UnreadableRunsError("listed", len(runs), listing.problems))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(said),
            asset_events=events,
        )

    return discovery


def delivery_sensor(pipeline: Pipeline, names: Names, automation: Automation) -> dg.SensorDefinition:
    """Delivers what an automation owes. Its switch is the automation's pause."""
    index_id, name, config = automation.index_id, automation.name, automation.config
    route = pipeline.config.index(index_id).run_tags_of(name)
    key = asset_key(index_id, "exports", name)
    sensor = names.delivery_sensor(index_id, name)
    active = config.enabled and not config.paused
    state = "It is disabled in the configuration." if not config.enabled else "It is paused in the configuration."

    @dg.sensor(
        name=sensor,
        description=(
            f"Delivers finished prompt runs of index {index_id} to automation {name}'s collection, {config.by_itself}. "
            "The switch is the automation's pause: off, it keeps its place; on again, it delivers what has finished "
            f"meanwhile.{'' if active else f' {state}'}"
        ),
        asset_selection=[key],
        default_status=dg.DefaultSensorStatus.RUNNING if active else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=DELIVERY_INTERVAL_SECONDS,
    )
    def delivery(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = pipeline.clock()
        close_lost(context.instance, now, pipeline.config.indexes)
        asked = to_deliver(context, now)
        # Nothing else comes by where nothing is delivered.
        asked = _with_tables(automation, context, asked, now)
        return asked if config.expect_every is None else _with_freshness(automation, context, asked, now)

    def to_deliver(context: dg.SensorEvaluationContext, now: datetime) -> dg.SensorResult | dg.SkipReason:
        waits = _reason_to_wait(automation, context.instance, sensor, now)
        if waits is not None:
            return dg.SkipReason(waits)
        try:
            owed = automation.standings(pipeline.snapshots.kept(index_id))
        except VVExportsError as error:
            automation.failed(error, now)
            raise
        due = owed.due(now)
        said = _said(len(due), "to be delivered")
        for what, run_ids in (
            ("held", owed.of("held")),
            ("failing", owed.waiting(now)),
            ("gone before delivery", owed.of("gone")),
        ):
            if run_ids:
                said += f" {_said(len(run_ids), what)} {_few(run_ids)}."
        waits = reason_to_wait(context.instance, shown({"automation": automation.id}), now)
        if not due or waits is not None:
            return dg.SkipReason(f"{said} {waits or ''}".strip())
        # What is due for its shape alone comes after what is new.
        first, *_ = owed.batches(due, len(due))
        ranges = stretches(context.instance, index_id, first, config.max_runs_per_delivery)
        tags = delivery_tags(index_id, name, config.destination_connector_id)
        return dg.SensorResult(run_requests=requests_of(key, ranges[:_RUNS_PER_TICK], {**route, **tags}))

    return delivery


def _with_freshness(
    automation: Automation,
    context: dg.SensorEvaluationContext,
    asked: dg.SensorResult | dg.SkipReason,
    now: datetime,
) -> dg.SensorResult | dg.SkipReason:
    """The same, and whether the collection is fresh, where that is not as it was. One that is disabled is not watched;
    a paused one's switch is off, and the sensor does not come here."""
    if not automation.config.enabled:
        return asked
    try:
        outcome = freshness_of(automation, now)
    except VVExportsError as error:  # the delivery itself tells of it, and is tried again
        context.log.warning("whether the collection is fresh is not known: %s", error)
        return asked
    return _with_news(context, asked, outcome)


def _with_tables(
    automation: Automation,
    context: dg.SensorEvaluationContext,
    asked: dg.SensorResult | dg.SkipReason,
    now: datetime,
) -> dg.SensorResult | dg.SkipReason:
    """The same, and tables that are behind the log are brought on, where no run does that."""
    if not (automation.tables.formats and automation.config.enabled) or isinstance(asked, dg.SensorResult):
        return asked
    try:
        last_entry = automation.holdings().next_sequence - 1
        if last_entry < 0 or not automation.tables.is_to_follow(automation.destination, last_entry, now):
            return asked
        automation.follow_tables()
        outcome = tables_of(automation)
    except VVExportsError as error:  # the delivery itself tells of it, and is tried again
        context.log.warning("whether tables follow the delivery log is not known: %s", error)
        return asked
    return _with_news(context, asked, outcome)


def _with_news(
    context: dg.SensorEvaluationContext, asked: dg.SensorResult | dg.SkipReason, outcome: CheckOutcome | None
) -> dg.SensorResult | dg.SkipReason:
    news = [] if outcome is None else news_of(context.instance, outcome)
    if not news:
        return asked
    if isinstance(asked, dg.SkipReason):
        return dg.SensorResult(skip_reason=asked, asset_events=news)
    return dg.SensorResult(
        run_requests=asked.run_requests, skip_reason=asked.skip_reason, asset_events=[*asked.asset_events, *news]
    )


def _reason_to_wait(automation: Automation, instance: dg.DagsterInstance, sensor: str, now: datetime) -> str | None:
    """Why an automation delivers nothing now, whatever there is."""
    config, record = automation.config, automation.record
    if not config.enabled:
        return "Disabled in the configuration; set `enabled: true` to let it deliver."
    pause = _pause(record, config, instance, sensor)
    if pause is not None:
        return f"Paused by {pause.by}: {pause.reason}. It keeps its place."
    if record.beginning() is None:
        return "It begins when the index was looked at for the first time."
    if config.trigger != "finished":
        return f"It delivers by itself {config.by_itself}."
    failing = record.state().failing
    if failing is not None and now < (again := failing.last_at + wait_for_a_whole_one(failing.attempts)):
        return f"The next attempt is at {again:%Y-%m-%d %H:%M:%S} UTC. {failing.message}"
    return None


def _pause(
    record: AutomationRecord, config: AutomationConfig, instance: dg.DagsterInstance, sensor: str
) -> Pause | None:
    """Who paused it. Makes the switch and the record say the same, whichever of them was changed."""
    recorded = record.state().pause
    pause = pause_in_force(config, recorded, instance, sensor)
    if recorded is not None and pause is None:
        record.resume()
    elif recorded is not None:
        set_switch(instance, sensor, on=False)
    return pause


def _erased_upstream(
    pipeline: Pipeline, names: Names, context: dg.SensorEvaluationContext, index_id: str, listing: Listed[SeenRun]
) -> ErasedUpstream:
    """What is deleted upstream and erased here. That it cannot be done does not keep the index from being read."""
    try:
        automations = at_work(pipeline, names, context.instance, index_id)
        erased = erase_deleted_upstream(pipeline, context.instance, index_id, listing, automations)
    except VVExportsError as error:
        why = f"what is deleted upstream is not erased, until a later look: {error}"
        context.log.warning("%s", why)
        return ErasedUpstream(not_erased=(why,))
    for one in (*erased.said, *erased.not_erased):
        context.log.warning("%s", one)
    return erased


def _discovered(new: int, listing: Listed[SeenRun], failing: Sequence[str], lost: Sequence[str]) -> str:
    """What a look at an index has found."""
    runs, problems = listing.runs, list(listing.problems)
    said = f"{new} new of {sum(run.deliverable for run in runs)} finished prompt runs; {len(runs)} in all."
    if failing:
        said += f" {len(failing)} could not be read and are tried again: {_few(failing)}."
    if lost:
        said += f" {len(lost)} are gone from the source: {_few(lost)}."
    if problems:
        said += f" The record of {len(problems)} cannot be read: {_few(problems)}."
    return said


def _said(count: int, what: str) -> str:
    return f"{count} prompt run{'' if count == 1 else 's'} {what}."


def _few(run_ids: Sequence[str]) -> str:
    more = f" and {len(run_ids) - _NAMED} more" if len(run_ids) > _NAMED else ""
    return ", ".join(map(one_line, run_ids[:_NAMED])) + more
