"""Whole deployments of earlier versions, and a reader of what they delivered that knows nothing of the package.

``DEPLOYMENT`` holds an archive, the pipeline's storage, and a collection in each format. The reader goes by the
delivery log, as ``docs/reading-deliveries.md`` says, and by the standard library and pyarrow.
"""

import csv
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vv_exports.config import load_config
from vv_exports.delivery.entry import DeliveredFile, LogEntry
from vv_exports.delivery.reading import documents_of
from vv_exports.domain.json_text import encode_text
from vv_exports.pipeline import Pipeline

_GOLDEN = Path(__file__).parent / "golden"
DEPLOYMENT = _GOLDEN / "deployment-0.1.tar.gz"
"""Of version 0.1, with prompts that have changed."""
PLAIN = _GOLDEN / "deployment-0.1-plain.tar.gz"
"""Of version 0.1: Parquet alone, of prompts that have not changed, with checkpoints of its log."""
LAYOUT_2 = _GOLDEN / "deployment-layout-2.tar.gz"
"""The archive of ``DEPLOYMENT`` as the code delivered it that wrote layout version 2."""
INDEX = "idx_golden"
FORMATS = ("parquet", "jsonl", "csv", "json")
FIRST_WITH_DOCUMENTS = 2
"""The layout from which on JSON holds ``metadata`` as the model answered."""

RowKey = tuple[str, str, str, str | None]
"""Table, prompt run, video, segment (of videos, none)."""


def unpacked(folder: Path, deployment: Path = DEPLOYMENT, **automation: Any) -> Path:
    """A deployment in an empty folder. ``automation`` is said of each automation, beside what it has."""
    with tarfile.open(deployment) as packed:
        packed.extractall(folder, filter="data")
    config = yaml.safe_load((folder / "vv_exports.yaml").read_text())
    for one in config["indexes"][INDEX]["automations"].values():
        one.update(automation)
    (folder / "vv_exports.yaml").write_text(yaml.safe_dump(config))
    return folder


def pipeline_of(folder: Path) -> Pipeline:
    """The deployment's pipeline, as this version opens it."""
    return Pipeline.from_config(load_config(folder / "vv_exports.yaml"))


def collection_of(folder: Path, format_name: str) -> Path:
    """Where the collection in a format is."""
    return folder / "deliveries/exports" / format_name


def without_source(folder: Path) -> None:
    """Take the archive away."""
    shutil.rmtree(folder / "archive")


def entries(collection: Path) -> list[dict[str, Any]]:
    """The log's entries, in their order."""
    return [json.loads(path.read_text()) for path in sorted((collection / "_vv/log").glob("*.json"))]


@dataclass(frozen=True)
class Held:
    """A run as the log says that it is held: by which entry, why, and in which files."""

    entry: dict[str, Any]
    run: dict[str, Any]
    files: list[dict[str, Any]]

    @property
    def layout(self) -> int:
        """The layout version of the run's files."""
        return self.entry["provenance"]["layout_version"]


def held_runs(collection: Path) -> dict[str, Held]:
    """The replay of a log: for each run, the last entry wins."""
    return {
        run["run_id"]: Held(entry, run, [one for one in entry["files"] if one["prompt_run_id"] == run["run_id"]])
        for entry in entries(collection)
        for run in entry["prompt_runs"]
    }


def archived(folder: Path) -> dict[RowKey, Any]:
    """The documents of all rows, as the archive holds them."""
    found = {}
    for run_folder in (folder / "archive/indexes" / INDEX / "prompt_runs").iterdir():
        run_id = _json((run_folder / "prompt_run.json").read_text())["run_id"]
        for table, name in (("segments", "segment_results"), ("videos", "video_results")):
            path = run_folder / f"{name}.jsonl"
            for line in path.read_text().splitlines() if path.exists() else ():
                row = _json(line)
                found[table, run_id, row["video_id"], row.get("segment_id")] = row["metadata"]
    return found


def failed(folder: Path) -> int:
    """How many failed segments the archive holds."""
    return sum(len(path.read_text().splitlines()) for path in (folder / "archive").rglob("failed_segments.jsonl"))


def differences(collection: Path, documents: dict[RowKey, Any], failures: int, *, exact: bool = True) -> list[str]:
    """In what a collection differs from documents; reads each file that the log names, and all of it. Where it is not
    ``exact``, numbers of documents are compared by their value."""
    said: list[str] = []
    unread = dict(documents)
    for run_id, held in held_runs(collection).items():
        for file in held.files:
            is_flat = file["path"].endswith(".csv") and held.layout >= FIRST_WITH_DOCUMENTS
            rows = list((_flat_rows if is_flat else _rows)(collection / file["path"], held.entry, file))
            if len(rows) != file["rows"]:
                said.append(f"{file['path']} has {len(rows)} rows, and the log says {file['rows']}")
            if file["table"] == "failures":
                failures -= len(rows)
                continue
            told = _Told()
            for row in rows:
                key = (file["table"], run_id, row["video_id"], row.get("segment_id"))
                if key not in unread:
                    said.append(f"{key} is there twice, or is no row of the archive")
                else:
                    said += [f"{key}: {one}" for one in _row_differences(row, unread.pop(key), held, told, exact=exact)]
            said += [f"{file['path']}: null and absent are the same at {path}" for path in told.ambiguous()]
    said += [f"{key} is missing" for key in unread]
    return [*said, *([f"{failures} failed segments are missing"] if failures else [])]


