"""Small archives for tests, written as docs/archive-format.md says."""

import gzip
import json
from pathlib import Path
from urllib.parse import quote

import zstandard

from vv_exports.sources.local_archive import LocalArchive

RUN = {
    "run_id": "run_1",
    "prompt_id": "prm_1",
    "prompt_name": "Mood",
    "status": "completed",
    "executed_at": "2026-09-14T08:30:00Z",
}
PROMPT = {"prompt_id": "prm_1", "name": "Mood", "prompt_text": "What is the mood?", "json_schema": {}}
WITH_VIDEO_LEVEL = PROMPT | {"video_level": {"instructions_text": "Sum up.", "json_schema": {"type": "object"}}}


def segment(number=0, **fields):
    return {"segment_id": f"seg_{number}", "video_id": "vid_1", "metadata": {"mood": "calm"}} | fields


def video(number=0, **fields):
    return {"video_id": f"vid_{number}", "metadata": {"summary": "Rain."}} | fields


def lines(*documents):
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


COMPRESSED = {
    ".jsonl": bytes,
    ".jsonl.zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    ".jsonl.gz": gzip.compress,
}


def write_index(archive: Path, index_id="idx_1", **fields):
    folder = archive / "indexes" / quote(index_id, safe="~")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps({"index_id": index_id, "name": "An index"} | fields))
    return folder


def write_run(archive: Path, files=(), prompt=PROMPT, index_id="idx_1", folder=None, **fields):
    """A run folder. ``files``: name -> bytes; ``fields``: changes to the record."""
    record = RUN | fields
    path = write_index(archive, index_id) / "prompt_runs" / (folder or quote(record["run_id"], safe="~"))
    path.mkdir(parents=True)
    for name, data in dict(files).items():
        (path / name).write_bytes(data)
    (path / "prompt.json").write_text(json.dumps(prompt))
    (path / "prompt_run.json").write_text(json.dumps(record))
    return path


def read(archive: Path, what="segment_results", run_id="run_1", index_id="idx_1"):
    """All documents of one of a run's files, with where each stands."""
    source = LocalArchive(str(archive))
    run = source.prompt_run(index_id, run_id)
    return [
        (document, page.locate(i)) for page in getattr(source, what)(run) for i, document in enumerate(page.documents)
    ]
