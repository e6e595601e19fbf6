"""The contract on Azurite, and what an Azure connector does and says when something is wrong."""

import gzip
import hashlib
import http.client
import random
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import azure.core.exceptions as core
import azure.identity
import azure.identity.aio
import pytest
import stamina
from aiohttp import client_exceptions as http_errors
from azure.identity._exceptions import AuthenticationRequiredError, CredentialUnavailableError
from azure.storage.blob import (
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    StorageErrorCode,
    generate_container_sas,
)
from azure.storage.blob._shared.authentication import AzureSigningError
from azure.storage.blob._shared.response_handlers import PartialBatchErrorException

from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.diagnosis import Cause
from vv_exports.errors import CredentialsError, RequestError, TransientError
from vv_exports_tests.connectors.contract import ConnectorContract
from vv_exports_tests.servers.processes import free_ports

LARGE = 33 * 2**20  # three blocks
WRONG_KEY = "bm90LXRoZS1rZXk="


@pytest.fixture(scope="module")
def server(servers):
    return servers.azurite


@pytest.fixture
def quick():
    """As many attempts as ever, and no waiting between them."""
    with stamina.set_testing(True, attempts=4):
        yield


def connector_of(server, base="", container="bucket", **other):
    options = {"account_key_env": "KEY", "endpoint_url": server.endpoint_url, "environ": {"KEY": server.key}, **other}
    return AzureConnector("conn", server.account, container, base, **options)


def anywhere(**options):
    """A connector that is asked for no more than what it makes of errors."""
    return AzureConnector("conn", "account", "bucket", **options)


def container_of(server) -> ContainerClient:
    return ContainerClient(
        server.endpoint_url, "bucket", credential={"account_name": server.account, "account_key": server.key}
    )


def sas_of(server, hours, permission="racwdl"):
    expiry = datetime.now(UTC) + timedelta(hours=hours)
    return generate_container_sas(server.account, "bucket", server.key, permission=permission, expiry=expiry)


class Between:
    """A proxy before a store. ``fault`` sees each request as ``METHOD /path?query`` and its body, and gives None, a
    status to answer with, another body to pass on, or "lost": pass it on, and close without an answer."""

    def __init__(self, store):
        self.requests = []
        self.fault = lambda line, body: None
        self._place = urlsplit(store.endpoint_url)

    def failing(self, pattern, with_, *, times=10**6):
        left = [times]

        def fault(line, body):
            if left[0] and re.search(pattern, line):
                left[0] -= 1
                return with_(body) if callable(with_) else with_
            return None

        self.fault = fault

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        line = f"{handler.command} {handler.path}"
        self.requests.append(line)
        fault = self.fault(line, body)
        if isinstance(fault, int):
            handler.send_response_only(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        store = http.client.HTTPConnection(self._place.netloc, timeout=30)
        store.request(handler.command, handler.path, fault if isinstance(fault, bytes) else body, dict(handler.headers))
        answer = store.getresponse()
        data = answer.read()
        store.close()
        if fault == "lost":
            handler.close_connection = True
            return
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "keep-alive", "content-length"}:
                handler.send_header(name, value)
        is_head = handler.command == "HEAD"
        handler.send_header("Content-Length", answer.getheader("Content-Length") or "0" if is_head else str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextmanager
def between(store) -> Iterator[tuple[Between, SimpleNamespace]]:
    proxy = Between(store)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            proxy.answer(self)

        do_PUT = do_HEAD = do_DELETE = do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.server_port}/{store.account}"
            yield proxy, SimpleNamespace(endpoint_url=url, account=store.account, key=store.key)
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def faulty(server, quick):
    """(proxy, a connector whose requests go through it, one whose requests do not)"""
    base = uuid.uuid4().hex
    with between(server) as (proxy, place):
        through = connector_of(place, base)
        through._refuses_taken_names = True
        yield proxy, through, connector_of(server, base)


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(random.Random(0).randbytes(LARGE))
    return path


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, server):
        return connector_of(server, f"base/{uuid.uuid4().hex}")


# Names and places