def _flat_rows(path: Path, entry: dict[str, Any], file: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows for a spreadsheet, by the package's own reader: what is in which cell is tested with that encoding."""
    return documents_of(path, msgspec.convert(entry, LogEntry), msgspec.convert(file, DeliveredFile))


def _rows(path: Path, *_: Any) -> Iterator[dict[str, Any]]:
    match path.name.partition(".")[2]:
        case "parquet":
            yield from pq.ParquetFile(path).read().to_pylist()
        case "jsonl.zst":
            with pa.input_stream(path, compression="zstd") as stream:
                yield from map(_json, stream.read().decode().splitlines())
        case "json":
            yield from _json(path.read_text())
        case "csv":
            with path.open(encoding="utf-8", newline="") as stream:
                yield from csv.DictReader(stream)
        case _:
            raise AssertionError(f"{path} is of a format that this reader does not know")


def _row_differences(row: dict[str, Any], document: Any, held: Held, told: "_Told", *, exact: bool) -> list[str]:
    name = held.entry["provenance"]["format"]
    if name in {"jsonl", "json"} and held.layout >= FIRST_WITH_DOCUMENTS:
        is_same = _same(row["metadata"], document) if exact else row["metadata"] == document
        return [] if is_same else [f"{row['metadata']} is not {document}"]
    if name == "csv" and held.layout >= FIRST_WITH_DOCUMENTS:
        found = _json(encode_text(row["metadata"])) if "metadata" in row else None
        return [] if found == document else [f"{found} is not {document}"]
    stored, rescued, absent = row["metadata"], row["rescued"], row["absent"]
    if name == "csv":
        stored, absent = _json(stored) if stored else None, _json(absent) if absent else None
    typed = _TypedRow(_json(rescued or "{}"), set(absent or ()), told)
    return list(typed.differences(stored, document, "/metadata"))


@dataclass
class _Told:
    """How the rows of a file say that a value is null, and that it is absent, where they say it by no mark."""

    unmarked: dict[str, set[str]] = field(default_factory=dict)

    def ambiguous(self) -> list[str]:
        return [path for path, ways in self.unmarked.items() if len(ways) > 1]


@dataclass(frozen=True)
class _TypedRow:
    """A row of typed columns, compared with the document that it is to hold. Needs no schema: what a column cannot
    hold is in ``rescued`` by its pointer, or is JSON text in its place."""

    rescued: dict[str, Any]
    absent: set[str]
    told: _Told

    def differences(self, stored: Any, document: Any, pointer: str) -> Iterator[str]:
        if pointer in self.rescued:
            yield from () if _same(self.rescued[pointer], document) else [f"{pointer} is rescued as another value"]
        elif isinstance(document, dict) and isinstance(stored, dict):
            yield from self._of_properties(stored, document, pointer)
        elif isinstance(document, list) and isinstance(stored, list):
            if len(stored) != len(document):
                yield f"{pointer} has {len(stored)} items, and the document {len(document)}"
            for number, (one, other) in enumerate(zip(stored, document, strict=False)):
                yield from self.differences(one, other, f"{pointer}/{number}")
        elif pointer in self.absent:
            yield f"{pointer} is said to be absent, and the document has it"
        elif document is None and stored is None:
            self._unmarked(pointer, "null")
        elif not _equal(stored, document):
            yield f"{pointer} is {stored!r}, and not {document!r}"

    def _of_properties(self, stored: dict[str, Any], document: dict[str, Any], pointer: str) -> Iterator[str]:
        for name in sorted(stored.keys() | document.keys()):
            below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in document and (name in stored or below in self.rescued):
                yield from self.differences(stored.get(name), document[name], below)
            elif name in document:
                yield f"{below} is nowhere in the row"
            elif stored[name] is not None:
                yield f"{below} is {stored[name]!r}, and the document has no such property"
            elif below not in self.absent:
                self._unmarked(below, "absent")

    def _unmarked(self, pointer: str, way: str) -> None:
        column = "/".join("[]" if part.isdigit() else part for part in pointer.split("/"))
        self.told.unmarked.setdefault(column, set()).add(way)


def _equal(stored: Any, document: Any) -> bool:
    """Whether a typed value stands for one of a document: a number by its value, anything as its JSON text."""
    if isinstance(stored, str) and not (isinstance(document, str) and stored == document):
        try:
            return _same(_json(stored), document)
        except ValueError:
            return False
    if isinstance(stored, bool) or isinstance(document, bool):
        return stored is document
    if isinstance(stored, float) and isinstance(document, Decimal):
        return Decimal(repr(stored)) == document
    return stored is not None and stored == document


def _same(one: Any, other: Any) -> bool:
    """Whether two decoded JSON values are equal, 1 and 1.0 and true told apart."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)
