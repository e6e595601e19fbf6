"""Generated schedules of deliveries that crash, hear nothing, have twins and race, on every store.

After each step somebody who knows only what the documentation says of the log reads it: each entry is one delivery as
it was asked for, and each file that it names is there with its hash. In the end the next delivery completes, and after
a vacuum nothing is there that the log does not name.
"""

import hashlib
import json
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event

import pytest

from vv_exports.connectors.base import Connector
from vv_exports.delivery import checkpoints
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.vacuum import vacuum
from vv_exports.errors import OutcomeUnknownError, TransientError
from vv_exports.snapshots.store import Snapshot
from vv_exports_tests.delivery.conftest import NOW, Deployment
from vv_exports_tests.fakes.faulty_connector import (
    Crash,
    FaultyConnector,
    crashes,
    crashes_after,
    delayed,
    fails,
    loses_the_reply,
    loses_the_request,
)
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore
from vv_exports_tests.stores import Store, store  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("VV_EXPORTS_TESTS_SEED", "20261125"))
SCHEDULES = int(os.environ.get("VV_EXPORTS_TESTS_SCHEDULES", "0"))
"""For each store; 0: as many as it has time for."""
IN_TIME = {"local": 200, "gcs_that_does_not_decide": 40}
"""20 elsewhere. What a schedule finds is mostly how deliveries meet, which a folder shows as well as a server does, in
a tenth of the time; where the store does not decide, writers take turns as they do nowhere else. What a server answers
to one call is for the tests of its connector. 20 are about 40 steps: each kind of step several times."""
WRITERS = 8
VERSIONS = 4
RUNS = ("run_0", "run_1", "run_2")
CALLS = 16
"""About how many calls a delivery makes."""
ALLOWED = (Crash, TransientError, OutcomeUnknownError)

Contents = dict[str, str]
"""Prompt run -> data version."""


class Reader:
    """Reads a destination by its log alone."""

    def __init__(self, connector: Connector, subpath: str) -> None:
        self.connector = connector
        self.subpath = subpath

    def entries(self) -> list[dict]:
        keys = [file.key for file in self.connector.files(f"{self.subpath}/_vv/log")]
        names = [key.rpartition("/")[2] for key in keys]
        assert names == [f"{number:020}.json" for number in range(len(names))], "the log has no gaps and no strangers"
        return [json.loads(self.connector.read(key)) for key in keys]

    def read(self) -> tuple[list[dict], set[str]]:
        """The entries, and the paths of the files that are committed now. Each was read and is what the log says."""
        while True:
            entries = self.entries()
            current: dict[str, list[dict]] = {}
            for entry in entries:
                for run in entry["prompt_runs"]:
                    current[run["run_id"]] = [f for f in entry["files"] if f["prompt_run_id"] == run["run_id"]]
            files = [file for named in current.values() for file in named]
            wrong = [file["path"] for file in files if not self._as_logged(file)]
            if not wrong:
                return entries, {file["path"] for file in files}
            # A delivery that committed meanwhile has removed what it superseded.
            assert len(self.entries()) > len(entries), f"not what the log says: {wrong}"

    def _as_logged(self, file: dict) -> bool:
        content = self.connector.read(f"{self.subpath}/{file['path']}")
        return content is not None and (len(content), hashlib.sha256(content).hexdigest()) == (
            file["bytes"],
            file["sha256"],
        )


@dataclass
class Stage:
    """What schedules are made of: a store, and contents to deliver to it."""

    deployment: Deployment
    connectors: list[Connector]
    contents: dict[str, list[Snapshot]]
    decides: bool
    schedules: int


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="session")
def contents(deployment: Deployment) -> dict[str, list[Snapshot]]:
    return {
        run_id: [deployment.snapshot(run_id, segments=number + version + 1) for version in range(VERSIONS)]
        for number, run_id in enumerate(RUNS)
    }


@pytest.fixture(scope="module")
def stage(store: Store, deployment: Deployment, contents: dict[str, list[Snapshot]]) -> Stage:  # noqa: F811
    memory = MemoryStore(Memory())
    connectors = [store(f"schedules/{store.name}") for _ in range(WRITERS)]
    for connector in connectors:
        connector.remember_in(memory)
    schedules = SCHEDULES or IN_TIME.get(store.name, 20)
    return Stage(deployment, connectors, contents, connectors[0].decides_among_writers(), schedules)


