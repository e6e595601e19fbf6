"""Prompt runs read by processes of their own give what this process would give, and end with it."""

import copy
import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from vv_exports import errors, reading_processes
from vv_exports.domain.progress import Progress
from vv_exports.errors import SourceDataError, TransientError, VVExportsError
from vv_exports.pipeline import Pipeline
from vv_exports.reading_processes import ReadingProcesses
from vv_exports.snapshots.store import SnapshotStore
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, write_config

PROCESSES = {**CONFIG, "source": {**CONFIG["source"], "processes": 2}}
MANY = 30_000


@pytest.fixture
def a_segment_is_worth_it(monkeypatch):
    monkeypatch.setattr(reading_processes, "_WORTH_A_PROCESS", 1)


@pytest.fixture
def nothing_read_here(monkeypatch):
    def take(*_):
        pytest.fail("read by this process")

    monkeypatch.setattr(SnapshotStore, "take", take)


def pipeline_of(folder, config=PROCESSES, **progress):
    folder.mkdir(exist_ok=True)
    return Pipeline.from_config(client_of(folder, config).pipeline.config, Progress(**progress))


def content_of(batch):
    return [(one.snapshot.run_id, one.snapshot.data_version, one.snapshot.tables, one.fresh) for one in batch.taken]


def children_are_gone():
    until = time.monotonic() + 20
    while multiprocessing.active_children():
        assert time.monotonic() < until, "processes that read are still there"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("a_segment_is_worth_it")
def test_runs_read_elsewhere_are_as_they_are_read_here(tmp_path, request):
    here = tmp_path / "here"
    odd = [segment(2, metadata={"title": 7, "more": 2**70}), segment(1), segment(0, metadata_text=None)]
    for folder in (here, tmp_path):
        write_run(folder / "archive", run_id="run_1", segments=5)
        write_run(folder / "archive", run_id="run_2", segments=odd, failures=[])
        write_run(folder / "archive", run_id="run_3", segments=[segment(0), segment(0)])
    alone = pipeline_of(here, CONFIG).snapshots.of_ids("idx", ["run_1", "run_2", "run_3"])

    request.getfixturevalue("nothing_read_here")
    told, done = [], []
    pipeline = pipeline_of(
        tmp_path,
        snapshot=lambda run_id, rows: told.append((run_id, rows)),
        work=lambda step, rows, more: done.append(rows),
    )
    apart = pipeline.snapshots.of_ids("idx", ["run_1", "run_2", "run_3"])

    assert content_of(apart) == content_of(alone)
    assert told == [("run_1", 5), ("run_2", 3)]
    assert sum(done) == 8
    (problem,), (expected,) = apart.problems.values(), alone.problems.values()
    assert type(problem) is type(expected) is SourceDataError
    assert str(problem).replace(str(tmp_path), "") == str(expected).replace(str(here), "")
    children_are_gone()


@pytest.mark.slow
@pytest.mark.usefixtures("a_segment_is_worth_it", "nothing_read_here")
def test_what_is_there_already_starts_no_process(tmp_path, monkeypatch):
    for run_id in ("run_1", "run_2"):
        write_run(tmp_path / "archive", run_id=run_id)
    first = pipeline_of(tmp_path).snapshots.of_ids("idx", ["run_1", "run_2"])
    monkeypatch.setattr(ReadingProcesses, "taker", lambda *_: pytest.fail("a process was started"))
    again = pipeline_of(tmp_path).snapshots.of_ids("idx", ["run_1", "run_2"])
    assert [one.snapshot for one in again.taken] == [one.snapshot for one in first.taken]
    assert not any(one.fresh for one in again.taken)


@pytest.mark.parametrize(
    ("processes", "spool", "segments", "count"),
    [
        (1, None, [10**6] * 3, 1),
        (4, None, [10**6] * 3, 3),
        (2, None, [10**6] * 3, 2),
        (4, None, [10**6], 1),
        (4, None, [20_000] * 3, 1),  # to start a second one would take longer than to read them
        (4, None, [40_000] * 3, 2),
        (4, 600 << 20, [10**6] * 4, 2),  # each of them needs some of the spool
        (4, None, [], 1),
    ],
)
def test_as_many_processes_as_pay(tmp_path, processes, spool, segments, count):
    config = {**CONFIG, "source": {**CONFIG["source"], "processes": processes}}
    if spool is not None:
        config["spool"] = {"max_bytes": spool}
    pipeline = pipeline_of(tmp_path, config)
    for number, rows in enumerate(segments):
        write_run(tmp_path / "archive", run_id=f"run_{number}", segments=1, completed_segments=rows)
    runs = [pipeline.source.prompt_run("idx", f"run_{number}") for number in range(len(segments))]
    assert ReadingProcesses(pipeline.config).count(runs) == count


