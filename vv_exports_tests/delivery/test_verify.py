import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import duckdb
import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import destinations, verify
from vv_exports.errors import NotFoundError
from vv_exports_tests.fakes.faulty_connector import FaultyConnector, delayed


def test_a_changed_and_a_missing_file_are_named(deployment, clock):
    snapshots = [deployment.snapshot("run_1"), deployment.snapshot("run_2")]
    outcome = deliver(deployment.request(*snapshots), deployment.store, clock)
    changed, missing = (deployment.folder / "deliveries/exports/team" / file.path for file in outcome.files)
    content = bytearray(changed.read_bytes())
    content[20] ^= 1
    changed.write_bytes(content)
    missing.unlink()
    problems = verify(deployment.destination()).problems
    assert len(problems) == 2
    assert f"{changed} has {len(content)} bytes with sha256" in problems[0]
    assert problems[1] == f"{missing} is missing"


def test_a_place_without_a_log_is_not_fine_but_an_error(deployment):
    with pytest.raises(NotFoundError, match="no delivery log"):
        verify(deployment.destination())


def test_a_destination_whose_log_is_damaged_or_gone_is_a_problem_and_not_overlooked(deployment, clock):
    snapshot = deployment.snapshot()
    for subpath in ("one", "two", "three"):
        deliver(deployment.request(snapshot, subpath=subpath), deployment.store, clock)
    log = "_vv/log/00000000000000000000.json"
    deployment.connector.delete([f"one/{log}"])
    (deployment.folder / "deliveries" / "two" / log).write_bytes(b"{")
    deliver(deployment.request(deployment.snapshot(segments=5), subpath="three"), deployment.store, clock)
    deployment.connector.delete([f"three/{log}"])
    assert destinations(deployment.connector) == ["one", "three", "two"]
    said = {subpath: verify(deployment.destination(subpath)).problems for subpath in ("one", "two", "three")}
    assert "holds 1 data file, and no delivery log says what they are" in said["one"][0]
    assert "is not a delivery log entry" in said["two"][0]
    assert "is missing, while entry 1 is there" in said["three"][0]


def test_every_destination_of_a_connector_is_found(deployment, clock):
    snapshot = deployment.snapshot()
    deliver(deployment.request(snapshot), deployment.store, clock)
    deliver(deployment.request(snapshot, subpath="elsewhere/deep"), deployment.store, clock)
    assert destinations(deployment.connector) == ["elsewhere/deep", "exports/team"]


class _Reading(LocalConnector):
    """A connector to which a delivery happens when the first data file is opened."""

    def __init__(self, folder, deliver_meanwhile) -> None:
        super().__init__("conn", folder, "deliveries")
        self.deliver_meanwhile = deliver_meanwhile

    def open(self, key):
        happens, self.deliver_meanwhile = self.deliver_meanwhile, lambda: None
        happens()
        return super().open(key)


