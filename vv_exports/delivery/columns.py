"""The columns that files of a prompt have: as log entries tell them, or, where version 0.1 wrote the entry, as the JSON
Schemas in it tell them.

Entries of version 0.1 tell no columns. They tell the schema of each run, by which its Parquet files were typed, so that
nobody needs to open a file, or a snapshot, to know what is in a folder.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports.content.column_json import column_from_json, column_id, column_to_json
from vv_exports.content.union import join
from vv_exports.delivery.entry import DeliveredFile, LogEntry
from vv_exports.domain.json_text import decode, encode_sorted, encode_text
from vv_exports.domain.tables import TableName
from vv_exports.errors import DeliveredDataError
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Column, List, Object, Text
from vv_exports.snapshots.tables import RUN_COLUMNS, Table, table_of, with_metadata

EARLIER_LAYOUT = 1
"""That of version 0.1."""

_SCHEMAS_KNOWN = 256


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The columns that files of a prompt have in a folder: an id of those that are delivered, and the column
    ``metadata`` with all fields that its runs have."""

    id: str
    metadata: Any


class EarlierColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Of Parquet files of version 0.1. ``files`` is the id of the columns that they have, ``typed_now`` are those that
    this version gives to the same schema: others where names of properties cannot be columns side by side."""

    files: str
    typed_now: Shape


class Made(Protocol):
    """What an entry says of how it was made."""

    @property
    def format(self) -> str: ...
    @property
    def layout_version(self) -> int: ...
    @property
    def content_id(self) -> str | UnsetType: ...


def are_earlier_parquet(made: Made) -> bool:
    """Whether files are Parquet of version 0.1, in the one shape that it had for that. Its other formats hold results
    in another way than those of this version, whatever their schema."""
    return made.content_id is UNSET and (made.format, made.layout_version) == ("parquet", EARLIER_LAYOUT)


def earlier_columns(entry: LogEntry) -> dict[str, Mapping[str, EarlierColumns]]:
    """The columns of the files of each run of an entry of version 0.1, by run id and folder. A run of which the entry
    tells no schema has none."""
    schemas = _schemas(entry)
    found: dict[str, set[tuple[str, TableName, str]]] = {run.run_id: set() for run in entry.prompt_runs}
    for file in entry.files:
        text = schemas.get((file.prompt_run_id, file.table))
        if text is not None and file.prompt_run_id in found:
            found[file.prompt_run_id].add((file.path.partition("/")[0], file.table, text))
    return {run_id: _by_folder(frozenset(of_run)) for run_id, of_run in found.items()}


def earlier_table(entry: LogEntry, file: DeliveredFile) -> Table | None:
    """The table that a Parquet file of version 0.1 holds; None where its entry does not tell."""
    if file.table == "failures":
        return table_of(file.table, None, EARLIER_LAYOUT)
    text = _schemas(entry).get((file.prompt_run_id, file.table))
    return None if text is None else table_of(file.table, decode(text.encode()), EARLIER_LAYOUT)


def columns_of_file(entry: LogEntry, file: DeliveredFile) -> Object | None:
    """All columns of a file of an entry, by name, those of its prompt run included; None where the entry does not tell
    them: of documents, and of some files of version 0.1.

    Raises DeliveredDataError where what it tells are no columns.
    """
    if are_earlier_parquet(entry.provenance) and (table := earlier_table(entry, file)) is not None:
        ends = {"rescued": Text(nullable=True), "absent": List(Text(), nullable=True)}
        return Object({**{name: Text() for name in RUN_COLUMNS}, **table.column.fields, **ends})
    for told in entry.tables or ():
        if (told.prompt_id, told.folder) == (file.prompt_id, file.folder) and told.columns is not None:
            try:
                return Object({name: column_from_json(column) for name, column in told.columns.items()})
            except ValueError as error:
                problem = f"what entry {entry.sequence} says of the columns of {one_line(file.path)} cannot be read"
                raise DeliveredDataError(f"{problem}: {error}. Deliver again.") from error
    return None


def columns_of_all(table: TableName, shapes: Iterable[Shape]) -> Shape:
    """The columns that files of a table are to have where runs have these, which are at least one. Where one of them
    holds all the others, it is that one, so that its files stay as they are. What no column holds together with those
    before is left out: a policy says what becomes of such a run when it is delivered."""
    first, *others = {shape.id: shape for shape in shapes}.values()
    found = first
    for other in others:
        found = _of_both(table, found, other)
    return found


def _of_both(table: TableName, there: Shape, other: Shape) -> Shape:
    one, two = column_from_json(there.metadata), column_from_json(other.metadata)
    joined = join(one, two)
    if joined.conflicts or (both := _shape(table, joined.column)).id == there.id:
        return there
    turned = join(two, one)
    return other if not turned.conflicts and _shape(table, turned.column).id == other.id else both


def _shape(table: TableName, metadata: Column) -> Shape:
    """That of files which have all fields of this column."""
    whole = with_metadata(table_of(table, None), metadata)
    return Shape(id=column_id(whole.column), metadata=column_to_json(metadata))


@lru_cache(maxsize=_SCHEMAS_KNOWN)
def _by_folder(schemas: frozenset[tuple[str, TableName, str]]) -> Mapping[str, EarlierColumns]:
    """Those of folders with the tables and JSON Schemas of their files. One object for all runs that share them: there
    can be a hundred thousand."""
    found: dict[str, EarlierColumns] = {}
    for folder, table, text in schemas:
        schema = decode(text.encode())
        found[folder] = EarlierColumns(
            files=column_id(table_of(table, schema, EARLIER_LAYOUT).column),
            typed_now=_shape(table, table_of(table, schema).column.fields["metadata"]),
        )
    return found


def _schemas(entry: LogEntry) -> dict[tuple[str, TableName], str]:
    """The JSON Schemas of the ``metadata`` of an entry's runs, by run id and table, as JSON text. One whose hash is
    not the one that the entry says was changed by somebody, and tells nothing."""
    made = entry.provenance
    texts = {hashlib.sha256(encode_sorted(None)).hexdigest(): "null"}
    for digest, schema in made.json_schemas.items():
        try:
            if hashlib.sha256(encode_sorted(schema)).hexdigest() == digest:
                texts[digest] = encode_text(schema)
        except ValueError:
            continue  # nested deeper than anything that was hashed
    found: dict[tuple[str, TableName], str] = {}
    for run in made.prompt_runs:
        if run.schema_sha256 in texts:
            found[run.run_id, "segments"] = texts[run.schema_sha256]
        if run.video_level_schema_sha256 in texts:
            found[run.run_id, "videos"] = texts[run.video_level_schema_sha256]
    return found
