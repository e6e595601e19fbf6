"""What must be forgotten: a byte search over everything that the pipeline has written finds it nowhere."""

import base64
import contextlib
import copy
import gzip
import html
import io
import json
import shutil
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from vv_exports.automations.records import Beginning
from vv_exports.client import VVExports
from vv_exports.defs.keys import asset_key
from vv_exports.demo import write_demo
from vv_exports.domain.failures import problem_of
from vv_exports.erasure import Cleaned, erase, undo
from vv_exports.errors import DeliveryConflictError, NotFoundError, RequestError, SelectionError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, reconciled, with_parts, written_files
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes_after, delayed, fails

INDEX = "idx_archive"
VIDEO = "vid_cooking_ep14"
REASON = "the person in it asked for it"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    write_demo(tmp_path)
    config = yaml.safe_load((tmp_path / "vv_exports.yaml").read_text())
    automations = config["indexes"][INDEX]["automations"]
    automations["review-team"]["retain_superseded"] = "24h"
    automations["newsroom"]["paused"] = False
    (tmp_path / "vv_exports.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def opened(root):
    return VVExports(root / "vv_exports.yaml")


def archived(root, video_id):
    """Texts of a medium in the archive: ids and names, and what was answered of it alone."""
    mine, others = set(), set()
    for path in (root / ".vv_exports/archive").rglob("*"):
        if "_results" in path.name:
            for line in plain(path.name, path.read_bytes())[0].splitlines():
                row = json.loads(line)
                (mine if row["video_id"] == video_id else others).update(texts(row))
    return {text.encode() for text in mine - others if len(text) > 8}


def texts(value):
    if isinstance(value, dict):
        return set().union(*map(texts, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(texts, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def plain(name, data):
    """What is in a file, unpacked."""
    if name.endswith(".gz"):
        return [gzip.decompress(data)]
    if name.endswith(".zst"):
        return [pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()]
    if name.endswith(".parquet"):
        return [data, json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str, ensure_ascii=False).encode()]
    if name.endswith(".zip"):
        zipped = zipfile.ZipFile(io.BytesIO(data))
        return [one for inner in zipped.namelist() for one in plain(inner, zipped.read(inner))]
    return [data]


def found_in(root, markers):
    """The files that hold any of these texts, but for the archive, which is the source."""
    forms = {form for marker in markers for form in (marker, json.dumps(marker.decode())[1:-1].encode())}
    return {
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".vv_exports/archive" not in str(path)
        if any(form in content for content in plain(path.name, path.read_bytes()) for form in forms)
    }


def deliver_everything(root):
    client = opened(root)
    client.automations.run(INDEX, "review-team")
    client.automations.run(INDEX, "newsroom")
    client.exports.create_index_export(index_id=INDEX)
    client.exports.create_index_export(
        index_id=INDEX, destination_connector_id="conn_export", destination_subpath="folders", format="json"
    )
    client.close()
    return client


def pictures_of_media(root):
    """What Dagster shows of how segments cover media. A byte search does not find the names that are in them."""
    client = opened(root)
    records = client.instance.fetch_materializations(asset_key(INDEX, "prompt_runs"), limit=100).records
    shown = [record.asset_materialization.metadata["coverage"].value for record in records]
    client.close()
    return [base64.b64decode(one.partition("base64,")[2].rstrip(")")).decode() for one in shown]


def rows_of(root, collection):
    return [
        row
        for path in (root / "deliveries/exports" / collection / "segments").rglob("*.parquet")
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]


@pytest.mark.slow
def test_after_an_erasure_a_byte_search_finds_the_medium_nowhere(root):
    deliver_everything(root)
    markers = archived(root, VIDEO)
    assert len(markers) > 20
    everywhere = found_in(root, markers)
    assert {path.split("/")[0] for path in everywhere} == {"deliveries", ".vv_exports", ".dagster"}
    assert any(path.endswith(".zip") for path in everywhere)
    others = [row for row in rows_of(root, "review-team") if row["video_id"] != VIDEO]
    (name,) = {row["video_name"] for row in rows_of(root, "review-team") if row["video_id"] == VIDEO}
    assert any(name[:20] in html.unescape(one) for one in pictures_of_media(root))

    client = opened(root)
    planned = client.erasure.erase(video_id=VIDEO, reason=REASON, dry_run=True)
    assert found_in(root, markers) == everywhere
    done = client.erasure.erase(video_id=VIDEO, reason=REASON)
    assert done.unreached == planned.unreached == ()
    assert {one.what for one in planned.places} == {"collection", "export", "download", "history", "snapshots"}
    assert found_in(root, markers) == set()
    assert not any(name[:20] in html.unescape(one) for one in pictures_of_media(root))
    assert rows_of(root, "review-team") == others
    (entry, *_) = sorted((root / "deliveries/exports/review-team/_vv/log").glob("*.json"))[-1:]
    assert json.loads(entry.read_text())["erasure"]["reason"] == REASON

    again = client.erasure.erase(video_id=VIDEO, reason=REASON)
    assert [one for one in again.places if one.what != "history"] == []
    client.automations.run(INDEX, "review-team")
    deliver_everything(root)
    assert found_in(root, markers) == set()
    assert all(not one.problems for one in client.verify("conn_export"))


@pytest.mark.slow
def test_an_erased_run_leaves_everything_and_comes_back_when_its_erasure_is_undone(root):
    deliver_everything(root)
    said = [(row["prompt_run_id"], row["metadata_text"]) for row in rows_of(root, "review-team")]
    others = "\n".join(text for run_id, text in said if run_id != "run_132")
    markers = {text.encode() for run_id, text in said if run_id == "run_132" and text not in others}
    assert found_in(root, markers)
    client = opened(root)
    done = client.erasure.erase(run_id="run_132", reason=REASON, index_ids=[INDEX])
    assert done.unreached == ()
    assert found_in(root, markers) == set()
    assert not list((root / "deliveries").rglob("prompt_run_id=run_132/part-*"))
    assert client.instance.get_dynamic_partitions(f"prompt_runs__{INDEX}").count("run_132") == 0
    client.prompt_runs.sync(INDEX)
    client.automations.run(INDEX, "review-team")
    assert found_in(root, markers) == set()
    with pytest.raises(SelectionError, match="run_132"):
        client.pipeline.indexes.finished(INDEX, ["run_132"])
    assert [one.kind for one in client.erasure.list()] == ["run"]

    client.erasure.undo(run_id="run_132")
    client.prompt_runs.sync(INDEX)
    client.automations.run(INDEX, "review-team")
    assert {row["prompt_run_id"] for row in rows_of(root, "review-team")} >= {"run_132"}
    with pytest.raises(NotFoundError, match="erase --list"):
        client.erasure.undo(run_id="run_132")


# --- without Dagster --------------------------------------------------------------------------------------


def nothing(request, dry_run):
    return Cleaned()


@pytest.fixture
def small(tmp_path):
    """A collection of two runs over two media, and an archive that has them."""
    for number, run_id in enumerate(("run_1", "run_2")):
        rows = [segment(n, video=f"vid_{n % 2}", metadata_text=f"says vid {n % 2}") for n in range(4 + number)]
        write_run(tmp_path / "archive", run_id=run_id, segments=rows)
    client = client_of(tmp_path)
    client.pipeline.automations.begin("idx", client.pipeline.indexes.listing("idx"), client.pipeline.now())
    reconciled(client)
    return client


def media(root):
    return {
        (row["prompt_run_id"], row["video_id"])
        for path in (root / "deliveries/exports/team/segments").rglob("*.parquet")
        for row in pq.read_table(path, partitioning=None).to_pylist()
    }


def erased(client, kind="video", id_="vid_1", **how):
    return erase(client.pipeline, kind, id_, reason=REASON, history=nothing, **how)


def test_a_dry_run_of_an_erasure_writes_nothing_and_names_each_file(small, tmp_path):
    pipeline = small.pipeline
    recorders = {key: FaultyConnector(connector, {}) for key, connector in pipeline.connectors.items()}
    storage = FaultyConnector(pipeline.storage, {})
    with_parts(pipeline, connectors=recorders, storage=storage)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    planned = erased(small, dry_run=True)
    writing = {"put", "create", "delete", "discard", "sweep"}
    assert {call for one in (storage, *recorders.values()) for call in one.log} & writing == set()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (collection, *_) = planned.places
    assert {path.split("prompt_run_id=")[1][:5] for path in collection.rewritten} == {"run_1", "run_2"}
    assert len(erased(small).places) == len(planned.places)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "id_"), [("video", "vid_1"), ("run", "run_1")])
def test_an_erasure_that_is_killed_at_any_call_is_completed_by_the_same_again(small, tmp_path, kind, id_):
    wanted = {("run_1", "vid_0"), ("run_2", "vid_0")} if kind == "video" else {("run_2", "vid_0"), ("run_2", "vid_1")}
    calls = 0
    for step in range(0, 200, 3):
        folder = tmp_path / f"copy-{step}"
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("copy-*"))
        client = client_of(folder)
        dying = {step: crashes_after}
        storage = FaultyConnector(client.pipeline.storage, dying)
        with_parts(client.pipeline, storage=storage)
        with contextlib.suppress(Crash):
            erased(client, kind, id_)
            calls = storage.calls
        again = client_of(folder)
        assert erased(again, kind, id_).unreached == ()
        reconciled(again)
        assert media(folder) == wanted
        kept = again.pipeline.snapshots.store
        assert all(
            (kind, id_) != ("run", run_id) and not kept.holds_erased(snapshot, kept.tombstones.excluded("idx"))
            for one in kept.kept_of_index("idx")
            for run_id in [one.run_id]
            for snapshot in one.revisions
        )
        shutil.rmtree(folder)
        if calls:
            break
    assert calls


