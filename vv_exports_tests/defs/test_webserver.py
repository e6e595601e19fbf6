"""A webserver that is asked to load the code location again: what is asked, and what its answers come to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate

from vv_exports.defs.webserver import _RELOAD, reload_location
from vv_exports.errors import RequestError, RunFailedError, TransientError


def answer(**reloaded) -> bytes:
    return json.dumps({"data": {"reloadRepositoryLocation": reloaded}}).encode()


LOADED = answer(__typename="WorkspaceLocationEntry", locationOrLoadError={"__typename": "RepositoryLocation"})
BROKEN = answer(
    __typename="WorkspaceLocationEntry", locationOrLoadError={"__typename": "PythonError", "message": "no connector x"}
)
MISSING = answer(__typename="RepositoryLocationNotFound", message="Location vv does not exist.")


class Webserver:
    """Gives one answer to whoever asks, and keeps what was asked."""

    def __init__(self, status: int, said: bytes) -> None:
        asked: list[tuple[str, dict]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *args: object) -> None:
                pass

        self.asked = asked
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_what_is_asked_is_what_dagsters_webserver_knows():
    assert validate(create_schema().graphql_schema, parse(_RELOAD)) == []


def test_a_location_that_is_loaded_again_is_the_end_of_it(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # none leads to this machine
    with Webserver(200, LOADED) as webserver:
        reload_location(webserver.url)
    ((path, body),) = webserver.asked
    assert (path, body["variables"]) == ("/graphql", {"location": "vv_exports"})


@pytest.mark.parametrize(
    ("status", "said", "error", "message"),
    [
        (200, BROKEN, RunFailedError, "which failed: no connector x"),
        (200, MISSING, RequestError, "and refused: Location vv does not exist."),
        (
            200,
            b'{"errors": [{"message": "Cannot query field"}]}',
            RequestError,
            "does not know how: .*Cannot query field",
        ),
        (200, b'{"data": null}', RequestError, "Is it Dagster's"),
        (200, b"<html>", RequestError, "answered no JSON"),
        (200, b"[]", RequestError, "Is it Dagster's"),
        (404, b"not here", RequestError, "answered 404"),
        (502, b"", TransientError, "answered 502"),
    ],
)
def test_any_other_answer_is_told(status, said, error, message):
    with Webserver(status, said) as webserver, pytest.raises(error, match=message):
        reload_location(webserver.url)


def test_where_nobody_answers_another_try_may_help():
    with Webserver(200, LOADED) as webserver:
        pass
    with pytest.raises(TransientError, match=r"does not answer: .*Connection refused"):
        reload_location(webserver.url)
