"""``vv-exports sql`` prints a script that DuckDB runs as it is."""

import duckdb

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
