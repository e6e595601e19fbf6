"""Dagster's history is the same whether the events of a batch are stored together or one by one."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from vv_exports.defs.dagster_internals import add_partition_metadata, log_materializations, step_of
from vv_exports.defs.history import write_in_batches
from vv_exports_tests.defs.test_dagster_canaries import HISTORY, USED
from vv_exports_tests.servers.postgres import postgres

OURS = "{custom: {module: vv_exports.defs.history, class: History, config: {base_dir: %s}}}"
DAGSTERS = "{sqlite: {base_dir: %s}}"
LETTERS = dg.StaticPartitionsDefinition(list("abcdef"))
CHECK = dg.AssetCheckSpec("whole", asset="delivered")


class _Reports(dg.IOManager):
    """Metadata of each partition."""

    def handle_output(self, context, obj):
        metadata = {key: {"rows": ord(key)} for key in context.asset_partition_keys}
        add_partition_metadata(step_of(context), context.asset_key, metadata)

    def load_input(self, context): ...


@dg.asset(partitions_def=LETTERS, backfill_policy=dg.BackfillPolicy.single_run(), check_specs=[CHECK])
def delivered(context: dg.AssetExecutionContext):
    """Says of another asset what was read for it, before it ends."""
    read = (
        dg.AssetMaterialization("read", partition=key, tags={"dagster/data_version": key})
        for key in context.partition_keys
    )
    log_materializations(step_of(context), read)
    yield dg.Output(None, data_version=dg.DataVersion("7"))
    yield dg.AssetCheckResult(check_name="whole", passed=True)


def _opened(folder: Path, storage: str) -> dg.DagsterInstance:
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text(f"storage: {storage % folder}\ntelemetry: {{enabled: false}}\n")
    return dg.DagsterInstance.from_config(str(folder))


def _delivered(instance: dg.DagsterInstance, first: str = "a", last: str = "f") -> str:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    done = dg.materialize([delivered], instance=instance, tags=tags, resources={"io_manager": _Reports()})
    return done.run_id


def _rows(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement).fetchall()


def _held(folder: Path, run_id: str) -> dict[str, list]:
    """All that the databases hold of a run's partitions and checks, but for when it was."""
    columns = "dagster_event_type, step_key, asset_key, partition, event FROM event_logs"
    runs = folder / "history" / "runs"
    tags = "partition, t.asset_key, key, value FROM asset_event_tags t JOIN event_logs e ON e.id = event_id"
    of_assets = [
        ("events of the run", f"{run_id}.db", f"{columns} WHERE asset_key IS NOT NULL"),
        ("events", "index.db", f"{columns} WHERE asset_key IS NOT NULL"),
        ("assets", "index.db", "asset_key, last_materialization FROM asset_keys"),
        ("tags", "index.db", tags),
        ("checks", "index.db", "asset_key, check_name, execution_status FROM asset_check_executions"),
    ]
    return {
        what: sorted((_plain(row, run_id) for row in _rows(runs / name, f"SELECT {said}")), key=repr)
        for what, name, said in of_assets
    }


def _plain(row: tuple, run_id: str) -> list:
    """A row without the run's id, and events without times, which differ from run to run."""
    texts = [str(value).replace(run_id, "") for value in row]
    return [_without_times(json.loads(text)) if text.startswith("{") else text for text in texts]


def _without_times(value):
    if isinstance(value, dict):
        return {name: _without_times(one) for name, one in value.items() if name not in {"timestamp", "storage_id"}}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


@contextmanager
def _commits() -> Iterator[list[str]]:
    """The transactions of any database, by its file."""
    found: list[str] = []

    def note(connection: sa.Connection) -> None:
        found.append(Path(str(connection.engine.url.database)).name)

    sa.event.listen(sa.Engine, "commit", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "commit", note)


@contextmanager
def _inserts(table: str) -> Iterator[list[str]]:
    """Statements that write rows of a table."""
    found: list[str] = []

    def note(_connection, _cursor, statement: str, *_) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.fixture
def in_batches(monkeypatch):
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    yield
    monkeypatch.undo()


