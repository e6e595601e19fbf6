"""SQL that makes the tables of a collection views in Snowflake: external tables of the folders, and views of the listed
files. Snowflake reads a store through a stage, for which somebody has to have given it a storage integration."""

import re
from collections.abc import Collection, Iterator

from vv_exports.content.column_json import column_type
from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedTable, refuse_characters
from vv_exports.delivery.views.listing import gone, rows_of_files
from vv_exports.delivery.views.names import names_of_views, plain_name
from vv_exports.delivery.views.script import script
from vv_exports.errors import RequestError
from vv_exports.printable import one_line

MOST_BYTES = 1_000_000
"""Of a statement: https://docs.snowflake.com/en/user-guide/query-size-limits"""

_TYPES = {
    "string": "varchar",
    "json": "varchar",
    "integer": "number(38, 0)",
    "number": "float",
    "boolean": "boolean",
    "timestamp": "timestamp_ltz",
}
"""Of columns that are no list and no object: those are of the type variant, which has names and types of its own."""

_AZURE = re.compile(r"abfss://(?P<container>[^@/]+)@(?P<account>[^./]+)\.dfs\.core\.windows\.net(?P<path>/.*|)")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_./=-]+")
_FILE = "_FILE"


def snowflake_views(collection: ViewedCollection, name: str, views: Collection[View]) -> str:
    """The script. Raises RequestError for a collection that is in no store that Snowflake reads, and for views with too
    many files."""
    refuse_characters(collection.uri, re.compile(r"[\\{}\]]"))
    prefix = plain_name(name).upper()
    names = names_of_views(collection.tables)
    stage = f'{_identifier(f"{prefix}_FILES")}."COLLECTION"'
    said = collection.introduction("or fail where a file was superseded and removed since.")
    said += [
        "Views of what is in the collection no more stay: drop them. Lists and objects are of the type variant:",
        'metadata:"name".',
        "Before the first time, make the schema and the stage, with a storage integration of yours:",
        f"  create schema {_identifier(f'{prefix}_FILES')};",
        f"  create stage {stage} url = {_text(_stage_url(collection.uri))} storage_integration = <yours>;",
    ]
    statements = [
        f"create schema if not exists {_identifier(f'{prefix}_{part.upper()}')}" for part in ("files", *views)
    ]
    for table in collection.tables:
        view = names[table.prompt_id, table.folder].upper()
        statements.append(_table(f"{_identifier(f'{prefix}_FILES')}.{_identifier(view)}", stage, table))
        statements += _views(prefix, view, collection, table, views)
    return script(said, statements, engine="Snowflake", most_bytes=MOST_BYTES)


def _stage_url(uri: str) -> str:
    if uri.startswith("s3://"):
        return f"{uri}/"
    if uri.startswith("gs://"):
        return f"gcs{uri.removeprefix('gs')}/"
    if found := _AZURE.fullmatch(uri):
        return f"azure://{found['account']}.blob.core.windows.net/{found['container']}{found['path']}/"
    raise RequestError(
        f"Snowflake reads S3, Google Cloud Storage and Azure, and the collection is at {one_line(uri)}. Where it is "
        "copied to one of these, name that with --location s3://…"
    )


def _table(name: str, stage: str, table: ViewedTable) -> str:
    """``partition by``: so that files that a view does not list are not read."""
    columns = [f"  {_identifier(_FILE)} varchar as (regexp_substr(metadata$filename, '[^/]+/[^/]+$'))"]
    for column, told in table.columns.items():
        kind = _TYPES.get(column_type(told), "variant")
        columns.append(f"  {_identifier(column.upper())} {kind} as (value:{_identifier(column)}::{kind})")
    place = f"@{stage}/{table.path}/"
    location = place if _NEEDS_NO_QUOTES.fullmatch(table.path) else _text(place)
    return (
        f"create or replace external table {name} (\n" + ",\n".join(columns) + "\n)\n"
        f"partition by ({_identifier(_FILE)})\nlocation = {location}\nauto_refresh = false\n"
        "file_format = (type = parquet use_logical_type = true)"
    )


def _views(
    prefix: str, name: str, collection: ViewedCollection, table: ViewedTable, views: Collection[View]
) -> Iterator[str]:
    message = gone(collection)
    for view in views:
        files = collection.files(table, view)
        listed = ",\n    ".join(_text("/".join(file.path.rsplit("/", 2)[1:])) for file in files)
        query = rows_of_files(
            [_identifier(column.upper()) for column in table.columns],
            f"{_identifier(f'{prefix}_FILES')}.{_identifier(name)}",
            is_listed=f"{_identifier(_FILE)} in (\n    {listed}\n  )",
            files=files,
            only_if_whole=lambda rows: f"cast(iff(count(*) = {rows}, 'true', {_text(message)}) as boolean)",
        )
        yield f"create or replace view {_identifier(f'{prefix}_{view.upper()}')}.{_identifier(name)} as\n{query}"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
