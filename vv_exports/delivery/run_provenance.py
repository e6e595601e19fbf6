"""Every delivery of one prompt run to a destination, as the destination's log tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import LogEntry, Reason, RunProvenance
from vv_exports.delivery.log import LogFault, entries_and_faults


@dataclass(frozen=True)
class RunDelivery:
    """One of them. ``rows`` are by table, ``paths`` those of its files. ``superseded_by`` is the entry that put
    something else in its place; None for what the destination holds. ``erasure`` is the reason, where the entry took
    rows away, and ``is_erased`` where it took all of them."""

    uri: str
    entry: int
    committed_at: str
    delivery_id: str
    dagster_run_id: str | None
    vv_exports_version: str
    export: str
    format: str
    status: str
    revision: int
    data_version: str
    reason: Reason | None
    rows: Mapping[str, int]
    paths: tuple[str, ...]
    erasure: str | None
    is_erased: bool
    source: RunProvenance | None
    superseded_by: int | None = None


@dataclass(frozen=True)
class RunDeliveries:
    """All of them, in the order of the entries; ``problems`` are of entries that cannot be read, and may tell more."""

    deliveries: tuple[RunDelivery, ...]
    problems: tuple[str, ...]


def deliveries_of_run(destination: Destination, run_id: str) -> RunDeliveries:
    """Read each entry of a destination's log, and tell those that are of a prompt run."""
    found: list[RunDelivery] = []
    problems: list[str] = []
    for entry in entries_and_faults(destination):
        if isinstance(entry, LogFault):
            problems.append(entry.problem)
        elif (one := _of_entry(destination, entry, run_id)) is not None:
            found.append(one)
    superseded = [replace(one, superseded_by=after.entry) for one, after in pairwise(found)]
    return RunDeliveries((*superseded, *found[-1:]), tuple(problems))


def _of_entry(destination: Destination, entry: LogEntry, run_id: str) -> RunDelivery | None:
    run = next((one for one in entry.prompt_runs if one.run_id == run_id), None)
    if run is None:
        return None
    files = [file for file in entry.files if file.prompt_run_id == run_id]
    rows: dict[str, int] = {}
    for file in files:
        rows[file.table] = rows.get(file.table, 0) + file.rows
    made = entry.provenance
    return RunDelivery(
        uri=destination.uri,
        entry=entry.sequence,
        committed_at=entry.committed_at,
        delivery_id=entry.delivery_id,
        dagster_run_id=made.dagster_run_id,
        vv_exports_version=made.vv_exports_version,
        export=entry.export.id,
        format=made.format,
        status=run.status,
        revision=run.revision,
        data_version=run.data_version,
        reason=run.reason,
        rows=rows,
        paths=tuple(file.path for file in files),
        erasure=None if not entry.erasure else entry.erasure.reason,
        is_erased=run_id in entry.erased_runs,
        source=next((one for one in made.prompt_runs if one.run_id == run_id), None),
    )
