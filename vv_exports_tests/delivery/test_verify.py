import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.verify import destinations, verify
from vv_exports.errors import NotFoundError


def test_a_changed_and_a_missing_file_are_named(deployment, clock):
    snapshots = [deployment.snapshot("run_1"), deployment.snapshot("run_2")]
    outcome = deliver(deployment.request(*snapshots), deployment.store, clock)
    changed, missing = (deployment.folder / "deliveries/exports/team" / file.path for file in outcome.files)
    content = bytearray(changed.read_bytes())
    content[20] ^= 1
    changed.write_bytes(content)
    missing.unlink()
    problems = verify(deployment.connector, "exports/team").problems
    assert len(problems) == 2
    assert f"{changed} has {len(content)} bytes with sha256" in problems[0]
    assert problems[1] == f"{missing} is missing"


def test_a_place_without_a_log_is_not_fine_but_an_error(deployment):
    with pytest.raises(NotFoundError, match="no delivery log"):
        verify(deployment.connector, "exports/team")


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
    said = {subpath: verify(deployment.connector, subpath).problems for subpath in ("one", "two", "three")}
    assert "holds 1 data files, and no delivery log says what they are" in said["one"][0]
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
    assert verify(connector, "exports/team").problems == ()
