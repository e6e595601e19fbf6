"""Many indexes under a daemon, a code server and a webserver, on PostgreSQL, when there is nothing to do.

Each index has two automations and so many finished runs in an archive on disk: a partition of Dagster, a snapshot in
the catalog, and a delivery of each by both automations (the entries of the logs; of what was delivered no file is
there, and nothing that is measured looks for one). Then PostgreSQL, the code server, the webserver and the daemon run
as processes of their own for some minutes. Told are ticks, by kind of sensor; how far apart those of one sensor are;
SQL statements, by whoever sends them, from PostgreSQL's own statistics; CPU and memory of each process; and, of ticks
in a process of their own, CPU, statements and requests to stores: the first, and those behind it.

Seconds of CPU count, and statements. On a machine that is busy with something else fewer ticks come than are asked for.
Needs PostgreSQL, the packages of the extra `postgres`, and `psutil`.

    python benchmarks/many_indexes_running.py [--indexes 500] [--runs 400] [--minutes 4] [--keep FOLDER]
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import dagster as dg  # noqa: E402
import msgspec  # noqa: E402
import psycopg2  # noqa: E402
import yaml  # noqa: E402
from dagster._core.scheduler.instigation import TickData  # noqa: E402
from dagster._serdes import deserialize_value  # noqa: E402
from discovery import deliver, digest, record_of  # noqa: E402

from vv_exports.client import VVExports  # noqa: E402
from vv_exports.config import load_config  # noqa: E402
from vv_exports.defs.build import build_definitions  # noqa: E402
from vv_exports.defs.instance import open_instance  # noqa: E402
from vv_exports.defs.partitions import sync_partitions  # noqa: E402
from vv_exports.parts import open_parts  # noqa: E402
from vv_exports.pipeline import Pipeline  # noqa: E402
from vv_exports.snapshots.store import fingerprint_of  # noqa: E402
from vv_exports_tests.archives import write_run  # noqa: E402

CONNECTOR = {"provider": "local", "root": ".", "export_base_path": "deliveries", "scopes": ["export"]}
AUTOMATIONS = ("editorial", "review-team")
PROCESSES = ("code_server", "daemon", "webserver")
"""Each has a user of its own in the database, so that its statements are told apart."""
_LINKS = 60_000
_BIN = Path(sys.executable).parent


def configuration(indexes: int) -> dict[str, Any]:
    """Two automations an index, with nothing set that need not be."""

    def automations(index: str) -> dict[str, Any]:
        return {
            name: {
                "destination_connector_id": "conn",
                "destination_subpath": f"{index}/{name}",
                "start": "beginning",
            }
            for name in AUTOMATIONS
        }

    return {
        "source": {"kind": "local_archive", "path": "archive"},
        "storage": "storage",
        "connectors": {"conn": CONNECTOR},
        "indexes": {f"prod-{n:04}": {"automations": automations(f"prod-{n:04}")} for n in range(indexes)},
    }


def build(folder: Path, indexes: int, count: int) -> None:
    """Write all that is known of so many indexes, but for what Dagster knows."""
    config = configuration(indexes)
    (folder / "vv_exports.yaml").write_text(yaml.safe_dump(config))
    client = VVExports(folder / "vv_exports.yaml", instance=dg.DagsterInstance.ephemeral())
    pipeline = client.pipeline
    linked: Path | None = None
    links = 0
    for index in config["indexes"]:
        for number in range(count):
            record = {**record_of(number), "run_context": {"type": "index", "index_id": index}}
            if number == 0:
                run = write_run(folder / "archive", index_id=index, **record)
                continue
            if linked is None or links >= _LINKS:
                linked, links = run, 0
            here = run.parent / f"run_{number:08}"
            here.mkdir()
            for name in ("prompt.json", "segment_results.jsonl"):
                os.link(linked / name, here / name)
            links += 1
            (here / "prompt_run.json").write_text(json.dumps(record))
        listing = pipeline.indexes.listing(index)
        pipeline.automations.begin(index, listing, pipeline.clock())
        (one,) = pipeline.snapshots.of_runs(listing.runs[:1])
        snapshots = [
            msgspec.structs.replace(
                one.snapshot, run_id=run.run_id, executed_at=run.executed_at, data_version=digest(run.run_id)
            )
            for run in listing.runs[1:]
        ]
        prints = [fingerprint_of(pipeline.source, run) for run in listing.runs[1:]]
        for name in AUTOMATIONS:
            automation = pipeline.automations.get(index, name)
            pipeline.deliveries.deliver(automation.delivery_of([one.snapshot], None))
            deliver(automation.destination, snapshots)
        pipeline.snapshots.catalogs.record(index, list(zip(snapshots, prints, strict=True)))


# What is measured of one tick, in a process of its own.


class Counting:
    """A connector that counts what it is asked for."""

    def __init__(self, connector: Any, counted: Counter[str]) -> None:
        self._connector, self._counted = connector, counted

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connector, name)
        if name not in {"read", "files", "create", "delete", "open_read", "upload", "exists"}:
            return found

        def asked(*arguments: Any, **options: Any) -> Any:
            self._counted[name] += 1
            return found(*arguments, **options)

        return asked


def measure_ticks(folder: Path, ticks: int = 30) -> None:
    """Print, as JSON, CPU seconds and requests of ticks of a sensor of each kind: the first, and those behind it."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    counted: Counter[str] = Counter()
    statements: Counter[str] = Counter()
    event.listen(Engine, "before_cursor_execute", lambda *_: statements.update(["sql"]))
    config = load_config(folder / "vv_exports.yaml")
    parts = open_parts(config)
    pipeline = Pipeline(
        config,
        source=parts.source,
        storage=Counting(parts.storage, counted),
        connectors={name: Counting(one, counted) for name, one in parts.connectors.items()},
    )
    definitions = build_definitions(pipeline)
    instance = open_instance(os.environ, folder)
    found: dict[str, Any] = {}
    for kind, sensor in (("discovery", "prod_0000__discovery"), ("delivery", "prod_0000__editorial__delivery")):
        tick = definitions.resolve_sensor_def(sensor)
        rows = []
        for _ in range(ticks):
            counted.clear()
            statements.clear()
            context = dg.build_sensor_context(instance=instance, definitions=definitions)
            began, wall = time.process_time(), time.perf_counter()
            said = tick(context)
            rows.append(
                {
                    "cpu_ms": (time.process_time() - began) * 1000,
                    "wall_ms": (time.perf_counter() - wall) * 1000,
                    "sql": statements["sql"],
                    "requests": sum(counted.values()),
                    "said": getattr(said, "skip_message", None) or str(said),
                }
            )
        found[kind] = rows
    print(json.dumps(found))


