"""WebVTT, after the W3C's specification: the cues of one video, for players and people who work with captions.

Text is escaped so that a browser shows it as it was. Written here, cue by cue, since libraries hold a file's cues in
memory and refuse, or garble, text that has to be escaped.
"""

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import unquote

import pyarrow as pa

from vv_exports.domain.content_options import CueKind
from vv_exports.domain.json_text import encode_text
from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.blocks import Block, Blocks
from vv_exports.formats.file_writer import FileWriter
from vv_exports.formats.reading import readable
from vv_exports.formats.videos import (
    Cue,
    Video,
    cues_of,
    nearest,
    one_line_of,
    possible,
    require_cues,
    rows_of_cues,
)

_THOUSANDTHS = Fraction(1000)
_READ_ROWS = 2_048
_LINE_END = re.compile(r"\r\n?|\n")
_UNSEEN = "<c></c>"
"""A class span without a class or text: nothing is shown of it, and a line that holds it is not empty."""
_TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)\.(\d{3}) --> (\d{2,}):(\d\d):(\d\d)\.(\d{3})", re.ASCII)
_BLOCK_WORD = re.compile(r"(NOTE|STYLE|REGION)(?=\s|\Z)")
_IN_IDS = re.compile(r"[%\r\n]|--(?=>)")


@dataclass(frozen=True)
class WebVtt:
    """Cues in the order of their beginnings, with the segment's id as their identifier. ``captions`` have the text,
    ``chapters`` have it in one line, and those of ``metadata`` have the result as JSON in one line.

    Captions and chapters without text have no cue. A cue ends a thousandth of a second after its beginning at least, as
    the specification asks; cues may overlap.
    """

    kind: CueKind = "captions"
    video: Video | None = None
    name: ClassVar[str] = "webvtt"
    suffix: ClassVar[str] = ".vtt"

    def open(self, path: Path, schema: pa.Schema) -> TableWriter:
        """See ``Format.open``."""
        require_cues(schema, self.name)
        if self.video is None:
            raise ValueError("a webvtt file is of a video")
        return FileWriter(path, schema, partial(_WebVttEncoder, self.kind, self.video), Blocks())

    def read(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The cues of a file of ours: times to the thousandth, and of metadata the document. See ``Format.read``."""
        require_cues(schema, self.name)
        with readable(path, self), path.open(encoding="utf-8", newline="\n") as lines:
            cues = _cues_in(lines, path, of_metadata=self.kind == "metadata")
            try:
                while some := list(islice(cues, _READ_ROWS)):
                    yield rows_of_cues(some)
            except UnicodeDecodeError as error:
                raise DeliveredDataError(f"{path} is not UTF-8 ({error}). Deliver again.") from error


class _WebVttEncoder:
    def __init__(self, kind: CueKind, video: Video, file: BinaryIO) -> None:
        self._payload = _PAYLOADS[kind]
        self._file = file
        self._cues = 0
        self._write(f"WEBVTT\n\nNOTE {_json({'kind': kind, **video.stated})}\n")

    def write(self, block: Block) -> None:
        for cue in cues_of(block.join()):
            payload = self._payload(cue)
            if not payload:
                continue
            self._cues += 1
            start = nearest(cue.start, _THOUSANDTHS)
            end = max(start + 1, nearest(cue.end, _THOUSANDTHS))
            identifier = f"{_identifier(cue.segment_id)}\n" if cue.segment_id else ""
            self._write(f"\n{identifier}{_time(start)} --> {_time(end)}\n{payload}\n")

    def finish(self) -> None:
        # Nothing else would tell a file that was cut off between two cues from a whole one.
        self._write(f"\nNOTE {_json({'cues': self._cues})}\n")

    def discard(self) -> None:
        """Nothing is written unasked."""

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


def caption_text(text: str) -> str:
    """Text as the payload of a cue: a browser's parser makes the same text of it. Line ends become line feeds, NUL and
    halves of characters the replacement character, as they do in any WebVTT file."""
    escaped = html.escape(possible(text), quote=False)
    # A line of white space alone is no end of a cue to the specification, but is one to some readers.
    return "\n".join(line if line.strip() else f"{line}{_UNSEEN}" for line in _LINE_END.split(escaped))


def _chapter_title(cue: Cue) -> str:
    return html.escape(one_line_of(cue.text), quote=False)


def _metadata(cue: Cue) -> str:
    return _without_arrow(cue.document)


_PAYLOADS: dict[CueKind, Callable[[Cue], str]] = {
    "captions": lambda cue: caption_text(cue.text) if cue.text.strip() else "",
    "chapters": _chapter_title,
    "metadata": _metadata,
}


def _json(value: dict[str, Any]) -> str:
    return _without_arrow(encode_text(value))


def _without_arrow(text: str) -> str:
    """JSON text without the arrow of cue timings, which can only stand in its strings."""
    return text.replace("-->", "--\\u003e")


def _identifier(text: str) -> str:
    """An id as a line that is nothing else to any parser; percent-encoded where it would be."""
    line = _IN_IDS.sub(lambda found: "".join(f"%{ord(character):02X}" for character in found[0]), text)
    line = _BLOCK_WORD.sub(lambda found: f"%{ord(found[0][0]):02X}{found[0][1:]}", line)
    return line if line.strip() else "".join(f"%{byte:02X}" for byte in line.encode())


def _time(thousandths: int) -> str:
    seconds, thousandths = divmod(thousandths, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{thousandths:03d}"


def _cues_in(lines: Iterator[str], path: Path, *, of_metadata: bool) -> Iterator[dict[str, Any]]:
    if next(lines, "") != "WEBVTT\n":
        raise DeliveredDataError(f"{path} does not begin like a webvtt file of ours. Deliver again.")
    cues = 0
    stated: int | None = None
    for block in _blocks(lines, path):
        if block[0].startswith("NOTE {"):
            stated = _stated_cues(block[0], path)
            continue
        timed = [found for line in block[:2] if (found := _TIMES.fullmatch(line))]
        if not timed:
            raise DeliveredDataError(f"{path} has a cue without times: {block[0]!r}. Deliver again.")
        has_id = timed[0].string != block[0]
        numbers = [int(number) for number in timed[0].groups()]
        payload = "\n".join(block[2 if has_id else 1 :])
        cues += 1
        yield {
            "segment_id": unquote(block[0]) if has_id else None,
            "start_time": _seconds(numbers[:4]),
            "end_time": _seconds(numbers[4:]),
            "text": None if of_metadata else html.unescape(payload.replace(_UNSEEN, "")),
            "document": payload if of_metadata else None,
        }
    if stated != cues:
        raise DeliveredDataError(f"{path} has no end: it was cut off. Deliver again.")


def _blocks(lines: Iterator[str], path: Path) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if not line.endswith("\n"):
            raise DeliveredDataError(f"{path} ends inside a line: it was cut off. Deliver again.")
        if line != "\n":
            block.append(line[:-1])
        elif block:
            yield block
            block = []
    if block:
        yield block


def _stated_cues(line: str, path: Path) -> int | None:
    try:
        stated = json.loads(line.removeprefix("NOTE "))
    except ValueError as error:
        raise DeliveredDataError(f"{path} has a note that is not of ours: {error}. Deliver again.") from error
    return stated.get("cues") if isinstance(stated, dict) else None


def _seconds(numbers: list[int]) -> float:
    hours, minutes, seconds, thousandths = numbers
    return float(Fraction(((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths, 1000))
