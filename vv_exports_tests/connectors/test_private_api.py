"""The first tests to fail where a library changes what it keeps private and we use: they say where to look."""

import asyncio
import inspect

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from gcsfs.core import GCSFileSystem

from vv_exports.connectors.gcs_session import session_of
from vv_exports.connectors.s3_session import SendsOnce

SENDS_ONCE = (
    "{} has changed. Look whether it still sends a PUT again by itself where a kept connection is cut, and how that is "
    "switched off (aiohttp/client.py, ClientSession._request), then mend connectors/s3_session.py."
)
OWN_SESSION = (
    "gcsfs has changed. Look how its file system makes its aiohttp session on the thread of its loop (gcsfs/core.py, "
    "GCSFileSystem._set_session), then mend connectors/gcs_session.py."
)


def test_aiohttp_has_the_switch_for_its_own_second_attempts():
    async def switch():
        async with aiohttp.ClientSession() as session:
            return session._retry_connection

    assert asyncio.run(switch()) is True, SENDS_ONCE.format("aiohttp")
    assert "self._retry_connection" in inspect.getsource(aiohttp.ClientSession._request), SENDS_ONCE.format("aiohttp")


def test_aiobotocore_makes_its_sessions_where_they_are_changed():
    told = SENDS_ONCE.format("aiobotocore")
    assert inspect.iscoroutinefunction(getattr(AIOHTTPSession, "_get_session", None)), told
    assert [*inspect.signature(AIOHTTPSession._get_session).parameters] == ["self", "proxy_url"], told

    async def made():
        async with SendsOnce() as sessions:
            return await sessions._get_session(None)

    request = asyncio.run(made()).request
    assert request.func.__self__._retry_connection is False, told
    assert request.keywords == {"allow_redirects": False}


def test_gcsfs_hands_out_its_session():
    assert inspect.iscoroutinefunction(getattr(GCSFileSystem, "_set_session", None)), OWN_SESSION

    async def made():
        loop = asyncio.get_running_loop()
        file_system = GCSFileSystem(token="anon", asynchronous=True, loop=loop, skip_instance_cache=True)
        session = await session_of(file_system)
        try:
            return session, await session_of(file_system)
        finally:
            await session.close()

    first, second = asyncio.run(made())
    assert isinstance(first, aiohttp.ClientSession), OWN_SESSION
    assert first is second, OWN_SESSION
