"""A destination is a value: where it is, what a path in it is called outside, and whose it is."""

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.ownership import claim
from vv_exports_tests.delivery.conftest import OWNER


@pytest.mark.parametrize("subpath", ["exports/team", "team", ""])
def test_a_path_and_its_key_are_each_others_inverse(tmp_path, subpath):
    destination = Destination(LocalConnector("conn", tmp_path), subpath)
    assert destination.path(destination.key("_vv/owner.json")) == "_vv/owner.json"
    assert destination.uri_of("_vv/owner.json") == f"{destination.uri}/_vv/owner.json"


def test_files_are_listed_by_their_path_from_where_it_is_asked(tmp_path):
    connector = LocalConnector("conn", tmp_path)
    for key in ("team/_vv/log/0", "team/_vv/log/1", "team/b", "team-2/a"):
        connector.create(key, b"x")
    destination = Destination(connector, "team")
    assert list(destination.files()) == ["_vv/log/0", "_vv/log/1", "b"]
    assert list(destination.files("_vv/log", after="_vv/log/0")) == ["_vv/log/1"]
    assert destination.read("b") == b"x"


def test_two_of_the_same_place_and_owner_are_equal(tmp_path):
    connector = LocalConnector("conn", tmp_path)
    assert Destination(connector, "team", OWNER) == Destination(connector, "team", OWNER)
    assert Destination(connector, "team", OWNER) != Destination(connector, "team")


def test_nobody_claims_a_destination_without_a_name(tmp_path):
    with pytest.raises(ValueError, match="nobody is named who delivers to"):
        claim(Destination(LocalConnector("conn", tmp_path), "team"))
    assert list(tmp_path.iterdir()) == []
