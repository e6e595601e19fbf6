"""The contract on fake-gcs-server, and what a GCS connector does and says when something is wrong."""

import asyncio
import base64
import gzip
import json
import logging
import random
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import quote

import aiohttp
import google.auth.exceptions as auth
import google_crc32c
import pytest
import requests.exceptions
import stamina
from aiohttp import client_exceptions as http_errors
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcsfs.retry import ChecksumError, HttpError, NonRetryableError

from vv_exports.connectors import gcs as connector_module
from vv_exports.connectors import object_store
from vv_exports.connectors.diagnosis import Cause
from vv_exports.connectors.gcs import GcsConnector, _RefusedError
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.verify import verify
from vv_exports.errors import CredentialsError, RequestError, TransientError
from vv_exports_tests.archives import write_run
from vv_exports_tests.connectors.contract import ConnectorContract
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.servers.gcs import gcs
from vv_exports_tests.servers.processes import free_ports

LARGE = 36 * 2**20  # three chunks, the last of them 4 MiB
CHUNK = r"^PUT .*upload_id="


@pytest.fixture(scope="module")
def plain(servers):
    return servers.fake_gcs


@pytest.fixture(scope="module")
def server(plain):
    with gcs(plain) as running:
        yield running


@pytest.fixture(scope="module")
def careless(plain):
    with gcs(plain, decides=False) as running:
        yield running


@pytest.fixture
def faulty(server):
    """A server to fail. As many attempts as ever, and no waiting between them."""
    server.mended()
    with stamina.set_testing(True, attempts=4):
        yield server
    server.mended()


def connector_of(server, base="", **other):
    options = {"anonymous": True, "environ": {}, "endpoint_url": server.endpoint_url, **other}
    return GcsConnector("conn", options.pop("bucket", "bucket"), base, **options)


def in_use(server, **other):
    """A connector of a folder of its own, of which it is known that the store decides among writers."""
    connector = connector_of(server, uuid.uuid4().hex, **other)
    connector._refuses_taken_names = True
    return connector


def anywhere(**options):
    """A connector that is asked for no more than what it makes of errors."""
    return GcsConnector("conn", "bucket", environ={}, **options)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(random.Random(0).randbytes(LARGE))
    return path


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, server):
        server.mended()
        connector = connector_of(server, f"base/{uuid.uuid4().hex}")
        yield connector
        connector.delete([one.key for one in connector.files("")])  # the server keeps everything in memory


# Names and places


def test_without_a_base_path_the_bucket_is_the_boundary(server):
    whole = connector_of(server)
    key = f"{uuid.uuid4().hex}/a.bin"
    assert whole.create(key, b"x")
    assert key in {one.key for one in whole.files("")}
    assert whole.uri(key) == f"gs://bucket/{key}"
    assert whole.uri("") == "gs://bucket"


def test_a_bucket_that_does_not_exist_is_named(server, tmp_path, large):
    gone = in_use(server, bucket="no-such-bucket")
    for work in (
        lambda: gone.create("a", b"x"),
        lambda: gone.put(large, "a"),
        lambda: gone.files("a"),
        lambda: gone.read("a"),
        lambda: gone.delete(["a"]),
        gone._reached,
    ):
        with pytest.raises(RequestError, match=r"^conn: could not \w+ gs://no-such-.* There is no bucket 'no-such-bu"):
            work()


def test_the_bucket_is_reached(server):
    steps = connector_of(server).introduction()
    assert [step() for _, step in steps] == ["from nowhere, as anonymous says", "bucket is there"]


@pytest.mark.parametrize(
    ("endpoint_url", "emulator", "decides"),
    [
        (None, "", True),
        (None, "default", True),
        ("https://storage.googleapis.com", "", True),
        ("https://storage-own.p.googleapis.com", "", True),
        ("https://googleapis.com.example.com", "", None),
        ("http://127.0.0.1:4443", "", None),
        (None, "127.0.0.1:4443", None),
        (None, "http://127.0.0.1:4443", None),
    ],
)
def test_google_itself_decides_among_writers(endpoint_url, emulator, decides):
    connector = GcsConnector("c", "bucket", endpoint_url=endpoint_url, environ={"STORAGE_EMULATOR_HOST": emulator})
    assert connector._refuses_taken_names is decides
    if emulator.endswith("4443"):
        assert connector.address == "http://127.0.0.1:4443 gs://bucket"


