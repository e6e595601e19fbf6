"""Content that programs choose with values of their own: it means what the same values mean in the configuration."""

import re
from types import MappingProxyType

import pytest

from vv_exports.config import content_options
from vv_exports.domain.content_options import ContentOptions, Fields
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import RequestError
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import tree
from vv_exports_tests.deployments import client_of


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "archive", run_id="run_0", executed_at="2026-10-01T00:00:00Z")
    return client_of(tmp_path)


def request_of(content: ContentOptions) -> ExportRequest:
    return ExportRequest("index", "idx", None, None, None, content)


def test_any_mapping_is_read_like_that_of_a_file():
    chosen = {
        "format": {"name": "csv", "delimiter": ";"},
        "fields": {"exclude": ["video_name"]},
        "redact": {"metadata.a": "drop"},
    }
    frozen = MappingProxyType({name: MappingProxyType(value) for name, value in chosen.items()})
    assert content_options(frozen) == content_options(chosen)


def test_no_mapping_hides_that_a_field_is_redacted_in_two_ways():
    """The weaker way won without a word, where the mapping was no dict."""
    with pytest.raises(RequestError, match="are the same field; keep one"):
        content_options({"redact": MappingProxyType({"metadata.a": "drop", 'metadata."a"': "mask"})})


def test_a_key_stands_for_the_same_request_however_its_content_is_spelled(client):
    """Another order of tables or fields, or another spelling of a path, was another request."""
    one = ContentOptions(
        tables=("videos", "segments"), fields=Fields(("metadata.b", "metadata.a")), redact={'metadata."b"': "drop"}
    )
    other = ContentOptions(
        tables=("segments", "videos"), fields=Fields(("metadata.a", "metadata.b")), redact={"metadata.b": "drop"}
    )
    export = client.exports.create(request_of(one), idempotency_key="k")
    assert client.exports.create(request_of(other), idempotency_key="k").export_id == export.export_id
    assert export.content == content_options(other.chosen).chosen


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ContentOptions(tables=()), "tables: []: must not be empty"),
        (ContentOptions(fields=Fields(include=())), "fields.include: []: must not be empty"),
        (ContentOptions(redact={"a..b": "drop"}), "redact.'a..b': "),
        (ContentOptions(target_file_bytes=1), "target_file_bytes: 1: must be at least"),
    ],
)
def test_a_wrong_choice_leaves_nothing_behind(client, tmp_path, content, said):
    before = tree(tmp_path)
    with pytest.raises(RequestError, match=re.escape(said)):
        client.exports.create(request_of(content), idempotency_key="k")
    assert tree(tmp_path) == before
