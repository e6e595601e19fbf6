"""Connections carry one request at a time, are used again, and are given up where one was not over as it should be."""

import asyncio

import httpx
import pytest

from vv_exports.sources.connections import Connections

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1)


def with_server(work, *, seconds=0.0):
    """Carry out work(client) at a server that takes so long for each answer; how many connections it was asked for."""
    opened = []

    async def serve(reader, writer):
        opened.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(seconds)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = Connections(lambda: httpx.AsyncHTTPTransport(limits=LIMITS, verify=False))
        async with server, httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            await asyncio.wait_for(work(client), 20)

    asyncio.run(main())
    return len(opened)


def test_there_are_as_many_connections_as_requests_at_a_time():
    async def work(client):
        for _ in range(3):
            answers = await asyncio.gather(*(client.get("/") for _ in range(4)))
            assert [answer.json() for answer in answers] == [{}] * 4

    assert with_server(work, seconds=0.01) == 4


@pytest.mark.parametrize("cancellations", [1, 2])
def test_requests_that_are_cancelled_at_any_step_hold_up_none_after_them(cancellations):
    async def work(client):
        for steps in range(0, 60, 3):
            task = asyncio.ensure_future(client.get("/"))
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(cancellations):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            answer = await asyncio.wait_for(client.get("/"), 5)
            assert answer.json() == {}

    with_server(work)
