"""Servers on loopback, each in a process of its own, with data in a folder that goes with it."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

_READY_SECONDS = 60


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_free(port: int) -> bool:
    """Whether nobody listens on a port now."""
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    folder: Path,
    environ: dict[str, str] | None = None,
    start: dict[str, Any] | None = None,
) -> Iterator[None]:
    """A server, from when it answers at ``url``, started in ``folder``. Its output is in ``folder / "log"``. With it go
    the processes that it has started. ``start`` is more that ``Popen`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **(environ or {})}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
            **(start or {}),
        ) as process,
    ):
        try:
            _wait(url, process, folder / "log")
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            with suppress(ProcessLookupError):  # there are none, mostly
                os.killpg(process.pid, signal.SIGKILL)


def not_here(what: str, how: str) -> None:
    """Skip where a server is not installed; where nothing may be skipped, as in CI, fail."""
    message = f"{what} is not installed: {how}"
    if os.environ.get("VV_EXPORTS_TESTS_SKIP_NOTHING"):
        pytest.fail(message)
    pytest.skip(message)


def _ask(url: str) -> None:
    where = urlsplit(url)
    if where.scheme == "tcp":  # of which it is known that somebody listens, and no more
        socket.create_connection((str(where.hostname), where.port or 0), timeout=1).close()
    else:
        urllib.request.urlopen(url, timeout=1).close()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    stop = time.monotonic() + _READY_SECONDS
    while time.monotonic() < stop and process.poll() is None:
        try:
            _ask(url)
        except urllib.error.HTTPError as refused:
            refused.close()
            return  # it answers
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"no server at {url}: {log.read_text(errors='replace')[-2000:]}")
