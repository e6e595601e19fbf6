"""What a destination holds as tables of a dataset: one for each prompt and folder of its Parquet files.

The columns are those of the newest files, which all files of a table of a prompt get. What a column means is what the
prompt's JSON Schema says of it, as the log has that schema.
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
    json_schema: Any

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
        return tuple(described(Table(self.table, Object(fields, absence_is_null=True)), self.json_schema))

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
    found: dict[tuple[str, str], list[tuple[CommittedRun, DeliveredFile]]] = {}
    for run in state.runs.values():
        for file in run.files:
            if file.path.endswith(".parquet"):
                found.setdefault((file.path.partition("/")[0], file.prompt_id), []).append((run, file))
    newest = {key: max(held, key=lambda one: one[0].entry.sequence) for key, held in found.items()}
    entries = {run.entry.sequence: _entry(destination, run.entry.sequence) for run, _ in newest.values()}
    ordered = sorted(newest, key=lambda key: (DELIVERED_TABLES.index(newest[key][1].table), *_natural(key)))
    return tuple(_table(key, found[key], newest[key], entries) for key in ordered)


def _natural(key: tuple[str, str]) -> tuple[int, str, str]:
    """``segments.v10`` comes after ``segments.v2``."""
    return len(key[0]), *key


def _table(
    key: tuple[str, str],
    held: list[tuple[CommittedRun, DeliveredFile]],
    newest: tuple[CommittedRun, DeliveredFile],
    entries: Mapping[int, LogEntry],
) -> CardTable:
    run, file = newest
    entry = entries[run.entry.sequence]
    told = next(one for one in entry.provenance.prompt_runs if one.run_id == run.run.run_id)
    schema = {"segments": told.schema_sha256, "videos": told.video_level_schema_sha256}.get(file.table)
    return CardTable(
        table=file.table,
        folder=key[0],
        path=file.path.rpartition("/")[0].rpartition("/")[0],
        prompt_id=key[1],
        prompt_name=told.prompt_name,
        runs=len({one.run.run_id for one, _ in held}),
        files=tuple(one for _, one in held),
        columns=columns_of(entry, file).fields,
        json_schema=entry.provenance.json_schemas.get(schema or ""),
    )


def _entry(destination: Destination, sequence: int) -> LogEntry:
    entry = read_entry(destination, sequence)
    if entry is None:
        raise DeliveredDataError(f"{destination.uri_of(log_entry_name(sequence))} was there a moment ago")
    return entry
