"""A dry run writes nothing, nowhere, and what it says is what the delivery then is."""

import copy
import json
from dataclasses import dataclass

import dagster as dg
import pytest

from vv_exports.config import content_options
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import launch
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.exports import ExportRequest
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run, tree, write_deployment
from vv_exports_tests.deployments import CONFIG, client_of, with_parts
from vv_exports_tests.fakes.faulty_connector import CALLS, FaultyConnector
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore

WRITING = {"put", "create", "delete", "sweep", "discard", "try_taken_name", "decides_among_writers"}
"""The calls of a connector that write, and the one that may."""
OLD = {"title": {"type": "string"}}
NEW = {**OLD, "mood": {"type": "string"}}
ODD = {"title": {"type": "integer"}}
FORMATS = {
    "parquet": {},
    "csv": {"format": {"name": "csv", "delimiter": ";"}},
    "jsonl": {"format": "jsonl", "tables": ["segments", "failures"]},
    "parquet with a size at which files end": {"target_file_bytes": 1048576, "compression": "snappy"},
    "redacted": {"redact": {"video_name": "mask"}, "fields": {"exclude": ["metadata.title"]}},
}


def add(folder, number, properties=OLD, prompt_id="prm", **more):
    metadata = {name: (5 if kind["type"] == "integer" else name) for name, kind in properties.items()}
    write_run(
        folder / "archive",
        run_id=f"run_{number}",
        prompt_id=prompt_id,
        schema={"type": "object", "properties": properties},
        executed_at=f"2026-10-{number + 1:02}T00:00:00Z",
        segments=[segment(n, metadata=metadata) for n in range(number + 1)],
        total_segments=number + 1 + len(more.get("failures", ())),
        **more,
    )


def client_with(folder, **automation):
    config = copy.deepcopy(CONFIG)
    team = {**CONFIG["indexes"]["idx"]["automations"]["team"], "max_runs_per_delivery": 2, **automation}
    config["indexes"]["idx"]["automations"] = {"team": team}
    return client_of(folder, config)


@pytest.fixture
def folder(tmp_path):
    """An archive whose prompts change on the way: with a second delivery come columns that the first has not."""
    add(tmp_path, 0)
    add(tmp_path, 1)
    add(
        tmp_path,
        2,
        status="completed_with_failures",
        failures=[{"segment_id": "s", "video_id": "v", "error": {"message": "no"}}],
    )
    add(tmp_path, 3, NEW, video_level_schema={"type": "object"}, videos=[{"video_id": "vid_1", "metadata": {}}])
    add(tmp_path, 4, ODD)
    add(tmp_path, 5, prompt_id="other")
    return tmp_path


@dataclass
class Recorded:
    """A client of which every storage, and Dagster's, is watched."""

    client: object
    storages: dict

    @property
    def written(self):
        return {name: [call for call in one.log if call in WRITING] for name, one in self.storages.items()}

    @property
    def dagster(self):
        instance = self.client.instance
        return (
            instance.get_runs_count(),
            {
                key: records
                for key in instance.all_asset_keys()
                if (records := instance.fetch_materializations(key, limit=100).records)
            },
            instance.get_dynamic_partitions("prompt_runs__idx"),
        )


def recorded(client, store=None):
    pipeline, only = client.pipeline, CALLS | WRITING
    storages = {"storage": FaultyConnector(pipeline.storage, {}, only=only)}
    connectors = dict(pipeline.connectors.items())
    connectors["conn_export"] = FaultyConnector(store or connectors["conn_export"], {}, only=only)
    storages["conn_export"] = connectors["conn_export"]
    with_parts(pipeline, storage=storages["storage"], connectors=connectors)
    return Recorded(client, storages)


def to_connector(**content):
    return ExportRequest("index", "idx", None, "conn_export", "exports/asked", ContentOptions(**content))


