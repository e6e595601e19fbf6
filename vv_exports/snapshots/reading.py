"""Reading one prompt run from its source into typed local Parquet files, in one pass and bounded memory."""

import gc
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from vv_exports.domain.json_text import encode_each_sorted, encode_sorted
from vv_exports.domain.prompt_runs import Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.formats.base import TableWriter
from vv_exports.formats.parquet import Parquet
from vv_exports.snapshots.json_schema import compile_schema
from vv_exports.snapshots.ordering import OutOfOrderError, externally_sorted, in_order
from vv_exports.snapshots.tables import LAYOUT_VERSION, SORT_KEYS, Table, prepare, tables_of
from vv_exports.sources.base import Page, Results

PART_ROWS = 1_000_000
"""Rows after which a table goes on in another file."""


@dataclass(frozen=True)
class SpoolFile:
    """A finished local Parquet file."""

    path: Path
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Reading:
    """One run as it was read. ``data_version`` is 64 hex characters."""

    prompt: Prompt
    data_version: str
    files: dict[TableName, list[SpoolFile]]
    kept_as_json: dict[str, str]
    rescued_rows: int


def read_run(results: Results, run: PromptRun, spool: Path) -> Reading:
    """Read all results of a run into ``spool``. Raises what the source raises; then nothing is kept."""
    prompt = results.prompt
    tables = tables_of(prompt)
    pages = {"segments": results.segments, "videos": results.videos, "failures": results.failures}
    version = hashlib.sha256(encode_sorted([LAYOUT_VERSION, prompt.json_schema, prompt.video_level_schema]))
    files: dict[TableName, list[SpoolFile]] = {}
    rescued = 0
    for name, table in tables.items():
        spooled = _read_table(pages[name], table, run, spool)
        version.update(f"\n{name} {spooled.digest.hexdigest()}".encode())
        rescued += spooled.rescued
        # A table without rows has no file, except the segments: a delivered run is never without a trace.
        if spooled.rows or name == "segments":
            files[name] = spooled.files
    kept = {f"segments{place}": reason for place, reason in compile_schema(prompt.json_schema).kept_as_json.items()}
    if "videos" in tables:
        video_level = compile_schema(prompt.video_level_schema).kept_as_json
        kept |= {f"videos{place}": reason for place, reason in video_level.items()}
    return Reading(prompt, version.hexdigest(), files, kept, rescued)


def _read_table(pages: Callable[[], Iterator[Page]], table: Table, run: PromptRun, spool: Path) -> "_Spooled":
    names = SORT_KEYS[table.name]
    with suppress(OutOfOrderError), _garbage_collection_paused():
        return _spool(in_order(pages(), names), table, run, spool)
    stretches = spool / f"sort-{table.name}"
    stretches.mkdir()
    try:
        return _spool(externally_sorted(pages(), names, stretches), table, run, spool)
    finally:
        shutil.rmtree(stretches)


@dataclass
class _Spooled:
    """A table on its way to the spool."""

    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    rows: int = 0
    rescued: int = 0
    files: list[SpoolFile] = field(default_factory=list)


def _spool(pages: Iterator[Page], table: Table, run: PromptRun, spool: Path) -> _Spooled:
    spooled = _Spooled()
    parts = _Parts(table, spool)
    try:
        for page in pages:
            prepare(page.documents, run, table.name)
            spooled.digest.update(b"\n".join(encode_each_sorted(page.documents)) + b"\n")
            batch = table.batch(page.documents, run)
            spooled.rows += batch.num_rows
            spooled.rescued += batch.num_rows - batch.column("rescued").null_count
            parts.write(batch)
        spooled.files = parts.close()
    except BaseException:
        # Rows out of order are read again into files of the same names. A writer that was left to the garbage
        # collector would flush what it holds into the new files.
        parts.abandon()
        raise
    return spooled


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
    """Consecutive files of one table, of PART_ROWS rows each."""

    def __init__(self, table: Table, spool: Path) -> None:
        self._table = table
        self._spool = spool
        self._files: list[SpoolFile] = []
        self._rows = 0
        self._writer: TableWriter = self._open()

    def write(self, batch: pa.RecordBatch) -> None:
        while self._rows + batch.num_rows > PART_ROWS:
            room = PART_ROWS - self._rows
            self._writer.write(batch.slice(0, room))
            self._rows += room
            self._finish()
            self._writer = self._open()
            batch = batch.slice(room)
        self._writer.write(batch)
        self._rows += batch.num_rows

    def close(self) -> list[SpoolFile]:
        self._finish()
        return self._files

    def abandon(self) -> None:
        """Give up the file that is open."""
        self._writer.abandon()

    @property
    def _path(self) -> Path:
        return self._spool / f"{self._table.name}-{len(self._files):05}{Parquet.suffix}"

    def _open(self) -> TableWriter:
        self._rows = 0
        return Parquet().open(self._path, self._table.schema)

    def _finish(self) -> None:
        self._writer.close()
        path = self._path
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._files.append(SpoolFile(path, self._rows, path.stat().st_size, digest))
