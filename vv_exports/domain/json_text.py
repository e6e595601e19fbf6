"""JSON text to Python values and back, with no digit lost. It knows nothing of what the documents mean.

A decoded value is a dict, list, str, bool, None, int (any size), float, or Decimal: the last where no double
prints as the number that was written, as in ``0.12345678901234567890123`` or ``1e400``. Encoding takes these
types and no others; NaN and the infinities are not JSON.
"""

import codecs
import json
import re
from array import array
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from io import BytesIO
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

import msgspec

_Decoded = TypeVar("_Decoded")


class JsonLineError(ValueError):
    """A line that is not JSON. ``line_index`` counts from 0."""

    def __init__(self, line_index: int, reason: str) -> None:
        self.line_index = line_index
        self.reason = reason
        super().__init__(f"line {line_index + 1} is not JSON: {reason}")


class NestedTooDeepError(ValueError):
    """JSON whose arrays or objects are nested deeper than can be read."""

    def __init__(self) -> None:
        super().__init__("arrays or objects are nested too deep to be read")


def decode(data: bytes | bytearray) -> Any:
    """The value of one JSON text in UTF-8. Raises ValueError, NestedTooDeepError being one."""
    try:
        return _DECODER.decode(data)
    except RecursionError:
        raise NestedTooDeepError from None
    except ValueError:
        return _decode_like_the_standard_library(data)


def decode_each(lines: Sequence[bytes]) -> list[Any]:
    """The value of each line. Raises JsonLineError."""
    try:
        # Not msgspec's decode_lines: it accepts two values in a line and a value over two lines, so that
        # nobody could say afterwards in which line a value stood.
        return list(map(_DECODER.decode, lines))
    except (ValueError, RecursionError):
        return _decode_one_by_one(lines)


def with_room_to_encode(decode_some: Callable[[], _Decoded], frames: int = 120) -> _Decoded:
    """What a call gives that is made so many frames deeper. How deep arrays and objects may be nested is limited by the
    stack: what was decoded there is encoded wherever that is not as deep, also below columns in columns."""
    return with_room_to_encode(decode_some, frames - 1) if frames else decode_some()


def count_values(data: bytes, most: int) -> int:
    """How many values (objects, arrays, strings, numbers, …) a JSON text holds, where that is over ``most``; else 0.

    One with a name counts as three: that is what it costs to hold.
    """
    if len(data) < most:  # {"":{"":… has five bytes for three
        return 0
    values = 1 + _begun(data)
    if values > most:  # a few of them may stand in strings, or nearly all
        values -= sum(_begun(text.group()) for text in _STRING.finditer(data))
    return values if values > most else 0


def nests_deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than so many levels."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def encode_text(value: Any) -> str:
    """Compact JSON of a decoded value, names in their own order. Raises ValueError if nested too deep."""
    return _encode(value, _ENCODER).decode()


def encode_line(value: Any) -> bytes:
    """The same in UTF-8. Members are as they were written."""
    return _encode(value, _ENCODER)


def encode_sorted(value: Any) -> bytes:
    """Compact JSON of a decoded value with the names of every object sorted: equal objects, equal bytes.

    Numbers keep their type: ``5`` and ``5.0`` differ. Raises ValueError if nested too deep.
    """
    return _encode(value, _SORTED_ENCODER)


def encode_each_sorted(values: Sequence[Any]) -> list[bytes]:
    """``encode_sorted`` of every value."""
    try:
        return list(map(_SORTED_ENCODER.encode, values))
    except (UnicodeEncodeError, RecursionError):
        return list(map(encode_sorted, values))


def encode_each_of_structs(values: Sequence[Any]) -> "tuple[bytes, array[int]]":
    """``encode_sorted`` of values whose objects are msgspec Structs with fields in the order of their names, or dicts:
    one text after the other, and where each of them begins and the last one ends, in bytes."""
    if len(values) == 1:  # it may be large, and is not copied
        text = _STRUCT_ENCODER.encode(values[0])
        return text, array("i", [0, len(text)])
    lines = _STRUCT_ENCODER.encode_lines(values)
    # A line feed in a text is written as an escape.
    ends = accumulate((len(line) - 1 for line in BytesIO(lines).readlines()), initial=0)
    return lines.replace(b"\n", b""), array("i", ends)


Members = dict[str, msgspec.Raw]
"""An object of which only the names are decoded: each value is JSON text, as it was written, without line breaks."""


def decode_outside(data: bytes | bytearray, decoder: "msgspec.json.Decoder[_Decoded]") -> _Decoded:
    """What a decoder takes in whose type some values are left as they are written, as ``Members``. Raises ValueError
    where that cannot be told to be what ``decode`` would give: it is to decide then.

    What is left may still be refused when it is decoded: for its depth, or for a number that nobody can read.
    """
    if 0 <= data.find(b"\n") < len(data) - 1:
        raise ValueError("there may be line breaks in a value")
    check = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _AT_A_TIME):
        check.decode(bytes(data[start : start + _AT_A_TIME]))
    check.decode(b"", final=True)
    try:
        return decoder.decode(data)
    except RecursionError:
        raise NestedTooDeepError from None


def members_in(data: bytes | bytearray) -> Members:
    """The members of the object that a JSON text is. Raises ValueError as ``decode_outside`` does."""
    return decode_outside(data, _MEMBERS_DECODER)


