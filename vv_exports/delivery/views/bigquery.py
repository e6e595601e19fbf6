"""SQL that makes the tables of a collection views in BigQuery: external tables of exactly the listed files, where one
that is gone fails a query, and views of them."""

import re
from collections.abc import Collection, Iterator, Sequence

from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedFile, refuse_characters
from vv_exports.delivery.views.names import names_of_views, plain_name
from vv_exports.delivery.views.script import left_out, script
from vv_exports.delivery.views.types import TypedColumns, Types, typed_columns
from vv_exports.errors import RequestError
from vv_exports.printable import one_line

MOST_BYTES = 1_000_000
"""Of a statement: https://cloud.google.com/bigquery/quotas#query_jobs"""

_TYPES = Types(
    scalars={"string": "string", "integer": "int64", "number": "float64", "boolean": "bool", "timestamp": "timestamp"},
    field=lambda name, told: f"`{name}` {told}",
    # https://cloud.google.com/bigquery/docs/schemas#column_names
    field_names=re.compile(
        r"(?!_TABLE_|_FILE_|_PARTITION|_ROW_TIMESTAMP|__ROOT__|_COLIDENTIFIER)[A-Za-z_]\w{0,299}",
        re.ASCII | re.IGNORECASE,
    ),
    said="names of fields begin with a letter or _, and have letters, digits and _ alone",
    has_lists_of_lists=False,
)


def bigquery_views(collection: ViewedCollection, name: str, views: Collection[View]) -> str:
    """The script. Raises RequestError for a collection that is not in Google Cloud Storage, and for views with too many
    files."""
    if not collection.uri.startswith("gs://"):
        raise RequestError(
            f"BigQuery reads Google Cloud Storage, and the collection is at {one_line(collection.uri)}. Where it is "
            "copied to a bucket there, name that with --location gs://…"
        )
    refuse_characters(collection.uri, re.compile(r"[\\{}\]]"))
    prefix = plain_name(name)
    names = names_of_views(collection.tables)
    typed = [(names[table.prompt_id, table.folder], table, typed_columns(table, _TYPES)) for table in collection.tables]
    said = collection.introduction("or fail where a file was superseded and removed since.")
    said += [
        "Make the datasets before in the region of the bucket, where that is not your project's own.",
        "Views of what is in the collection no more stay: drop them.",
        *left_out(((view, columns.left_out) for view, _, columns in typed), "BigQuery"),
    ]
    statements = [f"create schema if not exists `{prefix}_{part}`" for part in ("files", *views)]
    for view_name, table, columns in typed:
        for view in views:
            files = collection.files(table, view)
            statements += _view(
                collection, files, columns, f"`{prefix}_files`.`{view_name}_{view}`", f"`{prefix}_{view}`.`{view_name}`"
            )
    return script(said, statements, engine="BigQuery", most_bytes=MOST_BYTES)


def _view(
    collection: ViewedCollection, files: Sequence[ViewedFile], typed: TypedColumns, table: str, view: str
) -> Iterator[str]:
    chosen = ", ".join(f"`{column}`" for column in typed.columns)
    if not files:
        nulls = ", ".join(f"cast(null as {told}) as `{column}`" for column, told in typed.columns.items())
        yield f"create or replace view {view} as\nselect {chosen}\nfrom (select {nulls})\nwhere false"
        return
    columns = ",\n".join(f"  `{column}` {told}" for column, told in typed.columns.items())
    listed = ",\n  ".join(_text(collection.address(file.path)) for file in files)
    options = f"format = 'PARQUET', enable_list_inference = true, uris = [\n  {listed}\n]"
    yield f"create or replace external table {table} (\n{columns}\n)\noptions ({options})"
    yield f"create or replace view {view} as\nselect {chosen}\nfrom {table}"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
