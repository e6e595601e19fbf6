"""The address and the keys of a webhook, and the address of a service. They are in the environment alone: the whole of
an address may be a secret, as a chat's is, so that messages show its scheme and host at most.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from vv_exports.errors import CredentialsError

MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
"""As Standard Webhooks has it."""

_HOW = (
    "Make one with `python -c \"import base64, secrets; print('whsec_' + "
    'base64.b64encode(secrets.token_bytes(32)).decode())"`, and give it to the receiver too.'
)


def webhook_address(environment: Mapping[str, str], name: str) -> str:
    """The address that the environment holds under this name. Raises CredentialsError, which does not show it."""
    address = service_address(environment, name)
    try:
        url = urlsplit(address)
        _ = url.port
    except ValueError:
        raise CredentialsError(f"the environment variable {name} holds no address of the web") from None
    if url.scheme not in {"http", "https"} or not url.hostname or re.search(r"[\x00-\x20\x7f]", address):
        raise CredentialsError(
            f"the environment variable {name} must hold an address that begins with http:// or https://, such as "
            "https://hooks.example.com/vv_exports"
        )
    return address


def service_address(environment: Mapping[str, str], name: str) -> str:
    """The same of any service. Raises CredentialsError where there is none."""
    address = environment.get(name, "").strip()
    if not address:
        raise CredentialsError(f"the environment variable {name}, which is to hold the address, is not set")
    return address


def webhook_keys(environment: Mapping[str, str], name: str) -> list[bytes]:
    """The keys that messages are signed with: one, or two while receivers change from the one to the other. Raises
    CredentialsError, which names the variable and never shows a key."""
    keys = [_key(text, name) for text in environment.get(name, "").split()]
    if not keys:
        raise CredentialsError(f"the environment variable {name}, which is to hold the secret, is not set. {_HOW}")
    return keys


def shown_address(address: str) -> str:
    """As much of an address as may be shown: of the web its scheme and host, of any other its scheme."""
    url = urlsplit(address)
    if url.scheme in {"http", "https"}:
        return f"{url.scheme}://{url.hostname}/…"
    return f"{url.scheme}://…"


def _key(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise CredentialsError(
            f"the environment variable {name} must hold a secret of Standard Webhooks: whsec_ and {MIN_KEY_BYTES} to "
            f"{MAX_KEY_BYTES} bytes in base64; two of them, with a blank between, while it is changed. {_HOW}"
        )
    return key
