import hashlib
import itertools
from pathlib import Path

import duckdb
import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Owner
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveryConflictError, DestinationError, OutcomeUnknownError, SelectionError
from vv_exports_tests.archives import segment


def _committed(deployment) -> set[str]:
    return {file.path for file in read_log(deployment.destination()).files}


def _data_files(deployment) -> set[str]:
    return {path for path in deployment.files() if not path.startswith("_vv/")}


def test_a_delivery_is_files_an_owner_and_one_log_entry(deployment, clock):
    outcome = deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    (path,) = _data_files(deployment)
    content = deployment.connector.read(f"exports/team/{path}")
    digest = hashlib.sha256(content).hexdigest()
    assert path == f"segments/prompt_id=prm/prompt_run_id=run_1/part-00000-{digest[:16]}.parquet"
    assert deployment.files() - {path} == {"_vv/owner.json", "_vv/log/00000000000000000000.json"}
    assert outcome.committed
    assert (outcome.rows, outcome.bytes) == (3, len(content))
    assert verify(deployment.destination()).problems == ()


def test_the_same_again_writes_nothing(deployment, clock):
    request = deployment.request(deployment.snapshot())
    first = deliver(request, deployment.store, clock)
    before = {path: path.stat().st_mtime_ns for path in deployment.folder.rglob("*")}
    again = deliver(request, deployment.store, clock)
    assert not again.committed
    assert (again.delivery_id, again.sequence, again.rows) == (first.delivery_id, first.sequence, first.rows)
    after = {path: path.stat().st_mtime_ns for path in deployment.folder.rglob("*")}
    assert {path for path, time in after.items() if before.get(path) != time and path.is_file()} == set()


