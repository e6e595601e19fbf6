import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference
from vv_exports.delivery.log import read_log
from vv_exports.delivery.ownership import claim, owner_of
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveredDataError, DestinationError
from vv_exports_tests.archives import write_run
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.deployments import client_of, reconciled


@pytest.mark.parametrize("content", [b"", b"{", b'{"type": "somebody"}'])
def test_an_owner_file_that_names_nobody_stops_everything_and_says_what_to_do(deployment, clock, content):
    deployment.connector.create("exports/team/_vv/owner.json", content)
    before = deployment.files()
    with pytest.raises(DeliveredDataError, match=r"owner\.json does not name an owner.*or delete it"):
        deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    assert deployment.files() == before


def test_of_many_who_claim_at_once_one_gets_the_subpath(deployment):
    owners = [Owner(type="automation", index_id="idx", automation=f"team-{number}") for number in range(16)]

    def attempt(owner: Owner) -> bool:
        try:
            claim(deployment.destination(owner=owner))
        except DestinationError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = [owner for owner, got in zip(owners, pool.map(attempt, owners), strict=True) if got]
    assert won == [owner_of(deployment.destination())]


@pytest.mark.parametrize("other_place", ["exports", "exports/team/below"])
def test_of_two_that_claim_nested_folders_at_the_same_moment_the_later_one_takes_its_claim_back(
    deployment, other_place, monkeypatch
):
    ours, theirs = (Owner(type="automation", index_id="idx", automation=name) for name in ("ours", "theirs"))
    create = type(deployment.connector).create

    def meanwhile(connector, key, data, **how):
        monkeypatch.setattr(type(deployment.connector), "create", create)
        claim(Destination(connector, other_place, theirs))  # we have looked already, and write next
        return create(connector, key, data, **how)

    monkeypatch.setattr(type(deployment.connector), "create", meanwhile)
    with pytest.raises(DestinationError, match="'theirs'"):
        claim(deployment.destination(owner=ours))
    assert owner_of(deployment.destination()) is None
    assert owner_of(deployment.destination(other_place)) == theirs
    claim(deployment.destination(other_place, owner=theirs))


OURS = Owner(type="automation", index_id="idx", automation="team")
OWNER_FILE = "exports/team/_vv/owner.json"


def _owner_path(deployment):
    return deployment.folder / "deliveries" / OWNER_FILE


def _lose(path):
    path.unlink()


@pytest.fixture(params=[_lose, b"", b"junk \xff", b'{"type": "somebody"}'], ids=["lost", "empty", "junk", "nobody"])
def lost(request, deployment, clock):
    """A collection whose owner file is lost, or names nobody."""
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    path = _owner_path(deployment)
    before = path.read_bytes()
    request.param(path) if callable(request.param) else path.write_bytes(request.param)
    return before


@pytest.mark.parametrize("known", [False, True], ids=["log unknown", "log known"])
def test_a_delivery_that_finds_its_own_log_writes_the_owner_file_anew(deployment, clock, lost, known):
    state = read_log(deployment.destination()) if known else None
    outcome = deliver(deployment.request(deployment.snapshot()), deployment.store, clock, state=state)
    assert not outcome.committed, "there is nothing new"
    assert _owner_path(deployment).read_bytes() == lost
    assert verify(deployment.destination()).problems == ()


@pytest.mark.parametrize("by", ["delivery", "vacuum"])
def test_whoever_writes_a_lost_owner_file_anew_says_so_once(deployment, clock, lost, by, caplog):
    for _ in range(2):
        if by == "delivery":
            deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
        else:
            vacuum(deployment.destination(), clock)
    (said,) = [record.getMessage() for record in caplog.records if "owner.json" in record.getMessage()]
    assert said.startswith(str(_owner_path(deployment)))
    assert said.endswith("and the log names us: it is written anew")


def test_a_first_delivery_speaks_of_no_lost_owner_file(deployment, clock, caplog):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    assert caplog.messages == []


def test_verify_names_it_and_the_vacuum_that_it_advises_writes_it_anew(deployment, clock, lost):
    (problem,) = verify(deployment.destination()).problems
    assert str(_owner_path(deployment)) in problem
    assert "Its log says automation 'team' of index 'idx'" in problem
    assert "`vv-exports vacuum conn --subpath exports/team`, writes the file anew" in problem
    vacuum(deployment.destination(), clock, dry_run=True)
    assert verify(deployment.destination()).problems != (), "a dry run writes nothing"
    vacuum(deployment.destination(), clock)
    assert _owner_path(deployment).read_bytes() == lost
    assert verify(deployment.destination()).problems == ()


@pytest.mark.parametrize("place", ["exports/team", "exports"])
@pytest.mark.parametrize(
    "stranger",
    [
        Owner(type="automation", index_id="idx", automation="other"),
        Owner(type="automation", index_id="other", automation="team"),
        Owner(type="export", index_id="idx", export_id="exp_1"),
    ],
    ids=["another automation", "of another index", "an export"],
)
def test_nobody_else_can_claim_a_folder_whose_log_is_somebodys(deployment, clock, lost, place, stranger):
    before = deployment.connector.files("")
    with pytest.raises(DestinationError, match="belongs to automation 'team' of index 'idx'"):
        claim(deployment.destination(place, owner=stranger))
    assert deployment.connector.files("") == before


