"""What stands in the place of redacted values: a mask, or a keyed hash. Equal values get equal hashes, in every format,
run and place."""

import hashlib
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

from vv_exports.content.rules import Action
from vv_exports.domain.json_text import decode, encode_sorted

MASKED = "***"
_FLOAT_OR_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?')
_FRACTION = re.compile(rb"[.eE]")
_BLOCK = 64
_MOST_REMEMBERED = 10_000
_LONGEST_REMEMBERED = 200
_MAX_DIGITS = 4300
"""Longer integers have an exponent: a text of a billion zeros would be no use to anybody."""


class Replacements:
    """The texts for hashed and masked values. ``key`` may be None where nothing is hashed."""

    def __init__(self, key: bytes | None) -> None:
        # Names and categories come again and again.
        self._remembered = lru_cache(_MOST_REMEMBERED)(self._hashed)
        if key is None:
            self._keyed = None
            return
        # HMAC (RFC 2104) with its two keyed states made once: hmac.digest makes them for each value, at three times the
        # cost.
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
        self._keyed = inner, outer

    def of_value(self, value: Any, action: Action) -> str:
        """That of a decoded JSON value, which is not null."""
        return MASKED if action is Action.MASK else self.of_text(encode_sorted(value), action)

    def of_text(self, text: bytes, action: Action) -> str:
        """That of a value whose names are sorted in this compact JSON text. The text ``5`` is not the number 5."""
        if action is Action.MASK:
            return MASKED
        return self._remembered(text) if len(text) <= _LONGEST_REMEMBERED else self._hashed(text)

    def _hashed(self, text: bytes) -> str:
        if self._keyed is None:
            raise ValueError("there is no key to hash with")
        inner, outer = self._keyed[0].copy(), self._keyed[1].copy()
        inner.update(canonical_text(text))
        outer.update(inner.digest())
        return outer.hexdigest()


def canonical_text(text: bytes) -> bytes:
    """JSON text in which 5, 5.0 and 5e0 are one number."""
    if text.startswith(b'"') or (len(text) <= _MAX_DIGITS and not _FRACTION.search(text)):
        return text
    return _FLOAT_OR_STRING.sub(_canonical, text)


def _canonical(found: re.Match[bytes]) -> bytes:
    token = found.group()
    if token.startswith(b'"') or not (_FRACTION.search(token) or len(token) > _MAX_DIGITS):
        return token
    number = decode(token)
    if isinstance(number, float):
        return str(int(number)).encode() if number.is_integer() else token
    return _decimal_text(number) if isinstance(number, Decimal) else str(number).encode()


def _decimal_text(number: Decimal) -> bytes:
    sign, digits, exponent = number.as_tuple()
    all_digits = "".join(map(str, digits)).lstrip("0")
    significant = all_digits.rstrip("0")
    if not significant:
        return b"0"
    power = int(exponent) + len(all_digits) - len(significant)
    minus = "-" if sign else ""
    if power >= 0 and len(significant) + power <= _MAX_DIGITS:
        return f"{minus}{significant}{'0' * power}".encode()
    return f"{minus}{significant}e{power}".encode()
