"""Verifying and mending what automations have delivered, through the client."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.plan import AutomationPlan
from vv_exports.automations.repair import Damage, damage_of, plan_repair
from vv_exports.client.checks import Checks
from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import error_of, launch
from vv_exports.defs.partitions import delivered_before
from vv_exports.delivery.entry import LogEntry
from vv_exports.delivery.log import entries_since, repair_command
from vv_exports.delivery.survey import survey
from vv_exports.delivery.verify import Verification, destinations, verify
from vv_exports.domain.destinations import check_subpath, log_entry_name
from vv_exports.errors import NotFoundError, RunFailedError, VVExportsError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MendedLogEntry:
    """An entry of the log that was mended, or would be. ``kept_at`` is where its bytes are kept."""

    entry: str
    problem: str
    kept_at: str | None


@dataclass(frozen=True)
class Repaired:
    """What a repair did. ``before`` is what was wrong, ``after`` how the collection stands now: what could not be
    mended is in its problems. ``delivered`` are the prompt runs that were delivered again."""

    index_id: str
    automation: str
    destination_uri: str
    before: Sequence[str]
    owner_restored: bool
    log_entries: Sequence[MendedLogEntry]
    delivered: Sequence[str]
    dagster_run_id: str | None
    after: Verification


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do."""

    index_id: str
    automation: str
    destination_uri: str
    before: Sequence[str]
    owner_restored: bool
    log_entries: Sequence[MendedLogEntry]
    delivery: AutomationPlan

    @property
    def document(self) -> dict[str, Any]:
        """All of it."""
        return {**vars(self), "dry_run": True, "delivery": self.delivery.document}


@tells_of_the_instance
class Repairs:
    """The collections of automations: whether they are what was delivered, and mending those that are not."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def verify(self, index_id: str, automation: str) -> Verification:
        """Re-read every committed file of an automation's collection, and compare it with the log. Raises NotFoundError
        where nothing was ever delivered."""
        found = self._deployment.pipeline.automations.get(index_id, automation)
        try:
            return verify(found.destination)
        except NotFoundError:
            if not found.places.is_at(found.destination):
                raise
        return _emptied(found)

    def emptied(self, connector_id: str, subpath: str | None) -> Sequence[Verification]:
        """The collections of a connector, or the one at a subpath, in which an automation has delivered, and of which
        nothing is left."""
        pipeline = self._deployment.pipeline
        connector = pipeline.connectors[connector_id]
        there = set(destinations(connector))
        return [
            _emptied(one)
            for one in pipeline.automations
            if one.destination.connector.connector_id == connector_id
            and subpath in {None, one.destination.subpath}
            and one.destination.subpath not in there
            and one.places.is_at(one.destination)
        ]

    def automations_at(self, connector_id: str, subpath: str | None) -> Sequence[tuple[str, str]]:
        """The automations, each with its index before it, that deliver to a connector, or to a subpath of it."""
        pipeline = self._deployment.pipeline
        connector = pipeline.connectors[connector_id]
        wanted = None if subpath is None else check_subpath(subpath, boundary=connector.uri(""))
        return [
            (one.index_id, one.name)
            for one in pipeline.automations
            if one.destination.connector.connector_id == connector_id and wanted in {None, one.destination.subpath}
        ]

    def plan(self, index_id: str, automation: str) -> RepairPlan:
        """What ``repair`` would do. Writes nothing."""
        deployment = self._deployment
        found = deployment.pipeline.automations.get(index_id, automation)
        before = self.verify(index_id, automation)
        damage = self._damage(found, before, deployment.instance_to_look_at)
        return RepairPlan(
            index_id=index_id,
            automation=automation,
            destination_uri=found.destination.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage),
            delivery=plan_repair(damage, deployment.pipeline.indexes.listing(index_id), deployment.pipeline.clock),
        )

    def repair(self, index_id: str, automation: str) -> Repaired:
        """Deliver again what is missing or altered in an automation's collection, make its log and its owner file
        whole, and nothing else. What was wrong with the log is kept beside it.

        What cannot be mended is in the problems of ``after``. Raises DestinationError where the folder is somebody
        else's, DeliveredDataError for what has to be mended by hand, RunFailedError where the work failed.
        """
        deployment = self._deployment
        found = deployment.pipeline.automations.get(index_id, automation)
        before = self.verify(index_id, automation)
        if not before.problems:
            return Repaired(index_id, automation, before.uri, (), False, (), (), None, before)
        found.check_enabled()
        damage = self._damage(found, before, deployment.instance)
        behind = damage.found.state.next_sequence
        run = launch(
            deployment.instance,
            deployment.definitions,
            [asset_key(index_id, "reconciliations", automation)],
            config={
                deployment.names.reconciliation(index_id, automation): {
                    "repair": True,
                    "damaged": list(before.damaged),
                }
            },
        )
        if run.status != dg.DagsterRunStatus.SUCCESS:
            message = error_of(deployment.instance, run.run_id) or f"it is {run.status.value}"
            raise RunFailedError(f"{message} (Dagster run {run.run_id})")
        after = verify(found.destination)
        self._note(found, after)
        delivered = [
            one.run_id
            for entry in entries_since(found.destination, behind)
            if _is_of(entry, run.run_id)
            for one in entry.prompt_runs
        ]
        return Repaired(
            index_id=index_id,
            automation=automation,
            destination_uri=after.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage),
            delivered=tuple(dict.fromkeys(delivered)),
            dagster_run_id=run.run_id,
            after=after,
        )

    def _damage(self, automation: Automation, before: Verification, instance: dg.DagsterInstance | None) -> Damage:
        pipeline = self._deployment.pipeline
        listing = pipeline.indexes.listing(automation.index_id)
        remembered = delivered_before(instance, automation)
        return damage_of(automation, listing, pipeline.clock, remembered, before.damaged)

    def _note(self, automation: Automation, after: Verification) -> None:
        try:
            Checks(self._deployment).note(automation.destination.connector.connector_id, [after])
        except VVExportsError as error:  # what is mended is mended
            _LOG.warning("the verification is not kept for the check of that name: %s", error)


def _is_of(entry: LogEntry, dagster_run_id: str) -> bool:
    return entry.provenance.dagster_run_id == dagster_run_id


def _mended(damage: Damage) -> tuple[MendedLogEntry, ...]:
    return tuple(
        MendedLogEntry(log_entry_name(one.sequence), one.problem, one.kept_at) for one in damage.mending.entries
    )


def _emptied(automation: Automation) -> Verification:
    destination = automation.destination
    there = survey(destination).there
    return Verification(
        subpath=destination.subpath,
        uri=destination.uri,
        prompt_runs=0,
        files=0,
        bytes=0,
        problems=(
            (
                f"{destination.uri} is empty, and automation {automation.name!r} of index {automation.index_id!r} had "
                "delivered there: somebody has removed all of it"
            ),
        ),
        advice=(repair_command(automation.index_id, automation.name) + " delivers again what was there.",),
        foreign=tuple(sorted(there)),
    )
