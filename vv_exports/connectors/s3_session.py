"""The HTTP sessions of s3fs, made to send each request once and where it was meant to go.

All private API of aiohttp and aiobotocore that the package uses is here: neither has a public switch for this.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class SendsOnce(AIOHTTPSession):  # type: ignore[misc]
    """aiohttp by itself sends a PUT again whose kept connection turns out to be cut. Then nobody could say whether a
    creation has reached the store. And it follows redirects, with the session token and what is written, to wherever
    they lead, and for any key."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))