def test_what_stands_for_a_folder_is_no_file(server):
    connector = in_use(server)
    asyncio.run_coroutine_threadsafe(
        connector.upload(f"{connector.prefix}folder/", b"", only_new=False, sha256=None), connector.file_system().loop
    ).result(10)
    connector.create("folder/a", b"x")
    assert [one.key for one in connector.files("")] == ["folder/a"]


def test_ranges_of_an_empty_object_and_of_a_short_one(server):
    connector = in_use(server)
    connector.create("empty", b"")
    connector.create("short", b"0123456789")
    assert connector.read_range("empty", 0, 100) == (b"", 0)
    assert connector.read_range("short", 8, 100) == (b"89", 10)
    with connector.open("empty") as file:
        assert file.read() == b""


def test_bytes_come_as_they_are_stored(server):
    connector = in_use(server)
    packed = gzip.compress(b"content" * 100)
    metadata = {"name": f"{connector.prefix}a", "contentEncoding": "gzip"}
    content_type, body = connector_module._multipart(metadata, packed)
    url = f"{server.endpoint_url}/upload/storage/v1/b/bucket/o?uploadType=multipart"
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": content_type})) as answer:
        assert answer.status == 200
    assert connector.read("a") == packed
    assert connector.read_range("a", 0, 2) == (packed[:2], len(packed))


# Stores that ignore the condition


def test_a_store_that_does_not_decide_among_writers_is_found_out(careless, plain, server):
    assert not connector_of(careless, uuid.uuid4().hex).decides_among_writers()
    assert connector_of(plain, uuid.uuid4().hex).decides_among_writers()
    assert connector_of(server, uuid.uuid4().hex).decides_among_writers()


def test_one_writer_creates_where_the_store_does_not_decide(careless):
    connector = connector_of(careless, uuid.uuid4().hex)
    assert connector.create("a", b"first")
    assert not connector.create("a", b"second")
    assert connector.read("a") == b"first"
    assert connector.read("b") is None


def test_an_automation_delivers_to_a_bucket_and_verify_reads_it_back(careless, tmp_path):
    base = uuid.uuid4().hex
    place = {"provider": "gcs", "bucket": "bucket", "endpoint_url": careless.endpoint_url, "anonymous": True}
    connectors = {"conn_export": {**place, "export_base_path": base, "scopes": ["export"]}}
    for number in range(3):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")
    client = client_of(tmp_path, {**CONFIG, "connectors": connectors})
    outcome = client.automations.run("idx", "team")
    assert outcome.delivered == ("run_0", "run_1", "run_2")
    assert outcome.destination_uri == f"gs://bucket/{base}/exports/team"
    connector = client.pipeline.connectors["conn_export"]
    before = connector.files("")
    assert client.automations.run("idx", "team").delivered == ()
    assert connector.files("") == before
    assert verify(Destination(connector, "exports/team")).problems == ()


# Uploads


def test_a_corrupted_upload_is_refused(server, tmp_path, monkeypatch):
    """fake-gcs-server compares nothing, and says what it stored, which is compared here."""
    connector = in_use(server)
    path = tmp_path / "a"
    path.write_bytes(b"content")
    whole = connector_module._multipart
    monkeypatch.setattr(connector_module, "_multipart", lambda metadata, data: whole(metadata, data[:-1] + b"?"))
    with pytest.raises(TransientError, match=r"the store has 7 bytes with CRC32C \S+ where 7 with \S+ were sent"):
        connector.put(path, "a")
    monkeypatch.setattr(connector_module, "_multipart", lambda metadata, data: whole(metadata, data[:-1]))
    with pytest.raises(TransientError, match="the store has 6 bytes"):
        connector.put(path, "a")


def test_a_corrupted_upload_in_chunks_is_refused(server, large, monkeypatch):
    connector = in_use(server)
    monkeypatch.setattr(connector_module, "read_at", lambda local, start, length: bytes(min(length, LARGE - start)))
    with pytest.raises(TransientError, match=f"the store has {LARGE} bytes with CRC32C"):
        connector.put(large, "a")


