"""What an S3 connector makes of everything that can go wrong, and that it never tells a secret."""

import errno
import inspect
import string
import traceback
import uuid
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import aiobotocore.response
import aiohttp
import botocore.exceptions
import pytest
from yarl import URL

from vv_exports.connectors import object_store, spool
from vv_exports.connectors.object_store import Cause
from vv_exports.connectors.s3 import S3Connector
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since
from vv_exports.errors import (
    CredentialsError,
    ForbiddenError,
    RequestError,
    RunFailedError,
    TransientError,
    VVExportsError,
)
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.fakes.tcp_proxy import TcpProxy
from vv_exports_tests.servers.session import make_bucket
from vv_exports_tests.stores import s3_connector

MEBIBYTE = 2**20


def anywhere():
    """A connector that is asked for no more than what it makes of errors."""
    return S3Connector("conn", "bucket")


# Every exception that there is

CAUSES = {
    Cause.CREDENTIALS: {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
        *("InvalidConfigError", "InfiniteLoopConfigError", "ConfigParseError", "RefreshWithMFAUnsupportedError"),
        *("SSOError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError"),
        *("UnknownCredentialError",),
        *("LoginError", "LoginAuthorizationCodeError", "LoginInsufficientPermissions", "LoginRefreshRequired"),
        *("LoginTokenLoadError",),
    },
    Cause.UNREACHABLE: {
        *("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError", "ConnectionError"),
        *("ClientConnectorError", "ClientConnectorDNSError", "UnixClientConnectorError"),
        *("ClientConnectorSSLError", "ClientSSLError", "ClientConnectorCertificateError"),
        *("ClientProxyConnectionError", "ClientHttpProxyError", "ConnectionTimeoutError", "MetadataRetrievalError"),
    },
    Cause.TIMEOUT: {
        *("ReadTimeoutError", "AioReadTimeoutError", "ServerTimeoutError", "SocketTimeoutError"),
    },
    Cause.INTERRUPTED: {
        *("HTTPClientError", "ConnectionClosedError", "ResponseStreamingError", "IncompleteReadError"),
        *("ChecksumError", "FlexibleChecksumError"),
        *("ClientError", "ClientOSError", "ClientConnectionError", "ClientConnectionResetError", "UploadAbortedError"),
        *("ServerConnectionError", "ServerDisconnectedError", "ServerFingerprintMismatch", "ClientPayloadError"),
        *("ClientResponseError", "ContentTypeError", "TooManyRedirects"),
        *("WSServerHandshakeError", "RedirectClientError"),
    },
    Cause.THROTTLED: {"CapacityNotAvailableError"},
}
"""Of everything that is not named the cause is REFUSED: what was asked makes no sense, and never will."""

KEY = SimpleNamespace(host="store.test", port=443, ssl=True, is_ssl=True, proxy=None)
REQUEST = SimpleNamespace(real_url=URL("https://store.test/bucket"), method="PUT", headers={}, url=URL("https://a.b"))
ARGUMENTS = {
    "connection_key": KEY,
    "os_error": ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    "certificate_error": ValueError("expired"),
    "request_info": REQUEST,
    "history": (),
    "url": URL("https://store.test/bucket"),
    "path": "/run/socket",
    "expected": b"a",
    "got": b"b",
    "host": "store.test",
    "port": 443,
}


def every_botocore_exception():
    for kind in vars(botocore.exceptions).values():
        if inspect.isclass(kind) and issubclass(kind, botocore.exceptions.BotoCoreError):
            yield kind
    yield aiobotocore.response.AioReadTimeoutError


def made_by_botocore(kind):
    names = {name for _, name, _, _ in string.Formatter().parse(kind.fmt) if name}
    more = {"last_response": {}} if kind is botocore.exceptions.WaiterError else {}
    return kind(**dict.fromkeys(names, "something"), **more)


def every_aiohttp_exception(kind=aiohttp.ClientError):
    yield kind
    for narrower in kind.__subclasses__():
        if narrower.__module__.startswith("aiohttp."):
            yield from every_aiohttp_exception(narrower)


