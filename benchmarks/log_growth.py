"""What a collection costs as it grows: requests and time to read its log, and to add one run to it.

In a local folder, and in SeaweedFS where every request is counted. The log is filled with entries of one run each, as
deliveries write them; what is measured are real deliveries, by a process that has just begun (it reads the log first)
and by one that knows the log.

    python benchmarks/log_growth.py [--sizes 10 1000 10000] [--no-s3]
"""

import argparse
import hashlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import measuring
import msgspec
from fsspec.asyn import sync

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import DeliveryRequest, deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference, LogEntry, encode_entry
from vv_exports.delivery.log import keep_checkpoint, read_entry, read_log
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import log_entry_name, part_name, run_folder
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import write_run
from vv_exports_tests.servers.s3 import seaweedfs
from vv_exports_tests.servers.session import make_bucket
from vv_exports_tests.stores import s3_connector

CONTENT = b"a file that only has to be there"
OWNER = Owner(type="automation", index_id="idx", automation="team")
EXPORT = ExportReference(id="idx/team", type="automation", index_id="idx", automation="team")


class Collection:
    """A collection that grows, and what is measured of it."""

    def __init__(self, folder: Path, connector: Connector, requests: Callable[[], int | None]) -> None:
        self.archive = folder / "archive"
        self.store = SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))
        self.connector = connector
        self.destination = Destination(connector, "exports/team", OWNER)
        self.requests = requests
        self.delivered = 0
        connector.remember_in(LocalConnector("memory", folder / "memory", make_root=True))
        connector.decides_among_writers()
        self.deliver(None)

    def deliver(self, state: LogState | None) -> None:
        """Add one run by a real delivery."""
        self.delivered += 1
        run_id = f"run_real_{self.delivered}"
        write_run(self.archive, run_id=run_id, segments=3)
        source = LocalArchive(str(self.archive))
        snapshot = self.store.take(source, source.prompt_run("idx", run_id), datetime.now(UTC))
        request = DeliveryRequest(destination=self.destination, export=EXPORT, content=Content(), snapshots=[snapshot])
        with self.measured():
            deliver(request, self.store, lambda: datetime.now(UTC), state=state)

    def fill(self, size: int) -> None:
        """Entries as deliveries write them, up to so many, and the checkpoints that these leave."""
        template = read_entry(self.destination, 0)
        assert template is not None
        state = read_log(self.destination)
        entries = [_entry(template, number) for number in range(state.next_sequence, size)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._write, entries))
        for entry in entries:
            state.apply(entry)
            if size - entry.sequence <= 200:
                keep_checkpoint(self.destination, state, entry.sequence)

    def _write(self, entry: LogEntry) -> None:
        for file in entry.files:
            self.connector.create(self.destination.key(file.path), CONTENT, durable=False)
        name = self.destination.key(log_entry_name(entry.sequence))
        self.connector.create(name, encode_entry(entry), durable=False)

    @contextmanager
    def measured(self) -> Iterator[None]:
        before, began = self.requests(), time.monotonic()
        yield
        after, self.took = self.requests(), time.monotonic() - began
        self.asked = None if before is None or after is None else after - before

    def measure(self, place: str, size: int, rounds: int) -> list[str]:
        """What the log's reading and one more run cost: a line of the table."""
        self.fill(size)
        reading, adding = [], []
        for _ in range(rounds):
            with self.measured():
                state = read_log(self.destination)
            reading.append((self.took, self.asked))
            self.deliver(state)
            adding.append((self.took, self.asked))
        return [f"{place}, {size:,} entries", *_said(reading), *_said(adding)]


def _said(found: list[tuple[float, int | None]]) -> tuple[str, str]:
    asked = [count for _, count in found if count is not None]
    return measuring.middle([took for took, _ in found], 3), measuring.middle(asked, 0) if asked else ""


def _entry(template: LogEntry, number: int) -> LogEntry:
    run_id = f"run_{number}"
    digest = hashlib.sha256(run_id.encode()).hexdigest()
    file = msgspec.structs.replace(
        template.files[0],
        path=f"{run_folder('segments', 'prm', run_id)}/{part_name(0, digest, '.parquet')}",
        prompt_run_id=run_id,
        bytes=len(CONTENT),
        sha256=digest,
    )
    run = msgspec.structs.replace(template.prompt_runs[0], run_id=run_id, data_version=digest)
    return msgspec.structs.replace(template, sequence=number, delivery_id=digest[:32], files=[file], prompt_runs=[run])


def _counted(connector: S3Connector) -> Callable[[], int]:
    file_system = connector.file_system()
    events = sync(file_system.loop, file_system.set_session).meta.events
    sent: list[str] = []
    events.register("before-send.s3", lambda request, **_: sent.append(request.url))  # returns None: it is sent
    return lambda: len(sent)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-s3", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        local = Collection(
            folder / "local", LocalConnector("conn", folder / "deliveries", make_root=True), lambda: None
        )
        rows = [local.measure("folder", size, options.rounds) for size in options.sizes]
        if not options.no_s3:
            with seaweedfs(folder / "seaweedfs") as server:
                make_bucket(server)
                connector = s3_connector(server, uuid.uuid4().hex)
                stored = Collection(folder / "s3", connector, _counted(connector))
                rows += [stored.measure("S3", size, options.rounds) for size in options.sizes]
    measuring.show(
        "A collection that grows: its log, and one run more",
        ["", "read the log, s", "requests", "add one run, s", "requests"],
        rows,
        f"Medians of {options.rounds} (least–most).",
    )


if __name__ == "__main__":
    main()
