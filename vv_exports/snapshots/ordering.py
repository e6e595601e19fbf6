"""Rows in one order, whatever order they were read in, so that the same content gives the same bytes.

Sources mostly deliver in order, and then nothing is sorted or kept. Otherwise the rows are sorted outside memory, which
takes a compressed copy of all of them on the spool: whether that fits is told after the first of them. Null
comes first, then numbers, then text by code point, then the rest, which no column of a key holds and ``rescued`` does.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.connectors.spool import check_room, make_room, nothing_to_wait_for
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.snapshots.json_pointer import pointer
from vv_exports.sources.documents import short

_CHUNK_ROWS = 1_024
_CHUNK_BYTES = 1 << 20
_STRETCH_BYTES = 32 << 20
_MERGED_BYTES = 128 << 20
_WRITTEN = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)  # rows are then a quarter of what they were
_LOG = logging.getLogger(__name__)
_OPEN_FILES = 64  # stretches merged at a time: the usual limit of a process is 1024 open files, on macOS 256

SortKey = tuple[tuple[int, Any], ...]

_NULL, _NUMBER, _TEXT, _OTHER = range(4)
PLACE = "place"
"""A column of rows that are sorted: their number in the order in which they were read."""


class OutOfOrderError(Exception):
    """The rows did not come in order: read them again through ``externally_sorted``."""


class TwiceError(Exception):
    """A result is there twice; the second one was read as the row of this number, from 0. ``what`` are its keys."""

    def __init__(self, place: int, what: str) -> None:
        self.place = place
        self.what = what
        super().__init__(f"row {place}: {what}")


def in_order(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Pass rows on while they are in strict order of these columns. Raises OutOfOrderError at the first that are not,
    and TwiceError where a row is there twice."""
    before: pa.RecordBatch | None = None
    rows = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        keys = batch.select([*names, "rescued"])
        if before is not None:
            keys = pa.concat_batches([before, keys])
        if not _is_ascending(keys, names):
            row, what = _there_twice(keys, names)
            overlap = keys.num_rows - batch.num_rows
            raise TwiceError(
                batch.column(PLACE)[row - overlap].as_py() if PLACE in batch.schema.names else rows + row - overlap,
                what,
            )
        before = keys.slice(keys.num_rows - 1)
        rows += batch.num_rows
        yield batch


def externally_sorted(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], spool: Path, *, stated: int = 0, beside: int = 0
) -> Iterator[pa.RecordBatch]:
    """All rows in order, with their PLACE. Some at a time become a sorted stretch below ``spool``, and the stretches
    are merged.

    Memory holds one stretch while they are written, and then a chunk of each that is merged at a time. The spool holds
    all rows. Where ``stated`` says how many they are, 0 if that is unknown, NoRoomError is raised after the first
    stretch if they do not fit there with so many rows ``beside`` them.
    """
    stretches: list[_Stretch] = []
    for n, rows in enumerate(_gathered(batches)):
        stretches.append(_Stretch.write(_chunks(_sorted(rows, names)), spool / f"0-{n:06}"))
        if n == 0:
            _check_room(stretches[0], rows.num_rows, stated, beside)
        make_room("sorting rows that are out of order", nothing_to_wait_for)
    for turn in count(1):
        most = _most_at_once(stretches)
        if len(stretches) <= most:
            break
        groups = [stretches[start : start + most] for start in range(0, len(stretches), most)]
        stretches = [_merge(group, names, spool / f"{turn}-{n:06}") for n, group in enumerate(groups)]
    yield from _merged(stretches, names)


def _check_room(first: "_Stretch", rows: int, stated: int, beside: int) -> None:
    """Whether all rows fit, by what the first ones take: and a group of stretches once more, while it is merged."""
    if stated <= rows:
        return
    of_a_row = first.path.stat().st_size / rows
    all_of_them = stated * of_a_row
    stretches = stated / rows
    most = _most_at_once([first])
    twice = min(all_of_them, most * rows * of_a_row) if stretches > most else 0
    needed = int(all_of_them + twice + beside * of_a_row)
    what = f"sorting {stated:,} rows that are out of order"
    _LOG.info("%s takes %d MiB of temporary files at a time", what, needed >> 20)
    check_room(needed, what)


def sort_keys(batch: pa.RecordBatch, names: Sequence[str]) -> list[SortKey]:
    """What each row is ordered by."""
    rescued = batch.column("rescued")
    return list(zip(*(_ranked(batch.column(name), name, rescued) for name in names), strict=True))


def _ranked(column: pa.Array, name: str, rescued: pa.Array) -> list[tuple[int, Any]]:
    rank = _TEXT if pa.types.is_string(column.type) else _NUMBER
    values = column.to_pylist()
    if not column.null_count:
        return [(rank, value) for value in values]
    place = pointer(name)
    return [
        (rank, value) if value is not None else _rank(_rescued_value(rescued[i].as_py(), place))
        for i, value in enumerate(values)
    ]


def _rescued_value(rescued: str | None, place: str) -> Any:
    return None if rescued is None else decode(rescued.encode()).get(place)


def _rank(value: Any) -> tuple[int, Any]:
    match value:
        case None:
            return _NULL, None
        case str():
            return _TEXT, value
        case int() | float() | Decimal() if not isinstance(value, bool):
            return _NUMBER, value
        case _:
            return _OTHER, encode_sorted(value).decode()


