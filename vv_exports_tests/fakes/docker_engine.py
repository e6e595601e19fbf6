"""What stands for a Docker engine: it speaks as much of the engine's API as Docker's own client needs to create, start,
look at and stop containers, and carries out a container's command as a process of this machine."""

import json
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

_VERSION = {"ApiVersion": "1.50", "MinAPIVersion": "1.24", "Version": "0"}
_PATH = re.compile(r"(?:/v[\d.]+)?/(version|containers)(?:/(\w+)(?:/(\w+))?)?")
_STOPPED_AFTER_SECONDS = 10


@dataclass
class Container:
    """A container, as it was asked for, and its process. One that has ended is kept, whatever ``AutoRemove`` says, to
    be looked at; the engine's clients do not see it any more."""

    id: str
    asked: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def state(self) -> dict[str, Any]:
        """As the engine tells it."""
        ended = None if self.process is None else self.process.poll()
        status = "created" if self.process is None else "running" if ended is None else "exited"
        return {"Status": status, "Running": status == "running", "ExitCode": ended or 0}

    @property
    def is_removed(self) -> bool:
        return self.state["Status"] == "exited" and bool(self.asked.get("HostConfig", {}).get("AutoRemove"))


class DockerEngine:
    """The engine. A container has the variables of its image and its own, and no others: nothing of this process."""

    def __init__(self, folder: Path, image: Mapping[str, str]) -> None:
        self.containers: dict[str, Container] = {}
        self._folder = folder
        self._image = image
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self._answer(json.loads(self.rfile.read(length) or b"{}"))

            def _answer(self, body: dict[str, Any] | None) -> None:
                status, said = engine.answer(self.path, body)
                text = b"" if said is None else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"tcp://127.0.0.1:{self._server.server_port}"
        """For DOCKER_HOST."""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for container in self.containers.values():
            if container.process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(container.process.pid, signal.SIGKILL)
                container.process.wait()

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """What is answered to a request; ``body`` is None where it only looks."""
        url = urlsplit(path)
        match = _PATH.fullmatch(url.path)
        what, name, verb = match.groups() if match else ("", None, None)
        if what == "version":
            return HTTPStatus.OK, _VERSION
        if what != "containers" or name is None:
            return HTTPStatus.NOT_FOUND, {"message": f"{path}: no such thing here"}
        if name == "create":
            return HTTPStatus.CREATED, {"Id": self._create(body or {}).id, "Warnings": []}
        container = self.containers.get(name)
        if container is None or container.is_removed:
            return HTTPStatus.NOT_FOUND, {"message": f"No such container: {name}"}
        if verb == "json":
            return HTTPStatus.OK, {"Id": container.id, "State": container.state, "Config": container.asked}
        if verb == "start":
            self._start(container)
        elif verb == "stop":
            self._stop(container, float(parse_qs(url.query).get("t", [_STOPPED_AFTER_SECONDS])[0]))
        return HTTPStatus.NO_CONTENT, None

    def _create(self, asked: dict[str, Any]) -> Container:
        container = Container(secrets.token_hex(32), asked)
        self.containers[container.id] = container
        return container

    def _start(self, container: Container) -> None:
        given = dict(one.split("=", 1) for one in container.asked.get("Env") or [])
        with (self._folder / f"{container.id}.log").open("wb") as log:
            container.process = subprocess.Popen(
                container.asked["Cmd"],
                env={**self._image, **given},
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop(self, container: Container, seconds: float) -> None:
        if container.process is None:
            return
        container.process.send_signal(signal.SIGTERM)
        try:
            container.process.wait(seconds)
        except subprocess.TimeoutExpired:
            container.process.kill()
            container.process.wait()
