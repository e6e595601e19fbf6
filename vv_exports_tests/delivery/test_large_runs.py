"""A run of many parts on its way to a destination: the spool holds two of its files, and what a dead delivery has
uploaded is not uploaded again."""

import pytest

from vv_exports.connectors import spool as spools
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import Spool, spooled_bytes, use_spool
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.reading import documents
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.errors import NoRoomError, TransientError

FORMATS = ["parquet", "jsonl", "csv", "json"]


class Recording(LocalConnector):
    """A connector that knows what was put, and how much was on the spool then."""

    def __init__(self, deployment):
        super().__init__("conn", deployment.folder, "deliveries")
        self.puts, self.spooled = [], []
        self.fails_at = None

    def put(self, local, key, **options):
        if "segments/" in key:
            if len(self.puts) == self.fails_at:
                raise TransientError("the store is away")
            self.spooled.append(spooled_bytes())
            self.puts.append(key)
        super().put(local, key, **options)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 100)
    monkeypatch.setattr(spools, "IN_MEMORY_BYTES", 0)
    yield
    use_spool(Spool())


@pytest.fixture
def connector(deployment):
    return Recording(deployment)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_spool_holds_two_files_of_a_run_and_what_one_is_made_of(deployment, connector, clock, format_name):
    snapshot = deployment.snapshot(segments=950)
    outcome = deliver(
        deployment.request(snapshot, connector=connector, format_name=format_name), deployment.store, clock
    )
    assert [file.rows for file in outcome.files] == [*[100] * 9, 50]
    made_of = max(sum(file.bytes for file in part.files) for part in snapshot.tables["segments"])
    assert max(connector.spooled) <= 2 * max(file.bytes for file in outcome.files) + made_of
    assert spooled_bytes() == 0
    assert len(list(documents(deployment.destination()))) == 950


@pytest.mark.parametrize("format_name", ["parquet", "csv"])
def test_what_a_delivery_that_died_has_uploaded_is_not_uploaded_again(deployment, connector, clock, format_name):
    snapshot = deployment.snapshot(segments=950)
    request = deployment.request(snapshot, connector=connector, format_name=format_name)
    connector.fails_at = 6
    with pytest.raises(TransientError, match="the store is away"):
        deliver(request, deployment.store, clock)
    assert read_log(deployment.destination()).last is None, "nothing of it is committed"
    there = set(connector.puts)
    connector.fails_at = None
    connector.puts.clear()
    outcome = deliver(request, deployment.store, clock)
    assert len(there) == 6
    assert len(connector.puts) == 4
    assert {deployment.destination().key(file.path) for file in outcome.files} == there | set(connector.puts)


def test_what_it_has_left_and_was_damaged_since_is_uploaded_again(deployment, connector, clock):
    snapshot = deployment.snapshot(segments=950)
    request = deployment.request(snapshot, connector=connector)
    connector.fails_at = 6
    with pytest.raises(TransientError):
        deliver(request, deployment.store, clock)
    damaged = deployment.folder / "deliveries" / connector.puts[2]
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    connector.fails_at = None
    outcome = deliver(request, deployment.store, clock)
    assert outcome.rows == 950
    assert len(list(documents(deployment.destination()))) == 950


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_run_whose_files_do_not_fit_is_refused_before_anything_is_written(deployment, connector, clock, format_name):
    snapshot = deployment.snapshot(segments=950)
    request = deployment.request(snapshot, connector=connector, format_name=format_name)
    use_spool(Spool(max_bytes=2_000))
    expected = r"a file of the segments of prompt run run_1 needs 1 MiB .* spool.max_bytes allows 1 MiB: raise it"
    with pytest.raises(NoRoomError, match=expected):
        deliver(request, deployment.store, clock)
    assert connector.puts == []
    with pytest.raises(NoRoomError, match=expected):
        Rehearsal.at(request.destination, deployment.store, clock).deliver(request)


def test_a_file_that_grows_beyond_the_limit_is_refused(deployment, connector, clock, monkeypatch):
    """CSV is not compressed, so its files are larger than what they are made of."""
    monkeypatch.setattr("vv_exports.snapshots.reading.PART_ROWS", 1_000)
    monkeypatch.setattr("vv_exports.snapshots.store._BATCH_ROWS", 20)
    monkeypatch.setattr("vv_exports.formats.csv._COLUMN_BYTES", 10)
    monkeypatch.setattr("vv_exports.formats.csv._BLOCK_BYTES", 1_000)
    snapshot = deployment.snapshot(segments=950)
    ((part,),) = snapshot.tables.values()
    use_spool(Spool(max_bytes=sum(file.bytes for file in part.files) + 20_000))
    with pytest.raises(NoRoomError, match=r"a csv file needs more than .* Nothing was delivered"):
        deliver(deployment.request(snapshot, connector=connector, format_name="csv"), deployment.store, clock)
    assert read_log(deployment.destination()).last is None
