"""Reading one prompt run from its source into typed local Parquet files, in one pass and bounded memory."""

import gc
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.errors import SourceDataError
from vv_exports.formats.base import TableWriter
from vv_exports.formats.parquet import Parquet
from vv_exports.snapshots.completeness import Completeness, check_balance
from vv_exports.snapshots.contract import Contract, contract_of
from vv_exports.snapshots.contract_report import ContractCheck, ContractReport
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.ordering import OutOfOrderError, TwiceError, externally_sorted, in_order
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
_KEYS_AT_A_TIME = 65_536
_HASHED_AS = 3
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
    for. ``contract`` says which rows break the prompt's schemas."""

    prompt: Prompt
    data_version: str
    files: dict[TableName, list[SpoolFile]]
    kept_as_json: dict[str, str]
    rescued_rows: int
    completeness: Completeness
    contract: dict[TableName, ContractReport]
    earlier_version: str | None = None


def read_run(results: Results, run: PromptRun, spool: Path, *, earlier: bool = False) -> Reading:
    """Read all results of a run into ``spool``; with ``earlier``, for the earlier data version too, which takes
    longer. Raises what the source raises; then nothing is kept."""
    prompt = results.prompt
    tables = tables_of(prompt)
    pages = {"segments": results.segments, "videos": results.videos, "failures": results.failures}
    found: dict[TableName, _Spooled] = {}
    for name, table in tables.items():
        contract = contract_of(_schema_of(prompt, name)) if table.has_answers else None
        found[name] = _read_table(pages[name], TypedPages(table, run, documents=earlier), table, contract, spool)
    completeness = _completeness(run, found)
    check_balance(run.run_id, run.index_id, completeness)
    kept = {f"segments{place}": reason for place, reason in compile_schema(prompt.json_schema).kept_as_json.items()}
    if "videos" in tables:
        video_level = compile_schema(prompt.video_level_schema).kept_as_json
        kept |= {f"videos{place}": reason for place, reason in video_level.items()}
    return Reading(
        prompt,
        _version(_HASHED_AS, prompt, {name: one.hash.digest().hex() for name, one in found.items()}),
        # A table without rows has no file, except the segments: a delivered run is never without a trace.
        {name: one.files for name, one in found.items() if one.rows or name == "segments"},
        kept,
        sum(one.rescued for one in found.values()),
        completeness,
        {name: one.check.report for name, one in found.items() if one.check is not None},
        _version(_HASHED_BEFORE, prompt, {name: one.documents.hexdigest() for name, one in found.items()})
        if earlier
        else None,
    )


def _version(hashed_as: int, prompt: Prompt, digests: dict[TableName, str]) -> str:
    whole = hashlib.sha256(encode_sorted([hashed_as, prompt.json_schema, prompt.video_level_schema]))
    for name, digest in digests.items():
        whole.update(f"\n{name} {digest}".encode())
    return whole.hexdigest()


def _schema_of(prompt: Prompt, table: TableName) -> Any:
    return prompt.video_level_schema if table == "videos" else prompt.json_schema


def _completeness(run: PromptRun, found: "dict[TableName, _Spooled]") -> Completeness:
    segments, failures = found["segments"], found["failures"]
    partly = _in_both(segments.files, failures.files) if segments.rows and failures.rows else 0
    return Completeness(
        expected=run.count("total_segments"),
        delivered=segments.rows,
        failed=failures.rows - partly,
        partly=partly,
    )


def _in_both(segments: "list[SpoolFile]", failures: "list[SpoolFile]") -> int:
    """How many segments have a result and are among the failures too."""
    failed = pa.concat_arrays([key for file in failures for key in _keys(file)])
    return sum(pc.sum(pc.is_in(key, failed)).as_py() or 0 for file in segments for key in _keys(file))


def _keys(file: "SpoolFile") -> Iterator[pa.Array]:
    with pq.ParquetFile(file.path) as opened:
        for batch in opened.iter_batches(_KEYS_AT_A_TIME, columns=["video_id", "segment_id"], use_threads=False):
            texts = [pc.fill_null(batch.column(name), "") for name in ("video_id", "segment_id")]
            lengths = pc.binary_length(texts[0]).cast(pa.string())  # so that no two pairs are one text
            yield pc.binary_join_element_wise(lengths, *texts, " ")


