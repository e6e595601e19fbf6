"""What an automation owes when a prompt's schema changes: the new run first, then the others with its columns."""

import copy
import logging
import random
import shutil
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.automations.plan import plan
from vv_exports.automations.selection import selected
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.errors import RunFailedError
from vv_exports_tests import deployments
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, with_parts
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, crashes_after


def of(**properties):
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}


def client_with(folder, **automation):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"] = {
        "team": {**CONFIG["indexes"]["idx"]["automations"]["team"], **automation}
    }
    return client_of(folder, config)


def run(folder, number, schema, *metadata):
    write_run(
        folder / "archive",
        run_id=f"run_{number:03}",
        schema=schema,
        executed_at=(datetime(2026, 10, 1, tzinfo=UTC) + timedelta(hours=number)).isoformat(),
        segments=[segment(n, metadata=one) for n, one in enumerate(metadata)],
    )


def team(client):
    return client.pipeline.automations.get("idx", "team")


def reconciled(client):
    """What a reconciliation does, of an automation that has begun."""
    pipeline = client.pipeline
    pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), pipeline.clock())
    return deployments.reconciled(client)


def owed(client):
    pipeline = client.pipeline
    listing = pipeline.indexes.listing("idx")
    known = pipeline.snapshots.known("idx", listing, team(client).collection().runs)
    return listing, team(client).standings(known)


def planned_of(client, listing, owed):
    return plan(team(client), listing, owed, selected(owed, history=True), client.pipeline.clock)


def log(client):
    return [
        {one.run_id: one.reason for one in entry.prompt_runs} for entry in entries_since(team(client).destination, 0)
    ]


OLD, NEW = of(title="string"), of(title="string", mood="string")


@pytest.fixture
def outgrown(tmp_path):
    """A collection of five runs, and a sixth with one more property that is not delivered yet."""
    for number in range(5):
        run(tmp_path, number, OLD, {"title": f"t{number}"})
    client = client_with(tmp_path, max_runs_per_delivery=2)
    reconciled(client)
    run(tmp_path, 5, NEW, {"title": "t5", "mood": "calm"})
    return tmp_path, client


def test_the_new_run_comes_first_and_the_others_after_it_in_entries_of_their_own(outgrown):
    _, client = outgrown
    before = len(log(client))
    found = reconciled(client)
    assert found.problems == {}
    assert log(client)[before:] == [
        {"run_005": "new"},
        {"run_000": "reshaped", "run_001": "reshaped"},
        {"run_002": "reshaped", "run_003": "reshaped"},
        {"run_004": "reshaped"},
    ]
    assert reconciled(client).delivered == ()
    assert client.automations.retrieve("idx", "team").due == 0


def test_the_command_delivers_both_and_says_which_were_reshaped(outgrown):
    _, client = outgrown
    outcome = client.automations.run("idx", "team")
    assert set(outcome.delivered) == {f"run_{number:03}" for number in range(6)}
    assert set(outcome.reshaped) == {f"run_{number:03}" for number in range(5)}
    again = client.automations.run("idx", "team")
    assert (again.delivered, again.files) == ((), 0)


def test_the_command_gives_the_others_their_columns_though_a_run_waits_and_says_so_at_the_end(outgrown):
    folder, _ = outgrown
    client = client_with(folder, on_schema_conflict="hold", max_runs_per_delivery=2)
    run(folder, 6, of(title="integer"), {"title": 6})
    with pytest.raises(RunFailedError, match="run_006 waits"):
        client.automations.run("idx", "team")
    state = client.automations.retrieve("idx", "team")
    assert (state.delivered, state.due, state.held_why) == (6, 0, {"conflict": 1})
    assert sum(list(entry.values()).count("reshaped") for entry in log(client)) == 5


