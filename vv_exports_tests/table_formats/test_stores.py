"""Tables in stores: the delivery's own connector writes them, whatever readers use."""

import uuid

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.table_formats.delta import DeltaTables
from vv_exports_tests.fakes.careless_folder import CarelessFolder
from vv_exports_tests.stores import STORES
from vv_exports_tests.table_formats.given import EVERY_CALL, PROMPT, Kept

WRITTEN = frozenset({"put", "create"})


class Recording:
    """A connector that tells what is written, and which files are opened."""

    def __init__(self, connector):
        self._connector = connector
        self.written = []

    def __getattr__(self, name):
        attribute = getattr(self._connector, name)
        if name not in WRITTEN:
            return attribute

        def call(*arguments, **options):
            self.written.append(arguments[1] if name == "put" else arguments[0])
            return attribute(*arguments, **options)

        return call


@pytest.mark.parametrize("name", ["seaweedfs", *(["moto", "azurite", "gcs"] if EVERY_CALL else [])])
def test_tables_in_a_store_are_written_with_the_connectors_credentials(servers, request, tmp_path, name):
    with STORES[name](request) as connect:
        connector = Recording(connect(f"base/{uuid.uuid4().hex}"))
        kept = Kept(tmp_path, connector)
        kept.deliver("run_1", "run_2")
        kept.deliver("run_1", segments=5, follow=False)
        connector.written.clear()
        kept.follow()
        # One commit, and no byte of data.
        assert [key.rpartition("/")[2] for key in connector.written] == [f"{1:020}.json"]
        tables = DeltaTables(kept.destination)
        found = tables.read(f"segments/{PROMPT}")
        assert found.paths == {file.path for file in read_log(kept.destination).files}
        kept.rebuild()
        assert tables.read(f"segments/{PROMPT}").paths == found.paths
        if name != "seaweedfs":
            return
        server = servers.seaweedfs
        options = {
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        uri = tables.location(f"segments/{PROMPT}")
        assert len(pa.table(deltalake.DeltaTable(uri, storage_options=options).to_pyarrow_table())) == 8
        assert pl.scan_delta(uri, storage_options=options).select(pl.len()).collect().item() == 8


def test_where_a_store_does_not_decide_among_writers_tables_follow_in_turns(tmp_path):
    connector = CarelessFolder(tmp_path / "deliveries", tmp_path / "storage")
    kept = Kept(tmp_path, connector)
    # A delivery has its turn already, and a run of its own takes one.
    snapshot = kept.deployment.snapshot("run_1")
    request = kept.deployment.request(
        snapshot,
        connector=connector,
        on_commit=lambda state: kept.tables.follow(kept.destination, state, state.last.moment, is_only_writer=True),
    )
    deliver(request, kept.deployment.store, lambda: snapshot.taken_at)
    assert kept.progress.heads[f"segments/{PROMPT}"].version == 0
    kept.deliver("run_2", follow=False)
    kept.follow()
    assert kept.progress.heads[f"segments/{PROMPT}"].version == 1
