"""Export automations through the client: their state, pausing and resuming, deliveries of what collections lack."""

import getpass
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vv_exports.client.deployment import Deployment, naming_unreadable, tells_of_the_instance
from vv_exports.defs.backfills import check_daemon, follow, submit, under_way
from vv_exports.defs.keys import asset_key, delivery_sensor_name
from vv_exports.defs.partitions import sync_partitions
from vv_exports.defs.switches import pause_in_force, set_switch
from vv_exports.delivery.log import LogState
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import eligible_runs
from vv_exports.errors import RunFailedError, SelectionError, VVExportsError
from vv_exports.sources.base import Listing


@dataclass(frozen=True)
class AutomationState:
    """An automation and what its collection holds. Lists are of prompt run ids.

    ``waiting`` are finished and are delivered by themselves; ``failing`` are those of them that failed and are tried
    again, and those whose record cannot be read; ``held`` wait until they are complete or somebody names them;
    ``history`` were finished before the automation began, and are delivered by a backfill only. ``paused_by`` is who or
    what paused it. ``last_error`` is of the last delivery, where that failed.
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
    began_at: str | None
    delivered: int
    waiting: int
    failing: int
    held: int
    history: int
    last_delivery_at: str | None
    last_error: str | None
    waiting_runs: Sequence[str] = field(repr=False)
    held_runs: Sequence[str] = field(repr=False)
    problems: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class AutomationRun:
    """What one run of an automation did. ``delivered`` and ``already_delivered`` are prompt run ids; rows, files and
    bytes are of what was newly delivered. ``mended`` are those of the delivered ones of which no row changed: files of
    theirs were missing, damaged, or left over by a delivery that died."""

    index_id: str
    automation: str
    destination_uri: str
    delivered: tuple[str, ...]
    already_delivered: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    dagster_run_ids: tuple[str, ...]
    mended: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """A prompt run that a backfill would deliver. ``rows`` and ``bytes`` are those of its snapshot; where there is none
    that is up to date, rows are the segments that the run states, and bytes are None."""

    run_id: str
    status: str
    executed_at: str
    change: Literal["missing", "changed"]
    rows: int | None
    bytes: int | None


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would deliver, and what is there already. ``problems`` says, by run id, why a run's record cannot
    be read: whether it would be delivered is not known."""

    index_id: str
    automation: str
    destination_uri: str
    prompt_runs: Sequence[PlannedRun]
    already_delivered: Sequence[str]
    problems: dict[str, str]

    @property
    def rows(self) -> int:
        """Rows, as far as they are known."""
        return sum(run.rows or 0 for run in self.prompt_runs)

    @property
    def bytes(self) -> int:
        """Bytes, as far as they are known."""
        return sum(run.bytes or 0 for run in self.prompt_runs)


