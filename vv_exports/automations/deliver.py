"""Paying what an automation owes: snapshots of prompt runs into its collection, and what became of it, remembered."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import Conflict
from vv_exports.content.known_fields import check_fields
from vv_exports.delivery.deliver import Delivery, DeliveryRequest
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.delivery.state import LogState
from vv_exports.errors import (
    ContractBrokenError,
    DeliveryConflictError,
    NoRoomError,
    NotFoundError,
    OutcomeUnknownError,
    QuotaError,
    RequestError,
    SchemaConflictError,
    SelectionError,
    TransientError,
    VVExportsError,
)
from vv_exports.snapshots.schemas import schemas_of
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Batch, TakenSnapshot

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: the commits, and why runs are not among them, by run id."""

    deliveries: Sequence[Delivery]
    problems: Mapping[str, Exception]


def take_snapshots(
    automation: Automation, run_ids: Sequence[str], now: datetime, mending: Collection[str] = ()
) -> Batch:
    """The snapshots for a delivery. Where they cannot be had, that is remembered.

    What is there already and is delivered for its shape alone, or is one of ``mending``, needs no source: that may have
    the run no more.
    """
    automation.check_enabled()
    batch = _taken(automation, run_ids, now, mending)
    if automation.content.options.format.has_columns:
        return batch
    try:
        return automation.snapshots.with_answers(batch)
    except Exception as error:
        automation.failed(error, now)
        raise


def _taken(automation: Automation, run_ids: Sequence[str], now: datetime, mending: Collection[str]) -> Batch:
    try:
        batch = automation.snapshots.of_ids(automation.index_id, run_ids)
        without = [
            run_id for run_id, error in batch.problems.items() if isinstance(error, NotFoundError | SelectionError)
        ]
        kept = automation.kept_snapshots(without, mending) if without else {}
        taken = [*batch.taken, *(TakenSnapshot(one, fresh=False) for one in kept.values())]
        return Batch(taken, {run_id: error for run_id, error in batch.problems.items() if run_id not in kept})
    except Exception as error:
        if isinstance(error, VVExportsError) and len(kept := automation.kept_snapshots(run_ids, mending)) == len(
            set(run_ids)
        ):
            _LOG.warning("delivering what is kept of %d prompt runs, since: %s", len(kept), error)
            return Batch([TakenSnapshot(one, fresh=False) for one in kept.values()], {})
        automation.failed(error, now)
        raise


def deliver_batch(
    automation: Automation,
    deliveries: Deliveries,
    batch: Batch,
    dagster_run_id: str | None,
    damaged: frozenset[str] = frozenset(),
) -> Outcome:
    """Deliver what could be read of a batch, in one commit; committed files in ``damaged`` are written again. What is
    delivered for its shape alone comes after the rest, in a commit of its own.

    Where the fault may be one run's, each is delivered by itself, so that it does not stand in the others' way.
    Raises what is no fault of a single run. The outcome is remembered either way.
    """
    try:
        state = automation.collection()  # a log that cannot be read is no fault of a run
        own = [schema for snapshot in batch.snapshots for schema in schemas_of(snapshot.prompt)]
        index_id = automation.index_id
        check_fields(automation.content.options, index_id, own, lambda: automation.snapshots.schemas(index_id))
        outcome = commit_batch(
            automation,
            state,
            batch.snapshots,
            lambda one: deliveries.deliver(one, automation.collection()),
            dagster_run_id,
            damaged,
        )
    except Exception as error:
        automation.failed(error, deliveries.clock())
        raise
    if outcome.deliveries:
        automation.places.settle(automation.destination, deliveries.clock())
        automation.write_card()
    automation.follow_tables()
    delivered = [run.run_id for delivery in outcome.deliveries for run in delivery.prompt_runs]
    versions = {snapshot.run_id: snapshot.data_version for snapshot in batch.snapshots}
    automation.record.succeeded(
        delivered,
        {**batch.problems, **outcome.problems},
        deliveries.clock(),
        {
            run_id: Conflict(
                data_version=versions[run_id],
                uri=automation.destination.uri,
                why="contract" if isinstance(error, ContractBrokenError) else "conflict",
            )
            for run_id, error in outcome.problems.items()
            if isinstance(error, SchemaConflictError | ContractBrokenError)
        },
    )
    return outcome


def commit_batch(  # noqa: PLR0917
    automation: Automation,
    state: LogState,
    snapshots: Sequence[Snapshot],
    deliver: Callable[[DeliveryRequest], Delivery],
    dagster_run_id: str | None = None,
    damaged: frozenset[str] = frozenset(),
) -> Outcome:
    """What becomes of snapshots beside what a log holds, by what delivers them, or rehearses it."""
    outcome = Outcome([], {})
    for some in _commits(automation, state, snapshots):
        made = deliver_isolated(automation.delivery_of(some, dagster_run_id, damaged), deliver)
        outcome = Outcome([*outcome.deliveries, *made.deliveries], {**outcome.problems, **made.problems})
    return outcome


def _commits(automation: Automation, state: LogState, snapshots: Sequence[Snapshot]) -> list[Sequence[Snapshot]]:
    """Which snapshots are delivered together."""
    up_to_date = automation.content.up_to_date(state)

    def is_reshaped(one: Snapshot) -> bool:
        held = state.runs.get(one.run_id)
        return held is not None and held.holds(one.data_version, one.status) and not up_to_date(held)

    by_kind: dict[bool, list[Snapshot]] = {False: [], True: []}
    for snapshot in snapshots:
        by_kind[is_reshaped(snapshot)].append(snapshot)
    return [some for some in by_kind.values() if some]


def deliver_isolated(request: DeliveryRequest, deliver: Callable[[DeliveryRequest], Delivery]) -> Outcome:
    """In one commit, without the runs that are to wait; where another run may be at fault, each by itself. Raises what
    would meet any other run too."""
    done: list[Delivery] = []
    problems: dict[str, Exception] = {}
    try:
        if request.snapshots:
            done.append(deliver(request))
    except Exception as error:
        if _is_everyones(error):
            raise
        others = [one for one in request.snapshots if not _waits(error, one)]
        if len(others) < len(request.snapshots):
            outcome = deliver_isolated(replace(request, snapshots=others), deliver)
            waiting = {one.run_id: error for one in request.snapshots if _waits(error, one)}
            return Outcome(outcome.deliveries, {**waiting, **outcome.problems})
        if len(request.snapshots) == 1:
            return Outcome([], {request.snapshots[0].run_id: error})
        _LOG.warning("delivering %d prompt runs one by one, since together: %s", len(request.snapshots), error)
        for snapshot in request.snapshots:
            try:
                done.append(deliver(replace(request, snapshots=[snapshot])))
            except Exception as one_error:
                if _is_everyones(one_error):
                    raise
                problems[snapshot.run_id] = one_error
    return Outcome(done, problems)


def _waits(error: Exception, snapshot: Snapshot) -> bool:
    """Whether an error says that this run is to wait."""
    return isinstance(error, SchemaConflictError | ContractBrokenError) and error.run_id == snapshot.run_id


def _is_everyones(error: Exception) -> bool:
    everyones = RequestError | TransientError | OutcomeUnknownError | QuotaError
    return isinstance(error, everyones) and not isinstance(error, DeliveryConflictError | NoRoomError)