# The deployment.


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def started(name: str, folder: Path, *command: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in the folder, until it is stopped."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "DAGSTER_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "DATABASE_USER": name,
    }
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(one) for one in command], cwd=folder, env=environment, stdout=log, stderr=log, **options
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """PostgreSQL on loopback, with statistics of its statements: its port and its process."""
    programs = next(Path("/usr/lib/postgresql").glob("*/bin"))
    data, port = folder / "postgres", free_port()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to be root
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        folder.chmod(0o755)
    if not data.exists():
        data.mkdir()
        if user:
            shutil.chown(data, "postgres", "postgres")
        command = [programs / "initdb", "-D", data, "-U", "dagster", "-A", "trust", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=data, **user)
    options = {
        "listen_addresses": "127.0.0.1",
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
        "max_connections": "200",
    }
    settings = [one for name, value in options.items() for one in ("-c", f"{name}={value}")]
    with started(
        "postgres", folder, programs / "postgres", "-D", data, "-p", str(port), "-k", data, *settings, **user
    ) as process:
        until(lambda: asked(port, "SELECT 1"), 30, "PostgreSQL")
        if not asked(port, "SELECT 1 FROM pg_roles WHERE rolname = 'daemon'"):
            asked(port, "CREATE EXTENSION pg_stat_statements")
            for name in PROCESSES:
                asked(port, f"CREATE ROLE {name} SUPERUSER LOGIN")
        yield port, process


