"""What the log says that an automation was given, by a call or by a backfill that somebody waited for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vv_exports.automations.automation import Automation
from vv_exports.automations.places import LeftPlace
from vv_exports.automations.selection import Selection
from vv_exports.delivery.entry import Reason
from vv_exports.delivery.log import entries_since
from vv_exports.delivery.state import LogState
from vv_exports.domain.tables import TableName, rows_by_table


@dataclass(frozen=True)
class AutomationRun:
    """What one run of an automation did. ``delivered``, ``already_delivered`` and ``history`` are prompt run ids; rows,
    files and bytes are of what was newly delivered, ``rows_by_table`` in the order of the tables. ``mended`` are those
    of the delivered ones of which no row changed: files of theirs were missing, damaged, or left over by a delivery
    that died. ``reshaped`` are those whose rows stand in other columns, another format or layout by now. ``history``
    was finished before the automation began, and was left alone since nobody asked for it. ``left`` are the addresses
    that it delivered to before this run, which nobody keeps up to date any more. ``quarantined`` of the rows are set
    apart, since they break their prompt's JSON Schema. ``erased`` are prompt runs that were taken out since they are
    deleted upstream; ``not_erased`` says why others that the source has no more were not, or not everywhere."""

    index_id: str
    automation: str
    destination_uri: str
    delivered: tuple[str, ...]
    already_delivered: tuple[str, ...]
    history: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    dagster_run_ids: tuple[str, ...]
    mended: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    quarantined: int = 0
    erased: tuple[str, ...] = ()
    not_erased: tuple[str, ...] = ()
    rows_by_table: Mapping[TableName, int] = field(default_factory=dict)


def outcome_of(
    automation: Automation,
    selection: Selection,
    before: LogState,
    left_before: Collection[LeftPlace],
    launched: Collection[str] | None,
) -> AutomationRun:
    """What was committed of a selection since ``before``, when the automation had left the places ``left_before``; with
    ``launched`` by these Dagster runs, since others may be at it."""
    mine = {*selection.todo, *selection.there}
    entries = [
        entry
        for entry in entries_since(automation.destination, before.next_sequence)
        if launched is None or entry.provenance.dagster_run_id in launched
    ]
    reasons: dict[str, Reason | None] = {}
    for entry in entries:
        for run in entry.prompt_runs:
            if run.run_id in mine:
                reasons.setdefault(run.run_id, run.reason)
    files = [file for entry in entries for file in entry.files if file.prompt_run_id in mine]
    known_left = {one.place for one in left_before}
    by_runs: Sequence[str] = [entry.provenance.dagster_run_id or "" for entry in entries]
    return AutomationRun(
        index_id=automation.index_id,
        automation=automation.name,
        destination_uri=automation.destination.uri,
        delivered=tuple(reasons),
        already_delivered=tuple(one for one in (*selection.there, *selection.todo) if one not in reasons),
        history=selection.history,
        rows=sum(file.rows for file in files),
        rows_by_table=rows_by_table(files),
        files=len(files),
        bytes=sum(file.bytes for file in files),
        dagster_run_ids=tuple(launched if launched is not None else dict.fromkeys(by_runs)),
        mended=tuple(run_id for run_id, reason in reasons.items() if reason == "mended"),
        reshaped=tuple(run_id for run_id, reason in reasons.items() if reason == "reshaped"),
        quarantined=sum(file.rows for file in files if file.table == "quarantine"),
        left=tuple(one.place.uri for one in automation.places.left() if one.place not in known_left),
    )
