"""Folders of a local destination that are swapped for links while a pipeline works there.

An attacker exchanges folders at every depth, and files, for links that lead out of the boundary, and back, as fast as
the kernel does it. Meanwhile a worker creates, puts, reads, opens, lists, deletes, sweeps and makes real deliveries.
Outside the boundary is the same tree with other content: whatever is written, deleted, read or listed there is counted,
and so is every error that is none of ours. At the end, with the attacker gone, the collection must be as its log says.

    python benchmarks/race_links.py [--seconds 120] [--seed N]

Needs Linux (renameat2). Exits with 1 where anything was touched outside, or an error was not ours, or no link was met.
"""

import argparse
import ctypes
import json
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import DeliveryRequest, deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference
from vv_exports.delivery.verify import verify
from vv_exports.errors import DestinationError, VVExportsError
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.sources.local_archive import LocalArchive

TEMPORARY = ".vv_exports_tmp"
COLLECTION = "exports/team"
RUN_FOLDER = f"{COLLECTION}/segments/prompt_id=prm/prompt_run_id=run_0"
LOOSE = ["loose/a/b", "loose/a/c", "loose/d"]
FOLDERS = [
    *("", "exports", COLLECTION, f"{COLLECTION}/segments", f"{COLLECTION}/segments/prompt_id=prm", RUN_FOLDER),
    *(f"{COLLECTION}/_vv", f"{COLLECTION}/_vv/log", TEMPORARY, "loose", "loose/a", *LOOSE),
]
FILES = [f"{folder}/{name}" for folder in LOOSE for name in ("0.bin", "1.bin")]
ONLY_OUTSIDE = "only-outside.parquet"
INSIDE, OUTSIDE = b"inside", b"outside the boundary"
_EXCHANGE = 2
_AT_FDCWD = -100


def exchange(one: Path, other: Path) -> bool:
    """Two names change places in one step. False where one of them is not there."""
    libc = ctypes.CDLL(None, use_errno=True)
    return not libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)


def attack(base: Path, outside: Path, stash: Path, seed: int, stop: "multiprocessing.synchronize.Event") -> None:
    """Exchange one name after the other for a link to its counterpart outside, and back."""
    chance = random.Random(seed)
    links = {}
    for number, name in enumerate([*FOLDERS, *FILES]):
        links[name] = stash / f"{os.getpid()}-{number}"
        links[name].symlink_to(outside / name)
    while not stop.is_set():
        name = chance.choice([*FOLDERS, *FILES])
        if exchange(base / name, links[name]):
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, 0.0005))
            while not exchange(base / name, links[name]):
                pass


