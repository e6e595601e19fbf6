"""Export automations through the client: their state, pausing and resuming, deliveries of what they owe."""

import getpass
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, TypedDict, Unpack

from vv_exports.automations.automation import Automation
from vv_exports.automations.outcome import AutomationRun, outcome_of
from vv_exports.automations.places import LeftPlace
from vv_exports.automations.plan import AutomationPlan, plan_of
from vv_exports.automations.records import Beginning, Pause
from vv_exports.automations.selection import Only, Selection, check_range, nothing_executed, selected
from vv_exports.automations.standing import Standings
from vv_exports.checks.index import checks_of_collection
from vv_exports.client.changes import (
    ConfigurationChange,
    automation_notes,
    change_configuration,
    changes_at,
    check_described,
)
from vv_exports.client.deployment import Deployment, naming_unreadable, tells_of_the_instance
from vv_exports.config import REMOVED, Change
from vv_exports.content.coverage import coverage_of
from vv_exports.defs.backfills import check_daemon, follow, has_succeeded, submit, under_way
from vv_exports.defs.keys import asset_key
from vv_exports.defs.notifications import telling
from vv_exports.defs.partitions import sync_partitions
from vv_exports.defs.pauses import Switches, pause_in_force, set_switch, switches_of
from vv_exports.defs.upstream_deletions import ErasedUpstream, erase_deleted_upstream, report, show_gone
from vv_exports.delivery.history import History, history_of
from vv_exports.delivery.overview import collected_runs
from vv_exports.delivery.planned import PlannedConflict
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import survey
from vv_exports.delivery.views.collection import VIEWS, View
from vv_exports.delivery.views.registry import Engine, views_script
from vv_exports.domain.names import partition_key
from vv_exports.domain.selection import chosen_runs
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.errors import (
    CredentialsError,
    DeliveredDataError,
    RequestError,
    RunFailedError,
    SelectionError,
    VVExportsError,
)
from vv_exports.pictures.coverage import MOST_MEDIA, coverage_picture
from vv_exports.pictures.report import report_page
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line
from vv_exports.sources.base import Listing
from vv_exports.upstream_deletions import deletions_of, erasing

_RUNS_WITH_COVERAGE = 20
LOOKED_AT_ONCE = 8