def asked(port: int, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="dagster", dbname="postgres")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def until(works: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until something works. Returns the seconds that it took."""
    began = time.monotonic()
    while True:
        try:
            works()
            return time.monotonic() - began
        except Exception:  # noqa: BLE001 - whatever it is, it may be over in a moment
            if time.monotonic() - began > seconds:
                sys.exit(f"{what} is not there after {seconds} s")
            time.sleep(0.25)


def settings(folder: Path, port: int, code_port: int) -> None:
    """The instance: ours, on PostgreSQL; and the workspace: the code server."""
    ours = yaml.safe_load((ROOT / "vv_exports/defs/dagster.yaml").read_text())
    database = {
        "hostname": "127.0.0.1",
        "port": port,
        "username": {"env": "DATABASE_USER"},
        "password": "",
        "db_name": "postgres",
    }
    ours["storage"] = {"postgres": {"postgres_db": {**database, "scheme": "postgresql+psycopg2"}}}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(ours))
    server = {"host": "127.0.0.1", "port": code_port, "location_name": "vv_exports"}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))


def is_loaded(url: str) -> None:
    query = {"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}
    request = urllib.request.Request(f"{url}/graphql", json.dumps(query).encode(), {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer["data"]["repositoriesOrError"]["nodes"], answer


def taken(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and MiB that it has in memory, with its children's."""
    import psutil

    cpu = memory = 0.0
    for process in (root := psutil.Process(pid), *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system
            memory += process.memory_full_info().pss / 2**20
    return cpu, memory


_STATEMENTS = """
SELECT rolname, sum(calls), sum(total_exec_time), sum(calls) FILTER (WHERE query ILIKE '%pg_catalog.version()%')
FROM pg_stat_statements JOIN pg_roles ON userid = pg_roles.oid WHERE rolname <> 'dagster' GROUP BY 1
"""
_TOP = """
SELECT rolname, calls, round(total_exec_time), left(query, 120)
FROM pg_stat_statements JOIN pg_roles ON userid = pg_roles.oid WHERE rolname <> 'dagster' ORDER BY calls DESC LIMIT 40
"""
_TICKS = "SELECT tick_body FROM job_ticks WHERE timestamp >= to_timestamp({since}) AT TIME ZONE 'UTC'"


def running(folder: Path, settling: float, minutes: float) -> dict[str, Any]:
    """The deployment for some minutes, when it has settled."""
    found: dict[str, Any] = {}
    code_port, web_port = free_port(), free_port()
    with postgres(folder) as (port, database), contextlib.ExitStack() as stack:
        settings(folder, port, code_port)
        with_partitions(folder)
        code = [_BIN / "dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(code_port)]
        of = ["-m", "vv_exports.definitions"]
        began = time.monotonic()
        processes = {
            "postgres": database,
            "code_server": stack.enter_context(started("code_server", folder, *code, *of)),
        }
        until(lambda: socket.create_connection(("127.0.0.1", code_port), 1).close(), 120, "the code server")
        web = [_BIN / "dagster-webserver", "-h", "127.0.0.1", "-p", str(web_port), "-w", "workspace.yaml"]
        processes["webserver"] = stack.enter_context(started("webserver", folder, *web))
        until(lambda: is_loaded(f"http://127.0.0.1:{web_port}"), 300, "the webserver")
        found["seconds until the webserver has the definitions"] = time.monotonic() - began
        daemon = [_BIN / "dagster-daemon", "run", "-w", "workspace.yaml"]
        processes["daemon"] = stack.enter_context(started("daemon", folder, *daemon))
        time.sleep(settling * 60)
        asked(port, "SELECT pg_stat_statements_reset()")
        since, before = time.time(), {name: taken(one.pid) for name, one in processes.items()}
        time.sleep(minutes * 60)
        seconds, after = time.time() - since, {name: taken(one.pid) for name, one in processes.items()}
        found["statements"] = {
            name: {
                "a minute": float(calls) / seconds * 60,
                "seconds a minute": float(busy) / 1000 / seconds * 60,
                "connections a minute": float(connections or 0) / seconds * 60,
            }
            for name, calls, busy, connections in asked(port, _STATEMENTS)
        }
        found["top"] = asked(port, _TOP)
        found["ticks"] = ticks_of(asked(port, _TICKS.format(since=since)), seconds)
        found["events"] = asked(port, "SELECT dagster_event_type, count(*) FROM event_logs GROUP BY 1")
        found["processes"] = {
            name: {"cores": (after[name][0] - before[name][0]) / seconds, "MiB": after[name][1]} for name in processes
        }
        measured = subprocess.run(
            [sys.executable, __file__, "--measure", "--keep", folder],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(folder), "DAGSTER_HOME": str(folder), "DATABASE_USER": "dagster"},
            stdout=subprocess.PIPE,
            check=True,
        )
        found["tick"] = json.loads(measured.stdout)
    return found


def with_partitions(folder: Path) -> None:
    """What Dagster knows of the runs: a partition for each."""
    os.environ["DAGSTER_HOME"], os.environ["DATABASE_USER"] = str(folder), "dagster"
    with open_instance(os.environ, folder) as instance:
        client = VVExports(folder / "vv_exports.yaml", instance=instance)
        for index in client.pipeline.config.indexes:
            sync_partitions(instance, index, client.pipeline.indexes.listing(index).runs)


def ticks_of(rows: list[tuple[Any, ...]], seconds: float) -> dict[str, Any]:
    """Ticks a minute, and how far apart those of one sensor are, by kind of sensor."""
    at: dict[str, list[float]] = defaultdict(list)
    took: dict[str, list[float]] = defaultdict(list)
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for (body,) in rows:
        tick = deserialize_value(body, TickData)
        name, kind = tick.instigator_name, tick.instigator_name.rpartition("__")[2]
        at[name].append(tick.timestamp)
        states[kind][tick.status.value] += 1
        if tick.end_timestamp:
            took[kind].append(tick.end_timestamp - tick.timestamp)
    found = {}
    for kind, of_kind in states.items():
        apart = [
            later - earlier
            for name, times in at.items()
            if name.rpartition("__")[2] == kind
            for earlier, later in zip(sorted(times), sorted(times)[1:], strict=False)
        ]
        found[kind] = {
            "a minute": sum(of_kind.values()) / seconds * 60,
            "states": dict(of_kind),
            "apart": quantiles(apart),
            "took": quantiles(took[kind]),
        }
    return found


def quantiles(values: list[float]) -> list[float]:
    """Median, 95 %, the most."""
    ordered = sorted(values) or [float("nan")]
    return [round(one, 3) for one in (median(ordered), ordered[int(len(ordered) * 0.95)], ordered[-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indexes", type=int, default=500)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--settle", type=float, default=6, help="minutes until each sensor has ticked, and some more")
    parser.add_argument("--keep", type=Path, help="build there, or use what was built there")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure_ticks(args.keep)
        return
    folder = (args.keep or Path(tempfile.mkdtemp())).resolve()
    if not (folder / "vv_exports.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build(folder, args.indexes, args.runs)
    print(json.dumps(running(folder, args.settle, args.minutes), indent=1, default=str))
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