DOWNLOAD = ExportRequest("prompt_run", "idx", ("run_2",), None, None, ContentOptions(format=FormatOptions("csv")))
DRY_RUNS = {
    "run": lambda client: client.automations.plan_run("idx", "team"),
    "run with history": lambda client: client.automations.plan_run("idx", "team", history=True),
    "backfill": lambda client: client.automations.plan_backfill("idx", "team", only="missing"),
    "pause": lambda client: client.automations.plan_switch("idx", "team", pause=True),
    "resume": lambda client: client.automations.plan_switch("idx", "team", pause=False),
    "sync": lambda client: client.prompt_runs.plan_sync("idx"),
    "prune": lambda client: client.prompt_runs.prune("idx", dry_run=True),
    "export": lambda client: client.exports.plan(to_connector()),
    "export with a key": lambda client: client.exports.plan(to_connector(), idempotency_key="k"),
    "download": lambda client: client.exports.plan(DOWNLOAD),
    "vacuum of exports": lambda client: client.exports.vacuum(dry_run=True),
}


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("of", ["a folder", "a store that may not decide among writers"])
def test_no_dry_run_writes_anywhere(folder, of, is_read):
    client = client_with(folder)
    if is_read:
        client.prompt_runs.sync("idx")
    store = None
    if of != "a folder":
        store = MemoryStore(Memory(), endpoint_url="http://127.0.0.1:9")
        store.connector_id, store.scopes = "conn_export", frozenset({"export"})
    watched = recorded(client, store)
    before = tree(folder), watched.dagster
    for name, dry_run in DRY_RUNS.items():
        dry_run(client)
        assert watched.written == {"storage": [], "conn_export": []}, name
        assert (tree(folder), watched.dagster) == before, name


def test_nor_where_something_was_delivered_and_is_damaged_outgrown_and_left_over(folder):
    client = client_with(folder)
    client.automations.run("idx", "team", run_ids=["run_0", "run_1"])
    files = sorted((folder / "deliveries").rglob("*.parquet"))
    files[0].unlink()
    (files[1].parent / "readme.txt").write_text("somebody's")
    (folder / "deliveries/exports/team/_vv/owner.json").unlink()
    client.prompt_runs.sync("idx")
    watched = recorded(client)
    before = tree(folder), watched.dagster
    for name, dry_run in DRY_RUNS.items():
        found = dry_run(client)
        assert watched.written == {"storage": [], "conn_export": []}, name
        assert (tree(folder), watched.dagster) == before, name
        if name == "run":
            assert {one.why for one in found.prompt_runs} == {"missing", "damaged"}
            assert [one.kind for one in found.conflicts] == ["foreign_files"]
            assert "readme.txt is not the pipeline's" in found.conflicts[0].message


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_what_a_dry_run_counts_is_what_is_delivered(folder, content):
    client = client_with(folder, **content)
    client.prompt_runs.sync("idx")
    plan = client.automations.plan_run("idx", "team")
    outcome = client.automations.run("idx", "team")
    entries = entries_since(client.pipeline.automations.get("idx", "team").destination, 0)
    assert plan.is_exact
    assert [one.run_id for one in plan.prompt_runs] == [f"run_{number}" for number in range(6)]
    assert set(outcome.delivered) == {one.run_id for one in plan.prompt_runs}
    assert (plan.rows + plan.reshape.rows, plan.files + plan.reshape.files) == (outcome.rows, outcome.files)
    if content.get("format") is None:
        assert plan.reshape.prompt_runs == ("run_0", "run_1"), "the others were in one delivery with what is new"
    if plan.bytes_exact and plan.reshape.bytes_exact:
        assert plan.bytes + plan.reshape.bytes == outcome.bytes
    columns = {(one.prompt_id, one.folder): one.columns and list(one.columns) for e in entries for one in e.tables}
    assert {(one.prompt_id, one.folder): one.columns for one in plan.tables} == columns
    by_run: dict[str, list] = {}
    for entry in entries:
        for file in entry.files:
            by_run.setdefault(file.prompt_run_id, []).append(file)
    for one in plan.prompt_runs:
        first = by_run[one.run_id][: one.files]
        assert sum(file.rows for file in first) == one.rows
        if one.bytes_exact:
            assert sum(file.bytes for file in first) == one.bytes
    after = client.automations.plan_run("idx", "team")
    assert (after.prompt_runs, len(after.already_delivered), after.files) == ([], 6, 0)


