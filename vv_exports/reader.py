"""Reading a delivery where nothing is configured: its log, one state of it, and the Parquet files of that state.

It stands alone, on pyarrow and fsspec: whoever consumes a delivery imports neither Dagster nor the pipeline.
"""

import json
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.printable import one_line

if TYPE_CHECKING:  # it imports pandas where that is: most of a second, which whoever wants paths alone does not need
    import pyarrow.dataset as ds

NEWEST_FORMAT = 3
"""The newest format_version of log entries that this reads."""
TABLES = ("segments", "videos", "failures", "quarantine")
View = Literal["current", "latest"]

_READ_AT_ONCE = 8
_LOG = "_vv/log"


@dataclass(frozen=True)
class File:
    """One file of a run. ``path`` is relative to the delivery; ``folder`` is its table's, such as ``segments.v2``."""

    path: str
    table: str
    rows: int

    @property
    def folder(self) -> str:
        """The first part of its path."""
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class Run:
    """A prompt run as a delivery holds it, and the entry of the log that says so."""

    run_id: str
    prompt_id: str
    status: str
    executed_at: datetime
    data_version: str
    entry: int
    files: tuple[File, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the platform has it as completed."""
        return self.status == "completed"


@dataclass(frozen=True)
class _Entry:
    sequence: int
    committed_at: datetime
    runs: tuple[Run, ...]
    erased: frozenset[str]


@dataclass(frozen=True)
class Delivery:
    """One state of a delivery. What is delivered later changes nothing of it: open the delivery again to see that."""

    filesystem: Any
    root: str
    _entries: tuple[_Entry, ...]

    @property
    def entry(self) -> int:
        """The last entry of the log that counts."""
        return self._entries[-1].sequence

    def at(self, *, entry: int | None = None, time: datetime | None = None) -> "Delivery":
        """The state as of an entry of the log, or of the last entry that was committed at a time or before. Files that
        were superseded since may be gone."""
        if (entry is None) == (time is None):
            raise RequestError("at() takes either an entry of the log or a time")
        if time is not None and time.tzinfo is None:
            raise RequestError(f"at(time={time.isoformat()}): a time needs a time zone, such as datetime.UTC")
        kept = [
            number
            for number, one in enumerate(self._entries)
            if (one.sequence <= entry if entry is not None else time is not None and one.committed_at <= time)
        ]
        if not kept or (entry is not None and entry > self.entry):
            asked = f"entry {entry}" if entry is not None else f"an entry of {time} or before"
            raise NotFoundError(f"the log of {self.root} has no {asked}: it has those from 0 to {self.entry}")
        return Delivery(self.filesystem, self.root, self._entries[: kept[-1] + 1])

    def runs(self, view: View = "current", *, run: str | None = None, prompt: str | None = None) -> list[Run]:
        """The prompt runs: all that the delivery holds (``current``), or of each prompt the latest that is complete
        (``latest``): of those with the status ``completed``, the one with the greatest ``executed_at``, and of two of
        the same moment, the greater ``run_id``. ``run`` and ``prompt`` choose one of them."""
        if view not in ("current", "latest"):
            raise RequestError(f"there is no view {view!r}: it is 'current' or 'latest'")
        held: dict[str, Run] = {}
        for entry in self._entries:
            held.update((one.run_id, one) for one in entry.runs)
            for erased in entry.erased:
                held.pop(erased, None)
        found: Iterable[Run] = held.values()
        if view == "latest":
            latest: dict[str, Run] = {}
            for one in sorted(found, key=lambda one: (one.executed_at, one.run_id)):
                if one.is_complete:
                    latest[one.prompt_id] = one
            found = latest.values()
        chosen = [one for one in found if run in (None, one.run_id) and prompt in (None, one.prompt_id)]
        if not chosen and (run is not None or prompt is not None):
            asked = " and ".join(
                f"{what} {one_line(name)}" for what, name in (("run", run), ("prompt", prompt)) if name
            )
            raise NotFoundError(f"{self.root}: the view {view} has nothing of the {asked} at entry {self.entry}")
        return sorted(chosen, key=lambda one: (one.entry, one.run_id))

    def files(
        self,
        table: str = "segments",
        view: View = "current",
        *,
        run: str | None = None,
        prompt: str | None = None,
        folder: str | None = None,
    ) -> list[str]:
        """The paths of a table's files, for ``filesystem``. ``folder`` is one version of the table, such as
        ``segments.v2``; without it they are of all versions. A table without rows has none."""
        return [path for _, path in self._files(table, self.runs(view, run=run, prompt=prompt), folder)]

    def dataset(
        self,
        table: str = "segments",
        view: View = "current",
        *,
        run: str | None = None,
        prompt: str | None = None,
        folder: str | None = None,
    ) -> "ds.Dataset":
        """A table's rows as a dataset with the columns of all its files, which must be Parquet. Filters of its scans
        open no files of other prompt runs and prompts than they ask for (``prompt_run_id``, ``prompt_id``), and skip
        what the files' statistics rule out."""
        import pyarrow.dataset as ds  # noqa: PLC0415 - see above

        files = self._files(table, self.runs(view, run=run, prompt=prompt), folder)
        if others := [path for _, path in files if not path.endswith(".parquet")]:
            raise RequestError(
                f"{one_line(others[0])} is not Parquet, and a text does not tell its types: take files(), or "
                "vv_exports.delivery.reading.documents_in, which gives the documents of any format that holds them"
            )
        if not files:
            return ds.dataset(pa.schema([]).empty_table())
        parquet, filesystem = ds.ParquetFileFormat(), _arrow_filesystem(self.filesystem)
        with self._as_delivered(), ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            schemas = pool.map(lambda file: parquet.inspect(file[1], filesystem).remove_metadata(), files)
            try:
                schema = pa.unify_schemas(list(schemas), promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise RequestError(
                    f"the files of {table} have types that no column holds together: {one_line(str(error))}. Read one "
                    "prompt (prompt=…), or one version of the table (folder='segments.v2')"
                ) from error
        run_id, prompt_id = ds.field("prompt_run_id"), ds.field("prompt_id")
        fragments = [
            parquet.make_fragment(path, filesystem, (run_id == one.run_id) & (prompt_id == one.prompt_id))
            for one, path in files
        ]
        return ds.FileSystemDataset(fragments, schema, parquet, filesystem)

    def table(
        self,
        table: str = "segments",
        view: View = "current",
        *,
        run: str | None = None,
        prompt: str | None = None,
        folder: str | None = None,
        columns: list[str] | None = None,
        filter: "ds.Expression | None" = None,  # noqa: A002 - as pyarrow names it
    ) -> pa.Table:
        """The rows in memory. Raises DeliveredDataError where a file is gone: then never a part of them."""
        with self._as_delivered():
            found = self.dataset(table, view, run=run, prompt=prompt, folder=folder)
            return found.to_table(columns=columns, filter=filter)

    def _files(self, table: str, runs: Iterable[Run], folder: str | None) -> list[tuple[Run, str]]:
        """The files of a table, each with its run."""
        if table not in TABLES:
            raise RequestError(f"there is no table {table!r}: it is one of {', '.join(TABLES)}")
        return [
            (one, posixpath.join(self.root, file.path))
            for one in runs
            for file in one.files
            if file.table == table and folder in (None, file.folder)
        ]

    @contextmanager
    def _as_delivered(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DeliveredDataError(
                f"a file of entry {self.entry} is not there any more: {one_line(str(error))}. It was superseded since: "
                "open the delivery again. `retain_superseded` of the automation keeps such files for readers."
            ) from error


def open_delivery(
    path: str | Path, *, filesystem: Any = None, storage_options: Mapping[str, Any] | None = None
) -> Delivery:
    """A delivery as it is now: of a folder or a bag, a zip file of a download, or an address such as
    ``s3://bucket/reviews``.

    ``filesystem`` is one of fsspec, for which ``path`` is then; ``storage_options`` are for the one of an address.
    Raises NotFoundError where nothing was delivered, and DeliveredDataError where the log cannot be read.
    """
    import fsspec  # noqa: PLC0415 - it imports asyncio and more, half of what pyarrow takes

    if filesystem is None:
        filesystem, root = fsspec.url_to_fs(str(path), **(storage_options or {}))
    else:
        root = fsspec.core.strip_protocol(str(path)) if "://" in str(path) else str(path)
    root = root.rstrip("/")
    filesystem.invalidate_cache()  # what it listed before may be an earlier state
    if root.endswith(".zip") and filesystem.isfile(root):
        try:
            filesystem = fsspec.filesystem("zip", fo=filesystem.open(root))
        except zipfile.BadZipFile as error:
            raise DeliveredDataError(f"{one_line(root)} is no whole zip file ({error}); get it again") from error
        logs = {found.group(1) for name in filesystem.find("") if (found := re.match(rf"(.*?){_LOG}/", name))}
        if len(logs) != 1:
            raise NotFoundError(f"{one_line(str(root))} has {len(logs)} delivery logs ({_LOG}/) in it, not one")
        root = logs.pop().rstrip("/")
    numbers = _numbers(filesystem, root)
    if not numbers and (of_bag := _numbers(filesystem, posixpath.join(root, "data"))):  # a bag has it in there
        root, numbers = posixpath.join(root, "data"), of_bag
    log = posixpath.join(root, _LOG)
    if not numbers:
        raise NotFoundError(f"{one_line(log)} has no entries: nothing was delivered there, or it is another folder")
    if numbers != list(range(len(numbers))):
        missing = next(number for number in range(len(numbers)) if number != numbers[number])
        raise DeliveredDataError(f"{one_line(log)} lacks entry {missing}: whoever delivers has to mend its log")
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return Delivery(filesystem, root, tuple(pool.map(partial(_entry, filesystem, log), numbers)))


def _numbers(filesystem: Any, root: str) -> list[int]:
    """Those of the entries of the log in a folder."""
    try:
        names = [posixpath.basename(name) for name in filesystem.ls(posixpath.join(root, _LOG), detail=False)]
    except FileNotFoundError:
        return []
    return sorted(int(name[:20]) for name in names if re.fullmatch(r"[0-9]{20}\.json", name))


def _entry(filesystem: Any, log: str, sequence: int) -> _Entry:
    path = f"{log}/{sequence:020d}.json"
    try:
        told = json.loads(filesystem.cat_file(path))
        if told["format_version"] > NEWEST_FORMAT:
            problem = f"{one_line(path)} has format_version {told['format_version']}: upgrade vv_exports"
            raise DeliveredDataError(problem)
        if told["sequence"] != sequence:
            raise DeliveredDataError(f"{one_line(path)} says that it is entry {told['sequence']}: it was renamed")
        files: dict[str, list[File]] = {}
        for file in told["files"]:
            files.setdefault(file["prompt_run_id"], []).append(File(file["path"], file["table"], file["rows"]))
        executed = {one["run_id"]: one["executed_at"] for one in told["provenance"]["prompt_runs"]}
        erased = frozenset((told.get("erasure") or {}).get("runs", ()))
        runs = tuple(
            Run(
                run_id=one["run_id"],
                prompt_id=one["prompt_id"],
                status=one["status"],
                executed_at=_moment(executed[one["run_id"]]),
                data_version=one["data_version"],
                entry=sequence,
                files=tuple(files.get(one["run_id"], ())),
            )
            for one in told["prompt_runs"]
            if one["run_id"] not in erased
        )
        return _Entry(sequence, _moment(told["committed_at"]), runs, erased)
    except FileNotFoundError as error:
        raise DeliveredDataError(f"{one_line(path)} was there a moment ago: open the delivery again") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeliveredDataError(f"{one_line(path)} is not a delivery log entry: {error!r}") from error


def _arrow_filesystem(filesystem: Any) -> Any:
    import pyarrow.fs as pafs  # noqa: PLC0415 - as pyarrow.dataset
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 - as fsspec

    if type(filesystem) is LocalFileSystem:
        return pafs.LocalFileSystem()
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment
