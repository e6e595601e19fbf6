"""What a VideoVector account holds: indexes, media, prompts, prompt runs and their results, with the SDK's field names.

``make_platform`` builds one from a seed. The methods that change it keep its counters consistent, as the platform does.
"""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Document = dict[str, Any]

LINKS = ("segment_uri", "thumbnail_uri", "gif_uri")
PREVIEWS = ("preview_segment_uri", "preview_thumbnail_uri", "preview_gif_uri")
KINDS = ("video", "audio", "image")
_COUNTERS = {"video": "videos", "audio": "audios", "image": "images"}

SCHEMA: Document = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "mood": {"type": "string", "enum": ["calm", "tense", "festive"]},
        "people": {"type": ["integer", "null"]},
        "confidence": {"type": "number"},
        "scene": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "outdoor": {"type": "boolean"}},
        },
        "brands": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "seconds": {"type": "number"}},
            },
        },
    },
    "required": ["title"],
}
VIDEO_LEVEL_SCHEMA: Document = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "topics": {"type": "array", "items": {"type": "string"}}},
}


@dataclass
class Run:
    """A prompt run: its record, and what it holds of each media item, by video id."""

    record: Document
    segments: dict[str, list[Document]] = field(default_factory=dict)
    videos: dict[str, Document] = field(default_factory=dict)
    failed: dict[str, list[Document]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.record["run_id"]

    @property
    def media(self) -> list[str]:
        """The media that the run touched."""
        return list(self.segments)

    def count(self) -> None:
        """Make the record's counters what the run holds."""
        good = sum(map(len, self.segments.values()))
        bad = sum(map(len, self.failed.values()))
        self.record |= {
            "total_segments": good + bad,
            "completed_segments": good,
            "field_extraction_failures": bad,
            "video_level_total_items": len(self.videos),
            "video_level_completed_items": len(self.videos),
        }

    def processing_status(self, video_id: str) -> Document:
        """What the media list says of one media item in this run."""
        good, bad = len(self.segments[video_id]), len(self.failed.get(video_id, ()))
        attempt = self.attempts.get(video_id, 1)
        return {
            "run_id": self.run_id,
            "prompt_id": self.record["prompt_id"],
            "status": "processed",
            "total_segments": good + bad,
            "pending_segments": 0,
            "processing_segments": 0,
            "successful_segments": good,
            "failed_segments": bad,
            "created_at": "2026-10-01T00:00:00Z",
            "updated_at": f"2026-10-01T00:{attempt:02}:00Z",
            "attempt_id": f"attempt_{attempt}",
            "video_level": {"status": "completed", "result_available": video_id in self.videos},
        }


@dataclass
class Platform:
    """An account. Every document is as the API gives it, without links: the server puts those in."""

    indexes: dict[str, Document] = field(default_factory=dict)
    media: dict[str, dict[str, Document]] = field(default_factory=dict)
    prompts: dict[str, Document] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    connectors: list[Document] = field(default_factory=list)
    export_automations: dict[str, Document] = field(default_factory=dict)

    def runs_of(self, index_id: str) -> list[Run]:
        """The prompt runs of an index."""
        return [run for run in self.runs.values() if run.record["run_context"]["index_id"] == index_id]

    def listed_media(self, index_id: str) -> Iterator[Document]:
        """The media of an index as its list shows them."""
        runs = self.runs_of(index_id)
        for video_id, document in self.media[index_id].items():
            statuses = [run.processing_status(video_id) for run in runs if video_id in run.segments]
            yield {**document, "processing_status": statuses}

    # What an export must hold

    def segment_results(self, run_id: str) -> list[Document]:
        """All segment results of a run, in the order (video_id, start_time, segment_id)."""
        rows = [row for rows in self.runs[run_id].segments.values() for row in rows]
        return sorted(map(_kept, rows), key=lambda row: (row["video_id"], row["start_time"], row["segment_id"]))

    def video_results(self, run_id: str) -> list[Document]:
        """All video results of a run, in the order of video_id."""
        return sorted(map(_kept, self.runs[run_id].videos.values()), key=lambda row: row["video_id"])

    def failed_segments(self, run_id: str) -> list[Document]:
        """All failed segments of a run, with their video's id in each."""
        failed = self.runs[run_id].failed
        rows = [{"video_id": video_id, **row} for video_id, rows in failed.items() for row in rows]
        return sorted(rows, key=lambda row: (row["video_id"], row["start_time"], row["segment_id"]))

    # What happens on a platform

    def retry_segment(self, run_id: str) -> str:
        """The first failed segment of a run is retried, with success. The run keeps its status unless none is left."""
        run = self.runs[run_id]
        video_id = next(video_id for video_id, rows in run.failed.items() if rows)
        failed = run.failed[video_id].pop(0)
        row = _segment(random.Random(failed["segment_id"]), run, video_id, failed["segment_id"], failed["start_time"])
        run.segments[video_id].append(row)
        run.attempts[video_id] = run.attempts.get(video_id, 1) + 1
        run.count()
        if not any(run.failed.values()):
            run.record["status"] = "completed"
        return failed["segment_id"]

    def change_result(self, run_id: str, *, shows: bool = True) -> None:
        """The first result of a run is another one from now on. ``shows``: and the media list says so."""
        run = self.runs[run_id]
        video_id, rows = next((video_id, rows) for video_id, rows in run.segments.items() if rows)
        rows[0]["metadata"]["title"] += " (again)"
        if shows:
            run.attempts[video_id] = run.attempts.get(video_id, 1) + 1

    def mark(self, run_id: str) -> None:
        """Someone marks the run, its media, its results and a field of one. Nothing else changes."""
        run = self.runs[run_id]
        marker = {"marker_id": "mark_1", "color": "red", "note": "look at this", "updated_at": "2026-11-01T00:00:00Z"}
        run.record["marker"] = marker
        for video_id, rows in run.segments.items():
            self.media[run.record["run_context"]["index_id"]][video_id]["marker"] = marker
            for row in rows:
                row["marker"] = marker
                row["metadata_markers"] = {"title": marker}

    def delete_media(self, index_id: str, video_id: str) -> None:
        """A media item is deleted. Its results can no longer be found through the media list."""
        del self.media[index_id][video_id]


def make_platform(
    *,
    media: int = 12,
    runs: int = 2,
    segments: tuple[int, int] = (3, 12),
    video_level: bool = True,
    failed_share: float = 0.0,
    awkward_ids: bool = False,
    odd_values: bool = True,
    seed: int = 0,
) -> Platform:
    """An account with the index ``idx_1``.

    Half of the runs (every second one) are of a prompt without a video level. Each run touches all media but one; one
    media item is in no run. Each has between ``segments`` segments, which come in no order. ``odd_values``: some rows
    have values that do not fit the schema or no double holds.
    """
    chance = random.Random(seed)
    platform = Platform()
    index_id = "idx/1 ?#%2F.é" if awkward_ids else "idx_1"
    odd = " /?#&%2F..ü😀" if awkward_ids else ""
    platform.indexes[index_id] = {
        "index_id": index_id,
        "name": "Archive",
        "user_id": "user_1",
        "created_at": "2026-09-01T00:00:00Z",
        "description": None,
        "sort_order": 1,
        "is_default": False,
    }
    platform.media[index_id] = {}
    for number in range(media + 1):
        kind = KINDS[number % len(KINDS)]
        video_id = f"vid_{number:04}{odd}"
        platform.media[index_id][video_id] = {
            "video_id": video_id,
            "title": f"Clip {number}",
            "video_uri": f"gs://media/{number}.mp4",
            "status": "processed",
            "created_at": "2026-09-02T00:00:00Z",
            "updated_at": None,
            "metadata_keys": [],
            "media_type": kind,
            "marker": {},
        }
    for number, level in enumerate((video_level, False)):
        prompt_id = f"prm_{number}{odd}"
        platform.prompts[prompt_id] = {
            "prompt_id": prompt_id,
            "user_id": "user_1",
            "name": f"Prompt {number}",
            "description": "",
            "prompt_text": "Say what is seen.",
            "json_schema": SCHEMA,
            "created_at": "2026-09-03T00:00:00Z",
            "is_active": True,
            "video_level": {"instructions_text": "Sum up.", "json_schema": VIDEO_LEVEL_SCHEMA} if level else None,
        }
    for number in range(runs):
        add_run(
            platform, index_id, f"run_{number:03}{odd}", f"prm_{number % 2}{odd}", chance,
            segments=segments, failed_share=failed_share, odd_values=odd_values,
        )  # fmt: skip
    platform.connectors.append(
        {
            "connector_id": "conn_up",
            "name": "Bucket",
            "provider": "s3",
            "status": "active",
            "scopes": ["import", "export"],
            "export_base_path": "exports",
            "bucket": "customer-bucket",
            "region": "eu-central-1",
        }
    )
    return platform


def add_run(
    platform: Platform,
    index_id: str,
    run_id: str,
    prompt_id: str,
    chance: random.Random,
    *,
    segments: tuple[int, int] = (3, 12),
    failed_share: float = 0.0,
    odd_values: bool = True,
) -> Run:
    """A finished run over all media of the index but the last one."""
    level = platform.prompts[prompt_id]["video_level"] is not None
    media = list(platform.media[index_id].values())[:-1]
    kinds = {plural: sum(one["media_type"] == kind for one in media) for kind, plural in _COUNTERS.items()}
    run = Run(
        {
            "run_id": run_id,
            "prompt_id": prompt_id,
            "prompt_name": platform.prompts[prompt_id]["name"],
            "prompt_type": "custom",
            "executed_at": f"2026-10-{len(platform.runs) % 28 + 1:02}T08:30:00Z",
            "executed_by": "user_1",
            "status": "completed",
            "run_context": {"type": "index", "index_id": index_id},
            **{f"total_{plural}": count for plural, count in kinds.items()},
            **{f"completed_{plural}": count for plural, count in kinds.items()},
            "error_message": None,
            "video_level_enabled": level,
            "processing_model": "vv-large",
            "video_segmentation_type": "scene",
            "total_video_seconds": 3600.5,
            "stop_state": {},
            "billing_estimated_mt": 1.5,
            "marker": {},
        }
    )
    for document in media:
        video_id = document["video_id"]
        rows, failed = [], []
        for number in range(chance.randint(*segments)):
            segment_id = f"{run_id}:{video_id}:{number:05}"
            if chance.random() < failed_share:
                failed.append(_failure(segment_id, number * 10.0))
            else:
                rows.append(_segment(chance, run, video_id, segment_id, number * 10.0, odd_values=odd_values))
        chance.shuffle(rows)
        run.segments[video_id] = rows
        if failed:
            run.failed[video_id] = failed
        if level:
            run.videos[video_id] = _video(chance, run, video_id)
    if run.failed:
        run.record["status"] = "completed_with_failures"
    run.count()
    platform.runs[run_id] = run
    return run


def _segment(
    chance: random.Random, run: Run, video_id: str, segment_id: str, start: float, *, odd_values: bool = False
) -> Document:
    brands = [{"name": name, "seconds": chance.random() * 9} for name in chance.sample(("Acme", "Lumen", "Ö & Co"), 2)]
    metadata: Document = {
        "title": f"Scene of {video_id} at {start}",
        "mood": chance.choice(("calm", "tense", "festive")),
        "people": chance.choice((None, 0, 3)),
        "confidence": chance.random(),
        "scene": {"place": "Straße 😀", "outdoor": chance.random() < 0.5},
        "brands": brands,
    }
    if odd_values and chance.random() < 0.1:
        metadata["people"] = "a few"
        metadata["undeclared"] = {"deep": [1, None, {"x": "y"}]}
        metadata["confidence"] = Decimal("0.1234567890123456789012345")
        metadata["big"] = 2**70
    return {
        "result_type": "segment",
        "result_id": f"segment:{segment_id}",
        "segment_id": segment_id,
        "video_id": video_id,
        "run_id": run.run_id,
        "prompt_id": run.record["prompt_id"],
        "prompt_run_id": run.run_id,
        "video_name": f"Name of {video_id}",
        "source_index_id": run.record["run_context"]["index_id"],
        "executed_at": run.record["executed_at"],
        "start_time": start,
        "end_time": start + 10,
        "gcs_uri": f"gs://media/{start}.mp4",
        "thumbnail_gcs_uri": None,
        "thumbnail_available": True,
        "gif_available": False,
        "metadata": metadata,
        "metadata_text": " ".join(chance.choices(("a", "quiet", "street", "with", "people", "and", "signs"), k=60)),
        "processing_warning": None,
        "schema_used": None,
        "field_extraction_succeeded": True,
        "transcription_succeeded": None,
        "image_embedding_succeeded": True,
        "marker": {},
        "extracted_metadata_markers": {},
        "metadata_markers": {},
    }


def _video(chance: random.Random, run: Run, video_id: str) -> Document:
    return {
        "result_type": "video",
        "result_id": f"video:{video_id}:{run.run_id}",
        "video_id": video_id,
        "run_id": run.run_id,
        "prompt_id": run.record["prompt_id"],
        "video_name": f"Name of {video_id}",
        "executed_at": run.record["executed_at"],
        "completed_at": "2026-10-01T09:00:00Z",
        "status": "completed",
        "successful_segment_count": 3,
        "failed_segment_count": 0,
        "metadata": {"summary": f"About {video_id}", "topics": chance.sample(("news", "sport", "日本"), 2)},
        "metadata_text": "About",
        "thumbnail_available": False,
        "gif_available": False,
        "marker": {},
    }


def _failure(segment_id: str, start: float) -> Document:
    return {
        "segment_id": segment_id,
        "failed_operations": ["field_extraction"],
        "field_extraction_error": "the model timed out",
        "failure_stage": "field_extraction",
        "failure_code": "model_timeout",
        "retryable": True,
        "start_time": start,
        "end_time": start + 10,
        "projection_only": False,
    }


def _kept(row: Document) -> Document:
    """A result without what changes by itself: people's marks."""
    kept = copy.deepcopy(row)
    for name in ("marker", "extracted_metadata_markers", "metadata_markers"):
        kept.pop(name, None)
    return kept
