"""The key of redaction by hash: from the environment, long enough, and never told."""

import pytest

from vv_exports.domain.redaction_key import key_id, redaction_key
from vv_exports.errors import CredentialsError


def test_the_key_is_what_the_environment_holds():
    assert redaction_key({"VV_EXPORTS_REDACTION_KEY": "sixteen bytes ok"}) == b"sixteen bytes ok"
    assert redaction_key({"OTHER": "é" * 8}, "OTHER") == "é".encode() * 8


@pytest.mark.parametrize("environment", [{}, {"TEAM_KEY": ""}])
def test_a_missing_key_is_an_error_that_names_the_variable(environment):
    with pytest.raises(CredentialsError, match=r"environment variable TEAM_KEY that holds the key is not set"):
        redaction_key(environment, "TEAM_KEY")


def test_a_short_key_is_refused_and_not_told():
    with pytest.raises(CredentialsError, match="has 15 bytes, and 16 are the least") as refused:
        redaction_key({"VV_EXPORTS_REDACTION_KEY": "fifteen bytes!!"})
    assert "fifteen bytes!!" not in str(refused.value)


def test_the_id_of_a_key_tells_keys_apart_and_not_what_they_are():
    one, other = key_id(b"sixteen bytes ok"), key_id(b"sixteen bytes OK")
    assert one != other
    assert len(one) == 16
    assert int(one, 16) > 0
