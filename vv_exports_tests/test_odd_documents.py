"""JSON deliveries hold what the source holds, whatever a model may have answered; read by the standard library."""

import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.reading import documents_in
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import write_run
from vv_exports_tests.delivery.conftest import NOW, TEAM, Deployment
from vv_exports_tests.generated_documents import strict
from vv_exports_tests.odd_documents import SCHEMA, exact, results

OTHER_SCHEMA = {
    "type": "object",
    "properties": {**SCHEMA["properties"], "title": {"type": "string", "nullable": True}, "more": {"type": "integer"}},
}

KEYS = {"segments": "segment_id", "videos": "video_id"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """10,000 results of segments and 200 of videos, and the snapshot of them."""
    deployment = Deployment(tmp_path_factory.mktemp("odd"))
    lines = {"segments": results(10_000), "videos": results(200, seed=7, key="video_id")}
    snapshot = snapshot_of(deployment, lines)
    return deployment, lines, snapshot


def snapshot_of(deployment, lines, run_id="run_1", schema=SCHEMA):
    """A snapshot of results whose text is as it is given: numbers have all their digits."""
    counted = {"completed_segments": len(lines["segments"]), "completed_videos": len(lines["videos"])}
    folder = write_run(
        deployment.archive, run_id=run_id, schema=schema, video_level_schema=schema, segments=[], videos=[], **counted
    )
    (folder / "segment_results.jsonl").write_text("\n".join(lines["segments"]) + "\n")
    (folder / "video_results.jsonl").write_text("\n".join(lines["videos"]) + "\n")
    source = LocalArchive(str(deployment.archive))
    return deployment.store.take(source, source.prompt_run("idx", run_id), NOW)


def give(deployment, *snapshots, subpath=TEAM, **request):
    deliver(deployment.request(*snapshots, subpath=subpath, **request), deployment.store, lambda: NOW)
    return deployment.folder / "deliveries" / subpath


def sourced(lines, key):
    return {exact(line)[key]: exact(line) for line in lines}


def differing(found, wanted):
    return {key: (found.get(key), wanted.get(key)) for key in found.keys() | wanted.keys()
            if found.get(key, "no row") != wanted.get(key, "no row")}  # fmt: skip


def metadata(rows, key):
    """Each row's metadata by its id; where a row has none, that is told from a null."""
    rows = list(rows)
    found = {row[key]: row.get("metadata", "absent") for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["jsonl", "json"])
def test_json_has_what_the_source_has_in_every_digit(odd, format_name):
    deployment, lines, snapshot = odd
    folder = give(
        deployment, snapshot, subpath=f"exact/{format_name}", format_name=format_name, options={"compression": "none"}
    )
    for table, key in KEYS.items():
        files = sorted((folder / table).rglob(f"*.{format_name}"))
        rows = [row for file in files for row in read(file, format_name)]
        assert differing(metadata(rows, key), metadata(sourced(lines[table], key).values(), key)) == {}


def read(file, format_name):
    content = file.read_bytes()
    assert content.decode("utf-8"), "it is text that any program reads"
    return exact(content) if format_name == "json" else list(map(exact, content.split(b"\n")[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["parquet", "csv", "jsonl", "json"])
def test_every_format_gives_the_documents_back_also_once_its_files_were_reshaped(odd, tmp_path, format_name):
    _, lines, _ = odd
    deployment = Deployment(tmp_path)
    some = {"segments": lines["segments"][:1500], "videos": lines["videos"]}
    old = snapshot_of(deployment, some)
    new = snapshot_of(deployment, {"segments": results(300, seed=8), "videos": []}, "run_2", OTHER_SCHEMA)
    for step in (old, new, old):
        folder = give(deployment, step, format_name=format_name)
    give(deployment, old, new, format_name=format_name, options={"compression": "gzip"})
    assert {run.run.reason for run in read_log(deployment.destination()).runs.values()} == {"reshaped"}
    told_apart = exactly if format_name in {"jsonl", "json"} else strict
    found = {"segments": {}, "videos": {}}
    for one in documents_in(folder):
        if one.prompt_run_id == "run_1":
            key = KEYS[one.table]
            found[one.table][one.document[key]] = told_apart(one.document["metadata"])
    for table, key in KEYS.items():
        documents = [decode(line.encode()) for line in some[table]]
        wanted = {one[key]: told_apart(one["metadata"]) for one in documents}
        assert differing(found[table], wanted) == {}


def exactly(value):
    return exact(encode_sorted(value))
