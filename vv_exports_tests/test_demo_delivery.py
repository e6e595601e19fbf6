"""The packaged demo, delivered in every way that there is, and read back by strangers: nothing lost, nothing added.

The archive is read here with the standard library alone, and what breaks a schema is found by a second, naive
implementation, so that a mistake of the package cannot be repeated on both sides of a comparison.
"""

import gzip
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vv_exports.client import VVExports
from vv_exports.content.encoding import encoding_of
from vv_exports.demo import write_demo
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.prompt_runs import VOLATILE
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.tables import RUN_COLUMNS, table_of

INDEX = "idx_archive"
STATED_BY_THE_RUN = {"run_id", "prompt_run_id", "prompt_id", "index_id", "result_type"}
TIMES = {"executed_at", "started_at", "completed_at"}
TABLES = {"segments": "segment_results", "videos": "video_results", "failures": "failed_segments"}
WAYS = {"automation": "parquet", "jsonl": "jsonl", "csv": "csv", "json": "json", "download": "parquet"}


@dataclass(frozen=True)
class Demo:
    """The demo after its deliveries. ``delivered``: way -> folder."""

    root: Path
    client: VVExports
    delivered: dict[str, Path]

    @property
    def archive(self) -> Path:
        return self.root / ".vv_exports/archive/indexes" / INDEX / "prompt_runs"

    @property
    def collection(self) -> Path:
        return self.delivered["automation"]


def deliver_demo(root: Path) -> Demo:
    write_demo(root)
    client = VVExports(root / "vv_exports.yaml", instance=dg.DagsterInstance.ephemeral())
    delivered = {"automation": Path(client.automations.run(INDEX, "review-team").destination_uri)}
    for name in ("jsonl", "csv", "json"):
        export = client.exports.create_index_export(
            INDEX, destination_connector_id="conn_export", destination_subpath=f"tests/{name}", format=name
        )
        delivered[name] = Path(client.exports.wait_for_completion(export.export_id).destination_uri)
    export = client.exports.create_index_export(INDEX)
    download = client.exports.download(export.export_id, root / "download.zip")
    with zipfile.ZipFile(download.path) as zipped:
        zipped.extractall(root / "download")
    delivered["download"] = root / "download" / export.export_id
    return Demo(root, client, delivered)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return deliver_demo(tmp_path_factory.mktemp("demo"))


# --- the archive, read independently ----------------------------------------------------------------------


def content(path):
    match path.suffix:
        case ".gz":
            return gzip.decompress(path.read_bytes())
        case ".zst":
            return pa.input_stream(str(path), compression="zstd").read()
        case _:
            return path.read_bytes()


def parsed(text):
    return json.loads(text, parse_float=Decimal)


def archived(folder, table):
    """The documents of one table of a run, in the order that is promised."""
    found = list(folder.glob(f"{TABLES[table]}.*"))
    if not found:
        return []
    if table == "failures":
        manifest = parsed(content(found[0]))
        documents = [
            {**segment, "video_id": video["video_id"]} for video in manifest["videos"] for segment in video["segments"]
        ]
    else:
        documents = [parsed(line) for line in content(found[0]).splitlines()]
    return sorted(documents, key=lambda d: (d["video_id"], d.get("start_time", 0), d.get("segment_id")))


def finished(demo):
    """Run id -> folder of the runs that are to be delivered."""
    records = {folder: parsed((folder / "prompt_run.json").read_bytes()) for folder in demo.archive.iterdir()}
    return {
        record["run_id"]: folder
        for folder, record in sorted(records.items())
        if record["status"] in {"completed", "completed_with_failures"}
    }


def everything(demo):
    """(run, table) -> documents, without tables that are empty."""
    return {
        (run_id, table): documents
        for run_id, folder in finished(demo).items()
        for table in TABLES
        if (documents := archived(folder, table))
    }


def comparable(document):
    """A record without what is dropped on purpose and without null fields; its times are instants."""
    kept = {
        name: datetime.fromisoformat(value) if name in TIMES else exact(value)
        for name, value in document.items()
        if name not in VOLATILE | STATED_BY_THE_RUN and value is not None
    }
    assert type(kept.get("metadata", {})) is dict
    return kept


