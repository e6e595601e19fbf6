"""A source and a store for snapshots over a local VideoVector server, and what they hold beside what that holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.tables import TableName
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.tables import tables_of
from vv_exports.sources import videovector, videovector_api, videovector_reading
from vv_exports.sources.registry import SOURCES
from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import Document, Platform
from vv_exports_tests.fakes.server import FakeVideoVector

NOW = datetime(2026, 11, 24, tzinfo=UTC)
INDEX = "idx_1"
KEY_ENV = "VV_TEST_API_KEY"
_REPEATED = ("run_id", "prompt_run_id", "prompt_id", "result_type")


class Account:
    """A source of its own for a server, and a store in a folder."""

    def __init__(self, server: FakeVideoVector, folder: Path, **limits: Any) -> None:
        self.server = server
        self.folder = folder
        chosen = {"max_concurrency": 8, "max_requests_per_second": None, "request_timeout_seconds": 5, **limits}
        self.source = SOURCES["videovector"](
            base_url=server.base_url, api_key_env=KEY_ENV, environ={KEY_ENV: server.api_key}, **chosen
        )
        self.store = SnapshotStore(LocalConnector("storage", folder, make_root=True))

    def take(self, run_id: str) -> Snapshot:
        """A snapshot of a run, taken now."""
        return self.store.take(self.source, self.source.prompt_run(INDEX, run_id), NOW)

    def ensure(self, run_id: str) -> Snapshot:
        """What discovery does with a run."""
        run = next(run for run in self.source.prompt_runs(INDEX) if run.run_id == run_id)
        return self.store.ensure(self.source, run, NOW)

    def staged(self) -> list[Path]:
        """What is staged of runs that are not read to their end."""
        return sorted(path for path in self.folder.rglob("staging/**/*") if path.is_file())

    def kept(self, snapshot: Snapshot) -> dict[str, list[bytes]]:
        """The documents that a snapshot holds, by table, as canonical JSON."""
        tables = tables_of(snapshot.prompt)
        return {
            name: [
                _canonical(document)
                for rows in self.store.rows(snapshot, name)
                for document in table.documents(rows.batch)
            ]
            for name, table in tables.items()
        }


def held(platform: Platform, run_id: str) -> dict[TableName, list[bytes]]:
    """The documents that a run has at the platform, as canonical JSON."""
    tables: dict[TableName, list[Document]] = {
        "segments": platform.segment_results(run_id),
        "failures": platform.failed_segments(run_id),
    }
    if platform.runs[run_id].videos:
        tables["videos"] = platform.video_results(run_id)
    return {name: list(map(_canonical, rows)) for name, rows in tables.items()}


def fault(kind: FaultKind, on: str = "/results", **how: Any) -> Fault:
    """A fault, by default at the second request for segment results."""
    return Fault(kind, on, **{"skip": 1, **how})


@contextmanager
def account(platform: Platform, folder: Path, **limits: Any) -> Iterator[Account]:
    """An account over a server of its own. Waits between attempts are short."""
    with (
        patch.object(videovector_api, "_FIRST_WAIT_SECONDS", 0.002),
        patch.object(videovector_api, "_LONGEST_WAIT_SECONDS", 0.05),
        patch.object(videovector_reading, "_BETWEEN_READINGS_SECONDS", 0.002),
        patch.object(videovector, "_BETWEEN_READINGS_SECONDS", 0.002),
        patch.dict("os.environ", {"NO_PROXY": "127.0.0.1"}),
        FakeVideoVector(platform) as server,
    ):
        one = Account(server, folder, **limits)
        try:
            yield one
        finally:
            one.source.close()


def _canonical(document: Document) -> bytes:
    """Of the record's own fields null and absent are one; ``metadata`` is as the model answered."""
    kept = {name: value for name, value in document.items() if value is not None and name not in _REPEATED}
    return encode_sorted(kept)
