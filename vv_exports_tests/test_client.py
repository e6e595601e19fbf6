import copy
import re
from pathlib import Path

import pytest

from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.exports import ExportRequest, ExportStatus
from vv_exports.errors import (
    CredentialsError,
    DestinationError,
    IdempotencyError,
    NotFoundError,
    RequestError,
    RunFailedError,
    SelectionError,
    SourceDataError,
    VVExportsError,
)
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, written_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    archive = tmp_path / "archive"
    write_run(archive, run_id="run_123", executed_at="2026-10-01T00:00:00Z")
    write_run(archive, run_id="run_124", executed_at="2026-10-02T00:00:00Z", segments=2)
    write_run(archive, run_id="run_125", executed_at="2026-10-03T00:00:00Z", status="completed_with_failures")
    for number, status in enumerate(["pending", "processing", "failed", "cancelled"], start=126):
        write_run(archive, run_id=f"run_{number}", executed_at="2026-10-04T00:00:00Z", status=status)
    return tmp_path


@pytest.fixture
def no_key(monkeypatch):
    monkeypatch.delenv("VV_EXPORTS_REDACTION_KEY", raising=False)


@pytest.fixture
def client(folder):
    return client_of(folder)


def test_an_index_export_of_chosen_runs_is_a_folder_of_its_own(client, folder):
    export = client.exports.create_index_export(
        index_id="idx",
        prompt_run_ids=["run_123", "run_124"],
        destination_connector_id="conn_export",
        destination_subpath="exports/editorial",
    )
    export = client.exports.wait_for_completion(export.export_id)
    assert (export.status, export.rows, export.files) == (ExportStatus.COMPLETED, 5, 2)
    assert export.destination_uri == str(folder / "deliveries/exports/editorial" / export.export_id)
    inside = {path.split(export.export_id)[1] for path in written_files(folder)}
    assert {path.split("/part-")[0] for path in inside} == {
        "/segments/prompt_id=prm/prompt_run_id=run_123",
        "/segments/prompt_id=prm/prompt_run_id=run_124",
        "/_vv/owner.json",
        "/_vv/log/00000000000000000000.json",
        "/SHA256SUMS",
    }


def test_exports_share_a_subpath_in_folders_of_their_own(client, folder):
    exports = [client.exports.create_index_export("idx", None, "conn_export", "shared") for _ in range(2)]
    assert [export.rows for export in exports] == [8, 8]
    assert len({path.split("/")[2] for path in written_files(folder)}) == 2


def test_an_index_export_without_a_choice_holds_all_finished_runs(client):
    export = client.exports.create_index_export("idx", None, "conn_export", "all")
    assert export.rows == 3 + 2 + 3


def test_a_prompt_run_export_finds_its_index(client):
    export = client.exports.create_prompt_run_export("run_124", "conn_export")
    assert (export.export_type, export.target_id, export.index_id, export.rows) == (
        "prompt_run",
        "run_124",
        "idx",
        2,
    )
    with pytest.raises(NotFoundError, match="'run_999' does not exist in any configured index"):
        client.exports.create_prompt_run_export("run_999", "conn_export")


def test_a_download_is_one_zip_and_the_same_request_gives_it_again(client, folder):
    export = client.exports.create_index_export("idx", idempotency_key="k")
    download = client.exports.download(export.export_id, folder / "out.zip")
    assert (download.written, download.path.read_bytes()[:2]) == (True, b"PK")
    again = client.exports.create_index_export("idx", idempotency_key="k")
    assert again == export
    assert client.exports.download(again.export_id, folder / "out.zip").written is False


def test_an_idempotency_key_belongs_to_one_request(client, folder):
    client.exports.create_index_export("idx", destination_connector_id="conn_export", idempotency_key="k")
    before = written_files(folder)
    with pytest.raises(IdempotencyError, match="'k' was used before, for another request"):
        client.exports.create_index_export("idx", idempotency_key="k")
    with pytest.raises(IdempotencyError, match="blank"):
        client.exports.create_index_export("idx", idempotency_key=" ")
    assert written_files(folder) == before


