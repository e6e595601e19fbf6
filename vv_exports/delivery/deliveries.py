"""Deliveries from the snapshots of a deployment, also where its storage was set back or damaged meanwhile."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from vv_exports.connectors.lease import only_writer
from vv_exports.delivery.deliver import Delivery, DeliveryRequest, deliver
from vv_exports.delivery.erase import erase_runs
from vv_exports.delivery.log import read_log
from vv_exports.delivery.state import LogState
from vv_exports.delivery.vacuum import vacuum
from vv_exports.domain.progress import Report, Work, unseen
from vv_exports.errors import (
    DeliveryConflictError,
    SelectionError,
    SnapshotDamagedError,
    StorageSetBackError,
    VVExportsError,
)
from vv_exports.printable import one_line
from vv_exports.snapshots.taking import Snapshots

_LOG = logging.getLogger(__name__)


class Deliveries:
    """``progress`` is told (run id and table, rows) of each file, ``work`` how much is to be encoded and uploaded, and
    was."""

    def __init__(
        self, snapshots: Snapshots, *, clock: Callable[[], datetime], progress: Report, work: Work = unseen
    ) -> None:
        self._snapshots = snapshots
        self.clock = clock
        self._progress = progress
        self._work = work

    def deliver(self, request: DeliveryRequest, state: LogState | None = None) -> Delivery:
        """Carry out a delivery. ``state`` is what the destination's log said a moment ago.

        A storage that was restored may be behind the destination, or lack files: then the runs are read again, and
        delivered as they are.
        """
        self._snapshots.check_storage()
        delivery = self._deliver(request, state)
        self._undo_erased(request)
        self._snapshots.sweep()  # the connector is swept by the delivery
        return delivery

    def _undo_erased(self, request: DeliveryRequest) -> None:
        """What was erased while it was delivered is taken back: the erasure may have looked here before the commit."""
        store = self._snapshots.store
        try:
            store.check_not_erased(request.snapshots)
        except (SelectionError, DeliveryConflictError) as error:
            problem: VVExportsError = error
        else:
            return
        for one in request.snapshots:
            excluded = store.tombstones.excluded(one.index_id)
            if excluded.has_run(one.run_id):
                erase_runs(request.destination, [one.run_id], str(problem), self.clock)
            elif store.is_before_erasure(one, excluded):
                without = store.erase_media(one.index_id, one.run_id, self.clock())
                if without is not None:
                    again = replace(request, snapshots=[without], erased_since=str(problem), retain_superseded=None)
                    deliver(again, store, self.clock)
        if request.on_commit is not None:
            with only_writer(request.destination.connector, request.destination.subpath):
                request.on_commit(read_log(request.destination))
        vacuum(request.destination, self.clock, retained=True)
        raise problem

    def _deliver(self, request: DeliveryRequest, state: LogState | None) -> Delivery:
        read_again: set[str] = set()
        while True:
            try:
                return deliver(request, self._snapshots.store, self.clock, self._progress, state, work=self._work)
            except StorageSetBackError as error:
                problem: VVExportsError = error
                above = error.revisions
            except SnapshotDamagedError as error:
                problem = error
                above = {one.run_id: one.revision for one in request.snapshots if one.has_file(error.key)}
            if not above or not read_again.isdisjoint(above):
                raise problem
            _LOG.warning("prompt runs are read again (%s), since: %s", ", ".join(map(one_line, above)), problem)
            read_again.update(above)
            snapshots = [
                self._snapshots.read_again(one, above[one.run_id]) if one.run_id in above else one
                for one in request.snapshots
            ]
            request = replace(request, snapshots=snapshots)