def test_bytes_are_exact_of_what_is_delivered_as_it_was_read(folder):
    client = client_with(folder)
    client.prompt_runs.sync("idx")
    plan = client.automations.plan_run("idx", "team", run_ids=["run_0", "run_1", "run_5"])
    assert (plan.bytes_exact, plan.bytes > 0) == (True, True)
    assert plan.bytes == client.automations.run("idx", "team", run_ids=["run_0", "run_1", "run_5"]).bytes


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_what_a_dry_run_of_an_export_counts_is_what_it_holds(folder, content):
    client = client_with(folder)
    client.prompt_runs.sync("idx")
    for connector, subpath in ((None, None), ("conn_export", "exports/asked")):
        request = ExportRequest("index", "idx", None, connector, subpath, content_options(content))
        plan, made = client.exports.plan(request), client.exports.create(request)
        assert (plan.rows, plan.files, plan.is_exact) == (made.rows, made.files, True)
        if plan.bytes_exact:
            assert plan.bytes == made.bytes
        assert plan.bytes_exact <= (connector is not None), "the size of a zip file is not known before"
    (entry,) = entries_since(
        Destination(client.pipeline.connectors["conn_export"], f"exports/asked/{made.export_id}"), 0
    )
    columns = {(one.prompt_id, one.folder): one.columns and list(one.columns) for one in entry.tables}
    assert {(one.prompt_id, one.folder): one.columns for one in plan.tables} == columns


def test_what_was_not_read_yet_is_an_estimate_and_says_what_reading_takes(folder):
    client = client_with(folder)
    plan = client.automations.plan_run("idx", "team")
    assert (plan.is_exact, plan.bytes_exact, plan.source.files) == (False, False, 14)
    run_2 = plan.prompt_runs[2]
    assert (run_2.is_read, run_2.rows, run_2.files, run_2.bytes) == (False, 4, None, None)
    assert plan.headline.startswith("would deliver 6 prompt runs (about ")
    client.prompt_runs.sync("idx")
    assert client.automations.plan_run("idx", "team").source.files == 0
    add(folder, 6)
    mixed = client.automations.plan_run("idx", "team")
    assert [one.run_id for one in mixed.unread] == ["run_6"]
    assert mixed.files > 0


def test_what_is_in_the_way_is_named_with_what_it_stops(folder):
    client = client_with(folder, on_schema_conflict="hold", paused=True)
    client.prompt_runs.sync("idx")
    waits, paused = (
        next(one for one in client.automations.plan_run("idx", "team").conflicts if one.kind == kind)
        for kind in ("schema", "paused")
    )
    assert (waits.run_id, waits.stops, "other types" in waits.message) == ("run_4", "prompt_run", True)
    assert (paused.stops, "paused by the configuration" in paused.message) == ("nothing", True)
    disabled = client_with(folder, enabled=False).automations.plan_run("idx", "team")
    assert (disabled.conflicts[0].kind, disabled.is_stopped, disabled.files) == ("disabled", True, 8)
    place = folder / "deliveries/exports/team/deeper/_vv"
    place.mkdir(parents=True)
    (place / "owner.json").write_text(json.dumps({"type": "export", "index_id": "idx", "export_id": "exp_1"}))
    foreign = client_with(folder).automations.plan_run("idx", "team")
    assert [(one.kind, one.stops) for one in foreign.conflicts] == [("destination", "everything")]
    assert "belongs to export 'exp_1'" in foreign.conflicts[0].message
    assert (foreign.is_stopped, foreign.prompt_runs[0].files, foreign.prompt_runs[0].rows) == (True, None, 1)


