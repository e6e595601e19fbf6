"""The command line chooses a content by the names, the rules and the messages of the configuration."""

import copy
import json

import click
import pytest

from vv_exports.cli.exports import EXPORT
from vv_exports.config import content_options
from vv_exports.config.content import ContentConfig
from vv_exports.domain.exports import ExportRequest
from vv_exports_tests.cli.running import run, tree, write_deployment
from vv_exports_tests.deployments import CONFIG, client_of

CHOSEN = {
    "format": {"name": "csv", "delimiter": ";", "excel": True},
    "tables": ["segments", "videos"],
    "fields": {"include": ["metadata", "video_name"], "exclude": ["metadata.brands[].name", "metadata.people"]},
    "redact": {"metadata.a=b": "mask", "video_name": "drop"},
    "compression": "gzip",
    "target_file_bytes": 2097152,
    "on_schema_conflict": "text",
    "contract": "quarantine",
}
OPTIONS = (
    *("--format", '{name: csv, delimiter: ";", excel: true}', "--tables", "videos, segments"),
    *(
        "--include",
        "video_name",
        "--include",
        "metadata",
        "--exclude",
        "metadata.people",
        "--exclude",
        "metadata.brands[].name",
    ),
    *("--redact", "video_name=drop", "--redact", 'metadata."a=b"=mask', "--compression", "gzip"),
    *("--target-file-bytes", "2097152", "--on-schema-conflict", "text", "--contract", "quarantine"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_deployment(tmp_path_factory.mktemp("deployment"))


@pytest.mark.parametrize("command", EXPORT.commands.values(), ids=EXPORT.commands)
def test_the_help_says_which_option_is_which_key_of_the_configuration(command):
    said = [param.help for param in command.params if isinstance(param, click.Option)]
    assert [name for name in ContentConfig.model_fields if not any(f"`{name}" in text for text in said)] == []


@pytest.mark.parametrize("command", [("index", "idx"), ("run", "idx", "run_123")])
def test_a_dry_run_says_what_was_chosen_and_writes_nothing(folder, command):
    before = tree(folder)
    said = run(folder, "export", *command, *OPTIONS, "--dry-run", "--json")
    assert (said.code, said.document["format"], said.document["content"]) == (0, "csv", CHOSEN)
    lines = run(folder, "export", *command, *OPTIONS, "--dry-run").out.splitlines()
    assert "tables: segments, videos" in lines
    assert "  video_name: drop" in lines
    assert not any("tables" in line for line in run(folder, "export", *command, "--dry-run").out.splitlines())
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("options", "phrases"),
    [
        (("--format", "{name: csv, delimiter: x}"), ["format.delimiter: 'x': must be one of"]),
        (("--format", "{name: csv, excel: on, excel: off}"), ["excel: is there twice"]),
        (("--format", "{name: csv"), ["format {name: csv", "is not YAML"]),
        (("--format", ""), ["format: '' is not allowed"]),
        (("--tables", "segment"), ["tables.0: 'segment' is not allowed. Did you mean 'segments'?"]),
        (("--tables", ""), ["tables: []: must not be empty"]),
        (("--include", "a..b", "--exclude", ""), ["fields.include.0: 'a..b'", "fields.exclude.0: ''"]),
        (("--redact", "metadata.a"), ["--redact 'metadata.a' says no method; write metadata.a=drop"]),
        (("--redact", "metadata.a=kill"), ["redact.'metadata.a': 'kill' is not allowed. Allowed: drop, hash, mask"]),
        (("--redact", "a=drop", "--redact", "a=mask"), ["--redact names 'a' twice"]),
        (("--redact", "a=drop", "--redact", '"a"=mask'), ["are the same field; keep one"]),
        (("--redact", "a=hash"), ["VV_EXPORTS_REDACTION_KEY"]),
        (("--format", "json", "--compression", "snappy"), ["compression: 'snappy': json files can be: none, gzip"]),
        (("--target-file-bytes", "5"), ["target_file_bytes: 5: must be at least 1,048,576"]),
        (("--on-schema-conflict", "hold"), ["'hold' lets a run wait", "choose new_version or text"]),
        (("--on-schema-conflict", "x", "--format", "x"), ["2 problems", "Allowed: hold, new_version, text"]),
    ],
)
def test_a_wrong_choice_is_explained_and_nothing_is_written(folder, options, phrases):
    before = tree(folder)
    said = run(folder, "export", "index", "idx", *options, VV_EXPORTS_REDACTION_KEY=None)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: ")
    assert [phrase for phrase in phrases if phrase not in said.err] == []
    assert "Traceback" not in said.err
    assert tree(folder) == before


def test_an_export_is_shown_with_what_was_chosen(tmp_path):
    folder = write_deployment(tmp_path)
    said = run(folder, "export", "index", "idx", "--format", "csv", "--on-schema-conflict", "text", "--json")
    assert (said.code, said.document["content"]) == (0, {"format": "csv", "on_schema_conflict": "text"})
    shown = run(folder, "exports", "show", said.document["export_id"], "--json").document
    assert (shown["format"], shown["content"]) == ("csv", {"format": "csv", "on_schema_conflict": "text"})
    assert "  on_schema_conflict: text\n" in run(folder, "exports", "show", said.document["export_id"]).out


def test_the_same_choice_by_another_way_is_the_same_request(tmp_path):
    folder = write_deployment(tmp_path)
    client = client_of(folder)
    made = client.exports.create_index_export("idx", **ways(), idempotency_key="k")
    options = ("--exclude", "metadata.title", "--redact", "metadata.people=mask", "--compression", "snappy")
    again = run(folder, "export", "index", "idx", *options, "--idempotency-key", "k", "--json")
    assert (again.code, again.document["export_id"]) == (0, made.export_id)
    request = ExportRequest("index", "idx", None, None, None, content_options(ways()))
    assert client.exports.create(request, idempotency_key="k").export_id == made.export_id
    other = run(folder, "export", "index", "idx", *options[:2], "--idempotency-key", "k")
    assert (other.code, "for another request" in other.err) == (2, True)


def ways() -> dict:
    return {"fields": {"exclude": ["metadata.title"]}, "redact": {"metadata.people": "mask"}, "compression": "snappy"}


def test_an_automation_is_shown_with_what_the_configuration_chooses(tmp_path):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    team |= {"format": {"name": "csv", "delimiter": ";"}, "tables": ["segments"], "retain_superseded": "24h"}
    folder = write_deployment(tmp_path, config)
    listed = {one["automation"]: one for one in run(folder, "automations", "list", "--json").document}
    chosen = {"format": {"name": "csv", "delimiter": ";"}, "tables": ["segments"]}
    assert (listed["team"]["format"], listed["team"]["content"]) == ("csv", chosen)
    assert (listed["off"]["content"], listed["off"]["retain_superseded"]) == ({"format": "parquet"}, None)
    shown = run(folder, "automations", "show", "idx", "team").out
    assert "  tables: segments\n" in shown
    assert "retain_superseded: 24h\n" in shown


def test_a_check_of_the_configuration_tells_that_the_key_of_redaction_is_missing(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"]["redact"] = {"metadata.a": "hash"}
    folder = write_deployment(tmp_path, config | {"redaction_key_env": "OUR_KEY"})
    for key, code in ((None, 2), ("hunter2", 2), ("k" * 16, 0)):
        said = run(folder, "config", "check", "--json", OUR_KEY=key)
        assert said.code == code
        if code:
            message = json.loads(said.out)["error"]["message"]
            assert "indexes.idx.automations.team.redact: " in message
            assert "OUR_KEY" in message
            assert "hunter2" not in said.text
    listed = run(folder, "automations", "list", "--json", OUR_KEY=None)
    errors = {one["automation"]: one["last_error"] for one in listed.document}
    assert (listed.code, errors["held"], "OUR_KEY" in errors["team"]) == (0, None, True)
