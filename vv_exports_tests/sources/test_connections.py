"""Connections carry one request at a time, are used again, and are given up where one was not over as it should be."""

import asyncio
import gc
import logging

import httpx
import pytest

from vv_exports.sources.connections import Connections, HeaderTooLongError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: 9000002\r\n\r\n" + b" " * 9_000_000 + b"{}"


def with_server(work, *, seconds=0.0, answer=ANSWER):
    """Carry out work(client) at a server that takes so long for each answer; for each connection that it was asked for,
    how many requests came."""
    requests = []

    async def serve(reader, writer):
        number = len(requests)
        requests.append(0)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                requests[number] += 1
                await asyncio.sleep(seconds)
                writer.write(answer)
                if not answer.endswith(b"{}"):
                    break
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = Connections(httpx.create_ssl_context())
        async with server, httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            await asyncio.wait_for(work(client), 20)

    asyncio.run(main())
    return requests


def test_there_are_as_many_connections_as_requests_at_a_time():
    async def work(client):
        for _ in range(3):
            answers = await asyncio.gather(*(client.get("/") for _ in range(4)))
            assert [answer.json() for answer in answers] == [{}] * 4

    assert with_server(work, seconds=0.01) == [3] * 4


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


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (ANSWER[:-1], httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 100_000 + b"\r\n\r\n", HeaderTooLongError),
    ],
    ids=["none", "nonsense", "cut off", "a header too long"],
)
def test_a_request_is_sent_once_and_told_in_terms_of_httpx_what_came_of_it(answer, error):
    told = []

    async def trace(event, info):
        told.append((event, type(info["exception"])))

    async def work(client):
        with pytest.raises(httpx.TransportError) as caught:
            await client.get("/", extensions={"trace": trace})
        assert type(caught.value) is error

    assert with_server(work, answer=answer) == [1], "aiohttp sends it again by itself where it may"
    assert told == ([] if answer == ANSWER[:-1] else [("connections.request.failed", error)])


def test_a_connection_that_was_not_read_to_its_end_is_not_used_again():
    async def work(client):
        async with client.stream("GET", "/"):
            pass
        assert (await client.get("/")).json() == {}
        assert (await client.get("/")).json() == {}

    assert with_server(work, answer=LONG) == [1, 2]


def test_nobody_at_the_address_is_told():
    async def ask():
        async with httpx.AsyncClient(transport=Connections(httpx.create_ssl_context())) as client:
            await client.get("http://127.0.0.1:9")

    with pytest.raises(httpx.ConnectError, match="Cannot connect"):
        asyncio.run(ask())


def test_those_that_nobody_closed_are_closed_without_a_word(caplog):
    async def work(client):
        transport = Connections(httpx.create_ssl_context())
        await httpx.AsyncClient(transport=transport, base_url=client.base_url).get("/")
        del transport
        gc.collect()
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        with_server(work)
    assert "Unclosed" not in caplog.text
