"""Amazon S3, or a store that speaks its protocol, through s3fs.

The commit is ``PutObject`` with ``If-None-Match: *``. Every upload carries a SHA-256 that the store compares; where its
answer does not say that it did, the size and the MD5 that it stored are compared here.
"""

import base64
import hashlib
import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import botocore.parsers
from fsspec.asyn import sync

from vv_exports.connectors.base import EarlierVersion, UnfinishedUpload
from vv_exports.connectors.diagnosis import (
    Cause,
    CausesOfErrors,
    Diagnosis,
    UploadLostError,
    cause_of_error,
    cause_of_status,
    telling_losses,
)
from vv_exports.connectors.object_store import (
    CONNECT_SECONDS,
    READ_SECONDS,
    NotTheStoreError,
    ObjectStoreConnector,
    OddAnswerError,
)
from vv_exports.connectors.policies import s3_policies
from vv_exports.domain.endpoints import is_amazon
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.redaction import quoted
from vv_exports.errors import TransientError

_LOG = logging.getLogger(__name__)
_MOST_PARTS = 10_000
_DELETED_AT_ONCE = 1000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_CODES: Mapping[Cause, frozenset[str]] = {
    Cause.CREDENTIALS: frozenset(
        {
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
            *("AuthFailure", "InvalidClientTokenId", "RequestExpired", "ExpiredTokenException", "401"),
        }
    ),
    Cause.FORBIDDEN: frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"}),
    Cause.NO_BUCKET: frozenset({"NoSuchBucket"}),
    Cause.NO_OBJECT: frozenset({"NoSuchKey", "404", "NotFound"}),
    Cause.TAKEN: frozenset({"PreconditionFailed", "412"}),
    Cause.THROTTLED: frozenset(
        {
            *("SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "503", "429"),
            *("RequestLimitExceeded", "ConditionalRequestConflict", "OperationAborted", "409"),
        }
    ),
    Cause.SKEWED: frozenset({"RequestTimeTooSkewed"}),
    Cause.INTERRUPTED: frozenset(
        {
            *("InternalError", "RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "500"),
            *("502", "504", "XAmzContentChecksumMismatch", "InvalidDigest"),
            *("NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"),
        }
    ),
}
# The store does not have the upload, or not those parts of it that it said to have: asking again is of no use.
_LOST = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_DIGESTS = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_TRUNCATED = re.compile(rb"(?i)(<(?:\w+:)?IsTruncated>)\s*(?:true|1)\s*(?=<)")
_CAUSE_OF_CODE = {code: cause for cause, codes in _CODES.items() for code in codes}

_CAUSE_OF_ERROR: CausesOfErrors = (
    (botocore.exceptions.NoCredentialsError, Cause.CREDENTIALS),
    (botocore.exceptions.PartialCredentialsError, Cause.CREDENTIALS),
    (botocore.exceptions.CredentialRetrievalError, Cause.CREDENTIALS),
    (botocore.exceptions.ProfileNotFound, Cause.CREDENTIALS),
    (botocore.exceptions.InvalidConfigError, Cause.CREDENTIALS),
    (botocore.exceptions.ConfigParseError, Cause.CREDENTIALS),
    (botocore.exceptions.SSOError, Cause.CREDENTIALS),
    (botocore.exceptions.LoginError, Cause.CREDENTIALS),
    (botocore.exceptions.UnknownCredentialError, Cause.CREDENTIALS),
    (botocore.exceptions.TokenRetrievalError, Cause.CREDENTIALS),
    (botocore.exceptions.RefreshWithMFAUnsupportedError, Cause.CREDENTIALS),
    (botocore.exceptions.ConnectTimeoutError, Cause.UNREACHABLE),
    (botocore.exceptions.EndpointConnectionError, Cause.UNREACHABLE),
    (botocore.exceptions.ProxyConnectionError, Cause.UNREACHABLE),
    (botocore.exceptions.SSLError, Cause.UNREACHABLE),
    (botocore.exceptions.MetadataRetrievalError, Cause.UNREACHABLE),
    (botocore.exceptions.ReadTimeoutError, Cause.TIMEOUT),
    (botocore.exceptions.ConnectionError, Cause.UNREACHABLE),
    (botocore.exceptions.HTTPClientError, Cause.INTERRUPTED),
    (botocore.exceptions.IncompleteReadError, Cause.INTERRUPTED),
    (botocore.exceptions.ResponseStreamingError, Cause.INTERRUPTED),
    (botocore.exceptions.ChecksumError, Cause.INTERRUPTED),
    (botocore.exceptions.FlexibleChecksumError, Cause.INTERRUPTED),
    (botocore.exceptions.CapacityNotAvailableError, Cause.THROTTLED),
    (botocore.exceptions.BotoCoreError, Cause.REFUSED),
    (botocore.parsers.ResponseParserError, Cause.INTERRUPTED),
)


class S3Connector(ObjectStoreConnector):
    """Objects below ``bucket / export_base_path``. Without the names of environment variables, credentials come from
    where the AWS SDK looks for them: its variables, its files, the machine's role."""

    provider = "s3"
    scheme = "s3"
    sdk_errors = (
        botocore.exceptions.BotoCoreError,
        botocore.exceptions.ClientError,
        botocore.parsers.ResponseParserError,
        aiohttp.ClientError,
    )

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
        super().__init__(connector_id, bucket, export_base_path, scopes, endpoint_url=endpoint_url, environ=environ)
        self._region = region
        self._variables = (access_key_id_env, secret_access_key_env, session_token_env)
        encryption = {"ServerSideEncryption": sse, "SSEKMSKeyId": kms_key_id}
        self._encryption = {name: value for name, value in encryption.items() if value}
        self._path_style = path_style
        self._deletes_in_batches = True  # until the store refuses to

    def decides_among_writers(self) -> bool:
        """Amazon does. The SDK may have been told of another store by its variables or its configuration file."""
        if self.endpoint_url is None:
            file_system = self.file_system()
            endpoint = str(sync(file_system.loop, file_system.set_session).meta.endpoint_url)
            if not is_amazon(endpoint):
                self.endpoint_url, self._refuses_taken_names = endpoint, None
        return super().decides_among_writers()

    @property
    def credentials_from(self) -> str:
        """The environment variables, or the SDK's own places."""
        named = [name for name in self._variables if name]
        return f"the environment variables {', '.join(named)}" if named else "where the AWS SDK looks for them"

    def connect(self) -> Any:
        """s3fs, one request at a time as far as retries go."""
        # They take 0.4 s, which a process that never asks the store should not pay.
        import s3fs  # noqa: PLC0415
        from aiobotocore.session import AioSession  # noqa: PLC0415

        from vv_exports.connectors.s3_session import SendsOnce  # noqa: PLC0415

        for name in ("botocore", "aiobotocore"):  # at DEBUG they write session tokens and signatures down
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.INFO)
        session = AioSession()
        events = session.get_component("event_emitter")
        events.register_last("before-call.s3.DeleteObjects", _add_content_md5)  # last, since others change the body
        events.register("before-parse.s3.ListObjectsV2", _spell_truncated)
        events.register("before-parse.s3.ListMultipartUploads", _spell_truncated)
        events.register("before-parse.s3.HeadBucket", _refuse_redirect)
        key, secret, token = self._variables
        return s3fs.S3FileSystem(
            key=self.variable(key),
            secret=self.secret(secret),
            token=self.secret(token),
            session=session,
            endpoint_url=self.endpoint_url,
            client_kwargs={"region_name": self._region} if self._region else {},
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "max_pool_connections": 32,
                "http_session_cls": SendsOnce,
                "s3": {"addressing_style": "path" if self._path_style else "auto"},
            },
            s3_additional_kwargs=self._encryption,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def diagnosed(self, error: BaseException) -> Diagnosis:
        """By the store's code where it gave one, else by the error's class."""
        if isinstance(error, botocore.exceptions.ClientError):
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = _code_of(error) or str(status)
            cause = _CAUSE_OF_CODE.get(code) or _CAUSE_OF_CODE.get(str(status)) or _cause_of_status(status)
            return Diagnosis(cause, code, str(said.get("Message", "")))
        return Diagnosis(_cause_of(error), type(error).__name__, str(error))

    async def resolve_credentials(self) -> str:
        """Where no variables are named: whatever the SDK finds, without asking the store."""
        if any(self._variables):
            return f"from {self.credentials_from}"
        await self._client()
        found = await self.file_system().session.get_credentials()
        if found is None:
            raise botocore.exceptions.NoCredentialsError
        return f"from {self.credentials_from}: {found.method}"

    def policies(self) -> dict[str, JsonObject]:
        """IAM policies."""
        return s3_policies(self.bucket, self.prefix, self._encryption.get("SSEKMSKeyId"))

    async def reach(self) -> None:
        """``HeadBucket``."""
        await (await self._client()).head_bucket(Bucket=self.bucket)

    async def upload(self, name: str, data: bytes, *, only_new: bool, sha256: str | None) -> None:
        """``PutObject``."""
        digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(data).digest()
        checksum = base64.b64encode(digest).decode()
        answer = await (await self._client()).put_object(
            Bucket=self.bucket,
            Key=name,
            Body=data,
            ChecksumSHA256=checksum,
            **({"IfNoneMatch": "*"} if only_new else {}),
            **self._encryption,
        )
        _check_stored(answer, checksum, data, name)

    async def upload_in_parts(self, name: str, local: Path, size: int) -> None:
        """A multipart upload."""
        client = await self._client()
        place = {"Bucket": self.bucket, "Key": name}
        begun = await self.retried(
            partial(client.create_multipart_upload, **place, ChecksumAlgorithm="SHA256", **self._encryption)
        )
        upload_id = _found(begun, "UploadId")

        async def upload_part(number: int, data: bytes) -> dict[str, Any]:
            checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
            with _losses():
                answer = await client.upload_part(
                    **place, UploadId=upload_id, PartNumber=number + 1, Body=data, ChecksumSHA256=checksum
                )
            _check_stored(answer, checksum, data, f"{name} part {number + 1}")
            return {"PartNumber": number + 1, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

        try:
            parts = await self.in_parts(local, size, _MOST_PARTS, upload_part)

            async def complete() -> None:
                with _losses():
                    answer = await client.complete_multipart_upload(
                        **place, UploadId=upload_id, MultipartUpload={"Parts": parts}
                    )
                _found(answer, "ETag")

            try:
                await self.retried(complete)
            except UploadLostError as lost:
                if lost.code != "NoSuchUpload" or not await self._is_completed(name, local, size):
                    raise
        except BaseException:
            # Also where the time is over. What cannot be aborted now is swept, or aborted by `vacuum`.
            with suppress(*self.sdk_errors, OSError):
                await self._understood(partial(client.abort_multipart_upload, **place, UploadId=upload_id))
            raise

    async def _is_completed(self, name: str, local: Path, size: int) -> bool:
        """Whether an upload that is none any more was completed, by an attempt whose answer was lost: then its content
        is there. False where nothing is, since somebody has aborted it. Raises TransientError where something else is:
        neither do we know what became of ours, nor is it ours to replace."""
        same = await self.holds(name, local, size)
        if same is False:
            raise TransientError(
                f"{self.connector_id}: could not write {self.scheme}://{self.bucket}/{name}: NoSuchUpload: the store "
                "no longer knows of the upload, and what it has at that name is something else. Somebody else writes "
                "there, or has aborted the upload; try again."
            )
        return bool(same)

    async def fetch(self, name: str, start: int | None, end: int | None) -> tuple[bytes, int]:
        """``GetObject``."""
        ranged = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
        try:
            answer = await (await self._client()).get_object(Bucket=self.bucket, Key=name, **ranged)
        except botocore.exceptions.ClientError as error:
            if _code_of(error) in {"InvalidRange", "416"}:
                return b"", 0
            if self.diagnosed(error).cause is Cause.FORBIDDEN and not await self._is_listed(name):
                raise botocore.exceptions.ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject") from None
            raise
        _found(answer, "ETag")
        async with answer["Body"] as body:
            data = bytes(await body.read())
        if len(data) != answer["ContentLength"]:
            raise aiohttp.ClientPayloadError(f"{len(data)} of {answer['ContentLength']} bytes arrived")
        total = answer.get("ContentRange", "").rpartition("/")[2]
        if not total.isdecimal():  # all of it, whatever was asked for
            return data[start:end], len(data)
        return data, int(total)

    async def _is_listed(self, name: str) -> bool:
        """Whether there is such an object, as far as a listing may tell: True where it may not.

        Amazon answers 403 to the request for an object that is not there, where the right to list is limited to a
        prefix, as the least-privilege policies limit it.
        """
        client = await self._client()
        try:
            page = await client.list_objects_v2(Bucket=self.bucket, Prefix=name, MaxKeys=1)
        except botocore.exceptions.ClientError as error:
            if self.diagnosed(error).cause is Cause.FORBIDDEN:
                return True
            raise
        _found(page, "IsTruncated")
        return any(_found(one, "Key") == name for one in page.get("Contents", ()))

    async def listed(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """``ListObjectsV2``, page by page."""
        client = await self._client()
        request = {"Bucket": self.bucket, "Prefix": prefix, **({"StartAfter": after} if after else {})}

        async def page(token: str | None) -> tuple[dict[str, tuple[str, int]], str | None]:
            answer = await client.list_objects_v2(**request, **({"ContinuationToken": token} if token else {}))
            truncated = _found(answer, "IsTruncated")
            listed = [(_found(one, "Key"), _found(one, "Size")) for one in answer.get("Contents", ())]
            return {one[0]: one for one in listed}, _token(answer, "NextContinuationToken") if truncated else None

        return await self.paged(lambda token: self.retried(partial(page, token)))

    async def delete_all(self, names: Sequence[str]) -> None:
        """``DeleteObjects``, a thousand in a request; ``DeleteObject`` for each where the store does not take that."""
        client = await self._client()
        for start in range(0, len(names), _DELETED_AT_ONCE):
            batch = names[start : start + _DELETED_AT_ONCE]
            if self._deletes_in_batches:
                self._deletes_in_batches = await self._delete_batch(batch)
            if not self._deletes_in_batches:
                await self.delete_each(batch, lambda name: client.delete_object(Bucket=self.bucket, Key=name))

    async def _delete_batch(self, names: Sequence[str]) -> bool:
        """False where the store refuses such requests, whatever they are about, and nothing is deleted."""
        client = await self._client()
        batch = {"Objects": [{"Key": name} for name in names], "Quiet": False}
        try:
            answer = await self.retried(partial(client.delete_objects, Bucket=self.bucket, Delete=batch))
        except botocore.exceptions.ClientError as error:
            diagnosis = self._diagnosed(error)
            if diagnosis.cause not in {Cause.REFUSED, Cause.NO_OBJECT} and diagnosis.code not in _DIGESTS:
                raise
            _LOG.info("%s: deletes one by one, since of many: %s", self.connector_id, diagnosis.code)
            return False
        if "Deleted" not in answer and "Errors" not in answer:
            raise NotTheStoreError("Deleted")
        for failed in answer.get("Errors", ()):
            if _found(failed, "Code") != "NoSuchKey":
                raise botocore.exceptions.ClientError({"Error": failed}, "DeleteObjects")
        return True

    async def earlier_versions(self, prefix: str) -> list[EarlierVersion] | None:
        """``ListObjectVersions``: where the bucket keeps none, each object has one version, which is the latest."""
        client = await self._client()
        request = {"Bucket": self.bucket, "Prefix": prefix}

        async def page(
            token: tuple[tuple[str, str], ...] | None,
        ) -> tuple[dict[tuple[str, str], EarlierVersion | None], tuple[tuple[str, str], ...] | None]:
            answer = await self.retried(partial(client.list_object_versions, **request, **dict(token or ())))
            truncated = _found(answer, "IsTruncated")
            found: dict[tuple[str, str], EarlierVersion | None] = {}
            for one in answer.get("Versions", ()):
                key, version = _found(one, "Key"), _found(one, "VersionId")
                found[key, version] = None if _found(one, "IsLatest") else EarlierVersion(key, version)
            for one in answer.get("DeleteMarkers", ()):
                found[_found(one, "Key"), _found(one, "VersionId")] = None  # it holds nothing
            following = None
            if truncated:
                last = answer.get("NextVersionIdMarker")
                following = (
                    ("KeyMarker", _token(answer, "NextKeyMarker")),
                    *((("VersionIdMarker", str(last)),) if last else ()),
                )
            return found, following

        return [one for one in await self.paged(page) if one is not None and one.key.startswith(prefix)]

    async def forget_versions(self, versions: Sequence[EarlierVersion]) -> None:
        """``DeleteObject`` with the version: of one alone, no delete marker comes of it."""
        client = await self._client()
        by_name = {f"{one.key}\0{one.version_id}": one for one in versions}
        await self.delete_each(
            list(by_name),
            lambda name: client.delete_object(
                Bucket=self.bucket, Key=by_name[name].key, VersionId=by_name[name].version_id
            ),
        )

    async def uploads_under_way(self, prefix: str) -> list[UnfinishedUpload]:
        """``ListMultipartUploads``."""
        client = await self._client()
        request = {"Bucket": self.bucket, "Prefix": prefix}

        async def page(
            token: tuple[tuple[str, str], ...] | None,
        ) -> tuple[dict[tuple[str, str], UnfinishedUpload], tuple[tuple[str, str], ...] | None]:
            answer = await client.list_multipart_uploads(**request, **dict(token or ()))
            truncated = _found(answer, "IsTruncated")
            uploads = [
                UnfinishedUpload(_found(one, "Key"), _found(one, "UploadId"), _found(one, "Initiated"))
                for one in answer.get("Uploads", ())
            ]
            following = None
            if truncated:
                last = answer.get("NextUploadIdMarker")
                following = (
                    ("KeyMarker", _token(answer, "NextKeyMarker")),
                    *((("UploadIdMarker", str(last)),) if last else ()),
                )
            return {(one.key, one.upload_id): one for one in uploads}, following

        return [one for one in await self.paged(page) if one.key.startswith(prefix)]

    async def abort_upload(self, upload: UnfinishedUpload) -> None:
        """``AbortMultipartUpload``."""
        client = await self._client()
        try:
            await client.abort_multipart_upload(Bucket=self.bucket, Key=upload.key, UploadId=upload.upload_id)
        except botocore.exceptions.ClientError as error:
            if _code_of(error) != "NoSuchUpload":
                raise

    async def _client(self) -> Any:
        """The client of s3fs itself: its errors are the store's own, and each call is one request."""
        file_system = self.file_system()
        client = await file_system.set_session()
        if not any(self._variables) and (found := await file_system.session.get_credentials()) is not None:
            frozen = await found.get_frozen_credentials()  # which sending does all the same
            self.keep_secret(frozen.secret_key or "", frozen.token or "")
        return client


def _add_content_md5(params: dict[str, Any], **_: Any) -> None:
    """Some stores demand it where many objects are deleted, as Amazon once did. The SDK sends other checksums alone."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _spell_truncated(response_dict: dict[str, Any], **_: Any) -> None:
    """The SDK takes every spelling but one for the end of a listing."""
    response_dict["body"] = _TRUNCATED.sub(rb"\1true", response_dict["body"])


def _refuse_redirect(response_dict: dict[str, Any], **_: Any) -> None:
    """Sent elsewhere by an answer without a region, the SDK asks for the bucket's region, for ever where that answer is
    the same."""
    status = response_dict["status_code"]
    if status in _REDIRECTS and "x-amz-bucket-region" not in response_dict["headers"]:
        known = {"HTTPStatusCode": status, "HTTPHeaders": {}}
        raise botocore.exceptions.ClientError({"Error": {"Code": str(status)}, "ResponseMetadata": known}, "HeadBucket")


def _cause_of_status(status: int) -> Cause:
    """Of a gateway before the store, which knows none of its codes."""
    return Cause.ELSEWHERE if status in _REDIRECTS else cause_of_status(status)


def _cause_of(error: BaseException) -> Cause:
    cause = cause_of_error(error, _CAUSE_OF_ERROR)
    if isinstance(error, botocore.exceptions.EndpointConnectionError):
        # aiobotocore says it of every connection that failed, also of one that was cut after it had sent.
        inner = error.kwargs.get("error")
        if isinstance(inner, OSError) and not isinstance(inner, aiohttp.ClientConnectorError | socket.gaierror):
            return Cause.INTERRUPTED
    return cause


def _code_of(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


_losses = partial(telling_losses, botocore.exceptions.ClientError, _code_of, _LOST)


def _found(answer: Mapping[str, Any], name: str) -> Any:
    """What every answer of a store has. The SDK takes anything with status 200 for an answer."""
    if name not in answer:
        raise NotTheStoreError(name)
    return answer[name]


def _token(answer: Mapping[str, Any], name: str) -> str:
    """Where the next page of a listing begins, of which the store says that there is one."""
    token = answer.get(name)
    if not token:
        raise OddAnswerError(f"it says that there is more to list, and gives no {name}")
    return str(token)


def _check_stored(answer: Mapping[str, Any], checksum: str, data: bytes, what: str) -> None:
    """Raise TransientError where a store says that it holds something else than was sent.

    Its own SHA-256 says it best. A store without checksums gives the MD5 of what it stored, unless it encrypts.
    """
    stored = answer.get("ChecksumSHA256")
    etag = str(_found(answer, "ETag")).strip('"')
    if stored is None and not answer.get("ServerSideEncryption") and len(etag) == 32:  # noqa: PLR2004 - an MD5
        stored, checksum = etag, hashlib.md5(data, usedforsecurity=False).hexdigest()
    if stored is not None and stored != checksum:
        raise TransientError(
            f"{what}: the store has {quoted(str(stored), longest=100)} where {checksum} was sent; try again"
        )
