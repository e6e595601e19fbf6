"""A path that leads nowhere is told, with the paths that there are."""

import pytest

from vv_exports.content.known_paths import unknown_fields_error, unknown_paths
from vv_exports.domain.content_options import ContentOptions, Fields
from vv_exports.errors import SelectionError
from vv_exports.snapshots.tables import table_of

PEOPLE = {
    "type": "object",
    "properties": {
        "people": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "anything": {},
        "a.b": {"type": "string"},
    },
}
COLUMNS = [table_of("segments", PEOPLE).column, table_of("failures", None).column]


def _unknown(*paths, redact=()):
    options = ContentOptions(fields=Fields(exclude=paths), redact=dict.fromkeys(redact, "drop"))
    return unknown_paths(options, COLUMNS)


@pytest.mark.parametrize(
    "path",
    [
        *("video_name", "failure_message", "metadata", "metadata.people", "metadata.people[]"),
        *("metadata.people[].name", 'metadata."a.b"', "metadata.anything", "metadata.anything.deep[].x", "rescued"),
    ],
)
def test_a_path_to_a_column_or_into_an_untyped_place_is_known(path):
    assert _unknown(path) == []


@pytest.mark.parametrize(
    "path",
    [
        *("video", "metadata.person", "metadata.people.name", "metadata.people[][]", "metadata.people[].name.first"),
        *("metadata.a.b", "metadata.People", "video_name[]"),
    ],
)
def test_a_path_that_leads_to_no_column_is_unknown(path):
    assert _unknown(path, "video_name") == [path]


def test_redaction_knows_a_name_in_any_spelling():
    assert _unknown(redact=["METADATA.People[].Name"]) == []
    assert _unknown(redact=["metadata.person"]) == ["metadata.person"]


def test_the_error_lists_what_there_is_and_what_looks_alike_first():
    error = unknown_fields_error(["metadata.people[].nam"], COLUMNS, "idx_archive")
    assert isinstance(error, SelectionError)
    assert str(error).startswith("'metadata.people[].nam': no prompt of index idx_archive has such a field")
    assert "There are: metadata.people[].name, " in str(error)
    assert "and " in str(error)
    assert "more" in str(error)


def test_the_error_stays_short_whatever_the_schema_is():
    schema = {"type": "object", "properties": {f"{number}{'x' * 500}": {"type": "string"} for number in range(3000)}}
    error = unknown_fields_error(["y" * 5000], [table_of("segments", schema).column], "idx")
    assert len(str(error)) < 4000