def test_a_failed_export_is_tried_again_under_its_id(client, folder):
    record = folder / "archive/indexes/idx/prompt_runs/run_123/segment_results.jsonl"
    good = record.read_bytes()
    record.write_bytes(good[:-20])
    failed = client.exports.create_index_export("idx", None, "conn_export", "x", idempotency_key="k")
    assert failed.status == ExportStatus.FAILED
    assert "segment_results.jsonl" in failed.error_message
    assert "line 3" in failed.error_message
    assert written_files(folder) == {}
    with pytest.raises(RunFailedError, match=r"line 3"):
        client.exports.wait_for_completion(failed.export_id)
    record.write_bytes(good)
    export = client.exports.create_index_export("idx", None, "conn_export", "x", idempotency_key="k")
    assert (export.export_id, export.status) == (failed.export_id, ExportStatus.COMPLETED)
    assert [one.export_id for one in client.exports.list()] == [export.export_id]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"index_id": "nope"}, NotFoundError, "index 'nope' does not exist"),
        ({"prompt_run_ids": []}, SelectionError, "an empty list of prompt runs"),
        ({"prompt_run_ids": ["run_999"]}, NotFoundError, "prompt run 'run_999' does not exist"),
        ({"prompt_run_ids": ["run_123", "run_123"]}, SelectionError, "named twice"),
        ({"prompt_run_ids": ["run_126"]}, SelectionError, "'run_126' is pending"),
        ({"prompt_run_ids": ["run_123", "run_127"]}, SelectionError, "'run_127' is processing"),
        ({"prompt_run_ids": ["run_128"]}, SelectionError, "'run_128' is failed"),
        ({"prompt_run_ids": ["run_129"]}, SelectionError, "'run_129' is cancelled"),
        ({"destination_connector_id": "nope"}, NotFoundError, "connector 'nope' does not exist"),
        ({"destination_connector_id": "conn_import"}, DestinationError, "not 'export'"),
        ({"destination_subpath": "x"}, DestinationError, "without a connector"),
        ({"format": "xlsx"}, RequestError, "^format: 'xlsx' is not allowed"),
        ({"format": {"name": "csv", "delimiter": "x"}}, RequestError, "^format.delimiter: 'x': must be one of"),
        ({"format": {"name": "jsonl", "excel": True}}, RequestError, "is an option of csv, and jsonl has none"),
        ({"tables": "segments"}, RequestError, "^tables: 'segments': must be a list"),
        ({"tables": []}, RequestError, "^tables: .*must not be empty"),
        ({"fields": {"exclude": ["metadata..a"]}}, RequestError, r"^fields\.exclude\.0: 'metadata\.\.a' has two dots"),
        ({"redact": {"metadata.a": "kill"}}, RequestError, "Allowed: drop, hash, mask"),
        ({"redact": {"metadata.a": "hash"}}, CredentialsError, "variable VV_EXPORTS_REDACTION_KEY"),
        ({"format": "csv", "compression": "snappy"}, RequestError, "csv files can be: none, gzip, zstd"),
        ({"target_file_bytes": 0}, RequestError, "must be at least 1,048,576"),
        ({"on_schema_conflict": "hold"}, RequestError, "made at once: choose new_version or text"),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "../x"},
            DestinationError,
            r"\.\./x",
        ),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "exports/team"},
            DestinationError,
            "automation 'team'",
        ),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "exports/team/x"},
            DestinationError,
            "automation 'team'",
        ),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "Exports/TEAM"},
            DestinationError,
            "automation 'team'",
        ),
    ],
)
@pytest.mark.usefixtures("no_key")
def test_a_wrong_request_is_refused_before_anything_is_written(client, folder, request_, error, message):
    with pytest.raises(error, match=message):
        client.exports.create_index_export(**{"index_id": "idx", **request_})
    assert written_files(folder) == {}
    assert not (folder / "storage").exists()
    assert client.instance.get_runs() == []


def test_a_content_that_was_made_by_hand_keeps_the_rules_too(client, folder):
    for options, said in (
        (ContentOptions(FormatOptions("json"), compression="snappy"), "json files can be: none, gzip, zstd"),
        (ContentOptions(redact={"a..b": "drop"}), "has two dots"),
        (ContentOptions(tables=()), "must not be empty"),
    ):
        with pytest.raises(RequestError, match=re.escape(said)):
            client.exports.create(ExportRequest("index", "idx", None, None, None, options))
    assert not (folder / "storage").exists()


