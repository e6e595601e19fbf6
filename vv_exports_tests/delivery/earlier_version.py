"""What version 0.1 delivered of runs: their snapshots' own files, and an entry that tells schemas and no columns."""

import hashlib
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from vv_exports.connectors.lease import Lease
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.entry import DeliveredFile, DeliveredRun, LogEntry, RowCounts, write_entry
from vv_exports.delivery.log import keep_checkpoint, read_log
from vv_exports.delivery.ownership import claim
from vv_exports.delivery.provenance import provenance_of
from vv_exports.domain.destinations import part_name, run_folder
from vv_exports.domain.names import path_segment
from vv_exports.snapshots import reading, store
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.tables import tables_of
from vv_exports_tests.delivery.conftest import NOW, Deployment, content_of


def snapshot_of_0_1(deployment: Deployment, run_id: str, **run: Any) -> Snapshot:
    """A snapshot with the columns that version 0.1 gave it, and without answers."""
    with pytest.MonkeyPatch.context() as before:
        before.setattr(reading, "tables_of", partial(tables_of, layout_version=1))
        before.setattr(store, "LAYOUT_VERSION", 1)
        taken = deployment.snapshot(run_id, **run)
    tables = {
        name: [msgspec.structs.replace(part, answers=None) for part in parts] for name, parts in taken.tables.items()
    }
    return msgspec.structs.replace(taken, tables=tables)


def deliver_by_0_1(deployment: Deployment, *snapshots: Snapshot, **changes: Any) -> LogEntry:
    """One entry of these runs. ``changes`` are of its provenance."""
    destination = deployment.destination()
    claim(destination)
    state = read_log(destination)
    files = []
    for snapshot in snapshots:
        for table, parts in snapshot.tables.items():
            folder = run_folder(table, snapshot.prompt_id, snapshot.run_id, path_segment)
            for number, part in enumerate(parts):
                path = f"{folder}/{part_name(number, part.sha256, '.parquet')}"
                with spool_folder() as spool:
                    deployment.store.copy(part, spool / "part")
                    assert hashlib.sha256((spool / "part").read_bytes()).hexdigest() == part.sha256
                    destination.connector.put(spool / "part", destination.key(path))
                files.append(
                    DeliveredFile(
                        path=path,
                        table=table,
                        prompt_id=snapshot.prompt_id,
                        prompt_run_id=snapshot.run_id,
                        rows=part.rows,
                        bytes=part.bytes,
                        sha256=part.sha256,
                    )
                )
    made = provenance_of(
        content_of(layout_version=1),
        snapshots,
        snapshot_store=deployment.store.store_id,
        dagster_run_id=None,
        commit="put_if_absent",
    )
    entry = LogEntry(
        format_version=1,
        delivery_id=f"{state.next_sequence:032x}",
        sequence=state.next_sequence,
        committed_at=NOW.isoformat(),
        export=deployment.request(*snapshots).export,
        files=files,
        prompt_runs=[
            DeliveredRun(
                run_id=one.run_id,
                prompt_id=one.prompt_id,
                status=one.status,
                revision=one.revision,
                data_version=one.data_version,
                counts=RowCounts(expected=None, delivered=one.rows("segments"), failed=one.rows("failures")),
                supersedes=None if one.run_id not in state.runs else state.runs[one.run_id].entry.sequence,
                reason="new",
            )
            for one in snapshots
        ],
        provenance=msgspec.structs.replace(made, **{"content_id": UNSET, "content": UNSET, **changes}),
    )
    assert write_entry(destination, entry, Lease())
    state.apply(entry)
    destination.connector.delete(
        [destination.key(path) for path in sorted(state.abandoned & destination.files().keys())]
    )
    keep_checkpoint(destination, state, entry.sequence)
    return entry
