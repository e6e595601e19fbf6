"""Uploading finished files while the next one is made."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class UploadsBehind:
    """One upload at a time, in the background: the file that is uploaded and the one that is made are all there is.

    Left without an error, every upload is over. An upload's error is raised by what is called next.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def begin(self, upload: Callable[[], None]) -> None:
        """Wait for the one before, and begin this one."""
        self.wait()
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._under_way = self._thread.submit(upload)

    def wait(self) -> None:
        """Until nothing is under way."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._thread is not None:  # the file under way is on the spool, which must not go before
                self._thread.shutdown()
