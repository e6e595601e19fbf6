import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import OutcomeUnknownError, TransientError
from vv_exports_tests.fakes.faulty_connector import (
    Crash,
    FaultyConnector,
    crashes,
    crashes_after,
    delayed,
    fails,
    loses_the_reply,
    loses_the_request,
)


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (crashes, Crash, False),
        (crashes_after, Crash, True),
        (fails, TransientError, False),
        (loses_the_reply, OutcomeUnknownError, True),
        (loses_the_request, OutcomeUnknownError, False),
    ],
)
def test_the_call_that_is_named_fails_and_the_others_do_not(tmp_path, fault, error, done):
    connector = LocalConnector("conn", tmp_path)
    faulty = FaultyConnector(connector, {1: fault})
    assert faulty.read("a") is None
    with pytest.raises(error):
        faulty.create("a", b"x")
    assert (connector.read("a") == b"x") is done
    assert faulty.create("b", b"x")
    assert faulty.log == ["read", "create", "create"]
    assert faulty.uri("a") == connector.uri("a")


def test_something_happens_in_between(tmp_path):
    connector = LocalConnector("conn", tmp_path)
    faulty = FaultyConnector(connector, {0: delayed(lambda: connector.create("a", b"first"))})
    assert not faulty.create("a", b"second")


def test_only_some_calls_count(tmp_path):
    connector = LocalConnector("conn", tmp_path)
    faulty = FaultyConnector(connector, {0: fails}, only=frozenset({"create"}))
    assert faulty.read("a") is None
    with pytest.raises(TransientError):
        faulty.create("a", b"x")