def test_a_file_that_is_superseded_while_it_is_verified_is_no_problem(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    newer = deployment.snapshot(segments=5)
    connector = _Reading(deployment.folder, lambda: deliver(deployment.request(newer), deployment.store, clock))
    assert verify(Destination(connector, "exports/team")).problems == ()


def _read_by(folder, pattern: str) -> int:
    query = f"select count(*) from read_parquet('{folder}/{pattern}', hive_partitioning = false)"
    return duckdb.sql(query).fetchall()[0][0]


@pytest.mark.parametrize(
    "name",
    [
        "segments/prompt_id=prm/prompt_run_id=run_1/copy-of.parquet",
        "segments/prompt_id=prm/prompt_run_id=run_1/part-00000-0000000000000000.parquet",
        "segments/prompt_id=prm/prompt_run_id=run_1/.hidden.parquet",
        "segments/prompt_id=prm/prompt_run_id=run_1/_underscore.parquet",
        "segments/prompt_id=prm/prompt_run_id=run_1/deeper/x.parquet",
        "segments/prompt_id=prm/_folder/x.parquet",
        "segments/prompt_id=prm/prompt_run_id=nobody/x.parquet",
        "segments/prompt_id=nobody/prompt_run_id=nobody/x.parquet",
        "segments/x.parquet",
        "segments/prompt_id=prm/prompt_run_id=run_1/UPPER.PARQUET",
        "segments/prompt_id=prm/prompt_run_id=run_1/part.parquet~",
        "segments/prompt_id=prm/prompt_run_id=run_1/no-suffix",
    ],
)
def test_what_a_plain_glob_takes_and_the_log_does_not_hold_is_a_problem(deployment, clock, name):
    """DuckDB's `**` leaves out no name, not even one that begins with a dot or an underscore."""
    outcome = deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    top = deployment.folder / "deliveries/exports/team"
    copy = top / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(top / outcome.files[0].path, copy)
    assert _read_by(top, "segments/**") == 2 * outcome.rows
    said = verify(deployment.destination())
    assert said.problems == (f"{copy} is not the pipeline's, and a glob of the table's folder takes it",)
    assert said.foreign == (name,)
    assert "Move what is not the pipeline's" in said.advice[0]
    copy.rename(deployment.folder / "aside")  # as it says
    assert verify(deployment.destination()).problems == ()


def test_a_text_that_stops_a_reader_of_the_glob_is_a_problem(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    top = deployment.folder / "deliveries/exports/team"
    (top / "segments/README.txt").write_text("what this is")
    with pytest.raises(duckdb.Error):
        _read_by(top, "segments/**")
    assert len(verify(deployment.destination()).problems) == 1


def test_files_that_no_glob_of_a_table_takes_are_listed_and_no_problem(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    names = ["README.txt", "_vv/notes", "segments-2/x.parquet", "x.parquet", "Segments.txt"]
    for name in names:
        deployment.connector.create(f"exports/team/{name}", b"somebody's")
    said = verify(deployment.destination())
    assert (said.problems, set(said.foreign), said.advice) == ((), set(names), ())


def test_what_the_pipeline_left_is_a_problem_that_a_vacuum_mends(deployment, clock):
    outcome = deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    top = deployment.folder / "deliveries/exports/team"
    superseded = top / outcome.files[0].path
    content = superseded.read_bytes()
    deliver(deployment.request(deployment.snapshot(segments=4)), deployment.store, clock)
    superseded.write_bytes(content)
    stray = superseded.with_name(f"part-00000-{hashlib.sha256(b'left').hexdigest()[:16]}.parquet")
    stray.write_bytes(b"left")
    said = verify(deployment.destination())
    assert set(said.problems) == {
        f"{superseded} was superseded or abandoned, and is still there",
        f"{stray} is not committed: a delivery is under way, or one has died",
    }
    assert said.advice[0].startswith("`vv-exports vacuum conn --subpath exports/team` removes")
    vacuum(deployment.destination(), clock)  # as it says
    assert verify(deployment.destination()).problems == ()


class _Listing(LocalConnector):
    """A connector to which something happens right after its first listing of a destination."""

    def __init__(self, folder, act) -> None:
        super().__init__("conn", folder, "deliveries")
        self.act = act

    def files(self, prefix, **options):
        found = super().files(prefix, **options)
        if prefix == "exports/team":
            happens, self.act = self.act, lambda: None
            happens()
        return found


def test_a_delivery_that_is_under_way_is_called_that_and_is_no_problem_for_good(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    newer, said = deployment.snapshot(segments=5), []
    under_way = FaultyConnector(
        deployment.connector,
        {0: delayed(lambda: said.append(verify(deployment.destination())))},
        only=frozenset({"create"}),
    )
    deliver(deployment.request(newer, connector=under_way), deployment.store, clock)
    (problem,) = said[0].problems
    assert "is not committed: a delivery is under way, or one has died" in problem
    assert verify(deployment.destination()).problems == ()


def test_uploads_that_are_committed_right_after_the_look_are_no_problem(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    newer = deployment.snapshot(segments=5)
    with ThreadPoolExecutor(1) as pool:
        uploaded, go_on = Event(), Event()
        slow = FaultyConnector(
            deployment.connector, {0: delayed(lambda: (uploaded.set(), go_on.wait(20)))}, only=frozenset({"create"})
        )
        delivery = pool.submit(deliver, deployment.request(newer, connector=slow), deployment.store, clock)
        assert uploaded.wait(20)
        looking = _Listing(deployment.folder, lambda: (go_on.set(), delivery.result()))
        assert verify(Destination(looking, "exports/team")).problems == ()


@pytest.mark.parametrize("name", ["notes", "x.parquet", "part-00000-0000000000000000.parquet"])
@pytest.mark.parametrize("lead", ["nowhere", "a file", "a folder"])
def test_links_that_somebody_put_there_are_named_and_stay(deployment, clock, name, lead):
    (file,) = deliver(deployment.request(deployment.snapshot()), deployment.store, clock).files
    folder = (deployment.folder / "deliveries/exports/team" / file.path).parent
    target = {"nowhere": "gone", "a file": str(deployment.folder / "deliveries/exports/team" / file.path)}.get(lead)
    (folder / name).symlink_to(target or deployment.folder)
    said = verify(deployment.destination())
    assert said.foreign == (f"{file.path.rpartition('/')[0]}/{name}",)
    assert len(said.problems) == 1
    assert vacuum(deployment.destination(), clock).left_alone == said.foreign
    again = deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    assert not again.committed
    assert (folder / name).is_symlink()


def test_a_link_or_a_pipe_in_the_place_of_a_committed_file_is_a_problem(deployment, clock):
    snapshots = [deployment.snapshot("run_1"), deployment.snapshot("run_2")]
    outcome = deliver(deployment.request(*snapshots), deployment.store, clock)
    linked, piped = (deployment.folder / "deliveries/exports/team" / file.path for file in outcome.files)
    linked.rename(deployment.folder / "moved.parquet")
    linked.symlink_to(deployment.folder / "moved.parquet")
    piped.unlink()
    os.mkfifo(piped)
    problems = verify(deployment.destination()).problems
    assert [str(linked) in problems[0], "symbolic link" in problems[0]] == [True, True]
    assert [str(piped) in problems[1], "it is a FIFO, and no file" in problems[1]] == [True, True]
