"""What each prompt answers for a segment or a video: the ``metadata`` of the demo's results."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from vv_exports.demo.script import Segment, Video, chance
from vv_exports.domain.json_text import encode_text
from vv_exports.domain.prompt_runs import JsonObject


def brand_safety(segment: Segment, run_id: str) -> JsonObject:
    """By the schema of ``prm_brand_safety``. Two runs over the same segment differ a little."""
    content = segment.content
    rating, reasons = content.get("safety", ("safe", []))
    length = segment.end - segment.start
    brands = [
        {
            "name": name,
            "category": category,
            "on_screen_seconds": round(min(length, seconds * (0.9 + chance(run_id, segment.segment_id, name) / 5)), 1),
            "confidence": _confidence(run_id, segment, name),
        }
        for name, category, seconds in content.get("brands", [])
    ]
    return {
        "brands": brands,
        "mood": content.get("mood", segment.video.content["mood"]),
        "safety": {"rating": rating, "reasons": reasons},
        "contains_advertising": len(brands) > 1,
        "viewer_advisory": f"Contains: {', '.join(reasons)}." if reasons else None,
    }


def scene_log(segment: Segment, run_id: str) -> JsonObject:
    """By the schema of ``prm_scene_log``: its optional counts are not always there."""
    content = segment.content
    setting, time_of_day, shot_type = content["scene"]
    people = [
        {"name": name, "role": role, "confidence": _confidence(run_id, segment, name)}
        for name, role in content["people"]
    ]
    log: JsonObject = {
        "scene": {
            "setting": setting,
            "time_of_day": time_of_day,
            "people": people,
            "objects": content["objects"],
        },
        "shot_type": shot_type,
        "transcript_excerpt": content.get("says"),
    }
    if not segment.video.content.get("silent"):
        log["speaker_count"] = len(people) if content.get("says") else 0
    if chance(run_id, segment.segment_id, "cuts") < 0.7:  # noqa: PLR2004
        log["cut_count"] = int(chance(segment.segment_id) * 7)
    return log


def highlights(segment: Segment, run_id: str) -> JsonObject:
    """By the schema of ``prm_highlights``."""
    score = min(100, segment.content["score"] + int(chance(run_id, segment.segment_id) * 5) - 2)
    return {
        "highlight": score >= 80,  # noqa: PLR2004
        "score": score,
        "reason": segment.content["about"],
        "quote": segment.content.get("says"),
        "tags": segment.content["objects"][:3],
    }


def programme(video: Video) -> JsonObject:
    """By the video-level schema of ``prm_highlights``."""
    segments = video.segments
    starts = [segments[first].start for first, _ in video.content["chapters"]]
    ends = [*starts[1:], segments[-1].end]
    chapters = [
        {"title": title, "start_seconds": start, "end_seconds": end}
        for (_, title), start, end in zip(video.content["chapters"], starts, ends, strict=True)
    ]
    content = video.content
    return {
        "summary": content["summary"],
        "chapters": chapters,
        "rating": content["rating"],
        "audience": content["audience"],
    }


ANSWERS: dict[str, Callable[[Segment, str], JsonObject]] = {
    "prm_brand_safety": brand_safety,
    "prm_scene_log": scene_log,
    "prm_highlights": highlights,
}
VIDEO_ANSWERS: dict[str, Callable[[Video], JsonObject]] = {"prm_highlights": programme}


def misfit(metadata: JsonObject, misfits: list[JsonObject]) -> JsonObject:
    """The metadata with what a model answered against its schema; each entry is one of ``runs.yaml``."""
    metadata = copy.deepcopy(metadata)
    for entry in misfits:
        *way, last = entry["at"]
        place: Any = metadata
        for step in way:
            place = place[step]
        if entry.get("absent"):
            del place[last]
        else:
            place[last] = entry["value"]
    return metadata


def as_text(metadata: JsonObject) -> str:
    """The metadata for full-text search: a line for each value, with its path."""
    return "\n".join(_lines("", metadata))


def _lines(path: str, value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, item in value.items():
                yield from _lines(f"{path}.{name}" if path else name, item)
        case list():
            for item in value:
                yield from _lines(f"{path}[]", item)
        case None:
            return
        case _:
            yield f"{path}: {value if isinstance(value, str) else encode_text(value)}"


def _confidence(run_id: str, segment: Segment, name: str) -> float:
    return round(0.6 + 0.39 * chance(run_id, segment.segment_id, name, "confidence"), 2)
