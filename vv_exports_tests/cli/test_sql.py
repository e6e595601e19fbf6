"""``vv-exports sql`` prints a script that a database runs as it is."""

import duckdb

from vv_exports.cli import sql
from vv_exports.delivery.views.registry import ENGINES
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run, tree
from vv_exports_tests.deployments import client_of


def test_what_it_prints_makes_the_views_and_it_writes_nothing(tmp_path):
    write_run(tmp_path / "archive", run_id="0001", executed_at="2026-10-01T00:00:00Z", segments=3)
    write_run(tmp_path / "archive", run_id="0002", executed_at="2026-10-02T00:00:00Z", segments=2)
    client_of(tmp_path).automations.run("idx", "team")
    before = tree(tmp_path)
    script = run(tmp_path, "sql", "idx", "team", "--engine", "duckdb").out
    latest = run(tmp_path, "sql", "idx", "team", "--engine", "duckdb", "--view", "latest", "--json").document["sql"]
    assert tree(tmp_path) == before
    assert "team_current" not in latest
    with duckdb.connect() as connection:
        connection.execute(script)
        connection.execute(latest)
        counted = 'select prompt_run_id, count(*) from "team_{}"."segments_prm" group by all order by all'
        assert connection.sql(counted.format("current")).fetchall() == [("0001", 3), ("0002", 2)]
        assert connection.sql(counted.format("latest")).fetchall() == [("0002", 2)]


def test_what_there_is_not_is_told(tmp_path):
    client_of(tmp_path)
    said = run(tmp_path, "sql", "idx", "team", "--engine", "duckdb")
    assert (said.code, "nothing was delivered" in said.err) == (2, True)
    assert run(tmp_path, "sql", "idx", "nobody", "--engine", "duckdb").code == 2


def test_another_database_gets_its_own_and_is_told_what_it_cannot_read(tmp_path):
    write_run(tmp_path / "archive", run_id="0001", executed_at="2026-10-01T00:00:00Z")
    client_of(tmp_path).automations.run("idx", "team")
    spark = run(tmp_path, "sql", "idx", "team", "--engine", "spark", "--view", "latest").out
    assert f"path 'file://{tmp_path}/deliveries/exports/team/segments/prompt_id=prm'" in spark
    assert "`team_latest`.`segments_prm`" in spark
    refused = run(tmp_path, "sql", "idx", "team", "--engine", "athena")
    assert (refused.code, refused.out, "Athena reads S3 alone" in refused.err) == (2, "", True)
    copied = run(tmp_path, "sql", "idx", "team", "--engine", "athena", "--location", "s3://bucket/reviews/").out
    assert "location 's3://bucket/reviews/segments/prompt_id=prm/'" in copied
    assert run(tmp_path, "sql", "idx", "team", "--engine", "oracle").code == 2


def test_the_engines_that_are_offered_are_those_that_there_are():
    assert sql._ENGINES == ENGINES