Only = Literal["missing", "changed"]
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
        for index_id, name, _ in pipeline.automations():
            if index_id not in listed:
                listed[index_id] = pipeline.listing(index_id)
            states.append(self._state(index_id, name, listed[index_id]))
        return states

    def retrieve(self, index_id: str, automation: str) -> AutomationState:
        """One automation and what its collection holds. Raises NotFoundError."""
        pipeline = self._deployment.pipeline
        pipeline.config.automation(index_id, automation)  # before anything is read
        return self._state(index_id, automation, pipeline.listing(index_id))

    def pause(self, index_id: str, automation: str, reason: str = "") -> None:
        """Let an automation wait. It keeps its place, across restarts and reloads. Pausing twice changes nothing."""
        pipeline = self._deployment.pipeline
        pipeline.config.automation(index_id, automation)
        record = pipeline.following.record(index_id, automation)
        record.pause(by=_user(), reason=reason or "no reason given", now=pipeline.clock())
        set_switch(self._deployment.instance, delivery_sensor_name(index_id, automation), on=False)

    def resume(self, index_id: str, automation: str) -> None:
        """Let a paused automation go on: it delivers what has finished meanwhile. Forgets the failures before.

        Raises SelectionError where the configuration pauses it, which only the configuration can lift.
        """
        pipeline = self._deployment.pipeline
        if pipeline.config.automation(index_id, automation).paused:
            raise SelectionError(
                f"automation {automation!r} of index {index_id!r} is paused in the configuration; set `paused: false` "
                "there to resume it"
            )
        set_switch(self._deployment.instance, delivery_sensor_name(index_id, automation), on=True)
        pipeline.following.record(index_id, automation).resume()

    def run(self, index_id: str, automation: str, run_ids: Sequence[str] | None = None) -> AutomationRun:
        """Deliver now what the collection lacks: of all finished runs, or of those named, held ones included.

        A paused automation runs, since this is asked for; a disabled one raises SelectionError. Where some of
        all cannot be delivered, or their record not be read, raises RunFailedError or UnreadableRunsError at the end.
        """
        pipeline = self._deployment.pipeline
        pipeline.check_enabled(index_id, automation)
        listing = pipeline.listing(index_id)
        existing, unreadable = _asked_for(listing, run_ids)
        runs = pipeline.eligible(index_id, automation, existing, run_ids)
        before = pipeline.collection(index_id, automation)
        pipeline.claim_again(index_id, automation, before)
        unfinished = pipeline.unfinished(index_id, automation, runs, before)
        config = pipeline.config.automation(index_id, automation)
        sync_partitions(self._deployment.instance, index_id, existing)
        shown = self._deployment.instance.get_materialized_partitions(asset_key(index_id, "exports", automation))
        with naming_unreadable("delivered", len(runs), unreadable):
            return self._deliver(
                index_id,
                automation,
                runs,
                lambda run: (
                    not pipeline.up_to_date(run, config, before)
                    or run.run_id in unfinished
                    or partition_key(run.run_id) not in shown
                ),
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
    ) -> BackfillPlan:
        """What ``backfill`` would deliver. Writes nothing."""
        pipeline = self._deployment.pipeline
        config = pipeline.config.automation(index_id, automation)
        state = pipeline.collection(index_id, automation)
        existing, unreadable = _asked_for(pipeline.listing(index_id), run_ids)
        runs = self._chosen(index_id, automation, existing, run_ids, since, until)
        planned: list[PlannedRun] = []
        there: list[str] = []
        for run in runs:
            if pipeline.up_to_date(run, config, state):
                there.append(run.run_id)
            elif _is_wanted(run, state, only):
                planned.append(self._planned(run, state))
        uri = pipeline.connectors[config.destination_connector_id].uri(config.subpath)
        problems = {run_id: str(error) for run_id, error in unreadable.items()}
        return BackfillPlan(index_id, automation, uri, planned, there, problems)

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
        pipeline.check_enabled(index_id, automation)
        config = pipeline.config.automation(index_id, automation)
        existing, unreadable = _asked_for(pipeline.listing(index_id), run_ids)
        state = pipeline.collection(index_id, automation)
        runs = self._chosen(index_id, automation, existing, run_ids, since, until)
        sync_partitions(self._deployment.instance, index_id, existing)
        with naming_unreadable("delivered", len(runs), unreadable):
            return self._deliver(
                index_id,
                automation,
                runs,
                lambda run: not pipeline.up_to_date(run, config, state) and _is_wanted(run, state, only),
            )

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
        pipeline, instance = self._deployment.pipeline, self._deployment.instance
        pipeline.check_enabled(index_id, automation)
        check_daemon(instance)
        key = asset_key(index_id, "exports", automation)
        for earlier in under_way(instance, key):
            _LOG.info("waiting for backfill %s, which began earlier", earlier)
            with suppress(RunFailedError):  # what it left is delivered now
                for _ in follow(instance, earlier):
                    pass
        existing, unreadable = _asked_for(pipeline.listing(index_id), run_ids)
        before = pipeline.collection(index_id, automation)
        plan = self.plan_backfill(index_id, automation, run_ids, since=since, until=until, only=only)
        wanted = {run.run_id for run in plan.prompt_runs}
        runs = [run for run in existing if run.run_id in wanted or run.run_id in set(plan.already_delivered)]
        sync_partitions(instance, index_id, existing)
        with naming_unreadable("delivered", len(runs), unreadable):
            if wanted:
                partitions = [partition_key(run.run_id) for run in runs if run.run_id in wanted]
                title = f"{len(partitions)} prompt runs of {index_id} to {automation}"
                backfill_id = submit(instance, self._deployment.definitions, key, partitions, title)
                for _ in follow(instance, backfill_id):
                    done = len(wanted & _delivered_since(pipeline.collection(index_id, automation), before))
                    _LOG.info("backfill %s: %d of %d prompt runs delivered", backfill_id, done, len(wanted))
            return self._outcome(index_id, automation, runs, pipeline.collection(index_id, automation), before, None)

    def _chosen(  # noqa: PLR0917
        self,
        index_id: str,
        automation: str,
        existing: Sequence[PromptRun],
        run_ids: Sequence[str] | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Sequence[PromptRun]:
        return [
            run
            for run in self._deployment.pipeline.eligible(index_id, automation, existing, run_ids)
            if (since is None or run.executed_at >= since) and (until is None or run.executed_at < until)
        ]

    def _planned(self, run: PromptRun, state: LogState) -> PlannedRun:
        pipeline = self._deployment.pipeline
        snapshot = pipeline.store.unchanged(pipeline.source, run)
        files = [part for parts in snapshot.tables.values() for part in parts] if snapshot is not None else []
        return PlannedRun(
            run_id=run.run_id,
            status=str(run.status),
            executed_at=_time_text(run.executed_at),
            change="changed" if run.run_id in state.runs else "missing",
            rows=sum(part.rows for part in files) if snapshot is not None else run.count("total_segments"),
            bytes=sum(part.bytes for part in files) if snapshot is not None else None,
        )

    def _deliver(
        self, index_id: str, automation: str, runs: Sequence[PromptRun], is_wanted: Callable[[PromptRun], bool]
    ) -> AutomationRun:
        pipeline = self._deployment.pipeline
        config = pipeline.config.automation(index_id, automation)
        before = pipeline.collection(index_id, automation)
        wanted = [run.run_id for run in runs if is_wanted(run)]
        key = asset_key(index_id, "exports", automation)
        launched = self._deployment.launch_stretches(index_id, wanted, key, config.max_runs_per_delivery)
        after = pipeline.collection(index_id, automation)
        return self._outcome(index_id, automation, runs, after, before, launched)

    def _outcome(  # noqa: PLR0917
        self,
        index_id: str,
        automation: str,
        runs: Sequence[PromptRun],
        after: LogState,
        before: LogState,
        launched: Sequence[str] | None,
    ) -> AutomationRun:
        """What the log says that was delivered; with ``launched`` by these Dagster runs, since others may be at it."""
        config = self._deployment.pipeline.config.automation(index_id, automation)
        entries = [
            entry
            for entry in after.entries[len(before.entries) :]
            if launched is None or entry.provenance.dagster_run_id in launched
        ]
        mine = {run.run_id for run in runs}
        delivered = dict.fromkeys(run.run_id for entry in entries for run in entry.prompt_runs if run.run_id in mine)
        files = [file for entry in entries for file in entry.files if file.prompt_run_id in mine]
        reasons = {run.run_id: run.reason for entry in entries for run in entry.prompt_runs}
        return AutomationRun(
            index_id=index_id,
            automation=automation,
            destination_uri=self._deployment.pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            delivered=tuple(delivered),
            already_delivered=tuple(run.run_id for run in runs if run.run_id not in delivered),
            rows=sum(file.rows for file in files),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            dagster_run_ids=tuple(dict.fromkeys(entry.provenance.dagster_run_id or "" for entry in entries))
            if launched is None
            else tuple(launched),
            mended=tuple(run_id for run_id in delivered if reasons[run_id] == "mended"),
        )

    def _state(self, index_id: str, automation: str, listing: Listing) -> AutomationState:
        pipeline = self._deployment.pipeline
        runs = listing.runs
        config = pipeline.config.automation(index_id, automation)
        state, unreachable = LogState(), None
        try:
            state = pipeline.collection(index_id, automation)
        except VVExportsError as error:
            unreachable = str(error)  # to be seen in the list, among the others
        record = pipeline.following.record(index_id, automation)
        beginning, remembered = record.beginning(), record.state()
        executed_at = {run.run_id: run.executed_at for run in runs}
        before = pipeline.following.history(index_id, automation, state, executed_at) or frozenset()
        began_at = None if beginning is None else (state.began_at(f"{index_id}/{automation}") or beginning.began_at)
        sensor = delivery_sensor_name(index_id, automation)
        pause = pause_in_force(config, remembered.pause, self._deployment.instance_if_made, sensor)
        eligible = eligible_runs(runs, on_status=config.on_status, partial=config.partial, delivered=state.runs)
        undelivered = [run.run_id for run in eligible if not pipeline.up_to_date(run, config, state)]
        waiting = [run_id for run_id in undelivered if run_id not in before or run_id in state.runs]
        taken = {run.run_id for run in eligible} | set(state.runs)
        held = [
            run.run_id for run in runs if run.deliverable and run.status in config.on_status and run.run_id not in taken
        ]
        problems = {**pipeline.catalogs.read(index_id).problems, **remembered.problems}
        failing = [run_id for run_id in waiting if run_id in problems]
        return AutomationState(
            index_id=index_id,
            automation=automation,
            enabled=config.enabled,
            paused=pause is not None,
            paused_by=None if pause is None else pause.by,
            pause_reason=None if pause is None else pause.reason,
            destination_connector_id=config.destination_connector_id,
            destination_subpath=config.subpath,
            destination_uri=pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            format=config.format,
            began_at=None if began_at is None else _time_text(began_at),
            delivered=len(state.runs),
            waiting=len(waiting),
            failing=len(failing) + len(listing.problems),
            held=len(held),
            history=len(undelivered) - len(waiting),
            last_delivery_at=next((entry.committed_at for entry in reversed(state.entries) if entry.prompt_runs), None),
            last_error=unreachable or (None if remembered.failing is None else remembered.failing.message),
            waiting_runs=tuple(waiting),
            held_runs=tuple(held),
            problems={run_id: problems[run_id].message for run_id in failing}
            | {run_id: str(error) for run_id, error in listing.problems.items()},
        )


def _asked_for(listing: Listing, run_ids: Sequence[str] | None) -> tuple[Sequence[PromptRun], Mapping[str, Exception]]:
    """The readable runs, and what must be said of the others: nothing where the readable ones were named.

    Raises SourceDataError where one was named that is not readable.
    """
    return (listing.runs, listing.problems) if run_ids is None else (listing.named(run_ids), {})


def _delivered_since(after: LogState, before: LogState) -> set[str]:
    return {run.run_id for entry in after.entries[len(before.entries) :] for run in entry.prompt_runs}


def _is_wanted(run: PromptRun, state: LogState, only: Only | None) -> bool:
    return only is None or (run.run_id in state.runs) == (only == "changed")


def _time_text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "a user without a name"
