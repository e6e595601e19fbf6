"""Deliveries of many runs, of which one may be at fault."""

import logging
from collections.abc import Callable
from dataclasses import replace

from vv_exports.delivery.deliver import Delivery, DeliveryRequest
from vv_exports.errors import (
    DeliveryConflictError,
    OutcomeUnknownError,
    QuotaError,
    RequestError,
    TransientError,
)

_LOG = logging.getLogger(__name__)


def deliver_isolated(
    request: DeliveryRequest, deliver: Callable[[DeliveryRequest], Delivery]
) -> tuple[list[Delivery], dict[str, Exception]]:
    """Deliver in one commit; where a run may be at fault, each by itself. Returns why runs are not delivered.

    Raises what would meet the delivery of any other run too.
    """
    snapshots = request.snapshots
    deliveries: list[Delivery] = []
    problems: dict[str, Exception] = {}
    try:
        if snapshots:
            deliveries.append(deliver(request))
    except Exception as error:
        if _is_of_the_destination(error):
            raise
        if len(snapshots) == 1:
            return [], {snapshots[0].run_id: error}
        _LOG.warning("delivering %d prompt runs one by one, since together: %s", len(snapshots), error)
        for snapshot in snapshots:
            try:
                deliveries.append(deliver(replace(request, snapshots=[snapshot])))
            except Exception as one_error:
                if _is_of_the_destination(one_error):
                    raise
                problems[snapshot.run_id] = one_error
    return deliveries, problems


def _is_of_the_destination(error: Exception) -> bool:
    everyones = RequestError | TransientError | OutcomeUnknownError | QuotaError
    return isinstance(error, everyones) and not isinstance(error, DeliveryConflictError)
