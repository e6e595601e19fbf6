"""The records of the demo's prompt runs, with the platform's field names."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

from vv_exports.demo.answers import ANSWERS, VIDEO_ANSWERS, as_text, misfit
from vv_exports.demo.script import Script, Segment, Video, chance
from vv_exports.domain.json_text import encode_text
from vv_exports.domain.prompt_runs import JsonObject

_MEDIA = "https://media.videovector.example/v2/media"
_BUCKET = "gs://vv-broadcast-archive"
_OPERATIONS = ("field_extraction", "transcription", "image_embedding", "processing")


@dataclass(frozen=True)
class DemoRun:
    """One entry of ``runs.yaml`` with what it was run on."""

    entry: JsonObject
    index_id: str
    prompt: JsonObject
    videos: list[Video]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.entry["run_id"])

    @property
    def over(self) -> bool:
        """Whether the run got through all of its segments."""
        return "first" not in self.entry

    @property
    def segments(self) -> list[Segment]:
        """Every segment that the run was to answer, in the platform's order of videos."""
        return [segment for video in self.videos for segment in video.segments]

    @property
    def failures(self) -> dict[tuple[str, int], list[str]]:
        """What went wrong, by video id and segment number: stage, code, message, whether to try again."""
        return {(video_id, number): what for video_id, number, *what in self.entry.get("failures", [])}

    @property
    def answered(self) -> list[Segment]:
        """The segments that have a result, in the order of the file."""
        reached = self.segments[: self.entry.get("first")]
        answered = [s for s in reached if (s.video.video_id, s.number) not in self.failures]
        return sorted(answered, key=lambda segment: (segment.video.video_id, segment.start))

    @property
    def programmes(self) -> list[Video]:
        """The videos that have a result of their own, in the order of the file."""
        has_level = self.over and self.prompt["prompt_id"] in VIDEO_ANSWERS
        return sorted(self.videos, key=lambda video: video.video_id) if has_level else []


def demo_runs(script: Script) -> list[DemoRun]:
    """Every run of the script."""
    return [
        DemoRun(run, script.index["index_id"], script.prompts[run["prompt_id"]], script.videos[: run["videos"]])
        for run in script.runs
    ]


def run_record(run: DemoRun) -> JsonObject:
    """The prompt run with the counters that its results agree with."""
    failed_videos = {video_id for video_id, _ in run.failures}
    answered = len(run.answered)
    done = len(run.videos) - len(failed_videos) if run.over else 0
    stages = Counter(what[0] for what in run.failures.values())
    return {
        "run_id": run.run_id,
        "prompt_id": run.prompt["prompt_id"],
        "prompt_name": run.prompt["name"],
        "prompt_type": "custom",
        "executed_at": run.entry["executed_at"],
        "executed_by": "user_archive_desk",
        "status": run.entry["status"],
        "error_message": run.entry.get("error_message"),
        "run_context": {"type": "index", "index_id": run.index_id},
        "processing_model": "vv-vision-3",
        "video_segmentation_type": "scene",
        "enable_transcription": True,
        "enable_image_embedding": True,
        "video_level_enabled": "video_level" in run.prompt,
        "created_new_segments": run.run_id == "run_123",
        "total_video_seconds": sum(video.segments[-1].end for video in run.videos),
        "total_videos": len(run.videos),
        "completed_videos": done,
        "partial_videos": len(failed_videos),
        "failed_videos": len(run.videos) if run.entry["status"] == "failed" else 0,
        "cancelled_videos": len(run.videos) if run.entry["status"] == "cancelled" else 0,
        "total_segments": len(run.segments),
        "completed_segments": answered,
        "field_extraction_failures": stages["field_extraction"],
        "transcription_failures": 0,
        "image_embedding_failures": 0,
        "video_level_total_items": len(run.videos) if "video_level" in run.prompt else 0,
        "video_level_completed_items": len(run.programmes),
        "video_level_partial_items": 0,
        "video_level_failed_items": 0,
        "marker": {},
    }


def segment_results(run: DemoRun) -> list[JsonObject]:
    """A document for each answered segment."""
    schema = encode_text(run.prompt["json_schema"])
    return [_segment_result(run, segment, schema) for segment in run.answered]


def video_results(run: DemoRun) -> list[JsonObject]:
    """A document for each programme; none where the prompt has no video level."""
    return [_video_result(run, video) for video in run.programmes]


def failed_segments(run: DemoRun) -> JsonObject:
    """The manifest of the segments without a result."""
    failed = [s for s in run.segments if (s.video.video_id, s.number) in run.failures]
    videos = [
        {
            "video_id": video.video_id,
            "failed_segments": sum(s.video is video for s in failed),
            "operation_counts": _operation_counts(run, [s for s in failed if s.video is video]),
            "segments": [_failed_segment(run, s) for s in failed if s.video is video],
        }
        for video in sorted(run.videos, key=lambda video: video.video_id)
        if any(s.video is video for s in failed)
    ]
    return {
        "run_id": run.run_id,
        "status": run.entry["status"],
        "videos_with_failures": len(videos),
        "failed_segments": len(failed),
        "operation_counts": _operation_counts(run, failed),
        "videos": videos,
    }


