"""The views for each database: they parse as its SQL, and their queries have the rows that the reader gives."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.views import athena, bigquery, collection
from vv_exports.delivery.views.collection import ViewedTable, viewed_collection
from vv_exports.delivery.views.names import names_of_views
from vv_exports.delivery.views.registry import views_script
from vv_exports.errors import RequestError
from vv_exports.reader import TABLES, open_delivery
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.earlier_version import deliver_by_0_1, snapshot_of_0_1

PLACES = {
    "athena": "s3://bucket/it's; a/team",
    "bigquery": "gs://bucket/it's; a/team",
    "snowflake": "abfss://data@account.dfs.core.windows.net/it's; a/team",
    "spark": "s3://bucket/it's; a/team",
}


@pytest.fixture(params=sorted(PLACES))
def engine(request):
    return request.param


def printed(given, engine, **options):
    return views_script(given.deployment.destination(), "review-team", engine, location=PLACES[engine], **options)


def parsed(script, engine):
    """The statements one by one, as Athena runs them: its language is another one for tables than for views."""
    head, *blocks = script.split("\n\n")
    assert all(line.startswith("-- ") for line in head.splitlines())
    statements = [sqlglot.parse_one(block.removesuffix(";"), dialect=engine) for block in blocks]
    assert all(isinstance(one, exp.Create | exp.Drop) for one in statements)
    return statements


class Executed:
    """A script in DuckDB: tables are of the files that are there by now, with what the engine tells of their paths."""

    def __init__(self, folder, engine, script):
        self.folder, self.engine, self.declared = folder, engine, {}
        self.connection = duckdb.connect()
        self.connection.execute(
            "create macro substring_index(a, mark, count) as array_to_string(string_split(a, mark)[count:], mark);"
            "create macro raise_error(message) as error(message)"
        )
        for statement in parsed(script, engine):
            table = statement.find(exp.Table)
            schema, name = table.db.lower(), table.name.lower()
            if statement.kind in {"SCHEMA", "DATABASE"}:
                self.connection.execute(f"create schema if not exists {name or schema}")
            elif statement.kind == "TABLE" and isinstance(statement, exp.Create):
                self.declared[name] = {one.name.lower(): one.kind for one in statement.this.expressions}
                self.connection.execute(f"create or replace view {schema}.{name} as {self.files_of(statement)}")
            elif statement.kind == "VIEW":
                self.connection.execute(self.as_duckdb(statement))

    def files_of(self, statement):
        place = PLACES[self.engine]
        if self.engine == "bigquery":
            listed = [one.this for one in statement.find(exp.Array).expressions]
            files = [str(self.folder / one.removeprefix(f"{place}/")) for one in listed]
        else:
            (table,) = re.findall(r"([a-z0-9.]+/prompt_id=[^/' ]+)", statement.sql(dialect=self.engine))
            files = [str(path) for path in sorted((self.folder / table).glob("*/*.parquet"))]
        address = f"'{place.replace(chr(39), 2 * chr(39))}' || filename[{len(str(self.folder)) + 1}:]"
        return (
            f"""select *, {address} as "$path", {{'file_path': replace("$path", '%', '%25')}} as _metadata, """
            f"""array_to_string(string_split("$path", '/')[-2:], '/') as _file """
            f"from read_parquet({files}, union_by_name = true, hive_partitioning = false, filename = true)"
        )

    def as_duckdb(self, statement):
        if self.engine == "snowflake":
            for identifier in statement.find_all(exp.Identifier):
                identifier.set("this", identifier.this.lower())
        return statement.sql(dialect="duckdb")

    def rows(self, view, prefix="review_team"):
        query = "select view_name from duckdb_views() where schema_name = ?"
        names = self.connection.execute(query, [f"{prefix}_{view}"]).fetchall()
        return {
            name: self.connection.sql(f"from {prefix}_{view}.{name}").to_arrow_table().to_pylist() for (name,) in names
        }


def told(row):
    return row["prompt_id"], row["prompt_run_id"], row["segment_id"], (row.get("metadata") or {}).get("0001") or 0


def test_the_queries_have_the_rows_that_the_reader_gives(given, engine):
    delivery, executed = open_delivery(given.folder), Executed(given.folder, engine, printed(given, engine))
    for view in ("current", "latest"):
        found = executed.rows(view)
        assert len(found) == 7
        rows = Counter(
            ("segments.v2" if name.startswith("segments_v2_") else name.partition("_")[0], *told(row))
            for name, of_view in found.items()
            for row in of_view
        )
        assert rows == Counter(
            (folder, *told(row))
            for table in TABLES
            for run in delivery.runs(view)
            for folder in {file.folder for file in run.files if file.table == table}
            for row in delivery.table(table, view, run=run.run_id, folder=folder).to_pylist()
        )
        assert ("segments", "0007", "0001", "seg_00003", 2**60 + 1) in rows


@pytest.mark.parametrize("engine", ["athena", "snowflake", "spark"])
def test_a_view_whose_files_are_not_all_there_fails_and_has_no_part_of_the_rows(given, engine, tmp_path):
    script = printed(given, engine)
    folder = shutil.copytree(given.folder, tmp_path / "team")
    (gone,) = (folder / "segments/prompt_id=0007/prompt_run_id=0002").iterdir()
    gone.unlink()
    executed = Executed(folder, engine, script)
    assert executed.connection.sql("select count(*) from review_team_latest.segments_0007").fetchall() == [(4,)]
    with pytest.raises(duckdb.Error, match="entry 6 of the delivery log are not all there"):
        executed.connection.sql("select segment_id from review_team_current.segments_0007").fetchall()


@pytest.mark.parametrize("engine", ["athena", "bigquery", "spark"])
def test_the_columns_are_declared_as_files_have_them_and_what_is_left_out_is_told(given, engine):
    script = printed(given, engine)
    executed, db = Executed(given.folder, engine, script), duckdb.connect()
    suffix = "_current" if engine == "bigquery" else ""
    metadata = executed.declared[f"segments_0007{suffix}"]["metadata"]
    fields = {one.name: one.args["kind"].sql("duckdb") for one in metadata.expressions}
    assert fields.pop("0001" if engine != "bigquery" else "mood") in {"BIGINT", "TEXT"}
    lists = {name: kind for name, kind in fields.items() if name in {"grid", "shots"}}
    if engine == "spark":
        assert lists == {"grid": "BIGINT[][]", "shots": 'STRUCT("type" TEXT, "on-screen" DOUBLE)[]'}
        assert {"it's", "a`b;"} <= fields.keys()
        assert "Left out" not in script
    else:
        assert lists == {"shots": 'STRUCT("type" TEXT)[]'} | ({"grid": "BIGINT[][]"} if engine == "athena" else {})
        head = script.partition("\n\n")[0]
        assert f"Left out, since {'Athena' if engine == 'athena' else 'BigQuery'} cannot read it" in head
        lacking = {"it's", "a`b;", "shots[].on-screen"} | ({"0001", "grid"} if engine == "bigquery" else set())
        assert {one for one in lacking if f"segments_0007: metadata.{one} (" in head} == lacking
    for name, declared in executed.declared.items():
        there = {one[0]: one[1] for one in executed.connection.sql(f"describe review_team_files.{name}").fetchall()}
        for column, kind in declared.items():
            if column != "metadata":
                ((typed,),) = db.sql(f"select typeof(cast(null as {kind.sql('duckdb')}))").fetchall()
                assert typed.removesuffix(" WITH TIME ZONE") == there[column].removesuffix(" WITH TIME ZONE"), column


def test_of_two_runs_of_the_same_moment_the_greater_id_is_the_latest_as_the_reader_says(given, tmp_path):
    folder = shutil.copytree(given.folder, tmp_path / "team")
    for number, moment in ((1, "2026-10-03T02:00:00+02:00"), (2, "2026-10-03T00:00:00Z")):
        path = folder / f"_vv/log/{number:020d}.json"
        entry = json.loads(path.read_text())
        entry["provenance"]["prompt_runs"][0]["executed_at"] = moment
        path.write_text(json.dumps(entry))
    latest = [run.run_id for run in open_delivery(folder).runs("latest", prompt="0007")]
    script = views_script(Destination(LocalConnector("conn", tmp_path), "team"), "team", "duckdb")
    with duckdb.connect() as connection:
        connection.execute(script)
        rows = connection.sql("select distinct prompt_run_id from team_latest.segments_0007").fetchall()
    assert ([run_id for (run_id,) in rows], latest) == (["0002"], ["0002"])


def test_a_store_that_is_not_the_providers_own_is_named():
    stores = {
        endpoint: S3Connector("conn", bucket="bucket", endpoint_url=endpoint, environ={})
        for endpoint in ("http://127.0.0.1:9000", "https://s3.eu-central-1.amazonaws.com", None)
    }
    named = {endpoint: collection._endpoint(Destination(store, "team")) for endpoint, store in stores.items()}
    assert named == {**dict.fromkeys(stores), "http://127.0.0.1:9000": "http://127.0.0.1:9000"}


def test_names_need_no_quotes_and_no_two_are_the_same():
    odd = ["prm", "PRM", "p-r", "p.r", "it's", "ブランド", "ブラント", "x" * 300, "x" * 301, "1; drop table a"]
    names = names_of_views(
        [ViewedTable(prompt, folder, (), {}) for prompt in odd for folder in ("segments", "videos.v2")]
    )
    assert len({*names.values()}) == 2 * len(odd)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,120}", name) for name in names.values())
    assert names["it's", "segments"].startswith("segments_it_s__")


def test_what_an_engine_cannot_read_is_refused_and_says_why(given, deployment, clock):
    destination = given.deployment.destination()
    for engine, reads in (("athena", "S3"), ("bigquery", "Google Cloud Storage"), ("snowflake", "Azure")):
        with pytest.raises(RequestError, match=rf"{reads}.*{given.folder}.*--location"):
            views_script(destination, "team", engine)
    for location in ("s3://bucket/a*b", "s3://bucket/a{b", "s3://bucket/a\\b", "s3://bucket/a\nb", "s3://b/\u202ea"):
        with pytest.raises(RequestError, match="escape"):
            views_script(destination, "team", "spark", location=location)
    deliver(deployment.request(deployment.snapshot(), format_name="jsonl"), deployment.store, clock)
    with pytest.raises(RequestError, match="not Parquet"):
        views_script(deployment.destination(), "team", "spark")


def test_a_view_of_more_files_than_a_statement_can_name_has_the_same_rows(given, monkeypatch):
    whole = Executed(given.folder, "athena", printed(given, "athena"))
    monkeypatch.setattr(athena, "LISTED_BYTES", 1)
    script = printed(given, "athena")
    assert script.count('"review_team_parts"."segments_0007_current_') == 4
    parts = Executed(given.folder, "athena", script)
    for view in ("current", "latest"):
        found = parts.rows(view)
        for name, rows in whole.rows(view).items():
            assert sorted(found[name], key=told) == sorted(rows, key=told)


def test_a_statement_that_is_longer_than_an_engine_takes_is_refused(given):
    viewed = viewed_collection(given.deployment.destination(), ("current",), location=PLACES["bigquery"])
    many = replace(viewed.tables[0], files=viewed.tables[0].files * 12_000)
    with pytest.raises(RequestError, match=r"BigQuery takes 1,000,000.*too many files"):
        bigquery.bigquery_views(replace(viewed, tables=(many,)), "team", ("current",))
    viewed = replace(viewed, uri=PLACES["athena"], tables=(many,))
    assert max(map(len, athena.athena_views(viewed, "team", ("current",)).split(";\n\n"))) < athena.MOST_BYTES


def test_what_version_0_1_delivered_has_its_columns_beside_those_of_now(deployment, clock):
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    answers = [segment(1, metadata={"size": 3})]
    deliver_by_0_1(deployment, snapshot_of_0_1(deployment, "run_1", schema=schema, segments=answers))
    wider = {"type": "object", "properties": {"size": {"type": "number"}, "mood": {"type": "string"}}}
    now = deployment.snapshot("run_2", schema=wider, segments=[segment(2, metadata={"size": 1.5})])
    deliver(deployment.request(now), deployment.store, clock)
    script = views_script(deployment.destination(), "team", "spark", location=PLACES["spark"])
    assert "wait to be delivered again" in script
    executed = Executed(deployment.folder / "deliveries/exports/team", "spark", script)
    metadata = executed.declared["segments_prm"]["metadata"]
    assert {one.name: one.args["kind"].sql("duckdb") for one in metadata.expressions} == {
        "size": "DOUBLE",
        "mood": "TEXT",
    }
    assert len(executed.rows("current", "team")["segments_prm"]) == 2
