"""`kill -9` in the middle of real deliveries, and what a reader of the destination sees.

Each round changes the archive, starts the real command in a process of its own, kills it at a random moment of its
delivery, reads the destination with the standard library alone, and lets the next run finish. After a kill the log
must say the state before or the state after, and every file that it names must be there with its size and hash. After
the next run nothing may be left that the log does not name, at the destination, in scratch folders, or unfinished in
Dagster.

    python benchmarks/kill_deliveries.py [--kills 50] [--seed N] [--runs 5] [--segments 2000]
"""

import argparse
import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = """
source: {kind: local_archive, path: archive}
storage: storage
connectors: {conn: {provider: local, root: ., export_base_path: deliveries, scopes: [export]}}
indexes:
  idx:
    automations:
      team: {destination_connector_id: conn, destination_subpath: exports/team, start: beginning}
      sheet: {destination_connector_id: conn, destination_subpath: exports/sheet, format: csv, start: beginning}
"""
TEXT_SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}, "version": {"type": "integer"}}}
POLL_SECONDS = 0.0003
TIMEOUT_SECONDS = 120

Contents = dict[str, int]
"""Prompt run -> its segments. Every version of a run has another number of segments, so this tells versions apart."""


class Archive:
    """Prompt runs that change. A run's version is in each of its rows, and is how many more segments it has."""

    def __init__(self, folder: Path, chance: random.Random, runs: int, segments: int) -> None:
        self.index = folder / "indexes" / "idx"
        self.chance = chance
        self.segments = segments
        self.run_ids = [f"run_{number}" for number in range(runs)]
        self.history: dict[str, list[int]] = {}
        self.newest = 0
        self.index.mkdir(parents=True)
        (self.index / "index.json").write_text('{"index_id": "idx", "name": "Killed deliveries"}')
        self.change(self.run_ids)

    @property
    def contents(self) -> Contents:
        return {run_id: self.segments + versions[-1] for run_id, versions in self.history.items()}

    def with_videos(self, run_id: str) -> bool:
        return self.run_ids.index(run_id) % 2 == 0

    def change_some(self, among: Iterable[str]) -> list[str]:
        """Rewrite neighbouring runs, ``among`` and those between included: neighbours are delivered in one commit."""
        first, last = sorted(self.chance.sample(range(len(self.run_ids) + 1), 2))
        places = [*range(first, last), *map(self.run_ids.index, among)]
        runs = self.run_ids[min(places) : max(places) + 1]
        self.change(runs)
        return runs

    def change(self, runs: Iterable[str]) -> None:
        """Write another version of each run: mostly a new one, sometimes one that it had before."""
        for run_id in runs:
            had = self.history.setdefault(run_id, [])
            earlier = [version for version in had[:-1] if version != had[-1]]
            if earlier and self.chance.random() < 0.15:
                had.append(self.chance.choice(earlier))
            else:
                self.newest += 1
                had.append(self.newest)
            self._write(run_id, had[-1])

    def _write(self, run_id: str, version: int) -> None:
        folder = self.index / "prompt_runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        with_videos = self.with_videos(run_id)
        prompt_id = "prm_videos" if with_videos else "prm"
        prompt = {
            "prompt_id": prompt_id,
            "name": "Titles",
            "prompt_text": "Titles, please.",
            "json_schema": TEXT_SCHEMA,
        }
        if with_videos:
            prompt["video_level"] = {"instructions_text": "Sum up.", "json_schema": TEXT_SCHEMA}
            rows = [self._row(version, video) | {"video_id": f"vid_{video}"} for video in range(9)]
            _write_lines(folder / "video_results.jsonl", rows)
        (folder / "prompt.json").write_text(json.dumps(prompt))
        count = self.segments + version
        rows = [
            self._row(version, n)
            | {"segment_id": f"seg_{n:06}", "video_id": "vid", "start_time": n * 5.0, "end_time": n * 5.0 + 5}
            for n in range(count)
        ]
        _write_lines(folder / "segment_results.jsonl", rows)
        record = {
            "run_id": run_id,
            "prompt_id": prompt_id,
            "prompt_name": "Titles",
            "status": "completed",
            "executed_at": f"2026-10-{self.run_ids.index(run_id) + 1:02}T08:00:00Z",
            "completed_segments": count,
        }
        (folder / "prompt_run.json").write_text(json.dumps(record))

    @staticmethod
    def _row(version: int, number: int) -> dict[str, object]:
        title = hashlib.sha256(f"{version} {number}".encode()).hexdigest()
        return {"metadata": {"title": title, "version": version}, "metadata_text": f"version {version}"}


