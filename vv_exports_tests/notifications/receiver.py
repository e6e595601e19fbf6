"""A receiver of webhooks on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request: its headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def name(self) -> str:
        return self.event["data"]["event"]


@dataclass
class Receiver:
    """What it got, and what it answers, by path: a status, 204 where none is set; None: it never answers."""

    url: str
    all: list[Received] = field(default_factory=list)
    answers: dict[str, int | None] = field(default_factory=dict)

    def at(self, path: str) -> list[Received]:
        return [one for one in self.all if one.path == path]

    def names(self, path: str) -> list[str]:
        return [one.name for one in self.at(path)]


@contextmanager
def listening() -> Iterator[Receiver]:
    """A receiver in a thread, until the end of the block."""
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.all.append(Received(self.path, headers, body))
            status = receiver.answers.get(self.path, 204)
            if status is None:
                is_over.wait(20)
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()
