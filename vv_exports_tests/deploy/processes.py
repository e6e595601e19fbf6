"""The deployment of ``deploy/compose`` without containers: the commands of its services as processes of this machine,
with their variables and no others, and a Docker engine that starts processes.

Postgres and the store are real ones, and their addresses are put in place of the services' names.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vv_exports_tests.deploy.folders import COMPOSE, compose, image_environment, instruction
from vv_exports_tests.fakes.docker_engine import DockerEngine
from vv_exports_tests.servers.postgres import PostgresServer
from vv_exports_tests.servers.processes import free_ports, running
from vv_exports_tests.servers.s3 import S3Server

_PLACE = "/opt/vv_exports"


@dataclass(frozen=True)
class Deployment:
    """What runs, and where."""

    folder: Path
    engine: DockerEngine
    code_port: int
    web_port: int
    environment: dict[str, str]
    """Of the code server."""

    def graphql(self, query: str) -> Any:
        """Ask the webserver."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]


@contextmanager
def deployed(
    folder: Path, archive: Path, postgres: PostgresServer, store: S3Server, started: Sequence[str]
) -> Iterator[Deployment]:
    """The deployment, whose source is an archive, with some of its services: ``code``, ``webserver``, ``daemon``."""
    code_port, web_port = free_ports(2)
    home = folder / "deployment"
    home.mkdir(parents=True)
    addresses = {
        "/tmp/": f"{folder}/tmp/",  # before paths that begin so
        "hostname: postgres": "hostname: 127.0.0.1",
        "port: 5432": f"port: {postgres.port}",
        "host: code": "host: 127.0.0.1",
        "port: 4000": f"port: {code_port}",
        "http://store:8333": store.endpoint_url,
        _PLACE: str(home),
    }
    for path in (COMPOSE / "deployment").iterdir():
        (home / path.name).write_text(_replaced(path.read_text(), addresses))
    config = yaml.safe_load((home / "vv_exports.yaml").read_text())
    config["source"] = {"kind": "local_archive", "path": str(archive)}
    (home / "vv_exports.yaml").write_text(yaml.safe_dump(config))

    services = compose(
        {
            "PWD": str(folder),
            "DOCKER_GID": "0",
            "DAGSTER_POSTGRES_PASSWORD": postgres.password,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }
    )["services"]
    image = {name: _replaced(value, addresses) for name, value in image_environment().items()}
    image |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": f"{folder}/tmp"}
    (folder / "tmp").mkdir()
    commands = {
        "code": [*instruction("CMD")],
        "webserver": services["webserver"]["command"],
        "daemon": services["daemon"]["command"],
    }
    ports = {"4000": str(code_port), "3000": str(web_port), "0.0.0.0": "127.0.0.1"}
    answers = {"code": f"tcp://127.0.0.1:{code_port}", "webserver": f"http://127.0.0.1:{web_port}/server_info"}
    with ExitStack() as until:
        engine = until.enter_context(DockerEngine(folder / "containers", image))
        for name in started:
            environment = {**image, **services[name]["environment"], "DOCKER_HOST": engine.address}
            command = [ports.get(part, _replaced(part, addresses)) for part in commands[name]]
            until.enter_context(
                running(["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *command],
                        answers.get(name, engine.address), folder / name)
            )  # fmt: skip
        yield Deployment(home, engine, code_port, web_port, {**image, **services["code"]["environment"]})


def _replaced(text: str, by: dict[str, str]) -> str:
    for name, value in by.items():
        text = text.replace(name, value)
    return text
