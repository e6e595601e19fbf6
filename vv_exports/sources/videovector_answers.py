"""Answers about a run on the run's stage, so that a reading that is cut off asks for none of them again.

An answer is staged as soon as it is there, whatever else is missing of its media item; answers that arrive while others
are being written go into one file together. A file is the answers one after the other, compressed: for each a line of
JSON, ``[what, video_id, cursor, cursor of the next page, rows]``, and a line for each row. It is named by its content.
"""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import NoneType
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from vv_exports.domain.json_text import decode, encode_line
from vv_exports.sources.base import Stage
from vv_exports.sources.unpacking import UnpackedTooLargeError, unpacked

_SUFFIX = ".answers.zst"
FILE_BYTES = 2**20
"""As much text makes a file."""
_FILES_AT_HAND = 4
_READERS = 4  # a store takes its time for each file, and there may be thousands
_CODEC = pa.Codec("zstd", 1)
_CURSOR = (str, NoneType)
_TYPES = {(str, str, one, following, int) for one in _CURSOR for following in _CURSOR}
"""What the line before an answer's rows holds."""


class Asked(NamedTuple):
    """What an answer is the answer to: a page of a media item's segment results, its video result, the failed segments
    of the run, or its prompt."""

    what: Literal["segments", "videos", "failures", "prompt"]
    video_id: str = ""
    cursor: str | None = None


class Answer(NamedTuple):
    """Results without what must not be kept, each as a line of JSON, and the cursor of the next page of them."""

    lines: list[bytes]
    following: str | None = None

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(map(len, self.lines))


class StagedAnswers:
    """The answers of one run in one state. Usable from several threads; ``write`` from one at a time."""

    def __init__(self, stage: Stage, most_bytes: int) -> None:
        self._stage = stage
        self._most_bytes = most_bytes + 2 * FILE_BYTES
        self._guard = threading.Lock()
        self._unwritten: dict[Asked, Answer] = {}
        self._places: dict[Asked, str] = {}
        self._at_hand: dict[str, dict[Asked, Answer]] = {}
        self.unwritten_bytes = 0

    def find(self) -> None:
        """Look at what an earlier reading has staged. What is damaged, or of an earlier version, is as good as none."""
        names = sorted(name for name in self._stage.names() if name.endswith(_SUFFIX))
        with ThreadPoolExecutor(_READERS, thread_name_prefix="stage") as readers:
            for name, answered in zip(names, readers.map(lambda one: list(self._file(one)), names), strict=True):
                self._places.update(dict.fromkeys(answered, name))

    def has(self, asked: Asked) -> bool:
        """Whether an answer was staged, by this reading or one before."""
        return asked in self._places or asked in self._unwritten

    @property
    def has_unwritten(self) -> bool:
        """Whether there are answers to be written. They may be empty."""
        return bool(self._unwritten)

    def add(self, asked: Asked, answer: Answer) -> None:
        """Have an answer written with the next file, in the place of one to the same request."""
        with self._guard:
            before = self._unwritten.get(asked)
            self._unwritten[asked] = answer
            self.unwritten_bytes += answer.size - (0 if before is None else before.size)

    def get(self, asked: Asked) -> Answer | None:
        """An answer; None where there is none, or none any more: another process that read the same run has tidied up,
        or the machine crashed while it was written."""
        with self._guard:
            found, name = self._unwritten.get(asked), self._places.get(asked)
        if found is not None or name is None:
            return found
        with self._guard:
            file = self._at_hand.get(name)
        if file is None:
            file = self._file(name)
            with self._guard:  # media are read in the order in which they arrived, more or less
                self._at_hand[name] = file
                if len(self._at_hand) > _FILES_AT_HAND:
                    del self._at_hand[next(iter(self._at_hand))]
        return file.get(asked)

    def write(self) -> bool:
        """Write what was added, as much as makes a file. Whether there was any."""
        taken: dict[Asked, Answer] = {}
        size = 0
        with self._guard:
            for asked, answer in self._unwritten.items():
                taken[asked] = answer
                size += answer.size
                if size >= FILE_BYTES:
                    break
        if not taken:
            return False
        lines: list[bytes] = []
        for asked, answer in taken.items():
            lines.append(encode_line([*asked, answer.following, len(answer.lines)]))
            lines += answer.lines
        text = b"\n".join(lines)
        name = _name(text)
        self._stage.write(name, _CODEC.compress(text, asbytes=True))
        with self._guard:
            for asked, answer in taken.items():
                self._places[asked] = name
                if self._unwritten[asked] is answer:  # there may be a newer one
                    del self._unwritten[asked]
                    self.unwritten_bytes -= answer.size
        return True

    def _file(self, name: str) -> dict[Asked, Answer]:
        try:
            data = self._stage.read(name)
            text = unpacked(data, "zstd", self._most_bytes) if data else bytearray()
            return dict(_answers(text)) if _name(text) == name else {}
        except (ValueError, UnpackedTooLargeError):
            return {}


def _name(text: bytes | bytearray) -> str:
    return f"{hashlib.sha256(text).hexdigest()[:32]}{_SUFFIX}"


def _answers(text: bytearray) -> Iterator[tuple[Asked, Answer]]:
    """Raises ValueError where this is none of ours."""
    end = -1
    while end < len(text):
        head, end = _line(text, end + 1)
        found: Any = decode(head)
        if not isinstance(found, list) or tuple(map(type, found)) not in _TYPES:
            raise ValueError("no answer begins here")
        *asked, following, rows = found
        lines = []
        for _ in range(rows):
            line, end = _line(text, end + 1)
            lines.append(line)
        yield Asked(*asked), Answer(lines, following)


def _line(text: bytearray, begin: int) -> tuple[bytes, int]:
    end = text.find(b"\n", begin)
    end = len(text) if end < 0 else end
    if end <= begin:
        raise ValueError("a line is missing")
    return bytes(text[begin:end]), end
