"""Processes that are measured in turns, and tables of what was measured.

A side of a comparison is a plain function of a benchmark, named by its module, that a worker calls in a process of its
own: one version of the code, one working directory. What the function marks with ``work()`` is measured, or all of it
where it marks nothing: wall time, and CPU of the process, its threads and the processes that it waited for. Beside that
stand the process as a whole (imports and start included), the peak memory of all its processes together, and how many
cores something else on the machine kept busy meanwhile.

Sides take turns, so that what the machine does falls on all alike; medians count, and their spread is told.
"""

import contextlib
import importlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLED_EVERY = 0.05
# Of a line of /proc/stat: all but idle, waiting for the disk, and guests, which are counted as users already.
_BUSY = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True)
class Measured:
    """One call. Seconds, and MiB; ``others`` in cores."""

    wall: float
    cpu: float
    process_wall: float
    process_cpu: float
    peak: float
    others: float
    result: Any


@dataclass(frozen=True)
class _Marked:
    wall: float
    cpu: float


_marked: list[_Marked] = []


@contextlib.contextmanager
def work() -> Iterator[None]:
    """What of a side is measured. What is before and behind it is preparation."""
    began, used = time.perf_counter(), _cpu()
    yield
    _marked.append(_Marked(time.perf_counter() - began, _cpu() - used))


def _cpu() -> float:
    """Of this process and those that it waited for."""
    taken = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in taken)


class Worker:
    """A process that calls one side after the other, with the code of one checkout."""

    def __init__(self, cwd: Path, *, code: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
        paths = os.pathsep.join([str(Path(__file__).parent), str(code)])
        quiet = {"PYTHONPATH": paths, "NO_PROXY": "127.0.0.1", "DAGSTER_DISABLE_TELEMETRY": "1"}
        self._began, self._busy = time.perf_counter(), _busy_seconds()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import measuring; measuring.serve()", str(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, **quiet, **(environment or {})},
        )
        self._calls = 0

    def call(self, side: Callable[..., Any], *arguments: Any) -> Measured:
        """Call a function of a benchmark's module with arguments that JSON can hold; so must be what it returns."""
        if self._calls:  # a first call has the process's start in it
            self._began, self._busy = time.perf_counter(), _busy_seconds()
        self._calls += 1
        module = Path(sys.modules[side.__module__].__file__ or "").stem
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, side.__name__, arguments]) + "\n")
        self._process.stdin.flush()
        with Sampled(partial(_resident_tree, self._process.pid)) as sampled:
            answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{module}.{side.__name__}{arguments} failed: its process ended with {self._process.wait()}")
        told = json.loads(answer)
        wall = time.perf_counter() - self._began
        return Measured(
            wall=told["wall"],
            cpu=told["cpu"],
            process_wall=wall,
            process_cpu=told["process_cpu"],
            peak=max(told["peak"], sampled.peak),
            others=max(_busy_seconds() - self._busy - told["process_cpu"], 0) / wall,
            result=told["result"],
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """A worker's process: calls what its standard input names."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    code = Path(sys.argv[1])
    before = 0.0
    for line in sys.stdin:
        module, function, arguments = json.loads(line)
        side = getattr(importlib.import_module(module), function)
        _marked.clear()
        began, used = time.perf_counter(), _cpu()
        result = side(*arguments)
        marked = _marked or [_Marked(time.perf_counter() - began, _cpu() - used)]
        package = sys.modules.get("vv_exports")
        if package is not None and not Path(str(package.__file__)).is_relative_to(code):
            sys.exit(f"{package.__file__} was measured, and not {code}")
        told = {
            "wall": sum(one.wall for one in marked),
            "cpu": sum(one.cpu for one in marked),
            "process_cpu": _cpu() - before,
            "peak": peak_mib(),
            "result": result,
        }
        before = _cpu()
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def once(
    cwd: Path, side: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Measured:
    """Call a side in a new process."""
    worker = Worker(cwd, environment=environment)
    try:
        return worker.call(side, *arguments)
    finally:
        worker.close()


def in_turns(
    sides: Mapping[str, Callable[[], Measured]], rounds: int, *, warm_up: bool = False
) -> dict[str, list[Measured]]:
    """Each side once in each round, in turn. A round to warm up is for what only a first call has to do."""
    found: dict[str, list[Measured]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, side in sides.items():
            measured = side()
            if number or not warm_up:
                found[name].append(measured)
    return found


class Sampled:
    """The most that a measure gave, looked at twenty times a second."""

    def __init__(self, measure: Callable[[], float]) -> None:
        self.peak = 0.0
        self._measure = measure
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLED_EVERY):
            self.peak = max(self.peak, self._measure())


def _resident_tree(pid: int) -> float:
    """What a process and its descendants hold together, in MiB."""
    return sum(_resident(one) for one in _tree(pid))


def _tree(pid: int) -> list[int]:
    found, new = [], [pid]
    while new:
        one = new.pop()
        found.append(one)
        with contextlib.suppress(OSError):  # it ended
            for task in Path(f"/proc/{one}/task").iterdir():
                new += map(int, (task / "children").read_text().split())
    return found


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20
    except (OSError, IndexError):  # it ended
        return 0.0


def peak_mib() -> float:
    """Of this process since its program began. Not ``getrusage``: its peak counts what the parent had at the fork."""
    told = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert told is not None, "this system does not tell a process's peak memory"
    return int(told[1]) / 1024


def _busy_seconds() -> float:
    """Of all cores together since the machine's start."""
    figures = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(figures[place]) for place in _BUSY) / _TICKS


def middle(figures: Sequence[float], digits: int = 2) -> str:
    """A median with its spread."""
    if len(figures) == 1:
        return f"{figures[0]:,.{digits}f}"
    return f"{median(figures):,.{digits}f} ({min(figures):,.{digits}f}–{max(figures):,.{digits}f})"


def ratios(ours: Sequence[Measured], theirs: Sequence[Measured], of: str = "wall") -> list[float]:
    """Round by round: what the machine does in a round falls on both."""
    return [getattr(one, of) / getattr(other, of) for one, other in zip(ours, theirs, strict=True)]


def noise(found: Mapping[str, Sequence[Measured]]) -> str:
    """What else the machine did, and how far calls of the same side differ in CPU time."""
    others = [one.others for rounds in found.values() for one in rounds]
    told = f"Noise: something else kept {median(others):.2f} cores busy (at most {max(others):.2f})"
    # Of what is over in a blink, CPU time says nothing about the machine.
    cpu = [[one.cpu for one in rounds] for rounds in found.values() if min(one.cpu for one in rounds) > 0.1]
    rounds = max(map(len, found.values()))
    if rounds == 1 or not cpu:
        return f"{told}. Rounds: {rounds}."
    spread = max(max(one) / min(one) - 1 for one in cpu)
    return (
        f"{told}; CPU of the same side differs by up to {spread:.0%}. Medians of {rounds} rounds in turns (least–most)."
    )


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *notes: str) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(columns)} |")
    print(f"|---{'|---:' * (len(columns) - 1)}|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    for note in notes:
        print(f"\n{note}")
    sys.stdout.flush()


def machine() -> str:
    """What the figures were taken on."""
    told = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE / 2**30
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("dagster", "pyarrow", "msgspec", "duckdb", "polars", "dlt")
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores of {told[1] if told else platform.processor()}, "
        f"{memory:.0f} GiB; Python {platform.python_version()}, {libraries}"
    )


def scratch() -> str | None:
    """Where temporary files do not wait for a disk, if there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
