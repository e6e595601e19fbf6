"""Frame rates and timecodes: what is meant is understood, and what is none is told."""

from fractions import Fraction

import pytest

from vv_exports.domain.frame_rates import FRAME_RATES, check_timecode, frame_rate_named


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (25, "25"),
        (25.0, "25"),
        ("29.97", "29.97"),
        (29.97, "29.97"),
        (23.98, "23.976"),
        ("23.976023976023978", "23.976"),
        ("24000/1001", "23.976"),
        (" 60 ", "60"),
        (59.94, "59.94"),
        (47.95, "47.952"),
    ],
)
def test_a_rate_is_known_however_it_is_written(given, rate):
    assert frame_rate_named(given) == rate


@pytest.mark.parametrize("given", [26, 23.99, 29.98, 0, -25, "nan", "25p", True, None, "1e9", "25/0", "25/00", [25]])
def test_what_is_no_rate_is_refused_with_those_that_there_are(given):
    with pytest.raises(ValueError, match=r"is no frame rate.*choose one of 23\.976, 24, 25"):
        frame_rate_named(given)


def test_rates_are_exact():
    assert FRAME_RATES["59.94"] == Fraction(60_000, 1001)
    assert all(float(rate) == pytest.approx(float(name), abs=0.001) for name, rate in FRAME_RATES.items())


@pytest.mark.parametrize(
    ("timecode", "rate"),
    [
        ("00:00:00:00", "25"),
        ("23:59:59:24", "25"),
        ("00:01:00:00", "29.97"),
        ("00:01:00;02", "29.97"),
        ("00:10:00;00", "29.97"),
        ("00:01:00;04", "59.94"),
    ],
)
def test_a_video_may_begin_at_any_frame(timecode, rate):
    check_timecode(timecode, rate)


@pytest.mark.parametrize(
    ("timecode", "rate", "problem"),
    [
        ("1:00:00:00", "25", "is no timecode: write HH:MM:SS:FF"),
        ("24:00:00:00", "25", "is no timecode"),
        ("00:60:00:00", "25", "is no timecode"),
        ("00:00:00:00\n", "25", "is no timecode"),
        ("٠٠:00:00:00", "25", "is no timecode"),
        ("00:00:00:25", "25", "has frame 25: at 25 a second has those from 00 to 24"),
        ("00:00:00;00", "30", "is drop-frame .*, which 29.97 and 59.94 have and 30 has not"),
        ("00:01:00;01", "29.97", "leaves out 2 numbers at the beginning of this minute"),
        ("00:59:00;03", "59.94", "leaves out 4 numbers"),
    ],
)
def test_what_is_no_frame_is_refused(timecode, rate, problem):
    with pytest.raises(ValueError, match=problem):
        check_timecode(timecode, rate)
