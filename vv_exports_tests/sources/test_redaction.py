"""Keys and what opens a link are taken out of texts, and nothing else is."""

import pytest

from vv_exports.sources.redaction import holds_link, redacted, without_link_secrets

KEY = "sk_live_" + "0123456789abcdef" * 3


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see https://media.test/a.mp4?token=abc&x=1 there", "see https://media.test/a.mp4?*** there"),
        ("HTTP://media.test/a#access_token=abc", "HTTP://media.test/a?***"),
        ('{"url":"https://s3.test/k?X-Amz-Signature=abc"}', '{"url":"https://s3.test/k?***"}'),
        ("https://user:secret@host.test/a", "https://***@host.test/a"),
        ("https://one.test/?a=1,https://two.test/?b=2", "https://one.test/?***"),
    ],
)
def test_a_web_link_is_cut_where_its_query_begins(text, left):
    assert without_link_secrets(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/a#1?b.mp4",
        "https://media.test/a.mp4",
        "why? because #1",
        "a?token=b",
        "s3://bucket/key?x",
        "",
        "日本?",
    ],
)
def test_what_is_no_web_link_with_a_query_stays(text):
    assert without_link_secrets(text) == text


def test_many_links_in_a_row_are_looked_through_once():
    text = "http://" * 500_000
    assert without_link_secrets(text) == text
    assert without_link_secrets(f"{text}?a") == f"{text}?***"


@pytest.mark.parametrize(
    "text",
    [
        f"Invalid API key {KEY}",
        f"key={KEY}!",
        "my own odd secret is refused",
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abcdefghijklmnop==",
        "token=abcdefghijklmnopqrstuvwxyz",
        "GET https://x.test/?key=hush",
    ],
)
def test_a_message_keeps_no_secret(text):
    left = redacted(text, "my own odd secret")
    assert "***" in left
    for secret in (KEY, "my own odd secret", "eyJhbGci", "abcdefghijklmnop", "hush"):
        assert secret not in left


def test_a_message_is_one_line_of_bounded_length():
    assert redacted("a\n\tb\r\nc") == "a b c"
    assert len(redacted("word " * 1000)) < 500


def test_a_link_is_found_wherever_it_stands_in_a_value():
    assert holds_link({"a": [1, {"b": "x https://y"}]})
    assert holds_link("HTTPS://Y")
    assert not holds_link({"a": ["gs://b/c", 1, None, True, "http"]})
