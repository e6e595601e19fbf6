"""SQL that makes the tables of a collection views in Amazon Athena: tables of the folders, and views of the listed
files. Tables are made in Hive's language, which quotes by backticks and escapes by backslashes, views in Trino's."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedFile, ViewedTable, refuse_characters
from vv_exports.delivery.views.listing import gone, rows_of_files
from vv_exports.delivery.views.names import names_of_views, plain_name
from vv_exports.delivery.views.script import left_out, script
from vv_exports.delivery.views.types import TypedColumns, Types, typed_columns
from vv_exports.errors import RequestError
from vv_exports.printable import one_line

MOST_BYTES = 262_144
"""Of a statement: https://docs.aws.amazon.com/athena/latest/ug/service-limits.html"""
LISTED_BYTES = 180_000
"""Of the addresses in one: of more files, there is a view for each part of them."""

_TYPES = Types(
    scalars={
        "string": "string",
        "integer": "bigint",
        "number": "double",
        "boolean": "boolean",
        "timestamp": "timestamp",
    },
    field=lambda name, told: f"`{name}`:{told}",
    # https://docs.aws.amazon.com/athena/latest/ug/tables-databases-columns-names.html
    field_names=re.compile(r"[A-Za-z0-9_.]+"),
    said="names of fields have letters, digits, _ and . alone",
)


def athena_views(collection: ViewedCollection, name: str, views: Collection[View]) -> str:
    """The script. Raises RequestError for a collection that is not in S3."""
    if not collection.uri.startswith("s3://"):
        raise RequestError(
            f"Athena reads S3 alone, and the collection is at {one_line(collection.uri)}. Where it is copied to S3, "
            "name that with --location s3://…"
        )
    refuse_characters(collection.uri, re.compile(r"[\\{}\]]"))
    prefix = plain_name(name)
    names = names_of_views(collection.tables)
    typed = [(names[table.prompt_id, table.folder], table, typed_columns(table, _TYPES)) for table in collection.tables]
    said = collection.introduction("or fail where a file was superseded and removed since.")
    said += [
        "Athena runs one statement at a time. Views of what is in the collection no more stay: drop them.",
        "Timestamps are in UTC.",
        *left_out(((view, columns.left_out) for view, _, columns in typed), "Athena"),
    ]
    statements: list[str] = []
    for view_name, table, columns in typed:
        statements += _table(f"`{prefix}_files`.`{view_name}`", collection, table, columns)
        for view in views:
            statements += _view(prefix, view_name, view, collection, collection.files(table, view), columns)
    schemas = [
        f"create database if not exists `{prefix}_{part}`"
        for part in ("files", "parts", *views)
        if part != "parts" or any(f'"{prefix}_parts".' in statement for statement in statements)
    ]
    return script(said, [*schemas, *statements], engine="Athena", most_bytes=MOST_BYTES)


def _table(name: str, collection: ViewedCollection, table: ViewedTable, typed: TypedColumns) -> Iterator[str]:
    columns = ",\n".join(f"  `{column}` {told}" for column, told in typed.columns.items())
    yield f"drop table if exists {name}"
    location = collection.address(table.path).replace("'", "\\'")
    yield f"create external table {name} (\n{columns}\n)\nstored as parquet\nlocation '{location}/'"


def _view(  # noqa: PLR0917
    prefix: str,
    name: str,
    view: View,
    collection: ViewedCollection,
    files: Sequence[ViewedFile],
    typed: TypedColumns,
) -> Iterator[str]:
    columns = [f'"{column}"' for column in typed.columns]
    source, *listed = f'"{prefix}_files"."{name}"', *_listed([collection.address(file.path) for file in files])
    if len(listed) > 1:
        parts = [f'"{prefix}_parts"."{name}_{view}_{number}"' for number in range(len(listed))]
        for part, is_listed in zip(parts, listed, strict=True):
            yield f"create or replace view {part} as\nselect {', '.join(columns)}\nfrom {source}\nwhere {is_listed}"
        source = f"({' union all '.join(f'select * from {part}' for part in parts)}) as parts"  # noqa: S608 - as above
        listed = ["true"]
    message = _text(gone(collection))
    query = rows_of_files(
        columns,
        source,
        is_listed=listed[0] if listed else "false",
        files=files,
        # Not a constant, which might be computed where it is not needed.
        only_if_whole=lambda rows: f"cast(if(count(*) = {rows}, 'true', {message}) as boolean)",
    )
    yield f'create or replace view "{prefix}_{view}"."{name}" as\n{query}'


def _listed(addresses: Iterable[str]) -> Iterator[str]:
    """Conditions that a row is of one of these files, so many that each can be part of a statement."""
    texts: list[str] = []
    length = 0
    for text in map(_text, addresses):
        if texts and length + len(text.encode()) > LISTED_BYTES:
            yield _is_one_of(texts)
            texts, length = [], 0
        texts.append(text)
        length += len(text.encode())
    if texts:
        yield _is_one_of(texts)


def _is_one_of(texts: Iterable[str]) -> str:
    return '"$path" in (\n    ' + ",\n    ".join(texts) + "\n  )"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
