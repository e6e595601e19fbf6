"""PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vv_exports_tests.servers.processes import free_ports, not_here, running

_INSTALLED = Path("/usr/lib/postgresql")  # where Debian has it, beside the path
# Nothing of a test outlives a power cut, and a disk is not waited for.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@dataclass(frozen=True)
class PostgresServer:
    """Where it is. There is a database "dagster"."""

    port: int
    user: str = "dagster"
    password: str = "dagster-password"
    database: str = "dagster"


@contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """PostgreSQL of the system. It refuses to be root's, and so does its folder: root starts it as somebody else."""
    programs = {name: _program(name) for name in ("initdb", "postgres", "pg_isready", "createdb")}
    if None in programs.values():
        not_here("PostgreSQL", "apt-get install postgresql")
    (port,) = free_ports(1)
    server = PostgresServer(port)
    somebody: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        data, password = Path(scratch) / "data", Path(scratch) / "password"
        password.write_text(server.password)
        data.mkdir()
        if somebody:
            for path in (Path(scratch), data, password):
                shutil.chown(path, "postgres", "postgres")
        made = [programs["initdb"], "-D", str(data), "-U", server.user, "--pwfile", str(password)]
        subprocess.run(
            [*made, "--auth", "scram-sha-256", "--no-sync"], check=True, capture_output=True, cwd=scratch, **somebody
        )
        settings = [part for name, value in _FAST.items() for part in ("-c", f"{name}={value}")]
        command = [programs["postgres"], "-D", str(data), "-p", str(port), "-k", scratch, *settings]
        with running(
            [*map(str, command), "-c", "listen_addresses=127.0.0.1"], f"tcp://127.0.0.1:{port}", folder, start=somebody
        ):
            at = ["-h", "127.0.0.1", "-p", str(port), "-U", server.user]
            # It listens a moment before it lets anybody in.
            while subprocess.run([str(programs["pg_isready"]), *at], check=False, capture_output=True).returncode:
                time.sleep(0.1)
            subprocess.run(
                [str(programs["createdb"]), *at, server.database],
                check=True,
                capture_output=True,
                env={**os.environ, "PGPASSWORD": server.password},
            )
            yield server


def _program(name: str) -> str | None:
    newest = sorted(_INSTALLED.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)
