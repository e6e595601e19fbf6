"""The key of redaction by hash. It is in the environment alone: never in a file, a message or a log."""

import hmac
from collections.abc import Mapping

from vv_exports.errors import CredentialsError

REDACTION_KEY_ENV = "VV_EXPORTS_REDACTION_KEY"
MIN_KEY_BYTES = 16


def redaction_key(environment: Mapping[str, str], name: str = REDACTION_KEY_ENV) -> bytes:
    """The key that the environment holds under this name. Raises CredentialsError, which names the variable."""
    key = environment.get(name, "").encode(errors="surrogateescape")
    if not key:
        raise CredentialsError(
            f"fields are redacted by hash, and the environment variable {name} that holds the key is not set. Set it "
            f"to a secret text of {MIN_KEY_BYTES} bytes or more, and keep it: with another key, equal values get other "
            "hashes."
        )
    if len(key) < MIN_KEY_BYTES:
        raise CredentialsError(
            f"the key for redaction by hash in the environment variable {name} has {len(key)} bytes, and "
            f"{MIN_KEY_BYTES} are the least: a shorter one can be guessed, and with it the values. Set it to a longer "
            "secret text."
        )
    return key


def key_id(key: bytes) -> str:
    """Tells one key from another without telling the key: 16 hex characters."""
    return hmac.digest(key, b"vv_exports key id", "sha256").hex()[:16]
