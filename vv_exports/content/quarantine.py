"""Rows that break their prompt's JSON Schema, set apart: the table ``quarantine``, with the answer and the reasons.

What is left out or replaced in the other tables is so here, too: an answer is the selected one, and a reason tells its
place only where the answer shows what is there.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vv_exports.connectors.spool import nothing_to_wait_for, spool_folder
from vv_exports.content.column_json import column_to_json
from vv_exports.content.encoding import encoding_of
from vv_exports.content.files import FilesOfRows, ForeseenFile, LocalFile, foreseen_by_making
from vv_exports.content.rules import Action, Rule
from vv_exports.content.selection import Selection
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.field_paths import ITEMS
from vv_exports.domain.json_text import decode
from vv_exports.domain.tables import RunTable
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.broken_rows import WITH_ANSWERS, BrokenRows, breaks_contract, parted
from vv_exports.snapshots.columns import Column, List, Object, Text
from vv_exports.snapshots.contract import Violation
from vv_exports.snapshots.json_pointer import tokens
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.tables import RUN_COLUMNS, Table, table_of, with_metadata

_ITS_OWN = frozenset({"table", "answer", "reasons"})
"""The columns that are not those of the row."""


class QuarantineFiles:
    """The files of a snapshot's rows that are set apart, of all the tables that are delivered."""

    def __init__(self, snapshot: Snapshot, options: ContentOptions, key: bytes | None = None) -> None:
        self._snapshot = snapshot
        self._options = options = options.for_quarantine
        self._selection = Selection(options, key)
        self._table = Table("quarantine", Object(self._fields(), nullable=False, absence_is_null=True))
        self._encoding = encoding_of(options.format, self._table)
        self._format = format_of(options)

    @property
    def columns(self) -> dict[str, Any]:
        """See ``TableFiles.columns``."""
        fields = {name: column_to_json(column) for name, column in self._table.column.fields.items()}
        strings = column_to_json(List(Text(), nullable=True))
        return {
            **dict.fromkeys(RUN_COLUMNS, column_to_json(Text(nullable=True))),
            **fields,
            "rescued": column_to_json(Text(nullable=True)),
            "absent": strings,
        }

    @property
    def shape(self) -> None:
        """The columns are the same for all prompts."""

    @property
    def parts(self) -> int:
        """One file is made of all, unless it is too large: they are seldom many."""
        return 1

    @property
    def spooled_bytes(self) -> int:
        """See ``TableFiles.spooled_bytes``."""
        tables = [self._snapshot.tables.get(table, ()) for table in WITH_ANSWERS]
        return max((sum(file.bytes for file in part.files) for parts in tables for part in parts), default=0)

    def check(self, store: SnapshotStore) -> None:
        """See ``TableFiles.check``."""

    def make(
        self, store: SnapshotStore, folder: Path, wait: Callable[[], None] = nothing_to_wait_for
    ) -> Iterator[LocalFile]:
        """See ``TableFiles.make``."""
        files = FilesOfRows(folder, self._encoding.schema, self._format, self._options.target_file_bytes, wait)
        yield from files.write(self._rows(store))

    def foreseen(self, store: SnapshotStore) -> list[ForeseenFile]:
        """See ``TableFiles.foreseen``. What breaks a contract is seldom much."""
        with spool_folder() as spool:
            return foreseen_by_making(self.make(store, spool))

    def _fields(self) -> dict[str, Column]:
        own = table_of("quarantine", None).column.fields
        # As in segments, which have all the others: what is hashed or masked is text in both.
        selected = self._selection.column(with_metadata(table_of("segments", None), None).column).fields
        fields = {name: column if name in _ITS_OWN else selected.get(name) for name, column in own.items()}
        return {name: column for name, column in fields.items() if column is not None}

    def _rows(self, store: SnapshotStore) -> Iterator[pa.RecordBatch]:
        for table in WITH_ANSWERS:
            if table in self._options.tables and breaks_contract(self._snapshot, table):
                for part in self._snapshot.tables.get(table, ()):
                    for _, broken in parted(store, self._snapshot, table, part):
                        if broken is None:
                            continue
                        yield self._encoding.rows(self._batch(table, broken), None)

    def _batch(self, table: RunTable, broken: BrokenRows) -> pa.RecordBatch:
        column = self._snapshot.table(table).column
        answers = self._selection.answers(broken.answers, broken.batch, column)
        record = self._selection.record(broken.batch, column)
        rows = broken.batch.num_rows
        told = pa.nulls(rows, pa.string()) if answers is None else answers
        rule = self._selection.rule_of_answers(column)
        reasons = [
            [one._asdict() for one in _told(violations, whole.as_buffer(), shown.as_py(), rule)]
            for violations, whole, shown in zip(broken.reasons, broken.answers, told, strict=True)
        ]
        made: dict[str, pa.Array] = {"table": pa.repeat(pa.scalar(table), rows)}
        for name in self._table.column.fields:
            if name in record.schema.names and name not in _ITS_OWN:
                made[name] = record.column(name)
        made |= {"answer": told, "reasons": pa.array(reasons, self._table.schema.field("reasons").type)}
        made |= {name: broken.batch.column(name) for name in RUN_COLUMNS}
        arrays = [
            made[field.name] if field.name in made else pa.nulls(rows, field.type) for field in self._table.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._table.schema)


def _told(violations: Sequence[Violation], whole: pa.Buffer, shown: str | None, rule: Rule) -> Sequence[Violation]:
    """The reasons, those blank but for the keyword whose place is not shown as the model answered it."""
    if shown is not None and shown.encode() == bytes(whole):
        return violations
    answer, selected = decode(bytes(whole)), None if shown is None else decode(shown.encode())
    blank = Violation("", "", "", "")
    return [
        one if shown is not None and _is_shown(one, answer, selected, rule) else blank._replace(keyword=one.keyword)
        for one in violations
    ]


def _is_shown(violation: Violation, answer: Any, selected: Any, rule: Rule) -> bool:
    """Whether what is delivered of an answer has this place, with its own value."""
    steps = tokens(violation.pointer)
    for number, token in enumerate(steps):
        is_missing = number == len(steps) - 1 and violation.keyword == "required"
        match answer, selected:
            case list(), list():
                rule, position = rule.child(ITEMS), int(token)
                answer, selected = answer[position], selected[position]
                if selected is None and answer is not None:
                    return False
            case dict(), dict() if token in answer and token in selected:
                rule, answer, selected = rule.child(token), answer[token], selected[token]
            case dict(), dict() if is_missing:
                rule = rule.child(token)
            case _:
                return False
        if rule.action not in {Action.KEEP, Action.INSIDE}:
            return False
    return True
