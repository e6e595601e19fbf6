"""What is erased of Dagster's history: previews of rows, and texts that name a medium.

Dagster's own interface can delete a run or wipe an asset, with all that was delivered beside what is erased. In SQLite
it wipes no partition alone. So the texts in its tables are rewritten where they stand. Freed pages of SQLite keep their
bytes until a database is compacted: that is done, too.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from vv_exports.defs.partitions import partitions_name
from vv_exports.domain.markers import ERASED, Markers
from vv_exports.domain.names import partition_key
from vv_exports.erasure import Cleaned, ErasedPlace, HistoryRequest

_OF_ROWS = ("preview", "coverage")
"""What is shown of rows: some of them, and a picture of when they are, in which names stand encoded."""
_NO_RUN = ""
"""The run id of what is told of an asset outside a run: by a sensor, or from elsewhere."""
_BUSY_SECONDS = 30.0
_OF_A_RUN = "events of run "
_MOST_PARTITIONS = 500

Connect = Callable[[], AbstractContextManager[sa.Connection]]


class ErasedHistory:
    """Cleans the history of an instance; of None, nothing."""

    def __init__(self, instance: dg.DagsterInstance | None) -> None:
        self._instance = instance

    def __call__(self, request: HistoryRequest, dry_run: bool) -> Cleaned:
        """What was rewritten, or would be; and what could not be reached."""
        if self._instance is None:
            return Cleaned()
        words = _Words.of(request)
        unreached: list[str] = []
        if words.markers.too_short:
            unreached.append(
                f"{_where(self._instance)} was not searched for {', '.join(map(repr, words.markers.too_short))}: so "
                "short a text is part of much else; where it stands there, delete the Dagster run that shows it"
            )
        out_of_reach: list[str] = []
        changed: list[str] = []
        to_compact: set[Path] = set()
        schemas = _Schemas()
        for name, connect in _databases(self._instance):
            with connect() as connection:
                if (path := _path(connection)) is not None:
                    connection.execute(sa.text("PRAGMA secure_delete = ON"))
                found = _clean(connection, words, schemas, dry_run=dry_run)
                changed += [f"{name}: {one}" for one in found]
                # One of a single run is only ever written to: what it does not hold, its free pages do not hold either.
                if path is not None and (found or not name.startswith(_OF_A_RUN) or words.are_in(path)):
                    to_compact.add(path)
                if found and path is None and (kept := _kept_by(connection, name, found)) is not None:
                    out_of_reach.append(kept)
        if request.forgotten and not dry_run:
            self._delete_partitions(request.run_ids)
        logs, problem = _clean_logs(self._instance, words, dry_run=dry_run)
        changed += logs
        if problem:
            unreached.append(problem)
        if not dry_run:
            unreached += [one for path in sorted(to_compact) if (one := _compact(path)) is not None]
        places = [ErasedPlace("history", _where(self._instance), rewritten=tuple(changed))] if changed else []
        return Cleaned(places, unreached, out_of_reach)

    def _delete_partitions(self, run_ids: Mapping[str, frozenset[str]]) -> None:
        instance = self._instance
        for index_id, of_index in run_ids.items():
            name = partitions_name(index_id)
            there = set(instance.get_dynamic_partitions(name)) if instance is not None else set()
            for key in there & {partition_key(run_id) for run_id in of_index}:
                if instance is not None:
                    instance.delete_dynamic_partition(name, key)


class _Words:
    """What is looked for: markers anywhere, and rows in what is shown of some partitions."""

    def __init__(
        self, markers: Markers, partitions: frozenset[str], indexes: frozenset[str], runs: frozenset[str]
    ) -> None:
        self._runs = runs
        self.markers = markers
        self.partitions = partitions
        self._indexes = indexes

    @classmethod
    def of(cls, request: HistoryRequest) -> "_Words":
        affected = {index_id: run_ids for index_id, run_ids in request.run_ids.items() if run_ids}
        keys = frozenset(partition_key(run_id) for run_ids in affected.values() for run_id in run_ids)
        runs = frozenset(run_id for run_ids in affected.values() for run_id in run_ids)
        return cls(Markers(request.ids, request.markers), keys, frozenset(affected), runs)

    def are_in(self, database: Path) -> bool:
        """Whether the bytes of a database hold a marker: whoever was killed before it was compacted left such."""
        forms = [form.encode(errors="surrogatepass") for form in self.markers.forms]
        files = (path for end in ("", "-wal", "-journal") if (path := Path(f"{database}{end}")).exists())
        return bool(forms) and any(form in data for data in map(Path.read_bytes, files) for form in forms)

    def cleaned(self, text: str, partition: str | None) -> str:
        """What stands in a column: an event as JSON, or any text."""
        try:
            value = json.loads(text)
        except ValueError:
            return self.markers.without(text)
        if not isinstance(value, dict | list):
            return self.markers.without(text)
        cleaned = self._value(value, partition)
        return text if cleaned == value else json.dumps(cleaned)

    def _value(self, value: Any, partition: str | None, *, is_data: bool = False) -> Any:
        """A part of an event; ``is_data`` where it is whatever somebody has put there."""
        match value:
            case dict():
                if isinstance(own := value.get("partition"), str):
                    partition = own
                cleaned = {
                    self.markers.without_ids(name): part
                    if _is_dagsters(name) and not is_data
                    else self._value(part, partition, is_data=is_data or name == _DATA)
                    for name, part in value.items()
                }
                if value.get("label") in _OF_ROWS and (partition is None or partition in self.partitions):
                    cleaned["entry_data"] = _without_rows(value.get("entry_data"))
                if value.keys() >= _EXAMPLE and any(str(value["first"]).endswith(f" in {run}") for run in self._runs):
                    cleaned["first"] = ERASED  # a segment's id, which other media may share
                return cleaned
            case list():
                return [self._value(part, partition, is_data=is_data) for part in value]
            case str():
                return self.markers.without(value)
            case _:
                return value

    def condition(self, column: sa.Column[Any], partition: Any) -> Any:
        """Rows that may have to be changed; more may be found than are. ``partition`` is the column that says of which
        one a row is, where the table has such."""
        forms = {again for one in self.markers.forms for again in (one, json.dumps(one)[1:-1])}
        found: list[Any] = [column.like("%" + one.replace("\\", "_") + "%") for one in sorted(forms)]
        if self._indexes:
            labels = [column.like(f'%"label": "{one}"%') for one in _OF_ROWS]
            rows = sa.or_(*labels, column.like('%"first": "%'))
            if partition is not None and len(self.partitions) <= _MOST_PARTITIONS:
                rows = sa.and_(sa.or_(partition.is_(None), partition.in_(sorted(self.partitions))), rows)
            found.append(rows)
        return sa.or_(sa.false(), *found)


_STRUCTURE = frozenset(
    {
        *("__class__", "__enum__", "__set__", "__frozenset__", "path", "asset_key", "key_path", "label", "status"),
        *("partition", "partition_key", "partitions_def_name", "step_key", "step_kind_value", "node_handle", "run_id"),
        *("root_run_id", "parent_run_id", "pipeline_name", "job_name", "event_type_value", "name", "mode", "level"),
        *("location_name", "repository_name", "code_location_name", "instigator_name", "sensor_name", "check_name"),
        *("type", "kind", "severity", "output_name", "step_output_handle", "solid_handle_id", "python_module"),
    }
)
"""Fields by which Dagster finds things: a medium whose name is that of an asset must not rename it."""
_DATA = "data"
"""Of a row of a table, or of JSON, among the metadata: its fields are none of Dagster's."""