def _segment_result(run: DemoRun, segment: Segment, schema: str) -> JsonObject:
    video, segment_id = segment.video, segment.segment_id
    misfits = [m for m in run.entry.get("misfits", []) if m.get("segment") == [video.video_id, segment.number]]
    metadata = misfit(ANSWERS[run.prompt["prompt_id"]](segment, run.run_id), misfits)
    silent = video.content.get("silent", False)
    return {
        "result_type": "segment",
        "result_id": f"segment:{segment_id}:{run.run_id}",
        **_common(run, video, metadata, schema),
        "segment_id": segment_id,
        "start_time": segment.start,
        "end_time": segment.end,
        **_media(run, f"{video.video_id}/{segment_id}", "segment", gif=segment.number % 4 == 0),
        "processing_warning": "The audio track is silent; transcription was skipped." if silent else None,
        "field_extraction_succeeded": True,
        "field_extraction_error": None,
        "transcription_succeeded": None if silent else True,
        "transcription_error": None,
        "image_embedding_succeeded": True,
        "image_embedding_error": None,
        "marker": _marker(run, segment_id, 0.03),
        "extracted_metadata_markers": {},
        "metadata_markers": {name: m for name in metadata if (m := _marker(run, f"{segment_id}.{name}", 0.005))},
    }


def _video_result(run: DemoRun, video: Video) -> JsonObject:
    misfits = [m for m in run.entry.get("misfits", []) if m.get("video") == video.video_id]
    metadata = misfit(VIDEO_ANSWERS[run.prompt["prompt_id"]](video), misfits)
    segments = video.segments
    preview = max(segments, key=lambda segment: segment.content["score"])
    started = datetime.fromisoformat(run.entry["executed_at"]) + timedelta(seconds=240 + len(segments) * 11)
    took = timedelta(seconds=9 + int(chance(run.run_id, video.video_id) * 20))
    return {
        "result_type": "video",
        "result_id": f"video:{video.video_id}:{run.run_id}",
        **_common(run, video, metadata, encode_text(run.prompt["video_level"]["json_schema"])),
        "status": "completed",
        "raw_llm_response": encode_text(metadata),
        "successful_segment_count": len(segments),
        "failed_segment_count": 0,
        "source_fingerprint": _digest(video.video_id, len(segments)),
        "embedding_status": "completed",
        "embedding_error": None,
        "attempt_id": f"att_{_digest(run.run_id, video.video_id)[:12]}",
        "error_message": None,
        "started_at": started.isoformat(),
        "completed_at": (started + took).isoformat(),
        **_media(run, f"{video.video_id}/video", "video", gif=False),
        "preview_segment_id": preview.segment_id,
        "preview_start_time": preview.start,
        "preview_end_time": preview.end,
        "preview_segment_uri": _link(run, f"segment/{preview.segment_id}"),
        "preview_thumbnail_uri": _link(run, f"thumbnail/{preview.segment_id}"),
        "preview_gif_uri": None,
        "processing_warning": None,
        "marker": {},
    }


def _common(run: DemoRun, video: Video, metadata: JsonObject, schema: str) -> JsonObject:
    return {
        "run_id": run.run_id,
        "prompt_run_id": run.run_id,
        "prompt_id": run.prompt["prompt_id"],
        "video_id": video.video_id,
        "video_name": video.content["title"],
        "source_index_id": run.index_id,
        "executed_at": run.entry["executed_at"],
        "metadata": metadata,
        "metadata_text": as_text(metadata),
        "schema_used": schema,
    }


def _media(run: DemoRun, name: str, kind: str, *, gif: bool) -> JsonObject:
    """Durable addresses, and links with a token as the platform signs them for an hour."""
    return {
        "segment_uri": _link(run, f"{kind}/{name}"),
        "gcs_uri": f"{_BUCKET}/{name}.mp4",
        "thumbnail_uri": _link(run, f"thumbnail/{name}"),
        "thumbnail_gcs_uri": f"{_BUCKET}/{name}.jpg",
        "thumbnail_available": True,
        "gif_uri": _link(run, f"gif/{name}") if gif else None,
        "gif_gcs_uri": f"{_BUCKET}/{name}.gif" if gif else None,
        "gif_available": gif,
    }


def _failed_segment(run: DemoRun, segment: Segment) -> JsonObject:
    stage, code, message, retryable = run.failures[segment.video.video_id, segment.number]
    return {
        "segment_id": segment.segment_id,
        "failed_operations": [stage],
        "field_extraction_error": message if stage == "field_extraction" else None,
        "transcription_error": None,
        "image_embedding_error": None,
        "failure_stage": stage,
        "failure_code": code,
        "failure_message": message,
        "retryable": retryable,
        "start_time": segment.start,
        "end_time": segment.end,
        "projection_only": False,
    }


def _operation_counts(run: DemoRun, failed: list[Segment]) -> JsonObject:
    counts = Counter(run.failures[s.video.video_id, s.number][0] for s in failed)
    return {operation: counts[operation] for operation in _OPERATIONS}


def _marker(run: DemoRun, name: str, share: float) -> JsonObject:
    """A user's mark, on this share of the names; an empty object is no mark."""
    if chance(run.run_id, name, "marker") >= share:
        return {}
    return {
        "marker_id": f"mrk_{_digest(run.run_id, name)[:10]}",
        "color": "amber",
        "note": "Check the rights before use",
        "updated_at": run.entry["executed_at"],
    }


def _link(run: DemoRun, name: str) -> str:
    return f"{_MEDIA}/{name}?token={_digest(run.run_id, name)}"


def _digest(*key: object) -> str:
    return blake2b(repr(key).encode(), digest_size=16).hexdigest()