def test_what_a_delivery_holds_of_an_erased_medium_does_not_come_back_with_it(small, tmp_path):
    automation = small.pipeline.automations.get("idx", "team")
    old = [small.pipeline.snapshots.store.current("idx", run_id) for run_id in ("run_1", "run_2")]
    request = automation.delivery_of(old, None)
    erased(small)
    with pytest.raises(DeliveryConflictError):
        small.pipeline.deliveries.deliver(request)
    assert media(tmp_path) == {("run_1", "vid_0"), ("run_2", "vid_0")}


@pytest.mark.parametrize(("kind", "id_"), [("video", "vid_1"), ("run", "run_3")])
def test_a_delivery_that_commits_after_the_erasure_has_looked_takes_back_what_it_brought(small, tmp_path, kind, id_):
    write_run(tmp_path / "archive", run_id="run_3", segments=[segment(n, video="vid_1") for n in range(3)])
    pipeline = small.pipeline
    (batch,) = [pipeline.snapshots.of_ids("idx", ["run_3"])]
    other = client_of(tmp_path)
    automation = pipeline.automations.get("idx", "team")
    request = automation.delivery_of(batch.snapshots, None)
    late = FaultyConnector(
        request.destination.connector, {0: delayed(lambda: erased(other, kind, id_))}, only=frozenset({"put"})
    )
    request = replace(request, destination=replace(request.destination, connector=late))
    with pytest.raises((SelectionError, DeliveryConflictError), match="erased"):
        pipeline.deliveries.deliver(request)
    gone = {"vid_1"} if kind == "video" else set()
    assert {one for one in media(tmp_path) if one[0] == "run_3" or one[1] in gone} == set()


