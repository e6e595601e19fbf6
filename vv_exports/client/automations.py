"""Export automations through the client: their state, pausing and resuming, deliveries of what they owe."""

import getpass
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from vv_exports.automations.automation import Automation
from vv_exports.automations.outcome import AutomationRun, outcome_of
from vv_exports.automations.places import LeftPlace
from vv_exports.automations.plan import AutomationPlan, plan_of
from vv_exports.automations.records import Beginning, Pause
from vv_exports.automations.selection import Only, Selection, selected
from vv_exports.automations.standing import Standings
from vv_exports.checks.index import checks_of_collection
from vv_exports.client.deployment import Deployment, naming_unreadable, tells_of_the_instance
from vv_exports.content.coverage import coverage_of
from vv_exports.defs.backfills import check_daemon, follow, submit, under_way
from vv_exports.defs.keys import asset_key
from vv_exports.defs.notifications import telling
from vv_exports.defs.partitions import sync_partitions
from vv_exports.defs.pauses import pause_in_force, set_switch
from vv_exports.defs.upstream_deletions import ErasedUpstream, erase_deleted_upstream, report, show_gone
from vv_exports.delivery.overview import collected_runs
from vv_exports.delivery.planned import PlannedConflict
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import survey
from vv_exports.delivery.views.collection import VIEWS, View
from vv_exports.delivery.views.registry import Engine, views_script
from vv_exports.domain.names import partition_key
from vv_exports.domain.selection import chosen_runs
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.errors import CredentialsError, DeliveredDataError, RunFailedError, SelectionError, VVExportsError
from vv_exports.pictures.coverage import MOST_MEDIA, coverage_picture
from vv_exports.pictures.report import report_page
from vv_exports.sources.base import Listing
from vv_exports.upstream_deletions import deletions_of, erasing

_RUNS_WITH_COVERAGE = 20


@dataclass(frozen=True)
class AutomationState:
    """An automation and what its collection holds. Counts and lists are of prompt runs.

    ``due`` are delivered by themselves, as soon as their turn comes; ``due_why`` counts them by why the collection does
    not hold them as it should (missing, changed, reshape, damaged, unfinished). ``failing`` were tried and are
    tried again, and those whose record cannot be read; ``held`` wait until they are complete or somebody names them;
    ``history`` were finished before the automation began, and are delivered by a backfill only; ``gone`` vanished from
    the source before they were delivered. ``content`` is what the configuration chooses of it. ``tables`` are the
    folders of each prompt that has more than one of a table, since its types changed. ``paused_by`` is who or what
    paused it. ``left`` are the addresses where it delivered before, each with the time at which it left.
    ``last_error`` is of the last delivery, where that failed.
    """

    index_id: str
    automation: str
    enabled: bool
    paused: bool
    paused_by: str | None
    pause_reason: str | None
    destination_connector_id: str
    destination_subpath: str
    destination_uri: str
    format: str
    content: dict[str, Any]
    retain_superseded: str | None
    began_at: str | None
    delivered: int
    due: int
    due_why: dict[str, int]
    failing: int
    held: int
    history: int
    gone: int
    last_delivery_at: str | None
    left: dict[str, str]
    last_error: str | None
    held_why: dict[str, int]
    tables: dict[str, list[str]]
    due_runs: Sequence[str] = field(repr=False)
    held_runs: Sequence[str] = field(repr=False)
    gone_runs: Sequence[str] = field(repr=False)
    problems: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Switch:
    """What pausing or resuming an automation would change. ``due`` are the prompt runs that wait for it, or that it
    would deliver."""

    index_id: str
    automation: str
    is_paused: bool
    paused_by: str | None
    pause_reason: str | None
    would_be_paused: bool
    due: int


_LOG = logging.getLogger(__name__)


