"""SQL that makes the tables of a collection views in DuckDB."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable

from vv_exports.delivery.views.collection import View, ViewedCollection, ViewedTable
from vv_exports.printable import one_line

_AZURE = re.compile(r"abfss://(?P<container>[^@/]+)@(?P<account>[^./]+)\.dfs\.core\.windows\.net/(?P<path>.*)")


def duckdb_views(collection: ViewedCollection, name: str, views: Collection[View]) -> str:
    """A script that makes a schema of each view, ``<name>_current`` and ``<name>_latest``, anew, in one transaction,
    with a view of each prompt and folder."""
    names = _names(collection.tables)
    script = [*_introduction(collection), "begin transaction;"]
    for view in views:
        schema = _identifier(f"{name}_{view}")
        script += ["", f"drop schema if exists {schema} cascade;", f"create schema {schema};"]
        for table in collection.tables:
            name_of_view = _identifier(names[table.prompt_id, table.folder])
            script.append(f"create view {schema}.{name_of_view} as {_query(collection, table, view)};")
    return "\n".join([*script, "", "commit;"])


def _introduction(collection: ViewedCollection) -> list[str]:
    said = collection.introduction(
        "or fail where a file was superseded and removed since. The schemas are replaced with all in them."
    )
    if collection.waiting:
        said.append("Where an integer became a number, DuckDB rounds those of them that are beyond 2^53.")
    if "://" in collection.uri:
        said.append("DuckDB needs a secret for that store: https://duckdb.org/docs/configuration/secrets_manager")
    return [f"-- {line}" for line in said]


def _names(tables: Iterable[ViewedTable]) -> dict[tuple[str, str], str]:
    """Names of views: ``segments_prm_1``. DuckDB ignores case in them: those that are alike have part of a hash."""
    plain = {(table.prompt_id, table.folder): f"{table.folder}_{one_line(table.prompt_id)}" for table in tables}
    often = Counter(name.casefold() for name in plain.values())
    return {
        key: name if often[name.casefold()] == 1 else f"{name}~{hashlib.sha256(key[0].encode()).hexdigest()[:8]}"
        for key, name in plain.items()
    }


def _query(collection: ViewedCollection, table: ViewedTable, view: View) -> str:
    """``union_by_name``: files differ in columns where a prompt's schema has changed. ``hive_partitioning``: else ids
    such as 0001 in the path become numbers."""
    files = collection.files(table, view)
    taken = files or table.files  # an empty view has columns, too
    listed = ",\n  ".join(_text(_address(collection.address(file.path))) for file in taken)
    nothing = "" if files else " where false"
    options = "union_by_name = true, hive_partitioning = false"
    return f"select * from read_parquet([\n  {listed}\n], {options}){nothing}"  # noqa: S608 - quoted by _text


def _address(uri: str) -> str:
    if found := _AZURE.fullmatch(uri):
        return f"az://{found['account']}.blob.core.windows.net/{found['container']}/{found['path']}"
    return uri


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
