"""An archive in a store: what the store says is not passed on as it is."""

import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vv_exports.errors import TransientError
from vv_exports.sources.local_archive import LocalArchive


class _Repeats(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        told = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        body = f"<Error><Code>Odd</Code><Message>{told}\n{'x ' * 1000}</Message></Error>".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nobody asks."""


@pytest.fixture
def store(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Repeats) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "hush-token")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("store")
def test_a_store_that_repeats_the_headers_of_a_request_gives_no_token_away():
    with pytest.raises(TransientError, match=r"s3://bucket/archive/indexes could not be read: .*Odd") as caught:
        LocalArchive("s3://bucket/archive").indexes()
    assert len(str(caught.value)) < 500
    told = "".join(traceback.format_exception(caught.value))
    assert "hush" not in told
    assert "Signature=" not in told