def made_by_aiohttp(kind):
    parameters = [
        one.name
        for one in list(inspect.signature(kind.__init__).parameters.values())[1:]
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    return kind(*(ARGUMENTS[name] for name in parameters))


def everything():
    for kind in dict.fromkeys(every_botocore_exception()):
        yield pytest.param(kind, made_by_botocore, id=f"botocore.{kind.__name__}")
    for kind in dict.fromkeys(every_aiohttp_exception()):
        yield pytest.param(kind, made_by_aiohttp, id=f"aiohttp.{kind.__name__}")


@pytest.mark.parametrize(("kind", "make"), list(everything()))
def test_every_exception_of_the_libraries_has_the_cause_that_the_table_says(kind, make):
    expected = next((cause for cause, names in CAUSES.items() if kind.__name__ in names), Cause.REFUSED)
    assert issubclass(kind, S3Connector.sdk_errors)
    error = make(kind)
    diagnosis = anywhere().diagnosed(error)
    assert diagnosis.cause is expected
    assert diagnosis.code == kind.__name__
    assert diagnosis.said == str(error)


def test_the_table_names_no_exception_that_there_is_not():
    there = {one.__name__ for one in (*every_botocore_exception(), *every_aiohttp_exception())}
    assert set.union(*CAUSES.values()) <= there


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TimeoutError(), Cause.TIMEOUT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Cause.UNREACHABLE),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Cause.INTERRUPTED),
        (BrokenPipeError(errno.EPIPE, "pipe"), Cause.INTERRUPTED),
        (OSError(errno.EHOSTUNREACH, "no route"), Cause.INTERRUPTED),
    ],
)
def test_errors_of_the_operating_system_pass(error, cause):
    assert anywhere().diagnosed(error).cause is cause


def test_a_connection_that_was_reset_is_not_one_that_never_was():
    """The library says EndpointConnectionError of both. A request that was sent may have been carried out."""
    url = "https://store.test"
    reset = botocore.exceptions.EndpointConnectionError(endpoint_url=url, error=aiohttp.ClientOSError(104, "reset"))
    never = botocore.exceptions.EndpointConnectionError(
        endpoint_url=url, error=aiohttp.ClientConnectorError(KEY, ARGUMENTS["os_error"])
    )
    assert anywhere().diagnosed(reset).cause is Cause.INTERRUPTED
    assert anywhere().diagnosed(never).cause is Cause.UNREACHABLE


# What stores answer


class Answered:
    """A client whose store answers each request alike."""

    def __init__(self, code, status):
        said = {"Code": code, "Message": "said the store"} if code else {"Code": str(status), "Message": "Unknown"}
        self._answer = {"Error": said, "ResponseMetadata": {"HTTPStatusCode": status}}

    def __getattr__(self, operation):
        async def answer(**request):
            raise botocore.exceptions.ClientError(self._answer, operation)

        return answer


