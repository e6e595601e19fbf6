"""The picture of a collection: how many rows that are there came when."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import svg

from vv_exports.delivery.overview import CollectedRun
from vv_exports.pictures.drawing import BLUE, LINE, WIDTH, grid, picture, round_step, text
from vv_exports.printable import counted

_LEFT, _RIGHT = 70, WIDTH - 20
_TOP, _BOTTOM = 30, 150
_BARS = 60
_LEAST = timedelta(hours=1)  # a single delivery has no duration


def deliveries_picture(runs: Sequence[CollectedRun], now: datetime) -> str:
    """An SVG document of a few kB. ``runs`` is not empty."""
    first = min(run.delivered_at for run in runs)
    last = max(now, *(run.delivered_at for run in runs))  # another machine's clock may be ahead
    duration = max(last - first, _LEAST)
    rows, there = [0] * _BARS, [0] * _BARS
    for run in runs:
        bar = min(_BARS - 1, int((run.delivered_at - first) / duration * _BARS))
        rows[bar] += sum(run.rows.values())
        there[bar] += 1
    most = max(*rows, 1)
    step = round_step(most, 4)
    height = (_BOTTOM - _TOP) / (step * -(-most // step))
    width = (_RIGHT - _LEFT) / _BARS
    total = f"{counted(len(runs), 'prompt run')}, {counted(sum(rows), 'row')}, by when they were delivered (UTC)"
    elements: list[svg.Element] = [text(10, 16, total, most=100)]
    for number in range(int(-(-most // step)) + 1):
        y = _BOTTOM - number * step * height
        elements.append(svg.Line(x1=_LEFT, x2=_RIGHT, y1=round(y, 1), y2=round(y, 1), stroke=LINE))
        elements.append(text(_LEFT - 6, y + 4, f"{number * step:,.0f}", most=12, anchor="end"))
    elements += [
        svg.Rect(
            x=round(_LEFT + number * width + 0.5, 1),
            y=round(_BOTTOM - max(1.0, count * height), 1),
            width=round(width - 1, 1),
            height=round(max(1.0, count * height), 1),
            fill=BLUE,
        )
        for number, count in enumerate(rows)
        if there[number]
    ]
    elements.append(grid([_LEFT, _RIGHT], _BOTTOM, _BOTTOM + 4))
    elements.append(text(_LEFT, _BOTTOM + 18, f"{first:%Y-%m-%d %H:%M}", most=20))
    elements.append(text(_RIGHT, _BOTTOM + 18, f"{first + duration:%Y-%m-%d %H:%M}", most=20, anchor="end"))
    return picture(_BOTTOM + 28, elements)
