"""Writing the demo into a folder: an archive as docs/archive-format.md describes it, and a configuration."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from vv_exports.demo.documents import (
    DemoRun,
    demo_runs,
    failed_segments,
    run_record,
    segment_results,
    video_results,
)
from vv_exports.demo.script import read_script
from vv_exports.domain.json_text import encode_text
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import RequestError

_PROMPT_FIELDS = ("prompt_id", "name", "description", "prompt_text", "json_schema", "video_level")


def _zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


_COMPRESSIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "none": (".jsonl", bytes),
    "zst": (".jsonl.zst", _zstd),
    "gz": (".jsonl.gz", _gzip),
}


@dataclass(frozen=True)
class DemoSummary:
    """What the demo holds, and where. ``already_there``: nothing had to be written."""

    already_there: bool
    config: Path
    archive: Path
    index_id: str
    videos: int
    prompts: int
    prompt_runs: int
    segment_results: int

    def __str__(self) -> str:
        """For people, with what to do next."""
        head = "The demo is already there." if self.already_there else "The demo is written."
        return (
            f"{head}\n"
            f"  archive        {self.archive}: index {self.index_id} with {self.videos} videos, "
            f"{self.prompts} prompts, {self.prompt_runs} prompt runs, "
            f"{self.segment_results} segment results\n"
            f"  configuration  {self.config}\n"
            f"Next: vv-exports runs list {self.index_id}"
        )


def write_demo(folder: Path) -> DemoSummary:
    """Write ``.vv_exports/archive`` and ``vv_exports.yaml`` into a folder. Every copy has the same bytes.

    What is there already stays: a run whose ``prompt_run.json`` exists is complete, whatever was done to it
    since, and one that an interrupted writing left without it is written again.

    Raises:
        RequestError: the folder holds another vv_exports.yaml, or cannot be written to.
    """
    config, archive = folder / "vv_exports.yaml", folder / ".vv_exports" / "archive"
    packaged = (resources.files("vv_exports.demo") / "vv_exports.yaml").read_bytes()
    script = read_script()
    runs = demo_runs(script)
    index = archive / "indexes" / script.index["index_id"]
    try:
        if config.exists() and config.read_bytes() != packaged:
            raise RequestError(
                f"{config} exists and is not the demo's: nothing was written. "
                "Run `vv-exports demo` in another folder, or move the file away."
            )
        written = _write_new(index / "index.json", _pretty(script.index))
        for run in runs:
            written |= _write_run(index / "prompt_runs" / run.run_id, run)
        written |= _write_new(config, packaged)
    except OSError as error:
        raise RequestError(f"The demo cannot be written to {folder}: {error}. Choose another folder.") from error
    return DemoSummary(
        already_there=not written,
        config=config,
        archive=archive,
        index_id=script.index["index_id"],
        videos=len(script.videos),
        prompts=len(script.prompts),
        prompt_runs=len(runs),
        segment_results=sum(len(run.answered) for run in runs),
    )


def _write_run(folder: Path, run: DemoRun) -> bool:
    record = folder / "prompt_run.json"
    if record.exists():
        return False
    suffix, compressed = _COMPRESSIONS[run.entry["compression"]]
    _write(folder / "prompt.json", _pretty({f: run.prompt[f] for f in _PROMPT_FIELDS if f in run.prompt}))
    for stem, documents in (("segment_results", segment_results(run)), ("video_results", video_results(run))):
        if documents:
            _write(folder / f"{stem}{suffix}", compressed(_lines(documents)))
    if run.failures:
        _write(folder / "failed_segments.json", _pretty(failed_segments(run)))
    _write(record, _pretty(run_record(run)))
    return True


def _write_new(path: Path, data: bytes) -> bool:
    if path.exists():
        return False
    _write(path, data)
    return True


def _write(path: Path, data: bytes) -> None:
    """All of a file or nothing: a reader may be looking."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _lines(documents: list[JsonObject]) -> bytes:
    return "".join(encode_text(document) + "\n" for document in documents).encode()


def _pretty(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
