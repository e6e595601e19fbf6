"""Which store an endpoint is: two spellings of one address are one store, and are compared as one. Pure.

Addresses of the providers' own stores are all the same one, so that it does not matter whether one is spelled out, and
for which region. What is compared is not what requests are sent to.
"""

import ipaddress
import posixpath
import re
import socket
import unicodedata
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DEVIATING = re.compile("[ßς\u200c\u200d]")
_NUMBERS = re.compile(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3}")

# The names of buckets are unique in all of Amazon, and in all of Google; those of containers in an account.
# Amazon's name is also that of machines and load balancers, behind which anybody may run a store.
_OWN: Mapping[str, str] = {
    "s3": r"(.+\.)?s3(-[a-z0-9-]+)?(\.dualstack)?(\.[a-z]{2,}(-[a-z]+)+-[0-9]+)?(\.vpce)?\.amazonaws\.com(\.cn)?",
    "gcs": r"(.+\.)?googleapis\.com|(.+\.)?storage\.cloud\.google\.com",
    "azure": r"{account}(\.z\d+)?\.(blob|dfs)\.(core\.windows\.net|storage\.azure\.net)",
}


def same_endpoint(provider: str, url: str | None, bucket: str, account: str = "") -> str:
    """An endpoint in the spelling by which it is compared; empty for the provider's own.

    ``bucket`` may stand before the host, as some stores name it. ``account`` is Azure's. What is no address of the web
    stays as it is.
    """
    try:
        place = urlsplit((url or "").strip())
        host, port = _host(place.hostname or ""), place.port
    except ValueError:
        return url or ""
    if not host:
        return url or ""
    own = _OWN.get(provider, "").replace("{account}", re.escape(account.lower()))
    if own and re.fullmatch(own, host):
        return ""
    if provider in {"s3", "gcs"}:
        host = host.removeprefix(f"{bucket.lower()}.")
    if provider == "azure":
        host = re.sub(r"\.dfs\.(core|storage)\.", r".blob.\1.", host)
    shown_port = "" if port in {None, _DEFAULT_PORTS.get(place.scheme)} else f":{port}"
    path = posixpath.normpath(f"/{unquote(place.path).strip('/')}").rstrip("/")
    return f"{place.scheme}://{host}{shown_port}{path}"


def is_amazon(url: str | None) -> bool:
    """Whether an endpoint is one of Amazon S3 itself."""
    try:
        host = _host(urlsplit((url or "").strip()).hostname or "")
    except ValueError:
        return False
    return re.fullmatch(_OWN["s3"], host) is not None


def _host(name: str) -> str:
    """A host as the network names it: in lower case, in ASCII, without the dot at the end, numbers written as usual."""
    name = unquote(name).lower().rstrip(".")
    if _NUMBERS.fullmatch(name):
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            return name
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - of IP
    try:
        return ".".join(_in_ascii(label) for label in re.split("[.\u3002\uff0e\uff61]", name))
    except UnicodeError:
        return name


def _in_ascii(label: str) -> str:
    """Python's codec is of 2003, when some letters stood for others: ß for ss. Today's names with them are others."""
    if _DEVIATING.search(label):
        return f"xn--{unicodedata.normalize('NFKC', label).encode('punycode').decode()}"
    return label.encode("idna").decode().lower()
