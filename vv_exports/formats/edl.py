"""A CMX 3600 edit decision list of markers, as DaVinci Resolve exports and imports them: one frame for each, and its
colour, name and duration in the line below it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa

from vv_exports.domain.json_text import encode_text
from vv_exports.errors import RequestError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.opentime import Clock
from vv_exports.formats.videos import Video, cues_of, frames_of, one_line_of, require_cues

_COLOR = "ResolveColorBlue"
_REEL = "001"
_LINE_END = "\r\n"
_LIKE_A_LINE = re.compile(r"[^A-Za-z]|[A-Z0-9]+\b", re.ASCII)


@dataclass(frozen=True)
class Edl:
    """Timecodes are those of a timeline that begins at the video's start timecode. Names and notes are in one line,
    without ``|``, which begins a field; a note that begins
    like a line of a list has ``- `` before it."""

    video: Video | None = None
    name: ClassVar[str] = "markers"
    suffix: ClassVar[str] = ".edl"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_cues(schema, self.name)
        if self.video is None:
            raise ValueError("an edl file is of a video")
        return FileWriter(path, schema, partial(_EdlEncoder, self.video), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Raises RequestError: it has no results in it. The otio file beside it has them."""
        del schema
        raise RequestError(f"{path} has markers alone: read the otio file beside it")


class _EdlEncoder:
    def __init__(self, video: Video, file: BinaryIO) -> None:
        self._file = file
        self._clock = Clock(video)
        self._said = f"* VIDEO: {encode_text(video.stated)}"
        self._events = 0
        drop = "DROP FRAME" if self._clock.is_drop_frame else "NON-DROP FRAME"
        self._write(f"TITLE: {video.title}", f"FCM: {drop}", "")

    def write(self, block: Block) -> None:
        for cue in cues_of(block.join()):
            first, frames = frames_of(cue, self._clock.rate)
            begins, ends = self._clock.timecode(first), self._clock.timecode(first + 1)
            self._events += 1
            self._write(
                f"{self._events:03d}  {_REEL}      V     C        {begins} {ends} {begins} {ends}",
                f"{_note(cue.note)} |C:{_COLOR} |M:{_field(cue.name)} |D:{frames}",
                *([self._said] if self._events == 1 else []),
                "",
            )

    def finish(self) -> None:
        """A list has no end mark."""

    def discard(self) -> None:
        """Nothing is written unasked."""

    def _write(self, *lines: str) -> None:
        self._file.write("".join(f"{line}{_LINE_END}" for line in lines).encode())


def _note(text: str) -> str:
    """A note begins the line: it must not begin like an event, or another line of a list."""
    note = _field(text)
    return f"- {note}" if _LIKE_A_LINE.match(note) else note


def _field(text: str) -> str:
    return one_line_of(text.replace("|", "/"))
