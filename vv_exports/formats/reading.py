"""Reading text files back in blocks of complete rows, and refusing files that are not whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from vv_exports.errors import DeliveredDataError
from vv_exports.formats.base import Format

_READ_BYTES = 1 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def readable(path: Path, form: Format, *, may_be_empty: bool = False) -> Iterator[None]:
    """Anything that shows the file to be missing, cut off or something else becomes a DeliveredDataError.

    ``may_be_empty``: whether a file without rows has no bytes. Most formats have a beginning or an end.
    """
    try:
        if not path.stat().st_size and not may_be_empty:
            raise DeliveredDataError(f"{path} has no bytes: it is not a complete {form.name} file. Deliver again.")
        yield
    except (pa.ArrowException, OSError) as error:
        raise DeliveredDataError(
            f"{path} cannot be read as a complete {form.name} file ({error}). Deliver again."
        ) from error


def row_blocks(stream: _Readable, path: Path, end_of_rows: Callable[[bytes], int]) -> Iterator[bytes]:
    """The stream cut into pieces of about 1 MiB, or one row where that is longer.

    ``end_of_rows`` gives the length of the complete rows at the beginning of some bytes.
    """
    rest = b""
    # A row longer than a piece doubles what is read: rows of any length are scanned a few times only.
    while chunk := stream.read(max(_READ_BYTES, len(rest))):
        rest += chunk
        end = end_of_rows(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        raise DeliveredDataError(f"{path} ends inside a row: it was cut off. Deliver again.")


def end_of_lines(text: bytes) -> int:
    """Where the last complete line ends: JSON text has no line feed inside a row."""
    return text.rfind(b"\n") + 1
