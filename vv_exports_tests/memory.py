"""Peak memory of this process."""

from pathlib import Path


def peak_bytes() -> int:
    """The high-water mark since the process's program started.

    Not ``getrusage``: its peak counts what the parent had when it forked, which under pytest is the test suite's.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell a process's peak memory in /proc/self/status")
