"""A deployment on several machines, of the files in ``deploy/celery`` as they are: real PostgreSQL, Redis and S3, each
process started as its README says. A machine is a host name, a working folder and a temporary folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import s3fs
import yaml

from vv_exports.defs.instance import open_instance
from vv_exports_tests.fakes.tcp_proxy import TcpProxy
from vv_exports_tests.servers.postgres import PostgresServer, postgres
from vv_exports_tests.servers.processes import free_ports, is_free, not_here
from vv_exports_tests.servers.redis import RedisServer, redis
from vv_exports_tests.servers.s3 import S3Server, seaweedfs
from vv_exports_tests.servers.session import make_bucket

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = REPOSITORY / "deploy" / "celery"
STATE, EXPORTS = "newsroom-state", "newsroom-exports"
"""The buckets of the example's configuration."""
_CALLED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')


@dataclass
class Machine:
    """Where processes run. ``environment`` holds what is its own."""

    name: str
    folder: Path
    environment: dict[str, str]
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A process in the machine's folder. Its output is in the file ``log`` there."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*_CALLED, self.name, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command, until it is over."""
        return subprocess.run(
            [*_CALLED, self.name, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self) -> str:
        """The output of its processes."""
        return (self.folder / "log").read_text(errors="replace")


def kill(process: "subprocess.Popen[bytes]", signal_number: int = signal.SIGKILL) -> None:
    """A process and all that it started, at once, as where its machine is lost."""
    if process.poll() is None:
        os.killpg(process.pid, signal_number)
        process.wait()


@dataclass
class Machines:
    """The deployment. Machines are made by name when they are first asked for. The pipeline meets the store behind the
    ``proxy``."""

    folder: Path
    config: dict[str, Any]
    postgres: PostgresServer
    redis: RedisServer
    store: S3Server
    proxy: TcpProxy
    code_port: int
    places: int
    worker_timeout_seconds: float
    until: ExitStack
    by_name: dict[str, Machine] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def machine(self, name: str) -> Machine:
        """A machine, with the deployment's files in its folder."""
        if name not in self.by_name:
            folder = self.folder / name
            shutil.copytree(FILES, folder)
            # Not below the test's own folder: Dagster's sockets are there, and their paths may have 107 characters.
            temporary = self.until.enter_context(tempfile.TemporaryDirectory(prefix=f"vv-{name}-"))
            (folder / "vv_exports.yaml").write_text(yaml.safe_dump(self.config))
            settings = yaml.safe_load((FILES / "dagster.yaml").read_text())
            settings["concurrency"]["runs"]["max_concurrent_runs"] = self.places
            settings["run_launcher"]["config"]["worker_timeout_seconds"] = self.worker_timeout_seconds
            (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
            self.by_name[name] = Machine(name, folder, self._environment(folder, temporary))
        return self.by_name[name]

    def start(self, name: str, what: str) -> "subprocess.Popen[bytes]":
        """One of the processes that ``deploy/celery/start`` knows."""
        return self.machine(name).start("./start", what)

    def start_code(self) -> None:
        """The code server on machine "control", until it answers."""
        self.start("control", "code")
        wait_until(lambda: not is_free(self.code_port), 180, self.machine("control").said)

    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance that all of them share."""
        machine = self.machine("control")
        names = [name for name in machine.environment if name.startswith(("VV_", "AWS_"))]
        os.environ.update({name: machine.environment[name] for name in names})
        return open_instance({"DAGSTER_HOME": str(machine.folder)}, machine.folder)

    def log(self, subpath: str) -> list[dict[str, Any]]:
        """The entries of a destination's delivery log, without asking for one twice."""
        place = f"{EXPORTS}/videovector/{subpath}/_vv/log"
        found = sorted(path for path in self.fs.find(place) if path.endswith(".json") and "/_vv/log/0" in path)
        for path in found:
            if path not in self.entries:
                self.entries[path] = json.loads(self.fs.cat_file(path))
        return [self.entries[path] for path in found]

    def delivered(self, subpath: str) -> Counter[str]:
        """How often each prompt run was delivered, by the log."""
        return Counter(run["run_id"] for entry in self.log(subpath) for run in entry["prompt_runs"])

    @cached_property
    def fs(self) -> s3fs.S3FileSystem:
        """The store, not behind the proxy."""
        return s3fs.S3FileSystem(
            key=self.store.access_key,
            secret=self.store.secret_key,
            endpoint_url=self.store.endpoint_url,
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    def rows_by_glob(self, subpath: str) -> Counter[str]:
        """Rows of each prompt run, as somebody counts them who does not know of the log."""
        store = pafs.S3FileSystem(
            access_key=self.store.access_key,
            secret_key=self.store.secret_key,
            endpoint_override=self.store.endpoint_url,
            region="us-east-1",
        )
        files = ds.dataset(f"{EXPORTS}/videovector/{subpath}/segments", filesystem=store, format="parquet")
        return Counter(files.to_table(columns=["prompt_run_id"])["prompt_run_id"].to_pylist())

    def stop(self) -> None:
        """All processes of all machines, at once."""
        for machine in self.by_name.values():
            for process in machine.processes:
                kill(process)

    def _environment(self, folder: Path, temporary: str) -> dict[str, str]:
        given = dict(
            line.split("=", 1) for line in (FILES / "example.env").read_text().splitlines() if line[:1] not in {"", "#"}
        )
        (web,) = free_ports(1)
        own = {
            "DAGSTER_HOME": str(folder),
            "VV_EXPORTS_CONFIG": str(folder / "vv_exports.yaml"),
            "VV_POSTGRES_HOST": "127.0.0.1",
            "VV_POSTGRES_PORT": str(self.postgres.port),
            "VV_POSTGRES_USER": self.postgres.user,
            "VV_POSTGRES_PASSWORD": self.postgres.password,
            "VV_POSTGRES_DB": self.postgres.database,
            "VV_CELERY_BROKER": self.redis.url(0),
            "VV_CELERY_RESULTS": self.redis.url(1),
            "VV_CODE_HOST": "127.0.0.1",
            "VV_CODE_PORT": str(self.code_port),
            "VV_LOGS_ENDPOINT_URL": self.store.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
        }
        missing = own.keys() - given.keys()
        assert not missing, f"example.env does not name {missing}"
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {
            **os.environ,
            **given,
            **own,
            "VV_WORKER_PLACES": "1",
            "VV_CODE_BIND": "127.0.0.1",
            "VV_WEB_PORT": str(web),
            "PATH": programs,
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": temporary,
            "NO_PROXY": "127.0.0.1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }


@contextmanager
def machines(
    folder: Path,
    archive: Path,
    indexes: Mapping[str, Any],
    *,
    places: int = 2,
    worker_timeout_seconds: float = 20.0,
) -> Iterator[Machines]:
    """A deployment whose servers run. ``places`` is how many runs all workers together have a place for."""
    if subprocess.run([*_CALLED, "another", "true"], check=False, capture_output=True).returncode:
        not_here("a host name for each process", "run as root, or with the right to `unshare --uts`")
    with ExitStack() as until:
        store = until.enter_context(seaweedfs(folder / "seaweedfs"))
        proxy = until.enter_context(TcpProxy(store.endpoint_url))
        for bucket in (STATE, EXPORTS):
            make_bucket(store, bucket)
        config = yaml.safe_load((FILES / "vv_exports.yaml").read_text())
        for connector in (config["storage"], config["connectors"]["conn_export"]):
            connector["endpoint_url"] = proxy.url
        config["source"] = {"kind": "local_archive", "path": str(archive)}
        config["indexes"] = dict(indexes)
        made = Machines(
            folder / "machines",
            config,
            until.enter_context(postgres(folder / "postgres")),
            until.enter_context(redis(folder / "redis")),
            store,
            proxy,
            free_ports(1)[0],
            places,
            worker_timeout_seconds,
            until,
        )
        before = dict(os.environ)
        try:
            yield made
        finally:
            made.stop()
            os.environ.clear()
            os.environ.update(before)


def wait_until(what: Callable[[], Any], seconds: float, why: Callable[[], str] = lambda: "") -> float:
    """Wait until something holds. Returns how long that took."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not after {seconds:g} s. {why()}")
        time.sleep(0.3)
    return time.monotonic() - began
