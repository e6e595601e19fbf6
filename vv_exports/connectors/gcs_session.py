"""The HTTP session of gcsfs, for requests of our own. All private API of gcsfs that the package uses is here."""

from typing import Any

import aiohttp


async def session_of(file_system: Any) -> aiohttp.ClientSession:
    """The session that the file system keeps, with its proxies and its pool. No public way makes one on this thread."""
    session: aiohttp.ClientSession = await file_system._set_session()  # noqa: SLF001
    return session
