"""What is deleted at a destination, when, and what never is: nothing that another delivery commits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveredDataError, DeliveryConflictError
from vv_exports.formats.catalog import format_named
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

    def put(self, local, key):
        self._happen("put", key)
        super().put(local, key)

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
    assert verify(deployment.connector, "exports/team").problems == ()
    committed = {file.path for file in read_log(deployment.connector, "exports/team").files}
    return {path for path in deployment.files() if not path.startswith("_vv/")} - committed


def _held_rows(deployment: Deployment) -> list[int]:
    return [sum(file.rows for file in run.files) for run in read_log(deployment.connector, "exports/team").runs.values()]


def test_files_of_a_delivery_that_died_go_even_where_the_next_one_dies_after_its_commit(deployment):
    _deliver(deployment, deployment.snapshot(segments=3))
    _killed(deployment, "create", "log/", deployment.snapshot(segments=4))
    newest = deployment.snapshot(segments=5)
    _killed(deployment, "delete", "", newest)
    assert len(_strays(deployment)) == 2, "one that was superseded, one that was never committed"
    _deliver(deployment, newest)
    assert _strays(deployment) == set()
    assert read_log(deployment.connector, "exports/team").next_sequence == 2, "the last one had nothing to commit"


def test_files_of_a_delivery_that_died_go_when_the_content_returns_to_what_is_delivered(deployment):
    _deliver(deployment, deployment.snapshot(segments=3))
    _killed(deployment, "create", "log/", deployment.snapshot(segments=4))
    assert len(_strays(deployment)) == 1
    _deliver(deployment, deployment.snapshot(segments=3))
    assert _strays(deployment) == set()
    assert _held_rows(deployment) == [3]


def test_a_delivery_that_lost_to_other_content_takes_nothing_from_a_third_one(deployment):
    """The first two deliver the same new content; older content gets in between. The second one's files are the
    third one's files."""
    old, new = deployment.snapshot(segments=3), deployment.snapshot(segments=4)

    def third_dies_of_conflict():
        with pytest.raises(DeliveryConflictError):
            _deliver(deployment, new, connector=loser)

    loser = Meanwhile(deployment.folder, "create", "log/", lambda: _deliver(deployment, old))
    # The winner has read the log after the old content was committed, and has uploaded when the loser gives up.
    third_dies_of_conflict()
    winner = Meanwhile(deployment.folder, "create", "log/", lambda: _late_loser(deployment, new))
    _deliver(deployment, new, connector=winner)
    assert _held_rows(deployment) == [4]
    assert _strays(deployment) == set()


def _late_loser(deployment: Deployment, snapshot) -> None:
    """A delivery that read the log before everybody else, and comes to its commit now."""
    del deployment, snapshot