def test_a_batch_is_stored_as_single_events_are(tmp_path, in_batches):
    with _opened(tmp_path / "dagsters", DAGSTERS) as instance:
        one_by_one = _held(tmp_path / "dagsters", run_id := _delivered(instance))
        assert len(_rows(tmp_path / f"dagsters/history/runs/{run_id}.db", "SELECT 1 FROM event_logs")) > 20
    with _opened(tmp_path / "ours", OURS) as instance:
        together = _held(tmp_path / "ours", run_id := _delivered(instance))
    for what, rows in one_by_one.items():
        assert rows, what
        assert together[what] == rows, f"{what}: {HISTORY}"


def test_what_is_shown_of_partitions_is_what_each_was_told(tmp_path, in_batches):
    with _opened(tmp_path, OURS) as instance:
        _delivered(instance)
        records = instance.fetch_materializations(delivered.key, limit=100).records
        assert {one.partition_key: one.asset_materialization.metadata["rows"].value for one in records} == {
            key: ord(key) for key in "abcdef"
        }
        assert instance.get_materialized_partitions(dg.AssetKey("read")) == set("abcdef")
        assert instance.get_latest_data_version_record(delivered.key, partition_key="c").partition_key == "c"


def test_more_partitions_are_not_more_transactions(tmp_path, in_batches):
    with _opened(tmp_path, OURS) as instance:
        _delivered(instance, "a", "a")  # what is made for a first run
        with _commits() as of_two:
            _delivered(instance, "a", "b")
        with _commits() as of_six:
            _delivered(instance, "a", "f")
    said = f"Dagster hands over no batches, or stores none: {USED['DagsterEventBatchMetadata']}; {HISTORY}"
    assert of_two.count("index.db") > 3
    assert len(of_six) == len(of_two), said


def test_what_the_environment_says_of_batches_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    write_in_batches()
    with _opened(tmp_path, OURS) as instance:
        with _commits() as of_two:
            _delivered(instance, "a", "b")
        with _commits() as of_six:
            _delivered(instance, "a", "f")
        assert len(of_six) > len(of_two)
        assert instance.get_materialized_partitions(delivered.key) == set("abcdef")


def test_a_history_that_dagster_kept_goes_on_and_back(tmp_path, in_batches):
    for storage, last in ((DAGSTERS, "b"), (OURS, "d"), (DAGSTERS, "f")):
        with _opened(tmp_path, storage) as instance:
            _delivered(instance, chr(ord(last) - 1), last)
    with _opened(tmp_path, OURS) as instance:
        assert instance.get_materialized_partitions(delivered.key) == set("abcdef")
        assert len(instance.get_runs()) == 3


def test_what_was_said_before_an_error_is_kept(tmp_path, in_batches):
    @dg.asset(partitions_def=LETTERS, backfill_policy=dg.BackfillPolicy.single_run())
    def broken(context: dg.AssetExecutionContext):
        def until_the_third() -> Iterator[dg.AssetMaterialization]:
            yield dg.AssetMaterialization("read", partition="a")
            yield dg.AssetMaterialization("read", partition="b")
            raise ValueError("the third")

        log_materializations(step_of(context), until_the_third())

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "f"}
    with _opened(tmp_path, OURS) as instance:
        assert not dg.materialize([broken], instance=instance, tags=tags, raise_on_error=False).success
        assert instance.get_materialized_partitions(dg.AssetKey("read")) == {"a", "b"}


@pytest.mark.slow
def test_in_postgresql_a_batch_is_stored_by_dagsters_own_storage(tmp_path, in_batches):
    with postgres(tmp_path / "server") as server:
        place = {
            "hostname": "127.0.0.1",
            "port": server.port,
            "username": server.user,
            "password": server.password,
            "db_name": server.database,
            "scheme": "postgresql+psycopg2",
        }
        write_in_batches()
        said = json.dumps({"storage": {"postgres": {"postgres_db": place}}, "telemetry": {"enabled": False}})
        (tmp_path / "dagster.yaml").write_text(said)
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            _delivered(instance, "a", "a")
            with _inserts("event_logs") as of_two:
                _delivered(instance, "a", "b")
            with _inserts("event_logs") as of_six:
                _delivered(instance, "a", "f")
            assert instance.get_materialized_partitions(dg.AssetKey("read")) == set("abcdef")
            records = instance.fetch_materializations(delivered.key, limit=6).records
        assert {one.partition_key: one.asset_materialization.metadata["rows"].value for one in records} == {
            key: ord(key) for key in "abcdef"
        }
        # What it stores one by one are the plans.
        assert len(of_six) - len(of_two) == len("cdef")