class Files(Protocol):
    """Where a reader finds a destination: a folder, or a zip of one."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True)
class Folder:
    """A destination on disk."""

    path: Path

    def names(self) -> list[str]:
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if not p.is_dir())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@dataclass(frozen=True)
class Zip:
    """A download."""

    path: Path

    def names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as zipped:
            return sorted(name.partition("/")[2] for name in zipped.namelist())

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as zipped:
            return zipped.read(f"{zipped.namelist()[0].partition('/')[0]}/{name}")


@dataclass
class State:
    """The replay of a log, by someone who knows only what its documentation says."""

    entries: int = 0
    contents: Contents = field(default_factory=dict)
    named: set[str] = field(default_factory=set)


class WrongError(Exception):
    """A promise was broken."""


def check(condition: object, complaint: str) -> None:
    if not condition:
        raise WrongError(complaint)


def read_state(files: Files) -> State:
    """What the log says, after checking that every file it names is there as it says."""
    logged = [name for name in files.names() if name.startswith("_vv/log/")]
    state = State(entries=len(logged))
    latest: dict[str, tuple[dict, list[dict]]] = {}
    for number, name in enumerate(logged):
        check(name == f"_vv/log/{number:020}.json", f"the log has a gap or a stranger: {name}")
        entry = json.loads(files.read(name))
        check(entry["sequence"] == number, f"{name} says that it is entry {entry['sequence']}")
        for run in entry["prompt_runs"]:
            latest[run["run_id"]] = (run, [f for f in entry["files"] if f["prompt_run_id"] == run["run_id"]])
    for run_id, (run, named) in latest.items():
        for one in named:
            _check_file(files, one)
        segments = sum(one["rows"] for one in named if one["table"] == "segments")
        check(segments == run["counts"]["delivered"], f"{run_id}: {segments} rows, the log says {run['counts']}")
        state.contents[run_id] = segments
        state.named |= {one["path"] for one in named}
    return state


def _check_file(files: Files, named: dict) -> None:
    path = named["path"]
    try:
        content = files.read(path)
    except (FileNotFoundError, KeyError) as error:
        raise WrongError(f"the log names {path}, which is not there") from error
    found = (len(content), hashlib.sha256(content).hexdigest())
    check(found == (named["bytes"], named["sha256"]), f"{path} has {found}, the log says {named}")
    if path.endswith(".csv"):
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        check(len(rows) == named["rows"], f"{path} has {len(rows)} rows, the log says {named['rows']}")
        check(len({row["metadata_text"] for row in rows}) == 1, f"{path} mixes versions of its run")


def strays(files: Files, state: State) -> list[str]:
    """Files that neither the log names nor belong to it."""
    expected = state.named | {f"_vv/log/{n:020}.json" for n in range(state.entries)} | {"_vv/owner.json"}
    return sorted(set(files.names()) - expected)


@dataclass
class Target:
    """One kind of delivery: the command, and where its uploads and its commit are seen."""

    label: str
    command: str
    uploads: Path
    commits: Path
    commit_pattern: str

    def uploaded(self) -> set[tuple[str, int]]:
        """Files that were put in place; the inode tells one from an earlier file of its name."""
        found = set()
        for folder, _, names in os.walk(self.uploads):
            for path in (f"{folder}/{name}" for name in names if name.startswith("part-")):
                with contextlib.suppress(FileNotFoundError):
                    found.add((path, os.stat(path).st_ino))  # noqa: PTH116 - in a tight loop
        return found

    def committed(self) -> set[str]:
        return {str(path) for path in self.commits.glob(self.commit_pattern)}


@dataclass(frozen=True)
class Timeline:
    """One unkilled delivery, in seconds."""

    to_first_file: float
    between_files: float
    last_file_to_commit: float
    in_all: float

    def __str__(self) -> str:
        return (
            f"the first file after {self.to_first_file:.2f} s, then one each {self.between_files * 1000:.1f} ms, "
            f"the commit {self.last_file_to_commit * 1000:.1f} ms after the last, {self.in_all:.2f} s in all"
        )


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after so many files are there, or after the commit where ``files`` is None."""

    files: int | None
    delay: float

    @classmethod
    def draw(cls, chance: random.Random, timeline: Timeline, files: int) -> "Moment":
        where = chance.random()
        if where < 0.05:
            return cls(0, chance.uniform(0.8, 1.0) * timeline.to_first_file)
        if where < 0.5:
            return cls(chance.randrange(1, files + 1), chance.uniform(0, timeline.between_files))
        if where < 0.85:
            return cls(files, chance.uniform(0, 2 * timeline.last_file_to_commit))
        return cls(None, chance.uniform(0, 0.02))


