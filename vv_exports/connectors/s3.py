"""Amazon S3, or a store that speaks its protocol, through s3fs.

The commit is ``PutObject`` with ``If-None-Match: *``. Files are uploaded when they are finished, large ones in parts;
each request carries a checksum that the store compares.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import botocore.exceptions
import pyarrow.fs as pafs

from vv_exports.connectors.base import StoredFile
from vv_exports.errors import (
    CredentialsError,
    DeliveredDataError,
    DestinationError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
    VVExportsError,
)

_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_DELETED_AT_ONCE = 1000
_BAD_CREDENTIALS = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        *("AuthFailure", "InvalidClientTokenId", "RequestExpired"),
    }
)
_FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"})
_TAKEN = frozenset({"PreconditionFailed", "412"})
_PASSING = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSkewed", "Throttling"),
        *("ThrottlingException", "TooManyRequests", "BadDigest", "IncompleteBody", "OperationAborted", "500", "502"),
        *(
            "503",
            "504",
            "429",
            "ConditionalRequestConflict",
            "409",
            "RequestLimitExceeded",
            "XAmzContentSHA256Mismatch",
        ),
    }
)


class S3Connector:
    """Objects below ``bucket / export_base_path``. Without the names of environment variables, credentials come from
    where the AWS SDK looks for them: its variables, its files, the machine's role."""

    provider = "s3"

    def __init__(
        self,
        connector_id: str,
        bucket: str,
        export_base_path: str = "",
        scopes: frozenset[str] = frozenset({"export"}),
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        access_key_id_env: str | None = None,
        secret_access_key_env: str | None = None,
        session_token_env: str | None = None,
        sse: str | None = None,
        kms_key_id: str | None = None,
        path_style: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.connector_id = connector_id
        self.scopes = scopes
        self._bucket = bucket
        self._base = f"{bucket}/{export_base_path}" if export_base_path else bucket
        self._endpoint_url = endpoint_url
        self._region = region
        self._variables = (access_key_id_env, secret_access_key_env, session_token_env)
        self._encryption = {"ServerSideEncryption": sse, "SSEKMSKeyId": kms_key_id}
        self._path_style = path_style
        self._environ = environ
        self._file_systems: dict[int, Any] = {}

    def uri(self, key: str) -> str:
        """``s3://bucket/…``."""
        return f"s3://{self._base}/{key}" if key else f"s3://{self._base}"

    def put(self, local: Path, key: str) -> None:
        """Upload; the object is there whole or not at all."""
        path = self._locate(key)
        with self._translated("write", key):
            self._file_system().put_file(str(local), path)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """Upload if there is no such object. The store decides among writers that meet."""
        del durable  # what a store has acknowledged is durable
        path = self._locate(key)
        try:
            with self._translated("create", key):
                self._file_system().pipe_file(path, data, mode="create")
        except _TakenError:
            # The SDK asks again where a reply was lost, and is told that its own bytes are there.
            return self.read(key) == data
        except TransientError as error:
            if self.read(key) == data:
                return True
            raise OutcomeUnknownError(
                f"{self.connector_id}: {self.uri(key)} may be written or not: {error}. Look whether it is there before "
                "trying again."
            ) from error
        return True

    def read(self, key: str) -> bytes | None:
        """The content, or None."""
        path = self._locate(key)
        with self._translated("read", key):
            try:
                return bytes(self._file_system().cat_file(path))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

    def open(self, key: str) -> BufferedIOBase:
        """Open for reading, in ranges."""
        path = self._locate(key)
        with self._translated("read", key):
            try:
                return cast("BufferedIOBase", self._file_system().open(path, "rb"))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                raise DeliveredDataError(f"{self.connector_id}: {self.uri(key)} is not there") from error

    def files(self, prefix: str) -> list[StoredFile]:
        """List the objects below a folder."""
        top = f"{self._locate(prefix) if prefix else self._base}/"
        found: list[StoredFile] = []
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": top.removeprefix(f"{self._bucket}/")}
        with self._translated("list", prefix):
            while True:
                page = self._file_system().call_s3("list_objects_v2", **request)
                for entry in page.get("Contents", ()):
                    key = f"{self._bucket}/{entry['Key']}".removeprefix(f"{self._base}/")
                    if not key.endswith("/"):  # consoles make such objects to show a folder
                        found.append(StoredFile(key, entry["Size"]))
                if not page.get("IsTruncated"):
                    return sorted(found, key=lambda file: file.key)
                request["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: list[str]) -> None:
        """Delete objects, many in one request."""
        objects = [{"Key": self._locate(key).removeprefix(f"{self._bucket}/")} for key in keys]
        for start in range(0, len(objects), _DELETED_AT_ONCE):
            batch = {"Objects": objects[start : start + _DELETED_AT_ONCE], "Quiet": True}
            with self._translated("delete", keys[start]):
                answer = self._file_system().call_s3("delete_objects", Bucket=self._bucket, Delete=batch)
            for failed in answer.get("Errors", ()):
                if failed["Code"] != "NoSuchKey":
                    raise self._error(failed["Code"], "delete", failed["Key"], failed.get("Message", ""))

    def sweep(self) -> None:
        """Nothing: an upload that was not completed is no object."""

    def arrow_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """s3fs as a pyarrow file system, and ``bucket/base``."""
        return pafs.PyFileSystem(pafs.FSSpecHandler(self._file_system())), self._base

    def _locate(self, key: str) -> str:
        segments = key.split("/")
        if not all(segments) or any(s in {".", ".."} or "\\" in s or "\x00" in s for s in segments):
            raise DestinationError(f"{self.connector_id}: {key!r} is not a path below {self.uri('')}")
        return f"{self._base}/{key}"

    def _file_system(self) -> Any:
        """One for each process: its connections do not survive a fork."""
        if os.getpid() not in self._file_systems:
            import s3fs  # noqa: PLC0415 - takes 0.4 s, which deployments without S3 should not pay

            key, secret, token = (self._variable(name) for name in self._variables)
            self._file_systems[os.getpid()] = s3fs.S3FileSystem(
                key=key,
                secret=secret,
                token=token,
                endpoint_url=self._endpoint_url,
                client_kwargs={"region_name": self._region} if self._region else {},
                config_kwargs={
                    "connect_timeout": _CONNECT_SECONDS,
                    "read_timeout": _READ_SECONDS,
                    "s3": {"addressing_style": "path" if self._path_style else "auto"},
                },
                s3_additional_kwargs={name: value for name, value in self._encryption.items() if value},
                use_listings_cache=False,
                skip_instance_cache=True,
            )
        return self._file_systems[os.getpid()]

    def _variable(self, name: str | None) -> str | None:
        if name is None:
            return None
        value = self._environ.get(name, "")
        if not value.strip():
            raise CredentialsError(
                f"{self.connector_id}: the environment variable {name} is not set, and the configuration says that it "
                "holds a credential of this connector. Set it where this runs."
            )
        return value

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        """The errors of s3fs, botocore and the network as ours."""
        try:
            yield
        except VVExportsError:
            raise
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError, TimeoutError) as error:
            code = _code(error)
            if code in _TAKEN or isinstance(error, FileExistsError):
                raise _TakenError from None
            # Out of the chain: what the SDK's exceptions hold on to is not for tracebacks.
            raise self._error(code, action, key, _said(error)) from None

    def _error(self, code: str, action: str, key: str, said: str) -> VVExportsError:
        what = f"{self.connector_id}: could not {action} {self.uri(key)}: {code}{f': {said}' if said else ''}"
        first, second = self._variables[:2]
        if code in _BAD_CREDENTIALS or code in _NO_CREDENTIALS:
            names = f"{first} and {second}" if first else "the AWS SDK's own places, since no variables are named"
            return CredentialsError(f"{what}. The credentials come from {names}; put valid ones there.")
        if code in _FORBIDDEN:
            return RequestError(f"{what}. These credentials may not do this; extend their policy.")
        if code == "NoSuchBucket":
            return RequestError(f"{what}. Create the bucket {self._bucket!r}, or mend `bucket` in the configuration.")
        if code in _PASSING or code in _NETWORK:
            return TransientError(f"{what}. The store is busy or out of reach; try again later.")
        return RequestError(f"{what}. Mend the connector's configuration (bucket, region, endpoint_url) or its policy.")


class _TakenError(Exception):
    """There is such an object."""


_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"})
_NETWORK = frozenset(
    {
        *(
            "EndpointConnectionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ConnectionClosedError",
            "TimeoutError",
        ),
        *("HTTPClientError", "ProxyConnectionError", "ResponseStreamingError", "IncompleteReadError", "SSLError"),
        *("ConnectionError", "ConnectionResetError", "BrokenPipeError", "ConnectionRefusedError", "OSError"),
        *("ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "ChecksumMismatchError"),
    }
)


def _code(error: BaseException) -> str:
    """The store's code for an error, or the class of an error that came from nearer."""
    client_error = _client_error(error)
    return str(client_error["Code"]) if client_error is not None else type(error).__name__


def _said(error: BaseException) -> str:
    client_error = _client_error(error)
    return str(client_error.get("Message", "")) if client_error is not None else str(error)


def _client_error(error: BaseException) -> Mapping[str, Any] | None:
    """What the store said, where s3fs made an OSError of it too."""
    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, botocore.exceptions.ClientError):
            return cast("Mapping[str, Any]", one.response.get("Error", {"Code": "unknown"}))
    return None
