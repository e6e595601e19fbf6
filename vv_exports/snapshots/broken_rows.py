"""The rows of a snapshot that break their prompt's JSON Schema, told from the others when they are delivered."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.domain.tables import RunTable
from vv_exports.errors import SnapshotDamagedError
from vv_exports.snapshots.contract import Contract, Violation, contract_of
from vv_exports.snapshots.contract_report import ContractCheck, ContractReport
from vv_exports.snapshots.store import Rows, Snapshot, SnapshotStore
from vv_exports.snapshots.stored_parts import Part

WITH_ANSWERS: tuple[RunTable, ...] = ("segments", "videos")
"""The tables whose rows have ``metadata``, which the schema describes."""


class BrokenRows(NamedTuple):
    """Rows that break the schema, with the answer of each, and its reasons."""

    batch: pa.RecordBatch
    answers: pa.StringArray
    reasons: Sequence[Sequence[Violation]]


def breaks_contract(snapshot: Snapshot, table: str) -> bool:
    """Whether rows of a table are known to break the schema."""
    report = snapshot.contract.get(table)  # type: ignore[call-overload]
    return report is not None and report.broken > 0


def checked(store: SnapshotStore, snapshot: Snapshot) -> Snapshot:
    """The same with a report of each table that has answers. One that an earlier version took is checked by what is
    kept of it, without asking the source. Raises SnapshotDamagedError."""
    missing = [name for name in WITH_ANSWERS if name in snapshot.tables and name not in snapshot.contract]
    if not missing:
        return snapshot
    reports: dict[str, ContractReport] = {name: _report(store, snapshot, name) for name in missing}
    return msgspec.structs.replace(snapshot, contract={**snapshot.contract, **reports})


def _report(store: SnapshotStore, snapshot: Snapshot, table: RunTable) -> ContractReport:
    check = ContractCheck(contract_of(snapshot.schema_of(table)))
    for rows in store.rows(snapshot, table, answers=True):
        check.add(rows.batch, _answers(rows))
    return check.report


def parted(
    store: SnapshotStore, snapshot: Snapshot, table: RunTable, part: Part
) -> Iterator[tuple[Rows, BrokenRows | None]]:
    """Rows of one part, batch by batch: those that keep to the schema, and those that break it."""
    contract = contract_of(snapshot.schema_of(table))
    for rows in store.rows_of_part(snapshot.table(table), part, answers=True):
        yield _parted(contract, rows)


def _parted(contract: Contract, rows: Rows) -> tuple[Rows, BrokenRows | None]:
    answers = _answers(rows)
    found = contract.violations(rows.batch, answers)
    if not found:
        return rows, None
    broken = pa.array(sorted(found), pa.int64())
    kept = pc.invert(pc.is_in(pa.array(range(len(answers)), pa.int64()), broken))
    apart = BrokenRows(rows.batch.take(broken), answers.take(broken), [found[row] for row in sorted(found)])
    return Rows(rows.batch.filter(kept), answers.filter(kept)), apart


def _answers(rows: Rows) -> pa.StringArray:
    if rows.answers is None:
        raise SnapshotDamagedError("rows of a snapshot have no answers to check. Read the run again.")
    return rows.answers
