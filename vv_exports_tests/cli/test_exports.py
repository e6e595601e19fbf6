"""Commands about exports that were made: no Dagster instance is needed for them, and none is made."""

import pytest

from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.exports import ExportRequest
from vv_exports.exports.artifacts import artifact_key, being_read
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.exports.records import record_of

JSONL = ContentOptions(FormatOptions("jsonl"))
FOLDER = ExportRequest("index", "idx", ("run_0", "run_1", "run_2", "run_3", "run_4"), "conn_export", "x", JSONL)


@pytest.fixture
def folder(tmp_path):
    pipeline = client_of(tmp_path, {**CONFIG, "exports_keep": "12h"}).pipeline
    records = pipeline.exports.records
    records.begin(record_of(1))
    records.begin(record_of(2, "failed", index_id="other", error="line 3"))
    records.begin(record_of(3, request=FOLDER, prompt_run_ids=FOLDER.prompt_run_ids))
    pipeline.storage.create(artifact_key(record_of(1).export_id), b"PK" * 500)
    yield tmp_path
    assert not (tmp_path / ".dagster").exists()


def lines(said) -> list[list[str]]:
    return [line.split("\t") for line in said.out.splitlines()]


def test_the_list_says_when_in_which_format_and_of_which_prompt_runs(folder):
    heading, *rows = lines(run(folder, "exports", "list"))
    found = [dict(zip(heading, row, strict=True)) for row in rows]
    assert [one["export_id"] for one in found] == [record_of(number).export_id for number in (3, 2, 1)]
    assert [one["created_at"] for one in found] == [f"2024-11-01T12:0{number}:00.000Z" for number in (3, 2, 1)]
    assert [one["format"] for one in found] == ["jsonl", "csv", "csv"]
    assert [one["prompt_runs"] for one in found] == ["5: run_0, run_1, run_2 and 2 more", "all 2", "all 2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--status", "failed"), [2]),
        (("--status", "completed"), [3, 1]),
        (("--status", "pending"), []),
        (("--index", "idx"), [3, 1]),
        (("--since", "2024-11-01T12:02"), [3, 2]),
        (("--limit", "1"), [3]),
        (("--limit", "1", "--after", "exp_03…"), [2]),
        (("--after", "exp_01"), []),
    ],
)
def test_the_list_is_of_what_is_asked_for(folder, options, expected):
    said = run(folder, "exports", "list", *options, "--json")
    assert [one["export_id"] for one in said.document] == [record_of(number).export_id for number in expected]
    plain = run(folder, "exports", "list", *options)
    assert (said.code, plain.code, len(lines(plain)[1:])) == (0, 0, len(expected))
    if not expected:
        assert plain.out == "no exports are like this\n"


def test_a_list_that_is_cut_off_says_how_to_go_on(folder):
    for output in ((), ("--json",)):
        said = run(folder, "exports", "list", "--limit", "2", *output)
        assert f"These are the newest 2 of more: --after {record_of(2).export_id} goes on" in said.err
    assert run(folder, "exports", "list", "--limit", "3").err == ""


@pytest.mark.parametrize("wrong", [("--status", "done"), ("--limit", "0"), ("--since", "soon"), ("--after", "exp_09")])
def test_a_wrong_choice_is_refused(folder, wrong):
    assert run(folder, "exports", "list", *wrong).code == 2


def test_the_contract_of_an_exports_keys_is_kept(folder):
    shown = run(folder, "exports", "show", "exp_03…", "--json").document
    assert shown.keys() >= {
        *("export_id", "export_type", "target_id", "status", "destination_type", "destination_connector_id"),
        *("destination_uri", "rows", "files", "bytes", "delivery_id", "dagster_run_id", "error_message"),
    }
    assert shown["prompt_run_ids"] == list(FOLDER.prompt_run_ids)
    assert "format: jsonl\n" in run(folder, "exports", "show", "exp_03").out


def test_the_beginning_of_an_id_that_several_have_lists_them(folder):
    said = run(folder, "exports", "show", "exp_0…")
    assert said.code == 2
    assert all(f"{record_of(number).export_id} (" in said.err for number in (1, 2, 3))


def test_an_artifact_is_deleted_by_the_beginning_of_its_id(folder):
    said = run(folder, "exports", "delete", "exp_01")
    assert said.out == f"{record_of(1).export_id}: the artifact is deleted (1,000 bytes); the record stays\n"
    assert "it was gone already" in run(folder, "exports", "delete", "exp_01").out
    assert run(folder, "exports", "show", "exp_01", "--json").document["artifact"] == "deleted"
    assert run(folder, "exports", "download", "exp_01").code == 2
    said = run(folder, "exports", "delete", "exp_03")
    assert (said.code, said.out) == (2, "")
    assert "belong to their readers" in said.err


def test_a_vacuum_says_first_what_it_would_delete(folder):
    would = run(folder, "exports", "vacuum", "--dry-run", "--json").document
    assert (would["keep"], would["bytes"], would["dry_run"]) == ("12h", 1000, True)
    assert [one["export_id"] for one in would["deleted"]] == [record_of(1).export_id]
    assert "would delete the artifacts of 1 download (1,000 bytes); kept for 12h" in run(
        folder, "exports", "vacuum", "--dry-run"
    ).out.replace("\n", " ")
    pipeline = client_of(folder, {**CONFIG, "exports_keep": "12h"}).pipeline
    with being_read(pipeline.storage, record_of(1).export_id, pipeline.clock()):
        assert "is being read; the next vacuum removes it" in run(folder, "exports", "vacuum").out
    assert "deleted the artifacts of 1 download (1,000 bytes)" in run(folder, "exports", "vacuum").out
    assert "deleted the artifacts of 0 downloads (0 bytes)" in run(folder, "exports", "vacuum").out
    client_of(folder)
    assert "exports_keep is not set, so artifacts are kept for ever" in run(folder, "exports", "vacuum").out
