"""However schemas and choices change while deliveries meet and die, files have the columns that the log says."""

import random
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from vv_exports.content.column_json import column_from_json
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.domain.content_options import Fields
from vv_exports.errors import VVExportsError
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW, TEAM
from vv_exports_tests.fakes.faulty_connector import (
    Crash,
    FaultyConnector,
    crashes,
    crashes_after,
    delayed,
    loses_the_reply,
    loses_the_request,
)

CHOICES = [
    {},
    {"fields": Fields(exclude=("metadata.a",))},
    {"fields": Fields(include=("metadata.p",))},
    {"redact": {"metadata.p": "mask"}},
    {"tables": ("failures",)},
]
FORMATS = ["parquet", "parquet", "parquet", "jsonl", "csv"]
STEPS = 10


class Schedule:
    """A few runs of two prompts, what is done with them by a seed, and a clock that is set back now and then."""

    def __init__(self, deployment, seed):
        self.deployment = deployment
        self.chance = random.Random(seed)
        self.now = NOW
        self.snapshots = {}
        self.changes = 0
        for number in range(3):
            self.change(f"run_{number}")

    def change(self, run_id=None):
        """Another schema, other rows, sometimes another prompt."""
        chance = self.chance
        typed = {"type": chance.choice(["integer", "string", "number"])}
        place = chance.choice([typed, typed, {"type": "object", "properties": {"inside": typed}}])
        more = {name: {"type": "string"} for name in "abA" if chance.random() < 0.5}
        metadata = {"p": chance.choice([1, "x", 1.5, {"inside": 2}]), "n": self.changes}
        self.changes += 1
        run_id = run_id or f"run_{chance.randrange(5)}"
        self.snapshots[run_id] = self.deployment.snapshot(
            run_id,
            schema={"type": "object", "properties": {"p": place, **more}},
            segments=[segment(number, metadata=metadata) for number in range(chance.randrange(3))],
            prompt_id=chance.choice(["prm", "prm", "prm", "other"]),
        )

    def deliver(self, fault=None):
        """Some of the runs, as somebody may have configured it; the store has a fault somewhere."""
        chance = self.chance
        run_ids = chance.sample(sorted(self.snapshots), chance.randrange(1, len(self.snapshots) + 1))
        conflicts = {"on_schema_conflict": chance.choice(["new_version", "text", "hold"])}
        request = self.deployment.request(
            *(self.snapshots[run_id] for run_id in run_ids),
            connector=FaultyConnector(
                self.deployment.connector, {} if fault is None else {chance.randrange(25): fault}
            ),
            format_name=chance.choice(FORMATS),
            options={**conflicts, **chance.choice(CHOICES)},
            retain_superseded=chance.choice([None, timedelta(hours=1), timedelta(hours=5)]),
        )
        with suppress(Crash, VVExportsError):  # it is what a reader sees then that matters
            deliver(request, self.deployment.store, lambda: self.now)
        self.read()

    def step(self):
        chance = self.chance
        self.now += timedelta(minutes=chance.choice([1, 30, 120, -90]))
        if chance.random() < 0.4:
            self.change()
        if chance.random() < 0.15:
            vacuum(self.deployment.destination(), lambda: self.now)
            self.read()
        meanwhile = delayed(self.deliver)
        self.deliver(chance.choice([None, crashes, crashes_after, loses_the_reply, loses_the_request, meanwhile]))

    def read(self):
        """Every file that the log names is there, with as many rows and the columns that its entry says."""
        by_number = {entry.sequence: entry for entry in entries_since(self.deployment.destination(), 0)}
        for held in read_log(self.deployment.destination()).runs.values():
            for file in held.files:
                path = self.deployment.folder / "deliveries" / TEAM / file.path
                assert path.stat().st_size == file.bytes
                if path.suffix == ".parquet" and file.table != "failures":
                    place = file.prompt_id, file.path.partition("/")[0]
                    told = by_number[held.entry.sequence].tables
                    (said,) = [one for one in told if (one.prompt_id, one.folder) == place]
                    column = column_from_json(said.columns["metadata"])
                    assert pq.read_schema(path).field("metadata").type == column.arrow_type
                    assert pq.read_metadata(path).num_rows == file.rows


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_files_have_the_columns_that_the_log_says_at_any_moment_and_all_the_same_in_the_end(deployment, seed):
    schedule = Schedule(deployment, seed)
    schedule.deliver()
    for _ in range(STEPS):
        schedule.step()
    content = {
        "on_schema_conflict": schedule.chance.choice(["new_version", "text"]),
        **schedule.chance.choice(CHOICES[:2]),
    }
    requests = [deployment.request(one, options=content) for one in schedule.snapshots.values()]
    committed = [True]
    rounds = 0
    while any(committed):  # each for itself, so that later ones bring columns that earlier ones have not
        committed = [deliver(one, deployment.store, lambda: schedule.now).committed for one in requests]
        schedule.read()
        rounds += 1
        assert rounds < 5, "what was reshaped stays so"
    state = read_log(deployment.destination())
    assert all(one.content.is_delivered(state, *one.snapshots) for one in requests)
    columns = defaultdict(set)
    for file in state.files:
        schema = pq.read_schema(deployment.folder / "deliveries" / TEAM / file.path)
        columns[file.prompt_id, file.path.partition("/")[0]].add(str(schema.remove_metadata()))
    assert {len(several) for several in columns.values()} == {1}
    schedule.now += timedelta(days=2)
    vacuum(deployment.destination(), lambda: schedule.now)
    found = verify(deployment.destination())
    assert (found.problems, found.retained) == ((), ())
    there = {path for path in deployment.files() if "/part-" in path}
    assert there == {file.path for file in read_log(deployment.destination()).files}
