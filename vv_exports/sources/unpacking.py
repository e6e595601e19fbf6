"""Compressed bytes, unpacked within a limit: a few kilobytes may unpack to gigabytes."""

import pyarrow as pa

_AT_A_TIME = 2**20


class UnpackedTooLargeError(Exception):
    """There is more than the limit."""


def unpacked(data: bytes | bytearray, codec: str, most_bytes: int) -> bytearray:
    """The bytes that ``data`` unpacks to, ``codec`` being one of pyarrow's; ``gzip`` reads zlib's format too.

    Raises UnpackedTooLargeError where they are more than ``most_bytes``, and ValueError where ``data`` is damaged.
    """
    found = bytearray()
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
            while chunk := stream.read(_AT_A_TIME):
                found += chunk
                if len(found) > most_bytes:
                    raise UnpackedTooLargeError(f"unpacks to more than {most_bytes:,} bytes")
    except OSError as error:
        raise ValueError(f"cannot be unpacked ({codec}): {error}") from error
    return found
