"""What happens in the demo's videos, and which prompt runs there were: the YAML files of this package, typed.

Nothing here is random or knows the clock, so the demo is the same on every machine.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from vv_exports.domain.prompt_runs import JsonObject


@dataclass(frozen=True)
class Segment:
    """A time span of one video, in seconds, and what is in it (the fields of ``videos/*.yaml``)."""

    segment_id: str
    video: "Video"
    number: int
    start: float
    end: float
    content: JsonObject


@dataclass(frozen=True)
class Video:
    """One programme: ``content`` is its file."""

    video_id: str
    content: JsonObject

    @property
    def segments(self) -> list[Segment]:
        """In their order, one after the other, between 18 and 42 seconds long."""
        segments: list[Segment] = []
        start = 0.0
        for number, content in enumerate(self.content["segments"]):
            end = start + 18 + int(chance(self.video_id, number) * 48) / 2
            segment_id = f"seg_{self.video_id.removeprefix('vid_')}_{number:04}"
            segments.append(Segment(segment_id, self, number, start, end, content))
            start = end
        return segments


@dataclass(frozen=True)
class Script:
    """Everything that the demo archive is made from. ``runs`` are the entries of ``runs.yaml``."""

    index: JsonObject
    prompts: dict[str, JsonObject]
    videos: list[Video]
    runs: list[JsonObject]


def read_script() -> Script:
    """The packaged script."""
    runs = _packaged("runs.yaml")
    videos = [_packaged(f"videos/{name}.yaml") for name in runs["videos"]]
    return Script(
        index=runs["index"],
        prompts={prompt["prompt_id"]: prompt for prompt in _packaged("prompts.yaml")},
        videos=[Video(content["video_id"], content) for content in videos],
        runs=runs["runs"],
    )


def chance(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _packaged(name: str) -> Any:
    return yaml.safe_load((resources.files("vv_exports.demo") / name).read_bytes())
