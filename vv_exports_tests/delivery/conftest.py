from datetime import UTC, datetime
from pathlib import Path

import pytest

from vv_exports.connectors import lease
from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import DeliveryRequest
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference
from vv_exports.delivery.log import read_log
from vv_exports.delivery.survey import survey
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.tables import LAYOUT_VERSION
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import write_run

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TEAM = "exports/team"
OWNER = Owner(type="automation", index_id="idx", automation="team")


def content_of(format_name: str = "parquet", layout_version: int = LAYOUT_VERSION, **options: object) -> Content:
    """A content with a format's defaults, other than where options say so."""
    return Content(ContentOptions(format=FormatOptions(format_name), **options), layout_version=layout_version)


class Deployment:
    """An archive, the pipeline's storage and one connector, all on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self.connector = LocalConnector("conn", folder, "deliveries")
        self.store = SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))

    def snapshot(self, run_id: str = "run_1", **run: object) -> Snapshot:
        write_run(self.archive, run_id=run_id, **run)
        return self.read(run_id)

    def read(self, run_id: str) -> Snapshot:
        """A snapshot of a run as it is in the archive."""
        source = LocalArchive(str(self.archive))
        return self.store.take(source, source.prompt_run("idx", run_id), NOW)

    def destination(
        self, subpath: str = TEAM, *, connector: Connector | None = None, owner: Owner = OWNER
    ) -> Destination:
        """The automation's own, or another."""
        return Destination(connector or self.connector, subpath, owner)

    def request(
        self,
        *snapshots: Snapshot,
        connector: Connector | None = None,
        subpath: str = TEAM,
        owner: Owner = OWNER,
        format_name: str = "parquet",
        options: dict[str, object] | None = None,
        **changes: object,
    ) -> DeliveryRequest:
        fields = {
            "destination": self.destination(subpath, connector=connector, owner=owner),
            "export": ExportReference(id="idx/team", type="automation", index_id="idx", automation="team"),
            "content": content_of(format_name, **options or {}),
            "snapshots": snapshots,
        }
        return DeliveryRequest(**{**fields, **changes})

    def runs_to_repair(self, *run_ids: str) -> set[str]:
        """Those of these runs that the destination lacks files of, or holds left ones of."""
        destination = self.destination()
        found = survey(destination, read_log(destination))
        return (found.runs_damaged & set(run_ids)) | found.runs_unfinished(run_ids)

    def files(self) -> set[str]:
        """Everything below the destination, by path."""
        return set(self.destination().files())


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


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory):
    """A collection that nobody changes: see ``given_in``."""
    from vv_exports_tests.delivery.given import given_in  # noqa: PLC0415 - it has a deployment of this module

    return given_in(tmp_path_factory.mktemp("given"))
