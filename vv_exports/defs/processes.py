"""Which process carries out a Dagster run, and whether it is there. Nothing is known of other machines' processes."""

import os
import socket
from pathlib import Path

import dagster as dg

from vv_exports.defs.run_tags import hidden_tag

PROCESS = "process"
"""Hidden tag of runs that ``launch`` made: the process that waits for them."""
WORKER = "worker"
"""Hidden tag of runs that the daemon launched: their process, noted when their first step begins."""
_TOLERANCE_SECONDS = 2.0


def this_machine() -> str:
    """The name of this machine, or container."""
    return socket.gethostname()


def this_process() -> str:
    """This process, as tags name it: machine, pid, when it started."""
    return f"{this_machine()} {os.getpid()} {_started(os.getpid())}"


def process_of(run: dg.DagsterRun, tag: str) -> str | None:
    """The process that a hidden tag names. With the run's own id, since the UI copies tags to a run that is launched
    again."""
    launched, _, process = (hidden_tag(run, tag) or "").partition(" ")
    return process if launched == run.run_id else None


def is_gone(process: str) -> bool:
    """Whether a process of this machine has ended."""
    host, pid, started = process.rsplit(" ", 2)
    return host == this_machine() and _started(int(pid)) != started


def is_of_this_machine(process: str) -> bool:
    """Whether a process is, or was, one of this machine."""
    return process.rsplit(" ", 2)[0] == this_machine()


def is_of_another(process: str) -> bool:
    """Whether a process is one of this machine, and not this one."""
    return is_of_this_machine(process) and process != this_process()


def was_alive(pid: int, moment: float) -> bool:
    """Whether the process that has a pid of this machine now had it at ``moment``, in seconds since 1970, too."""
    started = _started(pid)
    if started in {"gone", "unknown"}:
        return started == "unknown"
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(booted.split()[1]) + int(started) / os.sysconf("SC_CLK_TCK") <= moment + _TOLERANCE_SECONDS


def _started(pid: int) -> str:
    """When a process started, as far as the system tells; it keeps a reused pid from looking alive."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A killed process that its parent never asked about, as in a container without an init process, is dead too.
        return "gone" if state in {"Z", "X"} else fields[18]
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    return "unknown"
