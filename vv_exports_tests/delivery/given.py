"""A collection that many claims share: nobody here delivers to it any more."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW, Deployment

MINUTE = timedelta(minutes=1)
"""Between an entry and the next."""

OLD = {
    "type": "object",
    "properties": {
        "0001": {"type": "integer"},
        "it's": {"type": "string"},
        "a`b;": {"type": "string"},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "shots": {
            "type": "array",
            "items": {"type": "object", "properties": {"type": {"type": "string"}, "on-screen": {"type": "number"}}},
        },
    },
}
NEW = {"type": "object", "properties": {"0001": {"type": "integer"}, "mood": {"type": "string"}}}
OTHER = {"type": "object", "properties": {"mood": {"type": "object", "properties": {"name": {"type": "string"}}}}}
ODD = 'it\'s "one"; `drop`\n\\ ブランド'


@dataclass(frozen=True)
class Given:
    """A deployment with a collection in it."""

    deployment: Deployment
    options: dict[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The collection's."""
        return self.deployment.folder / "deliveries/exports/team"

    def run(self, run_id, day, segments, **run):
        snapshot = self.deployment.snapshot(run_id, executed_at=f"2026-10-0{day}T00:00:00Z", segments=segments, **run)
        request = self.deployment.request(snapshot, options=self.options, retain_superseded=timedelta(hours=1))
        entries = read_log(self.deployment.destination()).next_sequence
        deliver(request, self.deployment.store, lambda: NOW + entries * MINUTE)


def given_in(folder: Path) -> Given:
    """Six runs of four prompts. The latest complete one of a prompt was delivered first, and is there twice, since what
    it superseded is kept; a later schema needs a folder of its own; names differ in case, or have what SQL quotes, and
    one prompt has no complete run; and rows that break their schema are set apart."""
    given = Given(Deployment(folder), {"contract": "quarantine"})
    shots = {"grid": [[1], []], "shots": [{"type": "wide", "on-screen": 1.5}, {"type": "far"}], "a`b;": "x"}
    late = [segment(number, metadata={}) for number in range(3)]
    late += [segment(3, metadata={"0001": 2**60 + 1, "it's": "y", **shots})]
    given.run("0001", 3, late[:1], prompt_id="0007", schema=OLD)
    given.run("0001", 3, late, prompt_id="0007", schema=OLD)
    news = [segment(1, metadata={"mood": "calm", "0001": 1}), segment(2, metadata={"mood": 3})]
    given.run("0002", 1, news, prompt_id="0007", schema=NEW)
    given.run("0003", 2, [segment(1, metadata={"mood": {"name": "calm"}})], prompt_id="0007", schema=OTHER)
    given.run("a/b c'd", 3, [segment(2)], prompt_id=ODD, status="completed_with_failures")
    given.run("005", 3, [segment(3)], prompt_id="PRM-a", failures=[{"segment_id": "seg_9", "video_id": "v"}])
    given.run("006", 3, [segment(4), segment(5)], prompt_id="prm_a")
    return given
