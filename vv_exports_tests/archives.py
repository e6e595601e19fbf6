"""Small archives in the documented format, for tests that need a run of a certain shape."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import sentinel
from urllib.parse import quote

from vv_exports.snapshots.reading import Reading, read_run
from vv_exports.sources.local_archive import LocalArchive

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "brands": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "seconds": {"type": "number"}},
            },
        },
        "people": {"type": ["integer", "null"]},
    },
}


def segment(number: int, *, video: str = "vid_1", **fields: Any) -> dict[str, Any]:
    """One segment result."""
    return {
        "segment_id": f"seg_{number:05}",
        "video_id": video,
        "video_name": f"Video {video}",
        "start_time": number * 10.0,
        "end_time": number * 10.0 + 10,
        "executed_at": "2026-10-01T10:00:00Z",
        "metadata": {
            "title": f"Scene {number}",
            "brands": [{"name": "Acme", "seconds": 1.5}],
            "people": None,
        },
        "metadata_text": f"Scene {number}",
        **fields,
    }


def write_run(
    archive: Path,
    *,
    index_id: str = "idx",
    run_id: str = "run_1",
    segments: list[dict[str, Any]] | int = 3,
    status: str = "completed",
    executed_at: str = "2026-10-01T10:00:00Z",
    schema: Any = None,
    video_level_schema: Any = None,
    videos: list[dict[str, Any]] | None = None,
    failures: list[dict[str, Any]] | None = None,
    prompt_id: str = "prm",
    **record: Any,
) -> Path:
    """Write a run, and its index where that is new. Returns the run's folder."""
    index = archive / "indexes" / _folder(index_id)
    index.mkdir(parents=True, exist_ok=True)
    (index / "index.json").write_text(json.dumps({"index_id": index_id, "name": f"Index {index_id}"}))
    folder = index / "prompt_runs" / _folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [segment(n) for n in range(segments)] if isinstance(segments, int) else segments
    prompt = {"prompt_id": prompt_id, "name": f"Prompt {prompt_id}", "prompt_text": "Say what is seen."}
    prompt["json_schema"] = SCHEMA if schema is None else schema
    if video_level_schema is not None:
        prompt["video_level"] = {"instructions_text": "Sum up.", "json_schema": video_level_schema}
    (folder / "prompt.json").write_text(json.dumps(prompt))
    _write_lines(folder / "segment_results.jsonl", rows)
    if videos is not None:
        _write_lines(folder / "video_results.jsonl", videos)
    if failures is not None:
        _write_lines(folder / "failed_segments.jsonl", failures)
    run = {
        "run_id": run_id,
        "prompt_id": prompt_id,
        "prompt_name": f"Prompt {prompt_id}",
        "status": status,
        "executed_at": executed_at,
        "completed_segments": len(rows),
        **record,
    }
    (folder / "prompt_run.json").write_text(json.dumps(run))
    return folder


def read_archived_run(archive: Path, spool: Path) -> Reading:
    """Read run_1 of index idx into the folder ``spool``. An archive stages nothing."""
    source = LocalArchive(str(archive))
    run = source.prompt_run("idx", "run_1")
    with source.results(run, sentinel.stage) as results:
        return read_run(results, run, spool)


def _folder(identifier: str) -> str:
    return identifier.replace(".", "%2E") if identifier in {".", ".."} else quote(identifier, safe="~")


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
