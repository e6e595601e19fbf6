"""SQL that makes the tables of a collection views in Apache Spark: tables of the folders, and views of the listed
files."""

import re
from collections.abc import Collection, Iterator

from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedFile, ViewedTable, refuse_characters
from vv_exports.delivery.views.listing import gone, rows_of_files
from vv_exports.delivery.views.names import names_of_views, plain_name
from vv_exports.delivery.views.script import left_out, script
from vv_exports.delivery.views.types import TypedColumns, Types, typed_columns

_TYPES = Types(
    scalars={
        "string": "string",
        "integer": "bigint",
        "number": "double",
        "boolean": "boolean",
        "timestamp": "timestamp",
    },
    field=lambda name, told: f"{_identifier(name)}: {told}",
    field_names=re.compile(r".+"),
    said="a script cannot hold its name",
)


def spark_views(collection: ViewedCollection, name: str, views: Collection[View]) -> str:
    """The script."""
    refuse_characters(collection.uri, re.compile(r"[\\{}\]]"))
    prefix = plain_name(name)
    names = names_of_views(collection.tables)
    said = collection.introduction("or fail where a file was superseded and removed since.")
    said.append("Views of what is in the collection no more stay: drop them.")
    if collection.uri.startswith("s3://"):
        said.append("s3a:// is what Spark itself calls s3://, which EMR and Databricks know as well.")
    typed = [(names[table.prompt_id, table.folder], table, typed_columns(table, _TYPES)) for table in collection.tables]
    said += left_out(((view, columns.left_out) for view, _, columns in typed), "Spark")
    statements = [f"create schema if not exists `{prefix}_{part}`" for part in ("files", *views)]
    for view, table, columns in typed:
        statements += _table(f"`{prefix}_files`.`{view}`", collection, table, columns)
        statements += _views(prefix, view, collection, table, columns, views)
    return script(said, statements, engine="Spark")


def _table(name: str, collection: ViewedCollection, table: ViewedTable, typed: TypedColumns) -> Iterator[str]:
    """``recursiveFileLookup``: else ids such as 0001 in the path become numbers."""
    columns = ",\n".join(f"  {_identifier(column)} {told}" for column, told in typed.columns.items())
    address = collection.address(table.path)
    if "://" not in address:
        address = f"file://{address}"
    elif address.startswith("s3://"):
        address = f"s3a{address.removeprefix('s3')}"
    options = f"path {_text(address)}, recursiveFileLookup 'true'"
    yield f"drop table if exists {name}"
    yield f"create table {name} (\n{columns}\n)\nusing parquet\noptions ({options})"


def _views(  # noqa: PLR0917
    prefix: str,
    name: str,
    collection: ViewedCollection,
    table: ViewedTable,
    typed: TypedColumns,
    views: Collection[View],
) -> Iterator[str]:
    message = _text(gone(collection))
    for view in views:
        files = collection.files(table, view)
        listed = ",\n    ".join(_text(tail) for file in files for tail in _tails(file))
        query = rows_of_files(
            map(_identifier, typed.columns),
            f"`{prefix}_files`.`{name}`",
            # The beginning is another one by scheme and by version of Spark.
            is_listed=f"substring_index(_metadata.file_path, '/', -2) in (\n    {listed}\n  )",
            files=files,
            only_if_whole=lambda rows: f"if(count(*) = {rows}, true, raise_error({message}))",
        )
        yield f"create or replace view `{prefix}_{view}`.`{name}` as\n{query}"


def _tails(file: ViewedFile) -> Iterator[str]:
    """The run's folder and the file, as they are, and percent-encoded, as Spark shows paths since 3.4."""
    tail = "/".join(file.path.rsplit("/", 2)[1:])
    yield tail
    if "%" in tail:
        yield tail.replace("%", "%25")


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
