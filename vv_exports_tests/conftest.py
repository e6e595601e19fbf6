import functools
import os
import resource
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.loaders
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from vv_exports_tests.servers.session import Servers

# A slow machine is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# The deployment of whoever runs the tests is not theirs to read or to write.
for name in ("DAGSTER_HOME", "VV_EXPORTS_CONFIG"):
    os.environ.pop(name, None)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"

# Nor are their credentials, and no proxy stands before a server on loopback.
for name in list(os.environ):
    if name.startswith(("AWS_", "GOOGLE_", "GCSFS_", "AZURE_", "BOTO_", "CLOUDSDK_")):
        os.environ.pop(name)
os.environ |= {
    "NO_PROXY": "127.0.0.1,localhost",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "NO_GCE_CHECK": "true",
}

# A client of S3 reads a megabyte of JSON that says what S3 is, which takes longer than most tests that make one.
botocore.loaders.create_loader = functools.cache(botocore.loaders.create_loader)

_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30


def _has_room() -> bool:
    """Whether there is a file system in memory, and memory to spare for what tests write there."""
    try:
        there = os.statvfs(_IN_MEMORY)
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(memory["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return False
    return os.access(_IN_MEMORY, os.W_OK) and min(there.f_bavail * there.f_frsize, free) >= _ROOM_BYTES


# Half of the time goes into waiting for the disk, mostly for Dagster's databases, and nothing here survives a power cut
# by being on one.
if "TMPDIR" not in os.environ and _has_room():
    os.environ["TMPDIR"] = str(_IN_MEMORY)
    tempfile.tempdir = None


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Servers"]:
    """Servers on loopback, which are started when they are first asked for. Whoever uses them is slow."""
    from vv_exports_tests.servers.session import Servers  # noqa: PLC0415 - its SDKs take a second to import

    with ExitStack() as until:
        yield Servers(tmp_path_factory, until)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use servers are slow, whether they say so or not."""
    for item in items:
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


# Tests that are slow and do not say so are told, so that `make test-fast` stays fast.

_FAST_CPU_SECONDS = 1.0
_CPU_SECONDS = "cpu_seconds"


def _cpu_seconds() -> float:
    """Of this process and of children that are over: how long it takes on a busy machine is no finding."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Remember how long a test takes."""
    before = _cpu_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append((_CPU_SECONDS, _cpu_seconds() - before))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell them."""
    taken = [
        (dict(report.user_properties).get(_CPU_SECONDS, 0.0), report.nodeid)
        for report in terminalreporter.getreports("passed")
        if "slow" not in report.keywords
    ]
    if told := sorted(((seconds, test) for seconds, test in taken if seconds > _FAST_CPU_SECONDS), reverse=True):
        terminalreporter.section(f"more than {_FAST_CPU_SECONDS:g} s of CPU, and not marked slow")
        for seconds, test in told:
            terminalreporter.line(f"{seconds:5.1f} s {test}")
