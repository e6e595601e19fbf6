"""OpenTimelineIO: a timeline with one clip, the video, and a marker for each segment, which holds its result."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from vv_exports.domain.json_text import encode_text
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.held_back import HeldBack
from vv_exports.formats.opentime import Clock, opentimelineio
from vv_exports.formats.reading import readable
from vv_exports.formats.videos import Video, cues_of, frames_of, require_cues, rows_of_cues

_COLOR = "BLUE"
_OWN = "vv_exports"
"""The key of metadata that is ours."""


@dataclass(frozen=True)
class Otio:
    """Markers in the clip's own time, which begins at the start timecode. The clip is as long as its segments say, and
    its media are missing: whoever opens it links it to theirs."""

    video: Video | None = None
    name: ClassVar[str] = "markers"
    suffix: ClassVar[str] = ".otio"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_cues(schema, self.name)
        if self.video is None:
            raise ValueError("an otio file is of a video")
        return FileWriter(path, schema, partial(_OtioEncoder, self.video), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The markers of a file of ours, all at once: times to the frame. See ``Format.read``."""
        require_cues(schema, self.name)
        otio = opentimelineio()
        with readable(path, self):
            try:
                (clip,) = otio.adapters.read_from_file(str(path), "otio_json").find_clips()
                start = clip.source_range.start_time
                rows = [_row(marker, start) for marker in clip.markers]
            except (otio.exceptions.OTIOError, ValueError, KeyError, AttributeError) as error:
                raise DeliveredDataError(f"{path} is no whole otio file of ours ({error}). Deliver again.") from error
        yield rows_of_cues(rows)


class _OtioEncoder:
    """The library writes all but the list of markers, which it writes one by one: there may be many."""

    def __init__(self, video: Video, file: BinaryIO) -> None:
        self._schema: Any = opentimelineio().schema
        self._video = video
        self._clock = Clock(video)
        self._held = HeldBack(file)
        self.discard = self._held.discard
        self._place = str(self._schema.Marker(name="the markers stand here").to_json_string(indent=-1))
        self._end = 1
        self._separator = ""

    def write(self, block: Block) -> None:
        for cue in cues_of(block.join()):
            first, frames = frames_of(cue, self._clock.rate)
            self._end = max(self._end, first + frames)
            marker = self._schema.Marker(
                name=cue.name,
                marked_range=self._clock.range(first, frames),
                color=_COLOR,
                metadata={_OWN: {"segment_id": cue.segment_id or "", "document": cue.document}},
                comment=cue.note,
            )
            self._held.write(f"{self._separator}\n{marker.to_json_string(indent=-1)}")
            self._separator = ","

    def finish(self) -> None:
        timeline = self._timeline().to_json_string(indent=-1)
        beginning, _, end = timeline.partition(self._place)
        self._held.finish(beginning, f"{end}\n")

    def _timeline(self) -> Any:
        whole = self._clock.range(0, self._end)
        clip = self._schema.Clip(
            name=self._video.title,
            media_reference=self._schema.MissingReference(name=self._video.title, available_range=whole),
            source_range=whole,
            metadata={_OWN: {"video": encode_text(self._video.stated)}},
        )
        clip.markers.append(self._schema.Marker.from_json_string(self._place))
        track = self._schema.Track(name="V1", kind=self._schema.TrackKind.Video)
        track.append(clip)
        timeline = self._schema.Timeline(name=self._video.title, global_start_time=whole.start_time)
        timeline.tracks.append(track)
        return timeline


def _row(marker: Any, start: Any) -> dict[str, Any]:
    own = marker.metadata[_OWN]
    first = marker.marked_range.start_time - start
    return {
        "segment_id": own["segment_id"],
        "start_time": first.to_seconds(),
        "end_time": (first + marker.marked_range.duration).to_seconds(),
        "text": marker.name,
        "note": marker.comment,
        "document": own["document"],
    }
