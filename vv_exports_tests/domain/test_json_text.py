"""JSON text and values: no digit is lost, nothing that is not JSON is read, a line is named by its number."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vv_exports.domain.json_text import (
    JsonLineError,
    decode,
    decode_lines,
    encode_each_sorted,
    encode_each_sorted_beside,
    encode_sorted,
    encode_text,
)

_NUMBER_TEXTS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\Z")
_TEXTS = st.text(st.characters() | st.sampled_from("\ud800\udfff"), max_size=8).filter(
    lambda text: json.loads(json.dumps(text)) == text  # a high surrogate before a low one is one character
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.from_regex(r"\A-?[1-9]\.[0-9]{24}[1-9](E-?[1-9]{3})?\Z").map(Decimal)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(_NUMBER_TEXTS)
@example("0.12345678901234567890123")
@example("1e400")
@example("1e-400")
@example("4e-324")
@example("-0.0")
@example("18446744073709551616")
@example("0.10000000000000001")
def test_a_decoded_number_is_the_number_that_was_written(text):
    number = decode(text.encode())
    if isinstance(number, float):
        assert Decimal(repr(number)) == Decimal(text)
        assert math.copysign(1, number) == (-1 if text.startswith("-") else 1)
    else:
        assert number == Decimal(text)
    assert type(number) is not Decimal or Decimal(repr(float(text))) != Decimal(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.50", 1.5),
        ("1E5", 100000.0),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("0.12345678901234567890123", Decimal("0.12345678901234567890123")),
        ("1e400", Decimal("1e400")),
        ("9" * 5000, Decimal("9" * 5000)),
    ],
)
def test_numbers_are_floats_ints_of_any_size_or_decimals(text, value):
    assert decode(text.encode()) == value
    assert type(decode(text.encode())) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b"",
        b"01",
        b"1.",
        b"{} {}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"a\nb"',
        b"1e99999999999999999999",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_in_utf_8_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_nesting_beyond_the_stack_is_a_readable_error():
    with pytest.raises(ValueError, match="nested too deep to be read"):
        decode(b"[" * 100_000 + b"]" * 100_000)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deep to be written"):
        encode_text(deep)


def test_a_lone_surrogate_is_read_and_written_as_its_escape():
    assert decode(b'{"\\ud800":["\\udfff\xc3\xa9",1e400]}') == {"\ud800": ["\udfff\xe9", Decimal("1e400")]}
    assert encode_text({"b": "\ud800", "a": Decimal("1e400")}) == '{"b":"\\ud800","a":1E+400}'
    assert encode_sorted({"b": "\ud800", "a": 1.0}) == b'{"a":1.0,"b":"\\ud800"}'


@given(_VALUES)
def test_every_value_is_read_back_as_it_was_written(value):
    for data in (encode_text(value).encode(), encode_sorted(value), encode_each_sorted([value, 1])[0]):
        assert _strict(decode(data)) == _strict(value)


@given(st.lists(st.tuples(_VALUES, st.sampled_from(["", "ü", "\ud800"])), max_size=4))
def test_a_value_that_is_encoded_beside_its_document_changes_neither(values):
    """Documents are hashed as they are encoded whole; a lone surrogate escapes all of its document."""
    documents = [{"a": other, "metadata": value, "z": 5.0} for value, other in values]
    whole, beside = encode_each_sorted_beside(documents, "metadata")
    assert whole == [encode_sorted(document) for document in documents]
    assert beside == [encode_sorted(value) for value, _ in values]


@pytest.mark.slow
@given(st.dictionaries(_TEXTS, _VALUES))
def test_the_order_of_names_does_not_change_the_sorted_text(value):
    assert encode_sorted(dict(reversed(value.items()))) == encode_sorted(value)


def test_lines_keep_their_numbers_when_blank_lines_are_skipped():
    lines = decode_lines(b'{"a":1}\n\n  \r\n{"a":"\\ud800"}\r\n')
    assert lines.values == [{"a": 1}, {"a": "\ud800"}]
    assert list(lines.indexes) == [0, 3]


@pytest.mark.parametrize("block", [b"", b"\n", b"\n\n"])
def test_a_block_without_values_has_none(block):
    assert decode_lines(block).values == []


@pytest.mark.parametrize(
    ("block", "index", "reason"),
    [
        (b'{}\n\n{"a":NaN}\n{}', 2, "NaN is not JSON"),
        (b"{}\n{}{}\n", 1, "Extra data at character 3"),
        (b'{"a":1} {"b":2}\n\n', 0, "Extra data at character 9"),
        (b'{"a":\n1}\n{} {}\n', 0, "Expecting value at character 6"),
        (b"{}\n\xff\n", 1, "invalid start byte"),
    ],
)
def test_a_line_that_is_not_one_json_value_is_named(block, index, reason):
    with pytest.raises(JsonLineError, match=reason) as caught:
        decode_lines(block)
    assert caught.value.line_index == index


def _strict(value):
    """The value with every type told apart: ``True == 1 == 1.0`` in Python, and ``0.0 == -0.0``."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return type(value), repr(value) if isinstance(value, float) else value
