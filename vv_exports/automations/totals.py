"""What an automation has delivered in all, since its collection began: numbers that only grow.

They are the sum of the log's entries, which stay. What was summed up to an entry is kept in the pipeline's storage, so
that only new entries are read; losing it costs reading the log once.

Layout: ``automations/<index>/<automation>/totals/<version>.json.zst``
"""

import logging

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import LogEntry
from vv_exports.delivery.log import entries_since
from vv_exports.domain.names import storage_segment
from vv_exports.errors import VVExportsError

_LOG = logging.getLogger(__name__)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the entries before ``next_sequence`` of the log at ``uri``, the last of which is the delivery
    ``last``. ``rows`` are by table. What was delivered again counts again."""

    uri: str = ""
    next_sequence: int = 0
    last: str = ""
    deliveries: int = 0
    prompt_runs: int = 0
    files: int = 0
    bytes: int = 0
    rows: dict[str, int] = {}

    def after(self, entry: LogEntry) -> "Totals":
        """With one more entry."""
        rows = dict(self.rows)
        for file in entry.files:
            rows[file.table] = rows.get(file.table, 0) + file.rows
        return msgspec.structs.replace(
            self,
            next_sequence=entry.sequence + 1,
            last=entry.delivery_id,
            deliveries=self.deliveries + bool(entry.prompt_runs),
            prompt_runs=self.prompt_runs + len(entry.prompt_runs),
            files=self.files + len(entry.files),
            bytes=self.bytes + sum(file.bytes for file in entry.files),
            rows=rows,
        )


class DeliveredTotals:
    """Of one automation. Usable by several processes."""

    def __init__(self, storage: Connector, index_id: str, automation: str) -> None:
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}/totals"
        self._kept = VersionedDocument(storage, folder, Totals, Totals)
        self._totals: Totals | None = None

    def of(self, destination: Destination, last: LogEntry | None) -> Totals:
        """The totals of the log at a destination, which ends with ``last``. Entries that cannot be used are left out:
        what is wrong there is said where the log is replayed. Where they cannot be kept, or what was kept not be read,
        they are summed all the same: whoever asks may have the right to read alone."""
        if self._totals is not None and _is_of(self._totals, destination, last):
            return self._totals
        kept = self._totals or Totals()
        try:
            kept = self._kept.read()
        except VVExportsError as error:
            _LOG.info("what was summed of the log of %s cannot be read: %s", destination.uri, error)
        self._totals = found = kept if _is_of(kept, destination, last) else _summed(kept, destination)
        if found != kept:
            try:
                # Where another process was faster, what it kept is as right.
                self._kept.update(lambda there: found if there == kept else None)
            except VVExportsError as error:
                _LOG.info("what was summed of the log of %s cannot be kept: %s", destination.uri, error)
        return found


def _is_of(totals: Totals, destination: Destination, last: LogEntry | None) -> bool:
    ends = (0, "") if last is None else (last.sequence + 1, last.delivery_id)
    return (totals.uri, totals.next_sequence, totals.last) == (destination.uri, *ends)


def _summed(kept: Totals, destination: Destination) -> Totals:
    before = kept
    # The last one is read again: another log may have begun in that one's place.
    entries = entries_since(destination, max(0, kept.next_sequence - 1))
    if kept.uri == destination.uri and entries and _is_last_of(kept, entries[0]):
        entries = entries[1:]
    elif kept.next_sequence or kept.uri != destination.uri:
        before = Totals(uri=destination.uri)
        entries = entries_since(destination, 0)
    for entry in entries:
        before = before.after(entry)
    return before


def _is_last_of(kept: Totals, entry: LogEntry) -> bool:
    return (entry.sequence + 1, entry.delivery_id) == (kept.next_sequence, kept.last)
