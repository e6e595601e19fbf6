"""What a layout version promises: what readers see of the golden archive, in every format.

``python -m vv_exports_tests.layouts`` writes the golden files of a version that has none yet.
"""

import json
import re
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.entry import FORMAT_WITHOUT_QUARANTINE
from vv_exports.domain.content_options import TABLE_FORMATS, ContentOptions, FormatOptions
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.tables import LAYOUT_VERSION
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW, Deployment

GOLDEN = Path(__file__).parent / "golden"
ARCHIVE = GOLDEN / "archive"
SUMS = GOLDEN / "SHA256SUMS"
INDEX = "idx_golden"
LAYOUT = f"layout-{LAYOUT_VERSION}"
LOG = f"log-{FORMAT_WITHOUT_QUARANTINE}"
OF_VIDEOS = {
    "captions": FormatOptions("webvtt", text=("metadata_text", "metadata.title")),
    "chapters": FormatOptions("webvtt", kind="chapters"),
    "metadata": FormatOptions("webvtt", kind="metadata"),
    "markers": FormatOptions("markers", frame_rate="29.97", start_timecode="00:59:50;00", note=("metadata.title",)),
}
COMMAND = "python -m vv_exports_tests.layouts"


def made(folder: Path) -> dict[str, bytes]:
    """What the code makes of the golden archive, as golden files: path -> content. Works in an empty folder.

    What depends on the place, the time and the libraries is left out: addresses, ids, hashes of compressed files.
    """
    deployment = Deployment(folder)
    source = LocalArchive(str(ARCHIVE))
    runs = sorted(source.listing(INDEX).runs, key=lambda run: run.run_id)
    snapshots = [deployment.store.take(source, run, NOW) for run in runs]
    found = {f"{LAYOUT}/snapshots/{number}.json": _json(_snapshot(one)) for number, one in enumerate(snapshots)}
    for number, snapshot in enumerate(snapshots):
        for table in ("segments", "videos"):
            rows = deployment.store.rows(snapshot, table, answers=True)
            texts = [text for some in rows for text in some.answers.to_pylist()]
            found[f"{LAYOUT}/snapshots/{number}.{table}.jsonl"] = "".join(f"{text}\n" for text in texts).encode()
    chosen = {name: FormatOptions(name) for name in TABLE_FORMATS} | OF_VIDEOS
    for name, options in chosen.items():
        of = [_spoken(deployment)] if options.is_by_video else snapshots
        request = deployment.request(*of, subpath=name, content=Content(ContentOptions(options)))
        deliver(request, deployment.store, lambda: NOW)
        for file in deployment.connector.files(name):
            content = deployment.connector.read(file.key)
            path = re.sub("-[0-9a-f]{16}", "", file.key)
            if "/_vv/" not in path:
                found |= {f"{LAYOUT}/{shown}": data for shown, data in _shown(path, content)}
            elif name == "csv":  # the bytes of which are the same everywhere
                found[f"{LOG}/{path.rpartition('/')[2]}"] = _json(_without_place(json.loads(content)))
    return found


def _spoken(deployment: Deployment) -> Snapshot:
    """A run of two videos and a picture. A segment of the golden archive has no place in its video."""
    said = ["a --> b <i>&amp;\n\nü", "", "0 |M:x", "drop", None]
    segments = [
        segment(number, video=video, start_time=at, end_time=until, metadata_text=said[number])
        for number, (video, at, until) in enumerate(
            [
                ("vid/ä", 0.0, 9.5),
                ("vid/ä", 9.5, 9.5),
                ("vid_b", 59.9932, 70.07),
                ("vid_b", 90_000.0, None),
                ("p", None, None),
            ]
        )
    ]
    return deployment.snapshot("spoken", segments=segments)


def golden(*versions: str) -> dict[str, bytes]:
    """The golden files of these versions."""
    files = [file for version in versions for file in (GOLDEN / version).rglob("*") if file.is_file()]
    return {file.relative_to(GOLDEN).as_posix(): file.read_bytes() for file in files}


def sums() -> dict[str, str]:
    """The hashes of golden files, as they were written."""
    lines = SUMS.read_text().splitlines() if SUMS.exists() else []
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def differing(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """The files that differ, each with the first line in which it does."""
    told = []
    for path in sorted(expected.keys() | found.keys()):
        before, now = (files.get(path, b"").decode().split("\n") for files in (expected, found))
        at = next((n for n, pair in enumerate(zip(before, now, strict=False), 1) if pair[0] != pair[1]), None)
        if before != now:
            at = at or min(len(before), len(now)) + 1
            told.append(f"{path}, line {at}: {''.join(before[at - 1 : at])!r} became {''.join(now[at - 1 : at])!r}")
    return told


def _shown(path: str, content: bytes) -> list[tuple[str, bytes]]:
    match path.rpartition("/")[2].partition(".")[2]:
        case "parquet":
            return [(f"{path}.json", _parquet(content))]
        case "jsonl.zst":
            return [(path.removesuffix(".zst"), pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())]
    return [(path, content)]


def _parquet(content: bytes) -> bytes:
    """A Parquet file as readers see it: its columns, their types and codecs, what we say of it, and its rows."""
    file = pq.ParquetFile(pa.BufferReader(content))
    group = file.metadata.row_group(0) if file.metadata.num_row_groups else None
    stored = [] if group is None else [group.column(number) for number in range(group.num_columns)]
    seen = {
        "columns": {field.name: str(field.type) for field in file.schema_arrow},
        "metadata": sorted(name.decode() for name in (file.metadata.metadata or {}).keys() - {b"ARROW:schema"}),
        "stored": {one.path_in_schema: f"{one.physical_type} {one.compression}" for one in stored},
    }
    rows = "".join(_line(row) for batch in file.iter_batches() for row in batch.to_pylist())
    return _json(seen) + rows.encode()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=lambda value: value.isoformat()) + "\n"


def _snapshot(snapshot: Any) -> dict[str, Any]:
    return {
        "run_id": snapshot.run_id,
        "data_version": snapshot.data_version,
        "tables": {table: [part.rows for part in parts] for table, parts in snapshot.tables.items()},
        "kept_as_json": snapshot.kept_as_json,
        "rescued_rows": snapshot.rescued_rows,
    }


def _without_place(document: dict[str, Any]) -> dict[str, Any]:
    placed = {"delivery_id": "(of the place)", "provenance": document.get("provenance", {})}
    placed["provenance"] |= {"snapshot_store": "(of the store)", "vv_exports_version": "(of the version)"}
    return document | (placed if "delivery_id" in document else {})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"


def write() -> None:
    """Write the golden files of this version, and their hashes."""
    there = [version for version in (LAYOUT, LOG) if (GOLDEN / version).exists()]
    with tempfile.TemporaryDirectory() as folder:
        found = {path: data for path, data in made(Path(folder)).items() if path.partition("/")[0] not in there}
    if not found:
        sys.exit(
            f"{LAYOUT} and {LOG} have their golden files, which say what was delivered; they are not written again."
        )
    for path, data in found.items():
        (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN / path).write_bytes(data)
    written = {path.partition("/")[0] for path in found}
    known = {path: digest for path, digest in sums().items() if path.partition("/")[0] not in written}
    kept = {path.name: path.read_bytes() for path in GOLDEN.glob("deployment-*.tar.gz")}
    known |= {path: sha256(data).hexdigest() for path, data in (found | golden("archive") | kept).items()}
    SUMS.write_text("".join(f"{digest}  {path}\n" for path, digest in sorted(known.items())))
    sys.stdout.write(f"wrote {len(found)} golden files\n")


if __name__ == "__main__":
    write()