def test_a_new_run_over_an_erased_medium_is_read_without_it_and_says_how_much_is_missing(small, tmp_path):
    erased(small)
    rows = [segment(n, video=f"vid_{n % 2}") for n in range(6)]
    write_run(tmp_path / "archive", run_id="run_3", segments=rows, total_segments=6)
    reconciled(small)
    assert ("run_3", "vid_0") in media(tmp_path)
    assert ("run_3", "vid_1") not in media(tmp_path)
    counts = small.pipeline.automations.get("idx", "team").collection().runs["run_3"].run.counts
    assert (counts.expected, counts.delivered, counts.failed, counts.erased) == (6, 3, 0, 3)


def test_an_erasure_of_rows_gives_the_content_that_a_reading_without_them_gives(small, tmp_path):
    erased(small)
    store, source = small.pipeline.snapshots.store, small.pipeline.source
    kept = store.current("idx", "run_2")
    store.look_again("idx", "run_2")
    read = store.take(source, source.prompt_run("idx", "run_2"), small.pipeline.now())
    assert read == kept
    before = written_files(tmp_path)
    assert reconciled(small).delivered == ()
    assert written_files(tmp_path) == before


def test_a_medium_comes_back_when_its_erasure_is_undone(small, tmp_path):
    before = media(tmp_path)
    erased(small)
    assert undo(small.pipeline, "video", "vid_1") == ("run_1", "run_2")
    reconciled(small)
    assert media(tmp_path) == before


def test_an_erasure_in_one_index_leaves_the_others_alone(small, tmp_path):
    with pytest.raises(NotFoundError, match="nowhere"):
        erased(small, index_ids=["nowhere"])
    with pytest.raises(RequestError, match="--reason"):
        erase(small.pipeline, "run", "run_1", reason=" ", history=nothing)
    assert small.pipeline.snapshots.store.tombstones.all() == ()


