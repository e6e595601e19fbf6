"""An archive in a store: documents of any size within the limit, and what the store says is not passed on as it is."""

import json
import threading
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import s3fs

from vv_exports.errors import SourceDataError, TransientError
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.sources.archives import RUN, lines, segment, write_run

KIB64 = 64 << 10


@pytest.fixture(autouse=True)
def _asked_where_the_environment_says():
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


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


def test_documents_of_any_size_are_read_from_s3(servers, tmp_path, monkeypatch):
    archive, sizes = tmp_path / "archive", [KIB64 - 1, KIB64, KIB64 + 1, KIB64 + 2, 5 * KIB64]
    for size in sizes:
        padding = "x" * (size - len(json.dumps(RUN | {"run_id": f"{size:06}", "padding": ""})))
        write_run(archive, {"segment_results.jsonl": lines(segment())}, run_id=f"{size:06}", padding=padding)
    server, place = servers.moto, uuid.uuid4().hex
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.put(str(archive), f"bucket/{place}/archive", recursive=True)
    here = LocalArchive(f"s3://bucket/{place}/archive", max_document_bytes=5 * KIB64)
    assert [run.run_id for run in here.prompt_runs("idx_1")] == [f"{size:06}" for size in sizes]
    assert [len(list(here.segment_results(run))) for run in here.prompt_runs("idx_1")] == [1] * len(sizes)
    put_away = {"Bucket": "bucket", "StorageClass": "GLACIER", "Body": b"{}"}
    run = f"{place}/archive/indexes/idx_1/prompt_runs/{KIB64:06}"
    files.call_s3("put_object", Key=f"{run}/segment_results.jsonl", **put_away)
    with pytest.raises(SourceDataError, match=r"segment_results\.jsonl cannot be read: .*Restore it"):
        list(here.segment_results(here.prompt_run("idx_1", f"{KIB64:06}")))
    files.call_s3("put_object", Key=f"{run}/prompt_run.json", **put_away)
    assert "Restore it" in str(here.listing("idx_1").problems[f"{KIB64:06}"])
    files.rm(f"bucket/{run}", recursive=True)
    sizes.remove(KIB64)
    less = LocalArchive(f"s3://bucket/{place}/archive", max_document_bytes=5 * KIB64 - 1).listing("idx_1")
    assert [run.run_id for run in less.runs] == [f"{size:06}" for size in sizes[:-1]]
    assert "found 327,680 bytes, and the limit is 327,679" in str(less.problems[f"{sizes[-1]:06}"])
