"""Formats by what is chosen."""

import pytest

from vv_exports.domain.content_options import COMPRESSIONS, FORMAT_NAMES, ContentOptions, FormatOptions
from vv_exports.errors import RequestError
from vv_exports.formats.csv import Csv
from vv_exports.formats.registry import SUFFIXES, format_of


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_every_format_is_found_under_its_own_name(name):
    assert format_of(ContentOptions(FormatOptions(name))).name == name


def test_a_suffix_tells_the_format_and_how_it_is_compressed():
    found = {
        f"{name} {how}": format_of(ContentOptions(FormatOptions(name), compression=how)).suffix
        for name, those in COMPRESSIONS.items()
        for how in those
    }
    assert found == {
        "parquet zstd": ".parquet",
        "parquet snappy": ".parquet",
        "parquet gzip": ".parquet",
        "parquet none": ".parquet",
        "jsonl zstd": ".jsonl.zst",
        "jsonl gzip": ".jsonl.gz",
        "jsonl none": ".jsonl",
        "csv none": ".csv",
        "csv gzip": ".csv.gz",
        "csv zstd": ".csv.zst",
        "json none": ".json",
        "json gzip": ".json.gz",
        "json zstd": ".json.zst",
        "webvtt none": ".vtt",
        "markers none": ".otio",
    }
    assert {*found.values(), ".edl", ".fcpxml"} == SUFFIXES


def test_the_options_of_csv_reach_it():
    chosen = FormatOptions("csv", delimiter=";", excel=True, formulas="keep")
    assert format_of(ContentOptions(chosen, compression="gzip")) == Csv("gzip", ";", True, "keep")


def test_an_unknown_format_is_refused_with_those_that_exist():
    with pytest.raises(RequestError, match="no format 'xml': choose one of parquet, jsonl, csv, json"):
        format_of(ContentOptions(FormatOptions("xml")))


def test_a_compression_that_a_format_has_not_is_refused_with_those_that_it_has():
    with pytest.raises(RequestError, match="'snappy' is none that csv files have: choose one of none, gzip, zstd"):
        format_of(ContentOptions(FormatOptions("csv"), compression="snappy"))