def test_who_takes_over_a_folder_writes_the_owner_file_that_the_error_names(deployment, clock):
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    _owner_path(deployment).unlink()
    renamed = Owner(type="automation", index_id="idx", automation="renamed")
    with pytest.raises(DestinationError) as raised:
        claim(deployment.destination(owner=renamed))
    document, path = re.search(r"write (\{.*\}) into (\S+)\.$", str(raised.value)).groups()
    Path(path).write_text(document)
    outcome = deliver(deployment.request(deployment.snapshot(segments=5), owner=renamed), deployment.store, clock)
    assert (outcome.committed, outcome.rows) == (True, 5)


def test_an_export_on_demand_claims_its_own_folder_again(deployment, clock):
    owner = Owner(type="export", index_id="idx", export_id="exp_1")
    export = {"owner": owner, "export": ExportReference(id="exp_1", type="prompt_run", index_id="idx")}
    request = deployment.request(deployment.snapshot(), subpath="x/exp_1", **export)
    deliver(request, deployment.store, clock)
    path = deployment.folder / "deliveries/x/exp_1/_vv/owner.json"
    before = path.read_bytes()
    path.unlink()
    (problem,) = verify(deployment.destination("x/exp_1")).problems
    assert "`vv-exports vacuum conn --subpath x/exp_1` writes the file anew" in problem
    with pytest.raises(DestinationError, match="belongs to export 'exp_1'"):
        deliver(deployment.request(deployment.snapshot(), subpath="x/exp_1"), deployment.store, clock)
    deliver(request, deployment.store, clock)
    assert path.read_bytes() == before
    path.unlink()
    vacuum(deployment.destination("x/exp_1"), clock)
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["run", "reconcile"])
def test_an_automation_that_has_nothing_new_writes_its_owner_file_anew(tmp_path, command):
    write_run(tmp_path / "archive")
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    path = tmp_path / "deliveries" / OWNER_FILE
    before = path.read_bytes()
    path.unlink()
    if command == "run":
        outcome = client.automations.run("idx", "team")
        assert (outcome.delivered, outcome.dagster_run_ids) == ((), ())
    else:
        reconciled(client)
    assert path.read_bytes() == before


def test_an_automation_that_has_nothing_new_says_that_its_folder_is_somebody_elses(tmp_path):
    write_run(tmp_path / "archive")
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    path = tmp_path / "deliveries" / OWNER_FILE
    path.write_text(path.read_text().replace('"team"', '"other"'))
    with pytest.raises(DestinationError, match="belongs to automation 'other'"):
        client.automations.run("idx", "team")


@pytest.mark.parametrize("is_lost", [False, True], ids=["owner file there", "owner file lost"])
@pytest.mark.parametrize(
    "stranger",
    [
        Owner(type="export", index_id="idx", export_id="exp_1"),
        Owner(type="automation", index_id="other", automation="team"),
    ],
    ids=["an export", "of another index"],
)
def test_an_automation_whose_folder_is_somebody_elses_is_not_told_to_move_that_ones_log(
    deployment, tmp_path, stranger, is_lost
):
    export = ExportReference(
        id="exp_1",
        type=stranger.type.replace("export", "index"),
        index_id=stranger.index_id,
        automation=stranger.automation,
    )
    theirs = deployment.request(deployment.snapshot(), owner=stranger, export=export)
    deliver(theirs, deployment.store, lambda: NOW)
    if is_lost:
        _owner_path(deployment).unlink()
    before = deployment.connector.files("")
    with pytest.raises(DestinationError, match=f"belongs to {stranger}") as raised:
        client_of(tmp_path).automations.run("idx", "team")
    assert not any(word in str(raised.value) for word in ("copied", "move", "write"))
    assert deployment.connector.files("") == before


@pytest.mark.parametrize("folder", ["segments", "_vv", "_vv/log"])
def test_a_collection_that_is_linked_into_another_is_refused_before_any_write(deployment, clock, folder):
    """Both would count the rows of both, and each would delete what the other superseded."""
    deliver(deployment.request(deployment.snapshot()), deployment.store, clock)
    other = deployment.folder / "deliveries" / "exports" / "other"
    (other / folder).parent.mkdir(parents=True)
    (other / folder).symlink_to(other.parent / "team" / folder)
    before = {path: path.read_bytes() for path in other.parent.rglob("*") if path.is_file()}
    with pytest.raises(DestinationError, match=f"exports/other/{folder} is a symbolic link"):
        deliver(
            deployment.request(
                deployment.snapshot(),
                subpath="exports/other",
                owner=Owner(type="automation", index_id="idx", automation="other"),
            ),
            deployment.store,
            clock,
        )
    assert {path: path.read_bytes() for path in other.parent.rglob("*") if path.is_file()} == before
