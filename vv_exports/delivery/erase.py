"""Taking prompt runs out of a collection: an entry of the log that says so and why, then their files.

The entry comes first, as with every other change. Whoever is about to commit files of such a run finds it, and
conflicts.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

from vv_exports import __version__
from vv_exports.connectors.lease import only_writer
from vv_exports.delivery.checksums import write_checksums
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import (
    FORMAT_WITHOUT_QUARANTINE,
    DeliveredRun,
    Erasure,
    LogEntry,
    Provenance,
    RowCounts,
    write_entry,
)
from vv_exports.delivery.log import keep_checkpoint, read_log
from vv_exports.delivery.ownership import check_log, owner_by_either
from vv_exports.delivery.state import LogState
from vv_exports.domain.json_text import encode_sorted
from vv_exports.errors import TransientError
from vv_exports.snapshots.tables import LAYOUT_VERSION

_ATTEMPTS = 5


def erase_runs(
    destination: Destination, run_ids: Collection[str], reason: str, clock: Callable[[], datetime]
) -> tuple[str, ...]:
    """Take prompt runs out of a destination, in one commit. Their files stay until they are vacuumed. Returns the runs
    that were there. Raises TransientError where deliveries kept coming first."""
    with only_writer(destination.connector, destination.subpath) as lease:
        for _ in range(_ATTEMPTS):
            state = read_log(destination)
            held = tuple(sorted(set(run_ids) & state.runs.keys()))
            if not held:
                return ()
            owner = destination.owner or owner_by_either(destination)
            check_log(replace(destination, owner=owner), state)
            entry = _entry(destination, state, held, reason, clock())
            if write_entry(destination, entry, lease):
                state.apply(entry)
                write_checksums(destination, state)
                keep_checkpoint(destination, state, entry.sequence)
                return held
    raise TransientError(f"{destination.uri}: {_ATTEMPTS} deliveries came first; try again")


def _entry(destination: Destination, state: LogState, run_ids: tuple[str, ...], reason: str, now: datetime) -> LogEntry:
    last = state.last
    if last is None:
        raise ValueError("a log that holds prompt runs has entries")
    named = hashlib.sha256(encode_sorted(["erase", destination.uri, state.next_sequence, list(run_ids)]))
    return LogEntry(
        format_version=FORMAT_WITHOUT_QUARANTINE,
        delivery_id=named.hexdigest()[:32],
        sequence=state.next_sequence,
        committed_at=now.isoformat().replace("+00:00", "Z"),
        export=last.export,
        files=[],
        prompt_runs=[
            DeliveredRun(
                run_id=run_id,
                prompt_id=held.run.prompt_id,
                status="erased",
                revision=held.run.revision,
                data_version="",
                counts=RowCounts(expected=None, delivered=0, failed=0),
                supersedes=held.entry.sequence,
            )
            for run_id in run_ids
            for held in [state.runs[run_id]]
        ],
        provenance=Provenance(
            vv_exports_version=__version__,
            dagster_run_id=None,
            snapshot_store=last.provenance.snapshot_store,
            format=last.provenance.format,
            layout_version=LAYOUT_VERSION,
            prompt_runs=[],
            json_schemas={},
            commit="put_if_absent" if destination.connector.decides_among_writers() else "single_writer",
        ),
        erasure=Erasure(reason=reason, runs=list(run_ids)),
    )