def test_a_delivery_of_both_kinds_makes_two_entries(outgrown):
    _, client = outgrown
    pipeline, before = client.pipeline, len(log(client))
    batch = take_snapshots(team(client), ["run_005"], pipeline.clock())
    deliver_batch(team(client), pipeline.deliveries, batch, None)
    run(outgrown[0], 6, NEW, {"title": "t6"})
    batch = take_snapshots(team(client), ["run_000", "run_006"], pipeline.clock())
    deliver_batch(team(client), pipeline.deliveries, batch, None)
    assert log(client)[before:] == [{"run_005": "new"}, {"run_006": "new"}, {"run_000": "reshaped"}]


def test_what_is_due_for_its_shape_is_shown_and_planned_with_files_and_bytes(outgrown):
    _, client = outgrown
    client.prompt_runs.sync("idx")
    listing, before = owed(client)
    planned = planned_of(client, listing, before)
    files = [file for one in team(client).collection().runs.values() for file in one.files]
    assert [one.run_id for one in planned.prompt_runs] == ["run_005"]
    assert set(planned.reshape.prompt_runs) == {f"run_{number:03}" for number in range(5)}
    assert (planned.reshape.files, planned.reshape.bytes) == (len(files), sum(file.bytes for file in files))
    assert "'run_005' needs more: /mood is new" in planned.changes[0]
    batch = take_snapshots(team(client), ["run_005"], client.pipeline.clock())
    deliver_batch(team(client), client.pipeline.deliveries, batch, None)
    listing, after = owed(client)
    assert client.automations.retrieve("idx", "team").due_why == {"reshape": 5}
    assert [one.why for one in planned_of(client, listing, after).prompt_runs] == ["reshape"] * 5


def test_a_run_that_the_source_has_no_more_gets_the_columns_from_its_snapshot(outgrown):
    folder, client = outgrown
    shutil.rmtree(folder / "archive/indexes/idx/prompt_runs/run_002")
    pipeline = client.pipeline
    pipeline.snapshots.catalogs.mark_gone("idx", ["run_002"], pipeline.clock())
    assert reconciled(client).problems == {}
    state = team(client).collection()
    assert all(map(team(client).content.up_to_date(state), state.runs.values()))
    assert set(state.runs) == {f"run_{number:03}" for number in range(6)}


@pytest.mark.slow
def test_two_hundred_runs_have_the_columns_after_the_next_delivery_however_often_it_dies(tmp_path):
    for number in range(200):
        run(tmp_path, number, OLD, {"title": f"t{number}"})
    client = client_with(tmp_path, max_runs_per_delivery=20)
    reconciled(client)
    run(tmp_path, 200, NEW, {"title": "t200", "mood": "calm"})
    chance, deaths = random.Random(20261126), 0
    connector = client.pipeline.connectors["conn_export"]
    glob = f"read_parquet('{tmp_path}/deliveries/exports/team/segments/prompt_id=prm/**')"
    while deaths < 10:
        dying = client_with(tmp_path, max_runs_per_delivery=20)
        fault = {chance.randrange(5, 300): chance.choice([crashes, crashes_after])}
        with_parts(
            dying.pipeline, connectors={**dying.pipeline.connectors, "conn_export": FaultyConnector(connector, fault)}
        )
        try:
            reconciled(dying)
        except Crash:
            deaths += 1
            log_rows = [file.rows for file in read_log(team(client).destination).files]
            assert sum(log_rows) in {200, 201}, "a reader of the log has every run, and each once"
        else:
            break
    assert deaths >= 3
    reconciled(client_with(tmp_path, max_runs_per_delivery=20))
    rows = duckdb.sql(f"select prompt_run_id, metadata.title, metadata.mood from {glob} order by 1").fetchall()
    assert rows == [(f"run_{n:03}", f"t{n}", "calm" if n == 200 else None) for n in range(201)]
    assert next(number for number, one in enumerate(log(client)) if "run_200" in one) <= min(
        number for number, one in enumerate(log(client)) if "reshaped" in one.values()
    )
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "deliveries").rglob("*") if path.is_file()}
    assert reconciled(client_with(tmp_path, max_runs_per_delivery=20)).delivered == ()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "deliveries").rglob("*") if path.is_file()} == files
    assert verify(team(client).destination).problems == ()


