"""Redis."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vv_exports_tests.servers.processes import free_ports, not_here, running


@dataclass(frozen=True)
class RedisServer:
    """Where it is."""

    port: int
    password: str = "redis-password"

    def url(self, database: int) -> str:
        """One of its sixteen databases."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def redis(folder: Path) -> Iterator[RedisServer]:
    """Redis of the system, which keeps nothing on disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        not_here("Redis", "apt-get install redis-server")
    (port,) = free_ports(1)
    server = RedisServer(port)
    command = [
        *(str(program), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", server.password),
        *("--save", "", "--appendonly", "no"),
    ]
    with running(command, f"tcp://127.0.0.1:{port}", folder):
        yield server