def exact(value):
    """A JSON value in which numbers are compared by every digit, and never with a boolean or a text."""
    match value:
        case dict():
            return {name: exact(item) for name, item in value.items()}
        case list():
            return [exact(item) for item in value]
        case None | bool() | str():
            return value
        case _:
            number = Decimal(repr(value) if isinstance(value, float) else value)
            return "number", number.is_signed(), number


# --- what was delivered -----------------------------------------------------------------------------------


def entry_of(folder):
    return json.loads((folder / "_vv/log/00000000000000000000.json").read_bytes())


def committed_tables(folder):
    """(file, table) of everything that a delivery's log lists; schemas come from the log as well."""
    entry = entry_of(folder)
    runs = {run["run_id"]: run for run in entry["provenance"]["prompt_runs"]}
    hashes = {"segments": "schema_sha256", "videos": "video_level_schema_sha256"}
    for file in entry["files"]:
        run = runs[file["prompt_run_id"]]
        schema = entry["provenance"]["json_schemas"].get(run.get(hashes.get(file["table"])))
        yield file, table_of(file["table"], schema)


def read_rows(path, table, name):
    options = FormatOptions(name)
    return format_of(ContentOptions(options)).read(path, encoding_of(options, table).schema)


@pytest.mark.parametrize("way", WAYS)
def test_every_document_of_the_archive_can_be_rebuilt_from_what_was_delivered(demo, way):
    folder = demo.delivered[way]
    rebuilt = {}
    for file, table in committed_tables(folder):
        documents = rebuilt.setdefault((file["prompt_run_id"], file["table"]), [])
        for batch in read_rows(folder / file["path"], table, WAYS[way]):
            documents += encoding_of(FormatOptions(WAYS[way]), table).documents(batch)
    expected = everything(demo)
    assert set(rebuilt) == set(expected)
    assert len(finished(demo)) == 8
    for key, documents in expected.items():
        assert [comparable(d) for d in rebuilt[key]] == [comparable(d) for d in documents], key


@pytest.mark.parametrize("way", ["jsonl", "json"])
def test_a_row_is_the_document_beside_the_ids_of_its_run_for_any_json_reader(demo, way):
    folder = demo.delivered[way]
    expected = everything(demo)
    for file, _ in committed_tables(folder):
        text = content(folder / file["path"])
        rows = [parsed(line) for line in text.splitlines()] if way == "jsonl" else parsed(text)
        ids = [[row.pop(name) for name in RUN_COLUMNS] for row in rows]
        assert ids == [["idx_archive", file["prompt_id"], file["prompt_run_id"]]] * len(rows)
        wanted = expected.pop((file["prompt_run_id"], file["table"]))
        assert [comparable(row) for row in rows] == [comparable(d) for d in wanted]
        assert [exact(row.get("metadata")) for row in rows] == [exact(d.get("metadata")) for d in wanted]
    assert expected == {}


def test_what_is_dropped_is_in_the_archive_and_is_all_that_is_dropped(demo):
    names = {name for documents in everything(demo).values() for document in documents for name in document}
    assert {"segment_uri", "thumbnail_uri", "gif_uri", "marker", "metadata_markers"} <= names & VOLATILE
    columns = {name for _, table in committed_tables(demo.collection) for name in table.schema.names}
    assert names - columns - STATED_BY_THE_RUN <= VOLATILE


# --- other people's readers -------------------------------------------------------------------------------


def counts(demo, table):
    return {run_id: len(documents) for (run_id, name), documents in everything(demo).items() if name == table}


def duck(query, **parameters):
    with duckdb.connect() as connection:
        return connection.execute(query, parameters).fetchall()


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_counts_the_rows_of_each_run_with_a_plain_glob(demo, table):
    query = "SELECT prompt_run_id, count(*) FROM read_parquet($glob) GROUP BY ALL"
    assert dict(duck(query, glob=f"{demo.collection}/{table}/**")) == counts(demo, table)


@pytest.mark.parametrize("table", TABLES)
def test_polars_counts_the_rows_of_each_run_with_a_plain_glob(demo, table):
    rows = pl.scan_parquet(f"{demo.collection}/{table}/**/*.parquet").group_by("prompt_run_id").len().collect()
    assert dict(rows.iter_rows()) == counts(demo, table)


