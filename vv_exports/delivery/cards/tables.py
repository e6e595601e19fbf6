"""What a destination holds as tables of a dataset: one for each prompt and folder of its Parquet files.

The columns are those of the newest files, which all files of a table of a prompt get. What a column means is what the
prompt's JSON Schema says of it, as the log has that schema: the newest one that says something, of the entries that are
looked at.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vv_exports.content.described import DescribedColumn, described
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry, read_entry
from vv_exports.delivery.state import CommittedRun, LogState
from vv_exports.delivery.views.collection import columns_of
from vv_exports.domain.destinations import log_entry_name
from vv_exports.domain.tables import DELIVERED_TABLES, TableName
from vv_exports.errors import DeliveredDataError
from vv_exports.snapshots.columns import Column, Object
from vv_exports.snapshots.tables import RUN_COLUMNS, Table

_ADDED = frozenset({*RUN_COLUMNS, "rescued", "absent"})
_SAME_ROWS = ("reshaped", "reformatted", "mended")
_MOST_ENTRIES = 8
"""Of a table, that are looked at for what columns mean: a large log is not read for each delivery."""

_Held = list[tuple[CommittedRun, DeliveredFile]]


@dataclass(frozen=True)
class CardTable:
    """A table's files of one prompt: ``folder`` is such as ``segments.v2``, ``path`` the folder of these files, and
    ``name`` tells it from every other one there. ``columns`` are theirs, in their order."""

    table: TableName
    folder: str
    path: str
    prompt_id: str
    prompt_name: str
    runs: int
    files: tuple[DeliveredFile, ...]
    columns: Mapping[str, Column]
    json_schemas: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Made of the names in its files' paths, which hold ``A-Z a-z 0-9 . _ ~ - %`` alone."""
        return f"{self.folder}-{self.path.rpartition('=')[2]}"

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(file.rows for file in self.files)

    @cached_property
    def described(self) -> tuple[DescribedColumn, ...]:
        """The columns for people; of ``metadata``, those that have no columns in them."""
        fields = {name: column for name, column in self.columns.items() if name not in _ADDED}
        table = Table(self.table, Object(fields, absence_is_null=True))
        told = [tuple(described(table, schema)) for schema in self.json_schemas or (None,)]
        return tuple(next((one for one in each if one.description), each[0]) for each in zip(*told, strict=True))

    def patterns(self, superseded: Collection[str]) -> list[str]:
        """What names its files: a pattern, or each of them where the pattern would take superseded ones as well."""
        if any(path.startswith(f"{self.path}/") for path in superseded):
            return sorted(file.path for file in self.files)
        return [f"{self.path}/**/*.parquet"]


def card_tables(destination: Destination, state: LogState) -> tuple[CardTable, ...]:
    """The tables of the Parquet files that a destination holds by its log, by table, folder and prompt. Those of
    ``failures`` and ``quarantine`` are among them; a table without rows is not, since it has no file.

    Raises RequestError where version 0.1 delivered a file without telling its columns.
    """
    found: dict[tuple[str, str], _Held] = {}
    for run in state.runs.values():
        for file in run.files:
            if file.path.endswith(".parquet"):
                found.setdefault((file.path.partition("/")[0], file.prompt_id), []).append((run, file))
    entries: dict[int, LogEntry] = {}
    tables = []
    for (folder, prompt_id), held in found.items():
        wanted = _entries_of(held)
        for sequence in wanted - entries.keys():
            entries[sequence] = _entry(destination, sequence)
        tables.append(_table(folder, prompt_id, held, {sequence: entries[sequence] for sequence in wanted}))
    # By table, and of its versions v10 after v2.
    order = {table: number for number, table in enumerate(DELIVERED_TABLES)}
    return tuple(sorted(tables, key=lambda one: (order[one.table], len(one.folder), one.folder, one.prompt_id)))


def _entries_of(held: _Held) -> set[int]:
    """The entries to look at: the newest of all, and the newest ones that brought other rows."""
    newest = max(run.entry.sequence for run, _ in held)
    brought = sorted({run.entry.sequence for run, _ in held if run.run.reason not in _SAME_ROWS}, reverse=True)
    return {newest, *brought[:_MOST_ENTRIES]}


def _table(folder: str, prompt_id: str, held: _Held, entries: Mapping[int, LogEntry]) -> CardTable:
    """A table, of the entries that are looked at, by their numbers."""
    run, file = max(held, key=lambda one: one[0].entry.sequence)
    runs = {one.run.run_id: one for one, _ in held}
    told = [
        (runs[one.run_id].run.reason in _SAME_ROWS, -number, entry, one)
        for number, entry in entries.items()
        for one in entry.provenance.prompt_runs
        if one.run_id in runs and runs[one.run_id].entry.sequence == number
    ]
    told.sort(key=lambda one: one[:2])
    schemas = {
        sha256: entry.provenance.json_schemas.get(sha256)
        for *_, entry, one in told
        for sha256 in [{"segments": one.schema_sha256, "videos": one.video_level_schema_sha256}.get(file.table)]
        if sha256 is not None
    }
    return CardTable(
        table=file.table,
        folder=folder,
        path=file.path.rpartition("/")[0].rpartition("/")[0],
        prompt_id=prompt_id,
        prompt_name=told[0][-1].prompt_name,
        runs=len(runs),
        files=tuple(one for _, one in held),
        columns=columns_of(entries[run.entry.sequence], file).fields,
        json_schemas=tuple(schemas.values()),
    )


def _entry(destination: Destination, sequence: int) -> LogEntry:
    entry = read_entry(destination, sequence)
    if entry is None:
        raise DeliveredDataError(f"{destination.uri_of(log_entry_name(sequence))} was there a moment ago")
    return entry
