"""Paying what an automation owes: snapshots of prompt runs into its collection, and what became of it, remembered."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.delivery.deliver import Delivery, DeliveryRequest
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.errors import DeliveryConflictError, OutcomeUnknownError, QuotaError, RequestError, TransientError
from vv_exports.snapshots.taking import Batch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: the commits, and why runs are not among them, by run id."""

    deliveries: Sequence[Delivery]
    problems: Mapping[str, Exception]


def take_snapshots(automation: Automation, run_ids: Sequence[str], now: datetime) -> Batch:
    """The snapshots for a delivery. Where they cannot be had, that is remembered."""
    automation.check_enabled()
    try:
        return automation.snapshots.of_ids(automation.index_id, run_ids)
    except Exception as error:
        automation.failed(error, now)
        raise


def deliver_batch(
    automation: Automation,
    deliveries: Deliveries,
    batch: Batch,
    dagster_run_id: str | None,
    damaged: frozenset[str] = frozenset(),
) -> Outcome:
    """Deliver what could be read of a batch, in one commit; committed files in ``damaged`` are written again.

    Where the fault may be one run's, each is delivered by itself, so that it does not stand in the others' way.
    Raises what is no fault of a single run. The outcome is remembered either way.
    """
    try:
        request = automation.delivery_of(batch.snapshots, dagster_run_id, damaged)
        automation.collection()  # a log that cannot be read is no fault of a run
        outcome = deliver_isolated(request, lambda one: deliveries.deliver(one, automation.collection()))
    except Exception as error:
        automation.failed(error, deliveries.clock())
        raise
    if outcome.deliveries:
        automation.places.settle(automation.destination, deliveries.clock())
    delivered = [run.run_id for delivery in outcome.deliveries for run in delivery.prompt_runs]
    automation.record.succeeded(delivered, {**batch.problems, **outcome.problems}, deliveries.clock())
    return outcome


def deliver_isolated(request: DeliveryRequest, deliver: Callable[[DeliveryRequest], Delivery]) -> Outcome:
    """In one commit; where a run may be at fault, each by itself. Raises what would meet any other run too."""
    done: list[Delivery] = []
    problems: dict[str, Exception] = {}
    try:
        if request.snapshots:
            done.append(deliver(request))
    except Exception as error:
        if _is_everyones(error):
            raise
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


def _is_everyones(error: Exception) -> bool:
    everyones = RequestError | TransientError | OutcomeUnknownError | QuotaError
    return isinstance(error, everyones) and not isinstance(error, DeliveryConflictError)