def test_what_the_store_is_told_to_compare_is_the_checksum_of_the_content(faulty, tmp_path, large):
    bodies = []
    faulty.fault = lambda line, body: bodies.append(body) if line.startswith("POST") else None
    connector = in_use(faulty)
    connector.put(large, "large")
    connector.create("small", b"content")
    metadata = [json.loads(bodies[0]), json.loads(bodies[1].split(b"\r\n\r\n")[1].split(b"\r\n")[0])]
    for told, content in zip(metadata, (large.read_bytes(), b"content"), strict=True):
        assert base64.b64decode(told["crc32c"]) == google_crc32c.value(content).to_bytes(4, "big")


def test_a_checksum_that_the_store_refuses_may_pass():
    message = 'Provided CRC32C "AAAAAA==" doesn\'t match calculated CRC32C "Ya91Mw==".'
    assert anywhere().diagnosed(_RefusedError(400, "invalid", message)).cause is Cause.INTERRUPTED


def test_content_that_was_damaged_on_the_way_is_read_again(faulty):
    connector = in_use(faulty)
    connector.create("a", b"content")
    real, damaged = connector_module._check_fetched, []

    def once(answer):
        damaged.append(answer)
        real(connector_module._Answer(200, answer.headers, b"c0ntent") if len(damaged) == 1 else answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector_module, "_check_fetched", once)
        assert connector.read("a") == b"content"
    assert len(damaged) == 2


