"""OpenTimelineIO, which is installed by an extra: the library, and timecodes made by it."""

from fractions import Fraction
from typing import Any

from vv_exports.domain.frame_rates import is_drop_frame
from vv_exports.errors import RequestError
from vv_exports.formats.videos import Video, rate_of


def opentimelineio() -> Any:
    """The library. Raises RequestError where it is not installed."""
    try:
        import opentimelineio  # noqa: PLC0415 - an extra, and only whoever makes markers needs it
    except ImportError as error:
        raise RequestError(
            "the format markers needs the package opentimelineio, which is not installed: "
            "`pip install 'vv-exports[video]'`"
        ) from error
    return opentimelineio


class Clock:
    """The frames of a video, counted from its first one, as times and timecodes. Drop-frame where its start timecode
    is. Raises ValueError for a video without a frame rate and a start timecode."""

    def __init__(self, video: Video) -> None:
        self.rate: Fraction = rate_of(video)
        start = video.timing.start_timecode or ""
        self.is_drop_frame = is_drop_frame(start)
        self._opentime: Any = opentimelineio().opentime
        self._rate = float(self.rate)
        self.start = int(self._opentime.from_timecode(start, self._rate).value)
        """The frame of the start timecode, counted from 00:00:00:00."""

    def timecode(self, frame: int) -> str:
        """HH:MM:SS:FF of a frame, or HH:MM:SS;FF. After 23:59:59 comes 00:00:00, as on any deck."""
        return str(self._opentime.to_timecode(self.time(self.start + frame), self._rate, self.is_drop_frame))

    def time(self, frames: int) -> Any:
        """A RationalTime of so many frames."""
        return self._opentime.RationalTime(frames, self._rate)

    def range(self, first: int, frames: int) -> Any:
        """A TimeRange in the video's own time, which begins at its start timecode."""
        return self._opentime.TimeRange(self.time(self.start + first), self.time(frames))
