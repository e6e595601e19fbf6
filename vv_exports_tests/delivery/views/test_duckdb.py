"""The views in DuckDB have the rows that the reader gives."""

import duckdb
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.views.registry import views_script
from vv_exports.errors import NotFoundError, RequestError
from vv_exports.reader import open_delivery
from vv_exports_tests.archives import segment

OLD = {"type": "object", "properties": {"0001": {"type": "integer"}, "it's": {"type": "string"}}}
NEW = {"type": "object", "properties": {"0001": {"type": "integer"}, "mood": {"type": "string"}}}
ODD = 'it\'s "one"'


@pytest.fixture
def give(deployment, clock):
    def given(run_id, day, segments, *, format_name="parquet", **run):
        snapshot = deployment.snapshot(run_id, executed_at=f"2026-10-0{day}T00:00:00Z", segments=segments, **run)
        deliver(deployment.request(snapshot, format_name=format_name), deployment.store, clock)

    return given


@pytest.fixture
def filled(give):
    """An older run with another schema; nulls first, then integers that no double holds and a long text; a prompt whose
    name has quotes and one that differs in case alone, without a complete run."""
    late = [segment(number, metadata={"0001": None}) for number in range(300)]
    late += [segment(300, metadata={"0001": 2**60 + 1, "it's": "x" * 3_000_000})]
    give("0001", 2, late, prompt_id="0007", schema=OLD)
    give("0002", 1, [segment(1, metadata={"mood": "calm", "0001": 1})], prompt_id="0007", schema=NEW)
    give("003", 3, [segment(2)], prompt_id=ODD, status="completed_with_failures")
    give("004", 3, [segment(3)], prompt_id=ODD.upper())


def seen(connection):
    views = connection.sql("select schema_name, view_name from duckdb_views() where not internal").fetchall()
    quoted = [(schema, name, '"' + name.replace('"', '""') + '"') for schema, name in views]
    return {
        (schema, name): connection.sql(f'select * from "{schema}".{view}').to_arrow_table().to_pylist()
        for schema, name, view in quoted
    }


def in_order(rows):
    return sorted((row["prompt_run_id"], row["segment_id"], repr(sorted(row["metadata"].items()))) for row in rows)


def test_each_view_has_the_rows_that_the_reader_gives(filled, deployment):
    delivery = open_delivery(deployment.folder / "deliveries/exports/team")
    with duckdb.connect() as connection:
        connection.execute(views_script(deployment.destination(), "team"))
        found = seen(connection)
    assert {name for schema, name in found if schema == "team_current"} >= {"segments_0007"}
    for view in ("current", "latest"):
        of_view = {name: rows for (schema, name), rows in found.items() if schema == f"team_{view}"}
        assert len(of_view) == 3  # the prompts that differ in case have a view each
        by_prompt = {rows[0]["prompt_id"]: rows for rows in of_view.values() if rows}
        assert set(by_prompt) == {run.prompt_id for run in delivery.runs(view)}
        for prompt, rows in by_prompt.items():
            assert in_order(rows) == in_order(delivery.table("segments", view, prompt=prompt).to_pylist())
    (exact,) = [row["metadata"]["0001"] for row in found["team_latest", "segments_0007"] if row["metadata"]["0001"]]
    assert exact == 2**60 + 1


def test_run_again_after_a_delivery_it_shows_the_new_state_alone(give, deployment):
    give("run_1", 1, [segment(1)])
    with duckdb.connect() as connection:
        connection.execute(views_script(deployment.destination(), "team"))
        give("run_1", 1, [segment(1), segment(2)])
        with pytest.raises(duckdb.IOException):
            seen(connection)
        connection.execute(views_script(deployment.destination(), "team", views=("current",)))
        rows = connection.sql('select * from "team_current"."segments_prm"').fetchall()
    assert len(rows) == 2


def test_what_cannot_be_a_view_is_refused(give, deployment):
    with pytest.raises(NotFoundError, match="nothing was delivered"):
        views_script(deployment.destination(), "team")
    give("run_1", 1, [segment(1)], format_name="csv")
    with pytest.raises(RequestError, match="not Parquet"):
        views_script(deployment.destination(), "team")
