"""What `connectors test` says, on every store, and where a step fails."""

import pytest

from vv_exports.connectors.check import check_connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import CredentialsError, ForbiddenError, TransientError
from vv_exports_tests.stores import connect, store  # noqa: F401 - fixtures


def outcomes(connector) -> dict[str, str]:
    return {finding.step: finding.outcome for finding in check_connector(connector)}


def test_every_step_is_told_and_nothing_is_left(connect, store):  # noqa: F811
    connector = connect()
    found = outcomes(connector)
    decides = connector.decides_among_writers()
    assert list(found)[-7:] == [
        *("list", "write", "read back", "delete"),
        *("second create", "unfinished uploads", "boundary"),
    ]
    assert {step for step, outcome in found.items() if outcome != "ok"} == (set() if decides else {"second create"})
    assert connector.files("") == []
    assert connector.unfinished("") == []


class Broken(LocalConnector):
    """A folder in which some calls fail, or tell something else."""

    def __init__(self, folder, **broken) -> None:
        super().__init__("conn", folder)
        self.broken = broken

    def _act(self, name, *arguments):
        act = self.broken.get(name)
        if isinstance(act, Exception):
            raise act
        return act(*arguments) if act is not None else getattr(LocalConnector, name)(self, *arguments)

    def files(self, prefix, **options):
        return self._act("files", prefix)

    def put(self, local, key, *, sha256=None):
        return self._act("put", local, key)

    def read(self, key):
        return self._act("read", key)

    def delete(self, keys):
        return self._act("delete", keys)

    def unfinished(self, prefix):
        return self._act("unfinished", prefix)


@pytest.mark.parametrize(
    ("broken", "step", "before", "said"),
    [
        ({"files": ForbiddenError("may not list")}, "list", ["folder"], "may not list"),
        ({"put": CredentialsError("wrong key")}, "write", ["folder", "list"], "wrong key"),
        ({"put": TransientError("busy")}, "write", ["folder", "list"], "busy"),
        ({"read": lambda key: b"old"}, "read back", ["folder", "list", "write"], "reading it gave 3 other bytes"),
        ({"read": lambda key: None}, "read back", ["folder", "list", "write"], "reading it gave nothing"),
        (
            {"delete": TransientError("busy")},
            "delete",
            ["folder", "list", "write", "read back"],
            "busy",
        ),
        (
            {"delete": lambda keys: None},
            "delete",
            ["folder", "list", "write", "read back"],
            "was deleted, and can still be read",
        ),
    ],
)
def test_the_step_that_fails_is_the_last_one(tmp_path, broken, step, before, said):
    findings = list(check_connector(Broken(tmp_path, **broken)))
    assert [finding.step for finding in findings] == [*before, step]
    assert (findings[-1].outcome, said in findings[-1].detail) == ("failed", True)
    assert findings[-1].error is not None


def test_credentials_that_may_not_delete_are_a_warning_and_leave_what_was_tried(tmp_path):
    connector = Broken(tmp_path, delete=ForbiddenError("may not delete"))
    for _ in range(2):
        found = outcomes(connector)
        assert found.pop("delete") == "warning"
        assert set(found.values()) == {"ok"}
    left = [file.key for file in connector.files("")]
    assert left[0] == ".vv_exports_trial/taken-name"
    assert left[1].startswith(".vv_exports_trial/taken-name-"), "of the second trial: the first name proves nothing"
    assert left[2:] == [".vv_exports_trial/test"]


def test_uploads_that_cannot_be_listed_are_a_warning(tmp_path):
    connector = Broken(tmp_path, unfinished=ForbiddenError("may not list uploads"))
    assert outcomes(connector)["unfinished uploads"] == "warning"
