"""What is made of the segments of one video: cues of a player, markers of an editor. Knows no format of these."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pyarrow as pa

from vv_exports.domain.content_options import VideoTiming
from vv_exports.domain.frame_rates import FRAME_RATES
from vv_exports.errors import SourceDataError

_IMPOSSIBLE = re.compile("[\x00\ud800-\udfff]")

CUES = pa.schema(
    [
        ("segment_id", pa.string()),
        ("start_time", pa.float64()),
        ("end_time", pa.float64()),
        ("text", pa.string()),
        ("note", pa.string()),
        ("document", pa.string()),
    ]
)
"""The columns of files of one video, a row for each segment, in the order of their beginnings. Times are seconds from
the video's beginning; ``text`` and ``note`` are what people read; ``document`` is the result as JSON text. Files hold
what their format has a place for."""


@dataclass(frozen=True)
class Video:
    """The video that a file is of. ``name`` is None where it has none, or that is not delivered. ``run`` are the ids of
    the prompt run that its segments are of."""

    video_id: str
    name: str | None = None
    run: Mapping[str, str] | None = None
    timing: VideoTiming = field(default_factory=VideoTiming)

    @property
    def title(self) -> str:
        """What people call it, in one line."""
        return one_line_of(self.name or "") or one_line_of(self.video_id)

    @property
    def stated(self) -> dict[str, Any]:
        """What a file says of it. It has the id, so that files of two videos are never the same."""
        named = {} if self.name is None else {"video_name": self.name}
        return {"video_id": self.video_id, **named, **(self.run or {})}


@dataclass(frozen=True)
class Cue:
    """A segment on the line of time, as exact as its seconds were written."""

    segment_id: str
    start: Fraction
    end: Fraction
    text: str
    note: str
    document: str

    @property
    def name(self) -> str:
        """What a marker is called, in one line: what it shows, or the segment's id."""
        return one_line_of(self.text) or one_line_of(self.segment_id)


def cues_of(rows: pa.RecordBatch) -> Iterator[Cue]:
    """Rows of CUES. Where a segment says no end, or one before its beginning, that is its beginning. Raises
    SourceDataError for one without a beginning."""
    for row in rows.to_pylist():
        start = row["start_time"]
        if start is None or start < 0:
            raise SourceDataError(
                f"the segment {row['segment_id']!r} begins at {start!r}: it has no place in its video. Mend it at the "
                "source, or take a format of tables."
            )
        beginning = seconds_of(start)
        end = beginning if row["end_time"] is None else max(beginning, seconds_of(row["end_time"]))
        texts = (possible(row[name] or "") for name in ("segment_id", "text", "note", "document"))
        segment_id, text, note, document = texts
        yield Cue(segment_id, beginning, end, text, note, document)


def seconds_of(seconds: float) -> Fraction:
    """Seconds as they were written in decimal: 1.001, and not the double next to it."""
    return Fraction(repr(float(seconds)))


def nearest(seconds: Fraction, rate: Fraction) -> int:
    """The number of the frame, or of the thousandth, whose beginning is nearest. Of two, it is the later one."""
    return int((2 * seconds * rate + 1) // 2)


def frames_of(cue: Cue, rate: Fraction) -> tuple[int, int]:
    """The frame on which a segment begins, from 0, and how many it lasts: one at least, which is all that can be seen
    of an instant. Times that were made of frames are these frames again, however they were rounded by less than half a
    frame."""
    first = nearest(cue.start, rate)
    return first, max(1, nearest(cue.end, rate) - first)


def rate_of(video: Video) -> Fraction:
    """The exact frame rate. Raises ValueError where none was given: whoever knows of videos asks for it before."""
    if video.timing.frame_rate is None or video.timing.start_timecode is None:
        raise ValueError(f"nothing says which frame rate and start timecode the video {video.video_id!r} has")
    return FRAME_RATES[video.timing.frame_rate]


def possible(text: str) -> str:
    """Text with the replacement character in the place of what files of text cannot hold: NUL, and halves of
    characters."""
    return _IMPOSSIBLE.sub("\ufffd", text)


def one_line_of(text: str) -> str:
    """Text for a place that takes one line: each stretch of white space or control characters is a space."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def require_cues(schema: pa.Schema, format_name: str) -> None:
    """Raises ValueError for other columns."""
    if not schema.equals(CUES):
        raise ValueError(f"a {format_name} file takes cues, and not\n{schema}")


def rows_of_cues(rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows of CUES; what is not told is null."""
    return pa.RecordBatch.from_pylist(list(rows), schema=CUES)
