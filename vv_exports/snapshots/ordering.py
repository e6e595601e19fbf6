"""Rows in one order, whatever order they were read in, so that the same content gives the same bytes.

Sources mostly deliver in order, and then nothing is sorted or kept. Otherwise the rows are sorted outside memory.
"""

import heapq
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import SourceDataError
from vv_exports.sources.base import Page

_CHUNK_ROWS = 20_000

SortKey = tuple[tuple[bool, Any], ...]


class OutOfOrderError(Exception):
    """The rows did not come in order: read them again through ``externally_sorted``."""


def sort_keys(documents: list[JsonObject], names: Sequence[str]) -> list[SortKey]:
    """What each row is ordered by. Null comes first, then numbers, then text by code point."""
    columns = []
    for name in names:
        values = [document.get(name) for document in documents]
        columns.append([(isinstance(value, str), -1.0 if value is None else value) for value in values])
    return list(zip(*columns, strict=True))


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
    """All rows in order. Sorted stretches are written below ``spool`` and merged; memory holds one stretch."""
    stretches = [_write_stretch(chunk, names, spool / f"stretch-{n:06}") for n, chunk in enumerate(_chunks(pages))]
    merged = heapq.merge(*map(_read_stretch, stretches), key=lambda row: row[0])
    last: SortKey | None = None
    documents: list[JsonObject] = []
    for key, document, where in merged:
        if key == last:
            raise _twice(key, names, where)
        last = key
        documents.append(document)
        if len(documents) == _CHUNK_ROWS:
            yield Page(documents, _nowhere)
            documents = []
    if documents:
        yield Page(documents, _nowhere)


def _chunks(pages: Iterable[Page]) -> Iterator[list[tuple[JsonObject, str]]]:
    for page in pages:
        located = [(document, page.locate(i)) for i, document in enumerate(page.documents)]
        for start in range(0, len(located), _CHUNK_ROWS):
            yield located[start : start + _CHUNK_ROWS]


def _write_stretch(chunk: list[tuple[JsonObject, str]], names: Sequence[str], path: Path) -> Path:
    keys = sort_keys([document for document, _ in chunk], names)
    rows = sorted(zip(keys, chunk, strict=True), key=lambda row: row[0])
    with path.open("wb") as file:
        for key, (document, where) in rows:
            pickle.dump((key, document, where), file, pickle.HIGHEST_PROTOCOL)
    return path


def _read_stretch(path: Path) -> Iterator[tuple[SortKey, JsonObject, str]]:
    """Rows that this process pickled itself a moment ago, in a folder of its own."""
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)  # noqa: S301
            except EOFError:
                return


def _twice(key: SortKey, names: Sequence[str], where: str) -> SourceDataError:
    what = ", ".join(f"{name}={value!r}" for name, (_, value) in zip(names, key, strict=True))
    return SourceDataError(f"{where}: the result {what} is there twice; a run holds each result once")


def _nowhere(index: int) -> str:
    return f"row {index} after sorting"
