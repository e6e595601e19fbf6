"""The archive that benchmarks read: prompt runs of one index, with segment results of about 1.1 kB."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "mood": {"type": "string", "enum": ["calm", "tense", "joyful", "sad"]},
        "shot": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "camera": {"type": "string"},
                "people": {"type": ["integer", "null"]},
                "brightness": {"type": "number"},
            },
        },
        "brands": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "seconds": {"type": "number"},
                    "confidence": {"type": "number"},
                    "logo": {"type": "boolean"},
                },
            },
        },
        "objects": {"type": "array", "items": {"type": "string"}},
        "safe": {"type": "boolean"},
    },
    "required": ["summary", "mood"],
}
WORDS = (  # noqa: SIM905 - a text is easier to read than its words
    "a wide view over the harbour while boats come in and the speaker talks about the price of fish this winter "
    "two players run for the ball near the corner as the crowd rises and the keeper shouts at his defence "
    "the council votes on the new tram line after a long debate about noise trees parking and the cost of tunnels"
).split()


def _of_another_type(metadata: dict[str, Any]) -> None:
    metadata["mood"] = 7


def _undeclared(metadata: dict[str, Any]) -> None:
    metadata["weather"] = {"sky": "grey"}


def _null(metadata: dict[str, Any]) -> None:
    metadata["summary"] = None


def _integer_with_a_point(metadata: dict[str, Any]) -> None:
    metadata["shot"]["people"] = 5.0


ODD: tuple[Callable[[dict[str, Any]], None], ...] = (_of_another_type, _undeclared, _null, _integer_with_a_point)
ODD_EVERY = 200  # five in a thousand


def is_odd(number: int) -> bool:
    """Whether an odd archive holds the segment of this number in its run as an odd one: in the middle of its 200."""
    return number % ODD_EVERY == ODD_EVERY // 2


def write_archive(archive: Path, segments: int, runs: int, *, odd: bool = False) -> int:
    """Write the runs of one index. Returns the size of the results in bytes.

    Odd archives hold the same segments, but for one in ``ODD_EVERY``, which is odd in one of the ways of ``ODD``.
    """
    chance = random.Random(7)
    index = archive / "indexes" / "idx"
    index.mkdir(parents=True)
    (index / "index.json").write_text('{"index_id": "idx", "name": "Benchmark"}')
    size = 0
    for run in range(runs):
        folder = index / "prompt_runs" / f"run_{run:03}"
        folder.mkdir(parents=True)
        count = segments // runs
        with (folder / "segment_results.jsonl").open("w") as file:
            for number in range(count):
                document = segment(chance, run, number)
                if odd and is_odd(number):
                    ODD[number // ODD_EVERY % len(ODD)](document["metadata"])
                size += file.write(json.dumps(document) + "\n")
        prompt = {"prompt_id": "prm", "name": "Everything", "prompt_text": "…", "json_schema": SCHEMA}
        (folder / "prompt.json").write_text(json.dumps(prompt))
        record = {
            "run_id": folder.name,
            "prompt_id": "prm",
            "prompt_name": "Everything",
            "status": "completed",
            "executed_at": f"2026-10-{run % 28 + 1:02}T10:00:00Z",
            "completed_segments": count,
        }
        (folder / "prompt_run.json").write_text(json.dumps(record))
    return size


def segment(chance: random.Random, run: int, number: int) -> dict[str, Any]:
    """One segment result of about 1.1 kB."""
    video, start = divmod(number, 500)
    text = " ".join(chance.choices(WORDS, k=28))
    return {
        "segment_id": f"seg_{run:03}_{number:08}",
        "run_id": f"run_{run:03}",
        "prompt_id": "prm",
        "video_id": f"vid_{video:06}",
        "video_name": f"Broadcast {video}",
        "executed_at": "2026-10-01T10:00:00Z",
        "start_time": start * 8.0,
        "end_time": start * 8.0 + 8,
        "gcs_uri": f"gs://archive/videos/vid_{video:06}/seg_{number:08}.mp4",
        "field_extraction_succeeded": True,
        "transcription_succeeded": True,
        "image_embedding_succeeded": None,
        "metadata_text": text,
        "metadata": {
            "summary": text[:140],
            "mood": chance.choice(["calm", "tense", "joyful", "sad"]),
            "shot": {
                "type": chance.choice(["wide", "close", "medium"]),
                "camera": chance.choice(["static", "pan", "handheld"]),
                "people": chance.choice([None, 1, 2, 3]),
                "brightness": round(chance.random(), 3),
            },
            "brands": [
                {
                    "name": chance.choice(["Acme", "Globex", "Initech", "Umbrella"]),
                    "seconds": round(chance.random() * 8, 2),
                    "confidence": round(chance.random(), 3),
                    "logo": chance.random() < 0.5,
                }
                for _ in range(chance.randrange(4))
            ],
            "objects": chance.choices(WORDS, k=5),
            "safe": True,
        },
    }
