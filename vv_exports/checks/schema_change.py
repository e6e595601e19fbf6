"""Did the last delivery that brought results change the columns of a table, and what is that to its readers?"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import UNSET

from vv_exports.checks.outcome import OF_A_COLLECTION, SHOWN, CheckOutcome
from vv_exports.content.shapes import Effect
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import LogEntry, TableColumns, read_entry
from vv_exports.delivery.state import LogState
from vv_exports.printable import counted, one_line

_NAME = "schema_change"
_TO_READERS: dict[Effect, str] = {
    "added": "not affected: columns were added, and none changed",
    "widened": "affected where they declare the type that a column had",
    "text": "affected: a column is JSON text by now",
    "new_version": "affected: these prompt runs are in another folder, which a glob of the old one does not find",
}
_BROUGHT_NOTHING = {"reshaped", "reformatted", "mended"}


def last_news(destination: Destination, state: LogState) -> LogEntry | None:
    """The last entry that brought results. What follows of a change, such as writing older files with the columns that
    they have by now, is delivered after it and changes nothing more."""
    sequences = [held.entry.sequence for held in state.runs.values() if held.run.reason not in _BROUGHT_NOTHING]
    if not sequences and state.last_delivery is not None:
        sequences = [state.last_delivery.sequence]
    return read_entry(destination, max(sequences)) if sequences else None


def schema_change(index_id: str, automation: str, entry: LogEntry | None) -> CheckOutcome:
    """Of the tables of one delivery. None: nothing was delivered yet."""
    if entry is None:
        return _outcome(index_id, automation, (), None, "Nothing was delivered yet.")
    tables = () if entry.tables is UNSET else entry.tables
    changed = [table for table in tables if table.change is not None]
    run_ids = [run.run_id for run in entry.prompt_runs]
    if not changed:
        said = f"Delivery {entry.sequence}, of {counted(len(tables), 'table')}, changed no column that was there."
        return _outcome(index_id, automation, (), entry.moment, said, run_ids, len(tables))
    affected = sum(affects_readers(table) for table in changed)
    verdict = f"readers of {affected} of them are affected" if affected else "their readers are not affected"
    first = changed[0]
    said = (
        f"Delivery {entry.sequence} changed {counted(len(changed), 'table')}, and {verdict}. "
        f"{one_line(first.folder)} of prompt {one_line(first.prompt_id)}: {one_line(first.change or '')}"
    )
    return _outcome(index_id, automation, changed, entry.moment, said, run_ids, len(tables))


def affects_readers(table: TableColumns) -> bool:
    """Whether readers of a table whose columns changed have something to do. Entries of earlier versions do not tell
    what a change is to them: it may be anything."""
    return table.effect is UNSET or table.effect != "added"


def _outcome(  # noqa: PLR0917
    index_id: str,
    automation: str,
    changed: Sequence[TableColumns],
    at: datetime | None,
    description: str,
    run_ids: Sequence[str] = (),
    tables: int = 0,
) -> CheckOutcome:
    affected = [table for table in changed if affects_readers(table)]
    return CheckOutcome(
        index_id,
        ("exports", automation),
        _NAME,
        passed=not affected,
        severity=OF_A_COLLECTION[_NAME].severity,
        description=description,
        at=at,
        figures={"tables": tables, "changed": len(changed), "readers_affected": len(affected)},
        prompt_runs=run_ids,
        rows=[
            {
                "table": table.folder,
                "prompt": table.prompt_id,
                "change": table.change,
                "readers": "may be affected" if table.effect is UNSET else _TO_READERS[table.effect],
            }
            for table in [*affected, *(one for one in changed if one not in affected)][:SHOWN]
        ],
    )