def test_changed_content_supersedes_and_the_old_files_go(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    old = _data_files(deployment)
    changed = deployment.snapshot(segments=4)
    outcome = deliver(deployment.request(changed), deployment.store, clock)
    assert outcome.sequence == 1
    assert _data_files(deployment).isdisjoint(old)
    assert _data_files(deployment) == _committed(deployment)
    entry = entries_since(deployment.destination(), 0)[1]
    assert (entry.prompt_runs[0].revision, entry.prompt_runs[0].supersedes) == (2, 0)


def test_content_that_returns_to_what_it_was_is_delivered_again(deployment, clock):
    for rows in (3, 4, 3):
        deliver(deployment.request(deployment.snapshot(segments=rows)), deployment.store, clock)
    state = read_log(deployment.destination())
    assert state.next_sequence == 3
    assert [run.files[0].rows for run in state.runs.values()] == [3]
    assert _data_files(deployment) == _committed(deployment)


def test_another_format_replaces_the_files(deployment, clock):
    snapshot = deployment.snapshot()
    deliver(deployment.request(snapshot), deployment.store, clock)
    deliver(deployment.request(snapshot, format_name="csv"), deployment.store, clock)
    assert [path.endswith(".csv") for path in _data_files(deployment)] == [True]


@pytest.mark.parametrize("name", ["parquet", "jsonl", "csv", "json"])
def test_every_format_counts_its_rows(deployment, clock, name):
    outcome = deliver(deployment.request(deployment.snapshot(), format_name=name), deployment.store, clock)
    assert [(file.rows, file.table) for file in outcome.files] == [(3, "segments")]
    assert verify(deployment.destination()).problems == ()


def test_ids_with_any_characters_become_one_folder_each_and_read_back(deployment, clock):
    ids = [
        "a b",
        "a/b",
        "a%2Fb",
        "a%b",
        "..",
        "é",
        "日本",
        "a=b",
        "A",
        "a",
        "run|1",
        "x" * 250,
        "...",
        "a...b",
    ]
    snapshots = [deployment.snapshot(run_id, segments=[segment(0)]) for run_id in ids]
    deliver(deployment.request(*snapshots), deployment.store, clock)
    pattern = f"{deployment.folder}/deliveries/exports/team/segments/**/*.parquet"
    query = f"select prompt_run_id from read_parquet('{pattern}', hive_partitioning = false)"
    assert sorted(row[0] for row in duckdb.sql(query).fetchall()) == sorted(ids)
    assert len({Path(path).parent for path in _data_files(deployment)}) == len(ids)


def test_nothing_selected_is_an_error(deployment, clock):
    with pytest.raises(SelectionError, match="nothing selected"):
        deliver(deployment.request(), deployment.store, clock)


@pytest.mark.parametrize("subpath", ["exports/team", "exports/team/inside", "exports"])
def test_a_subpath_that_somebody_else_owns_above_or_below_is_refused_before_any_write(deployment, clock, subpath):
    snapshot = deployment.snapshot()
    deliver(deployment.request(snapshot), deployment.store, clock)
    before = deployment.connector.files("")
    stranger = Owner(type="automation", index_id="idx", automation="other")
    with pytest.raises(DestinationError, match="automation 'team' of index 'idx'"):
        deliver(deployment.request(snapshot, subpath=subpath, owner=stranger), deployment.store, clock)
    assert deployment.connector.files("") == before


class Crash(BaseException):
    """The process dies here: nothing catches this."""


class Unreliable(LocalConnector):
    """A connector that does something else at its nth call."""

    def __init__(self, *arguments, at: int, act, **options) -> None:
        super().__init__(*arguments, **options)
        self.calls, self.at, self.act = itertools.count(), at, act

    def _maybe(self, perform, mutating=True):
        if next(self.calls) == self.at:
            return self.act(perform)
        return perform()

    def put(self, local, key, **how):
        self._maybe(lambda: LocalConnector.put(self, local, key, **how))

    def create(self, key, data):
        return self._maybe(lambda: LocalConnector.create(self, key, data))

    def read(self, key):
        return self._maybe(lambda: LocalConnector.read(self, key))

    def files(self, prefix, **options):
        return self._maybe(lambda: LocalConnector.files(self, prefix, **options))

    def delete(self, keys):
        self._maybe(lambda: LocalConnector.delete(self, keys))

    def sweep(self):
        self._maybe(lambda: LocalConnector.sweep(self))


def _crash_before(perform):
    raise Crash


def _crash_after(perform):
    perform()
    raise Crash


@pytest.mark.parametrize("act", [_crash_before, _crash_after])
@pytest.mark.parametrize("with_change", [False, True])
def test_a_crash_at_any_storage_call_leaves_before_or_after_and_the_next_run_completes(
    deployment, clock, tmp_path_factory, act, with_change
):
    first = [deployment.snapshot("run_1"), deployment.snapshot("run_2", segments=2)]
    if with_change:
        deliver(deployment.request(*first), deployment.store, clock)
    second = [deployment.snapshot("run_1", segments=5), first[1], deployment.snapshot("run_3", segments=1)]
    before = _committed(deployment)
    crashes = 0
    for call in itertools.count():
        broken = Unreliable("conn", deployment.folder, "deliveries", at=call, act=act)
        try:
            deliver(deployment.request(*second, connector=broken), deployment.store, clock)
        except Crash:
            crashes += 1
        else:
            break
        state = read_log(deployment.destination())
        seen = {file.path for file in state.files}
        assert seen == before or {run.run_id for run in state.runs.values() for run in [run.run]} >= {
            "run_1",
            "run_2",
            "run_3",
        }
        assert all(deployment.connector.read(f"exports/team/{path}") is not None for path in seen)
    deliver(deployment.request(*second), deployment.store, clock)
    assert crashes >= 7
    assert _data_files(deployment) == _committed(deployment)
    assert verify(deployment.destination()).problems == ()


def test_a_lost_reply_to_the_commit_is_found_out_by_reading(deployment, clock):
    def lost(perform):
        perform()
        raise OutcomeUnknownError("no answer")

    request = deployment.request(deployment.snapshot())
    for call in range(30):
        broken = Unreliable("conn", deployment.folder, f"deliveries-{call}", at=call, act=lost)
        try:
            outcome = deliver(deployment.request(*request.snapshots, connector=broken), deployment.store, clock)
        except OutcomeUnknownError:
            outcome = deliver(
                deployment.request(
                    *request.snapshots,
                    connector=LocalConnector("conn", deployment.folder, f"deliveries-{call}"),
                ),
                deployment.store,
                clock,
            )
        reader = LocalConnector("c", deployment.folder, f"deliveries-{call}")
        assert read_log(deployment.destination(connector=reader)).next_sequence == 1
        assert outcome.rows == 3


def _interleaved(deployment, clock, ours, theirs, at):
    """Deliver ``ours``; at storage call ``at``, or afterwards, somebody else delivers ``theirs`` completely."""

    def meanwhile(perform):
        deliver(deployment.request(*theirs), deployment.store, clock)
        return perform()

    slow = Unreliable("conn", deployment.folder, "deliveries", at=at, act=meanwhile)
    try:
        return deliver(deployment.request(*ours, connector=slow), deployment.store, clock)
    finally:
        if next(slow.calls) <= at:
            deliver(deployment.request(*theirs), deployment.store, clock)


@pytest.mark.parametrize("at", range(14))
def test_a_twin_with_the_same_content_commits_once(deployment, clock, at):
    snapshots = [deployment.snapshot("run_1"), deployment.snapshot("run_2")]
    outcome = _interleaved(deployment, clock, snapshots, snapshots, at)
    state = read_log(deployment.destination())
    assert state.next_sequence == 1
    assert outcome.delivery_id == state.last.delivery_id
    assert _data_files(deployment) == _committed(deployment)


@pytest.mark.parametrize("at", range(14))
def test_an_overlapping_batch_delivers_each_run_once(deployment, clock, at):
    one, two, three = (deployment.snapshot(f"run_{n}") for n in (1, 2, 3))
    _interleaved(deployment, clock, [one, two], [two, three], at)
    entries = entries_since(deployment.destination(), 0)
    delivered = [run.run_id for entry in entries for run in entry.prompt_runs]
    assert sorted(delivered) == ["run_1", "run_2", "run_3"]
    assert _data_files(deployment) == _committed(deployment)


@pytest.mark.parametrize("at", range(12))
def test_a_late_twin_with_older_content_never_wins(deployment, clock, at):
    old = deployment.snapshot("run_1")
    new = deployment.snapshot("run_1", segments=5)
    try:
        _interleaved(deployment, clock, [old], [new], at)
    except DeliveryConflictError as error:
        assert "start again with the current snapshot" in str(error)  # noqa: PT017
    deliver(deployment.request(new), deployment.store, clock)
    state = read_log(deployment.destination())
    assert [run.files[0].rows for run in state.runs.values()] == [5]
    assert _data_files(deployment) == _committed(deployment)
    assert verify(deployment.destination()).problems == ()