@pytest.mark.slow
@pytest.mark.usefixtures("a_segment_is_worth_it")
def test_a_process_that_is_killed_is_told_and_what_it_read_is_read_again(tmp_path):
    for run_id in ("run_1", "run_2"):
        write_run(tmp_path / "archive", run_id=run_id, segments=MANY)

    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TransientError, match="is read by a process that has ended"):
        pipeline_of(tmp_path).snapshots.of_ids("idx", ["run_1", "run_2"])
    killer.join()
    children_are_gone()
    batch = pipeline_of(tmp_path).snapshots.of_ids("idx", ["run_1", "run_2"])
    assert [one.snapshot.rows("segments") for one in batch.taken] == [MANY, MANY]


@pytest.mark.usefixtures("a_segment_is_worth_it", "nothing_read_here")
def test_a_process_that_cannot_be_started_is_told(tmp_path, monkeypatch):
    for run_id in ("run_1", "run_2"):
        write_run(tmp_path / "archive", run_id=run_id)

    def refuse(*_):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "_Popen", refuse)
    with pytest.raises(TransientError, match=r"no process can be started .* temporarily unavailable"):
        pipeline_of(tmp_path).snapshots.of_ids("idx", ["run_1", "run_2"])
    children_are_gone()


@pytest.mark.slow
@pytest.mark.usefixtures("a_segment_is_worth_it")
def test_an_interrupt_ends_those_that_read(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1", segments=3)
    for run_id in ("run_2", "run_3", "run_4"):
        write_run(tmp_path / "archive", run_id=run_id, segments=MANY)

    def interrupt(run_id, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline_of(tmp_path, snapshot=interrupt).snapshots.of_ids("idx", [f"run_{n}" for n in (1, 2, 3, 4)])
    children_are_gone()
    kept = pipeline_of(tmp_path).snapshots.kept("idx").rows
    assert "run_1" in kept
    assert "run_4" not in kept


KILLED = """
import multiprocessing, sys, threading, time
from pathlib import Path
from vv_exports import reading_processes
from vv_exports.config import load_config
from vv_exports.pipeline import Pipeline

def tell():
    while len(children := multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    print(*(child.pid for child in children), flush=True)

if __name__ == "__main__":
    reading_processes._WORTH_A_PROCESS = 1
    threading.Thread(target=tell, daemon=True).start()
    Pipeline.from_config(load_config(Path(sys.argv[1]))).snapshots.of_ids("idx", ["run_1", "run_2"])
"""


@pytest.mark.slow
def test_they_end_with_the_process_that_is_killed(tmp_path):
    for run_id in ("run_1", "run_2"):
        write_run(tmp_path / "archive", run_id=run_id, segments=MANY)
    config = write_config(tmp_path, PROCESSES)
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pids = list(map(int, process.stdout.readline().split()))
        process.kill()
    assert len(pids) == 2
    until = time.monotonic() + 20
    while any(map(_runs, pids)):
        assert time.monotonic() < until, "they outlived it"
        time.sleep(0.05)
    batch = pipeline_of(tmp_path, CONFIG).snapshots.of_ids("idx", ["run_1", "run_2"])
    assert [one.snapshot.rows("segments") for one in batch.taken] == [MANY, MANY]


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


ERRORS = [
    errors.SourceDataError("text"),
    errors.ConfigurationError("vv_exports.yaml", ["one", "two"]),
    errors.UnusableEntryError("text", is_newer=True),
    errors.SnapshotDamagedError("text", "a/key"),
    errors.SchemaConflictError("text", "run_1"),
    errors.StorageSetBackError("text", {"run_1": 3}),
    errors.NotificationError("text", is_refused=True),
    errors.PartlyFailedError("2 runs", 1, {"run_1": errors.TransientError("later")}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "through", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"]
)
def test_an_error_is_the_same_in_another_process(error, through):
    found = through(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert json.dumps(vars(found), default=str) == json.dumps(vars(error), default=str)


def test_every_error_with_more_than_a_message_is_among_them():
    def below(kind):
        return {kind}.union(*map(below, kind.__subclasses__()))

    more = {kind for kind in below(VVExportsError) if "__init__" in vars(kind) and kind.__module__ == errors.__name__}
    assert {kind.__name__ for kind in more} <= {type(error).__name__ for error in ERRORS} | {
        "ContractBrokenError",  # as SchemaConflictError
    }
