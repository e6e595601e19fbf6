"""Reading back what a destination holds: the documents that its files were made of, in any format."""

import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import spool_folder
from vv_exports.content.column_json import column_from_json
from vv_exports.content.encoding import Encoding, encoding_of
from vv_exports.delivery.columns import are_earlier_parquet, earlier_table
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry, read_entry
from vv_exports.delivery.log import read_log
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.destinations import log_entry_name
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.tables import TableName
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import Format
from vv_exports.formats.registry import FOR_EDITORS_ALONE, format_of
from vv_exports.snapshots.columns import Object
from vv_exports.snapshots.tables import RUN_COLUMNS, Table, table_of


class DeliveredDocument(NamedTuple):
    """A result, and the prompt run and the table that it is of."""

    prompt_run_id: str
    table: TableName
    document: JsonObject


def documents(destination: Destination) -> Iterator[DeliveredDocument]:
    """Every result that a destination holds now, as its source had it: of the fields that were chosen, redacted as they
    were. By prompt run, in the order of the entries that hold them, and in the order of the files.

    Raises DeliveredDataError where a file is not there any more, since it was delivered again meanwhile: then begin
    anew; or where an entry of version 1 has not said how it is to be read, which those of Parquet do: deliver again.
    """
    for number, runs in groupby(read_log(destination).since(0), key=lambda held: held.entry.sequence):
        entry = read_entry(destination, number)  # one at a time: with the columns of wide schemas they are large
        if entry is None:
            raise DeliveredDataError(
                f"{destination.uri_of(log_entry_name(number))} was there a moment ago. Begin anew."
            )
        for held in runs:
            for file in held.files:
                with spool_folder() as spool:
                    path = _copied(destination, file, spool)
                    for document in documents_of(path, entry, file):
                        yield DeliveredDocument(held.run.run_id, file.table, document)


def documents_in(folder: Path) -> Iterator[DeliveredDocument]:
    """The same of a folder on this machine."""
    return documents(Destination(LocalConnector("reader", folder.parent), folder.name))


def documents_of(path: Path, entry: LogEntry, file: DeliveredFile) -> Iterator[JsonObject]:
    """The documents of one file of an entry, which is at ``path``. Raises RequestError for captions and chapters, which
    hold text alone."""
    if path.suffix in FOR_EDITORS_ALONE:
        return  # beside it is a file that has them
    read_as, encoding = _reader(entry, file)
    for batch in read_as.read(path, encoding.schema):
        yield from encoding.documents(batch)


def _copied(destination: Destination, file: DeliveredFile, spool: Path) -> Path:
    path = spool / file.path.rpartition("/")[2]
    with destination.connector.open(destination.key(file.path)) as content, path.open("wb") as copy:
        shutil.copyfileobj(content, copy)
    return path


def _reader(entry: LogEntry, file: DeliveredFile) -> tuple[Format, Encoding]:
    """What reads a file of an entry."""
    if are_earlier_parquet(entry.provenance) and (table := earlier_table(entry, file)) is not None:
        options = ContentOptions(format=FormatOptions("parquet"))
        return format_of(options), encoding_of(options.format, table)
    if entry.provenance.content is UNSET or entry.tables is UNSET:
        raise DeliveredDataError(
            f"{file.path} was delivered by version 0.1, whose log does not say which columns it has. Deliver again; "
            "the next reconciliation does so."
        )
    chosen = {name: value for name, value in entry.provenance.content.items() if name != "redaction_key_id"}
    folder = file.path.partition("/")[0]
    try:
        options = msgspec.convert(chosen, ContentOptions)
        if file.table == "quarantine":
            options = options.for_quarantine
        for told in entry.tables:
            if (told.prompt_id, told.folder) == (file.prompt_id, folder):
                table = table_of(file.table, True) if told.columns is None else _table(file.table, told.columns)
                return format_of(options), encoding_of(options.format, table)
    except ValueError as error:
        problem = f"What entry {entry.sequence} says of {file.path} cannot be read: {error}. Deliver again."
        raise DeliveredDataError(problem) from error
    raise DeliveredDataError(f"entry {entry.sequence} does not say which columns {file.path} has. Deliver again.")


def _table(name: TableName, columns: dict[str, object]) -> Table:
    fields = {
        column: column_from_json(told)
        for column, told in columns.items()
        if column not in {*RUN_COLUMNS, "rescued", "absent"}
    }
    return Table(name, Object(fields, absence_is_null=True))
