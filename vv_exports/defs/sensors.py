"""The sensors: one for each index that discovers prompt runs, one for each automation that delivers them.

What is to be done is decided elsewhere, from what there is and what the delivery log says; a sensor asks, and turns the
answer into requests. It keeps no cursor: losing Dagster's database loses nothing and delivers nothing twice.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import Pause
from vv_exports.automations.standing import Standings
from vv_exports.checks.index import freshness_of, tables_of
from vv_exports.checks.outcome import CheckOutcome
from vv_exports.defs.automation_runs import delivery_tags, reason_to_wait, requests_of, snapshot_tags
from vv_exports.defs.checks import news_of
from vv_exports.defs.instance import warn_of_other_instances
from vv_exports.defs.keys import Names, asset_key, destination_pool
from vv_exports.defs.limits import warn_of_missing_limits
from vv_exports.defs.notifications import telling_of_the_source
from vv_exports.defs.partitions import Partitions, stretches
from vv_exports.defs.pauses import pause_in_force, set_switch
from vv_exports.defs.quiet import LOOK_ANEW, Moment, Quiet
from vv_exports.defs.run_tags import shown
from vv_exports.defs.turns import AT_ONCE, Turns
from vv_exports.defs.upstream_deletions import ErasedUpstream, at_work, erase_deleted_upstream, mark_gone
from vv_exports.domain.failures import wait_for_a_whole_one
from vv_exports.errors import UnreadableRunsError, VVExportsError
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line
from vv_exports.snapshots.catalog import SeenRun
from vv_exports.sources.base import Listed
from vv_exports.upstream_deletions import erasing

SNAPSHOTS_PER_RUN = 100
_RUNS_PER_TICK = 10
_NAMED = 5
_FRESHNESS_SEEN_IN = 4
"""Parts of the time in which a delivery is expected: it is seen within one of them that there was none."""


def discovery_sensor(  # noqa: PLR0917
    pipeline: Pipeline, names: Names, turns: Turns, quiet: Quiet, index_id: str, every: int
) -> dg.SensorDefinition:
    """Looks for new and changed runs of an index, ``every`` so many seconds. Runs from the daemon's start, so the UI
    needs no step before it."""
    key, sensor = asset_key(index_id, "prompt_runs"), names.discovery_sensor(index_id)
    pools = [destination_pool(index_id, name) for name in pipeline.config.index(index_id).automations]

    @dg.sensor(
        name=sensor,
        description=(
            f"Adds a partition for each finished prompt run of index {index_id}, and has those read that an automation "
            "follows and that are new or changed."
        ),
        asset_selection=[key],
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=every,
    )
    def discovery(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        moment = quiet.moment(context, index_id)
        if not quiet.knows(sensor):  # while little else is held
            pipeline.automations.replay_logs(index_id)
        with turns.turn() as is_its_turn:
            if not is_its_turn:
                return dg.SkipReason(f"{AT_ONCE} other indexes are being listed; the next tick tries again.")
            with telling_of_the_source(pipeline, index_id):
                listing = pipeline.snapshots.look(index_id, pipeline.indexes.each_run(index_id))
        listed = _digest(listing)
        if (nothing := quiet.said(sensor, moment, listed)) is not None:
            return dg.SkipReason(nothing)
        quiet.forget(sensor)
        warn_of_other_instances(context.instance, os.environ, pipeline.config.folder or Path.cwd())
        warn_of_missing_limits(context.instance, pools)
        listing = pipeline.indexes.without_erased(index_id, listing)
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
        is_whole = not (to_read.unknown or erased.not_erased)
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
        elif not (to_read.due or to_read.failing or events or _waits_to_erase(pipeline, index_id)) and is_whole:
            quiet.remember(sensor, moment, said, listed=listed)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(said),
            asset_events=events,
        )

    return discovery


def delivery_sensor(
    pipeline: Pipeline, names: Names, quiet: Quiet, automation: Automation, every: int
) -> dg.SensorDefinition:
    """Delivers what an automation owes, looking ``every`` so many seconds. Its switch is the automation's pause."""
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
        minimum_interval_seconds=every,
    )
    def delivery(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        moment = quiet.moment(context, index_id)
        if (nothing := quiet.said(sensor, moment)) is not None:
            return dg.SkipReason(nothing)
        quiet.forget(sensor)
        asked = to_deliver(context, moment)
        # Nothing else comes by where nothing is delivered.
        asked = _with_tables(automation, context, asked, moment.now)
        return asked if config.expect_every is None else _with_freshness(automation, context, asked, moment)

    def nothing_to_do(moment: Moment, said: str) -> dg.SkipReason:
        quiet.remember(sensor, moment, said, within=_quiet_for(automation))
        return dg.SkipReason(said)

    def to_deliver(context: dg.SensorEvaluationContext, moment: Moment) -> dg.SensorResult | dg.SkipReason:
        now = moment.now
        waits = _reason_to_wait(automation, context, sensor, now)
        if waits is not None:
            return nothing_to_do(moment, waits.said) if waits.is_settled else dg.SkipReason(waits.said)
        try:
            owed = automation.standings(pipeline.snapshots.kept(index_id))
        except VVExportsError as error:
            automation.failed(error, now)
            raise
        due, said = owed.due(now), _owed(owed, now)
        if not due:
            return dg.SkipReason(said) if owed.waiting(now) else nothing_to_do(moment, said)
        # The switch may be off since the tick began to wait for its turn. Reading it reads all that there are.
        pause = _pause(automation, context.instance, sensor)
        if pause is not None:
            return dg.SkipReason(_paused(pause))
        under_way = reason_to_wait(context.instance, shown({"automation": automation.id}), now)
        if under_way is not None:
            return dg.SkipReason(f"{said} {under_way}")
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
    moment: Moment,
) -> dg.SensorResult | dg.SkipReason:
    """The same, and whether the collection is fresh, where that is not as it was. One that is disabled is not watched;
    a paused one's switch is off, and the sensor does not come here."""
    if not automation.config.enabled:
        return asked
    try:
        outcome = freshness_of(automation, moment.now)
    except VVExportsError as error:  # the delivery itself tells of it, and is tried again
        context.log.warning("whether the collection is fresh is not known: %s", error)
        return asked
    return _with_news(context, asked, outcome)