def test_what_is_out_of_reach_is_named_and_tried_again(small, tmp_path):
    pipeline = small.pipeline
    good = pipeline.connectors["conn_export"]
    away = FaultyConnector(good, dict.fromkeys(range(1000), fails))
    with_parts(pipeline, connectors={**pipeline.connectors, "conn_export": away})
    done = erased(small)
    assert any("exports/team" in one and "busy" in one for one in done.unreached)
    with_parts(pipeline, connectors={**pipeline.connectors, "conn_export": good})
    assert erased(small).unreached == ()
    assert media(tmp_path) == {("run_1", "vid_0"), ("run_2", "vid_0")}
    assert pipeline.snapshots.store.tombstones.all()[0].completed_at is not None


def begin_and_die(folder):
    """A delivery to a place of its own that uploads and never commits, and a reading that stages and never ends."""
    client = client_of(folder)
    pipeline = client.pipeline
    write_run(folder / "archive", run_id="run_9", segments=[segment(n, video="vid_1") for n in range(3)])
    staged = folder / "storage/snapshots/idx/run_9/staging" / ("0" * 16) / f"{'0' * 32}.answers.zst"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"of vid_1")
    held = pipeline.automations.get("idx", "held")
    held.record.begin(Beginning(began_at=pipeline.now(), start="beginning", history=frozenset()))
    request = held.delivery_of([pipeline.snapshots.store.current("idx", "run_1")], None)
    dying = FaultyConnector(request.destination.connector, {0: crashes_after}, only=frozenset({"put"}))
    request = replace(request, destination=replace(request.destination, connector=dying))
    with pytest.raises(Crash):
        pipeline.deliveries.deliver(request)
    assert not (folder / "deliveries/exports/held/_vv/log").exists()
    return staged


def test_what_died_before_it_was_finished_goes_as_well(small, tmp_path):
    staged = begin_and_die(tmp_path)
    left = list((tmp_path / "deliveries/exports/held").rglob("part-*"))
    assert left
    temporary = tmp_path / "storage/.vv_exports_tmp" / ("0" * 32)
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_bytes(b"of vid_1")
    planned = erased(small, dry_run=True)
    assert staged.exists()
    assert erased(small).unreached == ()
    assert not any(path.exists() for path in (staged, temporary, *left))
    assert any(staged.name in path for one in planned.places for path in one.removed)


def test_what_is_remembered_of_failures_does_not_name_an_erased_medium(small, tmp_path):
    pipeline = small.pipeline
    error = RequestError("segment 3 of vid_1: no such place")
    pipeline.snapshots.catalogs.record("idx", (), {"run_1": problem_of(error, None, pipeline.now())})
    record = pipeline.automations.get("idx", "team").record
    record.failed(error, 1, pipeline.now())
    record.succeeded([], {"run_2": error}, pipeline.now())
    record.pause("someone", "vid_1 is wrong", pipeline.now())
    assert found_in(tmp_path / "storage", [b"vid_1"])
    assert erased(small).unreached == ()
    assert found_in(tmp_path / "storage", [b"vid_1"]) == set()
    assert "[erased]" in record.state().pause.reason


def test_indexes_automations_and_connectors_that_the_configuration_has_no_more_are_not_forgotten(small, tmp_path):
    config = copy.deepcopy(CONFIG)
    config["connectors"]["conn_gone"] = dict(config["connectors"]["conn_export"], export_base_path="gone")
    config["indexes"]["idx"]["automations"]["off"]["destination_connector_id"] = "conn_gone"
    before = client_of(tmp_path, config)
    before.exports.create_index_export(index_id="idx", destination_connector_id="conn_gone")
    config["indexes"] = {"other": config["indexes"]["idx"]}
    del config["connectors"]["conn_gone"], config["indexes"]["other"]["automations"]["off"]
    client = client_of(tmp_path, config)
    unreached = "\n".join(erased(client).unreached)
    assert "deliveries/exports/team, where automation 'team' of index 'idx' delivered" in unreached
    assert "gone/" in unreached
    assert "connector 'conn_gone' does not exist" in unreached
    shutil.rmtree(tmp_path / "deliveries")
    shutil.rmtree(tmp_path / "gone")
    again = client_of(tmp_path, config)
    assert not any("'team'" in one for one in erased(again).unreached)


def test_files_that_others_put_beside_a_collection_are_named(small, tmp_path):
    (part, *_) = (tmp_path / "deliveries/exports/team/segments").rglob("*.parquet")
    shutil.copy(part, part.with_name("copy.parquet"))
    done = erased(small)
    assert done.unreached == ()
    assert "copy.parquet" in done.out_of_reach[0]
    assert part.with_name("copy.parquet").exists()