@pytest.mark.parametrize("fault", [503, 408, "lost", "half"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_an_upload_goes_on_where_a_chunk_failed(faulty, large, fault, chunk):
    connector = in_use(faulty)
    sizes = [16 * 2**20, 16 * 2**20, 4 * 2**20]
    starts = [0, 16 * 2**20, 32 * 2**20]
    seen = []

    def at_chunk(line, body):
        if not line.startswith("PUT") or not body:
            return None
        seen.append(body)
        return fault if len(seen) == chunk + 1 else None

    faulty.fault = at_chunk
    connector.put(large, "a")
    with connector.open("a") as file:
        assert file.read() == large.read_bytes()
    ranges = [sent["Content-Range"] for line, sent in faulty.requests if line.startswith("PUT")]
    kept = {"lost": sizes[chunk], "half": sizes[chunk] // 2}.get(fault, 0)
    goes_on = starts[chunk] + kept
    later = range(goes_on, LARGE, sizes[0])
    expected = [
        *(
            f"bytes {start}-{start + size - 1}/{LARGE}"
            for start, size in list(zip(starts, sizes, strict=True))[: chunk + 1]
        ),
        f"bytes */{LARGE}",
        *(f"bytes {start}-{min(start + sizes[0], LARGE) - 1}/{LARGE}" for start in later),
    ]
    assert ranges == expected, "it was asked once how far it is, and went on there"
    connector.delete(["a"])


def test_there_is_no_part_of_an_upload_that_failed(faulty, large):
    connector = in_use(faulty)
    faulty.failing(rf"{CHUNK}", 503)
    with pytest.raises(TransientError, match="The store is busy"):
        connector.put(large, "a")
    sent = [line for line, _ in faulty.requests if line.startswith("PUT")]
    assert len(sent) == 4, "no more attempts than others have"
    assert faulty.requests[-1][0].startswith("DELETE /upload/")
    faulty.mended()
    assert connector.files("") == []
    assert connector.read("a") is None


def test_an_upload_that_the_store_has_forgotten_may_pass(faulty, large):
    connector = in_use(faulty)
    faulty.failing(CHUNK, 404)
    with pytest.raises(TransientError, match="the store no longer knows of this upload"):
        connector.put(large, "a")


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_an_upload_that_the_store_forgets_once_begins_anew(faulty, tmp_path, monkeypatch, status, chunk):
    monkeypatch.setattr(connector_module, "_CHUNK", 2**18)
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 1000)
    connector = in_use(faulty)
    path = tmp_path / "three chunks"
    path.write_bytes(bytes(range(256)) * 2400)
    left = [status]

    def forgetful(line, body):
        place = faulty.requests[-1][1].get("Content-Range", "")
        return left.pop() if left and place.startswith(f"bytes {chunk * 2**18}-") else None

    faulty.fault = forgetful
    connector.put(path, "a")
    assert not left
    assert len([line for line, _ in faulty.requests if line.startswith("POST") and "uploadType=resumable" in line]) == 2
    assert connector.read("a") == path.read_bytes()
    connector.delete(["a"])


@pytest.mark.parametrize("said", ["{}", '{"size": "1"}', '{"crc32c": "kG5Jnw=="}'])
def test_a_success_that_does_not_say_what_is_stored_is_none(faulty, tmp_path, said):
    (tmp_path / "small").write_bytes(b"x")
    faulty.failing("^POST .*uploadType=multipart", (200, said))
    with pytest.raises(TransientError, match=r"its answer has no (size|crc32c)"):
        in_use(faulty).put(tmp_path / "small", "a")


def test_an_upload_that_does_not_move_on_is_given_up(faulty, large):
    connector = in_use(faulty)
    faulty.failing(CHUNK, 308)
    with pytest.raises(TransientError, match=f"the store keeps 0 bytes of {LARGE}"):
        connector.put(large, "a")


def test_the_address_of_an_upload_is_told_to_nobody(faulty, large, caplog):
    caplog.set_level(logging.DEBUG)
    faulty.failing(CHUNK, "lost")
    with pytest.raises(TransientError) as caught:
        in_use(faulty).put(large, "a")
    assert "upload_id" not in str(caught.value)
    assert "upload_id" not in "".join(record.getMessage() for record in caplog.records if "vv_exp" in record.name)


def test_a_creation_whose_answer_was_lost_is_known_again(faulty):
    connector = in_use(faulty)
    faulty.failing(r"^POST .*ifGenerationMatch=0", "lost", times=1)
    assert connector.create("a", b"ours")
    assert connector.read("a") == b"ours"


def test_what_may_pass_is_tried_four_times(faulty):
    connector = in_use(faulty)
    faulty.failing("^GET", 503)
    with pytest.raises(TransientError, match="try again later"):
        connector.files("")
    assert len(faulty.requests) == 4


def test_deleting_goes_on_past_what_is_gone_and_tells_what_fails(faulty):
    connector = in_use(faulty)
    for number in range(20):
        connector.create(f"{number:02}", b"x")
    faulty.failing(
        f"^DELETE .*{quote('/', safe='')}07$", (403, refusal("forbidden", "no storage.objects.delete access"))
    )
    with pytest.raises(RequestError, match=r"could not delete .*no storage\.objects\.delete access"):
        connector.delete(["never", *(f"{number:02}" for number in range(20))])
    faulty.mended()
    connector.delete(["never", *(f"{number:02}" for number in range(20))])
    assert connector.files("") == []


# Credentials


def refusal(reason, message):
    return json.dumps({"error": {"code": 0, "message": message, "errors": [{"reason": reason}]}})


@pytest.fixture(scope="module")
def private_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def key_file(faulty, private_key, tmp_path):
    """The path of a key file whose tokens are had at the server itself."""
    info = {
        "type": "service_account",
        "client_email": "exports@project.iam.gserviceaccount.com",
        "private_key": private_key,
        "private_key_id": "1",
        "token_uri": f"{faulty.endpoint_url}/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(info))
    return path


def named(server, path):
    return in_use(server, anonymous=False, credentials_file_env="KEY_FILE", environ={"KEY_FILE": str(path)})


def test_a_named_key_file_is_used_and_its_token_renewed(faulty, key_file):
    given = []

    def token(line, body):
        if not line.startswith("POST /token"):
            return None
        given.append(f"token-{len(given)}")
        return 200, json.dumps({"access_token": given[-1], "expires_in": 3600})

    faulty.fault = token
    connector = named(faulty, key_file)
    assert connector._resolved_credentials().endswith("KEY_FILE names: exports@project.iam.gserviceaccount.com")
    assert connector.create("a", b"x")
    assert connector.read("a") == b"x"
    soon = datetime.now(UTC) + timedelta(seconds=10)
    connector.file_system().credentials.credentials.expiry = soon.replace(tzinfo=None)
    assert connector.read("a") == b"x"
    sent = [headers.get("Authorization") for line, headers in faulty.requests if "/token" not in line]
    assert sent == ["Bearer token-0", "Bearer token-0", "Bearer token-1"]


def test_a_key_that_is_not_valid_is_told_without_a_secret(faulty, key_file):
    faulty.failing("^POST /token", (400, '{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'))
    with pytest.raises(
        CredentialsError, match=r"invalid_grant.* The credentials come from the file that .* KEY_FILE"
    ) as c:
        named(faulty, key_file).files("")
    assert "assertion" not in str(c.value)
    assert "PRIVATE" not in str(c.value)
    assert str(key_file) not in str(c.value)
    assert c.value.__suppress_context__


def test_tokens_that_cannot_be_had_now_are_transient(faulty, private_key, tmp_path, key_file):
    (port,) = free_ports(1)
    info = json.loads(key_file.read_text())
    key_file.write_text(json.dumps({**info, "token_uri": f"http://127.0.0.1:{port}/token"}))
    with stamina.set_testing(True, attempts=1), pytest.raises(TransientError, match="out of reach"):
        named(faulty, key_file).files("")


def test_a_token_that_the_store_refuses_is_told_without_it(faulty, key_file):
    def refused(line, body):
        if line.startswith("POST /token"):
            return 200, json.dumps({"access_token": "ya29.secret", "expires_in": 3600})
        return 401, refusal("authError", "Invalid Credentials: Bearer ya29.secret")

    faulty.fault = refused
    with pytest.raises(CredentialsError, match="authError: Invalid Credentials") as caught:
        named(faulty, key_file).files("")
    assert "ya29.secret" not in str(caught.value)
    assert len([line for line, _ in faulty.requests if "/token" not in line]) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is not the key file of a service account"),
        ('{"private_key": "c2VjcmV0"}', "is not the key file of a service account"),
        ('["c2VjcmV0"]', "is not the key file of a service account"),
        ('"c2VjcmV0"', "is not the key file of a service account"),
        (
            '{"private_key": "c2VjcmV0", "client_email": "a@b", "token_uri": "https://a.example"}',
            "is not the key file of a service account",
        ),
    ],
)
def test_a_key_file_that_cannot_be_used_is_told_without_a_secret(server, tmp_path, content, told):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        CredentialsError, match=f"^conn: the file that the environment variable KEY_FILE names {told}"
    ) as c:
        named(server, path).files("")
    assert "c2VjcmV0" not in str(c.value)
    assert str(path) not in str(c.value)


