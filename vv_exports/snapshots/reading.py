"""Reading one prompt run from its source into typed local Parquet files, in one pass and bounded memory.

Each file is handed on as soon as the next one is begun: a run may be larger than the local disk.
"""

import gc
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.connectors.spool import check_room, make_room
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.errors import SourceDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.parquet import Parquet
from vv_exports.snapshots.completeness import Completeness, check_balance
from vv_exports.snapshots.contract import Contract, contract_of
from vv_exports.snapshots.contract_report import ContractCheck, ContractReport
from vv_exports.snapshots.erasures import NOTHING, Excluded
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.ordering import OutOfOrderError, TwiceError, externally_sorted, in_order
from vv_exports.snapshots.partly_failed import PartlyFailed
from vv_exports.snapshots.row_hash import RowHash
from vv_exports.snapshots.tables import ANSWERS, RUN_COLUMNS, SORT_KEYS, UNLIKE, Table, tables_of
from vv_exports.snapshots.typed_pages import ANSWER, DOCUMENT, TypedPages
from vv_exports.sources.base import Page, Results

PART_ROWS = 1_000_000
"""Rows after which a table goes on in another file."""
_PART_BYTES_OF_COLUMNS = 100_000 * (32 << 20)
"""Or so many bytes, times columns. Of each column in each row group, which is of 32 MiB, a writer remembers a kilobyte
until the file is complete: 100 MB of a file that is written, whatever it is that makes it wide or long."""
_GROUP_ROWS = 8_192
_GROUP_BYTES = 8 << 20
HASHED_AS = 3
"""Part of every data version. Raised where the same results would be hashed otherwise, and then all look changed."""
_HASHED_BEFORE = 1

_TYPED = Parquet(unlike=UNLIKE)
_ANSWERS = Parquet(unlike=frozenset(ANSWERS.names))


@dataclass(frozen=True)
class SpoolFile:
    """A finished local Parquet file, and that of its rows' answers, where the table has some."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    answers: "SpoolFile | None" = None


@dataclass(frozen=True)
class Reading:
    """One run as it was read. ``data_version`` is the hash of the rows and the prompt's schemas, 64 hex characters;
    ``earlier_version`` is the data version that layouts 1 and 2 gave to the same documents, where that was asked
    for. ``contract`` says which rows break the prompt's schemas. ``erased`` are the rows of media that were erased,
    which are left out."""

    prompt: Prompt
    data_version: str
    files: dict[TableName, list[SpoolFile]]
    kept_as_json: dict[str, str]
    rescued_rows: int
    completeness: Completeness
    contract: dict[TableName, ContractReport]
    earlier_version: str | None = None
    erased: dict[TableName, int] = field(default_factory=dict)


class TakesParts(Protocol):
    """What takes finished files of a reading away, all but the last one of each table."""

    def add(self, file: SpoolFile, /) -> None:
        """Take a file, which is another one's then: it may be gone at once, or later."""

    def wait(self) -> None:
        """Until all that were taken are gone from the local disk."""


class _Stay:
    """Leaves files where they are."""

    def add(self, file: SpoolFile) -> None:
        """See ``TakesParts.add``."""

    def wait(self) -> None:
        """See ``TakesParts.wait``."""


STAY: TakesParts = _Stay()


def failures_first(names: Iterable[TableName]) -> list[TableName]:
    """The tables in the order in which they are read: segments are looked up among the failures."""
    return sorted(names, key=lambda name: name != "failures")


def read_run(
    results: Results,
    run: PromptRun,
    spool: Path,
    *,
    parts: TakesParts = STAY,
    earlier: bool = False,
    excluded: Excluded = NOTHING,
) -> Reading:
    """Read all results of a run into ``spool``, but for what is ``excluded``; with ``earlier``, for the earlier data
    version too, which takes longer. Raises what the source raises; and NoRoomError, as soon as that can be told, where
    the spool has no room for a part, or to sort what is out of order."""
    prompt = results.prompt
    tables = tables_of(prompt)
    pages = {"segments": results.segments, "videos": results.videos, "failures": results.failures}
    read: dict[TableName, Spooled] = {}
    for name in failures_first(tables):
        table = tables[name]
        stated = run.stated_segments if name == "segments" else 0
        write = partial(
            spool_rows,
            table=table,
            contract=contract_of(schema_of(prompt, name)) if table.has_answers else None,
            spool=spool,
            excluded=excluded,
            parts=parts,
            failures=read.get("failures"),
            stated=stated,
        )
        typed = TypedPages(table, run, documents=earlier)
        read[name] = _read_table(pages[name], typed, table.name, spool, write, stated)
    found = {name: read[name] for name in tables}
    erased = {name: one.erased for name, one in found.items() if one.erased}
    completeness = Completeness.of_rows(
        run,
        segments=found["segments"].rows,
        failures=found["failures"].rows,
        partly=found["segments"].partly_failed,
        erased=erased,
    )
    check_balance(run.run_id, run.index_id, completeness)
    kept = {f"segments{place}": reason for place, reason in compile_schema(prompt.json_schema).kept_as_json.items()}
    if "videos" in tables:
        video_level = compile_schema(prompt.video_level_schema).kept_as_json
        kept |= {f"videos{place}": reason for place, reason in video_level.items()}
    return Reading(
        prompt,
        version_of(HASHED_AS, prompt, {name: one.hash.digest().hex() for name, one in found.items()}),
        # A table without rows has no file, except the segments: a delivered run is never without a trace.
        {name: one.files for name, one in found.items() if one.rows or name == "segments"},
        kept,
        sum(one.rescued for one in found.values()),
        completeness,
        reports_of(found),
        version_of(_HASHED_BEFORE, prompt, {name: one.documents.hexdigest() for name, one in found.items()})
        if earlier
        else None,
        erased,
    )


