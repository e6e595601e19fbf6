"""Verifying and mending what automations have delivered, through the client."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.plan import AutomationPlan
from vv_exports.automations.repair import Damage, damage_of, listing_for, plan_repair
from vv_exports.client.checks import Checks
from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.keys import reconciliation_key
from vv_exports.defs.launches import error_of, launch
from vv_exports.defs.partitions import delivered_before
from vv_exports.delivery.bag import bag_subpath
from vv_exports.delivery.deliver import Delivery
from vv_exports.delivery.log import entries_since, repair_command
from vv_exports.delivery.mending import Mending
from vv_exports.delivery.survey import is_of_the_log
from vv_exports.delivery.verify import Verification, verify, verify_connector
from vv_exports.domain.destinations import is_in_table, log_entry_name, log_sequence, registered_in
from vv_exports.errors import NotFoundError, RequestError, RunFailedError, VVExportsError
from vv_exports.exports.records import Record
from vv_exports.exports.repair import ExportDamage, damage_of_export, repair_export
from vv_exports.printable import one_line

_LOG = logging.getLogger(__name__)
_NO_MORE = (
    (
        "This is what could not be mended. Files that are not committed by any entry, and whose prompt run neither the "
        "source nor a snapshot has, may be the only copy: `vv-exports vacuum` would remove them, so copy them first."
    ),
    "What is not the pipeline's is yours to move out of the folders of the tables.",
)


@dataclass(frozen=True)
class MendedLogEntry:
    """An entry of the log that was mended, or would be. ``kept_at`` is where its bytes are kept."""

    entry: str
    problem: str
    kept_at: str | None


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair did, to the collection of an automation or to an export on demand. ``before`` is what was wrong,
    ``after`` how it stands now: what could not be mended is in its problems, and ``not_mended`` says why, where all of
    it could not. ``delivered`` are the prompt runs that were delivered again, ``problems`` says why others were not."""

    index_id: str | None = None
    automation: str | None = None
    export_id: str | None = None
    destination_uri: str
    before: Sequence[str] = ()
    owner_restored: bool = False
    log_entries: Sequence[MendedLogEntry] = ()
    delivered: Sequence[str] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    dagster_run_id: str | None = None
    not_mended: str | None = None
    after: Verification

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong any more, and nothing was lost."""
        return not self.after.problems and not self.problems

    @property
    def document(self) -> dict[str, Any]:
        """All of it."""
        return vars(self)


@dataclass(frozen=True, kw_only=True)
class RepairPlan:
    """What a repair would do. ``delivery`` is what it would deliver to an automation's collection, in full;
    ``would_deliver`` are the prompt runs."""

    index_id: str | None = None
    automation: str | None = None
    export_id: str | None = None
    destination_uri: str
    before: Sequence[str] = ()
    owner_restored: bool = False
    log_entries: Sequence[MendedLogEntry] = ()
    would_deliver: Sequence[str] = ()
    not_mended: str | None = None
    delivery: AutomationPlan | None = None

    @property
    def is_fine(self) -> bool:
        """Whether nothing would be in the way."""
        return self.not_mended is None and not (self.delivery is not None and self.delivery.is_stopped)

    @property
    def document(self) -> dict[str, Any]:
        """All of it."""
        delivery = None if self.delivery is None else self.delivery.document
        return {**vars(self), "dry_run": True, "delivery": delivery}


@tells_of_the_instance
class Repairs:
    """The collections of automations: whether they are what was delivered, and mending those that are not."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def verify(self, index_id: str, automation: str) -> Verification:
        """Re-read every committed file of an automation's collection, and compare it with the log. Raises NotFoundError
        where nothing was ever delivered."""
        found = self._deployment.pipeline.automations.get(index_id, automation)
        return (
            _emptied(found)
            if _is_emptied(found)
            else _with_erased(found, verify(found.destination, self._deployment.work))
        )

    def _emptied_at(self, connector_id: str, subpath: str | None) -> Sequence[Verification]:
        """The collections of a connector, or the one at a subpath, in which an automation has delivered, and of which
        nothing is left."""
        return [
            _emptied(one)
            for one in self._deployment.pipeline.automations
            if one.destination.connector.connector_id == connector_id
            and (subpath is None or subpath.removesuffix("/") == one.destination.subpath)
            and _is_emptied(one)
        ]

    def plan(self, index_id: str, automation: str) -> RepairPlan:
        """What ``repair`` would do. Writes nothing."""
        found = self._deployment.pipeline.automations.get(index_id, automation)
        return self._plan(found, self.verify(index_id, automation))

    def repair(self, index_id: str, automation: str) -> Repaired:
        """Deliver again what is missing or altered in an automation's collection, make its log and its owner file
        whole, and nothing else. What was wrong with the log is kept beside it.

        What cannot be mended is in the problems of ``after``. Raises DestinationError where the folder is somebody
        else's, DeliveredDataError for what has to be mended by hand, RunFailedError where the work failed.
        """
        found = self._deployment.pipeline.automations.get(index_id, automation)
        return self._repair(found, self.verify(index_id, automation))

    def plan_at(self, connector_id: str, subpath: str | None = None) -> Sequence[RepairPlan]:
        """What ``repair_at`` would do. Writes nothing."""
        return [self._plan_at(connector_id, one) for one in self.verified_at(connector_id, subpath)]

    def repair_at(self, connector_id: str, subpath: str | None = None) -> Sequence[Repaired]:
        """Mend all that was delivered to a connector, or at a subpath of it: collections of automations, and exports on
        demand. One that cannot be mended does not stand in the others' way."""
        return [self._repaired_at(connector_id, one) for one in self.verified_at(connector_id, subpath)]

    def verified_at(self, connector_id: str, subpath: str | None = None) -> Sequence[Verification]:
        """Re-read what was delivered to a connector, or at a subpath of it. Raises NotFoundError where nothing was."""
        connector = self._deployment.pipeline.connectors[connector_id]
        emptied = self._emptied_at(connector_id, subpath)
        if subpath is not None and emptied:
            return emptied
        by_subpath = {
            one.destination.subpath: one
            for one in self._deployment.pipeline.automations
            if one.destination.connector.connector_id == connector_id
        }
        found = [
            one if (automation := by_subpath.get(one.subpath)) is None else _with_erased(automation, one)
            for one in verify_connector(connector, subpath, self._deployment.work)
        ]
        return [*(one for one in found if one.subpath not in {it.subpath for it in emptied}), *emptied]

    def _plan_at(self, connector_id: str, before: Verification) -> RepairPlan:
        if not before.problems:
            return RepairPlan(destination_uri=before.uri)
        try:
            found = self._who_delivers(connector_id, before.subpath)
            if isinstance(found, Automation):
                return self._plan(found, before)
            damage = self._damage_of_export(found, before)
        except VVExportsError as error:
            return RepairPlan(destination_uri=before.uri, before=before.problems, not_mended=str(error))
        return RepairPlan(
            index_id=found.request.index_id,
            export_id=found.export_id,
            destination_uri=before.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage.mending),
            would_deliver=_runs_of(damage.outcome),
        )

    def _repaired_at(self, connector_id: str, before: Verification) -> Repaired:
        if not before.problems:
            return Repaired(destination_uri=before.uri, after=before)
        pipeline = self._deployment.pipeline
        try:
            found = self._who_delivers(connector_id, before.subpath)
            if isinstance(found, Automation):
                return self._repair(found, before)
            damage = self._damage_of_export(found, before)
            repair_export(damage, pipeline.deliveries.deliver)
        except VVExportsError as error:
            return Repaired(destination_uri=before.uri, before=before.problems, not_mended=str(error), after=before)
        return Repaired(
            index_id=found.request.index_id,
            export_id=found.export_id,
            destination_uri=before.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage.mending),
            delivered=_runs_of(damage.outcome),
            after=verify(pipeline.exports.folder_of(found), self._deployment.work),
        )

    def _who_delivers(self, connector_id: str, subpath: str) -> Automation | Record:
        """Who delivers to a place, as the pipeline knows it. Raises NotFoundError."""
        pipeline = self._deployment.pipeline
        for one in pipeline.automations:
            if (one.destination.connector.connector_id, one.destination.subpath) == (connector_id, subpath):
                return one
        with suppress(RequestError):
            record = pipeline.exports.find(bag_subpath(subpath).rpartition("/")[2])
            there = None if record.is_download else pipeline.exports.folder_of(record)
            if there is not None and (there.connector.connector_id, there.subpath) == (connector_id, subpath):
                return record
        raise NotFoundError(
            f"no automation of the configuration delivers to {pipeline.connectors[connector_id].uri(subpath)}, and no "
            "record tells of an export on demand there: whoever delivered it can repair it"
        )

    def _damage_of_export(self, record: Record, before: Verification) -> ExportDamage:
        pipeline = self._deployment.pipeline
        return damage_of_export(pipeline.exports, record, pipeline.snapshots.store, pipeline.clock, before.damaged)

    def _plan(self, found: Automation, before: Verification) -> RepairPlan:
        deployment = self._deployment
        if not before.problems:
            return RepairPlan(index_id=found.index_id, automation=found.name, destination_uri=before.uri)
        damage = self._damage(found, before, deployment.instance_to_look_at)
        listing = listing_for(deployment.pipeline.indexes, found.index_id)
        return RepairPlan(
            index_id=found.index_id,
            automation=found.name,
            destination_uri=found.destination.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage.mending),
            would_deliver=damage.todo,
            delivery=plan_repair(damage, listing, deployment.pipeline.clock),
        )

    def _repair(self, found: Automation, before: Verification) -> Repaired:
        index_id, automation, deployment = found.index_id, found.name, self._deployment
        if not before.problems:
            return Repaired(index_id=index_id, automation=automation, destination_uri=before.uri, after=before)
        found.check_enabled()
        damage = self._damage(found, before, deployment.instance)
        run = launch(
            deployment.instance,
            deployment.definitions,
            [reconciliation_key(index_id, automation)],
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
        after = replace(verify(found.destination, self._deployment.work), advice=_NO_MORE)
        after = after if after.problems else replace(after, advice=())
        self._note(found, after)
        remembered = found.record.state().problems
        entries = entries_since(found.destination, damage.found.state.next_sequence)
        mine = [entry for entry in entries if entry.provenance.dagster_run_id == run.run_id]
        return Repaired(
            index_id=index_id,
            automation=automation,
            destination_uri=after.uri,
            before=before.problems,
            owner_restored=damage.lacks_owner,
            log_entries=_mended(damage.mending),
            delivered=tuple(dict.fromkeys(one.run_id for entry in mine for one in entry.prompt_runs)),
            problems={
                **damage.beyond,
                **{one: remembered[one].message for one in damage.todo if one in remembered},
            },
            dagster_run_id=run.run_id,
            after=after,
        )

    def _damage(self, automation: Automation, before: Verification, instance: dg.DagsterInstance | None) -> Damage:
        pipeline = self._deployment.pipeline
        listing = listing_for(pipeline.indexes, automation.index_id)
        remembered = delivered_before(instance, automation)
        return damage_of(automation, listing, pipeline.clock, remembered, before.damaged)

    def _note(self, automation: Automation, after: Verification) -> None:
        try:
            Checks(self._deployment).note(automation.destination.connector.connector_id, [after])
        except VVExportsError as error:  # what is mended is mended
            _LOG.warning("the verification is not kept for the check of that name: %s", error)


def _mended(mending: Mending) -> tuple[MendedLogEntry, ...]:
    return tuple(MendedLogEntry(log_entry_name(one.sequence), one.problem, one.kept_at) for one in mending.entries)


def _runs_of(outcome: Delivery | None) -> tuple[str, ...]:
    return () if outcome is None else tuple(run.run_id for run in outcome.prompt_runs if run.written)


def _is_emptied(automation: Automation) -> bool:
    """Whether an automation has delivered to its collection, of which there is neither a log nor a file of a table."""
    destination = automation.destination
    if not automation.places.is_at(destination):
        return False
    try:
        there = destination.files()
    except VVExportsError:  # a link, say: what verifies it says so
        return False
    # What says which files a table has is none of them.
    return not any(log_sequence(path) is not None or (is_in_table(path) and not registered_in(path)) for path in there)


def _with_erased(automation: Automation, found: Verification) -> Verification:
    """What a verification found, and the prompt runs that were erased and are there again: with a backup, say."""
    if found.problems:
        return found  # a repair looks for them whatever else is wrong
    held = automation.holdings().runs
    back = automation.snapshots.store.tombstones.taken_out(held, automation.index_id, automation.id)
    if not back:
        return found
    command = repair_command(automation.destination, automation.destination.owner)
    advice = f"Somebody put back what was there before the erasure. {command} takes it out again."
    return replace(
        found,
        problems=tuple(f"{found.uri} holds prompt run {one_line(one)}, which was erased" for one in sorted(back)),
        advice=(*found.advice, advice),
    )


def _emptied(automation: Automation) -> Verification:
    destination = automation.destination
    there = destination.files()
    return Verification(
        subpath=destination.subpath,
        uri=destination.uri,
        prompt_runs=0,
        files=0,
        bytes=0,
        problems=(
            (
                f"{destination.uri} has neither a log nor data, and automation {automation.name!r} of index "
                f"{automation.index_id!r} had delivered there: somebody has removed all of it"
            ),
        ),
        advice=(f"{repair_command(destination, destination.owner)} delivers again what was there.",),
        foreign=tuple(sorted(path for path in there if not is_of_the_log(path))),
    )
