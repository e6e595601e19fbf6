"""FCPXML 1.9, of Final Cut Pro: a project with one clip, the video, and a marker in it for each segment."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from vv_exports.domain.json_text import encode_text
from vv_exports.errors import RequestError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.held_back import HeldBack
from vv_exports.formats.opentime import Clock
from vv_exports.formats.videos import Video, cues_of, frames_of, require_cues

_REPLACED = "\ufffd"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class FcpXml:
    """Times are whole frames, as fractions of a second. The clip is as long as its segments say. Its media is named by
    the video's name, beside the file: whoever opens it links it to theirs."""

    video: Video | None = None
    name: ClassVar[str] = "markers"
    suffix: ClassVar[str] = ".fcpxml"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_cues(schema, self.name)
        if self.video is None:
            raise ValueError("a fcpxml file is of a video")
        return FileWriter(path, schema, partial(_FcpXmlEncoder, self.video), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Raises RequestError: it has no results in it. The otio file beside it has them."""
        del schema
        raise RequestError(f"{path} has markers alone: read the otio file beside it")


class _FcpXmlEncoder:
    def __init__(self, video: Video, file: BinaryIO) -> None:
        self._video = video
        self._clock = Clock(video)
        self._held = HeldBack(file)
        self.discard = self._held.discard
        self._end = 1

    def write(self, block: Block) -> None:
        for cue in cues_of(block.join()):
            first, frames = frames_of(cue, self._clock.rate)
            self._end = max(self._end, first + frames)
            note = _attributes(note=cue.note) if cue.note else ""
            marker = _attributes(
                start=self._seconds(self._clock.start + first), duration=self._seconds(frames), value=cue.name
            )
            self._held.write(f"              <marker{marker}{note}/>\n")

    def finish(self) -> None:
        start, whole = self._seconds(self._clock.start), self._seconds(self._end)
        frame, title = self._seconds(1), self._video.title
        tc_format = "DF" if self._clock.is_drop_frame else "NDF"
        asset = _attributes(id="r2", name=title, start=start, duration=whole, hasVideo="1", format="r1")
        sequence = _attributes(format="r1", duration=whole, tcStart=start, tcFormat=tc_format)
        clip = _attributes(
            ref="r2", offset=start, name=title, start=start, duration=whole, format="r1", tcFormat=tc_format
        )
        stated = _attributes(key="com.vectormethods.video", value=encode_text(self._video.stated))
        self._held.finish(
            '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n<fcpxml version="1.9">\n  <resources>\n'
            f"    <format{_attributes(id='r1', frameDuration=frame)}/>\n"
            f"    <asset{asset}>\n      <media-rep{_attributes(src=quote(title))}/>\n      <metadata>\n"
            f"        <md{stated}/>\n      </metadata>\n    </asset>\n  </resources>\n  <library>\n"
            f"    <event{_attributes(name=title)}>\n      <project{_attributes(name=title)}>\n"
            f"        <sequence{sequence}>\n          <spine>\n            <asset-clip{clip}>\n",
            "            </asset-clip>\n          </spine>\n        </sequence>\n      </project>\n    </event>\n"
            "  </library>\n</fcpxml>\n",
        )

    def _seconds(self, frames: int) -> str:
        return f"{frames * self._clock.rate.denominator}/{self._clock.rate.numerator}s"


def _attributes(**attributes: str) -> str:
    return "".join(f" {name}={quoteattr(_NOT_IN_XML.sub(_REPLACED, text))}" for name, text in attributes.items())
