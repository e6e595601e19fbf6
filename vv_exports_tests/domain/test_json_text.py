"""JSON text and values: no digit is lost, nothing that is not JSON is read, a line is named by its number."""

import json
import math
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vv_exports.domain.json_text import (
    JsonLineError,
    decode,
    decode_each,
    encode_each_of_structs,
    encode_each_sorted,
    encode_sorted,
    encode_text,
    has_unusual_numbers,
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


@given(_NUMBER_TEXTS.filter(lambda text: not text.removeprefix("-").isdigit()))
@example("1.234567890123456789012e21")
@example("-9007199254740993e0")
def test_what_is_written_with_a_fraction_or_a_power_is_not_written_again_as_an_integer(text):
    """A Decimal whose power eats up its fraction has the text of an integer."""
    again = encode_text(decode(text.encode()))
    assert Decimal(again) == Decimal(text)
    assert not again.removeprefix("-").isdigit()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.50", 1.5),
        ("0e99999999999999999999", 0.0),
        ("-0.00E-99999999999999999999", -0.0),
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
        b"-0.01e-99999999999999999999",
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


@pytest.mark.slow
@given(st.dictionaries(_TEXTS, _VALUES))
def test_the_order_of_names_does_not_change_the_sorted_text(value):
    assert encode_sorted(dict(reversed(value.items()))) == encode_sorted(value)


@pytest.mark.parametrize(
    ("lines", "index", "reason"),
    [
        ([b"{}", b'{"a":NaN}', b"{}"], 1, "NaN is not JSON"),
        ([b"{}", b"{}{}"], 1, "Extra data at character 3"),
        ([b'{"a":1} {"b":2}'], 0, "Extra data at character 9"),
        ([b'{"a":', b"1}", b"{} {}"], 0, "Expecting value at character 6"),
        ([b"{}", b"\xff"], 1, "invalid start byte"),
    ],
)
def test_a_line_that_is_not_one_json_value_is_named(lines, index, reason):
    with pytest.raises(JsonLineError, match=reason) as caught:
        decode_each(lines)
    assert caught.value.line_index == index


@example(number="9007199254740993.0", before=0, sign="")
@example(number="0.30000000000000004", before=1, sign="-")
@example(number="1e-400", before=2, sign="")
@example(number="123456789012345e-339", before=3, sign="-")
@example(number="0.000000000000000000001", before=3, sign="")
@given(number=_NUMBER_TEXTS, before=st.integers(0, 9), sign=st.sampled_from(["", " ", "\t"]))
def test_a_text_without_unusual_numbers_is_decoded_exactly_whatever_is_done_with_floats(number, before, sign):
    """Wherever the number stands: every fourth character of a text is looked at."""
    text = f'{{"{"x" * before}":[1.5,{sign}{number},2]}}'.encode()
    if has_unusual_numbers(text):
        return
    try:
        (values,) = msgspec.json.decode(text, type=dict[str, list[int | float]]).values()
    except msgspec.ValidationError as error:
        assert "out of range" in str(error)  # noqa: PT017
        return
    assert Decimal(repr(values[1])) == Decimal(number)


def test_ids_and_words_are_no_unusual_numbers():
    text = b'{"id":"12345678901234567890","code":"0.12345678901234567","note":"one-time pre-1900 type-1e-5"}\n' * 50
    assert not has_unusual_numbers(text)
    assert has_unusual_numbers(text + b'{"n":12345678901234567.5}\n')


class _Inner(msgspec.Struct, omit_defaults=True):
    a: int | float | None = None
    b: object = msgspec.UNSET


@given(st.lists(st.builds(_Inner, st.sampled_from([None, 5, 5.0, -0.0, 2**70]), _VALUES)))
def test_structs_are_written_as_their_documents_are(values):
    try:
        text, ends = encode_each_of_structs(values)
    except UnicodeEncodeError:  # which a decoder of Structs does not let through
        return
    documents = [({} if one.a is None else {"a": one.a}) | {"b": one.b} for one in values]
    assert [text[start:end] for start, end in pairwise(ends)] == [encode_sorted(document) for document in documents]
    assert ends[-1] == len(text)


def _strict(value):
    """The value with every type told apart: ``True == 1 == 1.0`` in Python, and ``0.0 == -0.0``."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return type(value), repr(value) if isinstance(value, float) else value