def test_a_wrong_choice_is_told_before_the_source_is_asked(client, folder):
    (folder / "archive").rename(folder / "gone")
    with pytest.raises(RequestError, match=r"^format: 'xlsx' is not allowed\."):
        client.exports.create_prompt_run_export("run_123", format="xlsx")


@pytest.mark.parametrize(
    "subpath", ["archive", "archive/indexes", "whole/archive", "whole/Archive/x", "storage", "storage/exports", "whole"]
)
def test_an_export_into_the_archive_or_storage_or_around_them_is_refused_before_any_write(folder, subpath):
    """The subpath of an export on demand is chosen when the configuration has long been checked."""
    (folder / "whole").mkdir()
    (folder / "archive").rename(folder / "whole" / "archive")
    (folder / "archive").symlink_to("whole/archive")
    config = copy.deepcopy(CONFIG)
    config["connectors"]["conn_export"]["export_base_path"] = ""
    client = client_of(folder, config)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(DestinationError, match="the same place, above it or inside it; keep the"):
        client.exports.create_index_export(
            index_id="idx", destination_connector_id="conn_export", destination_subpath=subpath
        )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    client.exports.create_index_export(
        index_id="idx", destination_connector_id="conn_export", destination_subpath="apart"
    )
    assert list((folder / "apart").glob("*/_vv/owner.json"))


def test_a_destination_that_a_link_leads_into_the_archive_since_the_start_is_refused(folder):
    """A running deployment has read its configuration once."""
    config = copy.deepcopy(CONFIG)
    config["connectors"]["conn_export"]["root"] = "out"
    (folder / "out").mkdir()
    client = client_of(folder, config)
    assert client.automations.run("idx", "team").delivered
    (folder / "out").rename(folder / "moved")
    (folder / "out").symlink_to("archive")
    before = sorted((folder / "archive").rglob("*"))
    write_run(folder / "archive", run_id="run_200")
    with pytest.raises(VVExportsError, match="the source archive is"):
        client.automations.run("idx", "team")
    new = sorted(set((folder / "archive").rglob("*")) - set(before))
    assert all("run_200" in str(path) for path in new)


def test_an_automation_delivers_what_is_finished_once(client, folder):
    outcome = client.automations.run("idx", "team")
    assert outcome.delivered == ("run_123", "run_124", "run_125")
    assert (outcome.rows, outcome.files) == (8, 3)
    before = written_files(folder)
    again = client.automations.run("idx", "team")
    assert (again.delivered, again.dagster_run_ids) == ((), ())
    assert again.already_delivered == ("run_123", "run_124", "run_125")
    assert written_files(folder) == before


def test_an_automation_delivers_a_changed_run_again_and_nothing_else(client, folder):
    client.automations.run("idx", "team")
    write_run(folder / "archive", run_id="run_124", executed_at="2026-10-02T00:00:00Z", segments=6)
    assert client.automations.retrieve("idx", "team").due == 1
    outcome = client.automations.run("idx", "team")
    assert (outcome.delivered, outcome.rows) == (("run_124",), 6)


def test_held_runs_wait_until_they_are_named(client):
    assert client.automations.run("idx", "held").delivered == ("run_123", "run_124")
    assert client.automations.retrieve("idx", "held").held == 1
    assert client.automations.run("idx", "held", ["run_125"]).delivered == ("run_125",)
    assert client.automations.retrieve("idx", "held").held == 0


def test_a_disabled_automation_says_so(client):
    with pytest.raises(SelectionError, match="enabled: true"):
        client.automations.run("idx", "off")


def test_a_lost_dagster_database_causes_no_second_delivery(client, folder):
    client.automations.run("idx", "team")
    before = written_files(folder)
    fresh = client_of(folder)
    outcome = fresh.automations.run("idx", "team")
    assert outcome.delivered == ()
    assert len(outcome.dagster_run_ids) == 1, "the new database learns what is delivered"
    assert written_files(folder) == before


