"""A file whose hash is known when its last byte is written, without reading it again."""

import hashlib
from io import BufferedWriter
from pathlib import Path
from typing import Any


class HashedFile(BufferedWriter):
    """A new local file that takes bytes one after the other; nothing is written twice."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("wb", buffering=0))
        self._digest = hashlib.sha256()

    def write(self, data: Any, /) -> int:
        """Append bytes, of whatever lends them."""
        written = super().write(data)
        self._digest.update(data)
        return written

    @property
    def sha256(self) -> str:
        """The hash of all that was written so far, in hex."""
        return self._digest.hexdigest()
