"""A proxy before a server that speaks HTTP/1.1, with faults of the network between a client and it, on demand.

Bytes are passed on as they come. It knows where requests begin, so that a fault can be meant for some of them, and
changes nothing in them: signatures stay valid.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

_PIECE = 2**14
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"

Kind = Literal["cut", "silent", "lost", "busy"]


class _EndedError(Exception):
    """This connection is to be cut."""


@dataclass(eq=False)
class Fault:
    """What goes wrong with requests in whose ``METHOD /path?query`` ``on`` is found, ``times`` times, or always.

    ``after`` is how many of their bytes pass before: of one connection, or of all since the fault is there.
    ``dies_with_it``: the server is out of reach from then on. ``hit`` is set when it strikes. ``without`` is a header:
    requests that have it are spared. ``answer``, which may be made of the request's head, is what a busy server says.
    """

    kind: Kind
    on: str = ""
    after: int = 0
    times: float = 1
    over: Literal["connection", "all"] = "connection"
    dies_with_it: bool = False
    without: str = ""
    answer: bytes | Callable[[bytes], bytes] = _BUSY
    status: str = "503 Slow Down"
    hit: threading.Event = field(default_factory=threading.Event)
    passed: dict[object, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    line: str = ""
    head: bytes = b""


class TcpProxy:
    """A context manager: listens on 127.0.0.1 while it is open. ``requests`` are those that were passed on whole,
    ``struck`` those that a fault met. ``latency`` is in seconds, before each request in
    whose ``METHOD /path?query`` ``slow`` is found."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self.latency = 0.0
        self.slow = ""
        self.connections = 0
        self.requests: list[str] = []
        self.struck: list[str] = []
        self._faults: list[Fault] = []
        # Bound and not listening, it keeps the port while connections to it are refused.
        self._keeper = _bound(0)
        self.port: int = self._keeper.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def fault(self, kind: Kind, on: str = "", **options: Any) -> Fault:
        """Let something go wrong from now on."""
        fault = Fault(kind, on, **options)
        self._faults.append(fault)
        return fault

    def refuse(self) -> None:
        """Refuse connections and cut those that there are, as where the server is down."""
        self._run(self._refuse())

    def heal(self) -> None:
        """No faults any more. Connections that had gone silent are cut."""
        self._faults.clear()
        self.latency = 0.0
        self._run(self._refuse())
        self._run(self._listen())

    def clear(self) -> None:
        """Heal, and forget what there was."""
        self.heal()
        self.connections = 0
        self.requests.clear()
        self.struck.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._keeper.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listening is None:
            listener = _bound(self.port)
            self._listening = await asyncio.start_server(self._accepted, sock=listener)

    async def _refuse(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await asyncio.sleep(0)  # what was accepted just now begins
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            while self._open:
                self._open.pop().cancel()
            await asyncio.wait(tasks, timeout=0.05)
        await asyncio.sleep(0)  # the loop closes the sockets

    async def _accepted(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        writers = [client]
        pumps: list[asyncio.Future[None]] = []
        cut = True
        try:
            from_server, server = await asyncio.open_connection(self._place.hostname, self._place.port)
            writers.append(server)
            connection = _Connection(client, server)
            pumps += [
                asyncio.ensure_future(self._pass_requests(from_client, connection)),
                asyncio.ensure_future(self._pass_answers(from_server, connection)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            cut = any(pump.exception() is not None for pump in done)
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, or the proxy heals or ends: cut
        finally:
            for pump in pumps:
                pump.cancel()
            await _end(writers, cut=cut)
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open.discard(task)

    async def _pass_requests(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return  # the client has closed it
            line = head.partition(b" HTTP/")[0].decode()
            connection.line, connection.head = line, head
            found = re.search(rb"(?im)^content-length: *(\d+)", head)
            left = int(found[1]) if found else 0
            if re.search(self.slow, line):
                await asyncio.sleep(self.latency)
            if fault := self._next("busy", connection):
                if re.search(rb"(?im)^expect: *100", head):
                    connection.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await reader.readexactly(left)
                self._strike(fault, line)
                answer = fault.answer if isinstance(fault.answer, bytes) else fault.answer(head)
                kind = "json" if answer.startswith(b"{") else "xml"
                about = f"HTTP/1.1 {fault.status}\r\nContent-Type: application/{kind}\r\n"
                about += f"Content-Length: {len(answer)}\r\n\r\n"
                body = b"" if line.startswith("HEAD ") else answer
                connection.client.write(about.encode() + body)
                await connection.client.drain()
                continue
            await self._pass(head, connection)
            while left:
                piece = await reader.read(min(left, _PIECE))
                if not piece:
                    return
                left -= len(piece)
                await self._pass(piece, connection)
            self.requests.append(line)

    async def _pass(self, data: bytes, connection: _Connection) -> None:
        """Towards the server, up to where a fault strikes."""
        for kind in ("cut", "silent"):
            if fault := self._next(kind, connection):
                key = connection if fault.over == "connection" else None
                passed = fault.passed.get(key, 0)
                room = fault.after - passed
                fault.passed[key] = passed + len(data)
                if room < len(data):
                    connection.server.write(data[: max(0, room)])
                    await connection.server.drain()
                    self._strike(fault, connection.line)
                    if kind == "cut":
                        raise _EndedError
                    await asyncio.Event().wait()  # until the proxy heals
        connection.server.write(data)
        await connection.server.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while data := await reader.read(_PIECE):
            # The server invites the client to send a body; it has not answered yet.
            invitation = data.startswith(b"HTTP/1.1 100")
            if not invitation and (fault := self._next("lost", connection)):
                self._strike(fault, connection.line)
                raise _EndedError
            connection.client.write(data)
            await connection.client.drain()

    def _next(self, kind: str, connection: _Connection) -> Fault | None:
        faults = (one for one in self._faults if one.kind == kind and one.times > 0)
        return next((one for one in faults if _is_met(one, connection)), None)

    def _strike(self, fault: Fault, line: str) -> None:
        fault.times -= 1
        self.struck.append(line)
        fault.hit.set()
        if fault.dies_with_it and self._listening is not None:
            self._listening.close()
            self._listening = None


def _is_met(fault: Fault, connection: _Connection) -> bool:
    spared = fault.without and re.search(rf"(?im)^{fault.without}:".encode(), connection.head)
    return not spared and re.search(fault.on, connection.line) is not None


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", port))
    return one


async def _end(writers: list[asyncio.StreamWriter], *, cut: bool) -> None:
    for writer in writers:
        if cut:
            # With nothing to linger for, closing sends RST.
            with suppress(OSError):  # the peer has closed it before
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()
    try:
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()
    except asyncio.CancelledError:  # the rest of an answer is not waited for
        for writer in writers:
            writer.transport.abort()