@pytest.fixture(autouse=True)
def checkpoints_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that schedules of a few entries have some."""
    monkeypatch.setattr(checkpoints, "EVERY", 2)


@dataclass
class Schedule:
    """One schedule at a destination of its own."""

    stage: Stage
    seed: str
    steps: list[str] = field(default_factory=list)
    asked: list[Contents] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.subpath = f"{self.seed}/team"
        self.reader = Reader(self.stage.connectors[0], self.subpath)

    def play(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            self.chance.choice([self.crashed, self.crashed, self.unheard, self.unheard, self.twin, self.raced])()
            self.check()
        self.finish()

    # Steps

    def crashed(self) -> None:
        """A crash, and mostly the same delivery once more."""
        snapshots, call = self.choice(), self.chance.randrange(CALLS)
        how = self.chance.choice([crashes, crashes_after, fails])
        self.steps.append(f"{how.__name__} at call {call}: {_names(snapshots)}")
        self.attempt(snapshots, {call: how})
        if self.chance.random() < 0.7:
            self.check()
            self.attempt(snapshots)

    def unheard(self) -> None:
        snapshots = self.choice()
        calls = self.chance.sample(range(CALLS), 2)
        hows = self.chance.choices([loses_the_reply, loses_the_request], k=2)
        self.steps.append(f"no answer at calls {calls}: {_names(snapshots)}")
        self.attempt(snapshots, dict(zip(calls, hows, strict=True)))
        if self.chance.random() < 0.7:
            self.check()
            self.attempt(snapshots)

    def twin(self) -> None:
        """Somebody delivers the same, something else, or vacuums, in the middle of a delivery."""
        snapshots, call = self.choice(), self.chance.randrange(CALLS)
        other = self.chance.choice([snapshots, self.choice(), self.choice(), None])
        self.steps.append(f"twin at call {call}: {_names(snapshots)} and {_names(other)}")

        def meanwhile() -> None:
            if other is None:
                self.vacuum(self.stage.connectors[1])
            else:
                self.attempt(other, writer=1)

        with ThreadPoolExecutor(1) as beside:
            # Where one writer waits for the other, the second one is done after the first.
            patience = None if self.stage.decides else 0.01
            faults = {call: delayed(lambda: wait([beside.submit(meanwhile)], patience))}
            self.attempt(snapshots, faults)

    def raced(self) -> None:
        """Eight writers of up to three contents, while somebody reads."""
        choices = [self.choice() for _ in range(self.chance.randint(1, 3))]
        picked = [self.chance.choice(choices) for _ in range(WRITERS)]
        self.steps.append(f"race: {'; '.join(_names(one) for one in choices)}")
        over = Event()
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            reading = pool.submit(self.read_until, over)
            list(pool.map(self.attempt, picked, [None] * WRITERS, range(WRITERS)))
            over.set()
            reading.result()

    def read_until(self, over: Event) -> None:
        while not over.wait(0.02):
            self.check()

    def finish(self) -> None:
        """The newest of all, and nothing else."""
        newest = [versions[-1] for versions in self.stage.contents.values()]
        self.steps.append("finish")
        assert self.attempt(newest) is None
        entries, committed = self.check()
        held = {run["run_id"]: run["data_version"] for entry in entries for run in entry["prompt_runs"]}
        assert held == _contents(newest)
        self.vacuum(self.stage.connectors[0])
        there = {file.key.removeprefix(f"{self.subpath}/") for file in self.stage.connectors[0].files(self.subpath)}
        assert {path for path in there if not path.startswith("_vv/")} == committed
        assert self.stage.connectors[0].unfinished(self.subpath) == []
        count = len(entries)
        assert self.attempt(newest) is None
        assert len(self.reader.entries()) in {count, count + 1}, "one more where the vacuum gave something up"

    # What they do

    def choice(self) -> list[Snapshot]:
        chosen = self.chance.sample(RUNS, self.chance.randint(1, len(RUNS)))
        return [self.chance.choice(self.stage.contents[run_id]) for run_id in sorted(chosen)]

    def attempt(
        self, snapshots: Sequence[Snapshot], faults: dict[int, Callable] | None = None, writer: int = 0
    ) -> BaseException | None:
        """Deliver. What it may fail with is returned."""
        self.asked.append(_contents(snapshots))
        connector = FaultyConnector(self.stage.connectors[writer], faults or {})
        request = self.stage.deployment.request(*snapshots, connector=connector, subpath=self.subpath)
        try:
            deliver(request, self.stage.deployment.store, lambda: NOW)
        except ALLOWED as error:
            return error
        return None

    def vacuum(self, connector: Connector) -> None:
        if connector.read(f"{self.subpath}/_vv/owner.json") is not None:
            vacuum(Destination(connector, self.subpath), lambda: NOW, without_log=True)

    def check(self) -> tuple[list[dict], set[str]]:
        """Each entry is all of a delivery, aside from what was there already."""
        entries, committed = self.reader.read()
        held: set[tuple[str, str]] = set()
        for entry in entries:
            runs = {(run["run_id"], run["data_version"]) for run in entry["prompt_runs"]}
            held |= runs
            asked = [set(wanted.items()) for wanted in list(self.asked)]
            assert not runs or any(runs <= wanted <= held for wanted in asked), (
                f"entry {entry['sequence']} is no delivery that anybody asked for"
            )
        return entries, committed


def _contents(snapshots: Sequence[Snapshot]) -> Contents:
    return {snapshot.run_id: snapshot.data_version for snapshot in snapshots}


def _names(snapshots: Sequence[Snapshot] | None) -> str:
    if snapshots is None:
        return "a vacuum"
    return ", ".join(f"{snapshot.run_id} revision {snapshot.revision}" for snapshot in snapshots)


@pytest.mark.parametrize("tenth", range(10))
def test_a_reader_of_the_log_sees_nothing_or_exactly_the_hashed_files(stage: Stage, tenth: int) -> None:
    name = f"{SEED}-{stage.connectors[0].provider}"
    numbers = range(tenth, stage.schedules, 10)
    print(f"seeds {name}-{numbers[0]} to {name}-{numbers[-1]}, every tenth")  # noqa: T201
    for number in numbers:
        schedule = Schedule(stage, f"{name}-{number}")
        try:
            schedule.play()
        except BaseException as error:
            error.add_note(f"seed {schedule.seed}: " + " | ".join(schedule.steps))
            raise