def test_without_a_base_path_the_container_is_the_boundary(server):
    whole = connector_of(server)
    key = f"{uuid.uuid4().hex}/a.bin"
    assert whole.create(key, b"x")
    assert key in {one.key for one in whole.files("")}
    assert whole.uri(key) == f"abfss://bucket@devstoreaccount1.dfs.core.windows.net/{key}"
    assert whole.uri("") == "abfss://bucket@devstoreaccount1.dfs.core.windows.net"
    assert connector_of(server, "a/b").uri("c") == "abfss://bucket@devstoreaccount1.dfs.core.windows.net/a/b/c"


def test_a_container_that_does_not_exist_is_named(server):
    gone = connector_of(server, container="no-such-container", environ={"KEY": server.key})
    gone._refuses_taken_names = True
    for work in (
        lambda: gone.create("a", b"x"),
        lambda: gone.files("a"),
        lambda: gone.read("a"),
        lambda: gone.delete(["a"]),
        gone._reached,
    ):
        with pytest.raises(RequestError, match=r"abfss://no-such-container@.* There is no container 'no-such-contain"):
            work()


def test_the_container_is_reached_with_a_token_that_is_for_it_alone(server):
    connector = connector_of(server, "x", account_key_env=None, sas_token_env="SAS", environ={"SAS": sas_of(server, 1)})
    assert [step() for _, step in connector.introduction()] == ["from the environment variable SAS", "bucket is there"]


@pytest.mark.parametrize(
    ("endpoint_url", "decides"),
    [
        (None, True),
        ("https://account.blob.core.windows.net", True),
        ("https://account.blob.core.chinacloudapi.cn", True),
        ("https://account.z12.blob.storage.azure.net", True),
        ("https://blob.core.windows.net.example.com", None),
        ("http://127.0.0.1:10000/account", None),
    ],
)
def test_azure_itself_decides_among_writers(endpoint_url, decides):
    assert anywhere(endpoint_url=endpoint_url)._refuses_taken_names is decides


def test_what_stands_for_a_folder_is_no_file(server):
    base = uuid.uuid4().hex
    with container_of(server) as container:
        container.upload_blob(f"{base}/folder", b"", metadata={"hdi_isfolder": "true"})
        container.upload_blob(f"{base}/other/", b"")
        container.upload_blob(f"{base}/folder/a", b"x", metadata={"other": "true"})
    assert [one.key for one in connector_of(server, base).files("")] == ["folder/a"]


def test_ranges_of_an_empty_blob_and_of_a_short_one(server):
    connector = connector_of(server, uuid.uuid4().hex)
    connector.create("empty", b"")
    connector.create("short", b"0123456789")
    assert connector.read_range("empty", 0, 100) == (b"", 0)
    assert connector.read_range("short", 8, 100) == (b"89", 10)
    with connector.open("empty") as file:
        assert file.read() == b""


def test_bytes_come_as_they_are_stored(server):
    base = uuid.uuid4().hex
    packed = gzip.compress(b"content")
    with container_of(server) as container:
        container.upload_blob(f"{base}/a", packed, content_settings=ContentSettings(content_encoding="gzip"))
    assert connector_of(server, base).read("a") == packed


# Credentials


def test_a_wrong_key_is_told_without_a_secret(server):
    wrong = connector_of(server, environ={"KEY": WRONG_KEY})
    for work in (lambda: wrong.create("a", b"x"), lambda: wrong.files(""), lambda: wrong.read("a")):
        with pytest.raises(CredentialsError, match="The credentials come from the environment variable KEY") as caught:
            work()
        text = str(caught.value)
        assert WRONG_KEY not in text
        assert "\n" not in text
        assert "RequestId" not in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("account_key_env", "AccountName=a;AccountKey=c2VjcmV0c2VjcmV0"),
        ("account_key_env", "c2VjcmV0c2VjcmV0;BlobEndpoint=http://127.0.0.1"),
        ("account_key_env", "c2VjcmV0c2VjcmV0c"),
        ("sas_token_env", "c2VjcmV0c2VjcmV0"),
        ("sas_token_env", "sig=c2VjcmV0c2VjcmV0;BlobEndpoint=http://127.0.0.1"),
        ("connection_string_env", "c2VjcmV0c2VjcmV0"),
        ("connection_string_env", "AccountKey=c2VjcmV0c2VjcmV0"),
        ("connection_string_env", "AccountName=other;AccountKey=c2VjcmV0c2VjcmV0"),
        ("connection_string_env", "BlobEndpoint=https://other.example;AccountName=account;AccountKey=c2VjcmV0c2VjcmV0"),
        ("connection_string_env", "UseDevelopmentStorage=true"),
    ],
)
def test_a_credential_of_another_kind_or_place_is_told(server, variable, value):
    options = {"account_key_env": None, variable: "NAMED", "environ": {"NAMED": value}}
    with pytest.raises(CredentialsError, match="come from the environment variable NAMED") as caught:
        connector_of(server, **options).files("")
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_connection_string_of_the_account_is_taken_where_no_endpoint_is_named():
    connector = anywhere(
        connection_string_env="NAMED", environ={"NAMED": f"AccountName=account;AccountKey={WRONG_KEY}"}
    )
    assert connector.file_system().service_client.primary_hostname == "account.blob.core.windows.net"