def test_a_key_where_its_path_should_be_is_not_told(server, private_key):
    for value in (json.dumps({"private_key": private_key}), private_key, "c2VjcmV0" * 1000):
        with pytest.raises(CredentialsError, match="Let the variable hold the path") as caught:
            named(server, value).files("")
        assert value[-40:-10] not in str(caught.value)


def test_a_variable_that_is_not_set_is_named_before_anything_is_asked(server):
    with pytest.raises(CredentialsError, match="the environment variable KEY_FILE is not set"):
        connector_of(server, anonymous=False, credentials_file_env="KEY_FILE").read("a")


def test_no_credentials_at_all_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, value in (("CLOUDSDK_CONFIG", tmp_path), ("GOOGLE_APPLICATION_CREDENTIALS", tmp_path / "none.json")):
        monkeypatch.setenv(variable, str(value))
        with pytest.raises(CredentialsError, match="The credentials come from where Google's libraries look for them"):
            anywhere().files("")


def test_what_google_finds_is_taken_where_nothing_is_named(monkeypatch, key_file):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    found = anywhere()._resolved_credentials()
    assert found == "from where Google's libraries look for them: exports@project.iam.gserviceaccount.com"


def test_tokens_that_google_finds_are_not_sent_without_tls(server):
    with pytest.raises(CredentialsError, match=r"has no TLS\. Name credentials_file_env, or set anonymous"):
        connector_of(server, anonymous=False).files("")


def test_a_store_out_of_reach_is_transient():
    (port,) = free_ports(1)
    away = in_use(SimpleNamespace(endpoint_url=f"http://127.0.0.1:{port}"))
    with stamina.set_testing(True, attempts=4), pytest.raises(TransientError, match="out of reach"):
        away.files("a")


# What errors mean

KEY = SimpleNamespace(host="host", port=443, ssl=True, is_ssl=True)
REQUEST = SimpleNamespace(real_url="https://host/o?upload_id=secret", url="", method="PUT", headers={})
UNREACHABLE_OS = (Cause.UNREACHABLE, (KEY, OSError(1, "said")))
SAID = ("said",)

