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