@tells_of_the_instance
class Automations:
    """Export automations."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self) -> Sequence[AutomationState]:
        """All automations of the configuration."""
        pipeline = self._deployment.pipeline
        listed: dict[str, Listing] = {}
        states = []
        for automation in pipeline.automations:
            if automation.index_id not in listed:
                listed[automation.index_id] = pipeline.indexes.listing(automation.index_id)
            states.append(self._state(automation, listed[automation.index_id]))
        return states

    def retrieve(self, index_id: str, automation: str) -> AutomationState:
        """One automation and what its collection holds. Raises NotFoundError."""
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)  # before anything is read
        return self._state(found, pipeline.indexes.listing(index_id))

    def sql(
        self,
        index_id: str,
        automation: str,
        views: Collection[View] = VIEWS,
        *,
        engine: Engine = "duckdb",
        location: str | None = None,
    ) -> str:
        """A script that makes views of what a collection holds now, for a database: see ``views_script``."""
        destination = self._deployment.pipeline.automations.get(index_id, automation).destination
        return views_script(destination, automation, engine, views, location=location)

    def report(self, index_id: str, automation: str) -> str:
        """A page in HTML about what a collection holds: its prompt runs, deliveries, checks and, for those that were
        delivered last, how segments cover the media. Shows no more of the rows than is delivered."""
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        runs = collected_runs(found.collection())
        store = pipeline.snapshots.store
        coverages = {}
        for run in runs[:_RUNS_WITH_COVERAGE]:
            snapshot = store.current(index_id, run.run_id)
            if snapshot is not None:
                covered = coverage_of(snapshot, store, found.content.selection, MOST_MEDIA)
                coverages[f"{run.run_id}, {snapshot.prompt_name}"] = coverage_picture(covered)
        now = pipeline.clock()
        facts = {
            "index": index_id,
            "automation": automation,
            "destination": found.destination.uri,
            "format": found.config.content.format.name,
            "prompt runs": f"{len(runs):,}",
            "rows": f"{sum(sum(run.rows.values()) for run in runs):,}",
            "files": f"{sum(run.files for run in runs):,}",
            "bytes": f"{sum(run.bytes for run in runs):,}",
            "last delivery": f"{max(run.delivered_at for run in runs):%Y-%m-%d %H:%M:%S} UTC" if runs else "none yet",
        }
        checks = list(checks_of_collection(found, now))
        return report_page(f"{automation} of {index_id}", facts, runs, checks, coverages=coverages, now=now)

    def plan_switch(self, index_id: str, automation: str, *, pause: bool) -> Switch:
        """What ``pause`` or ``resume`` would change. Writes nothing. Raises what they raise."""
        deployment = self._deployment
        found = deployment.pipeline.automations.get(index_id, automation)
        if not pause:
            _check_resumable(found)
        sensor = deployment.names.delivery_sensor(index_id, automation)
        before = pause_in_force(found.config, found.record.state().pause, deployment.instance_to_look_at, sensor)
        return Switch(
            index_id=index_id,
            automation=automation,
            is_paused=before is not None,
            paused_by=None if before is None else before.by,
            pause_reason=None if before is None else before.reason,
            would_be_paused=pause,
            due=len(self.plan_run(index_id, automation).prompt_runs),
        )

    def pause(self, index_id: str, automation: str, reason: str = "") -> None:
        """Let an automation wait. It keeps its place, across restarts and reloads. Pausing twice changes nothing."""
        deployment, pipeline = self._deployment, self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        with telling(pipeline, deployment.names, deployment.instance, found):
            found.record.pause(by=_user(), reason=reason or "no reason given", now=pipeline.clock())
            set_switch(deployment.instance, deployment.names.delivery_sensor(index_id, automation), on=False)

    def resume(self, index_id: str, automation: str) -> None:
        """Let a paused automation go on: it delivers what has finished meanwhile. Forgets the failures before.

        Raises SelectionError where the configuration pauses it, which only the configuration can lift.
        """
        deployment = self._deployment
        found = deployment.pipeline.automations.get(index_id, automation)
        _check_resumable(found)
        with telling(deployment.pipeline, deployment.names, deployment.instance, found):
            set_switch(deployment.instance, deployment.names.delivery_sensor(index_id, automation), on=True)
            found.record.resume()

    def run(
        self, index_id: str, automation: str, run_ids: Sequence[str] | None = None, *, history: bool = False
    ) -> AutomationRun:
        """Deliver now what the automation owes, what is failing included; with ``history`` also what was finished
        before it began; or just the runs named, held ones and history included.

        An automation that did not begin yet begins. A paused one runs, since this is asked for; a disabled one raises
        SelectionError. Where some of all cannot be delivered, or their record not be read, raises RunFailedError or
        UnreadableRunsError at the end.
        """
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        found.check_enabled()
        listing, unreadable = self._listing(index_id, run_ids)
        instance = self._deployment.instance
        pipeline.automations.begin(index_id, listing, pipeline.clock())
        left_before = found.places.left()
        found.claim_again(pipeline.clock())
        state = found.collection()
        there = survey(found.destination, state, now=pipeline.clock())
        owed = self._standings(found, listing, run_ids, there.runs_damaged, there.runs_unfinished(state.runs))
        chosen = selected(owed, run_ids, history=history)
        sync_partitions(instance, index_id, listing.runs)
        show_gone(pipeline, instance, index_id, listing)
        erased = ErasedUpstream()
        if run_ids is None:
            erased = erase_deleted_upstream(pipeline, instance, index_id, listing, erasing([found], index_id))
            report(instance, erased.events)
        # Dagster's database may be younger than the collection: what is there already is shown again.
        shown = instance.get_materialized_partitions(asset_key(index_id, "exports", automation))
        listed = {run.run_id for run in listing.runs}
        hidden = [
            one
            for one in chosen.there
            if one in listed and owed.by_run[one].why is None and partition_key(one) not in shown
        ]
        with naming_unreadable("delivered", len(chosen.todo) + len(chosen.there), unreadable):
            done = self._deliver(found, chosen, [*chosen.todo, *hidden], left_before, listing)
            return replace(
                done,
                already_delivered=tuple(one for one in done.already_delivered if one not in erased.run_ids),
                erased=erased.run_ids,
                not_erased=erased.not_erased,
            )

    def plan_backfill(
        self,
        index_id: str,
        automation: str,
        run_ids: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> AutomationPlan:
        """What ``backfill`` would deliver. Writes nothing, and reads no prompt run."""
        return self._plan(
            index_id,
            automation,
            run_ids,
            lambda owed: selected(owed, run_ids, since, until, only, history=True),
            look=False,
        )

    def plan_run(
        self, index_id: str, automation: str, run_ids: Sequence[str] | None = None, *, history: bool = False
    ) -> AutomationPlan:
        """What ``run`` would deliver. Writes nothing, and reads no prompt run."""
        plan = self._plan(
            index_id, automation, run_ids, lambda owed: selected(owed, run_ids, history=history), look=True
        )
        return plan if run_ids is not None else self._with_erased(plan)

    def _with_erased(self, plan: AutomationPlan) -> AutomationPlan:
        """The same, with what would be erased since it is deleted upstream."""
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(plan.index_id, plan.automation)
        automations = erasing([found], plan.index_id)
        if not automations or any(one.stops == "everything" for one in plan.conflicts):
            return plan
        deletions = deletions_of(pipeline, plan.index_id, pipeline.indexes.listing(plan.index_id), automations)
        runs = found.holdings().runs.keys() & set(deletions.due)
        files = [file.path for file in found.collection().files if file.prompt_run_id in runs]
        return replace(
            plan,
            already_delivered=[one for one in plan.already_delivered if one not in deletions.due],
            erased=deletions.due,
            erased_files=sorted(files),
            not_erased=deletions.lines,
        )

    def backfill(
        self,
        index_id: str,
        automation: str,
        run_ids: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> AutomationRun:
        """Deliver historical runs: all finished ones that the automation takes, those executed in
        [``since``, ``until``), or those named, held ones included; with ``only``, just those that the collection lacks
        or holds in another content. What is there is skipped, so a backfill that was stopped is continued by the same
        call. A paused automation is delivered, since this is asked for; a disabled one raises SelectionError.
        """
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        found.check_enabled()
        listing, unreadable = self._listing(index_id, run_ids)
        pipeline.automations.begin(index_id, listing, pipeline.clock())
        owed = self._standings(found, listing, run_ids)
        chosen = selected(owed, run_ids, since, until, only, history=True)
        sync_partitions(self._deployment.instance, index_id, listing.runs)
        with naming_unreadable("delivered", len(chosen.todo) + len(chosen.there), unreadable):
            return self._deliver(found, chosen, chosen.todo, found.places.left(), listing)

    def backfill_in_daemon(
        self,
        index_id: str,
        automation: str,
        run_ids: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> AutomationRun:
        """What ``backfill`` does, worked off by the Dagster daemon, like a backfill from the UI.

        Returns when it is over; interrupted, the daemon goes on. Raises RequestError where there is no daemon.
        """
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        found.check_enabled()
        instance = self._deployment.instance
        check_daemon(instance)
        key = asset_key(index_id, "exports", automation)
        for earlier in under_way(instance, key):
            _LOG.info("waiting for backfill %s, which began earlier", earlier)
            with suppress(RunFailedError):  # what it left is delivered now
                for _ in follow(instance, earlier):
                    pass
        listing, unreadable = self._listing(index_id, run_ids)
        pipeline.automations.begin(index_id, listing, pipeline.clock())
        before, left_before = found.collection(), found.places.left()
        owed = self._standings(found, listing, run_ids)
        chosen = selected(owed, run_ids, since, until, only, history=True)
        sync_partitions(instance, index_id, listing.runs)
        with naming_unreadable("delivered", len(chosen.todo) + len(chosen.there), unreadable):
            if chosen.todo:
                partitions = [partition_key(run_id) for run_id in chosen.todo]
                title = f"{len(partitions)} prompt runs of {index_id} to {automation}"
                backfill_id = submit(instance, self._deployment.definitions, key, partitions, title)
                for _ in follow(instance, backfill_id):
                    done = len(_delivered_since(found.collection(), before).intersection(chosen.todo))
                    _LOG.info("backfill %s: %d of %d prompt runs delivered", backfill_id, done, len(chosen.todo))
            return outcome_of(found, chosen, before, left_before, None)

    def _listing(self, index_id: str, named: Sequence[str] | None) -> tuple[Listing, Mapping[str, Exception]]:
        """The runs of an index, and what must be said of those whose record cannot be read: nothing where readable ones
        were named. Raises RequestError for a named run that is not there or not finished, SourceDataError for one that
        is not readable."""
        listing = self._deployment.pipeline.indexes.listing(index_id)
        if named is None:
            return listing, listing.problems
        chosen_runs(listing.named(named), named, index_id=index_id)
        return listing, {}

    def _plan(
        self,
        index_id: str,
        automation: str,
        run_ids: Sequence[str] | None,
        choose: Callable[[Standings], Selection],
        *,
        look: bool,
    ) -> AutomationPlan:
        deployment = self._deployment
        found = deployment.pipeline.automations.get(index_id, automation)
        listing, unreadable = self._listing(index_id, run_ids)
        sensor = deployment.names.delivery_sensor(index_id, automation)
        pause = pause_in_force(found.config, found.record.state().pause, deployment.instance_to_look_at, sensor)
        told = [] if pause is None else [PlannedConflict("paused", "nothing", f"{_paused(pause)}; this delivers once")]
        clock = deployment.pipeline.clock
        return plan_of(found, listing, clock, run_ids, choose, look=look, problems=unreadable, conflicts=told)

    def _standings(
        self,
        automation: Automation,
        listing: Listing,
        named: Sequence[str] | None,
        damaged: Collection[str] = (),
        unfinished: Collection[str] = (),
    ) -> Standings:
        pipeline = self._deployment.pipeline
        known = pipeline.snapshots.known(automation.index_id, listing, automation.collection().runs)
        would_begin = Beginning.of(automation.config, listing.runs, pipeline.clock())
        return automation.standings(
            known, beginning=would_begin, damaged=damaged, unfinished=unfinished, named=named or ()
        )

    def _deliver(
        self,
        automation: Automation,
        chosen: Selection,
        run_ids: Sequence[str],
        left_before: Collection[LeftPlace],
        listing: Listing,
    ) -> AutomationRun:
        """Deliver, and then give the columns that this brought to the files of other runs."""
        before = automation.collection()
        index_id, key = automation.index_id, asset_key(automation.index_id, "exports", automation.name)

        def groups() -> Iterator[Sequence[str]]:
            yield run_ids
            yield self._standings(automation, listing, None).to_reshape()

        launched = self._deployment.launch_stretches(index_id, groups(), key, automation.config.max_runs_per_delivery)
        return outcome_of(automation, chosen, before, left_before, launched)

    def _state(self, automation: Automation, listing: Listing) -> AutomationState:
        pipeline = self._deployment.pipeline
        config = automation.config
        unreachable = None
        try:
            state = automation.collection()
        except VVExportsError as error:
            state, unreachable = LogState(), str(error)  # to be seen in the list, among the others
        remembered = automation.record.state()
        known = pipeline.snapshots.known(automation.index_id, listing, state.runs)
        beginning = None
        try:
            beginning = automation.record.beginning()
            owed = automation.standings(known, state=state)
        except (DeliveredDataError, CredentialsError) as error:
            # What it owes is not known where it is not known when it began, or the key of its redaction is missing.
            owed, unreachable = Standings({}, {}), unreachable or str(error)
        began_at = None if beginning is None else (state.began_at(automation.id) or beginning.began_at)
        sensor = self._deployment.names.delivery_sensor(automation.index_id, automation.name)
        pause = pause_in_force(config, remembered.pause, self._deployment.instance_if_made, sensor)
        problems = {**known.problems, **remembered.problems}
        failing = owed.of("failing")
        waiting = [run_id for run_id in owed.of("held") if owed.by_run[run_id].why in {"conflict", "contract"}]
        return AutomationState(
            index_id=automation.index_id,
            automation=automation.name,
            enabled=config.enabled,
            paused=pause is not None,
            paused_by=None if pause is None else pause.by,
            pause_reason=None if pause is None else pause.reason,
            destination_connector_id=config.destination_connector_id,
            destination_subpath=config.subpath,
            destination_uri=automation.destination.uri,
            format=config.content.format.name,
            content=config.content.chosen,
            retain_superseded=config.retain_superseded,
            began_at=None if began_at is None else _time_text(began_at),
            delivered=len(state.runs),
            due=len(owed.of("due")),
            due_why=owed.whys("due"),
            failing=len(failing) + len(listing.problems),
            held=len(owed.of("held")),
            history=len(owed.of("history")),
            gone=len(owed.of("gone")),
            last_delivery_at=None if state.last_delivery is None else state.last_delivery.committed_at,
            left={one.place.uri: _time_text(one.left.at) for one in automation.places.left()},
            last_error=unreachable or (None if remembered.failing is None else remembered.failing.message),
            held_why=owed.whys("held"),
            tables={
                prompt_id: sorted(folders)
                for prompt_id, folders in sorted(state.shapes.items())
                if any(folder not in DELIVERED_TABLES for folder in folders)
            },
            due_runs=owed.of("due"),
            held_runs=owed.of("held"),
            gone_runs=owed.of("gone"),
            problems={run_id: problems[run_id].message for run_id in (*failing, *waiting) if run_id in problems}
            | {run_id: str(error) for run_id, error in listing.problems.items()},
        )


def _delivered_since(after: LogState, before: LogState) -> set[str]:
    return {one.run.run_id for one in after.since(before.next_sequence)}


def _check_resumable(automation: Automation) -> None:
    """Raise SelectionError where the configuration pauses it, which only the configuration can lift."""
    if automation.config.paused:
        raise SelectionError(
            f"automation {automation.name!r} of index {automation.index_id!r} is paused in the configuration; set "
            "`paused: false` there to resume it"
        )


def _paused(pause: Pause) -> str:
    return f"the automation is paused by {pause.by} ({pause.reason})"


def _time_text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "a user without a name"