def version_of(hashed_as: int, prompt: Prompt, digests: dict[TableName, str]) -> str:
    """The data version of rows with these digests."""
    whole = hashlib.sha256(encode_sorted([hashed_as, prompt.json_schema, prompt.video_level_schema]))
    for name, digest in digests.items():
        whole.update(f"\n{name} {digest}".encode())
    return whole.hexdigest()


def schema_of(prompt: Prompt, table: TableName) -> Any:
    """The schema of a table's ``metadata``."""
    return prompt.video_level_schema if table == "videos" else prompt.json_schema


def reports_of(found: "dict[TableName, Spooled]") -> dict[TableName, ContractReport]:
    """What of the tables breaks the prompt's schemas."""
    return {name: one.check.report for name, one in found.items() if one.check is not None}


def _read_table(  # noqa: PLR0917
    pages: Callable[[], Iterator[Page]],
    typed: TypedPages,
    name: TableName,
    spool: Path,
    write: "Callable[[Iterator[pa.RecordBatch]], Spooled]",
    stated: int,
) -> "Spooled":
    names = SORT_KEYS[name]
    try:
        with _garbage_collection_paused():
            with suppress(OutOfOrderError):
                return write(in_order(_grouped(typed.batches(pages())), names))
            stretches = spool / f"sort-{name}"
            stretches.mkdir()
            try:
                beside = 2 * min(stated, PART_ROWS)  # the part that is written, and the one that is uploaded
                batches = typed.batches(pages())
                rows = externally_sorted(batches, names, stretches, stated=stated, beside=beside)
                return write(in_order(_grouped(rows), names))
            finally:
                shutil.rmtree(stretches)
    except TwiceError as error:
        place, what = error.place, error.what
    where = _location(pages(), place)
    raise SourceDataError(f"{where}: the result {what} is there twice; a run holds each result once")


def _location(pages: Iterator[Page], row: int) -> str:
    """Where the row of this number was read."""
    for page in pages:
        if row < page.rows:
            return page.locate(row)
        row -= page.rows
    return f"row {row + 1} after the last"  # what was read meanwhile is shorter


@dataclass
class Spooled:
    """A table on its way to the spool. ``check`` is of its rows against the prompt's schema, where it has answers;
    ``documents`` is the hash of its documents, where they are asked for. ``partly`` looks segments up among the
    failures; ``partly_failed`` is how many are there too."""

    check: ContractCheck | None
    partly: PartlyFailed | None
    hash: RowHash = field(default_factory=RowHash)
    documents: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    rows: int = 0
    rescued: int = 0
    erased: int = 0
    partly_failed: int = 0
    files: list[SpoolFile] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, hashed: list[str]) -> None:
        self.rows += batch.num_rows
        self.rescued += batch.num_rows - batch.column("rescued").null_count
        self.hash.update(batch.select(hashed))
        if self.partly is not None:
            self.partly.add(batch)
        if self.check is not None:
            self.check.add(batch, batch.column(ANSWER))
        if DOCUMENT in batch.schema.names:
            for text in batch.column(DOCUMENT):
                self.documents.update(text.as_buffer())
                self.documents.update(b"\n")


def spool_rows(
    batches: Iterable[pa.RecordBatch],
    table: Table,
    contract: Contract | None,
    spool: Path,
    excluded: Excluded = NOTHING,
    *,
    parts: TakesParts = STAY,
    failures: "Spooled | None" = None,
    stated: int = 0,
) -> Spooled:
    """Write typed rows in their order, each with its answer, but for those that are excluded; the others are checked
    against the contract. ``failures`` are those of the run, which are there; ``stated`` is how many rows are expected,
    0 where that is unknown."""
    partly = PartlyFailed([file.path for file in failures.files]) if failures and table.name == "segments" else None
    spooled = Spooled(None if contract is None else ContractCheck(contract), partly)
    # An answer says all that its typed columns do, and how its numbers were written.
    hashed = [name for name in table.schema.names if name not in {*RUN_COLUMNS, "metadata"}]
    hashed += [ANSWER] if table.has_answers else []
    # Failures stay until the segments were looked up among them.
    written = _Parts(table, spool, STAY if table.name == "failures" else parts, stated)
    try:
        for each in batches:
            batch = excluded.without(each)
            spooled.erased += each.num_rows - batch.num_rows
            if not batch.num_rows and each.num_rows:
                continue  # as if it had never been read: no rows give no other hash than none
            spooled.add(batch, hashed)
            answers = pa.record_batch([batch.column(ANSWER)], schema=ANSWERS) if table.has_answers else None
            written.write(batch.select(table.schema.names), answers)
        spooled.partly_failed = 0 if partly is None else partly.finish()
        spooled.files = written.close()
    except BaseException:
        # Rows out of order are read again into files of the same names. A writer that was left to the garbage
        # collector would flush what it holds into the new files.
        written.abandon()
        raise
    return spooled


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, some thousands at a time: to hash, order and write them costs calls for each column."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        del batch
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield _one(held)
            rows = size = 0
    if held:
        yield _one(held)


