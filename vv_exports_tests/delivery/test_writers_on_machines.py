"""Two machines deliver to one destination at once, in a store that lets both write the same entry of the log: each with
a host name, a temporary folder and a clock of its own, two minutes apart. All that they share is ``storage``, in S3."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from vv_exports.connectors.gcs import GcsConnector
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since
from vv_exports_tests.servers.gcs import ProxiedGcsServer, gcs
from vv_exports_tests.servers.processes import not_here

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRIES = "_vv/log/"
TIME_TO_LIVE_SECONDS = 1.5
DELIVERS = """
import json, logging, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from vv_exports.connectors import lease
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.delivery.deliver import deliver
from vv_exports_tests.delivery.conftest import Deployment
from vv_exports_tests.servers.s3 import S3Server
from vv_exports_tests.stores import s3_connector

told = json.loads(sys.argv[1])

class Clock(datetime):
    @classmethod
    def now(cls, zone=None):
        return datetime.now(zone) + timedelta(seconds=told["seconds_off"])

lease.datetime = Clock
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
lease.TIME_TO_LIVE_SECONDS = told["time_to_live"]
deployment = Deployment(Path(told["folder"]))
for line in sys.stdin:
    run_id, place, arbiter = line.split()
    if arbiter == "none":
        for name in ("acquire", "check", "loss", "release"):
            setattr(lease._HeldLease, name, lambda self: None)
    store = GcsConnector("conn", "bucket", place, endpoint_url=told["gcs"], anonymous=True, environ={})
    store.remember_in(s3_connector(S3Server(*told["s3"]), place))
    request = deployment.request(deployment.store.current("idx", run_id), connector=store, subpath="team")
    deliver(request, deployment.store, lambda: Clock.now(UTC))
    print("delivered", flush=True)
"""


@dataclass
class Writer:
    """A process on a machine of its own."""

    process: "subprocess.Popen[str]"
    messages: Path

    def deliver(self, run_id: str, place: str, *, arbiter: bool = True) -> None:
        """Begin with it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{run_id} {place} {'lease' if arbiter else 'none'}\n")
        self.process.stdin.flush()

    def has_delivered(self) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "delivered\n", self.messages.read_text()[-3000:]


@pytest.fixture(scope="module")
def store(servers) -> Iterator[ProxiedGcsServer]:
    with gcs(servers.fake_gcs, decides=False) as server:
        yield server


@pytest.fixture
def writers(deployment, servers, store) -> Iterator[dict[str, Writer]]:
    if subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode:
        not_here("a host name for each process", "run as root, or with the right to `unshare --uts`")
    s3 = servers.seaweedfs
    told = {
        "folder": str(deployment.folder),
        "gcs": store.endpoint_url,
        "s3": [s3.endpoint_url, s3.access_key, s3.secret_key],
        "time_to_live": TIME_TO_LIVE_SECONDS,
    }
    made = {}
    for name, seconds_off in (("ann", -60), ("bob", 60)):
        folder = deployment.folder / f"machine-of-{name}"
        folder.mkdir()
        messages = folder / "messages"
        command = [
            *("unshare", "--uts", "sh", "-c", f'hostname machine-of-{name} && exec "$@"', "sh"),
            *(sys.executable, "-c", DELIVERS, json.dumps({**told, "seconds_off": seconds_off})),
        ]
        own = {
            "TMPDIR": str(folder),
            "PYTHONPATH": str(REPOSITORY),
        }
        with messages.open("w") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        made[name] = Writer(process, messages)
    yield made
    for writer in made.values():
        writer.process.kill()
        writer.process.communicate()


def log_of(store: ProxiedGcsServer, place: str) -> list[tuple[str, datetime]]:
    """The runs that the log holds, with when they were committed by the clock of who did it."""
    connector = GcsConnector("conn", store.bucket, place, endpoint_url=store.endpoint_url, anonymous=True, environ={})
    entries = entries_since(Destination(connector, "team"), 0)
    return [(run.run_id, datetime.fromisoformat(entry.committed_at)) for entry in entries for run in entry.prompt_runs]


def wait_for(what, writer: Writer) -> None:
    stop = time.monotonic() + 60
    while not what():
        assert time.monotonic() < stop, writer.messages.read_text()
        assert writer.process.poll() is None, writer.messages.read_text()
        time.sleep(0.02)


def test_the_second_machine_waits_for_the_first_and_without_the_lease_a_delivery_is_lost(deployment, store, writers):
    """The store holds each log entry back until it is let go, for longer than a writer that is dead is waited for."""
    for run_id in ("run_ann", "run_bob"):
        deployment.snapshot(run_id)
    ann, bob = writers["ann"], writers["bob"]

    store.hold = ENTRIES
    ann.deliver("run_ann", "with")
    wait_for(lambda: store.held, ann)
    bob.deliver("run_bob", "with")
    wait_for(lambda: "waiting for another writer" in bob.messages.read_text(), bob)
    assert f"process {ann.process.pid} on machine-of-ann, there since" in bob.messages.read_text()
    time.sleep(2 * TIME_TO_LIVE_SECONDS)  # their clocks say that this one is dead, or comes from the future
    assert len(store.held) == 1
    store.let_go()
    ann.has_delivered()
    wait_for(lambda: store.held, bob)
    store.let_go()
    bob.has_delivered()
    (first, began), (second, ended) = log_of(store, "with")
    assert (first, second) == ("run_ann", "run_bob")
    assert ended - began > timedelta(seconds=119), "their clocks do not differ"

    ann.deliver("run_ann", "without", arbiter=False)
    wait_for(lambda: store.held, ann)
    bob.deliver("run_bob", "without", arbiter=False)
    wait_for(lambda: len(store.held) == 2, bob)
    store.let_go()
    ann.has_delivered()
    store.let_go()
    bob.has_delivered()
    assert [run_id for run_id, _ in log_of(store, "without")] == ["run_bob"], "both said that they delivered"