class Outside:
    """What nobody may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.content: dict[Path, bytes] = {}
        self.seen: Counter[str] = Counter()
        for folder in FOLDERS:
            self.content[top / folder / ONLY_OUTSIDE] = OUTSIDE
        for name in [*FILES, *(f"{TEMPORARY}/{n:032x}" for n in range(5))]:
            self.content[top / name] = OUTSIDE
        for path in self.content:
            self._restore(path)

    def look(self) -> None:
        """Count what was changed, and put it back."""
        there = {path for path in self.top.rglob("*") if path.is_file()}
        for path in there - self.content.keys():
            self.seen["written outside"] += 1
            path.unlink()
        for path, content in self.content.items():
            if path not in there:
                self.seen["deleted outside"] += 1
                self._restore(path)
            elif path.read_bytes() != content:
                self.seen["written outside"] += 1
                self._restore(path)

    @staticmethod
    def _restore(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(OUTSIDE)


class Worker:
    """A pipeline at work. Every outcome is counted."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.connector = LocalConnector("conn", folder / "root", "base")
        self.store = SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))
        self.upload = folder / "upload"
        self.upload.write_bytes(INSIDE)
        self.outcomes: Counter[str] = Counter()
        self.trespasses: Counter[str] = Counter()
        self.bare: Counter[str] = Counter()
        self.version = 0

    def step(self) -> None:
        """One random action."""
        actions: dict[str, Callable[[], object]] = {
            "create": lambda: self.connector.create(self._key(), INSIDE, durable=self.chance.random() < 0.1),
            "put": lambda: self.connector.put(self.upload, self._key()),
            "read": self._read,
            "open": self._open,
            "files": self._list,
            "delete": lambda: self.connector.delete([self._key()]),
            "sweep": self.connector.sweep,
            "deliver": self.deliver,
        }
        name = self.chance.choices(list(actions), weights=[4, 3, 4, 4, 3, 4, 2, 1])[0]
        try:
            actions[name]()
            self.outcomes[f"{name}: done"] += 1
        except DestinationError:
            self.outcomes[f"{name}: link refused"] += 1
        except VVExportsError as error:
            self.outcomes[f"{name}: {type(error).__name__}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever is not ours is counted, and shown at the end
            self.bare[f"{name}: {error!r}"[:200]] += 1

    def deliver(self) -> None:
        """Deliver a run in a new version, as an automation does."""
        self.version += 1
        request = DeliveryRequest(
            destination=Destination(
                self.connector, COLLECTION, Owner(type="automation", index_id="idx", automation="team")
            ),
            export=ExportReference(id="idx/team", type="automation", index_id="idx", automation="team"),
            content=Content(),
            snapshots=[self._snapshot()],
        )
        deliver(request, self.store, lambda: datetime.now(UTC))

    def _key(self) -> str:
        return self.chance.choice(FILES)

    def _read(self) -> None:
        if (self.connector.read(self._key()) or b"").startswith(OUTSIDE):
            self.trespasses["read outside"] += 1

    def _open(self) -> None:
        with self.connector.open(self._key()) as file:
            if file.read().startswith(OUTSIDE):
                self.trespasses["read outside"] += 1

    def _list(self) -> None:
        prefix = self.chance.choice(FOLDERS)
        if any(file.key.endswith(ONLY_OUTSIDE) for file in self.connector.files(prefix)):
            self.trespasses["listed outside"] += 1

    def _snapshot(self) -> Snapshot:
        folder = self.folder / "archive" / "indexes" / "idx" / "prompt_runs" / "run_0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent.parent / "index.json").write_text('{"index_id": "idx", "name": "Raced"}')
        prompt = {"prompt_id": "prm", "name": "P", "prompt_text": "P.", "json_schema": {"type": "object"}}
        (folder / "prompt.json").write_text(json.dumps(prompt))
        row = {
            "segment_id": "seg",
            "video_id": "vid",
            "start_time": 0.0,
            "end_time": 5.0,
            "metadata": {},
            "metadata_text": f"version {self.version}",
        }
        (folder / "segment_results.jsonl").write_text(json.dumps(row) + "\n")
        record = {
            "run_id": "run_0",
            "prompt_id": "prm",
            "prompt_name": "P",
            "status": "completed",
            "executed_at": "2026-10-01T08:00:00Z",
            "completed_segments": 1,
        }
        (folder / "prompt_run.json").write_text(json.dumps(record))
        source = LocalArchive(str(self.folder / "archive"))
        return self.store.take(source, source.prompt_run("idx", "run_0"), datetime.now(UTC))


def race(folder: Path, seconds: float, seed: int) -> bool:
    """Whether nothing was touched outside, every error was ours, and links were met."""
    base, stash = folder / "root" / "base", folder / "stash"
    for name in (*(base / name for name in FOLDERS), stash):
        name.mkdir(parents=True, exist_ok=True)
    outside = Outside(folder / "outside")
    worker = Worker(folder, random.Random(seed))
    worker.deliver()
    stop = multiprocessing.Event()
    attacker = multiprocessing.Process(target=attack, args=(base, outside.top, stash, seed, stop), daemon=True)
    attacker.start()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(50):
                worker.step()
            outside.look()
    finally:
        stop.set()
        attacker.join(10)
    outside.look()
    trespasses = worker.trespasses + outside.seen
    for outcome, count in sorted(worker.outcomes.items()):
        print(f"{count:8,} {outcome}")
    worker.deliver()
    problems = verify(Destination(worker.connector, COLLECTION)).problems
    met = sum(count for outcome, count in worker.outcomes.items() if outcome.endswith("link refused"))
    print(
        f"{worker.outcomes.total() + worker.bare.total():,} actions, {met:,} met a link and were refused; "
        f"{trespasses['written outside']} written, {trespasses['deleted outside']} deleted, "
        f"{trespasses['read outside']} read, {trespasses['listed outside']} listed outside; {worker.bare.total()} "
        f"errors that are not ours; {len(problems)} problems in the collection afterwards"
    )
    for what, count in worker.bare.most_common(10):
        print(f"{count:8,} {what}")
    for problem in problems:
        print(f"  {problem}")
    return bool(met) and not trespasses and not worker.bare and not problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    logging.disable()  # each warning that tidying up met a link
    print(f"seed {options.seed}, {options.seconds:g} s")
    folder = Path(tempfile.mkdtemp(prefix="vv_exports-race-"))
    try:
        fine = race(folder, options.seconds, options.seed)
    finally:
        shutil.rmtree(folder)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