def _is_dagsters(name: str) -> bool:
    return name in _STRUCTURE or name.startswith(("dagster/", ".dagster/"))


_EXAMPLE = frozenset({"first", "place", "keyword"})
"""Of a row in what the contract check tells: the first answer that breaks a place, by its segment and run."""


def _without_rows(entry: Any) -> Any:
    return {**entry, "md_str": f"*{ERASED}*"} if isinstance(entry, dict) and "md_str" in entry else entry


def _databases(instance: dg.DagsterInstance) -> Iterator[tuple[str, Connect]]:
    """Every database of an instance. In SQLite each run has one of its own, beside that of all assets."""
    events: Any = instance.event_log_storage
    yield "events", events.index_connection
    if hasattr(events, "get_all_run_ids"):
        for run_id in events.get_all_run_ids():
            yield f"{_OF_A_RUN}{run_id}", partial(events.run_connection, run_id)
        if Path(events.path_for_shard(_NO_RUN)).exists():  # whose name begins with a dot, so that it is not listed
            yield "events of no run", partial(events.run_connection, _NO_RUN)
    runs: Any = instance.run_storage
    yield "runs", runs.connect
    schedules: Any = instance.schedule_storage
    if schedules is not None:
        yield "schedules", schedules.connect


def _path(connection: sa.Connection) -> Path | None:
    """The file of a database; None where it is none."""
    if connection.engine.dialect.name != "sqlite":
        return None
    # Asked of SQLite itself: the address of one in memory has a name like that of a file.
    named = {row[1]: row[2] for row in connection.execute(sa.text("PRAGMA database_list"))}
    return Path(named["main"]) if named.get("main") else None