def members_of(value: dict[str, Any]) -> Members:
    """A decoded object's members. Raises ValueError if nested too deep."""
    return {name: msgspec.Raw(encode_line(one)) for name, one in value.items()}


def decode_member(text: msgspec.Raw) -> Any:
    """What a member is. Raises ValueError."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return decode(bytes(text))


def typed_decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    """A decoder of values of one type. Numbers are exact where the type leaves them open; where it does not, they are
    as long as ``has_unusual_numbers`` says so."""
    return msgspec.json.Decoder(kind, float_hook=_exact_number)


def has_unusual_numbers(text: bytes) -> bool:
    """Whether there may be a number that no double tells exactly: of 16 or more digits, or near zero beyond what
    doubles hold. One that is too large is refused by the decoder."""
    if len(text) > _AT_A_TIME:
        windows = range(0, len(text), _AT_A_TIME - _OVERLAP)
        return any(has_unusual_numbers(text[start : start + _AT_A_TIME]) for start in windows)
    # Every fourth character tells: any 16 in a row hold four neighbours of these.
    sample = text[3::4].translate(_DIGITS)
    end = 0
    while (begin := sample.find(b"0000", end)) >= 0:
        end = sample.find(b"x", begin)
        end = len(sample) if end < 0 else end
        if _LONG_NUMBER.search(text, max(0, 4 * begin - 16), 4 * end + 36):
            return True
    # Only after a dash: to look for two characters takes as long as to decode the text, and a split half of that.
    parts = BytesIO(text.replace(b"-", b"\n")).readlines()
    before = b"".join(map(_BEFORE_A_DASH, parts))
    if b"e" not in before and b"E" not in before:
        return False
    return any(_SMALL.fullmatch(part[-3:-1] + after[:3]) for part, after in pairwise(parts))


def _begun(text: bytes) -> int:
    """How many values a comma or a bracket comes before, and two more for each name."""
    return sum(map(text.count, _BEFORE_A_VALUE)) - sum(map(text.count, _EMPTY)) + 2 * text.count(b":")


def _decode_one_by_one(lines: Sequence[bytes]) -> list[Any]:
    values = []
    for index, line in enumerate(lines):
        try:
            values.append(decode(line))
        except ValueError as error:
            raise JsonLineError(index, str(error)) from error
    return values


def _decode_like_the_standard_library(data: bytes | bytearray) -> Any:
    """The json module reads what msgspec refuses though it is JSON: lone surrogates, very long integers."""
    try:
        return _STANDARD_DECODER.decode(data.decode())
    except RecursionError:
        raise NestedTooDeepError from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos + 1}") from error


def _exact_number(text: str) -> float | Decimal:
    value = float(text)
    # Up to 15 digits in the normal range: the shortest text of the double is always the same number.
    if len(text) <= _DIGITS_OF_A_DOUBLE + 1 and 1e-300 < abs(value) < 1e300:  # noqa: PLR2004
        return value
    shortest = _ENCODER.encode(value)
    if shortest == text.encode():
        return value
    try:
        number = Decimal(text)
    except InvalidOperation:
        if not text.lower().partition("e")[0].strip("-0."):  # whatever power, it is zero
            return value
        raise ValueError(f"the number {text[:40]} has an exponent too large to be read") from None
    if Decimal(repr(value)) == number:
        return value
    # Else it would be written again as an integer.
    return number if number.as_tuple().exponent else Decimal(f"{number}.0")


def _exact_integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:  # Python converts at most 4300 digits
        return Decimal(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _encode(value: Any, encoder: msgspec.json.Encoder) -> bytes:
    try:
        try:
            return encoder.encode(value)
        except UnicodeEncodeError:
            return _encode_escaped(value, encoder is _SORTED_ENCODER).encode()
    except RecursionError:
        raise ValueError("arrays or objects are nested too deep to be written as JSON") from None


def _encode_escaped(value: Any, in_order: bool) -> str:
    """JSON in ASCII: a lone surrogate has an escape in JSON, but no UTF-8."""
    match value:
        case str():
            return json.dumps(value)
        case list():
            return "[" + ",".join(_encode_escaped(item, in_order) for item in value) + "]"
        case dict():
            names = sorted(value) if in_order else value
            members = (f"{json.dumps(name)}:{_encode_escaped(value[name], in_order)}" for name in names)
            return "{" + ",".join(members) + "}"
        case _:
            return _ENCODER.encode(value).decode()


_BEFORE_A_VALUE = (b",", b"[", b"{")
_EMPTY = (b"[]", b"{}")
# One without an end goes to the end of the text: it is not looked for again at each quote in it.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_DIGITS_OF_A_DOUBLE = 15
_DECODER = msgspec.json.Decoder(float_hook=_exact_number)
_MEMBERS_DECODER = msgspec.json.Decoder(Members)
_STANDARD_DECODER = json.JSONDecoder(
    parse_float=_exact_number, parse_int=_exact_integer, parse_constant=_refuse_constant
)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_SORTED_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")
_STRUCT_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_DIGITS = bytes(ord("0") if chr(character) in "0123456789." else ord("x") for character in range(256))
_LONG_NUMBER = re.compile(rb"[:,\[\s]-?[0-9.]{16}")
_BEFORE_A_DASH = itemgetter(slice(-2, -1))
_AT_A_TIME = 1 << 20
_OVERLAP = 64
_SMALL = re.compile(rb"[0-9.][eE][0-9]{3}")
