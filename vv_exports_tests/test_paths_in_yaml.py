"""Paths with brackets in YAML: as the documentation has them they are read, and without quotes the message helps."""

import re
from pathlib import Path

import pytest
import yaml

from vv_exports.config import content_options, format_of_text, parse_config
from vv_exports.errors import ConfigurationError
from vv_exports_tests.cli.running import REPOSITORY

HEAD = """
source: {kind: local_archive, path: archive}
storage: storage
connectors: {conn_export: {provider: local, root: ., scopes: [export]}}
indexes:
  idx:
    automations:
      team:
        destination_connector_id: conn_export
"""
HINT = "a path with [] is put in quotes there, as in 'metadata.people[].name'"


def parsed(settings: str) -> dict:
    return parse_config(f"{HEAD}{settings}", folder=Path("/srv"), where="here").automation("idx", "team").content.chosen


def told(settings: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parsed(settings)
    return str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        "        redact: {metadata.people[].name: drop}",
        "        fields: {exclude: [metadata.people[].name]}",
        "        fields: {include: [é, metadata.tags[]]}",
        "        fields:\n          exclude: [\n            video_name,\n            metadata.a[][].b]",
    ],
)
def test_a_path_whose_brackets_yaml_takes_for_its_own_is_told_with_the_way_out(settings):
    assert HINT in told(settings)


@pytest.mark.parametrize("settings", ["        redact: {a: drop", "        tables: [a, b", "        a: b: c", "\t"])
def test_other_mistakes_get_no_hint_that_would_mislead(settings):
    assert "is not YAML" in told(settings)
    assert HINT not in told(settings)


def test_in_quotes_and_in_lines_of_its_own_a_path_is_read():
    chosen = {"format": "parquet", "redact": {"metadata.people[].name": "drop"}}
    assert parsed("        redact: {'metadata.people[].name': drop}") == chosen
    assert parsed("        redact:\n          metadata.people[].name: drop") == chosen


OF_THE_EXPORT = ("bag", "dataset_card")
"""Ways to choose what stands beside the content."""


def choices() -> list[str]:
    """The first column of the table of ways to choose."""
    page = (REPOSITORY / "docs" / "exports.md").read_text()
    section = page.partition("## What an export holds")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("choice", [one for one in choices() if not one.startswith(OF_THE_EXPORT)])
def test_what_the_documentation_chooses_can_be_chosen(choice):
    data = yaml.safe_load(choice)
    assert content_options(data).chosen.items() >= data.items()
    assert parsed(f"        {choice}") == content_options(data).chosen


def test_the_documentation_has_every_key_of_a_content():
    assert {next(iter(yaml.safe_load(choice))) for choice in choices()} == {
        *("format", "tables", "fields", "redact", "compression", "target_file_bytes", "on_schema_conflict"),
        *("contract", *OF_THE_EXPORT),
    }


def test_a_format_in_a_command_is_told_in_the_same_way():
    with pytest.raises(ConfigurationError, match="is not YAML"):
        format_of_text("{name: csv")