ANSWERS = {
    CredentialsError: {
        *(("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403), ("ExpiredToken", 400), ("InvalidToken", 400)),
        *(("TokenRefreshRequired", 400), ("AuthFailure", 401), ("InvalidClientTokenId", 403), ("RequestExpired", 400)),
        *(("", 401),),
    },
    ForbiddenError: {("AccessDenied", 403), ("AllAccessDisabled", 403), ("AccountProblem", 403), ("", 403)},
    RequestError: {
        *(("NoSuchBucket", 404), ("InvalidBucketName", 400), ("PermanentRedirect", 301), ("InvalidRequest", 400)),
        *(("EntityTooLarge", 400), ("KMS.DisabledException", 400), ("MethodNotAllowed", 405), ("NotImplemented", 501)),
        *(("QuotaExceeded", 400), ("", 400), ("", 404), ("", 405), ("", 301), ("", 418)),
    },
    TransientError: {
        *(("SlowDown", 503), ("ServiceUnavailable", 503), ("Throttling", 400), ("ThrottlingException", 400)),
        *(("TooManyRequests", 429), ("RequestLimitExceeded", 503), ("ConditionalRequestConflict", 409)),
        *(("OperationAborted", 409), ("RequestTimeTooSkewed", 403), ("InternalError", 500), ("RequestTimeout", 400)),
        *(("BadDigest", 400), ("IncompleteBody", 400), ("XAmzContentSHA256Mismatch", 400)),
        *(("", 409), ("", 429), ("", 500), ("", 502), ("", 503), ("", 504)),
    },
}


@pytest.mark.parametrize(
    ("kind", "code", "status"), [(kind, *one) for kind, answers in ANSWERS.items() for one in sorted(answers)]
)
def test_what_a_store_answers_becomes_the_error_that_says_what_to_do(kind, code, status, monkeypatch, tmp_path):
    monkeypatch.setattr(object_store, "_ATTEMPTS", 1)
    connector = s3_connector(SimpleNamespace(endpoint_url="http://127.0.0.1:1", access_key="k", secret_key="s"))

    async def client():
        return Answered(code, status)

    monkeypatch.setattr(connector, "_client", client)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(VVExportsError) as caught:
        connector.put(tmp_path / "file", "a/b")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"conn: could not write s3://bucket/a/b: {code or status}: ")


# On a store that compares credentials

SECRETS = (
    *(f"{name}-secret" for name in ("admin", "reader", "readonly", "nowrite", "blind")),
    *("not-the-secret", "the-session-token"),
)


@pytest.fixture(scope="module")
def server(servers):
    return servers.seaweedfs


def holds_no_secret(error):
    told = "".join(traceback.format_exception(error)) + str(error) + repr(error)
    return not any(secret in told for secret in SECRETS)


def who(name, secret=None):
    return {"KEY": f"{name}-key", "SECRET": secret or f"{name}-secret"}


STEPS = {
    "write": lambda store, path: store.put(path, "a/b"),
    "create": lambda store, path: store.create("a/new", b"x"),
    "list": lambda store, path: store.files("a"),
    "read": lambda store, path: store.read("a/there"),
    "delete": lambda store, path: store.delete(["a/there"]),
}
WRONG = {
    "wrong key": (who("nobody"), {}, CredentialsError, "InvalidAccessKeyId", STEPS),
    "wrong secret": (who("admin", "not-the-secret"), {}, CredentialsError, "SignatureDoesNotMatch", STEPS),
    "read only": (who("reader"), {}, ForbiddenError, "AccessDenied", {"write", "create"}),
    "no list permission": (who("blind"), {}, ForbiddenError, "AccessDenied", {"list"}),
    "missing bucket": (who("admin"), {"bucket": "none"}, RequestError, "NoSuchBucket", {"write", "create", "list"}),
}


@pytest.mark.parametrize(
    ("wrong", "step"), [(wrong, step) for wrong, (*_, steps) in WRONG.items() for step in sorted(steps)]
)
def test_who_may_not_is_told_what_and_where_and_no_secret(server, tmp_path, wrong, step):
    environ, options, kind, code, _ = WRONG[wrong]
    s3_connector(server).create("a/there", b"x")
    (tmp_path / "file").write_bytes(b"x")
    connector = s3_connector(server, environ=environ, **options)
    connector._refuses_taken_names = True  # the trial of a new store would fail first, at another key
    with pytest.raises(kind) as caught:
        STEPS[step](connector, tmp_path / "file")
    assert str(caught.value).startswith(f"conn: could not {step} s3://{options.get('bucket', 'bucket')}/a")
    assert code in str(caught.value)
    assert holds_no_secret(caught.value)


def test_a_session_that_ends_in_the_middle_of_an_upload_is_told_and_leaves_nothing(server, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(49 * MEBIBYTE))
    expired = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    with TcpProxy(server.endpoint_url) as proxy:
        connector = s3_connector(replace(server, endpoint_url=proxy.url), "session")
        proxy.fault("busy", "^PUT .*partNumber=3", answer=expired, status="400 Bad Request")
        with pytest.raises(
            CredentialsError, match=r"^conn: could not write s3://bucket/session/a/b: ExpiredToken"
        ) as e:
            connector.put(path, "a/b")
    assert "the environment variables KEY, SECRET" in str(e.value)
    assert holds_no_secret(e.value)
    assert s3_connector(server).files("session") == []
    assert s3_connector(server).unfinished("session") == []


def test_a_session_token_is_told_nowhere(server):
    environ = {**who("admin"), "TOKEN": "the-session-token"}
    connector = s3_connector(server, environ=environ, session_token_env="TOKEN")
    with pytest.raises(VVExportsError) as caught:
        connector.files("a")
    assert holds_no_secret(caught.value)


# Automations


@contextmanager
def no_room():
    """A local disk with no room for what a delivery copies there."""

    def full(self, part, path):
        with path.open("wb") as file:
            file.write(b"x")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vv_exports.snapshots.store.SnapshotStore.copy", full)
        yield


@pytest.fixture
def deployed(server, tmp_path, monkeypatch):
    """An automation of a bucket of its own, with two runs to deliver."""
    bucket = f"b{uuid.uuid4().hex[:20]}"
    place = {
        "provider": "s3",
        "bucket": bucket,
        "region": "us-east-1",
        "endpoint_url": server.endpoint_url,
        "path_style": True,
        "access_key_id_env": "KEY",
        "secret_access_key_env": "SECRET",
        "export_base_path": "base",
        "scopes": ["export"],
    }
    for number in range(2):
        write_run(tmp_path / "archive", run_id=f"run_{number}", executed_at=f"2026-10-0{number + 1}T00:00:00Z")

    def client(environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return client_of(tmp_path, {**CONFIG, "connectors": {"conn_export": place}})

    direct = s3_connector(server, "base", bucket=bucket)
    return SimpleNamespace(client=client, bucket=bucket, direct=direct)


def delivered_once(direct):
    entries = entries_since(Destination(direct, "exports/team"), 0)
    return sorted(run.run_id for entry in entries for run in entry.prompt_runs)


@pytest.mark.parametrize(
    ("environ", "there", "said"),
    [
        (who("nobody"), True, "InvalidAccessKeyId"),
        (who("admin", "not-the-secret"), True, "SignatureDoesNotMatch"),
        (who("nowrite"), True, "AccessDenied"),
        (who("blind"), True, "AccessDenied"),
        (who("readonly"), True, "AccessDenied"),
        (who("admin"), False, "NoSuchBucket"),
    ],
    ids=["wrong key", "wrong secret", "no write permission", "no list permission", "read only", "missing bucket"],
)
def test_an_automation_says_what_is_wrong_and_delivers_everything_once_that_is_mended(
    server, deployed, environ, there, said
):
    if there:
        make_bucket(server, deployed.bucket)
    with pytest.raises((RunFailedError, RequestError), match=rf"conn_export: could not \w+ s3://.*{said}") as caught:
        deployed.client(environ).automations.run("idx", "team")
    assert deployed.bucket in str(caught.value)
    assert holds_no_secret(caught.value)
    if not there:
        make_bucket(server, deployed.bucket)
    mended = deployed.client(who("admin"))
    assert deployed.direct.files("") == []
    assert mended.automations.run("idx", "team").delivered == ("run_0", "run_1")
    assert delivered_once(deployed.direct) == ["run_0", "run_1"]
    assert mended.automations.run("idx", "team").delivered == ()


def test_a_full_local_disk_is_told_commits_nothing_and_keeps_the_automations_place(server, deployed):
    make_bucket(server, deployed.bucket)
    client = deployed.client(who("admin"))
    with no_room(), pytest.raises(RunFailedError) as caught:
        client.automations.run("idx", "team")
    assert f"no room for temporary files in {spool.spool_top()}: No space left on device" in str(caught.value)
    assert "set spool.folder, or TMPDIR, to another folder, and try again" in str(caught.value)
    assert entries_since(Destination(deployed.direct, "exports/team"), 0) == []
    assert not list(spool.spool_top().glob("*/part*")), "what was begun there is gone"
    assert client.automations.run("idx", "team").delivered == ("run_0", "run_1")
    assert delivered_once(deployed.direct) == ["run_0", "run_1"]
    assert client.automations.run("idx", "team").delivered == ()