def _is_ascending(batch: pa.RecordBatch, names: Sequence[str]) -> bool:
    """Whether rows are in strict order."""
    if batch.num_rows < 2:  # noqa: PLR2004
        return True
    plain = _plain(batch, names)
    if plain is None:
        keys = sort_keys(batch, names)
        return not any(map(tuple.__ge__, keys, keys[1:]))
    ascending = same = None
    for name in plain:
        column = batch.column(name)
        one, other = column[:-1], column[1:]
        less = pc.less(one, other)
        ascending = less if ascending is None else pc.or_(ascending, pc.and_(same, less))
        if name != plain[-1]:
            equal = pc.equal(one, other)
            same = equal if same is None else pc.and_(same, equal)
    return ascending is not None and bool(pc.all(ascending).as_py())


def _plain(batch: pa.RecordBatch, names: Sequence[str]) -> list[str] | None:
    """The columns that order these rows, where all that are null in a row are so in every one and none is rescued; else
    None."""
    columns = [name for name in names if batch.column(name).null_count != batch.num_rows]
    if any(batch.column(name).null_count for name in columns):
        return None
    if len(columns) < len(names) and batch.column("rescued").null_count != batch.num_rows:
        return None
    return columns


def _there_twice(batch: pa.RecordBatch, names: Sequence[str]) -> tuple[int, str]:
    """The row that is there twice among rows that are not in strict order, and its keys. Raises OutOfOrderError where
    that is not all that is wrong."""
    keys = sort_keys(batch, names)
    if any(map(tuple.__gt__, keys, keys[1:])):
        raise OutOfOrderError
    row = next(i for i, (one, other) in enumerate(pairwise(keys), 1) if one == other)
    return row, ", ".join(f"{name}={short(value)}" for name, (_, value) in zip(names, keys[row], strict=True))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """So many rows at a time that the stretches are few, each row with its place."""
    held: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        places = pa.array(range(rows, rows + batch.num_rows), pa.int64())
        held.append(batch.append_column(PLACE, places))
        rows += batch.num_rows
        size += batch.nbytes
        if size >= _STRETCH_BYTES:
            yield pa.concat_batches(held)
            held, size = [], 0
    if held:
        yield pa.concat_batches(held)


def _sorted(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Rows in order; those of one key in the order in which they were read."""
    plain = _plain(batch, names)
    if plain is None:
        keys = sort_keys(batch, names)
        order = pa.array(sorted(range(batch.num_rows), key=keys.__getitem__), pa.int64())
    else:
        order = pc.sort_indices(batch, sort_keys=[(name, "ascending") for name in [*plain, PLACE]])
    return batch.take(order)


def _chunks(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(_CHUNK_ROWS, batch.num_rows * _CHUNK_BYTES // max(1, batch.nbytes)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _most_at_once(stretches: Sequence["_Stretch"]) -> int:
    """How many are merged at a time: few where rows are so large that one of each is much."""
    largest = max((one.largest_chunk for one in stretches), default=1)
    return max(2, min(_OPEN_FILES, _MERGED_BYTES // largest))


def _merge(stretches: Sequence["_Stretch"], names: Sequence[str], path: Path) -> "_Stretch":
    whole = _Stretch.write((chunk for batch in _merged(stretches, names) for chunk in _chunks(batch)), path)
    for stretch in stretches:
        stretch.path.unlink()
    return whole


def _merged(stretches: Sequence["_Stretch"], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of stretches in order. Each time, of every one what is not behind the first key with which a chunk ends:
    all that is not there yet is."""
    with ExitStack() as stack:
        under_way = [_Reader(stack.enter_context(pa.OSFile(str(one.path))), names) for one in stretches]
        while under_way:
            bound = min(one.keys[-1] for one in under_way)
            pieces = [piece for one in under_way if (piece := one.upto(bound)).num_rows]
            under_way = [one for one in under_way if one.keys]
            yield pieces[0] if len(pieces) == 1 else _sorted(pa.concat_batches(pieces), names)


@dataclass(frozen=True)
class _Stretch:
    """Sorted rows in a file, in chunks."""

    path: Path
    largest_chunk: int

    @classmethod
    def write(cls, chunks: Iterator[pa.RecordBatch], path: Path) -> Self:
        first = next(chunks)
        largest = first.nbytes
        with pa.ipc.new_file(str(path), first.schema, options=_WRITTEN) as writer:
            writer.write_batch(first)
            for chunk in chunks:
                largest = max(largest, chunk.nbytes)
                writer.write_batch(chunk)
        return cls(path, largest)


class _Reader:
    """A stretch that is read chunk by chunk. ``keys`` are those of the rows that are there; empty at its end."""

    def __init__(self, file: pa.NativeFile, names: Sequence[str]) -> None:
        self._file = pa.ipc.open_file(file)
        self._names = names
        self._next = 0
        self._chunk: pa.RecordBatch
        self.keys: list[SortKey]
        self._take_next()

    def upto(self, bound: SortKey) -> pa.RecordBatch:
        """The rows up to this key, as far as they are there. Then they are gone."""
        end = bisect_right(self.keys, bound)
        rows, self._chunk, self.keys = self._chunk.slice(0, end), self._chunk.slice(end), self.keys[end:]
        if not self.keys and self._next < self._file.num_record_batches:
            self._take_next()
        return rows

    def _take_next(self) -> None:
        self._chunk = self._file.get_batch(self._next)
        self._next += 1
        self.keys = sort_keys(self._chunk, self._names)
