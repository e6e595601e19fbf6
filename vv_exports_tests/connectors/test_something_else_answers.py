"""What answers is not the store, but a page to log in to a network, or another service at that address."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stamina

from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.connectors.s3 import S3Connector
from vv_exports.errors import OutcomeUnknownError, RequestError, TransientError

PAGE = b"<html><body>Please log in.</body></html>"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"" if self.command == "HEAD" else self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the base class's names

    def log_message(self, *_) -> None:
        """Nobody asks."""


@pytest.fixture(scope="module")
def page():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=["s3", "gcs", "azure"])
def connector(request, page):
    url = f"http://127.0.0.1:{page.server_port}"
    if request.param == "s3":
        made = S3Connector(
            "conn", "bucket", endpoint_url=url, region="us-east-1", path_style=True,
            access_key_id_env="KEY", secret_access_key_env="KEY", environ={"KEY": "key"},
        )  # fmt: skip
    elif request.param == "gcs":
        made = GcsConnector("conn", "bucket", endpoint_url=url, anonymous=True, environ={})
    else:
        made = AzureConnector("conn", "account", "box", endpoint_url=url, account_key_env="K", environ={"K": KEY})
    made._refuses_taken_names = True
    with stamina.set_testing(True, attempts=2, cap=True):
        yield made


@pytest.mark.parametrize("body", [PAGE, b""])
def test_a_page_is_no_empty_listing_no_content_and_no_success(connector, page, body, tmp_path):
    page.status, page.body = 200, body
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * (17 * 2**20))
    for work in (
        lambda: connector.files("a"),
        lambda: connector.read("a"),
        lambda: connector.open("a"),
        lambda: connector.put(tmp_path / "small", "a"),
        lambda: connector.put(tmp_path / "large", "a"),
    ):
        with pytest.raises(TransientError, match="conn: could not "):
            work()
    with pytest.raises((TransientError, OutcomeUnknownError)):
        connector.create("a", b"x")


@pytest.mark.parametrize("status", [400, 404])
def test_a_page_that_refuses_names_the_status_and_the_endpoint(connector, page, status):
    page.status, page.body = status, PAGE
    with pytest.raises(RequestError, match=rf"{status}.*(endpoint_url|configuration)"):
        connector.files("a")
