"""What the SDK sends requests with. All private API of the SDK and of httpx that the package uses is here.

Its public methods make models of what they get, which drop fields and refuse nulls.
"""

from typing import Any

import httpx
import videovector

from vv_exports.sources.connections import Connections


async def http_client(client: videovector.AsyncVideoVector) -> httpx.AsyncClient:
    """The HTTP client, which the SDK makes when it first needs it, with connections of ours. Where the environment
    names a proxy, those to the proxy stay httpx's."""
    http = await client._http._ensure_client()  # noqa: SLF001
    unused = http._transport  # noqa: SLF001
    if not isinstance(unused, Connections):
        trusted = httpx.create_ssl_context()  # as the SDK has it; to read the certificates takes long
        http._cookies = _NoCookies()  # noqa: SLF001
        http._transport = Connections(trusted)  # noqa: SLF001
        await unused.aclose()
    return http


async def get_decoded(client: videovector.AsyncVideoVector, url: str) -> Any:
    """What the API answers to a GET, as the response's ``json()`` decodes it. Raises the SDK's errors.

    The address is whole: httpx would parse each of its parts, and what they are joined to, at each request.
    """
    return await client._http.get(url)  # noqa: SLF001


class _NoCookies(httpx.Cookies):
    """A key is all that a request needs, and to look for cookies in an answer takes long."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep none."""
