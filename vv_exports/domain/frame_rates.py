"""Frame rates that have a timecode (SMPTE ST 12), as exact fractions, and what a timecode at one of them may be."""

import re
from collections.abc import Mapping
from fractions import Fraction

FRAME_RATES: Mapping[str, Fraction] = {
    "23.976": Fraction(24_000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30_000, 1001),
    "30": Fraction(30),
    "47.952": Fraction(48_000, 1001),
    "48": Fraction(48),
    "50": Fraction(50),
    "59.94": Fraction(60_000, 1001),
    "60": Fraction(60),
}
"""Frames in a second, by the name that people know: what is a little below a whole number is 1000/1001 of it."""

DROP_FRAME = frozenset({"29.97", "59.94"})
"""The rates that have drop-frame timecode."""

_TIMECODE = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)([:;])(\d\d)", re.ASCII)
_ALLOWED = ", ".join(FRAME_RATES)
_CLOSE = Fraction(1, 200)
_RATE = re.compile(r"\d{1,6}(\.\d{1,20}|/\d{1,6})?", re.ASCII)


def frame_rate_named(value: object) -> str:
    """The name of a frame rate, given as that, as a number or as a fraction: 25, ``29.97``, ``30000/1001``, ``23.98``.

    Raises ValueError for what is none.
    """
    text = str(value).strip()
    if not _RATE.fullmatch(text) or not int(text.partition("/")[2] or 1):
        raise ValueError(f"is no frame rate: choose one of {_ALLOWED}")
    given = Fraction(text)
    # ``23.98`` is meant for 24000/1001, and so is ``23.976024``; 23.99 is neither that nor 24.
    for name, rate in FRAME_RATES.items():
        if given == rate or (rate.denominator > 1 and abs(given - rate) < _CLOSE and given < round(rate)):
            return name
    raise ValueError(f"is no frame rate that has a timecode: choose one of {_ALLOWED}")


def is_drop_frame(timecode: str) -> bool:
    """Whether a timecode is written as drop-frame."""
    return ";" in timecode


def check_timecode(timecode: str, rate: str) -> None:
    """Raise ValueError where a video of this rate cannot begin at this timecode."""
    found = _TIMECODE.fullmatch(timecode)
    if found is None:
        raise ValueError("is no timecode: write HH:MM:SS:FF, such as 01:00:00:00, or HH:MM:SS;FF for drop-frame")
    minutes, seconds, frames = int(found[2]), int(found[3]), int(found[5])
    in_a_second = round(FRAME_RATES[rate])
    if frames >= in_a_second:
        raise ValueError(f"has frame {frames}: at {rate} a second has those from 00 to {in_a_second - 1}")
    if found[4] == ":":
        return
    if rate not in DROP_FRAME:
        raise ValueError(f"is drop-frame (;), which {' and '.join(sorted(DROP_FRAME))} have and {rate} has not")
    dropped = in_a_second // 15
    if minutes % 10 and not seconds and frames < dropped:
        raise ValueError(f"is no frame: drop-frame leaves out {dropped} numbers at the beginning of this minute")