def second_brands(demo):
    """(run, segment) -> the second brand's name, None where there is no second one; misfit brands are texts too."""
    found = {}
    for (run_id, table), documents in everything(demo).items():
        for document in documents if table == "segments" else ():
            if document["prompt_id"] == "prm_brand_safety":
                brands = document["metadata"]["brands"]
                found[run_id, document["segment_id"]] = brands[1]["name"] if len(brands) > 1 else None
    assert sum(name is not None for name in found.values()) > 50
    return found


def test_a_nested_value_can_be_asked_for_in_duckdb(demo):
    query = """
        SELECT prompt_run_id, segment_id, metadata.brands[2].name
        FROM read_parquet($glob) WHERE prompt_id = 'prm_brand_safety'
    """
    rows = duck(query, glob=f"{demo.collection}/segments/**")
    assert {(run, segment): name for run, segment, name in rows} == second_brands(demo)
    first = duck(
        "SELECT count(*) FROM read_parquet($glob) WHERE metadata.brands[1].name = 'Velo Athletic'",
        glob=f"{demo.collection}/segments/prompt_id=prm_brand_safety/**",
    )
    assert first[0][0] > 0, "DuckDB counts list items from 1"


def test_a_nested_value_can_be_asked_for_in_polars(demo):
    brands = pl.col("metadata").struct.field("brands")
    rows = (
        pl.scan_parquet(f"{demo.collection}/segments/prompt_id=prm_brand_safety/**/*.parquet")
        .select("prompt_run_id", "segment_id", brands.list.get(1, null_on_oob=True).struct.field("name"))
        .collect()
    )
    assert {(run, segment): name for run, segment, name in rows.iter_rows()} == second_brands(demo)


def test_the_folders_say_the_same_as_the_columns(demo):
    query = """
        SELECT count(*) FILTER (
            regexp_extract(filename, 'prompt_id=([^/]+)', 1) = prompt_id
            AND regexp_extract(filename, 'prompt_run_id=([^/]+)', 1) = prompt_run_id
        ), count(*) FROM read_parquet($glob, hive_partitioning = $hive, filename = true)
    """
    for table in TABLES:
        rows = sum(counts(demo, table).values())
        for hive in (True, False):
            assert duck(query, glob=f"{demo.collection}/{table}/**", hive=hive) == [(rows, rows)]
    folder = f"{demo.collection}/segments/prompt_id=prm_scene_log"
    frames = [pl.scan_parquet(folder, hive_partitioning=hive).collect() for hive in (True, False)]
    assert frames[0].select(sorted(frames[0].columns)).equals(frames[1].select(sorted(frames[1].columns)))


# --- rescued ----------------------------------------------------------------------------------------------


def types_of(schema):
    if "anyOf" in schema:
        return {name for part in schema["anyOf"] for name in types_of(part)}
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])


def misfits(schema, value, place=""):
    """Pointer -> value of what does not fit or is not declared; for the plain schemas of the demo only."""
    kinds = {type(None): "null", bool: "boolean", str: "string", int: "integer", Decimal: "number"}
    kind = kinds.get(type(value), {dict: "object", list: "array"}.get(type(value)))
    allowed = types_of(schema)
    too_large = kind == "integer" and not -(2**63) <= value < 2**63
    if too_large or not (kind in allowed or (kind == "integer" and "number" in allowed)):
        return {place: value}
    found = {}
    if kind == "object":
        for name, item in value.items():
            if name in schema["properties"]:
                found |= misfits(schema["properties"][name], item, f"{place}/{name}")
            else:
                found[f"{place}/{name}"] = item
    if kind == "array":
        for position, item in enumerate(value):
            found |= misfits(schema["items"], item, f"{place}/{position}")
    return found


def schema_of(folder, table):
    prompt = parsed((folder / "prompt.json").read_bytes())
    return (prompt if table == "segments" else prompt["video_level"])["json_schema"]