def _kept_by(connection: sa.Connection, name: str, changed: Sequence[str]) -> str | None:
    """What a server still has of rows that were rewritten; None of a database in memory."""
    dialect = connection.engine.dialect.name
    if dialect == "sqlite":
        return None
    tables = ", ".join(sorted({one.split(" of ")[1].partition(".")[0] for one in changed}))
    how = {"postgresql": f"`VACUUM FULL {tables}`", "mysql": f"`OPTIMIZE TABLE {tables}`"}.get(
        dialect, "it is rewritten"
    )
    return (
        f"rows of Dagster's database ({name}, {dialect}) as they were, which no query finds: in the files of its "
        f"tables until {how}, and in its log of changes until that is recycled"
    )


class _Schemas:
    """The tables of databases. Those of runs are all alike, and looking at one costs more than cleaning it."""

    def __init__(self) -> None:
        self._known: dict[str, sa.MetaData] = {}

    def of(self, connection: sa.Connection) -> sa.MetaData:
        """The tables of one."""
        if connection.engine.dialect.name != "sqlite":
            return _reflected(connection)
        written = connection.execute(sa.text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
        told = "\n".join(written.scalars())
        if told not in self._known:
            self._known[told] = _reflected(connection)
        return self._known[told]


def _reflected(connection: sa.Connection) -> sa.MetaData:
    tables = sa.MetaData()
    tables.reflect(connection)
    return tables


def _clean(connection: sa.Connection, words: _Words, schemas: _Schemas, *, dry_run: bool) -> list[str]:
    """Rewrite the texts of a database. Returns what was, by table and column."""
    changed = []
    for table in schemas.of(connection).sorted_tables:
        if "id" not in table.c:
            continue
        texts = [one for one in table.c if isinstance(one.type, sa.String) and not one.primary_key]
        for column in (one for one in texts if one.name not in _NAMES):
            found = words.condition(column, table.c.get("partition"))
            if table.name == "run_tags":
                found = found & ~table.c.key.like("%dagster/%")
            partition = table.c.partition if "partition" in table.c else sa.null()
            # The ids first: nothing is written while rows are read, and one text at a time is held.
            ids = list(connection.execute(sa.select(table.c.id).where(found)).scalars())
            count = 0
            for number in ids:
                text, of = connection.execute(sa.select(column, partition).where(table.c.id == number)).one()
                if text and (cleaned := words.cleaned(text, of)) != text:
                    count += 1
                    if not dry_run:
                        connection.execute(sa.update(table).where(table.c.id == number).values({column.name: cleaned}))
            if count:
                changed.append(f"{count} of {table.name}.{column.name}")
    return changed


_NAMES = frozenset(
    {
        *("run_id", "snapshot_id", "partition", "dagster_event_type", "step_key", "asset_key", "status", "key", "name"),
        *(
            "execution_status",
            "check_name",
            "type",
            "instigator_type",
            "job_type",
            "action_type",
            "daemon_type",
            "mode",
        ),
        *("partitions_def_name", "partition_set", "pipeline_name", "job_name", "selector_id", "repository_selector_id"),
        *("snapshot_type", "backfill_id", "job_origin_id", "repository_origin_id", "concurrency_key", "last_run_id"),
    }
)
"""Columns that Dagster compares, and that hold no text."""


def _clean_logs(instance: dg.DagsterInstance, words: _Words, *, dry_run: bool) -> tuple[list[str], str | None]:
    """Rewrite what steps wrote to their output, where that is in files here."""
    if not instance.is_persistent:
        return [], None
    settings = instance.get_ref().compute_logs_data
    place = None if settings is None else settings.config_dict.get("base_dir")
    if not isinstance(place, str):
        kind = type(instance.compute_log_manager).__name__
        return [], f"the output of steps, which {kind} keeps: remove there what names it"
    changed = []
    for path in sorted(Path(place).rglob("*")):
        if path.suffix not in {".out", ".err"} or not path.is_file() or path.is_symlink():
            continue
        text = path.read_text(errors="surrogateescape")
        if (cleaned := words.markers.without(text)) != text:
            changed.append(str(path))
            if not dry_run:
                path.write_text(cleaned, errors="surrogateescape")
    return changed, None


def _compact(path: Path) -> str | None:
    """Let a database hold no bytes of what was in it. Returns what is in the way."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("VACUUM")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        return f"{path} could not be compacted ({error}), so that its free pages may hold what is gone; stop Dagster"
    return f"{path}-wal is in use, and may hold what is gone; stop Dagster" if busy else None


def _where(instance: dg.DagsterInstance) -> str:
    return f"the history of Dagster in {instance.root_directory}" if instance.is_persistent else "Dagster's history"
