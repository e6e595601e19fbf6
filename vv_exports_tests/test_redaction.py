"""What is redacted is nowhere: not in the files of any format, the log, the previews, the database, messages or
logs."""

import copy
import json
import logging

import pytest

from vv_exports.client import VVExports
from vv_exports.delivery.reading import documents
from vv_exports.errors import CredentialsError, RunFailedError
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, write_config

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "ssn": {"type": "string", "enum": ["planted-in-the-schema"], "examples": ["planted-as-an-example"]},
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "place": {"type": "object", "properties": {"street": {"type": ["string", "null"]}, "town": {"type": "string"}}},
        "anything": {},
        "codes": {"type": "array", "items": {"type": "string"}},
    },
}
REDACT = {
    "metadata.ssn": "drop",
    "metadata.people[].name": "hash",
    "metadata.people[].tags": "drop",
    "metadata.place": "mask",
    "metadata.anything": "drop",
    "metadata.codes[]": "hash",
    "video_name": "hash",
}
KEY = "a key of more than sixteen bytes"


def planted():
    """Fifty values, in all the places where a redacted one can be, and the rows that hold them."""
    values = [f"planted-{number:02}-secret" for number in range(50)]
    left = iter(values)

    def secret():
        return next(left)

    rows = []
    for number in range(5):
        rows.append(
            segment(
                number,
                metadata={
                    "title": "kept",
                    "ssn": secret(),
                    "SSN": secret(),
                    "people": [{"name": secret(), "age": 3, "tags": [secret()], "Name": secret()}, {"name": None}],
                    "place": {"street": secret(), "town": "x", "extra": "y"},
                    "codes": [secret(), "z"],
                },
                schema_used=json.dumps(SCHEMA),
                metadata_text=f"the text says {rows[-1]['metadata']['ssn'] if rows else 'nothing'}",
            )
        )
    # Of other types than declared, so that they are rescued; as a whole, above and below what is redacted.
    odd = [
        {"title": "kept", "people": secret()},
        {"title": "kept", "people": {"name": secret()}},
        {"title": "kept", "people": [secret(), {"name": {"first": secret()}, "age": 4}]},
        {"title": "kept", "ssn": [secret()], "place": secret(), "codes": secret()},
        {"title": "kept", "anything": {"deep": [{"er": secret()}]}, "codes": [{"x": secret()}, 5]},
        {"title": "kept", "place": [secret()], "people": [[{"name": secret()}]]},
    ]
    rows += [
        segment(10 + number, metadata=one, field_extraction_error=f"not {number}") for number, one in enumerate(odd)
    ]
    rest = list(left)
    rows.append(
        segment(
            90,
            metadata={"title": "kept", "people": [{"name": one} for one in rest]},
            metadata_text=" ".join(rest),
            field_extraction_error=f"cannot read {rest[0]}",
            video_name=rest[1],
            video=rest[2],
        )
    )
    return values, rows


def config_with(**automation):
    config = copy.deepcopy(CONFIG)
    team = {**CONFIG["indexes"]["idx"]["automations"]["team"], **automation}
    config["indexes"]["idx"]["automations"] = {"team": team}
    return config


@pytest.mark.parametrize("chosen", ["parquet", "jsonl", "csv", "json"])
def test_no_byte_of_fifty_planted_values_is_in_what_is_delivered(tmp_path, monkeypatch, caplog, chosen):
    monkeypatch.setenv("VV_EXPORTS_REDACTION_KEY", KEY)
    values, rows = planted()
    # A video's id is no answer; that of one row is planted, and redacted too.
    write_run(tmp_path / "archive", schema=SCHEMA, segments=rows)
    wider = {"type": "object", "properties": {**SCHEMA["properties"], "mood": {"type": "string"}}}
    write_run(tmp_path / "archive", run_id="run_2", schema=wider, segments=[segment(0, metadata={"ssn": values[0]})])
    redact = {**REDACT, "video_id": "hash"}
    # Compressed bytes tell nothing.
    client = VVExports(write_config(tmp_path, config_with(redact=redact, format=chosen, compression="none")))
    with caplog.at_level(logging.DEBUG):
        assert len(client.automations.run("idx", "team").delivered) == 2
        export = client.exports.create_index_export(
            index_id="idx", format=chosen, redact=redact, compression="none", destination_connector_id="conn_export"
        )
    assert export.status == "completed"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    written = [
        path for path in written if not {"archive", "snapshots", "schemas"} & set(path.relative_to(tmp_path).parts)
    ]
    assert any("deliveries" in path.parts for path in written)
    assert any(path.name.endswith(".db") for path in written), "Dagster's database is among it"
    found = {
        value: str(path) for path in written for value in [*values, "planted-"] if value.encode() in path.read_bytes()
    }
    assert found == {}
    assert [record for record in caplog.records if "planted-" in record.getMessage()] == []
    told = list(documents(client.pipeline.automations.get("idx", "team").destination))
    assert {one.document["metadata"].get("title") for one in told if one.prompt_run_id == "run_1"} == {"kept"}
    assert len({one.document["video_name"] for one in told}) > 1, "hashes tell values apart"