def test_rescued_holds_exactly_what_does_not_fit(demo):
    expected = {}
    for (run_id, table), documents in everything(demo).items():
        for document in documents if table != "failures" else ():
            found = misfits(schema_of(finished(demo)[run_id], table), document["metadata"], "/metadata")
            if found:
                expected[run_id, document["video_id"], document.get("segment_id")] = exact(found)
    assert len(expected) == 13
    assert Counter(len(found) for found in expected.values()) == {1: 13}
    rescued = {}
    for table, segment_id in (("segments", "segment_id"), ("videos", "NULL"), ("failures", "segment_id")):
        query = f"SELECT prompt_run_id, video_id, {segment_id}, rescued FROM read_parquet($glob) WHERE rescued NOT NULL"
        for *key, text in duck(query, glob=f"{demo.collection}/{table}/**"):
            rescued[tuple(key)] = exact(parsed(text))
    assert rescued == expected


def test_rescued_is_the_same_text_in_both_formats_that_have_it(demo):
    texts = {}
    for way in ("automation", "csv", "download"):
        folder = demo.delivered[way]
        texts[way] = [
            (file["prompt_run_id"], file["table"], text)
            for file, table in committed_tables(folder)
            for batch in read_rows(folder / file["path"], table, WAYS[way])
            for text in batch["rescued"].to_pylist()
        ]
    assert any(text for *_, text in texts["automation"])
    assert all(found == texts["automation"] for found in texts.values())


# --- what must not get out --------------------------------------------------------------------------------


def readable_text(path):
    """What a reader of the file gets to see: compressed bytes would hide anything."""
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        return repr(file.read().to_pylist()) + str(file.schema_arrow) + repr(file.metadata.metadata)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            return repr(zipped.namelist())
    return content(path).decode()


def secrets_in_the_archive(demo):
    text = "".join(content(path).decode() for path in demo.archive.rglob("*") if path.is_file())
    assert "Check the rights before use" in text
    tokens, marks = set(re.findall(r"token=(\w+)", text)), set(re.findall(r"mrk_\w+", text))
    assert len(tokens) > 1000
    assert len(marks) > 10
    return tokens | marks


def leaks(text, secrets):
    """Whatever of it must not get out, under whatever name."""
    found = secrets.intersection(re.findall(r"\w+", text))
    return found | {phrase for phrase in ("token=", "Check the rights before use") if phrase in text}


def test_no_link_with_a_token_and_no_mark_gets_into_files_snapshots_logs_or_dagster(demo):
    secrets = secrets_in_the_archive(demo)
    kept = [demo.root / "deliveries", demo.root / "download", demo.root / ".vv_exports/storage"]
    files = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert {"".join(path.suffixes[-1:]) for path in files} >= {".parquet", ".zst", ".csv", ".json", ".zip"}
    for path in files:
        assert not leaks(readable_text(path) + str(path), secrets), path
    instance = demo.client.instance
    events = [entry.to_json() for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert len(events) > 50
    assert any("preview" in event for event in events)
    for event in [*events, *map(repr, instance.get_runs())]:
        assert not leaks(event, secrets), event


def test_no_column_and_no_snapshot_has_a_field_for_marks_or_links_with_tokens(demo):
    for path in (demo.root / ".vv_exports/storage").rglob("*.parquet"):
        assert not VOLATILE & set(pq.read_schema(path).names)
    for path in (demo.root / ".vv_exports/storage/snapshots").rglob("revisions/*.json"):
        assert not VOLATILE & set(parsed(path.read_bytes())["run"])


# --- the same again ---------------------------------------------------------------------------------------


def data_files(demo):
    return {
        (way, path.relative_to(folder).as_posix()): path.read_bytes()
        for way, folder in demo.delivered.items()
        for path in folder.rglob("*")
        if path.is_file() and "_vv" not in path.parts
    }


@pytest.mark.slow
def test_another_deployment_delivers_the_same_bytes_under_the_same_names(demo, tmp_path):
    other = data_files(deliver_demo(tmp_path))
    assert other == data_files(demo)
    data = [path for _, path in other if path != "SHA256SUMS"]
    assert (len(data), len(other) - len(data)) == (11 * len(WAYS), len(WAYS) - 1), "each export has its checksums"


def test_delivering_again_writes_nothing(demo):
    before = {path: path.stat().st_mtime_ns for path in (demo.root / "deliveries").rglob("*")}
    outcome = demo.client.automations.run(INDEX, "review-team")
    assert (outcome.delivered, outcome.files) == ((), 0)
    assert {path: path.stat().st_mtime_ns for path in (demo.root / "deliveries").rglob("*")} == before
