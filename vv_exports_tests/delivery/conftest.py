from datetime import UTC, datetime
from pathlib import Path

import pytest

from vv_exports.connectors import lease
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import DeliveryRequest
from vv_exports.delivery.log import ExportReference
from vv_exports.delivery.ownership import Owner
from vv_exports.formats.registry import format_named
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import write_run

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Deployment:
    """An archive, the pipeline's storage and one connector, all on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self.connector = LocalConnector("conn", folder, "deliveries")
        self.store = SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))

    def snapshot(self, run_id: str = "run_1", **run: object) -> Snapshot:
        write_run(self.archive, run_id=run_id, **run)
        source = LocalArchive(str(self.archive))
        return self.store.take(source, source.prompt_run("idx", run_id), NOW)

    def request(self, *snapshots: Snapshot, **changes: object) -> DeliveryRequest:
        fields = {
            "connector": self.connector,
            "subpath": "exports/team",
            "owner": Owner(type="automation", index_id="idx", automation="team"),
            "export": ExportReference(id="idx/team", type="automation", index_id="idx", automation="team"),
            "format": format_named("parquet"),
            "snapshots": snapshots,
        }
        return DeliveryRequest(**{**fields, **changes})

    def files(self) -> set[str]:
        """Everything below the destination, by path."""
        return {file.key.removeprefix("exports/team/") for file in self.connector.files("exports/team")}


@pytest.fixture(autouse=True)
def time_to_live(monkeypatch):
    """Of leases: deliveries that die here while they commit keep the next one waiting no longer than this."""
    monkeypatch.setattr(lease, "TIME_TO_LIVE_SECONDS", 2.0)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


@pytest.fixture
def clock():
    return lambda: NOW