MEANINGS = {
    HttpError: (Cause.REFUSED, ({"code": 400, "message": "said"},)),
    ChecksumError: (Cause.INTERRUPTED, SAID),
    NonRetryableError: (Cause.CREDENTIALS, SAID),
    _RefusedError: (Cause.REFUSED, (400, "invalid", "said")),
    auth.GoogleAuthError: (Cause.CREDENTIALS, SAID),
    auth.TransportError: (Cause.UNREACHABLE, SAID),
    auth.RefreshError: (Cause.CREDENTIALS, ("said", {"id_token": "secret"})),
    auth.ReauthFailError: (Cause.CREDENTIALS, SAID),
    auth.ReauthSamlChallengeFailError: (Cause.CREDENTIALS, SAID),
    auth.UserAccessTokenError: (Cause.CREDENTIALS, SAID),
    auth.DefaultCredentialsError: (Cause.CREDENTIALS, SAID),
    auth.MalformedError: (Cause.CREDENTIALS, SAID),
    auth.InvalidResource: (Cause.CREDENTIALS, SAID),
    auth.InvalidOperation: (Cause.CREDENTIALS, SAID),
    auth.InvalidValue: (Cause.CREDENTIALS, SAID),
    auth.InvalidType: (Cause.CREDENTIALS, SAID),
    auth.OSError: (Cause.CREDENTIALS, SAID),
    auth.MutualTLSChannelError: (Cause.CREDENTIALS, SAID),
    auth.ClientCertError: (Cause.CREDENTIALS, SAID),
    auth.OAuthError: (Cause.CREDENTIALS, SAID),
    auth.TimeoutError: (Cause.UNREACHABLE, SAID),
    auth.ResponseError: (Cause.UNREACHABLE, SAID),
    requests.exceptions.RequestException: (Cause.INTERRUPTED, SAID),
    requests.exceptions.InvalidJSONError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.JSONDecodeError: (Cause.INTERRUPTED, ("said", "{", 0)),
    requests.exceptions.HTTPError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.ConnectionError: (Cause.UNREACHABLE, SAID),
    requests.exceptions.ProxyError: (Cause.UNREACHABLE, SAID),
    requests.exceptions.SSLError: (Cause.UNREACHABLE, SAID),
    requests.exceptions.ConnectTimeout: (Cause.UNREACHABLE, SAID),
    requests.exceptions.Timeout: (Cause.TIMEOUT, SAID),
    requests.exceptions.ReadTimeout: (Cause.TIMEOUT, SAID),
    requests.exceptions.URLRequired: (Cause.REFUSED, SAID),
    requests.exceptions.TooManyRedirects: (Cause.REFUSED, SAID),
    requests.exceptions.MissingSchema: (Cause.REFUSED, SAID),
    requests.exceptions.InvalidSchema: (Cause.REFUSED, SAID),
    requests.exceptions.InvalidURL: (Cause.REFUSED, SAID),
    requests.exceptions.InvalidProxyURL: (Cause.REFUSED, SAID),
    requests.exceptions.InvalidHeader: (Cause.REFUSED, SAID),
    requests.exceptions.ChunkedEncodingError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.ContentDecodingError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.StreamConsumedError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.RetryError: (Cause.INTERRUPTED, SAID),
    requests.exceptions.UnrewindableBodyError: (Cause.INTERRUPTED, SAID),
    http_errors.ClientError: (Cause.INTERRUPTED, SAID),
    http_errors.ClientConnectionError: (Cause.INTERRUPTED, SAID),
    http_errors.ClientConnectionResetError: (Cause.INTERRUPTED, SAID),
    http_errors.ClientOSError: (Cause.INTERRUPTED, (104, "said")),
    http_errors.ClientConnectorError: UNREACHABLE_OS,
    http_errors.ClientConnectorDNSError: UNREACHABLE_OS,
    http_errors.ClientConnectorSSLError: UNREACHABLE_OS,
    http_errors.ClientSSLError: UNREACHABLE_OS,
    http_errors.ClientProxyConnectionError: UNREACHABLE_OS,
    http_errors.ClientConnectorCertificateError: UNREACHABLE_OS,
    http_errors.UnixClientConnectorError: (Cause.UNREACHABLE, ("/path", KEY, OSError(1, "said"))),
    http_errors.ClientPayloadError: (Cause.INTERRUPTED, SAID),
    http_errors.ClientResponseError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.ClientHttpProxyError: (Cause.UNREACHABLE, (REQUEST, ())),
    http_errors.ContentTypeError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.WSServerHandshakeError: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.TooManyRedirects: (Cause.INTERRUPTED, (REQUEST, ())),
    http_errors.InvalidURL: (Cause.REFUSED, ("https://host/o?upload_id=secret",)),
    http_errors.InvalidUrlClientError: (Cause.REFUSED, SAID),
    http_errors.InvalidUrlRedirectClientError: (Cause.REFUSED, SAID),
    http_errors.NonHttpUrlClientError: (Cause.REFUSED, SAID),
    http_errors.NonHttpUrlRedirectClientError: (Cause.REFUSED, SAID),
    http_errors.RedirectClientError: (Cause.INTERRUPTED, SAID),
    http_errors.ServerConnectionError: (Cause.INTERRUPTED, SAID),
    http_errors.ServerDisconnectedError: (Cause.INTERRUPTED, ()),
    http_errors.ServerFingerprintMismatch: (Cause.INTERRUPTED, (b"a", b"b", "host", 443)),
    http_errors.ServerTimeoutError: (Cause.TIMEOUT, SAID),
    http_errors.ConnectionTimeoutError: (Cause.UNREACHABLE, SAID),
    http_errors.SocketTimeoutError: (Cause.TIMEOUT, SAID),
    TimeoutError: (Cause.TIMEOUT, ()),
    ConnectionRefusedError: (Cause.UNREACHABLE, ()),
    ConnectionResetError: (Cause.INTERRUPTED, ()),
    OSError: (Cause.INTERRUPTED, ()),
}
# Later versions of aiohttp have it; others may not.
if upload_aborted := getattr(http_errors, "UploadAbortedError", None):
    MEANINGS[upload_aborted] = (Cause.INTERRUPTED, SAID)


