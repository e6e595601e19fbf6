"""What the SDK sends requests with. All private API of the SDK that the package uses is here.

Its public methods make models of what they get, which drop fields and refuse nulls.
"""

from collections.abc import Mapping
from typing import Any

import httpx
import videovector


async def http_client(client: videovector.AsyncVideoVector) -> httpx.AsyncClient:
    """The HTTP client, which the SDK makes when it first needs it."""
    return await client._http._ensure_client()  # noqa: SLF001


async def get_decoded(client: videovector.AsyncVideoVector, path: str, params: Mapping[str, Any]) -> Any:
    """What the API answers to a GET, as the response's ``json()`` decodes it. Raises the SDK's errors."""
    return await client._http.get(path, params=dict(params))  # noqa: SLF001