def test_a_credential_that_is_not_set_is_named_before_anything_is_asked(server):
    with pytest.raises(CredentialsError, match="the environment variable KEY is not set"):
        connector_of(server, environ={}).read("a")


def named_credentials(server):
    string = f"AccountName={server.account};AccountKey={server.key};BlobEndpoint={server.endpoint_url}"
    yield "account_key_env", server.key
    yield "connection_string_env", string
    yield "sas_token_env", sas_of(server, 1)
    yield "sas_token_env", f"?{sas_of(server, 1)}"


def test_a_named_credential_is_used_and_nothing_of_the_environment(server, monkeypatch):
    for name in ("CONNECTION_STRING", "ACCOUNT_KEY", "SAS_TOKEN", "ACCOUNT_NAME", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"AZURE_STORAGE_{name}", f"AccountName=other;AccountKey={WRONG_KEY}")
    monkeypatch.setenv("AZURE_STORAGE_ANON", "true")
    for variable, value in named_credentials(server):
        options = {"account_key_env": None, variable: "NAMED", "environ": {"NAMED": value}}
        connector = connector_of(server, uuid.uuid4().hex, **options)
        assert connector.create("a", b"x")
        assert connector.read("a") == b"x"
        assert connector.file_system().account_key is None


def test_a_connection_string_of_the_environment_does_not_lead_to_another_account(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=other;AccountKey={WRONG_KEY}")
    with pytest.raises(CredentialsError, match=r"leads to other\.blob\.core\.windows\.net, and the configuration says"):
        anywhere().files("")


def test_no_credentials_at_all_are_told(server, monkeypatch):
    # This one of the default ones asks nobody.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for work in (lambda it: it.create("a", b"x"), lambda it: it.introduction()[0][1]()):
        with pytest.raises(CredentialsError, match="come from where Azure's libraries look for them"):
            work(anywhere())
    with pytest.raises(CredentialsError, match="which has no TLS"):
        connector_of(server, account_key_env=None).create("a", b"x")


def test_a_sas_token_whose_time_is_over_is_told_without_it(server):
    token = sas_of(server, -1)
    over = connector_of(server, account_key_env=None, sas_token_env="SAS", environ={"SAS": token})
    with pytest.raises(CredentialsError, match="environment variable SAS") as caught:
        over.create("a", b"x")
    assert parse_qs(token)["sig"][0][:10] not in str(caught.value)
    assert "sig=" not in str(caught.value)


def test_what_may_not_be_written_is_told(server):
    options = {"account_key_env": None, "sas_token_env": "SAS", "environ": {"SAS": sas_of(server, 1, "rl")}}
    reader = connector_of(server, uuid.uuid4().hex, **options)
    assert reader.files("nothing") == []
    with pytest.raises(RequestError, match=r"AuthorizationPermissionMismatch.* may not do this"):
        reader.create("a", b"x")


# Faults


def test_a_store_out_of_reach_is_transient(quick):
    (port,) = free_ports(1)
    away = AzureConnector(
        "conn", "account", "bucket", endpoint_url=f"http://127.0.0.1:{port}/account", account_key_env="KEY",
        environ={"KEY": WRONG_KEY},
    )  # fmt: skip
    with pytest.raises(TransientError, match="out of reach"):
        away.files("a")


def test_each_call_is_one_request_and_the_sdk_retries_nothing(faulty, large, tmp_path):
    proxy, through, _ = faulty
    small = tmp_path / "small"
    small.write_bytes(b"x" * 2**21)
    proxy.fault = lambda line, body: 503
    calls = [
        lambda: through.put(small, "a"),
        lambda: through.create("a", b"x"),
        lambda: through.read("a"),
        lambda: through.read_range("a", 0, 5),
        lambda: through.files(""),
        lambda: through.delete(["a"]),
        through._reached,
    ]
    with stamina.set_testing(True, attempts=1):
        for call in calls:
            proxy.requests.clear()
            with pytest.raises(TransientError, match="busy"):
                call()
            assert len(proxy.requests) == 1
        proxy.requests.clear()
        with pytest.raises(TransientError, match="busy"):
            through.put(large, "large")
        assert 1 <= len(proxy.requests) <= 3, "one for each block that was begun"
        assert all("comp=block&" in line for line in proxy.requests)
    with pytest.raises(TransientError, match="busy"):
        through.read("tried-again")
    assert len([line for line in proxy.requests if "tried-again" in line]) == 4, "ours"


def test_a_small_upload_is_one_request(faulty):
    proxy, through, _ = faulty
    through.file_system()
    assert through.create("a", b"x" * 2**21)
    assert [line.split()[0] for line in proxy.requests] == ["PUT"]
    assert not through.create("a", b"y")
    assert [line.split()[0] for line in proxy.requests] == ["PUT", "PUT", "GET"], "who won is looked up"
    assert not any("comp=" in line for line in proxy.requests)


def test_a_listing_that_fails_once_is_complete(faulty):
    proxy, through, direct = faulty
    direct.create("a", b"x")
    proxy.failing("comp=list", 500, times=1)
    assert [one.key for one in through.files("")] == ["a"]


def test_a_lost_answer_to_a_create_is_found_out(faulty):
    proxy, through, direct = faulty
    proxy.failing("PUT .*/a$", "lost", times=1)
    assert through.create("a", b"x")
    assert direct.read("a") == b"x"


def test_a_damaged_upload_is_refused_and_sent_again(faulty, tmp_path):
    proxy, through, direct = faulty
    proxy.failing("PUT", lambda body: b"y" * len(body), times=1)
    assert through.create("a", b"x" * 10)
    assert direct.read("a") == b"x" * 10
    proxy.failing("PUT", lambda body: b"y" * len(body))
    path = tmp_path / "b"
    path.write_bytes(b"x")
    with pytest.raises(TransientError, match="Md5Mismatch"):
        through.put(path, "b")
    assert direct.read("b") is None


def test_a_file_that_is_not_what_was_hashed_is_not_sent(server, tmp_path):
    connector = connector_of(server, uuid.uuid4().hex)
    path = tmp_path / "a"
    path.write_bytes(b"changed")
    with pytest.raises(TransientError, match="is not what was hashed"):
        connector.put(path, "a", sha256=hashlib.sha256(b"content").hexdigest())
    assert connector.read("a") is None
    connector.put(path, "a", sha256=hashlib.sha256(b"changed").hexdigest())
    assert connector.read("a") == b"changed"


def test_a_block_that_fails_once_is_sent_again_and_the_md5_is_kept(faulty, large, server):
    proxy, through, direct = faulty
    proxy.failing("comp=block&", "lost", times=1)
    through.put(large, "large")
    assert len([line for line in proxy.requests if "comp=block&" in line]) == 4
    direct.create("small", b"x")
    assert [(one.key, one.size) for one in direct.files("")] == [("large", LARGE), ("small", 1)]
    with direct.open("large") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(large.read_bytes()).digest()
    with container_of(server) as container:
        for name, content in (("large", large.read_bytes()), ("small", b"x")):
            there = container.get_blob_client(f"{direct.prefix}{name}").get_blob_properties()
            assert there.content_settings.content_md5 == hashlib.md5(content).digest()


def test_a_block_that_fails_for_good_leaves_nothing_visible(faulty, large):
    proxy, through, direct = faulty
    proxy.failing("comp=block&", 500)
    with pytest.raises(TransientError, match="could not write"):
        through.put(large, "large")
    assert not any("comp=blocklist" in line for line in proxy.requests)
    assert direct.files("") == []
    assert direct.read("large") is None
    assert direct.unfinished("") == []


def test_a_commit_whose_answer_is_lost_is_committed(faulty, large):
    proxy, through, direct = faulty
    proxy.failing("comp=blocklist", "lost", times=1)
    through.put(large, "large")
    assert [one.size for one in direct.files("")] == [LARGE]


@pytest.mark.parametrize("same", [True, False])
def test_another_writers_commit_of_the_same_content_is_as_good(faulty, large, tmp_path, same):
    proxy, through, direct = faulty
    other = tmp_path / "other"
    other.write_bytes(large.read_bytes() if same else b"z" * LARGE)
    waiting = [other]

    def meanwhile(line, body):
        if "comp=blocklist" in line and waiting:
            direct.put(waiting.pop(), "large")

    # From a thread of the proxy: the connectors' own waits for its answer.
    proxy.fault = lambda line, body: apart(meanwhile, line, body)
    if same:
        through.put(large, "large")
    else:
        with pytest.raises(TransientError, match="InvalidBlockList"):
            through.put(large, "large")
    with direct.open("large") as file:
        assert hashlib.file_digest(file, "md5").digest() == hashlib.md5(other.read_bytes()).digest()


def apart(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()


# What errors mean

RESPONSE = SimpleNamespace(request="GET", status_code=200, reason="OK", headers={}, text=lambda: "", body=lambda: b"")
KEY = aiohttp.client_reqrep.ConnectionKey("host", 443, True, None, None, None, None)
REQUEST = aiohttp.RequestInfo(
    aiohttp.client.URL("http://host/?sig=secret"), "GET", {}, aiohttp.client.URL("http://host")
)

MEANINGS = {
    core.AzureError: (Cause.INTERRUPTED, ("said",)),
    core.ServiceRequestError: (Cause.UNREACHABLE, ("said",)),
    core.ServiceRequestTimeoutError: (Cause.UNREACHABLE, ("said",)),
    core.ServiceResponseError: (Cause.INTERRUPTED, ("said",)),
    core.ServiceResponseTimeoutError: (Cause.TIMEOUT, ("said",)),
    core.HttpResponseError: (Cause.REFUSED, ("said",)),
    core.DecodeError: (Cause.INTERRUPTED, ("said", RESPONSE)),
    core.IncompleteReadError: (Cause.INTERRUPTED, ("said", RESPONSE)),
    core.ResourceExistsError: (Cause.TAKEN, ("said",)),
    core.ResourceNotFoundError: (Cause.NO_OBJECT, ("said",)),
    core.ResourceModifiedError: (Cause.TAKEN, ("said",)),
    core.ResourceNotModifiedError: (Cause.REFUSED, ("said",)),
    core.ClientAuthenticationError: (Cause.CREDENTIALS, ("said",)),
    core.TooManyRedirectsError: (Cause.REFUSED, ([],)),
    core.ODataV4Error: (Cause.REFUSED, (RESPONSE,)),
    core.StreamConsumedError: (Cause.INTERRUPTED, (RESPONSE,)),
    core.StreamClosedError: (Cause.INTERRUPTED, (RESPONSE,)),
    core.ResponseNotReadError: (Cause.INTERRUPTED, (RESPONSE,)),
    CredentialUnavailableError: (Cause.CREDENTIALS, ("said",)),
    AuthenticationRequiredError: (Cause.CREDENTIALS, (["scope"],)),
    AzureSigningError: (Cause.CREDENTIALS, ("said",)),
    PartialBatchErrorException: (Cause.REFUSED, ("said", RESPONSE, [])),
    http_errors.ClientError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ClientConnectionError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ClientConnectionResetError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ClientOSError: (Cause.INTERRUPTED, (104, "said")),
    http_errors.ClientConnectorError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.ClientConnectorDNSError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.ClientConnectorSSLError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.ClientSSLError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.ClientProxyConnectionError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.ClientConnectorCertificateError: (Cause.UNREACHABLE, (KEY, OSError(1, "said"))),
    http_errors.UnixClientConnectorError: (Cause.UNREACHABLE, ("/path", KEY, OSError(1, "said"))),
    http_errors.ClientPayloadError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ClientResponseError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.ClientHttpProxyError: (Cause.UNREACHABLE, (REQUEST, ())),
    http_errors.ContentTypeError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.WSServerHandshakeError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.TooManyRedirects: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.InvalidURL: (Cause.REFUSED, ("said",)),
    http_errors.InvalidUrlClientError: (Cause.REFUSED, ("said",)),
    http_errors.InvalidUrlRedirectClientError: (Cause.REFUSED, ("said",)),
    http_errors.NonHttpUrlClientError: (Cause.REFUSED, ("said",)),
    http_errors.NonHttpUrlRedirectClientError: (Cause.REFUSED, ("said",)),
    http_errors.RedirectClientError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ServerConnectionError: (Cause.INTERRUPTED, ("said",)),
    http_errors.ServerDisconnectedError: (Cause.INTERRUPTED, ()),
    http_errors.ServerFingerprintMismatch: (Cause.INTERRUPTED, (b"a", b"b", "host", 443)),
    http_errors.ServerTimeoutError: (Cause.TIMEOUT, ("said",)),
    http_errors.ConnectionTimeoutError: (Cause.UNREACHABLE, ("said",)),
    http_errors.SocketTimeoutError: (Cause.TIMEOUT, ("said",)),
    core.SerializationError: (Cause.REFUSED, ("said",)),
    core.DeserializationError: (Cause.INTERRUPTED, ("said",)),
    TimeoutError: (Cause.TIMEOUT, ()),
    ConnectionRefusedError: (Cause.UNREACHABLE, ()),
    ConnectionResetError: (Cause.INTERRUPTED, ()),
    OSError: (Cause.INTERRUPTED, ()),
}
# Later versions of aiohttp have it; this one may not.
if upload_aborted := getattr(http_errors, "UploadAbortedError", None):
    MEANINGS[upload_aborted] = (Cause.INTERRUPTED, ("said",))


def kinds_below(kind):
    for one in kind.__subclasses__():
        yield one
        yield from kinds_below(one)


def test_every_error_of_the_sdk_has_a_meaning():
    found = {one for kind in AzureConnector.sdk_errors for one in (kind, *kinds_below(kind))}
    ours = {one for one in found if one.__module__.split(".")[0] in {"azure", "aiohttp", "adlfs"}}
    assert {azure.identity.CredentialUnavailableError, azure.identity.AuthenticationRequiredError} <= ours
    assert sorted(map(repr, ours - MEANINGS.keys())) == []


@pytest.mark.parametrize(("kind", "meaning"), MEANINGS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_an_error_means(kind, meaning):
    cause, arguments = meaning
    error = kind(*arguments)
    diagnosis = anywhere().diagnosed(error)
    assert (diagnosis.cause, diagnosis.code) == (cause, kind.__name__)
    assert "secret" not in diagnosis.said
    if issubclass(kind, http_errors.ClientError):
        # What the transport makes of it says less, and sometimes what is not so.
        assert anywhere().diagnosed(core.ServiceRequestError(error, error=error)).cause is cause


def answered(status, code=None, message="said", kind=core.HttpResponseError):
    response = SimpleNamespace(status_code=status, reason="reason", headers={}, text=lambda: "")
    error = kind(message, response)
    error.error_code = code
    return error


CODES = {
    "AuthenticationFailed": (403, Cause.CREDENTIALS),
    "InvalidAuthenticationInfo": (400, Cause.CREDENTIALS),
    "NoAuthenticationInformation": (401, Cause.CREDENTIALS),
    "KeyBasedAuthenticationNotPermitted": (403, Cause.CREDENTIALS),
    "PublicAccessNotPermitted": (409, Cause.CREDENTIALS),
    "AuthorizationFailure": (403, Cause.FORBIDDEN),
    "AuthorizationPermissionMismatch": (403, Cause.FORBIDDEN),
    "AuthorizationSourceIPMismatch": (403, Cause.FORBIDDEN),
    "InsufficientAccountPermissions": (403, Cause.FORBIDDEN),
    "AccountIsDisabled": (403, Cause.FORBIDDEN),
    "UnauthorizedBlobOverwrite": (403, Cause.FORBIDDEN),
    "ContainerNotFound": (404, Cause.NO_BUCKET),
    "ContainerBeingDeleted": (409, Cause.NO_BUCKET),
    "BlobNotFound": (404, Cause.NO_OBJECT),
    "ResourceNotFound": (404, Cause.NO_OBJECT),
    "BlobAlreadyExists": (409, Cause.TAKEN),
    "ConditionNotMet": (412, Cause.TAKEN),
    "ServerBusy": (503, Cause.THROTTLED),
    "OperationTimedOut": (500, Cause.INTERRUPTED),
    "InternalError": (500, Cause.INTERRUPTED),
    "Md5Mismatch": (400, Cause.INTERRUPTED),
    "InvalidBlockList": (400, Cause.INTERRUPTED),
    # The same statuses, and no answer to whether a name is taken
    "LeaseIdMissing": (412, Cause.REFUSED),
    "LeaseIdMismatchWithBlobOperation": (409, Cause.REFUSED),
    "SnapshotsPresent": (409, Cause.REFUSED),
    "BlobImmutableDueToPolicy": (409, Cause.REFUSED),
    "BlobArchived": (409, Cause.REFUSED),
    "InvalidResourceName": (400, Cause.REFUSED),
    "RequestBodyTooLarge": (413, Cause.REFUSED),
}


@pytest.mark.parametrize(("code", "meaning"), CODES.items())
def test_what_a_code_means(code, meaning):
    status, cause = meaning
    for kind in (core.HttpResponseError, core.ResourceExistsError, core.ResourceNotFoundError):
        assert anywhere().diagnosed(answered(status, code, kind=kind)).cause is cause
    if code in {one.value for one in StorageErrorCode}:
        diagnosis = anywhere().diagnosed(answered(status, StorageErrorCode(code)))
        assert (diagnosis.cause, diagnosis.code) == (cause, code)


def test_what_a_status_means_where_there_is_no_code():
    meanings = {
        **dict.fromkeys((401,), Cause.CREDENTIALS),
        **dict.fromkeys((403,), Cause.FORBIDDEN),
        **dict.fromkeys((404,), Cause.NO_OBJECT),
        **dict.fromkeys((412,), Cause.TAKEN),
        **dict.fromkeys((429, 503), Cause.THROTTLED),
        **dict.fromkeys((408, 500, 502, 504, 507), Cause.INTERRUPTED),
        **dict.fromkeys((400, 405, 409, 411, 413, 416), Cause.REFUSED),
    }
    for status, cause in meanings.items():
        diagnosis = anywhere().diagnosed(answered(status))
        assert (diagnosis.cause, diagnosis.code) == (cause, str(status))
    refused_token = answered(400, kind=core.ClientAuthenticationError)
    assert anywhere().diagnosed(refused_token).cause is Cause.CREDENTIALS
    assert anywhere().diagnosed(answered(503, kind=core.ClientAuthenticationError)).cause is Cause.THROTTLED


def test_a_download_that_the_sdk_gave_up_is_an_interruption():
    cut = core.IncompleteReadError("cut", RESPONSE, error=http_errors.ClientPayloadError("cut"))
    assert anywhere().diagnosed(core.HttpResponseError(cut, error=cut)).cause is Cause.INTERRUPTED


@pytest.mark.parametrize(
    "message",
    [
        "Cannot connect to https://account.blob.core.windows.net/c/b?se=2026&sig=c2VjcmV0%3D&sp=r",
        "AccountName=a;AccountKey=c2VjcmV0;",
        "Authorization: SharedKey account:c2VjcmV0= was wrong",
        "Authorization: Bearer c2VjcmV0.c2VjcmV0 was wrong",
        "the key c2VjcmV0c2VjcmV0 was wrong",
        "Server failed.\nRequestId:1\nThe MAC signature c2VjcmV0 is not what was computed, 'GET\n\nx-ms-date'",
    ],
)
def test_no_secret_gets_into_what_is_said(message):
    connector = anywhere(account_key_env="KEY", environ={"KEY": "c2VjcmV0c2VjcmV0"})
    connector.file_system()
    said = connector.diagnosed(answered(400, "Any", message)).said
    assert said
    assert "c2VjcmV0" not in said
    assert "\n" not in said


def test_the_service_client_is_the_accounts_own(server):
    """As the SDK reads a connection string, so that a new version that reads it otherwise is noticed."""
    string = f"BlobEndpoint={server.endpoint_url};AccountName={server.account};AccountKey={server.key}"
    with BlobServiceClient.from_connection_string(string) as client:
        assert f"http://{client.primary_hostname}" == server.endpoint_url
