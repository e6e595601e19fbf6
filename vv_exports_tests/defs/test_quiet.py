"""A tick for which nothing has happened asks no store and opens no database; whatever happens is seen nevertheless."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from vv_exports.client import VVExports
from vv_exports.defs.intervals import delivery_interval, discovery_interval
from vv_exports.defs.quiet import LOOK_ANEW, Changes
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, with_parts, write_config

DISCOVERY, TEAM = "idx__discovery", "idx__team__delivery"
ASKED = {"read", "files", "create", "delete"}


class Counting:
    """A connector that counts what its store is asked."""

    def __init__(self, connector, asked):
        self._connector, self._asked = connector, asked

    def __getattr__(self, name):
        if name in ASKED:
            self._asked[name] += 1
        return getattr(self._connector, name)


class Deployment:
    """One index and one automation that has delivered all that there is."""

    def __init__(self, folder):
        for number in range(2):
            write_run(folder / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
        team = CONFIG["indexes"]["idx"]["automations"]["team"]
        config = {**CONFIG, "indexes": {"idx": {"automations": {"team": team}}}}
        (folder / "dagster").mkdir()
        self.folder, self.instance = folder, dg.DagsterInstance.local_temp(str(folder / "dagster"))
        self.client = VVExports(write_config(folder, config), instance=self.instance)
        self.asked, self.now = Counter(), datetime(2026, 11, 1, tzinfo=UTC)
        pipeline = self.client.pipeline
        connectors = {name: Counting(one, self.asked) for name, one in dict(pipeline.connectors).items()}
        with_parts(pipeline, storage=Counting(pipeline.storage, self.asked), connectors=connectors)
        pipeline.clock = lambda: self.now
        self.client.automations.run("idx", "team")
        for sensor in (DISCOVERY, TEAM):
            self.tick(sensor)

    def tick(self, sensor, **context):
        """What a tick said, or how many runs it asks for. Counts what it asks stores and the database."""
        self.asked.clear()
        definitions = self.client.definitions
        built = dg.build_sensor_context(instance=self.instance, definitions=definitions, **context)
        said = definitions.resolve_sensor_def(sensor)(built)
        if isinstance(said, dg.SensorResult):
            return len(said.run_requests) or said.skip_reason.skip_message
        return said.skip_message


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


@pytest.fixture
def statements():
    """Those of all databases of this process."""
    sent = []

    def note(connection, cursor, statement, *_):
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("sensor", [DISCOVERY, TEAM])
def test_a_tick_for_nothing_asks_no_store_and_no_database(deployment, statements, monkeypatch, sensor):
    monkeypatch.setattr(Changes, "ask_again_seconds", 10.0)
    deployment.tick(sensor)
    statements.clear()
    said = deployment.tick(sensor)
    assert "Nothing has happened since 00:00:00 UTC, when it was: " in said
    assert (deployment.asked, statements) == ({}, [])


@pytest.mark.parametrize("sensor", [DISCOVERY, TEAM])
def test_after_a_while_it_looks_nevertheless(deployment, sensor):
    deployment.now += LOOK_ANEW - timedelta(seconds=1)
    assert "Nothing has happened" in deployment.tick(sensor)
    deployment.now += timedelta(seconds=1)
    assert "Nothing has happened" not in deployment.tick(sensor)
    assert deployment.asked["files"]


def test_a_new_run_is_discovered_and_once_it_is_read_its_automation_looks(deployment, tmp_path):
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    assert deployment.tick(DISCOVERY) == 1
    assert "Nothing has happened" in deployment.tick(TEAM)
    other = VVExports(tmp_path / "vv_exports.yaml", instance=deployment.instance)
    other.prompt_runs.sync("idx")  # in another process, as Dagster has it
    assert deployment.tick(TEAM) == 1


def test_what_another_instance_has_read_is_seen_when_the_index_is_looked_at(deployment, tmp_path):
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    VVExports(tmp_path / "vv_exports.yaml", instance=dg.DagsterInstance.ephemeral()).prompt_runs.sync("idx")
    assert "Nothing has happened" in deployment.tick(TEAM)
    deployment.tick(DISCOVERY)
    assert deployment.tick(TEAM) == 1


def test_a_changed_run_is_seen(deployment, tmp_path):
    write_run(tmp_path / "archive", run_id="run_0", executed_at="2026-10-01T00:00:00Z", segments=5)
    assert deployment.tick(DISCOVERY) == 1


def test_a_run_of_the_index_that_anybody_launched_has_its_sensors_look(deployment):
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(["idx", "index_export"])}),
    )
    deployment.instance.add_run(run)
    assert "Nothing has happened" not in deployment.tick(TEAM)
    assert "Nothing has happened" in deployment.tick(TEAM)
    deployment.instance.report_run_failed(run)
    assert "Nothing has happened" not in deployment.tick(TEAM)


def test_a_run_of_another_index_leaves_it_quiet(deployment):
    key = frozenset({dg.AssetKey(["other", "prompt_runs"])})
    deployment.instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=key))
    assert "Nothing has happened" in deployment.tick(TEAM)


def test_of_several_runs_at_once_each_is_seen_and_each_once():
    """In an instance without any the newest alone was asked for."""
    instance, changes = dg.DagsterInstance.ephemeral(), Changes(["a", "b", "c"])

    def counts():
        return [changes.count(one, lambda: instance, datetime.now(UTC)) for one in ("a", "b", "c")]

    assert counts() == [0, 0, 0]
    for index_id in ("a", "b"):
        key = frozenset({dg.AssetKey([index_id, "prompt_runs"])})
        instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=key))
    assert counts() == [1, 1, 0]
    assert counts() == [1, 1, 0]
    instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB"))
    assert counts() == [2, 2, 1], "one of all assets is one of each index"


def test_a_run_that_was_noted_with_a_time_to_come_hides_no_other():
    """By a machine whose clock is ahead, or by a PostgreSQL that keeps local times, as it does of new runs."""
    instance, changes, now = dg.DagsterInstance.ephemeral(), Changes(["a"]), datetime.now(UTC)
    key = frozenset({dg.AssetKey(["a", "prompt_runs"])})
    early, run = (instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=key)) for _ in range(2))
    began = dg.DagsterEvent("PIPELINE_START", job_name="__ASSET_JOB")
    instance.run_storage.handle_run_event(early.run_id, began, now + timedelta(hours=9))
    before = changes.count("a", lambda: instance, now)
    before = changes.count("a", lambda: instance, now)
    instance.report_run_failed(run)
    assert changes.count("a", lambda: instance, now) == before + 1
    assert changes.count("a", lambda: instance, now) == before + 1


def test_a_look_that_could_not_tell_what_an_automation_needs_is_made_again(deployment, tmp_path):
    broken = tmp_path / "deliveries" / "exports" / "team" / "_vv" / "log" / f"{1:020}.json"
    broken.write_text("{")
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    assert deployment.tick(DISCOVERY).startswith("1 new of 3 finished prompt runs")
    broken.unlink()
    assert deployment.tick(DISCOVERY) == 1


def test_switching_on_has_it_look(deployment):
    assert "Nothing has happened" not in deployment.tick(TEAM, last_sensor_start_time=1.0)


def test_what_is_due_is_looked_at_with_each_tick_until_it_is_delivered(deployment, tmp_path):
    write_run(tmp_path / "archive", run_id="run_2", executed_at="2026-10-03T00:00:00Z")
    deployment.client.prompt_runs.sync("idx")
    assert [deployment.tick(TEAM), deployment.tick(TEAM)] == [1, 1]
    deployment.client.automations.run("idx", "team")
    assert deployment.tick(TEAM) == "0 prompt runs to be delivered."


def test_a_few_are_looked_at_as_soon_as_is_useful_and_many_as_often_as_a_daemon_can():
    assert [discovery_interval(n) for n in (0, 1, 150, 500, 1000)] == [30, 30, 30, 100, 200]
    assert [delivery_interval(n) for n in (0, 1, 50, 1000, 2001)] == [10, 10, 10, 200, 401]
