"""Instants: RFC 3339 text, whole microseconds, UTC."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.snapshots.instants import instant_text, parse_instant


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01 00:00", 0),
        ("1970-01-01T01:00:00.1234560000+0100", 123_456),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
    ],
)
def test_an_instant_is_microseconds_since_1970(text, microseconds):
    assert parse_instant(text) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1970-01-01",
        "1970-02-30T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:00:60Z",
        "1970-01-01T00:00:00.1234567Z",
        "1970-01-01T00:00:00+24:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "1970-01-01T00:00:00Z\n",
        "１970-01-01T00:00:00Z",
    ],
)
def test_what_is_no_instant_of_whole_microseconds_is_none(text):
    assert parse_instant(text) is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_survives_its_text(moment):
    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_instant(instant_text(moment)) == since_1970 // timedelta(microseconds=1)
