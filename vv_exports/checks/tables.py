"""Do the tables of open table formats show what the delivery log holds?"""

from collections.abc import Mapping

from vv_exports.checks.outcome import SHOWN, TABLES, CheckOutcome
from vv_exports.printable import counted, one_line
from vv_exports.table_formats.base import FormatName
from vv_exports.table_formats.progress import Progress


def tables(
    index_id: str, automation: str, uri: str, last_entry: int, known: Mapping[FormatName, Progress]
) -> CheckOutcome:
    """Of the collection at ``uri``, whose log ends with ``last_entry``; -1 where nothing was delivered yet."""
    here = {name: one for name, one in known.items() if one.uri in {"", uri}}
    failed = [f"{name}: {one.problem.message}" for name, one in here.items() if one.problem is not None]
    rows: list[Mapping[str, str | int | None]] = []
    for name, one in here.items():
        for table, behind in one.behind.items():
            head = one.heads.get(table)
            shows = None if head is None else head.entry
            rows.append({"format": name, "table": table, "shows_entry": shows, "why": one_line(behind.message)})
            if behind.why == "failed":
                failed.append(f"{name} table {one_line(table)}: {one_line(behind.message)}")
    late = [name for name in known if name not in here or here[name].entry < last_entry]
    count = sum(len(one.heads) for one in here.values())
    if failed:
        more = f" And {len(failed) - 1} more." if len(failed) > 1 else ""
        said = f"Tables do not follow the delivery log; it is tried again. {failed[0]}{more}"
    elif rows:
        said = f"{counted(len(rows), 'table')} of an earlier entry: {rows[0]['table']}, since {rows[0]['why']}"
    elif late:
        said = (
            f"The {' and '.join(late)} tables are behind entry {last_entry} of the log, and follow with the next run."
        )
    else:
        said = f"{counted(count, 'table')} as of entry {last_entry} of the delivery log."
    at = max((one.at for one in here.values() if one.at is not None), default=None)
    problems = [one.problem.last_at for one in here.values() if one.problem is not None]
    return CheckOutcome(
        index_id,
        ("exports", automation),
        "tables",
        passed=last_entry < 0 or not (failed or rows or late),
        severity="ERROR" if failed else TABLES.severity,
        description=said if last_entry >= 0 else "Nothing was delivered yet.",
        at=None if last_entry < 0 else max([*problems, *([at] if at is not None else [])], default=None),
        figures={"tables": count, "tables_behind": len(rows), "last_entry": last_entry},
        rows=rows[:SHOWN],
    )