@pytest.fixture
def clashing(tmp_path):
    run(tmp_path, 0, of(place="integer"), {"place": 1})
    return tmp_path


def test_a_run_whose_types_files_cannot_hold_waits_and_says_so_and_is_tried_no_more(clashing):
    client = client_with(clashing, on_schema_conflict="hold")
    reconciled(client)
    run(clashing, 1, of(place="string"), {"place": "Rome"})
    run(clashing, 2, of(place="integer"), {"place": 2})
    found = reconciled(client)
    assert found.delivered == ("run_002",)
    assert "/place" in found.problems["run_001"]
    state = client.automations.retrieve("idx", "team")
    assert (state.held, state.held_why, state.held_runs) == (1, {"conflict": 1}, ("run_001",))
    assert reconciled(client).problems == {}, "it waits, and nobody tries"
    freed = client_with(clashing, on_schema_conflict="new_version")
    assert reconciled(freed).delivered == ("run_001",)
    assert freed.automations.retrieve("idx", "team").tables == {"prm": ["segments", "segments.v2"]}


def test_a_held_run_is_delivered_once_its_content_is_another(clashing):
    client = client_with(clashing, on_schema_conflict="hold")
    reconciled(client)
    run(clashing, 1, of(place="string"), {"place": "Rome"})
    reconciled(client)
    run(clashing, 1, of(place="integer"), {"place": 3}, {"place": 4})
    assert reconciled(client).delivered == ("run_001",)
    assert client.automations.retrieve("idx", "team").held == 0


@pytest.fixture
def held_back(clashing):
    """A run that waits, since the integers that are delivered are text in it."""
    client = client_with(clashing, on_schema_conflict="hold")
    reconciled(client)
    run(clashing, 1, of(place="string"), {"place": "Rome"})
    assert "run_001" in reconciled(client).problems
    return clashing


@pytest.mark.parametrize("format_name", ["jsonl", "json"])
def test_documents_hold_any_type_so_that_a_run_waits_no_more_where_they_are_chosen(held_back, format_name):
    client = client_with(held_back, on_schema_conflict="hold", format=format_name)
    assert set(reconciled(client).delivered) == {"run_000", "run_001"}
    assert client.automations.retrieve("idx", "team").held == 0


def test_a_run_that_waits_for_the_files_of_one_place_is_delivered_to_another_that_has_none(held_back):
    shutil.rmtree(held_back / "archive/indexes/idx/prompt_runs/run_000")
    client = client_with(held_back, on_schema_conflict="hold", destination_subpath="exports/other")
    listing = client.pipeline.indexes.listing("idx")
    client.pipeline.snapshots.catalogs.mark_gone("idx", {"run_000"} - listing.run_ids, client.pipeline.clock())
    assert reconciled(client).delivered == ("run_001",)


def test_a_plan_tells_what_follows_from_the_runs_that_do_not_wait(held_back):
    client = client_with(held_back, on_schema_conflict="hold")
    run(held_back, 2, of(place="integer", more="string"), {"place": 2, "more": "x"})
    run(held_back, 3, of(place="boolean"), {"place": True})
    client.prompt_runs.sync("idx")
    planned = planned_of(client, *owed(client))
    assert [one.run_id for one in planned.prompt_runs] == ["run_002", "run_003"]
    assert planned.reshape.prompt_runs == ("run_000",)
    assert ["run_003 waits" in planned.changes[0], "'run_002' needs more: " in planned.changes[1]] == [True, True]