def test_what_stays_as_it_was_delivered_does_so_after_a_lost_dagster_database_too(folder):
    config = _team(on_status=["completed"])
    client_of(folder, config).automations.run("idx", "team")
    status = {"status": "completed_with_failures", "segments": 1, "executed_at": "2026-10-02T00:00:00Z"}
    write_run(folder / "archive", run_id="run_124", **status)
    before = written_files(folder)
    outcome = client_of(folder, config).automations.run("idx", "team")
    assert (outcome.delivered, outcome.already_delivered) == ((), ("run_123", "run_124"))
    assert written_files(folder) == before, "nothing of a status that is not asked for"


def test_a_backfill_of_an_automation_that_holds_by_now_takes_no_partial_history(folder):
    client_of(folder, _team(start="now")).automations.run("idx", "team")
    client = client_of(folder, _team(start="now", partial="hold"))
    assert [run.run_id for run in client.automations.plan_backfill("idx", "team").prompt_runs] == ["run_123", "run_124"]
    assert client.automations.retrieve("idx", "team").held_runs == ("run_125",)


def test_a_record_that_is_damaged_is_in_the_list_beside_the_other_automations(folder, client):
    client.pipeline.automations.begin("idx", client.pipeline.indexes.listing("idx"), client.pipeline.clock())
    (folder / "storage/automations/idx/team/begin.json.zst").write_bytes(b"{")
    found = {one.automation: one for one in client_of(folder).automations.list()}
    assert "does not say where an automation began" in found["team"].last_error
    assert (found["held"].last_error, found["held"].due) == (None, 2)


def test_a_run_that_could_not_be_delivered_is_read_as_soon_as_it_changes(folder):
    config = _team()
    config["indexes"]["idx"]["automations"]["held"]["enabled"] = False
    client = client_of(folder, config)
    pipeline = client.pipeline
    now = pipeline.clock()
    pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), now)
    client.prompt_runs.sync("idx")
    pipeline.automations.get("idx", "team").record.succeeded((), {"run_124": SourceDataError("too odd")}, now)
    write_run(folder / "archive", run_id="run_124", executed_at="2026-10-02T00:00:00Z", segments=6)
    to_read = pipeline.automations.to_read("idx", pipeline.indexes.listing("idx"), now)
    assert (to_read.due, to_read.failing) == (("run_124",), ())


def test_a_sync_takes_snapshots_of_new_and_changed_runs_only(client, folder):
    assert client.prompt_runs.sync("idx").snapshots_taken == ("run_123", "run_124", "run_125")
    assert client.prompt_runs.sync("idx").snapshots_taken == ()
    write_run(folder / "archive", run_id="run_124", executed_at="2026-10-02T00:00:00Z", segments=[segment(7)])
    assert client.prompt_runs.sync("idx").snapshots_taken == ("run_124",)
    revisions = {one.run.run_id: one.snapshot and one.snapshot.revision for one in client.prompt_runs.list("idx")}
    assert revisions == {
        "run_123": 1,
        "run_124": 2,
        "run_125": 1,
        "run_126": None,
        "run_127": None,
        "run_128": None,
        "run_129": None,
    }


def test_a_broken_record_fails_a_sync_with_its_file_once_the_other_runs_are_read(client, folder):
    record = folder / "archive/indexes/idx/prompt_runs/run_124/prompt_run.json"
    record.write_text("{")
    with pytest.raises(SourceDataError, match=r"run_124/prompt_run\.json"):
        client.prompt_runs.sync("idx")
    assert {one.run_id for one in client.prompt_runs.list("idx") if one.snapshot} == {"run_123", "run_125"}


def test_clients_of_two_deployments_in_one_process_have_connectors_of_their_own(tmp_path):
    """The second one was refused its connectors: Dagster had kept the choices of the first."""
    for name in ("first", "second"):
        write_run(tmp_path / name / "archive")
        config = CONFIG | {"connectors": {f"conn_{name}": CONFIG["connectors"]["conn_export"]}, "indexes": {"idx": {}}}
        made = client_of(tmp_path / name, config).exports.create_index_export("idx", None, f"conn_{name}", "x")
        assert made.status == "completed"


def _team(**changes):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"].update(changes)
    return config
