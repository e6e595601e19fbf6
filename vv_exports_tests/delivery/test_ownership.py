from concurrent.futures import ThreadPoolExecutor

import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.ownership import Owner, claim, owner_of
from vv_exports.errors import DeliveredDataError, DestinationError


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
            claim(deployment.connector, "exports/team", owner)
        except DestinationError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = [owner for owner, got in zip(owners, pool.map(attempt, owners), strict=True) if got]
    assert won == [owner_of(deployment.connector, "exports/team")]


@pytest.mark.parametrize("other_place", ["exports", "exports/team/below"])
def test_of_two_that_claim_nested_folders_at_the_same_moment_the_later_one_takes_its_claim_back(
    deployment, other_place, monkeypatch
):
    ours, theirs = (Owner(type="automation", index_id="idx", automation=name) for name in ("ours", "theirs"))
    create = type(deployment.connector).create

    def meanwhile(connector, key, data, **how):
        monkeypatch.setattr(type(deployment.connector), "create", create)
        claim(connector, other_place, theirs)  # we have looked already, and write next
        return create(connector, key, data, **how)

    monkeypatch.setattr(type(deployment.connector), "create", meanwhile)
    with pytest.raises(DestinationError, match="'theirs'"):
        claim(deployment.connector, "exports/team", ours)
    assert owner_of(deployment.connector, "exports/team") is None
    assert owner_of(deployment.connector, other_place) == theirs
    claim(deployment.connector, other_place, theirs)


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
