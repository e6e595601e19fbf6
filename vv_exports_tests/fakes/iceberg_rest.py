"""An Iceberg catalog that speaks the REST protocol, on loopback: as much of it as registering tables takes.

What it is asked for is done by pyiceberg's catalog in SQLite. It answers nobody without its token.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest

TOKEN = "let-me-in"
_ERRORS = {
    CommitFailedException: (409, "CommitFailedException"),
    NamespaceAlreadyExistsError: (409, "AlreadyExistsException"),
    NoSuchNamespaceError: (404, "NoSuchNamespaceException"),
    NoSuchTableError: (404, "NoSuchTableException"),
    TableAlreadyExistsError: (409, "AlreadyExistsException"),
}


@dataclass
class RestCatalog:
    """Where it is, and what it was asked for."""

    uri: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def rest_catalog(folder: Path) -> Iterator[RestCatalog]:
    """One that keeps its tables in a folder."""
    with closing(SqlCatalog("rest", uri=f"sqlite:///{folder}/rest.db", warehouse=str(folder))) as catalog:
        handler = type("Handler", (_Handler,), {"catalog": catalog})
        with HTTPServer(("127.0.0.1", 0), handler) as server:
            found = RestCatalog(f"http://127.0.0.1:{server.server_address[1]}")
            handler.asked = found.asked
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            try:
                yield found
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    catalog: SqlCatalog
    asked: list[str]

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        self.asked.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": {"message": "who are you?", "type": "NotAuthorizedException", "code": 401}})
            return
        try:
            self._send(200, self._done(self.path.partition("?")[0].split("/")[2:], body))
        except tuple(_ERRORS) as error:
            code, kind = next(one for cause, one in _ERRORS.items() if isinstance(error, cause))
            self._send(code, {"error": {"message": str(error), "type": kind, "code": code}})

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _done(self, path: list[str], body: dict) -> dict:
        match self.command, [unquote(one) for one in path]:
            case "GET", ["config"]:
                return {"defaults": {}, "overrides": {}}
            case "POST", ["namespaces"]:
                self.catalog.create_namespace(tuple(body["namespace"]))
                return {"namespace": body["namespace"], "properties": {}}
            case "GET", ["namespaces", namespace, "tables"]:
                levels = tuple(namespace.split("\x1f"))
                if not self.catalog.namespace_exists(levels):
                    raise NoSuchNamespaceError(namespace)
                listed = self.catalog.list_tables(levels)
                return {"identifiers": [{"namespace": list(one[:-1]), "name": one[-1]} for one in listed]}
            case "POST", ["namespaces", namespace, "tables"]:
                schema = Schema.model_validate(body["schema"])
                name = (*namespace.split("\x1f"), body["name"])
                given = {"location": body.get("location"), "properties": body.get("properties") or {}}
                return self._loaded(self.catalog.create_table(name, schema=schema, **given))
            case command, ["namespaces", namespace, "tables", name]:
                identifier = (*namespace.split("\x1f"), name)
                if command == "DELETE":
                    self.catalog.drop_table(identifier)
                    return {}
                table = self.catalog.load_table(identifier)
                if command == "POST":
                    asked = CommitTableRequest.model_validate(body)
                    self.catalog.commit_table(table, asked.requirements, asked.updates)
                    table = self.catalog.load_table(identifier)
                return self._loaded(table)
        raise NoSuchTableError(f"{self.command} {self.path}")

    def _loaded(self, table) -> dict:
        metadata = json.loads(table.metadata.model_dump_json())
        return {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}

    def _send(self, code: int, document: dict) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
