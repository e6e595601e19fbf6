"""What a server answers, read within limits: a body may be of any size, unpack to far more, and decode to more still.

It knows nothing of who asked, for what, or with which library.
"""

from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from vv_exports.domain.json_text import decode
from vv_exports.sources.unpacking import UnpackedTooLargeError, unpacked

_SMALL = 2**20
_BYTES_FOR_A_VALUE = 32
_CODECS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "gzip", "br": "brotli", "zstd": "zstd"}
_MARKS = (b",", b"[", b"{")


class AnswerTooLargeError(Exception):
    """An answer that is larger than it may be. The message says in which way."""


async def read_body(
    chunks: AsyncIterable[bytes], headers: Mapping[str, str], most_bytes: int, alone: AbstractAsyncContextManager[Any]
) -> bytearray:
    """A body, unpacked.

    As many bodies as there are requests may arrive at a time. What is longer than a MiB goes on arriving within
    ``alone``, which lets in one at a time: together they would be longer than memory is.

    Raises AnswerTooLargeError as soon as it is longer than ``most_bytes``, and ValueError where it cannot be unpacked.
    """
    if headers.get("content-length", "").isdecimal() and int(headers["content-length"][:20]) > most_bytes:
        raise _too_long(most_bytes)
    body = bytearray()
    arriving = aiter(chunks)
    async for chunk in arriving:
        body += chunk
        if len(body) > _SMALL:
            async with alone:
                async for more in arriving:
                    body += more
                    if len(body) > most_bytes:
                        raise _too_long(most_bytes)
    if len(body) > most_bytes:
        raise _too_long(most_bytes)
    return _without_encodings(body, headers.get("content-encoding", ""), most_bytes)


def decode_within(
    body: bytes | bytearray, most_bytes: int, decoded: Callable[[bytes | bytearray], Any] = decode
) -> Any:
    """The JSON value of a body. Raises ValueError.

    In memory a value takes up to 150 bytes, and in the text as few as two. So there may be one for each 32 bytes of
    the limit, by a count that is quick and never too low: AnswerTooLargeError otherwise.
    """
    most = most_bytes // _BYTES_FOR_A_VALUE
    if len(body) > most and sum(map(body.count, _MARKS)) > most:
        raise AnswerTooLargeError(f"holds more than {most:,} values, one for each {_BYTES_FOR_A_VALUE} bytes")
    return decoded(body)


def _without_encodings(body: bytearray, encodings: str, most_bytes: int) -> bytearray:
    for encoding in reversed([one.strip().lower() for one in encodings.split(",")]):
        if encoding not in {"", "identity"}:
            if encoding not in _CODECS:
                raise ValueError(f"has the content-encoding {encoding[:40]!r}, which was not asked for")
            try:
                body = unpacked(body, _CODECS[encoding], most_bytes)
            except UnpackedTooLargeError as error:
                raise AnswerTooLargeError(str(error)) from None
    return body


def _too_long(most_bytes: int) -> AnswerTooLargeError:
    return AnswerTooLargeError(f"is longer than {most_bytes:,} bytes")
