"""Deliveries as they would be: the very attempts that deliver, with nothing written, claimed or removed.

What is found out about a delivery before it begins is what it finds out itself, so the two cannot say otherwise.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.lease import Lease
from vv_exports.delivery.deliver import Attempt, Delivery, DeliveryRequest
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry, Provenance, TableColumns
from vv_exports.delivery.log import read_log
from vv_exports.delivery.ownership import could_claim
from vv_exports.delivery.provenance import provenance_of
from vv_exports.delivery.state import LogState
from vv_exports.domain.progress import silent
from vv_exports.domain.tables import TableName
from vv_exports.snapshots.store import Snapshot, SnapshotStore


class Rehearsal:
    """Deliveries to one destination, one after the other. ``state`` is what its log would say after them;
    ``estimated`` are the paths of files whose size is not known before they are made; ``replaced`` are those that
    would be removed, and ``foreign`` those of the same folders that are not the pipeline's, and stay."""

    def __init__(
        self,
        store: SnapshotStore,
        clock: Callable[[], datetime],
        state: LogState,
        there: Mapping[str, StoredFile],
    ) -> None:
        self.state = state
        self.estimated: set[str] = set()
        self.replaced: dict[str, int] = {}
        self.foreign: dict[str, set[str]] = {}
        self._store = store
        self._clock = clock
        self._there = there

    @classmethod
    def at(
        cls,
        destination: Destination,
        store: SnapshotStore,
        clock: Callable[[], datetime],
        state: LogState | None = None,
    ) -> "Rehearsal":
        """At a destination as it is. ``state`` is what its log says, where that is known. Raises what a delivery
        there would raise: DestinationError where it is somebody else's, DeliveredDataError for a broken log."""
        there = could_claim(destination)
        return cls(store, clock, read_log(destination, listed=there) if state is None else state.copy(), there)

    def deliver(self, request: DeliveryRequest) -> Delivery:
        """What ``deliver`` would come to, after those before it. Raises what that would raise."""
        attempt = _Rehearsed(
            request, self._store, self._clock, silent, Lease(), state=self.state.copy(), there=self._there
        )
        outcome = attempt.run()
        if outcome is None:
            raise AssertionError("nobody else writes in a rehearsal")
        self.state = attempt.state
        self.estimated |= attempt.estimated
        self.replaced.update({path: self._there[path].size for path in outcome.removed if path in self._there})
        for run_id, found in attempt.there.items():
            if found.beside.foreign:
                self.foreign.setdefault(run_id, set()).update(found.beside.foreign)
        return outcome


class _Rehearsed(Attempt):
    """An attempt of which every part that writes only says what it would write."""

    def __init__(self, *arguments: object, **named: object) -> None:
        self.estimated: set[str] = set()
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def _many_writes(self) -> AbstractContextManager[None]:
        """None follow."""
        return nullcontext()

    def _upload_table(self, of: tuple[Snapshot, TableName]) -> list[DeliveredFile]:
        snapshot, table = of
        made = self.plan.files[snapshot.run_id, table]
        files: list[DeliveredFile] = []
        taken: set[str] = set()
        for foreseen in made.foreseen(self.store):
            files.append(self._file(snapshot, table, foreseen, taken))
            if not foreseen.exact:
                self.estimated.add(files[-1].path)
        return files

    def _commit(self, entry: LogEntry) -> LogEntry:
        return entry

    def _provenance(self) -> Provenance:
        """Neither the store's id nor whether the destination decides among writers: asking may write."""
        return provenance_of(
            self.request.content, self.pending, snapshot_store="", dagster_run_id=None, commit="put_if_absent"
        )

    def _tell_of_commit(self, state: LogState) -> None:
        """There is none."""

    def _write_checksums(self, state: LogState) -> None:
        """None are written."""

    def _keep_checkpoint(self, state: LogState, written: LogEntry) -> None:
        """None is kept."""

    def _warn_of_changes(self, tables: Sequence[TableColumns]) -> None:
        """Whoever asked is told with the rest."""

    def _remove_abandoned(self, state: LogState, expired: Collection[str]) -> tuple[str, ...]:
        return self._over(state, expired)