def kinds_below(kind):
    for one in kind.__subclasses__():
        yield one
        yield from kinds_below(one)


def test_every_error_of_the_sdk_has_a_meaning():
    found = {one for kind in GcsConnector.sdk_errors for one in (kind, *kinds_below(kind))}
    ours = {one for one in found if one.__module__.split(".")[0] in {"google", "gcsfs", "aiohttp", "requests"}}
    assert {auth.ReauthSamlChallengeFailError, aiohttp.InvalidUrlClientError, requests.exceptions.SSLError} <= ours
    assert sorted(map(repr, ours - MEANINGS.keys())) == []


@pytest.mark.parametrize(("kind", "meaning"), MEANINGS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_an_error_means(kind, meaning):
    cause, arguments = meaning
    diagnosis = anywhere().diagnosed(kind(*arguments))
    assert diagnosis.cause is cause
    assert diagnosis.code in {kind.__name__, "invalid", "400"}
    assert "secret" not in diagnosis.said


@pytest.mark.parametrize(("retryable", "cause"), [(True, Cause.UNREACHABLE), (False, Cause.CREDENTIALS)])
def test_a_token_that_could_not_be_had_may_pass_where_google_says_so(retryable, cause):
    for inner in (auth.RefreshError("said", retryable=retryable), auth.ReauthFailError("said", retryable=retryable)):
        assert anywhere().diagnosed(inner).cause is cause
        # What gcsfs makes of it
        outer = HttpError({"code": 401, "message": "Invalid Credentials"})
        outer.__cause__ = inner
        assert anywhere().diagnosed(outer).cause is cause
    assert anywhere().diagnosed(HttpError({"code": 401, "message": "Invalid Credentials"})).cause is Cause.CREDENTIALS


ANSWERS = [
    (400, "invalid", "said", Cause.REFUSED),
    (400, "required", "Bucket is a requester pays bucket but no user project provided.", Cause.REFUSED),
    (400, "", "", Cause.REFUSED),
    (401, "required", "Anonymous caller does not have storage.objects.create access", Cause.CREDENTIALS),
    (401, "authError", "Invalid Credentials", Cause.CREDENTIALS),
    (403, "forbidden", "somebody does not have storage.objects.create access", Cause.FORBIDDEN),
    (403, "insufficientPermissions", "said", Cause.FORBIDDEN),
    (403, "", "Forbidden", Cause.FORBIDDEN),
    (403, "rateLimitExceeded", "said", Cause.THROTTLED),
    (403, "userRateLimitExceeded", "said", Cause.THROTTLED),
    (403, "quotaExceeded", "said", Cause.THROTTLED),
    (403, "retentionPolicyNotMet", "said", Cause.REFUSED),
    (403, "objectUnderActiveHold", "said", Cause.REFUSED),
    (403, "accountDisabled", "The billing account is disabled", Cause.REFUSED),
    (404, "notFound", "The specified bucket does not exist.", Cause.NO_BUCKET),
    (404, "", "The specified bucket does not exist.", Cause.NO_BUCKET),
    (404, "notFound", "No such object: bucket/a", Cause.NO_OBJECT),
    (404, "notFound", "Not Found", Cause.NO_OBJECT),
    (405, "methodNotAllowed", "said", Cause.REFUSED),
    (408, "uploadBrokenConnection", "said", Cause.INTERRUPTED),
    (409, "conflict", "said", Cause.THROTTLED),
    (410, "", "Gone", Cause.INTERRUPTED),
    (411, "", "Length Required", Cause.REFUSED),
    (412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.", Cause.TAKEN),
    (412, "", "", Cause.TAKEN),
    (412, "orgPolicyConstraintFailed", "said", Cause.REFUSED),
    (413, "uploadTooLarge", "said", Cause.REFUSED),
    (416, "requestedRangeNotSatisfiable", "said", Cause.REFUSED),
    (429, "rateLimitExceeded", "said", Cause.THROTTLED),
    (429, "", "", Cause.THROTTLED),
    (500, "backendError", "said", Cause.INTERRUPTED),
    (500, "internalError", "said", Cause.INTERRUPTED),
    (502, "", "", Cause.INTERRUPTED),
    (503, "backendError", "said", Cause.THROTTLED),
    (504, "gatewayTimeout", "said", Cause.INTERRUPTED),
    (599, "", "", Cause.INTERRUPTED),
    (302, "", "Found", Cause.REFUSED),
]


@pytest.mark.parametrize(("status", "reason", "message", "cause"), ANSWERS)
def test_what_an_answer_means(status, reason, message, cause):
    diagnosis = anywhere().diagnosed(_RefusedError(status, reason, message))
    assert (diagnosis.cause, diagnosis.code, diagnosis.said) == (cause, reason or str(status), message)


def test_a_404_to_what_is_asked_of_the_bucket_is_about_the_bucket():
    for message in ("Not Found", ""):
        assert anywhere().diagnosed(_RefusedError(404, "", message, Cause.NO_BUCKET)).cause is Cause.NO_BUCKET


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (refusal("conditionNotMet", "said").encode(), ("conditionNotMet", "said")),
        (b'{"error": {"code": 400, "message": "said"}}', ("", "said")),
        (b'{"error": "said"}', ("", '{"error": "said"}')),
        (b"The specified bucket does not exist.", ("", "The specified bucket does not exist.")),
        (b"<html>long</html>", ("", "Bad")),
        (b"", ("", "Bad")),
        (b"\xff", ("", "�")),
    ],
)
def test_how_the_store_words_an_error(body, told):
    error = connector_module._refused(connector_module._Answer(400, {}, body), "Bad", Cause.NO_OBJECT)
    assert (error.reason, error.message) == told


