"""Whose fault an exception is that comes out of reading one prompt run: its own, or everyone's."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from vv_exports.errors import (
    NoRoomError,
    NotFoundError,
    SelectionError,
    SourceChangedError,
    SourceDataError,
    VVExportsError,
)
from vv_exports.printable import printable

OF_ONE_RUN: tuple[type[Exception], ...] = (
    SelectionError,
    NotFoundError,
    NoRoomError,
    SourceDataError,
    SourceChangedError,
)
"""Errors that are one run's, while others can be read."""

_LONGEST = 500


@contextmanager
def faults_of_run(index_id: str, run_id: str) -> Iterator[None]:
    """Around the reading of a run: what is no error of ours becomes a SourceDataError that names the run.

    A run can be too deep, too wide or too large in ways that only Python, Arrow or the machine's memory know of. What
    the operating system says is left alone: a disk that is full is full for every run.
    """
    try:
        yield
    except VVExportsError as error:
        _let_go(error)
        raise
    except OSError:
        raise
    except Exception as error:
        _let_go(error)
        said = printable(str(error))[:_LONGEST]
        raise SourceDataError(
            f"prompt run {run_id!r} of index {index_id!r} could not be read: {type(error).__name__}"
            f"{f': {said}' if said else ''}. Its results are too large, too deep or too odd for this machine; make "
            "them smaller, or lower the limits under source so that the place is named."
        ) from error


def _let_go(error: BaseException) -> None:
    """An error that is kept until the others are done must not keep what was being read: its frames hold all of it."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