def test_a_path_that_no_schema_has_is_an_error_that_lists_what_there_is_and_nothing_is_written(tmp_path):
    write_run(tmp_path / "archive", schema=SCHEMA, segments=[segment(0, metadata={"title": "x"})])
    client = VVExports(write_config(tmp_path, config_with(redact={"metadata.peple[].name": "drop"})))
    with pytest.raises(RunFailedError, match=r"metadata\.peple\[\]\.name.*metadata\.people\[\]\.name"):
        client.automations.run("idx", "team")
    assert list((tmp_path / "deliveries").rglob("*.parquet")) == []
    export = client.exports.create_index_export(
        index_id="idx", fields={"include": ["metadata.ttle"]}, destination_connector_id="conn_export"
    )
    assert export.status == "failed"
    assert "metadata.ttle" in export.error_message
    assert "metadata.title" in export.error_message
    assert list((tmp_path / "deliveries").rglob("*.parquet")) == []


def test_a_path_of_another_prompt_of_the_index_is_none(tmp_path):
    write_run(tmp_path / "archive", schema=SCHEMA, segments=[segment(0, metadata={"title": "x"})])
    other = {"type": "object", "properties": {"mood": {"type": "string"}}}
    write_run(
        tmp_path / "archive",
        run_id="run_2",
        prompt_id="other",
        schema=other,
        segments=[segment(0, metadata={"mood": "m"})],
    )
    client = VVExports(write_config(tmp_path, config_with(fields={"exclude": ["metadata.mood"]})))
    client.prompt_runs.sync("idx")
    assert client.automations.run("idx", "team", ["run_1"]).delivered == ("run_1",)


def test_without_its_key_redaction_by_hash_writes_nothing_and_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("VV_EXPORTS_REDACTION_KEY", raising=False)
    write_run(tmp_path / "archive", schema=SCHEMA, segments=[segment(0, metadata={"title": "x"})])
    client = VVExports(write_config(tmp_path, config_with(redact={"metadata.title": "hash"})))
    with pytest.raises((CredentialsError, RunFailedError), match="VV_EXPORTS_REDACTION_KEY"):
        client.automations.run("idx", "team")
    assert not (tmp_path / "deliveries").exists() or list((tmp_path / "deliveries").rglob("*.parquet")) == []


def test_another_key_and_another_choice_make_runs_due_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VV_EXPORTS_REDACTION_KEY", KEY)
    write_run(tmp_path / "archive", schema=SCHEMA, segments=[segment(0, metadata={"title": "x"})])

    def deliver(**automation):
        client = VVExports(write_config(tmp_path, config_with(**automation)))
        return client.automations.run("idx", "team")

    assert deliver(redact={"metadata.title": "hash"}).delivered == ("run_1",)
    assert deliver(redact={"metadata.title": "hash"}).delivered == ()
    monkeypatch.setenv("VV_EXPORTS_REDACTION_KEY", KEY + "!")
    assert deliver(redact={"metadata.title": "hash"}).reshaped == ("run_1",)
    for choice in (
        {"redact": {"metadata.title": "mask"}},
        {"fields": {"exclude": ["metadata.title"]}},
        {"fields": {"include": ["metadata.place", "video_id"]}},
        {"tables": ["segments"]},
        {"compression": "snappy"},
        {"target_file_bytes": 1 << 20},
    ):
        assert deliver(**choice).reshaped == ("run_1",), choice
        assert deliver(**choice).delivered == (), choice
