"""Several machines: a deployment of the files in `deploy/celery`, with PostgreSQL, Redis and SeaweedFS as processes.

A machine is a host name (`unshare --uts`, as root), a working folder and a temporary folder of its own; workers have
one place each.

    python benchmarks/several_machines.py ratio [--runs 300] [--latency 0.1]
    python benchmarks/several_machines.py killed [--runs 300] [--latency 0]
    python benchmarks/several_machines.py crashes [--only NAME]…

`ratio`: the prompt runs of four indexes are delivered by a backfill of the daemon for each, by one worker, then by two.
Requests to the store take 100 ms on the way, as to one that is far away: two cores have no room for twice the work, and
do have for twice the waiting. `killed`: by two workers, while the machine of one and the daemon are killed (`kill -9`)
and started anew. Each prompt run must be delivered once, by the log and by a glob.

`crashes`: a worker is lost while its run is in each of its states. It prints after how many seconds the run was closed,
the next one began, and its prompt run was delivered.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import dagster as dg  # noqa: E402
from redis import Redis  # noqa: E402

from vv_exports.defs.celery_runs import CeleryRuns  # noqa: E402
from vv_exports.defs.launches import error_of, launched_here  # noqa: E402
from vv_exports.defs.processes import WORKER, process_of  # noqa: E402
from vv_exports_tests.archives import write_run  # noqa: E402
from vv_exports_tests.machines import Machines, kill, machines, wait_until  # noqa: E402

INDEXES = [f"idx_{number}" for number in range(4)]
WORKERS = ("one", "two")
STATUS = dg.DagsterRunStatus


def automation(name: str, **more: object) -> dict[str, object]:
    return {"destination_connector_id": "conn_export", "destination_subpath": f"exports/{name}", **more}


@dataclass
class Deployment:
    """What is up."""

    machines: Machines
    archive: Path
    instance: dg.DagsterInstance

    def start_control(self) -> "subprocess.Popen[bytes]":
        """The code server, then the daemon, which is returned."""
        self.machines.start_code()
        return self.machines.start("control", "daemon")


@contextmanager
def deployed(folder: Path, indexes: dict[str, object], places: int) -> Iterator[Deployment]:
    with machines(folder, folder / "archive", indexes, places=places) as up, up.instance() as instance:
        yield Deployment(up, folder / "archive", instance)


# --- a backfill over all workers

SEGMENTS = 10
RUNS_PER_DELIVERY = 10


def ratio(folder: Path, runs: int, latency: float) -> None:
    one, two = (backfilled(folder / f"{number}", runs, latency, number, kills=False) for number in (1, 2))
    print(
        f"{runs} prompt runs of {SEGMENTS} segments, {RUNS_PER_DELIVERY} in a delivery, {latency * 1000:.0f} ms a "
        f"request: two workers take {two / one:.2f} of the time of one"
    )


def backfilled(folder: Path, runs: int, latency: float, workers: int, *, kills: bool) -> float:
    """How long a backfill of each index takes, in seconds. Ends the benchmark where a run was not delivered once."""
    indexes = {
        one: {"automations": {"team": automation(one, max_runs_per_delivery=RUNS_PER_DELIVERY)}} for one in INDEXES
    }
    expected = {one: [f"run_{number:03}" for number in range(runs // len(INDEXES))] for one in INDEXES}
    with deployed(folder, indexes, workers) as up:
        for index_id, run_ids in expected.items():
            for run_id in run_ids:
                write_run(up.archive, index_id=index_id, run_id=run_id, segments=SEGMENTS)
        processes = {name: up.machines.start(name, "worker") for name in WORKERS[:workers]}
        daemon = up.start_control()
        wait_until(lambda: "BACKFILL" in up.instance.get_daemon_heartbeats(), 180)
        time.sleep(10)  # the sensors find what there is: history
        up.machines.proxy.latency = latency
        began = time.monotonic()
        commands = [
            up.machines.machine("client").start("vv-exports", "backfill", one, "team", "--in-daemon") for one in INDEXES
        ]

        def delivered() -> int:
            return sum(len(up.machines.delivered(f"exports/{one}")) for one in INDEXES)

        if kills:
            wait_until(lambda: delivered() >= runs / 4, 1200)
            kill(processes["one"])
            print(f"a worker's machine is lost, with {delivered()} delivered", flush=True)
            wait_until(lambda: delivered() >= runs / 3, 1200)
            kill(daemon)
            print(f"the daemon is killed, with {delivered()} delivered", flush=True)
            time.sleep(5)
            up.machines.start("control", "daemon")
            up.machines.start("one", "worker")
        wait_until(lambda: delivered() == runs, 2400, lambda: f"{delivered()} are delivered")
        took = time.monotonic() - began
        codes = [command.wait() for command in commands]
        by_worker: Counter[str] = Counter()
        for index_id, run_ids in expected.items():
            log = up.machines.log(f"exports/{index_id}")
            for entry in log:
                run = up.instance.get_run_by_id(entry["provenance"]["dagster_run_id"])
                process = None if run is None else process_of(run, WORKER)
                by_worker[str(process).partition(" ")[0]] += len(entry["prompt_runs"])
            by_log = Counter(run["run_id"] for entry in log for run in entry["prompt_runs"])
            by_glob = up.machines.rows_by_glob(f"exports/{index_id}")
            if by_log != dict.fromkeys(run_ids, 1) or by_glob != dict.fromkeys(run_ids, SEGMENTS):
                raise SystemExit(f"WRONG: {index_id}: {by_log} by the log, {by_glob} rows by a glob")
        ended = Counter(one.dagster_run.status.value for one in up.instance.get_run_records())
        print(
            f"{workers} workers{', killed' * kills}: {took:.0f} s, each of {runs} once by the log and by a glob; "
            f"by worker {dict(by_worker)}; Dagster runs {dict(ended)}; exit {codes}; load {os.getloadavg()[0]:.0f}",
            flush=True,
        )
        return took


# --- a worker is lost


READS, DELIVERS = "vv_exports/snapshots_of", "vv_exports/automation"
UNFINISHED = dg.RunsFilter(statuses=[STATUS.QUEUED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
ABOUT = {READS: "idx", DELIVERS: "idx/team"}


@dataclass
class Crashes:
    """One prompt run after the other, of which each loses its worker in another state."""

    up: Deployment
    workers: dict[str, "subprocess.Popen[bytes]"]
    number: int = 0
    last: dict[str, str] = field(default_factory=lambda: dict.fromkeys(ABOUT, ""))
    """The runs that there were before."""

    @property
    def launcher(self) -> CeleryRuns:
        return self.up.instance.run_launcher  # type: ignore[return-value]

    def next_run(self) -> str:
        for about, whom in ABOUT.items():
            (newest,) = self.up.instance.get_run_records(dg.RunsFilter(tags={about: whom}), limit=1)
            self.last[about] = newest.dagster_run.run_id
        self.number += 1
        return write_run(self.up.archive, run_id=f"run_{self.number:03}").name

    def newest(self, about: str, *states: STATUS, other_than: str = "") -> dg.DagsterRun:
        """The newest Dagster run that reads or delivers, once it is in one of these states."""
        found: list[dg.DagsterRun] = []

        def there() -> bool:
            records = self.up.instance.get_run_records(dg.RunsFilter(tags={about: ABOUT[about]}), limit=1)
            found[:] = [one.dagster_run for one in records]
            return bool(found) and found[0].run_id not in {other_than, self.last[about]} and found[0].status in states

        wait_until(there, 300, lambda: str(found))
        return found[0]

    def task(self, run: dg.DagsterRun) -> tuple[str, dict[str, object]]:
        result = self.launcher.celery.AsyncResult(run.run_id)
        return result.state, result.info if isinstance(result.info, dict) else {}

    def machine_of(self, run: dg.DagsterRun) -> str:
        wait_until(lambda: self.task(run)[0] == "STARTED", 120)
        return str(self.task(run)[1]["hostname"]).partition("@")[2]

    def held_up(self) -> tuple[str, dg.DagsterRun, str]:
        """A delivery that stands still before its commit, and the machine that it is on."""
        fault = self.up.machines.proxy.fault("silent", "^PUT .*/_vv/log/", times=1000)
        prompt_run = self.next_run()
        run = self.newest(DELIVERS, STATUS.STARTED)
        wait_until(fault.hit.is_set, 120)
        return prompt_run, run, self.machine_of(run)

    def lose(self, machine: str) -> float:
        kill(self.workers[machine])
        return time.time()

    def start(self, machine: str) -> None:
        self.workers[machine] = self.up.machines.start(machine, "worker")


def machine_lost(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run, run, machine = on.held_up()
    return prompt_run, run, on.lose(machine)


def process_lost(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run, run, _ = on.held_up()
    os.kill(int(str(on.task(run)[1]["pid"])), signal.SIGKILL)
    return prompt_run, run, time.time()


def worker_started_anew(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run, run, machine = on.held_up()
    lost_at = on.lose(machine)
    on.start(machine)
    return prompt_run, run, lost_at


def machine_stopped(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run, run, machine = on.held_up()
    os.killpg(on.workers[machine].pid, signal.SIGSTOP)
    return prompt_run, run, time.time()


def lost_while_code_loads(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run = on.next_run()
    run = on.newest(DELIVERS, STATUS.STARTING)
    machine = on.machine_of(run)
    lost_at = on.lose(machine)
    found = on.up.instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == STATUS.STARTING, f"too late: {found}"
    return prompt_run, run, lost_at


def lost_before_it_began(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    """It was handed to a worker whose processes had not taken it up."""
    for worker in on.workers.values():
        for child in children(worker.pid):
            os.kill(child, signal.SIGSTOP)
    prompt_run = on.next_run()
    run = on.newest(READS, STATUS.STARTING)
    with Redis.from_url(on.up.machines.redis.url(0)) as broker:
        wait_until(lambda: broker.hlen("unacked"), 60, lambda: str(on.task(run)))
    assert on.task(run)[0] == "PENDING"
    for machine in WORKERS:
        on.lose(machine)
    on.start(WORKERS[0])
    return prompt_run, run, time.time()


def forgotten_by_the_broker(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    """Redis was started anew and had kept nothing."""
    for worker in on.workers.values():
        kill(worker)
    prompt_run = on.next_run()
    run = on.newest(READS, STATUS.STARTING)
    time.sleep(2)
    with Redis.from_url(on.up.machines.redis.url(0)) as broker:
        broker.flushdb()
    lost_at = time.time()
    for machine in WORKERS:
        on.start(machine)
    return prompt_run, run, lost_at


def lost_while_it_was_canceled(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    prompt_run, run, machine = on.held_up()
    os.killpg(on.workers[machine].pid, signal.SIGSTOP)
    on.up.instance.run_coordinator.cancel_run(run.run_id)
    on.newest(DELIVERS, STATUS.CANCELING)
    return prompt_run, run, on.lose(machine)


def command_lost(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    """Somebody delivers by a command, on a machine of his own."""
    client = on.up.machines.machine("client")
    client.run("vv-exports", "automations", "pause", "idx", "team")
    fault = on.up.machines.proxy.fault("silent", "^PUT .*/_vv/log/", times=1000)
    prompt_run = on.next_run()
    command = client.start("vv-exports", "automations", "run", "idx", "team")
    wait_until(fault.hit.is_set, 180)
    (run,) = filter(launched_here, on.up.instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED])))
    kill(command)
    lost_at = time.time()
    on.up.machines.machine("control").run("vv-exports", "automations", "resume", "idx", "team")
    return prompt_run, run, lost_at


def canceled(on: Crashes) -> tuple[str, dg.DagsterRun, float]:
    """Nothing is lost: somebody ends it."""
    prompt_run, run, _ = on.held_up()
    on.up.instance.run_coordinator.cancel_run(run.run_id)
    return prompt_run, run, time.time()


CRASHES: dict[str, Callable[[Crashes], tuple[str, dg.DagsterRun, float]]] = {
    "STARTED, the machine is lost": machine_lost,
    "STARTED, the run's process alone": process_lost,
    "STARTED, the worker is killed and started anew": worker_started_anew,
    "STARTED, the machine stands still": machine_stopped,
    "STARTING, while its code loads": lost_while_code_loads,
    "STARTING, taken and not begun": lost_before_it_began,
    "STARTING, and the broker forgot it": forgotten_by_the_broker,
    "CANCELING, the machine is lost": lost_while_it_was_canceled,
    "STARTED, a command with its machine": command_lost,
    "canceled, nothing is lost": canceled,
}


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def crashes(folder: Path, only: list[str]) -> None:
    """Ends the benchmark where a run is not closed, or not delivered once."""
    indexes = {"idx": {"discovery_interval_seconds": 5, "automations": {"team": automation("team", start="beginning")}}}
    with deployed(folder, indexes, len(WORKERS)) as up:
        write_run(up.archive, run_id="run_000")
        on = Crashes(up, {name: up.machines.start(name, "worker") for name in WORKERS})
        up.start_control()
        wait_until(lambda: up.machines.delivered("exports/team")["run_000"], 300)
        for name, crash in CRASHES.items():
            if only and not any(one in name for one in only):
                continue
            wait_until(lambda: not up.instance.get_run_records(UNFINISHED), 300)
            prompt_run, run, lost_at = crash(on)
            wait_until(lambda run=run: up.instance.get_run_by_id(run.run_id).is_finished, 300)  # type: ignore[misc]
            up.machines.proxy.heal()
            wait_until(lambda prompt_run=prompt_run: up.machines.delivered("exports/team")[prompt_run], 300)
            delivered = time.time() - lost_at
            ended = up.instance.get_run_record_by_id(run.run_id)
            assert ended is not None
            about = READS if READS in run.tags else DELIVERS
            after = up.instance.get_run_records(dg.RunsFilter(tags={about: ABOUT[about]}), limit=5)
            began = min((one.start_time for one in after if one.start_time and one.start_time > lost_at), default=None)
            again = "" if began is None else f"begun again after {began - lost_at:.0f} s, "
            status = ended.dagster_run.status
            closed = "" if status == STATUS.SUCCESS else f"{status.value} after {ended.end_time - lost_at:.0f} s, "  # type: ignore[operator]
            print(
                f"{name}: {closed}{again}delivered after {delivered:.0f} s; "
                f"load {os.getloadavg()[0]:.0f}; {error_of(up.instance, run.run_id)}",
                flush=True,
            )
            for machine, worker in on.workers.items():
                if worker.poll() is None:
                    os.killpg(worker.pid, signal.SIGCONT)
                else:
                    on.start(machine)
            time.sleep(5)
        times = up.machines.delivered("exports/team")
        print(f"delivered: {dict(Counter(times.values()))} (times: prompt runs)")
        if set(times.values()) != {1}:
            raise SystemExit(f"WRONG: {times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["ratio", "killed", "crashes"])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--latency", type=float, help="seconds")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--keep", help="a folder to work in, which stays")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(exist_ok=True, parents=True)
        if options.what == "ratio":
            ratio(folder, options.runs, 0.1 if options.latency is None else options.latency)
        elif options.what == "killed":
            backfilled(folder / "killed", options.runs, options.latency or 0.0, len(WORKERS), kills=True)
        else:
            crashes(folder, options.only)


if __name__ == "__main__":
    main()
