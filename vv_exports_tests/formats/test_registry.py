"""Formats by name."""

import pytest

from vv_exports.errors import RequestError
from vv_exports.formats.registry import FORMATS, format_named


def test_every_format_is_found_under_its_own_name():
    assert [format_named(name).name for name in FORMATS] == ["parquet", "jsonl", "csv", "json"]


def test_no_two_formats_share_a_suffix():
    assert len({fmt.suffix for fmt in FORMATS.values()}) == len(FORMATS)


def test_an_unknown_format_is_refused_with_those_that_exist():
    with pytest.raises(RequestError, match="no format 'xml': choose one of parquet, jsonl, csv, json"):
        format_named("xml")
