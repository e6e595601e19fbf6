"""What a vacuum removes, and what it never does."""

import hashlib

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.log import read_log
from vv_exports.delivery.ownership import claim
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveryConflictError, DestinationError, ForbiddenError
from vv_exports_tests.delivery.conftest import NOW

LEFT = b"of a delivery that died"
RUN = "segments/prompt_id=prm/prompt_run_id=run_1"
STRAY = f"{RUN}/part-00000-{hashlib.sha256(LEFT).hexdigest()[:16]}.parquet"
FOREIGN = f"{RUN}/part-00000-0123456789abcdef.parquet"


def _vacuum(deployment, subpath="exports/team", **how):
    return vacuum(deployment.destination(subpath), lambda: NOW, **how)


def _deliver(deployment, *snapshots, **changes):
    return deliver(deployment.request(*snapshots, **changes), deployment.store, lambda: NOW)


class NoDeletion(LocalConnector):
    """Credentials that may write and not delete."""

    def delete(self, keys):
        raise ForbiddenError(f"conn: could not delete {keys[0]}: AccessDenied")


def test_superseded_and_stray_files_go_and_nothing_else(deployment):
    keeper = NoDeletion("conn", deployment.folder, "deliveries")
    _deliver(deployment, deployment.snapshot(segments=3), deployment.snapshot("run_2"), connector=keeper)
    _deliver(deployment, deployment.snapshot(segments=4), connector=keeper)
    committed = {file.path for file in read_log(deployment.destination()).files}
    (superseded,) = {path for path in deployment.files() if path.endswith(".parquet")} - committed
    deployment.connector.create(f"exports/team/{STRAY}", LEFT)
    for path in ("notes.txt", "segments/readme.md", "_vv/log/notes", "part-00000-0123456789abcdef.parquet", FOREIGN):
        deployment.connector.create(f"exports/team/{path}", b"somebody's")
    before = deployment.files()
    planned = _vacuum(deployment, dry_run=True)
    assert deployment.files() == before
    done = _vacuum(deployment)
    assert (planned.superseded, planned.strays) == (done.superseded, done.strays) == ((superseded,), (STRAY,))
    assert (planned.dry_run, done.dry_run) == (True, False)
    assert done.left_alone == (
        "_vv/log/notes",
        "notes.txt",
        "part-00000-0123456789abcdef.parquet",
        FOREIGN,
        "segments/readme.md",
    )
    log = {"_vv/log/00000000000000000002.json"}
    assert deployment.files() == (before | log) - {superseded, STRAY}
    said = verify(deployment.destination())
    assert said.foreign == done.left_alone
    assert [
        problem.removeprefix(f"{deployment.folder}/deliveries/exports/team/").split()[0] for problem in said.problems
    ] == [FOREIGN, "segments/readme.md"]
    assert {file.path for file in read_log(deployment.destination()).files} == committed


def test_where_there_is_nothing_to_remove_nothing_is_written(deployment):
    _deliver(deployment, deployment.snapshot())
    before = deployment.files()
    done = _vacuum(deployment)
    assert (done.superseded, done.strays, done.uploads, done.bytes) == ((), (), (), 0)
    assert deployment.files() == before


def test_only_a_claimed_subpath_is_vacuumed(deployment):
    _deliver(deployment, deployment.snapshot())
    deployment.connector.create(f"other/{STRAY}", LEFT)
    before = deployment.connector.files("")
    for subpath in ("exports", "other", "exports/team/segments", "nowhere"):
        with pytest.raises(DestinationError, match="belongs to no automation and no export"):
            _vacuum(deployment, subpath)
    with pytest.raises(DestinationError, match="Below it are: exports/team"):
        _vacuum(deployment, "exports")
    assert deployment.connector.files("") == before


def test_a_neighbour_is_not_touched(deployment):
    neighbour = Owner(type="automation", index_id="idx", automation="other")
    claim(deployment.destination("exports/team-2", owner=neighbour))
    deployment.connector.create(f"exports/team-2/{STRAY}", LEFT)
    _deliver(deployment, deployment.snapshot())
    assert _vacuum(deployment).strays == ()
    assert deployment.connector.read(f"exports/team-2/{STRAY}") == LEFT


def test_where_the_log_is_gone_nothing_is_removed_unless_that_is_meant(deployment):
    """Somebody deleted the log: to a vacuum every file would look left over."""
    _deliver(deployment, deployment.snapshot())
    deployment.connector.delete(["exports/team/_vv/log/00000000000000000000.json"])
    before = deployment.files()
    for dry_run in (True, False):
        with pytest.raises(DestinationError, match="has no delivery log, so that all of its 1 data files would go"):
            _vacuum(deployment, dry_run=dry_run)
    assert deployment.files() == before
    _deliver(deployment, deployment.snapshot())
    assert _vacuum(deployment).strays == ()
    assert verify(deployment.destination()).problems == ()


class Meanwhile(LocalConnector):
    """Something happens right before a file is created or uploaded whose key holds a text."""

    def __init__(self, folder, text, act) -> None:
        super().__init__("conn", folder, "deliveries")
        self.text, self.act = text, act

    def create(self, key, data, *, durable=True):
        if self.text in key:
            self.text = "never again"
            self.act()
        return super().create(key, data, durable=durable)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_delivery_whose_uploads_are_taken_for_left_over_fails_and_succeeds_when_it_is_tried_again(
    deployment, earlier
):
    """Nobody can tell its files from a dead delivery's, but its commit cannot name what was removed."""
    if earlier:
        _deliver(deployment, deployment.snapshot("run_0"))
    snapshot = deployment.snapshot()
    slow = Meanwhile(deployment.folder, "_vv/log/", lambda: _vacuum(deployment, without_log=True))
    with pytest.raises(DeliveryConflictError, match="removed by `vv-exports vacuum`"):
        _deliver(deployment, snapshot, connector=slow)
    assert [run for run in read_log(deployment.destination()).runs if run == "run_1"] == []
    _deliver(deployment, snapshot)
    assert verify(deployment.destination()).problems == ()
    assert [file.path[-29:-25] for file in read_log(deployment.destination()).runs["run_1"].files] == ["0001"], (
        "a path that was given up is never used again"
    )
    assert _vacuum(deployment).strays == ()


def test_a_delivery_that_commits_while_a_vacuum_looks_around_keeps_its_files(deployment):
    _deliver(deployment, deployment.snapshot("run_0"))
    snapshot = deployment.snapshot()
    deployment.connector.create(f"exports/team/{STRAY}", LEFT)
    slow = Meanwhile(deployment.folder, "_vv/log/", lambda: _deliver(deployment, snapshot))
    done = vacuum(Destination(slow, "exports/team"), lambda: NOW)
    assert verify(deployment.destination()).problems == ()
    assert read_log(deployment.destination()).runs.keys() == {"run_0", "run_1"}
    assert STRAY not in deployment.files()
    assert done.strays in {(), (STRAY,)}


def test_credentials_that_may_not_delete_deliver_all_the_same(deployment, caplog):
    keeper = NoDeletion("conn", deployment.folder, "deliveries")
    _deliver(deployment, deployment.snapshot(segments=3), connector=keeper)
    outcome = _deliver(deployment, deployment.snapshot(segments=4), connector=keeper)
    assert (outcome.committed, outcome.rows) == (True, 4)
    assert "stays until the next delivery or `vv-exports vacuum` removes it" in caplog.text
    assert len(_vacuum(deployment).superseded) == 1
