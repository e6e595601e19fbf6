"""Rows in one order, whatever order they were read in, so that the same content gives the same bytes.

Sources mostly deliver in order, and then nothing is sorted or kept. Otherwise the rows are sorted outside memory.
"""

import heapq
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import count, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import SourceDataError
from vv_exports.sources.base import Page
from vv_exports.sources.documents import short

_PAGE_ROWS = 4_000
_PAGE_BYTES = 4 << 20
_OPEN_FILES = 64  # stretches merged at a time: the usual limit of a process is 1024 open files, on macOS 256

SortKey = tuple[tuple[int, Any], ...]

_NULL, _NUMBER, _TEXT, _OTHER = range(4)
_KEY = itemgetter(0)


class _Row(NamedTuple):
    """A row on its way through a stretch. ``content`` gives the pickled document, once and before the next row."""

    key: SortKey
    where: str
    size: int
    content: Callable[[], bytes]


class OutOfOrderError(Exception):
    """The rows did not come in order: read them again through ``externally_sorted``."""


def sort_keys(documents: list[JsonObject], names: Sequence[str]) -> list[SortKey]:
    """What each row is ordered by. Null comes first, then numbers, then text by code point, then the rest."""
    columns = []
    for name in names:
        values = [document.get(name) for document in documents]
        types = set(map(type, values))
        if types <= {str}:
            columns.append([(_TEXT, value) for value in values])
        elif types <= {int, float}:
            columns.append([(_NUMBER, value) for value in values])
        else:
            columns.append(list(map(_ranked, values)))
    return list(zip(*columns, strict=True))


def _ranked(value: Any) -> tuple[int, Any]:
    match value:
        case None:
            return _NULL, None
        case str():
            return _TEXT, value
        case int() | float() | Decimal() if not isinstance(value, bool):
            return _NUMBER, value
        case _:
            return _OTHER, encode_sorted(value).decode()


def in_order(pages: Iterable[Page], names: Sequence[str]) -> Iterator[Page]:
    """Pass pages on while their rows are in strict order. Raises OutOfOrderError at the first that are not, and
    SourceDataError where a row is there twice."""
    last: list[SortKey] = []
    for page in pages:
        keys = sort_keys(page.documents, names)
        run = last + keys
        if any(map(tuple.__ge__, run, run[1:])):
            if sorted(run) != run:
                raise OutOfOrderError
            twice = next(i for i, (one, other) in enumerate(pairwise(run)) if one == other)
            raise _twice(run[twice], names, page.locate(twice + 1 - len(last)))
        last = keys[-1:] or last
        yield page


def externally_sorted(pages: Iterable[Page], names: Sequence[str], spool: Path) -> Iterator[Page]:
    """All rows in order. Some pages at a time become a sorted stretch below ``spool``, and the stretches are merged.

    Memory holds one page, the rows of one stretch, and the key of a row of each of the stretches that are merged at a
    time.
    """
    stretches = [_write_stretch(rows, spool / f"0-{n:06}") for n, rows in enumerate(_sorted_stretches(pages, names))]
    for turn in count(1):
        if len(stretches) <= _OPEN_FILES:
            break
        groups = [stretches[start : start + _OPEN_FILES] for start in range(0, len(stretches), _OPEN_FILES)]
        stretches = [_merge_stretches(group, spool / f"{turn}-{n:06}") for n, group in enumerate(groups)]
    last: SortKey | None = None
    documents: list[JsonObject] = []
    held = 0
    for row in _merged(stretches):
        if row.key == last:
            raise _twice(row.key, names, row.where)
        last = row.key
        documents.append(pickle.loads(row.content()))  # noqa: S301 - see _read_stretch
        held += row.size
        if len(documents) == _PAGE_ROWS or held >= _PAGE_BYTES:
            yield Page(documents, _nowhere)
            documents, held = [], 0
    if documents:
        yield Page(documents, _nowhere)


def _sorted_stretches(pages: Iterable[Page], names: Sequence[str]) -> Iterator[list[_Row]]:
    """The rows of so many pages at a time that the stretches are few, however small a source's pages are."""
    rows: list[_Row] = []
    held = 0
    for page in pages:
        for i, key in enumerate(sort_keys(page.documents, names)):
            pickled = pickle.dumps(page.documents[i], pickle.HIGHEST_PROTOCOL)
            rows.append(_Row(key, page.locate(i), len(pickled), partial(bytes, pickled)))
            held += len(pickled)
        if len(rows) >= _PAGE_ROWS or held >= _PAGE_BYTES:
            yield sorted(rows, key=_KEY)
            rows, held = [], 0
    if rows:
        yield sorted(rows, key=_KEY)


def _merge_stretches(stretches: list[Path], path: Path) -> Path:
    _write_stretch(_merged(stretches), path)
    for stretch in stretches:
        stretch.unlink()
    return path


def _merged(stretches: Iterable[Path]) -> Iterator[_Row]:
    # It goes on in a stretch only when the next row is asked for, and so after the content of this one was.
    return heapq.merge(*map(_read_stretch, stretches), key=_KEY)


def _write_stretch(rows: Iterable[_Row], path: Path) -> Path:
    with path.open("wb") as file:
        for row in rows:
            pickle.dump((row.key, row.where, row.size), file, pickle.HIGHEST_PROTOCOL)
            file.write(row.content())
    return path


def _read_stretch(path: Path) -> Iterator[_Row]:
    """Rows that this process pickled itself a moment ago, in a folder of its own."""
    with path.open("rb") as file:
        while True:
            try:
                key, where, size = pickle.load(file)  # noqa: S301
            except EOFError:
                return
            yield _Row(key, where, size, partial(file.read, size))


def _twice(key: SortKey, names: Sequence[str], where: str) -> SourceDataError:
    what = ", ".join(f"{name}={short(value)}" for name, (_, value) in zip(names, key, strict=True))
    return SourceDataError(f"{where}: the result {what} is there twice; a run holds each result once")


def _nowhere(index: int) -> str:
    return f"row {index} after sorting"