def _read_table(
    pages: Callable[[], Iterator[Page]], typed: TypedPages, table: Table, contract: Contract | None, spool: Path
) -> "_Spooled":
    names = SORT_KEYS[table.name]
    try:
        with _garbage_collection_paused():
            with suppress(OutOfOrderError):
                return _spool(in_order(_grouped(typed.batches(pages())), names), table, contract, spool)
            stretches = spool / f"sort-{table.name}"
            stretches.mkdir()
            try:
                rows = externally_sorted(typed.batches(pages()), names, stretches)
                return _spool(in_order(_grouped(rows), names), table, contract, spool)
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
class _Spooled:
    """A table on its way to the spool. ``check`` is of its rows against the prompt's schema, where it has answers;
    ``documents`` is the hash of its documents, where they are asked for."""

    check: ContractCheck | None
    hash: RowHash = field(default_factory=RowHash)
    documents: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    rows: int = 0
    rescued: int = 0
    files: list[SpoolFile] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, hashed: list[str]) -> None:
        self.rows += batch.num_rows
        self.rescued += batch.num_rows - batch.column("rescued").null_count
        self.hash.update(batch.select(hashed))
        if self.check is not None:
            self.check.add(batch, batch.column(ANSWER))
        if DOCUMENT in batch.schema.names:
            for text in batch.column(DOCUMENT):
                self.documents.update(text.as_buffer())
                self.documents.update(b"\n")


def _spool(batches: Iterator[pa.RecordBatch], table: Table, contract: Contract | None, spool: Path) -> _Spooled:
    spooled = _Spooled(None if contract is None else ContractCheck(contract))
    # An answer says all that its typed columns do, and how its numbers were written.
    hashed = [name for name in table.schema.names if name not in {*RUN_COLUMNS, "metadata"}]
    hashed += [ANSWER] if table.has_answers else []
    parts = _Parts(table, spool)
    try:
        for batch in batches:
            spooled.add(batch, hashed)
            answers = pa.record_batch([batch.column(ANSWER)], schema=ANSWERS) if table.has_answers else None
            parts.write(batch.select(table.schema.names), answers)
        spooled.files = parts.close()
    except BaseException:
        # Rows out of order are read again into files of the same names. A writer that was left to the garbage
        # collector would flush what it holds into the new files.
        parts.abandon()
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
    """Consecutive files of one table, of PART_ROWS rows each, or fewer that are large; beside them those of answers."""

    def __init__(self, table: Table, spool: Path) -> None:
        self._table = table
        self._spool = spool
        self._files: list[SpoolFile] = []
        self._bytes = 0
        self._columns = table.column.width
        self._most_bytes = _PART_BYTES_OF_COLUMNS // self._columns
        self._open()

    def write(self, batch: pa.RecordBatch, answers: pa.RecordBatch | None) -> None:
        while batch.num_rows:
            if self._rows >= PART_ROWS or self._bytes >= self._most_bytes:
                self._finish()
                self._open()
            count = self._fitting(min(batch.num_rows, PART_ROWS - self._rows), answers)
            self._writer.write(batch.slice(0, count))
            if self._answers is not None and answers is not None:
                self._answers.write(answers.slice(0, count))
                answers = answers.slice(count)
            self._rows += count
            batch = batch.slice(count)

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
        """Give up the files that are open."""
        self._writer.abandon()
        if self._answers is not None:
            self._answers.abandon()

    def _open(self) -> None:
        self._rows, self._bytes = 0, 0
        name = f"{self._table.name}-{len(self._files):05}"
        self._path = self._spool / f"{name}.parquet"
        self._writer: TableWriter = _TYPED.open(self._path, self._table.schema)
        self._answers_path = self._spool / f"{name}.answers.parquet"
        self._answers = _ANSWERS.open(self._answers_path, ANSWERS) if self._table.has_answers else None

    def _finish(self) -> None:
        self._writer.close()
        answers = None
        if self._answers is not None:
            self._answers.close()
            answers = self._finished(self._answers_path)
        self._files.append(replace(self._finished(self._path), answers=answers))

    def _finished(self, path: Path) -> SpoolFile:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return SpoolFile(path, self._rows, path.stat().st_size, digest)
