"""What is deleted at a destination, when, and what never is: nothing that another delivery commits."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.verify import damaged_files
from vv_exports.errors import DeliveredDataError, DeliveryConflictError
from vv_exports_tests.archives import SCHEMA, segment
from vv_exports_tests.delivery.conftest import NOW, Deployment


class Crash(BaseException):
    """The process dies here: nothing catches this."""


class Meanwhile(LocalConnector):
    """A connector to which something happens once, right before a method is called with a key like this."""

    def __init__(self, folder: Path, method: str, key: str, act: Callable[[], object]) -> None:
        super().__init__("conn", folder, "deliveries")
        self.method, self.key, self.act = method, key, act

    def _happen(self, method: str, *keys: str) -> None:
        if method == self.method and any(self.key in key for key in keys):
            self.method = ""
            self.act()

    def put(self, local, key, **how):
        self._happen("put", key)
        super().put(local, key, **how)

    def create(self, key, data):
        self._happen("create", key)
        return super().create(key, data)

    def delete(self, keys):
        self._happen("delete", *keys)
        super().delete(keys)


def _crash() -> None:
    raise Crash


def _deliver(deployment: Deployment, *snapshots, **changes) -> None:
    deliver(deployment.request(*snapshots, **changes), deployment.store, lambda: NOW)


def _killed(deployment: Deployment, method: str, key: str, *snapshots, **changes) -> None:
    connector = Meanwhile(deployment.folder, method, key, _crash)
    with pytest.raises(Crash):
        _deliver(deployment, *snapshots, connector=connector, **changes)


def _strays(deployment: Deployment) -> set[str]:
    """Data files that the log does not name. Those that it names are there."""
    files = read_log(deployment.destination()).files
    assert damaged_files(deployment.destination(), files) == {}
    committed = {file.path for file in files}
    return {path for path in deployment.files() if not path.startswith("_vv/")} - committed


def _held_rows(deployment: Deployment) -> list[int]:
    return [sum(file.rows for file in run.files) for run in read_log(deployment.destination()).runs.values()]


def test_files_of_a_delivery_that_died_go_even_where_the_next_one_dies_after_its_commit(deployment):
    _deliver(deployment, deployment.snapshot(segments=3))
    _killed(deployment, "create", "log/", deployment.snapshot(segments=4))
    newest = deployment.snapshot(segments=5)
    _killed(deployment, "delete", "", newest)
    assert len(_strays(deployment)) == 2, "one that was superseded, one that was never committed"
    _deliver(deployment, newest)
    assert _strays(deployment) == set()
    assert read_log(deployment.destination()).next_sequence == 2, "the last one had nothing to commit"


def test_files_of_a_delivery_that_died_go_when_the_content_returns_to_what_is_delivered(deployment):
    _deliver(deployment, deployment.snapshot(segments=3))
    _killed(deployment, "create", "log/", deployment.snapshot(segments=4))
    assert len(_strays(deployment)) == 1
    _deliver(deployment, deployment.snapshot(segments=3))
    assert _strays(deployment) == set()
    assert _held_rows(deployment) == [3]


def test_a_delivery_that_lost_to_other_content_takes_nothing_from_a_third_one(deployment):
    """Two deliver the same new content, and the first of them loses its commit to older content. The second has read
    the log after that, and has uploaded the same files, when the first gives up."""
    old, new = deployment.snapshot(segments=3), deployment.snapshot(segments=4)
    waits, go_on = Event(), Event()
    loser = Meanwhile(deployment.folder, "create", "log/", lambda: (waits.set(), go_on.wait(20)))
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(_deliver, deployment, new, connector=loser)
        assert waits.wait(20)
        _deliver(deployment, old)

        def loser_gives_up():
            go_on.set()
            with pytest.raises(DeliveryConflictError, match="start again with the current snapshot"):
                lost.result()

        _deliver(deployment, new, connector=Meanwhile(deployment.folder, "create", "log/", loser_gives_up))
    assert _held_rows(deployment) == [4]
    assert _strays(deployment) == set()


def test_a_late_delivery_of_older_content_takes_its_files_away(deployment):
    old, new = deployment.snapshot(segments=3), deployment.snapshot(segments=4)
    late = Meanwhile(deployment.folder, "create", "log/", lambda: _deliver(deployment, new))
    with pytest.raises(DeliveryConflictError):
        _deliver(deployment, old, connector=late)
    assert _held_rows(deployment) == [4]
    assert _strays(deployment) == set()


def test_a_slow_tidying_up_takes_nothing_that_was_committed_meanwhile(deployment):
    """Content that returns does not return to its file names: whoever still deletes those cannot hit it."""
    _deliver(deployment, deployment.snapshot(segments=3))
    returned = lambda: _deliver(deployment, deployment.snapshot(segments=3))  # noqa: E731
    slow = Meanwhile(deployment.folder, "delete", "", returned)
    _deliver(deployment, deployment.snapshot(segments=4), connector=slow)
    assert _held_rows(deployment) == [3]
    assert _strays(deployment) == set()


def test_files_of_a_delivery_that_died_are_not_used_again_either(deployment):
    _deliver(deployment, deployment.snapshot(segments=3))
    _killed(deployment, "create", "log/", deployment.snapshot(segments=4))
    returned = lambda: _deliver(deployment, deployment.snapshot(segments=4))  # noqa: E731
    slow = Meanwhile(deployment.folder, "delete", "", returned)
    _deliver(deployment, deployment.snapshot(segments=5), connector=slow)
    assert _held_rows(deployment) == [4]
    assert _strays(deployment) == set()


def test_a_change_of_status_alone_is_delivered_without_another_upload(deployment):
    rows = [segment(n) for n in range(3)]
    _deliver(deployment, deployment.snapshot(segments=rows, status="completed_with_failures"))
    (path,) = (deployment.folder / "deliveries/exports/team/segments").rglob("*.parquet")
    inode = path.stat().st_ino
    _deliver(deployment, deployment.snapshot(segments=rows, status="completed"))
    state = read_log(deployment.destination())
    assert [(run.run.status, run.run.supersedes) for run in state.runs.values()] == [("completed", 0)]
    assert path.stat().st_ino == inode
    assert _strays(deployment) == set()


@pytest.mark.parametrize("name", ["parquet", "jsonl", "csv", "json"])
def test_a_run_without_rows_is_delivered_as_one_empty_file(deployment, name):
    snapshot = deployment.snapshot(segments=[], video_level_schema=SCHEMA, videos=[])
    _deliver(deployment, snapshot, format_name=name)
    state = read_log(deployment.destination())
    assert [(file.table, file.rows) for file in state.files] == [("segments", 0)]
    assert _strays(deployment) == set()


@pytest.mark.parametrize("name", ["parquet", "csv"])
def test_a_damaged_snapshot_is_not_delivered(deployment, name):
    snapshot = deployment.snapshot()
    (path,) = (deployment.folder / "storage").rglob(f"segments-00000-{16 * '?'}.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DeliveredDataError, match=r"segments-00000-[0-9a-f]{16}.parquet was damaged"):
        _deliver(deployment, snapshot, format_name=name)
    assert not [path for path in deployment.files() if not path.startswith("_vv/")]


def test_a_live_delivery_that_was_taken_for_dead_conflicts_and_succeeds_when_it_is_tried_again(deployment):
    """Nobody can tell its uploads from a dead one's. Its commit fails, rather than name files that were removed."""
    delivered = deployment.snapshot(segments=3)
    _deliver(deployment, delivered)
    new = deployment.snapshot(segments=4)
    slow = Meanwhile(deployment.folder, "create", "log/", lambda: _deliver(deployment, delivered))
    with pytest.raises(DeliveryConflictError, match="start again"):
        _deliver(deployment, new, connector=slow)
    assert _held_rows(deployment) == [3]
    assert _strays(deployment) == set()
    _deliver(deployment, new)
    assert _held_rows(deployment) == [4]
    assert _strays(deployment) == set()


def test_files_of_a_run_whose_prompt_changed_go_from_the_folder_of_the_old_one(deployment):
    """A plain glob would count them beside the new ones."""
    _deliver(deployment, deployment.snapshot(segments=3))
    (old,) = (path for path in deployment.files() if path.startswith("segments/"))
    content = (deployment.folder / "deliveries/exports/team" / old).read_bytes()
    _deliver(deployment, deployment.snapshot(segments=4, prompt_id="other"))
    assert [path for path in deployment.files() if path.startswith("segments/prompt_id=prm/")] == []
    # The same where the delivery died after its commit.
    left = deployment.folder / "deliveries/exports/team" / old
    left.parent.mkdir(parents=True)
    left.write_bytes(content)
    assert deployment.runs_to_repair("run_1") == {"run_1"}
    _deliver(deployment, deployment.snapshot(segments=4, prompt_id="other"))
    assert not left.exists()
