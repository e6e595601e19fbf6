"""Nothing that a store says gives a secret away, or is long, or moves the cursor."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.domain.redaction import holds_link, quoted, without_link_secrets

TOLD = "c2VjcmV0/9+x=="


@pytest.mark.parametrize(
    "text",
    [
        f"X-Amz-Security-Token: {TOLD}",
        f"x-amz-security-token={TOLD}",
        f'{{"X-Amz-Security-Token": "{TOLD}"}}',
        f"{{'X-Amz-Security-Token': b'{TOLD}'}}",
        f"[('X-Amz-Security-Token', '{TOLD}')]",
        f"[(b'X-Amz-Security-Token', b'{TOLD}')]",
        f'{{"name": "X-Amz-Security-Token", "value": "{TOLD}"}}',
        f"<X-Amz-Security-Token>{TOLD}</X-Amz-Security-Token>",
        f'<header name="x-amz-security-token">{TOLD}</header>',
        f"GET /b/k?X-Amz-Signature={TOLD}&X-Amz-Date=1",
        f"/b/k?a=1&X-Amz-Security-Token={TOLD}",
        f"/b/k?X-Amz-Credential={TOLD}",
        f"https://store.test/b/k?anything={TOLD}",
        f"https://user:{TOLD.replace('/', '')}@store.test/b",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/r/s3, SignedHeaders=host, Signature={TOLD}",
        f"Authorization: AWS AKIAIOSFODNN7EXAMPLE:{TOLD}",
        f"Authorization: Basic {TOLD}",
        f"authorization=Bearer {TOLD}",
        f"Proxy-Authorization: Basic {TOLD}",
        f"Cookie: session={TOLD}; a={TOLD}",
        f"Bearer {TOLD}",
        f"SharedKey account:{TOLD}",
        f"AccountKey={TOLD};",
        f"se=2026&sig={TOLD}&sp=r",
        f"SecretAccessKey: {TOLD}",
        f"aws_secret_access_key = {TOLD}",
        f"X-Amz-Security-Token%3D{TOLD}",
        f"upload_id={TOLD}",
        f"x-goog-signature: {TOLD}",
        f"password={TOLD}",
        f"a header of {TOLD[:11] * 10}",
        f"X-Amz-Security-Token: {TOLD}\r\n {TOLD}\r\n\t{TOLD}",
        f"&lt;X-Amz-Security-Token&gt;{TOLD}&lt;/X-Amz-Security-Token&gt;",
        f"&quot;X-Amz-Security-Token&quot;: &quot;{TOLD}&quot;",
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text):
    said = quoted(f"It was: {text}\nNext: line")
    assert said.startswith("It was: ")
    assert "c2VjcmV0" not in said
    assert "***" in said


@pytest.mark.parametrize(
    "text",
    [
        "The request signature we calculated does not match the signature you provided. Check your key.",
        "The AWS Access Key Id you provided does not exist in our records: AKIAIOSFODNN7EXAMPLE",
        "The specified key does not exist: segments/prompt_id=p/prompt_run_id=r/part-00000-0123456789abcdef.csv",
        "Your previous request to create the named bucket succeeded, and you already own it.",
        "The bearer of bad news: basic authentication is not supported.",
        "part 3 has 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_people_need_is_shown(text):
    assert quoted(text) == text


@given(st.text(max_size=1000), st.text(min_size=6, max_size=60))
def test_it_is_short_in_one_line_and_without_the_secret(text, secret):
    said = quoted(f"{text} {secret} {text}", [secret])
    assert len(said) <= 300
    assert said.isprintable()


@pytest.mark.parametrize("secret", ["minioadmin", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"])
def test_a_known_secret_is_not_shown_wherever_it_stands_and_however_much_of_it(secret):
    for told in (secret, secret[: max(10, len(secret) // 2)], secret.replace("/", "%2F")):
        assert quoted(f"odd({told})", [secret]) in {"odd(***)", "odd(***"}


SESSION = "FwoGZXIvYXdzE/+" + "BQ+/c3/9xY=" * 40


@pytest.mark.parametrize(
    "told",
    [
        "\r\n".join(SESSION[start : start + 60] for start in range(0, len(SESSION), 60)),
        "\\n    ".join(SESSION[start : start + 7] for start in range(0, len(SESSION), 7)),
        quote(SESSION),
        quote(SESSION, safe="").lower().replace("fwogzxivyxdze", "FwoGZXIvYXdzE"),
        quote(quote(SESSION, safe="")),
        "".join(f"&#{ord(one)};" for one in SESSION),
        "".join(f"&#x{ord(one):X};" for one in SESSION),
        SESSION.replace("+", "&#43;").replace("/", "&#x2F;"),
        SESSION.replace("/", "\\/"),
        SESSION.replace("+", "\\u002B").replace("=", "\\u003d"),
    ],
)
def test_a_known_secret_is_not_shown_in_lines_or_encoded(told):
    said = quoted(f"odd header {told}", [SESSION])
    assert said.startswith("odd header ***")
    assert not any(part in said for part in ("BQ", "c3", "9xY"))


@pytest.mark.parametrize("unit", ["x-", "x-a", "http://", "signature", '"\\"', "&#", "A", "\n "])
def test_a_page_of_megabytes_is_looked_at_in_no_time(unit):
    assert len(quoted(unit * 1_000_000, ["AAAAAAAAAAAAAAAAA"])) <= 300


def test_control_characters_are_shown_and_do_nothing():
    assert quoted("a\x1b[31mb\x00c\u202ed\r\ne\x85f\ud800") == "a\\x1b[31mb\\x00c\\u202ed e f\\ud800"


def test_it_can_be_quoted_twice():
    said = quoted("word " * 100)
    assert quoted(said) == said
    assert said.endswith("…")


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
    left = quoted(text, ["my own odd secret"])
    assert "***" in left
    for secret in (KEY, "my own odd secret", "eyJhbGci", "abcdefghijklmnop", "hush"):
        assert secret not in left


def test_a_message_is_one_line_of_bounded_length():
    assert quoted("a\n\tb\r\nc") == "a b c"
    assert len(quoted("word " * 1000)) <= 300


def test_a_link_is_found_wherever_it_stands_in_a_value():
    assert holds_link({"a": [1, {"b": "x https://y"}]})
    assert holds_link("HTTPS://Y")
    assert not holds_link({"a": ["gs://b/c", 1, None, True, "http"]})