@dataclass(frozen=True)
class AutomationState:
    """An automation and what its collection holds. Counts and lists are of prompt runs.

    ``due`` are delivered next, by themselves as ``trigger`` says; ``due_why`` counts them by why the collection does
    not hold them as it should (missing, changed, reshape, damaged, unfinished). ``failing`` were tried and are
    tried again, and those whose record cannot be read; ``held`` wait until they are complete or somebody names them;
    ``history`` were finished before the automation began, and are delivered by a backfill only; ``gone`` vanished from
    the source before they were delivered. ``content`` is what the configuration chooses of it. ``tables`` are the
    folders of each prompt that has more than one of a table, since its types changed. ``table_formats`` says of each
    open table format that the configuration chooses how far its tables are. ``paused_by`` is who or what
    paused it. ``left`` are the addresses where it delivered before, each with the time at which it left.
    ``last_error`` is of the last delivery, where that failed; ``unreadable`` is why what it holds or owes is not known.
    ``oldest_due_run`` was executed first, at ``oldest_due_at``, of those that are due or failing. ``trigger`` is when
    it delivers by itself.
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
    trigger: str
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
    unreadable: str | None
    oldest_due_run: str | None
    oldest_due_at: str | None
    held_why: dict[str, int]
    tables: dict[str, list[str]]
    table_formats: dict[str, str]
    due_runs: Sequence[str] = field(repr=False)
    held_runs: Sequence[str] = field(repr=False)
    gone_runs: Sequence[str] = field(repr=False)
    problems: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class AutomationTurn:
    """One automation when all are asked to deliver. ``waits`` is why it is left alone; else ``done`` is what it did, or
    would, and ``error`` what it raised."""

    index_id: str
    automation: str
    waits: str | None
    done: AutomationRun | AutomationPlan | None
    error: VVExportsError | None


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


class AutomationFields(TypedDict, total=False):
    """The fields of an automation, with the names and values that the configuration has."""

    enabled: bool | None
    paused: bool | None
    destination_connector_id: str
    destination_subpath: str | None
    format: str | Mapping[str, Any] | None
    tables: Sequence[str] | Mapping[str, Any] | None
    fields: Mapping[str, Any] | None
    redact: Mapping[str, str] | None
    compression: str | None
    target_file_bytes: int | None
    on_schema_conflict: str | None
    contract: str | None
    on_status: Sequence[str] | None
    partial: str | None
    schedule: Mapping[str, str] | None
    trigger: str | None
    start: str | None
    max_runs_per_delivery: int | None
    pause_after_failures: int | None
    retain_superseded: str | None
    owners: Sequence[str] | None
    tags: Mapping[str, str] | None
    run_tags: Mapping[str, Any] | None
    on_upstream_delete: str | None
    expect_every: str | None
    dataset_card: bool | None


_LOG = logging.getLogger(__name__)


@tells_of_the_instance
class Automations:
    """Export automations."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self) -> Sequence[AutomationState]:
        """All automations of the configuration."""
        pipeline, switches = self._deployment.pipeline, self.switches()
        states: list[AutomationState] = []
        for index_id, automations in groupby(pipeline.automations, lambda one: one.index_id):
            state = partial(self.state, listing=pipeline.indexes.listing(index_id), switches=switches)
            with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:  # each is some requests to stores
                states += pool.map(state, automations)
        return states

    def retrieve(self, index_id: str, automation: str) -> AutomationState:
        """One automation and what its collection holds. Raises NotFoundError."""
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)  # before anything is read
        return self.state(found, pipeline.indexes.listing(index_id), self.switches())

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

    def history(
        self, index_id: str, automation: str, run_id: str | None = None, *, limit: int | None = None
    ) -> History:
        """When which prompt run was delivered, replaced or erased, and why, by the log at the destination; the newest
        first, ``limit`` at most. Raises RequestError for a limit below 1."""
        if limit is not None and limit < 1:
            raise RequestError(f"limit is {limit}; it must be at least 1, or left out for all")
        return history_of(self._deployment.pipeline.automations.get(index_id, automation).destination, run_id, limit)

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

    def set(
        self, index_id: str, automation: str, *, dry_run: bool = False, **fields: Unpack[AutomationFields]
    ) -> ConfigurationChange:
        """Create an automation in the configuration's file, or change fields of one. None stands for a field's default.
        The client goes on with the new configuration.

        Raises NotFoundError for an index that the configuration does not have, and ConfigurationError with every
        problem that this would make, and where the file is another by now; then nothing is written.
        """
        deployment = self._deployment
        deployment.pipeline.config.index(index_id)  # one that is misspelled is not begun
        check_described(deployment, index_id)
        known = [name for name in AutomationFields.__annotations__ if name in fields]  # in the order of their docs
        ordered = {**dict.fromkeys(known), **fields}
        changes = changes_at(
            ("indexes", index_id, "automations", automation), ordered, AutomationFields.__annotations__
        )

        def notes(before: Pipeline, after: Pipeline) -> Iterator[str]:
            is_new = automation not in before.config.index(index_id).automations
            earlier = None if is_new else before.automations.get(index_id, automation)
            yield from automation_notes(earlier, after.automations.get(index_id, automation))

        return change_configuration(deployment, changes, notes, dry_run=dry_run)

    def schedule(self, index_id: str, automation: str) -> dict[str, str] | None:
        """The schedule of an automation, as the configuration has it. None where it has none, or is not there yet."""
        found = self._deployment.pipeline.config.index(index_id).automations.get(automation)
        return None if found is None or found.schedule is None else found.schedule.model_dump()

    def tables(self, index_id: str, automation: str) -> Mapping[str, Any]:
        """The tables of an automation, as the configuration has them: those that are delivered, and the open table
        formats in which they are registered. Empty where it is not there yet."""
        found = self._deployment.pipeline.config.index(index_id).automations.get(automation)
        return {} if found is None else found.registered.model_dump(exclude_defaults=True)

    def remove(self, index_id: str, automation: str, *, dry_run: bool = False) -> ConfigurationChange:
        """Take an automation out of the configuration's file. What it delivered stays. Raises NotFoundError, and what
        ``set`` raises."""
        uri = self._deployment.pipeline.automations.get(index_id, automation).destination.uri
        name = f"automation {automation} of index {one_line(index_id)}"
        check_described(self._deployment, index_id)

        def notes(before: Pipeline, after: Pipeline) -> Iterator[str]:
            del before, after
            yield (
                f"what {name} delivered stays at {one_line(uri)}, and nobody keeps it up to date any more; where it is "
                "set again, it goes on there from where it was"
            )

        changes = [Change(("indexes", index_id, "automations", automation), REMOVED)]
        return change_configuration(self._deployment, changes, notes, dry_run=dry_run)

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
            found.follow_tables()  # a delivery does it, and there may have been none
            found.write_card()  # it may be new that there is one, and nothing due
            return replace(
                done,
                already_delivered=tuple(one for one in done.already_delivered if one not in erased.run_ids),
                erased=erased.run_ids,
                not_erased=erased.not_erased,
            )

    def run_all(self, index_id: str | None = None, *, history: bool = False) -> Iterator[AutomationTurn]:
        """``run`` of each automation, or of each of an index, one after the other, each when it is asked for. Those
        that are paused, disabled or `manual` are left alone. What one raises is its ``error``, and no other's.

        Raises NotFoundError for an index that is not configured."""
        for found, waits in self._each(index_id):
            yield self._turn(found, waits, lambda one: self.run(one.index_id, one.name, history=history))

    def plan_all(self, index_id: str | None = None, *, history: bool = False) -> Iterator[AutomationTurn]:
        """What ``run_all`` would deliver. Writes nothing, and reads no prompt run."""
        for found, waits in self._each(index_id):
            yield self._turn(found, waits, lambda one: self.plan_run(one.index_id, one.name, history=history))

    def _each(self, index_id: str | None) -> Iterator[tuple[Automation, str | None]]:
        """The automations, and why one of them waits when nobody names it."""
        deployment = self._deployment
        if index_id is not None:
            deployment.pipeline.config.index(index_id)
        for found in deployment.pipeline.automations:
            if index_id in {None, found.index_id}:
                sensor = deployment.names.delivery_sensor(found.index_id, found.name)
                recorded = found.record.state().pause
                pause = pause_in_force(found.config, recorded, deployment.instance_to_look_at, sensor)
                yield found, _reason_to_wait(found, pause)

    def _turn(
        self,
        found: Automation,
        waits: str | None,
        work: Callable[[Automation], AutomationRun | AutomationPlan],
    ) -> AutomationTurn:
        done, error = None, None
        try:
            done = work(found) if waits is None else None
        except VVExportsError as raised:
            error = raised
        return AutomationTurn(found.index_id, found.name, waits, done, error)

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
        check_range(since, until)
        return self._plan(
            index_id,
            automation,
            run_ids,
            lambda owed: _in_range(owed, run_ids, since, until, only),
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
        call. A paused automation is delivered, since this is asked for; a disabled one raises SelectionError,
        and so does a range that ends before it begins.
        """
        check_range(since, until)
        pipeline = self._deployment.pipeline
        found = pipeline.automations.get(index_id, automation)
        found.check_enabled()
        listing, unreadable = self._listing(index_id, run_ids)
        pipeline.automations.begin(index_id, listing, pipeline.clock())
        owed = self._standings(found, listing, run_ids)
        chosen = _in_range(owed, run_ids, since, until, only)
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

        Returns when all is delivered and no Dagster run of it goes on, or when the daemon says that it is over, which
        may be half a minute later. Interrupted, the daemon goes on. Raises RequestError where there is no daemon.
        """
        check_range(since, until)
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
        chosen = _in_range(owed, run_ids, since, until, only)
        sync_partitions(instance, index_id, listing.runs)
        with naming_unreadable("delivered", len(chosen.todo) + len(chosen.there), unreadable):
            if chosen.todo:
                partitions = [partition_key(run_id) for run_id in chosen.todo]
                title = f"{len(partitions)} prompt runs of {index_id} to {automation}"
                backfill_id = submit(instance, self._deployment.definitions, key, partitions, title)
                for _ in follow(instance, backfill_id):
                    done = len(_delivered_since(found.collection(), before).intersection(chosen.todo))
                    _LOG.info("backfill %s: %d of %d prompt runs delivered", backfill_id, done, len(chosen.todo))
                    if done == len(chosen.todo) and has_succeeded(instance, backfill_id):
                        break
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

    def switches(self) -> Switches:
        """The switches of sensors, for ``state``."""
        return switches_of(self._deployment.instance_if_made)

    def state(self, automation: Automation, listing: Listing | None, switches: Switches) -> AutomationState:
        """One automation and what its collection holds. Without a ``listing``, since the source is out of reach, by
        the prompt runs that were read of it before."""
        pipeline = self._deployment.pipeline
        config = automation.config
        unreachable = None
        try:
            state = automation.collection()
        except VVExportsError as error:
            state, unreachable = LogState(), str(error)  # to be seen in the list, among the others
        remembered = automation.record.state()
        if listing is None:
            known, unread = pipeline.snapshots.kept(automation.index_id), {}
        else:
            known = pipeline.snapshots.known(automation.index_id, listing, state.runs)
            unread = {run_id: str(error) for run_id, error in listing.problems.items()}
        beginning = None
        try:
            beginning = automation.record.beginning()
            owed = automation.standings(known, state=state)
        except (DeliveredDataError, CredentialsError) as error:
            # What it owes is not known where it is not known when it began, or the key of its redaction is missing.
            owed, unreachable = Standings({}, {}), unreachable or str(error)
        began_at = None if beginning is None else (state.began_at(automation.id) or beginning.began_at)
        sensor = self._deployment.names.delivery_sensor(automation.index_id, automation.name)
        pause = pause_in_force(config, remembered.pause, None, sensor, switches)
        problems = {**known.problems, **remembered.problems}
        failing = owed.of("failing")
        oldest = min(owed.of("due", "failing"), key=lambda one: (owed.rows[one].executed_at, one), default=None)
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
            trigger=config.trigger,
            format=config.content.format.name,
            content=config.content.chosen,
            retain_superseded=config.retain_superseded,
            began_at=None if began_at is None else _time_text(began_at),
            delivered=len(state.runs),
            due=len(owed.of("due")),
            due_why=owed.whys("due"),
            failing=len(failing) + len(unread),
            held=len(owed.of("held")),
            history=len(owed.of("history")),
            gone=len(owed.of("gone")),
            last_delivery_at=None if state.last_delivery is None else state.last_delivery.committed_at,
            left={one.place.uri: _time_text(one.left.at) for one in automation.places.left()},
            last_error=unreachable or (None if remembered.failing is None else remembered.failing.message),
            unreadable=unreachable,
            oldest_due_run=oldest,
            oldest_due_at=None if oldest is None else _time_text(owed.rows[oldest].executed_at),
            held_why=owed.whys("held"),
            tables={
                prompt_id: sorted(folders)
                for prompt_id, folders in sorted(state.shapes.items())
                if any(folder not in DELIVERED_TABLES for folder in folders)
            },
            table_formats=automation.tables.summary(automation.destination, state.next_sequence - 1),
            due_runs=owed.of("due"),
            held_runs=owed.of("held"),
            gone_runs=owed.of("gone"),
            problems={run_id: problems[run_id].message for run_id in (*failing, *waiting) if run_id in problems}
            | unread,
        )


def _delivered_since(after: LogState, before: LogState) -> set[str]:
    return {one.run.run_id for one in after.since(before.next_sequence)}


def _in_range(
    owed: Standings,
    run_ids: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    only: Only | None,
) -> Selection:
    if (said := nothing_executed(owed, since, until)) is not None:
        _LOG.warning("%s", said)
    return selected(owed, run_ids, since, until, only, history=True)


def _reason_to_wait(automation: Automation, pause: Pause | None) -> str | None:
    """Why an automation waits when all are asked to deliver."""
    if not automation.config.enabled:
        return "it is disabled in the configuration"
    if pause is not None:
        return f"it is paused by {pause.by} ({pause.reason})"
    if automation.config.trigger == "manual":
        return "it delivers when it is named alone (`trigger: manual`)"
    return None


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
