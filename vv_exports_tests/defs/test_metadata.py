"""What a materialization shows is bounded, whatever a run holds, and is text, whatever its text holds."""

import dagster as dg
import pytest

from vv_exports.defs.keys import asset_key
from vv_exports.errors import DeliveredDataError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import client_of


def _shown(folder, **run):
    """Metadata of the one delivered partition."""
    write_run(folder / "archive", **run)
    client = client_of(folder)
    assert client.automations.run("idx", "team").delivered == ("run_1",)
    shown = []
    for key in (asset_key("idx", "prompt_runs"), asset_key("idx", "exports", "team")):
        (record,) = client.instance.fetch_materializations(key, limit=10).records
        shown.append((record.asset_materialization.metadata, len(dg.serialize_value(record.event_log_entry))))
    return shown


@pytest.mark.slow
def test_a_prompt_with_thousands_of_fields_shows_a_few_kilobytes(tmp_path):
    fields = {f"field {n}": {"type": "object", "properties": {"x": {"type": "string"}}} for n in range(2000)}
    untyped = {f"anything {n}": {} for n in range(2000)}
    schema = {"type": "object", "properties": {**fields, **untyped}}
    (taken, size), (delivered, delivered_size) = _shown(tmp_path, schema=schema)
    assert max(size, delivered_size) < 25_000
    for metadata in (taken, delivered):
        names = [column.name for column in metadata["dagster/column_schema"].schema.columns]
        assert "metadata.field 0.x" in names
        assert names[-1] == "…"
    assert taken["kept_as_json"].value["…"] == "1950 more"


@pytest.mark.parametrize(
    "text",
    [
        "a | b\n| c | d |\r\n---",
        "<img src=x onerror=alert(1)><script>",
        "[link](javascript:alert(1)) ![](http://x) `code` **bold** ~~gone~~ &lt;b&gt; &#x7c; # title",
        "\x00\x01\x1b[31m\u202e\u2066 binary-looking \x7f\x85",
        "x" * 7_000_000,
    ],
)
def test_whatever_a_cell_holds_stays_in_its_cell_as_text(tmp_path, text):
    row = segment(0, metadata={"title": text}, video_name=text)
    for metadata, size in _shown(tmp_path, segments=[row]):
        lines = metadata["preview"].value.splitlines()
        assert len(lines) == 3
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
        assert size < 20_000
        body = lines[2]
        assert all(character.isprintable() for character in body)
        for opening in "<[`*~&!#":
            assert opening not in body.replace(f"\\{opening}", "")


def test_a_run_without_rows_has_a_preview_that_says_so(tmp_path):
    for metadata, _ in _shown(tmp_path, segments=[]):
        assert metadata["preview"].value == "*no rows*"


def test_a_preview_reads_the_first_rows_and_leaves_the_rest(tmp_path):
    """It hashed the whole part, twice for each delivered run."""
    write_run(tmp_path / "archive", segments=200)
    client = client_of(tmp_path)
    client.prompt_runs.sync("idx")
    snapshot = client.pipeline.snapshots.store.current("idx", "run_1")
    (part,) = snapshot.tables["segments"]
    before = client.pipeline.snapshots.store.head(snapshot, "segments", 5)
    assert before["segment_id"].to_pylist() == [f"seg_{n:05}" for n in range(5)]
    damaged = tmp_path / "storage" / part.key
    content = damaged.read_bytes()
    damaged.write_bytes(content.replace(b"ARROW:schema", b"arrow:schema"))
    assert client.pipeline.snapshots.store.head(snapshot, "segments", 5)["segment_id"][0].as_py() == "seg_00000"
    with pytest.raises(DeliveredDataError, match="was damaged"):
        list(client.pipeline.snapshots.store.rows(snapshot, "segments"))