def _one(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows together; nothing of them is held any more."""
    batch = held[0] if len(held) == 1 else pa.concat_batches(held)
    held.clear()
    return batch


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Decoded JSON has no cycles, but making it starts the search for cycles over and over: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Parts:
    """Consecutive files of one table, of PART_ROWS rows each, or fewer that are large; beside them those of answers.
    Each goes to ``parts`` as soon as another one follows."""

    def __init__(self, table: Table, spool: Path, parts: TakesParts, stated: int) -> None:
        self._table = table
        self._spool = spool
        self._parts = parts
        self._stated = min(stated, PART_ROWS)
        self._files: list[SpoolFile] = []
        self._bytes = 0
        self._columns = table.column.width
        self._most_bytes = _PART_BYTES_OF_COLUMNS // self._columns
        self._open()

    def write(self, batch: pa.RecordBatch, answers: pa.RecordBatch | None) -> None:
        while batch.num_rows:
            if self._rows >= PART_ROWS or self._bytes >= self._most_bytes:
                self._finish()
                self._parts.add(self._files[-1])
                self._open()
            make_room(f"reading {self._table.name}", self._parts.wait)
            count = self._fitting(min(batch.num_rows, PART_ROWS - self._rows), answers)
            self._writer.write(batch.slice(0, count))
            if self._answers is not None and answers is not None:
                self._answers.write(answers.slice(0, count))
                answers = answers.slice(count)
            self._rows += count
            batch = batch.slice(count)
        if not self._files and self._stated > self._rows:
            self._check_room()

    def _check_room(self) -> None:
        """Say as early as can be that there is none for the first part: by what its rows have taken until now. Then
        nothing was uploaded yet."""
        written = self._writer.bytes_written + (0 if self._answers is None else self._answers.bytes_written)
        check_room(written * self._stated // self._rows, f"reading a part of {self._stated:,} {self._table.name}")

    def _fitting(self, rows: int, answers: pa.RecordBatch | None) -> int:
        """How many of so many rows belong to the part that is open, by the size of the rows alone: batches that end at
        other places must not give other files. A typed row has some bytes for each column, and those of its answer."""
        if answers is None:
            return rows
        lengths = pc.binary_length(answers.column(0).slice(0, rows))
        all_of_them = self._bytes + pc.sum(lengths).as_py() + 8 * self._columns * rows
        if all_of_them < self._most_bytes:
            self._bytes = all_of_them
            return rows
        sizes = pc.add(lengths.cast(pa.int64()), 8 * self._columns)
        upto = pc.add(pc.cumulative_sum(sizes), self._bytes)
        last = pc.index(pc.greater_equal(upto, self._most_bytes), True).as_py()
        count = rows if last < 0 else last + 1
        self._bytes = int(upto[count - 1].as_py())
        return count

    def close(self) -> list[SpoolFile]:
        self._finish()
        return self._files

    def abandon(self) -> None:
        """Give up the files that are open. Those that were taken away are gone then: others may have their names."""
        self._writer.abandon()
        if self._answers is not None:
            self._answers.abandon()
        self._parts.wait()

    def _open(self) -> None:
        self._rows, self._bytes = 0, 0
        name = f"{self._table.name}-{len(self._files):05}"
        self._path = self._spool / f"{name}.parquet"
        self._writer: TableWriter = _TYPED.open(self._path, self._table.schema)
        self._answers_path = self._spool / f"{name}.answers.parquet"
        self._answers = _ANSWERS.open(self._answers_path, ANSWERS) if self._table.has_answers else None

    def _finish(self) -> None:
        if self._answers is None:
            self._files.append(self._closed(self._writer, self._path))
            return
        with ThreadPoolExecutor(1, thread_name_prefix="answers") as thread:  # both have row groups to be encoded
            answers = thread.submit(self._closed, self._answers, self._answers_path)
            typed = self._closed(self._writer, self._path)
            self._files.append(replace(typed, answers=answers.result()))

    def _closed(self, writer: TableWriter, path: Path) -> SpoolFile:
        writer.close()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return SpoolFile(path, self._rows, path.stat().st_size, digest)
