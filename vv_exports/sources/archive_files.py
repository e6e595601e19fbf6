"""What an archive's files hold, as far as it can be told without their meaning: documents, and JSON Lines page by page.

It knows compressions, lines and limits, and nothing of indexes, runs or results. Memory is bounded whatever a file
holds: by the limit of a document, or by a block and a record.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import tee

import pyarrow as pa

from vv_exports.domain.json_text import JsonLineError, count_values, decode_each
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import SourceDataError
from vv_exports.sources.archive_folder import Read
from vv_exports.sources.archive_store import place_of
from vv_exports.sources.base import DocumentPage, TextPage
from vv_exports.sources.documents import Limits, too_large, too_many_values

COMPRESSIONS: dict[str, str | None] = {".jsonl": None, ".jsonl.zst": "zstd", ".jsonl.gz": "gzip"}
"""How a file of results ends -> its compression."""
BOM = b"\xef\xbb\xbf"
_BLOCK = 512 << 10  # what is made of a larger one leaves the processor's cache before it is used
_PROGRESS_SECONDS = 5
_BLANKS = b" \t\r\n"
_LOG = logging.getLogger(__name__)

Check = Callable[[DocumentPage], None]
"""Refuses a page in which a document is not what it must be, by SourceDataError."""


class ArchiveFiles:
    """The files below the archive's folder or URL; paths are relative to it. Storage errors come out as ours."""

    def __init__(self, path_or_url: str, limits: Limits, *, follow_links: bool) -> None:
        self._place = place_of(path_or_url, follow_links=follow_links)
        self._limits = limits
        self.show = self._place.show
        self.names = self._place.names
        self.versions = self._place.versions

    def document(self, path: str) -> bytes | None:
        """The text of a file that is read whole, None where there is none."""
        (found,) = self.documents([path])
        if isinstance(found, SourceDataError):
            raise found
        return found

    def documents(self, paths: Iterable[str]) -> Iterator[bytes | SourceDataError | None]:
        """The text of each file; None where there is none, the error where it cannot be had or is over the limit."""
        most = self._limits.max_document_bytes
        paths, asked = tee(paths)
        for path, found in zip(paths, self._place.read(asked, most), strict=True):
            if isinstance(found, bytes) and (values := count_values(found, self._limits.document_values)):
                yield too_many_values(self.show(path), values, self._limits.document_values, "max_document_bytes")
            else:
                yield found

    def pages(self, path: str, check: Check) -> Iterator[TextPage]:
        """The lines of a file of JSON Lines, to be checked where they are decoded. Raises SourceDataError with the line
        that is too long."""
        where, first = self.show(path), 1

        def line() -> int:
            return first

        for block in self._blocks(path, line):
            text = block.removeprefix(BOM) if first == 1 else block
            # isspace is quick to say no, and takes more for a blank than JSON does.
            if (not text or text.isspace()) and not text.translate(None, _BLANKS):
                first += text.count(b"\n") + 1
                continue
            # With their line feeds: a split looks at each byte, and takes four times as long.
            lines = BytesIO(text).readlines()
            numbers: Sequence[int] = range(first, first + len(lines))
            first += len(lines) + text.endswith(b"\n")
            del block, text  # a line may be long, and its text is of no more use
            self._check_lines(lines, where, numbers)
            if any(map(bytes.isspace, lines)):
                numbers = [number for number, line in zip(numbers, lines, strict=True) if line.strip(_BLANKS)]
                lines = [line for line in lines if line.strip(_BLANKS)]
            if lines:
                page = TextPage(lines, partial(_line, where, numbers), partial(_documents, check))
                del lines  # a line may be long, and the page alone is to hold it
                yield page
                del page

    def _check_lines(self, lines: Sequence[bytes], where: str, numbers: Sequence[int]) -> None:
        """Refuse a line that is too long, or that would take many times its size when it is decoded."""
        limits = self._limits
        if max(map(len, lines)) <= min(limits.max_record_bytes, limits.record_values):
            return
        for number, line in zip(numbers, lines, strict=True):
            if len(line.removesuffix(b"\n")) > limits.max_record_bytes:
                raise self._too_long(where, number)
            if values := count_values(line, limits.record_values):
                place = f"{where}, line {number}"
                raise too_many_values(place, values, limits.record_values, "max_record_bytes")

    def _too_long(self, where: str, line: int) -> SourceDataError:
        return too_large(f"{where}, line {line}", self._limits.max_record_bytes, field="max_record_bytes")

    def _blocks(self, path: str, line: Callable[[], int]) -> Iterator[bytes]:
        """The text of a file, cut at line feeds, which are left out: about a block each, or a line that is longer.
        ``line`` is the number of the first line that was not given yet."""
        where, said, size = self.show(path), time.monotonic(), 0
        with self._reader(path) as read:
            parts: list[bytes] = []
            held = 0
            while data := read(_BLOCK):
                size += len(data)
                if time.monotonic() > said + _PROGRESS_SECONDS:
                    said = time.monotonic()
                    _LOG.info("%s: %d MiB of text read, up to line %d", where, size >> 20, line())
                cut = data.rfind(b"\n") + 1
                if cut:
                    blocks = [b"".join((*parts, memoryview(data)[: cut - 1]))]
                    parts, held = [], 0
                    yield blocks.pop()  # nothing here holds on to it
                parts.append(data[cut:])
                held += len(parts[-1])
                if held > self._limits.max_record_bytes:
                    raise self._too_long(where, line())
            if held:
                yield b"".join(parts)

    @contextmanager
    def _reader(self, path: str) -> Iterator[Read]:
        """What reads the next bytes of a file's text, empty at its end."""
        compression = COMPRESSIONS[path[path.rindex(".jsonl") :]]
        with self._place.reader(path) as read:
            yield read if compression is None else _decompressed(read, compression, self.show(path))


class _RawBytes:
    """A stored file as pyarrow wants it. Its storage errors are ours: any other one is the compression's."""

    closed = False

    def __init__(self, read: Read) -> None:
        self._read = read
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self.size += len(data)
        return data

    def close(self) -> None:
        self.closed = True


def _decompressed(read: Read, compression: str, where: str) -> Read:
    """A reader of a compressed file's text. Raises SourceDataError where the stream is cut or damaged."""
    raw = _RawBytes(read)
    stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)

    def read_text(size: int) -> bytes:
        try:
            data = bytes(stream.read(size))
        except OSError as error:
            raise SourceDataError(
                f"{where}: the {compression} stream is cut short or damaged ({error}): write the file again"
            ) from error
        if not raw.size:  # pyarrow takes it for the end of an empty text
            raise SourceDataError(f"{where}: the file is empty, which no {compression} stream is: write it again")
        return data

    return read_text


def _line(where: str, numbers: Sequence[int], i: int) -> str:
    return f"{where}, line {numbers[i]}"


def _documents(check: Check, lines: Sequence[bytes], locate: Callable[[int], str]) -> list[JsonObject]:
    try:
        documents = decode_each(lines)
    except JsonLineError as error:
        index, reason = error.line_index, error.reason
    else:
        check(DocumentPage(documents, locate))
        return documents
    # Not from the error: it holds on to the line.
    raise SourceDataError(f"{locate(index)}: expected one JSON document: {reason}")