def test_the_key_of_an_export_that_is_there_makes_nothing(folder):
    client = client_with(folder)
    made = client.exports.create(to_connector(), idempotency_key="k")
    plan = client.exports.plan(to_connector(), idempotency_key="k")
    assert (plan.earlier, plan.prompt_runs, len(plan.already_delivered)) == (made.export_id, [], 6)
    assert client.exports.plan(to_connector(), idempotency_key="other").earlier is None


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize(
    "asset", ["index_export", "prompt_run_export", "exports/team", "reconciliations/team__reconciliation"]
)
def test_a_dry_run_from_the_launchpad_materializes_nothing_and_tells_its_plan(folder, asset, is_read):
    client = client_with(folder)
    client.automations.run("idx", "team", run_ids=["run_0"])
    if is_read:
        client.prompt_runs.sync("idx")
    path = asset.split("/")
    op = {
        "index_export": client.names.op("idx", "index_export"),
        "prompt_run_export": client.names.op("idx", "prompt_run_export"),
        "exports/team": client.names.collection_op("idx", "team"),
        "reconciliations/team__reconciliation": client.names.reconciliation("idx", "team"),
    }[asset]
    watched = recorded(client)
    before = tree(folder), watched.dagster
    partitioned = asset in {"prompt_run_export", "exports/team"}
    made = launch(
        client.instance,
        client.definitions,
        [asset_key("idx", *path)],
        partitions=("run_0", "run_0") if partitioned else None,
        config={op: {"dry_run": True}},
    )
    assert made.status == dg.DagsterRunStatus.SUCCESS
    assert watched.written == {"storage": [], "conn_export": []}
    assert tree(folder) == before[0]
    assert watched.dagster[1:] == before[1][1:]
    assert client.exports.list() == []
    tags = client.instance.get_run_by_id(made.run_id).tags
    assert (tags["vv_exports/dry_run"], tags["vv_exports/plan"].startswith("would ")) == ("true", True)
    assert "vv_exports/export_id" not in tags
    said = [entry.user_message for entry in client.instance.all_logs(made.run_id)]
    assert any(tags["vv_exports/plan"].partition("; would")[0] in one for one in said)
    assert any(one.startswith("The whole plan:") and '"dry_run": true' in one for one in said)


def test_the_command_line_tells_a_plan_to_people_and_to_programs(tmp_path):
    folder = write_deployment(tmp_path)
    before = tree(folder)
    said = run(folder, "automations", "run", "idx", "team", "--dry-run")
    assert (said.code, said.out.startswith("would deliver 2 prompt runs (")) == (0, True)
    assert "2 prompt runs would be read first (about" in said.out
    document = run(folder, "automations", "run", "idx", "team", "--dry-run", "--json").document
    assert {"rows", "files", "bytes", "tables", "conflicts", "source", "reshape", "already_delivered"} <= set(document)
    assert run(folder, "automations", "run", "idx", "off", "--dry-run").code == 1, (
        "it is disabled, as the run would say"
    )
    sync = run(folder, "runs", "sync", "idx", "--dry-run")
    assert "2 snapshots would be taken (about" in sync.out
    assert (
        "idx/team would be paused; it is not paused now"
        in run(folder, "automations", "pause", "idx", "team", "--dry-run").out
    )
    assert run(folder, "automations", "resume", "idx", "held", "--dry-run").code == 2, "the configuration pauses it"
    assert tree(folder) == before
    made = run(folder, "export", "index", "idx", "--json").document
    before = tree(folder)
    told = run(folder, "exports", "download", made["export_id"], "--to", "new/", "--dry-run")
    assert (told.code, told.out.startswith("would write new/")) == (0, True)
    assert "would be deleted" in run(folder, "exports", "delete", made["export_id"], "--dry-run").out
    assert tree(folder) == before
