"""How many requests a delivery of one run makes beside those that carry its files."""

import uuid
from collections import Counter
from typing import Self

import pytest
from fsspec.asyn import sync

from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import read_log
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.stores import s3_connector

MOST = 8


@pytest.fixture(scope="module")
def server(servers):
    return servers.seaweedfs


@pytest.fixture
def connector(server, tmp_path):
    made = s3_connector(server, uuid.uuid4().hex)
    made.remember_in(LocalConnector("storage", tmp_path / "memory", make_root=True))
    assert made.decides_among_writers(), "found out once, and remembered: no delivery pays for it"
    return made


class Requests:
    """What is sent to the store while a context is open, each attempt by itself."""

    def __init__(self, connector: S3Connector) -> None:
        file_system = connector.file_system()
        self.events = sync(file_system.loop, file_system.set_session).meta.events
        self.sent: list[str] = []

    def _sent(self, request, **_: object) -> None:
        path, _, query = request.url.partition("?")
        parts = "?uploads" if query.startswith(("uploads", "uploadId", "partNumber")) else ""
        listing = "?list" if "list-type=2" in query else ""
        self.sent.append(f"{request.method} {path.rpartition('/')[2] if not listing else ''}{parts}{listing}".strip())

    def __enter__(self) -> Self:
        self.events.register("before-send.s3", self._sent)
        return self

    def __exit__(self, *_: object) -> None:
        self.events.unregister("before-send.s3", self._sent)

    @property
    def beside_files(self) -> int:
        return sum(not sent.startswith("PUT part-") for sent in self.sent)


def test_a_delivery_of_one_run_takes_at_most_eight_requests_beside_its_files(deployment, connector):
    counts: Counter[str] = Counter()

    def delivered(name, snapshot, **state):
        with Requests(connector) as requests:
            outcome = deliver(deployment.request(snapshot, connector=connector), deployment.store, lambda: NOW, **state)
        counts[name] = requests.beside_files
        print(f"{name}: {requests.beside_files} beside {len(outcome.files)} files: {', '.join(requests.sent)}")  # noqa: T201

    def known():
        """What an automation knows before it delivers; asking takes two requests, which are counted with it."""
        return read_log(Destination(connector, "exports/team"))

    delivered("the first one to a new subpath", deployment.snapshot("run_0"))
    delivered("one more run", deployment.snapshot("run_1"), state=known())
    delivered("a changed run", deployment.snapshot("run_1", segments=5), state=known())
    delivered("the same again", deployment.snapshot("run_1", segments=5), state=known())
    delivered("a changed run, by a process that does not know the log", deployment.snapshot("run_0", segments=6))
    asking = 2
    counts["one more run"] += asking
    counts["a changed run"] += asking
    log_entries = 3
    counts["a changed run, by a process that does not know the log"] -= log_entries
    assert max(counts.values()) <= MOST, counts
