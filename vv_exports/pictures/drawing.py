"""What all pictures have in common. Their library writes texts as they are, so they are made fit for XML here."""

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape

import svg

WIDTH = 760
ROW = 20
BLUE, RED, INK, LINE, PAPER = "#4f43dd", "#d24235", "#3d4150", "#dcdfe6", "#ffffff"
_FONT = "system-ui, sans-serif"
_STEPS = (1, 2, 5)
_CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def picture(height: int, elements: Sequence[svg.Element]) -> str:
    """An SVG document on paper of its own, so that it is seen on dark pages too."""
    paper = svg.Rect(width=WIDTH, height=height, rx=4, fill=PAPER)
    view = svg.ViewBoxSpec(0, 0, WIDTH, height)
    return str(svg.SVG(width=WIDTH, height=height, viewBox=view, elements=[paper, *elements]))


def text(x: float, y: float, words: str, *, most: int, anchor: str = "start", colour: str = INK) -> svg.Text:
    """A line of text, cut to so many characters."""
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return svg.Text(
        x=x, y=y, text=escape(shown), font_size=11, font_family=_FONT, fill=colour,
        text_anchor="end" if anchor == "end" else "middle" if anchor == "middle" else "start",
    )  # fmt: skip


def bars(spans: Sequence[tuple[int, int]], y: float, height: float, colour: str) -> svg.Path:
    """Horizontal bars of one row, from and to these points, as one path: thousands of elements would be large."""
    drawn: list[svg.PathData] = []
    for begin, end in spans:
        drawn += [svg.M(begin, y), svg.h(end - begin)]
    return svg.Path(d=drawn, stroke=colour, stroke_width=height)


def grid(xs: Sequence[float], top: float, bottom: float) -> svg.Path:
    """Vertical lines."""
    drawn: list[svg.PathData] = []
    for x in xs:
        drawn += [svg.M(round(x, 1), top), svg.v(bottom - top)]
    return svg.Path(d=drawn, stroke=LINE, stroke_width=1)


def clock_ticks(end: float, most: int) -> Iterator[tuple[float, str]]:
    """Places on an axis of seconds, and what to call them."""
    step = next((one for one in _CLOCK_STEPS if end / one <= most), 86400 * math.ceil(end / 86400 / most))
    for number in range(int(end // step) + 1):
        yield number * step, clock(number * step)


def clock(seconds: float) -> str:
    """``1:02:05``, ``2:05``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def round_step(end: float, most: int) -> float:
    """The distance of ticks on an axis of numbers that has at most so many."""
    if end <= 0:
        return 1
    size = 10.0 ** math.floor(math.log10(end / most))
    return next(step * size for step in (*_STEPS, 10) if end / (step * size) <= most)


def data_uri(document: str) -> str:
    """An SVG document as the address of an image."""
    return f"data:image/svg+xml;base64,{b64encode(document.encode()).decode()}"
