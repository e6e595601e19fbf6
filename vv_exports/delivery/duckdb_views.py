"""SQL that makes the tables of a destination views in DuckDB: of exactly the files of one entry of its log.

Not of a glob: that has two states of a run at once while it is delivered again, and superseded files where they are
kept.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import read_entry
from vv_exports.delivery.log import read_log
from vv_exports.delivery.state import CommittedRun, LogState
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.printable import counted, one_line

View = Literal["current", "latest"]
VIEWS: tuple[View, ...] = get_args(View)
"""All prompt runs that are held, and of each prompt the complete one that was executed last, as ``reader.py`` says."""

_AZURE = re.compile(r"abfss://(?P<container>[^@/]+)@(?P<account>[^./]+)\.dfs\.core\.windows\.net/(?P<path>.*)")


@dataclass(frozen=True)
class _Table:
    """A folder of a prompt, and the addresses of its files by prompt run."""

    prompt_id: str
    folder: str
    files: dict[str, list[str]]


def duckdb_views(destination: Destination, name: str, views: Collection[View] = VIEWS) -> str:
    """A script that makes a schema of each view, ``<name>_current`` and ``<name>_latest``, anew, in one transaction,
    with a view of each prompt and folder.

    Raises NotFoundError where nothing was delivered, and RequestError for files that are not Parquet.
    """
    state = read_log(destination)
    if state.last is None:
        raise NotFoundError(f"nothing was delivered to {one_line(destination.uri)} yet: its log has no entry")
    tables = _tables(destination, state)
    names = _names(tables)
    latest = _latest(destination, state.runs.values()) if "latest" in views else frozenset()
    script = [*_introduction(destination, state), "begin transaction;"]
    for view in views:
        schema = _identifier(f"{name}_{view}")
        script += ["", f"drop schema if exists {schema} cascade;", f"create schema {schema};"]
        for table in tables:
            runs = table.files.keys() if view == "current" else table.files.keys() & latest
            files = [file for run_id, of_run in table.files.items() if run_id in runs for file in of_run]
            script.append(
                f"create view {schema}.{_identifier(names[table.prompt_id, table.folder])} as {_query(files, table)};"
            )
    return "\n".join([*script, "", "commit;"])


def _introduction(destination: Destination, state: LogState) -> Iterator[str]:
    yield f"-- {one_line(destination.uri)} as of entry {state.next_sequence - 1} of its log."
    yield "-- It names files: make it anew after each delivery, and run it again. Until then, queries see this state,"
    yield "-- or fail where a file was superseded and removed since. The schemas are replaced with all in them."
    if waiting := sum(not state.has_columns_of(run) for run in state.runs.values()):
        yield f"-- {counted(waiting, 'prompt run')} with other columns than their tables have by now wait to be"
        yield "-- delivered again. Where an integer became a number, DuckDB rounds those of them that are beyond 2^53."
    if "://" in destination.uri:
        yield "-- DuckDB needs a secret for that store: https://duckdb.org/docs/configuration/secrets_manager"


def _tables(destination: Destination, state: LogState) -> list[_Table]:
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for run in state.since(0):
        for file in run.files:
            by_run = found.setdefault((file.prompt_id, file.path.partition("/")[0]), {})
            by_run.setdefault(run.run.run_id, []).append(_address(destination.uri_of(file.path)))
    return [_Table(*key, files) for key, files in sorted(found.items())]


def _address(uri: str) -> str:
    if not uri.endswith(".parquet"):
        raise RequestError(
            f"{one_line(uri)} is not Parquet, and a text does not tell its types: docs/formats.md says how DuckDB "
            "reads each format"
        )
    if found := _AZURE.fullmatch(uri):
        uri = f"az://{found['account']}.blob.core.windows.net/{found['container']}/{found['path']}"
    if unusable := re.search(r"[*?\[\x00-\x1f\x7f]", uri):
        raise RequestError(
            f"{one_line(uri)} has {unusable.group()!r} in it, which DuckDB takes for a pattern, or a script cannot "
            "hold: deliver to a folder of another name, or read it with vv_exports.reader"
        )
    return uri


def _names(tables: Iterable[_Table]) -> dict[tuple[str, str], str]:
    """Names of views: ``segments_prm_1``. DuckDB ignores case in them: those that are alike have part of a hash."""
    plain = {(table.prompt_id, table.folder): f"{table.folder}_{one_line(table.prompt_id)}" for table in tables}
    often = Counter(name.casefold() for name in plain.values())
    return {
        key: name if often[name.casefold()] == 1 else f"{name}~{hashlib.sha256(key[0].encode()).hexdigest()[:8]}"
        for key, name in plain.items()
    }


def _latest(destination: Destination, runs: Iterable[CommittedRun]) -> frozenset[str]:
    """The ids of the latest complete runs of each prompt."""
    executed: dict[int, dict[str, str]] = {}
    found: dict[str, tuple[datetime, str]] = {}
    for held in runs:
        if held.run.status != "completed":
            continue
        number = held.entry.sequence
        if number not in executed:
            entry = read_entry(destination, number)
            if entry is None:
                raise DeliveredDataError(f"entry {number} of {one_line(destination.uri)} was there a moment ago")
            executed[number] = {one.run_id: one.executed_at for one in entry.provenance.prompt_runs}
        moment = datetime.fromisoformat(executed[number][held.run.run_id]), held.run.run_id
        found[held.prompt_id] = max(found.get(held.prompt_id, moment), moment)
    return frozenset(run_id for _, run_id in found.values())


def _query(files: Collection[str], table: _Table) -> str:
    """``union_by_name``: files differ in columns where a prompt's schema has changed. ``hive_partitioning``: else ids
    such as 0001 in the path become numbers."""
    taken = files or [file for of_run in table.files.values() for file in of_run]  # an empty view has columns, too
    listed = ",\n  ".join(map(_text, taken))
    nothing = "" if files else " where false"
    options = "union_by_name = true, hive_partitioning = false"
    return f"select * from read_parquet([\n  {listed}\n], {options}){nothing}"  # noqa: S608 - quoted by _text


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
