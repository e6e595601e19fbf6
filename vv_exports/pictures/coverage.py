"""The picture of a prompt run: a line for each medium, blue where segments have results, red where they failed."""

from collections.abc import Iterable

import svg

from vv_exports.content.coverage import Coverage, Medium, Span
from vv_exports.pictures.drawing import BLUE, LINE, RED, ROW, bars, clock, clock_ticks, grid, picture, text
from vv_exports.printable import counted

MOST_MEDIA = 16
_LEFT, _RIGHT = 190, 570
_TOP = 26


def coverage_picture(coverage: Coverage) -> str:
    """An SVG document of some 2 kB, of 100 kB at most."""
    end = max((one.end for one in coverage.media), default=0.0)
    rows = len(coverage.media) + (1 if coverage.others else 0)
    bottom = _TOP + rows * ROW
    scale = (_RIGHT - _LEFT) / end if end > 0 else 0.0
    elements: list[svg.Element] = []
    if end > 0:
        ticks = [(_LEFT + at * scale, words) for at, words in clock_ticks(end, 6)]
        elements.append(grid([x for x, _ in ticks], _TOP - 6, bottom))
        elements += [text(x, 14, words, most=10, anchor="middle") for x, words in ticks]
    for number, medium in enumerate(coverage.media):
        middle = _TOP + number * ROW + ROW / 2
        elements.append(text(10, middle + 4, medium.name or f"medium {number + 1}", most=27))
        elements.append(bars([(_LEFT, _RIGHT)], middle, 1, LINE))
        elements.append(bars(_pixels(medium.covered, scale), middle, 10, BLUE))
        elements.append(bars(_pixels(medium.failed, scale), middle, 10, RED))
        elements.append(text(_RIGHT + 10, middle + 4, _said(medium), most=30))
    if coverage.others:
        elements.append(text(10, bottom - 6, f"and {coverage.others:,} more", most=40))
    return picture(bottom + 8, elements)


def _said(medium: Medium) -> str:
    failed = f", {medium.failures} failed" if medium.failures else ""
    until = f" to {clock(medium.end)}" if medium.end else ""
    return f"{counted(medium.rows, 'segment')}{until}{failed}"


def _pixels(spans: Iterable[Span], scale: float) -> list[tuple[int, int]]:
    """Whole ones, each once."""
    found: list[tuple[int, int]] = []
    for begin, end in spans:
        left = _LEFT + int(begin * scale)
        right = max(left + 1, _LEFT + round(end * scale))
        if found and left <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], right)
        else:
            found.append((left, right))
    return found
