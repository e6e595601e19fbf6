"""The first test to fail where the SDK changes what it keeps private and we use: it says where to look."""

import asyncio

import httpx
import videovector

from vv_exports.sources.sdk_client import get_decoded, http_client
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector

CHANGED = (
    "videovector has changed. Look how AsyncVideoVector keeps its HTTP client and what its GET does with an answer "
    "(videovector/_http.py, AsyncHttpClient), then mend sources/sdk_client.py."
)


def test_the_sdk_has_the_client_that_hooks_are_put_on_and_gives_what_an_answer_decodes_to():
    platform = make_platform(media=1, runs=1)
    (index_id,) = platform.indexes
    noted = []

    async def note(response):
        await response.aread()
        noted.append(response.status_code)
        response.json = lambda **_: "decoded by a hook"

    async def got(server):
        client = videovector.AsyncVideoVector(api_key=server.api_key, auth_mode="api_key", base_url=server.base_url)
        try:
            assert hasattr(client, "_http"), CHANGED
            http = await http_client(client)
            assert isinstance(http, httpx.AsyncClient), CHANGED
            url = f"{server.base_url}/indexes/{index_id}"
            whole = await get_decoded(client, url)
            http.event_hooks = {"response": [note]}
            return whole, await get_decoded(client, url)
        finally:
            await client.close()

    with FakeVideoVector(platform) as server:
        assert asyncio.run(got(server)) == (platform.indexes[index_id], "decoded by a hook"), CHANGED
    assert noted == [200], CHANGED
