import json
from importlib.resources import files

import jsonschema
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.entry import log_entry_schema
from vv_exports.delivery.log import read_log
from vv_exports.errors import DeliveredDataError
from vv_exports_tests.cli.running import run


def test_the_packaged_json_schema_is_that_of_the_entries():
    packaged = json.loads(files("vv_exports.delivery").joinpath("log_entry.schema.json").read_text())
    assert packaged == log_entry_schema()


def test_the_schema_that_is_printed_needs_no_configuration_and_takes_every_entry(tmp_path, given):
    said = run(tmp_path, "log", "schema")
    assert (said.code, said.err) == (0, "")
    assert run(tmp_path, "log", "schema", "--json").document == said.document
    schema = jsonschema.Draft202012Validator(said.document)
    for path in (given.folder / "_vv/log").iterdir():
        entry = json.loads(path.read_text())
        schema.validate(entry)
        assert not schema.is_valid({**entry, "files": [{**entry["files"][0], "table": "other"}]})


def test_an_entry_fits_its_json_schema(deployment, clock):
    failures = [{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}]
    snapshot = deployment.snapshot(failures=failures, status="completed_with_failures", total_segments=4)
    deliver(deployment.request(snapshot), deployment.store, clock)
    entry = json.loads(deployment.connector.read("exports/team/_vv/log/00000000000000000000.json"))
    jsonschema.Draft202012Validator(log_entry_schema()).validate(entry)
    assert entry["prompt_runs"][0]["counts"] == {"expected": 4, "delivered": 3, "failed": 1}
    assert (
        entry["provenance"]["json_schemas"][entry["provenance"]["prompt_runs"][0]["schema_sha256"]]["type"] == "object"
    )
    assert {file["table"] for file in entry["files"]} == {"segments", "failures"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format_version": 1}'])
def test_a_foreign_file_in_the_log_is_an_error_and_not_an_end(deployment, content):
    deployment.connector.create("exports/team/_vv/log/00000000000000000000.json", content)
    with pytest.raises(DeliveredDataError, match="is not a delivery log entry"):
        read_log(deployment.destination())


def test_an_entry_of_a_newer_version_is_refused(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    key = "exports/team/_vv/log/00000000000000000000.json"
    entry = json.loads(deployment.connector.read(key))
    deployment.connector.create(
        "exports/newer/_vv/log/00000000000000000000.json",
        json.dumps({**entry, "format_version": 99}).encode(),
    )
    with pytest.raises(DeliveredDataError, match="Upgrade vv_exports"):
        read_log(deployment.destination("exports/newer"))


def _log_of_three(deployment, clock):
    for rows in (3, 4, 5):
        deliver(deployment.request(deployment.snapshot(segments=rows)), deployment.store, clock)
    return deployment.folder / "deliveries/exports/team/_vv/log"


@pytest.mark.parametrize("missing", [0, 1])
def test_an_entry_that_was_deleted_by_hand_is_an_error_and_not_an_end(deployment, clock, missing):
    """A delivery would otherwise take its number, and the entries behind it would win over what it delivers."""
    folder = _log_of_three(deployment, clock)
    (folder / f"{missing:020}.json").unlink()
    with pytest.raises(DeliveredDataError, match=f"{missing:020}.json is missing, while entry 2 is there"):
        read_log(deployment.destination())
    before = deployment.files()
    with pytest.raises(DeliveredDataError, match="is missing"):
        deliver(deployment.request(deployment.snapshot(segments=6)), deployment.store, clock)
    assert deployment.files() == before


def test_an_entry_under_another_entrys_name_is_an_error(deployment, clock):
    folder = _log_of_three(deployment, clock)
    (folder / f"{3:020}.json").write_bytes((folder / f"{1:020}.json").read_bytes())
    with pytest.raises(DeliveredDataError, match="says that it is entry 1"):
        read_log(deployment.destination())


def test_other_files_in_the_log_folder_are_no_entries(deployment, clock):
    folder = _log_of_three(deployment, clock)
    for name in ("README.md", "99.json", f"{7:020}.json.bak"):
        (folder / name).write_text("not an entry")
    assert read_log(deployment.destination()).next_sequence == 3
