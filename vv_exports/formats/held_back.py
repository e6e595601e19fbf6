"""A file whose beginning says how long all of it is: the rest is held back, on disk where it is much."""

import shutil
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

_IN_MEMORY = 4 << 20


class HeldBack:
    """Text that comes after a beginning which is known last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - as long as the writer

    def write(self, text: str) -> None:
        """Hold back text."""
        self._held.write(text.encode())

    def finish(self, beginning: str, end: str) -> None:
        """Write the file."""
        self._file.write(beginning.encode())
        self._held.seek(0)
        shutil.copyfileobj(self._held, self._file)
        self._file.write(end.encode())
        self._held.close()

    def discard(self) -> None:
        """Forget all."""
        self._held.close()