def test_the_runs_beside_one_that_waits_are_delivered_in_one_entry(held_back):
    client = client_with(held_back, on_schema_conflict="hold")
    for number, kind, value in ((2, "integer", 2), (3, "boolean", True), (4, "integer", 4), (5, "string", "Oslo")):
        run(held_back, number, of(place=kind), {"place": value})
    found = reconciled(client)
    assert log(client)[1:] == [{"run_002": "new", "run_004": "new"}]
    assert set(found.problems) == {"run_003", "run_005"}
    assert client.automations.retrieve("idx", "team").held_runs == ("run_001", "run_003", "run_005")


def test_a_run_that_is_gone_and_was_not_kept_either_stays_as_it_is_and_is_not_tried_for_ever(outgrown):
    folder, client = outgrown
    shutil.rmtree(folder / "archive/indexes/idx/prompt_runs/run_002")
    shutil.rmtree(folder / "storage/snapshots/idx/run_002")
    client = client_with(folder)
    client.pipeline.snapshots.catalogs.mark_gone("idx", ["run_002"], client.pipeline.clock())
    assert set(reconciled(client).problems) == {"run_002"}
    assert reconciled(client).problems == {}
    state = client.automations.retrieve("idx", "team")
    assert (state.delivered, state.due, state.failing) == (6, 0, 0)
    run(folder, 2, OLD, {"title": "t2"})
    listed = client.pipeline.indexes.listing("idx")
    client.pipeline.snapshots.catalogs.mark_gone("idx", {"run_002"} - listed.run_ids, client.pipeline.clock())
    assert reconciled(client).delivered == ("run_002",)


def test_superseded_files_are_kept_for_readers_that_began_before(tmp_path):
    now = [datetime(2026, 11, 1, tzinfo=UTC)]

    def client():
        found = client_with(tmp_path, retain_superseded="24h")
        with_parts(found.pipeline, clock=lambda: now[0])
        return found

    run(tmp_path, 0, OLD, {"title": "a"})
    reconciled(client())
    (first,) = [file.path for file in team(client()).collection().files]
    run(tmp_path, 0, OLD, {"title": "a"}, {"title": "b"})
    reconciled(client())
    there = team(client()).destination.files()
    assert first in there
    now[0] += timedelta(hours=23)
    assert reconciled(client()).delivered == ()
    kept = vacuum(team(client()).destination, lambda: now[0])
    assert (kept.retained, kept.superseded) == ((first,), ())
    assert first in team(client()).destination.files()
    now[0] += timedelta(hours=2)
    assert vacuum(team(client()).destination, lambda: now[0], dry_run=True).superseded == (first,)
    assert reconciled(client()).problems == {}
    assert first not in team(client()).destination.files()
    assert len(log(client())) == 2, "removing it is no delivery"


def test_what_has_expired_goes_with_the_next_delivery(tmp_path):
    now = [datetime(2026, 11, 1, tzinfo=UTC)]
    client = client_with(tmp_path, retain_superseded="1h")
    with_parts(client.pipeline, clock=lambda: now[0])
    run(tmp_path, 0, OLD, {"title": "a"})
    reconciled(client)
    (first,) = [file.path for file in team(client).collection().files]
    run(tmp_path, 0, OLD, {"title": "b"})
    reconciled(client)
    assert first in team(client).destination.files()
    now[0] += timedelta(hours=2)
    run(tmp_path, 1, OLD, {"title": "c"})
    pipeline = client.pipeline
    batch = take_snapshots(team(client), ["run_001"], pipeline.clock())
    deliver_batch(team(client), pipeline.deliveries, batch, None)
    assert first not in team(client).destination.files()


def test_without_retention_superseded_files_go_at_once(tmp_path, caplog):
    client = client_with(tmp_path)
    run(tmp_path, 0, OLD, {"title": "a"})
    reconciled(client)
    (first,) = [file.path for file in team(client).collection().files]
    run(tmp_path, 0, OLD, {"title": "b"})
    with caplog.at_level(logging.INFO):
        reconciled(client)
    assert first not in team(client).destination.files()