@pytest.mark.parametrize(
    "message",
    [
        "Cannot connect to https://storage.googleapis.com/o?uploadType=resumable&upload_id=c2VjcmV0-_x",
        "Authorization: Bearer c2VjcmV0.c2VjcmV0 was wrong",
        "the token ya29.c2VjcmV0 was wrong",
        "Error calling sign?access_token=c2VjcmV0&a=b",
        "said\nc2VjcmV0",
    ],
)
def test_no_secret_gets_into_what_is_said(message):
    for error in (_RefusedError(400, "", message), aiohttp.ClientError(message), auth.TransportError(message)):
        said = anywhere().diagnosed(error).said
        assert said
        assert "c2VjcmV0" not in said


# The servers themselves, so that nothing above passes because of what they do not do


def statuses(store, query):
    """Of two uploads to one name."""
    name = uuid.uuid4().hex
    url = f"{store.endpoint_url}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}&{query}"
    for _ in range(2):
        asked = urllib.request.Request(url, b"x", {"Content-Type": "application/octet-stream"})
        try:
            with urllib.request.urlopen(asked) as answer:
                yield answer.status
        except urllib.error.HTTPError as refused:
            refused.close()
            yield refused.code


def test_the_proxy_keeps_the_condition_or_drops_it(server, careless):
    assert list(statuses(server, "ifGenerationMatch=0")) == [200, 412]
    assert list(statuses(server, "a=b")) == [200, 200]
    assert list(statuses(careless, "ifGenerationMatch=0")) == [200, 200]
