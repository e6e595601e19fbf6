"""VideoVector as the source: everything arrives, as it is, in order; or a clear error."""

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources.catalog import SOURCES
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector
from datetime import UTC, datetime
from vv_exports.snapshots.rebuild import rebuild_documents

NOW = datetime(2026, 11, 24, tzinfo=UTC)

def test_smoke(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeVideoVector(make_platform(failed_share=0.1, segments=(0, 250), awkward_ids=True)) as server:
        monkeypatch.setenv("KEY", server.api_key)
        source = SOURCES["videovector"](base_url=server.base_url, api_key_env="KEY", max_concurrency=8, max_requests_per_second=None, request_timeout_seconds=5)
        index = source.indexes()[0].index_id
        runs = source.prompt_runs(index)
        store = SnapshotStore(LocalConnector("s", tmp_path, make_root=True))
        for run in runs:
            snap = store.take(source, run, NOW)
            print(snap.tables.keys(), snap.rows("segments"), len(server.platform.segment_results(run.run_id)), snap.rows("failures"))
            assert snap.rows("segments") == len(server.platform.segment_results(run.run_id))
        print(list(source.check([index])))
        print(server.most_in_flight, len(server.requests))
        source.close()
