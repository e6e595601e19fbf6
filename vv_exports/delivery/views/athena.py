"""SQL that makes the tables of a collection views in Amazon Athena: tables of the folders, and views of the listed
files. Tables are made in Hive's language, which quotes by backticks and escapes by backslashes, views in Trino's."""

import re
from collections.abc import Collection, Iterator

from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedTable, refuse_characters
from vv_exports.delivery.views.listing import gone, rows_of_files
from vv_exports.delivery.views.names import names_of_views, plain_name
from vv_exports.delivery.views.script import left_out, script
from vv_exports.delivery.views.types import TypedColumns, Types, typed_columns
from vv_exports.errors import RequestError
from vv_exports.printable import one_line

MOST_BYTES = 262_144
"""Of a statement: https://docs.aws.amazon.com/athena/latest/ug/service-limits.html"""

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
    """The script. Raises RequestError for a collection that is not in S3, and for views with too many files."""
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
    statements = [f"create database if not exists `{prefix}_{part}`" for part in ("files", *views)]
    for view, table, columns in typed:
        statements += _table(f"`{prefix}_files`.`{view}`", collection, table, columns)
        statements += _views(prefix, view, collection, table, columns, views)
    return script(said, statements, engine="Athena", most_bytes=MOST_BYTES)


def _table(name: str, collection: ViewedCollection, table: ViewedTable, typed: TypedColumns) -> Iterator[str]:
    columns = ",\n".join(f"  `{column}` {told}" for column, told in typed.columns.items())
    yield f"drop table if exists {name}"
    location = collection.address(table.path).replace("'", "\\'")
    yield f"create external table {name} (\n{columns}\n)\nstored as parquet\nlocation '{location}/'"


def _views(  # noqa: PLR0917
    prefix: str,
    name: str,
    collection: ViewedCollection,
    table: ViewedTable,
    typed: TypedColumns,
    views: Collection[View],
) -> Iterator[str]:
    message = gone(collection)
    for view in views:
        files = collection.files(table, view)
        listed = ",\n    ".join(_text(collection.address(file.path)) for file in files)
        query = rows_of_files(
            [f'"{column}"' for column in typed.columns],
            f'"{prefix}_files"."{name}"',
            is_listed=f'"$path" in (\n    {listed}\n  )',
            files=files,
            # Not a constant, which might be computed where it is not needed.
            only_if_whole=lambda rows: f"cast(if(count(*) = {rows}, 'true', {_text(message)}) as boolean)",
        )
        yield f'create or replace view "{prefix}_{view}"."{name}" as\n{query}'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