def _quiet_for(automation: Automation) -> timedelta:
    """How long a sensor with nothing to do may leave its collection alone."""
    if automation.config.enabled and automation.tables.formats:
        return timedelta()  # they may be behind the log, which a whole look alone finds
    every = automation.config.expected_within
    return LOOK_ANEW if every is None else every / _FRESHNESS_SEEN_IN


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


@dataclass(frozen=True)
class _Wait:
    """Why an automation delivers nothing now. ``is_settled``: it is so until something happens."""

    said: str
    is_settled: bool = False


def _reason_to_wait(
    automation: Automation, context: dg.SensorEvaluationContext, sensor: str, now: datetime
) -> _Wait | None:
    """Why an automation delivers nothing now, whatever there is. Opens the instance where it may be paused alone."""
    config, record = automation.config, automation.record
    if not config.enabled:
        return _Wait("Disabled in the configuration; set `enabled: true` to let it deliver.", is_settled=True)
    state = record.state()
    if config.paused or state.pause is not None:
        pause = _pause(automation, context.instance, sensor)
        if pause is not None:
            return _Wait(_paused(pause))
        state = record.state()
    if record.beginning() is None:
        return _Wait("It begins when the index was looked at for the first time.")
    if config.trigger != "finished":
        return _Wait(f"It delivers by itself {config.by_itself}.", is_settled=True)
    failing = state.failing
    if failing is not None and now < (again := failing.last_at + wait_for_a_whole_one(failing.attempts)):
        return _Wait(f"The next attempt is at {again:%Y-%m-%d %H:%M:%S} UTC. {failing.message}")
    return None


def _owed(owed: Standings, now: datetime) -> str:
    """What an automation owes and what waits, for people."""
    said = _said(len(owed.due(now)), "to be delivered")
    for what, run_ids in (
        ("held", owed.of("held")),
        ("failing", owed.waiting(now)),
        ("gone before delivery", owed.of("gone")),
    ):
        if run_ids:
            said += f" {_said(len(run_ids), what)} {_few(run_ids)}."
    return said


def _paused(pause: Pause) -> str:
    return f"Paused by {pause.by}: {pause.reason}. It keeps its place."


def _pause(automation: Automation, instance: dg.DagsterInstance, sensor: str) -> Pause | None:
    """Who paused it. Makes the switch and the record say the same, whichever of them was changed."""
    record = automation.record
    recorded = record.state().pause
    pause = pause_in_force(automation.config, recorded, instance, sensor)
    if recorded is not None and pause is None:
        record.resume()
    elif recorded is not None:
        set_switch(instance, sensor, on=False)
    return pause


def _digest(listing: Listed[SeenRun]) -> bytes:
    """Tells what was listed from anything else. The listing itself would be kept for each of hundreds of indexes."""
    found = sha256()
    for run in listing.runs:
        found.update(f"{run.run_id}\0{run.status}\0{run.fingerprint}\0".encode())
    for run_id, error in sorted(listing.problems.items()):
        found.update(f"{run_id}\0{error}\0".encode())
    return found.digest()


def _waits_to_erase(pipeline: Pipeline, index_id: str) -> bool:
    """Whether something is missing that is erased after a while, or when an automation is resumed."""
    known = pipeline.snapshots.catalogs.as_read(index_id)
    return known is not None and bool(known.gone) and bool(erasing(pipeline.automations, index_id))


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
