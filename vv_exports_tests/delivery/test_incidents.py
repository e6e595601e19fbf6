"""What has gone wrong elsewhere, on every store here. Two more, an upload cut at part n and an error message that shows
a key, need a network between: ``connectors/test_s3_faults.py`` and ``connectors/test_s3_errors.py``."""

import hashlib
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext

import pytest

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.vacuum import vacuum
from vv_exports.errors import DeliveryConflictError
from vv_exports.formats.file_writer import FileWriter
from vv_exports_tests.delivery.conftest import NOW, Deployment
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, delayed
from vv_exports_tests.stores import connect, store  # noqa: F401 - fixtures

TEAM = "exports/team"


@pytest.fixture
def connectors(connect, tmp_path):  # noqa: F811
    """Two handles to one new place."""
    made = [connect(), connect()]
    for connector in made:
        connector.remember_in(LocalConnector("storage", tmp_path / "memory", make_root=True))
    return made


def _deliver(deployment: Deployment, connector: Connector, *snapshots, **changes):
    request = deployment.request(*snapshots, connector=connector, **changes)
    return deliver(request, deployment.store, lambda: NOW)


def _rows(connector: Connector, subpath: str = TEAM) -> dict[str, int]:
    runs = read_log(Destination(connector, subpath)).runs.values()
    return {run.run.run_id: sum(file.rows for file in run.files) for run in runs}


def _check_whole(connector: Connector, subpath: str = TEAM) -> None:
    for file in read_log(Destination(connector, subpath)).files:
        content = connector.read(f"{subpath}/{file.path}")
        assert content is not None, file.path
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)


def _data_files(connector: Connector, subpath: str = TEAM) -> set[str]:
    paths = {file.key.removeprefix(f"{subpath}/") for file in connector.files(subpath)}
    return {path for path in paths if not path.startswith("_vv/")}


def test_two_deliveries_started_in_the_same_second(deployment, connectors):
    """A well-known exporter named its windows by the second, and lost one of two."""
    snapshots = [deployment.snapshot(f"run_{number}", segments=number + 1) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: _deliver(deployment, connectors[n], snapshots[n]), range(2)))
    assert _rows(connectors[0]) == {"run_0": 1, "run_1": 2}
    assert read_log(Destination(connectors[0], TEAM)).next_sequence == 2
    _check_whole(connectors[0])


def test_a_retry_that_reads_fewer_rows_than_the_first_attempt(deployment, connectors):
    first = deployment.snapshot(segments=5)
    died = FaultyConnector(connectors[0], {1: crashes}, only=frozenset({"create"}))
    with pytest.raises(Crash):
        _deliver(deployment, died, first)
    left = _data_files(connectors[0])
    assert len(left) == 1
    _deliver(deployment, connectors[0], deployment.snapshot(segments=3))
    assert _rows(connectors[0]) == {"run_1": 3}
    assert not left & _data_files(connectors[0])
    _check_whole(connectors[0])


def test_a_late_twin_that_resumes_after_the_commit(deployment, connectors):
    """Where the store decides, the late one loses. Where it does not, none is late: one waits for the other."""
    old, new = deployment.snapshot(segments=3), deployment.snapshot(segments=5)
    decides = connectors[0].decides_among_writers()
    with ThreadPoolExecutor(1) as beside:

        def meanwhile():
            wait([beside.submit(_deliver, deployment, connectors[1], new)], None if decides else 0.2)

        late = FaultyConnector(connectors[0], {1: delayed(meanwhile)}, only=frozenset({"create"}))
        with pytest.raises(DeliveryConflictError) if decides else nullcontext():
            _deliver(deployment, late, old)
    assert _rows(connectors[0]) == {"run_1": 5}
    assert read_log(Destination(connectors[0], TEAM)).next_sequence == (1 if decides else 2)
    vacuum(Destination(connectors[0], TEAM), lambda: NOW)
    assert _data_files(connectors[0]) == {file.path for file in read_log(Destination(connectors[0], TEAM)).files}


def test_an_overwrite_that_leaves_a_hole_for_readers(deployment, connectors):
    _deliver(deployment, connectors[0], deployment.snapshot(segments=3))
    seen = []

    def look():
        seen.append(_rows(connectors[1])["run_1"])
        _check_whole(connectors[1])

    watched = FaultyConnector(connectors[0], {number: delayed(look) for number in range(40)})
    _deliver(deployment, watched, deployment.snapshot(segments=5))
    look()
    assert set(seen) == {3, 5}
    assert seen == sorted(seen)
    assert len(seen) >= 5


def test_a_reset_that_deletes_a_neighbours_files(deployment, connectors):
    """Prefixes of keys are not folders: what is below exports/team does not begin like exports/team alone."""
    neighbours = [f"{TEAM}-2", f"{TEAM}2", "exports/tea", "exports/other/team"]
    for number, subpath in enumerate(neighbours):
        owner = Owner(type="automation", index_id="idx", automation=f"other-{number}")
        _deliver(deployment, connectors[0], deployment.snapshot("run_9"), subpath=subpath, owner=owner)
    before = {subpath: connectors[0].files(subpath) for subpath in neighbours}
    _deliver(deployment, connectors[0], deployment.snapshot(segments=3))
    _deliver(deployment, connectors[0], deployment.snapshot(segments=5))
    vacuum(Destination(connectors[0], TEAM), lambda: NOW)
    assert {subpath: connectors[0].files(subpath) for subpath in neighbours} == before
    for subpath in neighbours:
        _check_whole(connectors[0], subpath)


def test_an_exception_inside_a_writer_that_publishes_a_short_file(deployment, connectors, monkeypatch):
    """A file that is closed on the way out of an exception is a valid one, with fewer rows."""
    write = FileWriter.write

    def breaking(writer, batch):
        write(writer, batch)
        raise RuntimeError("the disk under the writer broke")

    snapshot = deployment.snapshot(segments=5)
    monkeypatch.setattr(FileWriter, "write", breaking)
    with pytest.raises(RuntimeError, match="broke"):
        _deliver(deployment, connectors[0], snapshot, format_name="jsonl")
    assert _data_files(connectors[0]) == set()
    assert entries_since(Destination(connectors[0], TEAM), 0) == []


def test_a_tidying_up_that_takes_what_people_put_beside(deployment, connectors):
    """A note in a run's folder was gone after the next delivery, on the word that nothing was written."""
    _deliver(deployment, connectors[0], deployment.snapshot(segments=3))
    (committed,) = _data_files(connectors[0])
    names = ["README.txt", ".DS_Store", "x.parquet", "part-00000-0000000000000000.parquet", "empty", "folder/inside"]
    folders = [committed.rpartition("/")[0], "segments", "_vv", "_vv/log"]
    foreign = {f"{folder}/{name}": name.removeprefix("empty").encode() for folder in folders for name in names}
    for path, content in foreign.items():
        assert connectors[0].create(f"{TEAM}/{path}", content)
    stray = f"{folders[0]}/part-00000-{hashlib.sha256(b'left').hexdigest()[:16]}.parquet"
    assert connectors[0].create(f"{TEAM}/{stray}", b"left")
    assert _deliver(deployment, connectors[1], deployment.snapshot(segments=3)).removed == (stray,)
    assert not _deliver(deployment, connectors[1], deployment.snapshot(segments=3)).committed
    _deliver(deployment, connectors[1], deployment.snapshot(segments=5))
    assert set(vacuum(Destination(connectors[1], TEAM), lambda: NOW).left_alone) == foreign.keys()
    assert {path: connectors[0].read(f"{TEAM}/{path}") for path in foreign} == foreign
    _check_whole(connectors[0])
