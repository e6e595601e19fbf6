import functools
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.loaders
import certifi
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, settings

from vv_exports.defs.quiet import Changes

if TYPE_CHECKING:
    from vv_exports_tests.servers.session import Servers

# A slow machine is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Tests tick faster than daemons do.
Changes.ask_again_seconds = 0.0

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

# A Dagster instance writes down in each of its databases, one for each run among them, which of Dagster's migrations is
# the newest, and reads all ninety to find it: that is half of what it costs to make one.
_read_migrations = ScriptDirectory.from_config
_MIGRATIONS: dict[str | None, ScriptDirectory] = {}


def _migrations(config: Config) -> ScriptDirectory:
    """Those of a folder, which are read once."""
    folder = config.get_main_option("script_location")
    if folder not in _MIGRATIONS:
        _MIGRATIONS[folder] = _read_migrations(config)
    return _MIGRATIONS[folder]


ScriptDirectory.from_config = _migrations

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

# A client of a source reads the certificates of 140 authorities, and no server here has one of theirs.
_ONE_AUTHORITY = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - as long as this process
_END = "-----END CERTIFICATE-----\n"
_ONE_AUTHORITY.write(Path(certifi.where()).read_text().partition(_END)[0] + _END)
_ONE_AUTHORITY.flush()
os.environ["SSL_CERT_FILE"] = _ONE_AUTHORITY.name


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_shown_twice() -> None:
    """An instance on disk shows what a step says in the terminal too, by four processes a step. Here nobody looks; what
    it keeps of it is kept as ever, and commands in processes of their own show it."""
    if "dagster" in sys.modules:
        from dagster._core.execution import compute_logs  # noqa: PLC0415 - only where it is here anyway

        compute_logs.tail_to_stream = lambda *_: nullcontext((None, None))


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


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look through a million objects again and again."""
    gc.collect()
    gc.freeze()


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