class Deployment:
    """A scratch folder with an archive, a configuration and a Dagster instance; and the commands in it."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.folder = folder
        self.archive = archive
        self.scratch = folder / "tmp"
        self.scratch.mkdir()
        (folder / "downloads").mkdir()
        (folder / "vv_exports.yaml").write_text(CONFIG)
        shutil.copy(REPOSITORY / "dagster.yaml", folder)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "VV_EXPORTS"))
        } | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self.scratch), "DAGSTER_DISABLE_TELEMETRY": "1"}

    def automation(self, name: str) -> Target:
        place = self.folder / "deliveries" / "exports" / name
        label = {"team": "automation parquet", "sheet": "automation csv"}[name]
        return Target(label, f"automations run idx {name}", place, place / "_vv" / "log", "*.json")

    def export(self, key: str) -> Target:
        place = self.folder / "deliveries" / "on-demand" / key
        command = f"export index idx --connector conn --subpath on-demand/{key} --format csv --idempotency-key {key}"
        return Target("export csv", command, place, place, "*/_vv/log/*.json")

    def download(self, key: str) -> Target:
        command = f"export index idx --format csv --idempotency-key {key} --to {self.copy_of(key)}"
        return Target("download csv", command, self.scratch, self.folder / "storage/exports/downloads", "*/*.zip")

    def copy_of(self, key: str) -> Path:
        return self.folder / "downloads" / f"{key}.zip"

    def start(self, target: Target) -> subprocess.Popen[bytes]:
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "vv_exports", *target.command.split()],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, target: Target) -> None:
        code = self.start(target).wait(TIMEOUT_SECONDS)
        check(code == 0, f"`{target.command}` ended with {code}: {self.output()}")

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def ask(self, *command: str) -> object:
        asked = [sys.executable, "-m", "vv_exports", *command, "--json"]
        done = subprocess.run(asked, cwd=self.folder, env=self.environment, capture_output=True, check=True)
        return json.loads(done.stdout)

    def dagster_runs(self) -> Counter[str]:
        """Statuses of all Dagster runs, from its database."""
        path = f"file:{self.folder}/.dagster/storage/history/runs.db?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
            return Counter(status for (status,) in database.execute("select status from runs"))

    def unfinished(self) -> list[str]:
        """Whatever unfinished work left outside the destinations."""
        spools = self.scratch.glob("vv_exports_spool*/*")
        temporary = self.folder.rglob(".vv_exports_tmp/*")
        return sorted(str(p.relative_to(self.folder)) for p in (*spools, *temporary))


def learn(deployment: Deployment, target: Target) -> Timeline:
    """Watch one delivery to its end."""
    uploads, commits = target.uploaded(), target.committed()
    started = time.perf_counter()
    process = deployment.start(target)
    seen: list[float] = []
    committed = None
    while process.poll() is None:
        now = time.perf_counter() - started
        seen += [now] * (len(target.uploaded() - uploads) - len(seen))
        if committed is None and target.committed() - commits:
            committed = now
        time.sleep(POLL_SECONDS)
    check(process.returncode == 0, f"{target.label} failed: {deployment.output()}")
    check(len(seen) > 1 and committed, f"{target.label}: saw {len(seen)} uploads, and a commit at {committed}")
    between = (seen[-1] - seen[0]) / (len(seen) - 1)
    return Timeline(seen[0], between, max(committed - seen[-1], 0.001), time.perf_counter() - started)


@dataclass(frozen=True)
class Hit:
    """Where a kill hit. ``files`` are those that the delivery has in all."""

    uploaded: int
    committed: bool
    files: int = 0

    @property
    def place(self) -> str:
        """In words."""
        if self.committed:
            return "after the commit"
        if self.uploaded == 0:
            return "before the first upload"
        return "before the commit, uploading" if self.uploaded < self.files else "before the commit, uploaded"


def killed(deployment: Deployment, target: Target, moment: Moment) -> Hit | None:
    """Start the command and kill it; None where it was over before."""
    uploads, commits = target.uploaded(), target.committed()
    process = deployment.start(target)
    deadline = time.perf_counter() + TIMEOUT_SECONDS
    most = 0
    while process.poll() is None:
        check(time.perf_counter() < deadline, f"{target.label} takes more than {TIMEOUT_SECONDS} s")
        most = max(most, len(target.uploaded() - uploads))
        if target.committed() - commits or (moment.files is not None and most >= moment.files):
            time.sleep(moment.delay)
            break
        time.sleep(POLL_SECONDS)
    process.kill()
    if process.wait() == 0:
        return None
    check(process.returncode == -signal.SIGKILL, f"it failed by itself: {deployment.output()}")
    return Hit(max(most, len(target.uploaded() - uploads)), bool(target.committed() - commits))


@dataclass
class Tally:
    """What was hit."""

    kinds: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    left_by_kills: int = 0
    missed: int = 0


class Experiment:
    """Rounds of change, kill, check, finish, check."""

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        self.deployment = deployment
        self.archive = deployment.archive
        self.chance = chance
        self.tally = Tally()
        self.timelines: dict[str, Timeline] = {}
        self.touched: dict[str, set[str]] = {"team": set(), "sheet": set()}
        """Automation -> the runs that were rewritten since it last finished."""
        self.keys = (f"key-{number}" for number in itertools.count())

    def warm_up(self) -> None:
        """First deliveries; then see how long each kind takes with new content."""
        for name in self.touched:
            self.deployment.finish(self.deployment.automation(name))
        targets = [self.deployment.automation(name) for name in self.touched]
        targets += [self.deployment.export(next(self.keys)), self.deployment.download(next(self.keys))]
        for target in targets:
            self._change(self.archive.run_ids)
            self.timelines[target.label] = timeline = learn(self.deployment, target)
            print(f"{target.label}: {timeline}")
        self.finish_all()

    def finish_all(self) -> None:
        """Both automations, to their end."""
        for name in self.touched:
            self._finish(self.deployment.automation(name), name)

    def round(self, number: int, *, last: bool) -> None:
        """One kill: of automations, and every third time of an export on demand, to the connector or as a download."""
        if number % 3 != 2:
            self._kill_automation(("team", "sheet")[number % 2], last=last)
        elif number % 2:
            self._kill_export(self.deployment.export(next(self.keys)))
        else:
            self._kill_download(next(self.keys))

    def _change(self, among: Iterable[str]) -> None:
        changed = self.archive.change_some(among)
        for touched in self.touched.values():
            touched.update(changed)

    def _kill_automation(self, name: str, *, last: bool) -> None:
        target = self.deployment.automation(name)
        files = Folder(target.uploads)
        before = read_state(files).contents
        self._change(self.touched[name])
        hit = self._kill(target, [r for r in self.archive.run_ids if self.archive.contents[r] != before[r]])
        if hit is None:
            self.touched[name].clear()
            return
        state = read_state(files)
        seen = _before_or_after(state.contents, before, self.archive.contents)
        left = strays(files, state)
        if not last and self.chance.random() < 0.25:
            self._report(target, hit, seen, left, "left so for its next round")
            return
        how = "completed"
        if self.chance.random() < 0.5:
            self._change(self.touched[name])
            how = "completed with newer content"
        self._finish(target, name)
        self._report(target, hit, seen, left, how)

    def _finish(self, target: Target, name: str) -> None:
        self.deployment.finish(target)
        self.touched[name].clear()
        self._check_finished(Folder(target.uploads))

    def _kill_export(self, target: Target) -> None:
        hit = self._kill(target, self.archive.run_ids)
        if hit is None:
            return
        seen, left = "before", []
        for folder in _children(target.uploads):
            state = read_state(Folder(folder))
            seen, left = _before_or_after(state.contents, {}, self.archive.contents), strays(Folder(folder), state)
        self._check_nothing_goes_on()
        how = "completed"
        if self.chance.random() < 0.5:
            self._change([])
            how = "completed with newer content"
        self.deployment.finish(target)
        made = _children(target.uploads)
        check(len(made) == 1, f"one key made {made}")
        self._check_finished(Folder(made[0]))
        self._report(target, hit, seen, left, how)

    def _kill_download(self, key: str) -> None:
        target, copy = self.deployment.download(key), self.deployment.copy_of(key)
        known = target.committed()
        hit = self._kill(target, self.archive.run_ids)
        if hit is None:
            return
        made = [Path(path) for path in target.committed() - known]
        seen = "after" if made else "before"
        for path in (*made, *([copy] if copy.exists() else [])):
            check(read_state(Zip(path)).contents == self.archive.contents, f"{path} is not whole")
        left = self.deployment.unfinished()
        self._check_nothing_goes_on()
        self.deployment.finish(target)
        check(len(target.committed() - known) == 1, f"one key made {target.committed() - known}")
        check(copy.read_bytes() == Path(*(target.committed() - known)).read_bytes(), f"{copy} is not the artifact")
        self._check_finished(Zip(copy))
        self._report(target, hit, seen, left, "completed")

    def _kill(self, target: Target, runs: Iterable[str]) -> "Hit | None":
        files = sum(2 if self.archive.with_videos(run_id) else 1 for run_id in runs)
        moment = Moment.draw(self.chance, self.timelines[target.label], max(files, 1))
        hit = killed(self.deployment, target, moment)
        if hit is None:
            self.tally.missed += 1
            return None
        return replace(hit, files=files)

    def _check_finished(self, files: Files) -> None:
        """The state after, and not one file too many anywhere."""
        state = read_state(files)
        check(state.contents == self.archive.contents, f"the log says {state.contents}, not {self.archive.contents}")
        check(not (left := strays(files, state)), f"stray files: {left}")
        check(not (left := self.deployment.unfinished()), f"unfinished files: {left}")
        statuses = self.deployment.dagster_runs()
        check(set(statuses) <= {"SUCCESS", "FAILURE"}, f"Dagster runs: {statuses}")

    def _check_nothing_goes_on(self) -> None:
        statuses = {export["status"] for export in self.deployment.ask("exports", "list")}
        check(statuses <= {"completed", "failed"}, f"after a kill `exports list` says {statuses}")

    def _report(self, target: Target, hit: "Hit", seen: str, left: list[str], how: str) -> None:
        self.tally.kinds[target.label] += 1
        self.tally.places[hit.place] += 1
        self.tally.left_by_kills += len(left)
        number = self.tally.kinds.total()
        print(
            f"kill {number:3}  {target.label:18} {hit.place:28} {hit.uploaded:2} of {hit.files:2} files; "
            f"the log says the state {seen:6} ({len(left)} strays); {how}",
            flush=True,
        )


def _before_or_after(seen: Contents, before: Contents, after: Contents) -> str:
    check(seen in (before, after), f"the log says {seen}, neither {before} nor {after}")
    return "after" if seen == after else "before"


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def _write_lines(path: Path, rows: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--segments", type=int, default=2000)
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.runs} prompt runs of {options.segments:,} segments and more")
    chance = random.Random(options.seed)
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="vv_exports-kills-"))
    try:
        archive = Archive(folder / "archive", chance, options.runs, options.segments)
        experiment = Experiment(Deployment(folder, archive), chance)
        experiment.warm_up()
        tally = experiment.tally
        number = 0
        while (done := tally.kinds.total()) < options.kills:
            experiment.round(number, last=done >= options.kills - 2)
            number += 1
        experiment.finish_all()
        problems = [p for one in experiment.deployment.ask("verify", "conn") for p in one["problems"]]
        check(not problems, f"`verify` says {problems}")
    except WrongError as error:
        sys.exit(f"BROKEN: {error}\nEverything is still in {folder}")
    shutil.rmtree(folder)
    print(
        f"{tally.kinds.total()} kills ({_listed(tally.kinds)}): {_listed(tally.places)}; {tally.missed} rounds were "
        f"over before their kill. {tally.left_by_kills} strays were seen after kills, none after a finished run. "
        f"Every log said the state before or after, never between. {time.perf_counter() - started:.0f} s"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
