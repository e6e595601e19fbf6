"""Google Cloud Storage, or a store that speaks its JSON API, through gcsfs.

The commit is an upload with ``ifGenerationMatch=0``. Every upload carries a CRC32C that the store compares, and what it
says that it stored is compared here. gcsfs finds the credentials, keeps the connections, and reads datasets for Arrow;
requests of ours go past its own, which tries up to six times and turns the store's answers into errors that no longer
say what the store said.
"""

import asyncio
import base64
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import google.auth.exceptions as auth
import google_crc32c
import requests.exceptions
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError, HttpError, NonRetryableError
from google.oauth2 import service_account
from yarl import URL

from vv_exports.connectors.diagnosis import (
    Cause,
    CausesOfErrors,
    Diagnosis,
    UploadLostError,
    cause_of_error,
    cause_of_status,
)
from vv_exports.connectors.gcs_session import session_of
from vv_exports.connectors.object_store import (
    CONNECT_SECONDS,
    READ_SECONDS,
    NotTheStoreError,
    ObjectStoreConnector,
    SentOnce,
    read_at,
)
from vv_exports.connectors.policies import gcs_policies
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.redaction import quoted
from vv_exports.errors import CredentialsError, TransientError

_CHUNK = 16 * 2**20  # a multiple of 256 KiB, as the store demands of all but the last
_ACCESS = "read_write"
_SCOPE = f"https://www.googleapis.com/auth/devstorage.{_ACCESS}"
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)

_FIRST_REDIRECT = 300
_RESUME = 308
_NOT_FOUND = 404
_GONE = 410
_RANGE_NOT_SATISFIABLE = 416

_CAUSE_OF_STATUS = {
    _RESUME: Cause.INTERRUPTED,
    401: Cause.CREDENTIALS,
    403: Cause.FORBIDDEN,
    _NOT_FOUND: Cause.NO_OBJECT,
    409: Cause.THROTTLED,
    _GONE: Cause.INTERRUPTED,  # an upload's session
    412: Cause.TAKEN,
    429: Cause.THROTTLED,
    503: Cause.THROTTLED,
}
_REASONS: Mapping[Cause, frozenset[str]] = {
    Cause.THROTTLED: frozenset(
        {
            *("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"),
            *("concurrentLimitExceeded", "variableTermLimitExceeded", "servingLimitExceeded"),
        }
    ),
    # The same statuses, and no matter of permission, nor an answer to whether a name is taken.
    Cause.REFUSED: frozenset(
        {
            *("retentionPolicyNotMet", "objectUnderActiveHold", "orgPolicyConstraintFailed", "accountDisabled"),
            *("sslRequired", "UserProjectInconsistent", "countryBlocked"),
        }
    ),
}
_CAUSE_OF_REASON = {reason: cause for cause, reasons in _REASONS.items() for reason in reasons}

_CAUSE_OF_ERROR: CausesOfErrors = (
    (NonRetryableError, Cause.CREDENTIALS),
    (ChecksumError, Cause.INTERRUPTED),
    (auth.TransportError, Cause.UNREACHABLE),
    (auth.TimeoutError, Cause.UNREACHABLE),
    (auth.ResponseError, Cause.UNREACHABLE),
    (auth.GoogleAuthError, Cause.CREDENTIALS),
    # Only tokens are asked for through requests.
    (requests.exceptions.ConnectionError, Cause.UNREACHABLE),
    (requests.exceptions.Timeout, Cause.TIMEOUT),
    (requests.exceptions.URLRequired, Cause.REFUSED),
    (requests.exceptions.TooManyRedirects, Cause.REFUSED),
    (requests.exceptions.MissingSchema, Cause.REFUSED),
    (requests.exceptions.InvalidSchema, Cause.REFUSED),
    (requests.exceptions.InvalidURL, Cause.REFUSED),
    (requests.exceptions.InvalidHeader, Cause.REFUSED),
    (requests.exceptions.RequestException, Cause.INTERRUPTED),
)


class _RefusedError(Exception):
    """The store's answer, where it is an error. ``absent`` is what a 404 means if the answer does not say."""

    def __init__(self, status: int, reason: str, message: str, absent: Cause = Cause.NO_OBJECT) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.absent = absent


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> JsonObject:
        try:
            said = json.loads(self.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise NotTheStoreError("JSON")
        return said


@dataclass
class _Session:
    """An upload in chunks: where it is, how much of it is kept, and whether that is known for certain."""

    url: str
    size: int
    at: int = 0
    in_doubt: bool = False


class GcsConnector(ObjectStoreConnector):
    """Objects below ``bucket / export_base_path``. Without the name of an environment variable, credentials come from
    where Google's libraries look for them: ``GOOGLE_APPLICATION_CREDENTIALS``, gcloud's files, the machine's account.

    An upload in chunks that nobody ends is no object, costs nothing, cannot be listed, and goes after a week.
    """

    provider = "gcs"
    scheme = "gs"
    sdk_errors = (
        _RefusedError,
        HttpError,
        ChecksumError,
        NonRetryableError,
        auth.GoogleAuthError,
        aiohttp.ClientError,
        requests.exceptions.RequestException,
    )

    def __init__(
        self,
        connector_id: str,
        bucket: str,
        export_base_path: str = "",
        scopes: frozenset[str] = frozenset({"export"}),
        *,
        endpoint_url: str | None = None,
        credentials_file_env: str | None = None,
        anonymous: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        # The SDK follows this variable too, and then the store is not Google's.
        endpoint = endpoint_url or _emulator(environ)
        super().__init__(connector_id, bucket, export_base_path, scopes, endpoint_url=endpoint, environ=environ)
        if endpoint and (urlsplit(endpoint).hostname or "").endswith(".googleapis.com"):
            self._refuses_taken_names = True  # another way to Google's own store
        self._credentials_file_env = credentials_file_env
        self._anonymous = anonymous

    @property
    def credentials_from(self) -> str:
        """The file that an environment variable names, or the SDK's own places."""
        if self._credentials_file_env:
            return f"the file that the environment variable {self._credentials_file_env} names"
        return "nowhere, as anonymous says" if self._anonymous else "where Google's libraries look for them"

    def connect(self) -> Any:
        """gcsfs. Its experimental subclass, which its package exports, would ask over gRPC first."""
        return GCSFileSystem(
            project="",
            access=_ACCESS,
            token=self._token(),
            endpoint_url=self.endpoint_url,
            requests_timeout=_TIMEOUT,
            session_kwargs={"trust_env": True},  # proxies, as other SDKs do by themselves
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def diagnosed(self, error: BaseException) -> Diagnosis:
        """By the reason that the store gave, then by the status, else by the error's class."""
        if isinstance(error, _RefusedError):
            return Diagnosis(_cause_of_answer(error), error.reason or str(error.status), _shortened(error.message))
        if isinstance(error, HttpError):
            # What gcsfs makes of a token that could not be had: a 401, whatever the reason was.
            if isinstance(error.__cause__, auth.GoogleAuthError):
                return self.diagnosed(error.__cause__)
            status = int(error.code) if str(error.code).isdecimal() else 0
            return self.diagnosed(_RefusedError(status, "", _shortened(str(error.message))))
        if isinstance(error, auth.RefreshError) and error.retryable:
            return Diagnosis(Cause.UNREACHABLE, type(error).__name__, _said(error))
        return Diagnosis(cause_of_error(error, _CAUSE_OF_ERROR), type(error).__name__, _said(error))

    async def resolve_credentials(self) -> str:
        """Whose they are, without asking the store."""
        found = self.file_system().credentials.credentials
        account = getattr(found, "service_account_email", None)
        return f"from {self.credentials_from}{f': {account}' if account else ''}"

    def policies(self) -> dict[str, JsonObject]:
        """Custom roles, and the conditions of their bindings."""
        return gcs_policies(self.bucket, self.prefix)

    async def reach(self) -> None:
        """``buckets.get``."""
        await self._ask("GET", f"{self._root}storage/v1/{self._bucket}", {"fields": "name"}, absent=Cause.NO_BUCKET)

    async def upload(self, name: str, data: bytes, *, only_new: bool, sha256: str | None) -> None:
        """``objects.insert``, with what it is and its content in one request."""
        del sha256  # the store compares CRC32C and MD5 alone
        checksum = _encoded(google_crc32c.value(data))
        content_type, body = _multipart({"name": name, "crc32c": checksum}, data)
        answer = await self._ask(
            "POST",
            f"{self._root}upload/storage/v1/{self._bucket}/o",
            {"uploadType": "multipart", "fields": "size,crc32c", **({"ifGenerationMatch": "0"} if only_new else {})},
            headers={"Content-Type": content_type},
            data=body,
            absent=Cause.NO_BUCKET,
        )
        _check_stored(answer.json(), len(data), checksum, name)

    async def upload_in_parts(self, name: str, local: Path, size: int) -> None:
        """A resumable upload: chunks, one after the other, since the store takes each only where the last has ended.

        There is no object before the last chunk is kept, and the store compares the CRC32C of the whole. A session that
        the store has forgotten is begun anew.
        """
        checksum = _encoded(await asyncio.to_thread(_crc32c_of, local))
        session = _Session(await self.retried(partial(self._begin, name, size, checksum)), size)
        try:
            while (stored := await self.retried(partial(self._go_on, session, local))) is None:
                pass
            _check_stored(stored, size, checksum, name)
        except BaseException:
            # Also where the time is over. What cannot be ended now goes by itself.
            with suppress(*self.sdk_errors, OSError):
                await self._ask("DELETE", session.url)
            raise

    async def fetch(self, name: str, start: int | None, end: int | None) -> tuple[bytes, int]:
        """``objects.get`` of the content, as it is stored: the store would unpack what is marked as packed."""
        headers = {"Accept-Encoding": "gzip"}
        if start is not None and end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        try:
            answer = await self._ask("GET", self._object(name), {"alt": "media"}, headers=headers, unpack=False)
        except _RefusedError as error:
            if error.status == _RANGE_NOT_SATISFIABLE:
                return b"", 0
            raise
        if not any(name.lower().startswith("x-goog-") for name in answer.headers):
            raise NotTheStoreError("header of Google's")
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdecimal():
            return answer.body, int(total)
        _check_fetched(answer)
        return answer.body, len(answer.body)

    async def listed(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """``objects.list``, page by page."""
        query = {"prefix": prefix, "maxResults": "1000", "fields": "items(name,size),nextPageToken"}
        if after:
            query["startOffset"] = after
        place = f"{self._root}storage/v1/{self._bucket}/o"

        async def page(token: str | None) -> tuple[dict[str, tuple[str, int]], str | None]:
            asked = {**query, **({"pageToken": token} if token else {})}
            answer = (await self._ask("GET", place, asked, absent=Cause.NO_BUCKET)).json()
            listed = [(str(one["name"]), int(one["size"])) for one in answer.get("items") or ()]
            return {one[0]: one for one in listed}, str(answer.get("nextPageToken") or "") or None

        return await self.paged(lambda token: self.retried(partial(page, token)))

    async def delete_all(self, names: Sequence[str]) -> None:
        """``objects.delete``, some at a time. The store's batches are a request for each object all the same, each with
        an answer that would have to be tried again by itself, and emulators have none."""
        await self.delete_each(names, lambda name: self._ask("DELETE", self._object(name)))

    async def _begin(self, name: str, size: int, checksum: str) -> str:
        """Begin an upload in chunks. Returns the address of its session."""
        answer = await self._ask(
            "POST",
            f"{self._root}upload/storage/v1/{self._bucket}/o",
            {"uploadType": "resumable", "fields": "size,crc32c"},
            headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Length": str(size)},
            data=json.dumps({"name": name, "crc32c": checksum}).encode(),
            absent=Cause.NO_BUCKET,
        )
        if "Location" not in answer.headers:
            raise aiohttp.ClientPayloadError("the store began an upload and did not say where")
        return answer.headers["Location"]

    async def _go_on(self, session: _Session, local: Path) -> JsonObject | None:
        """Send the next chunk. Returns what is stored once it is all there.

        Where the last attempt failed the session is asked first how far it is: it may have kept some of the chunk, all
        of it, or, where that was the last, be through.
        """
        if session.in_doubt:
            answer = await self._ask_session(session, f"bytes */{session.size}")
            if answer.status != _RESUME:
                return answer.json()
            session.at = _checked(_kept(answer), 0, session.size)
        session.in_doubt = True
        data = await asyncio.to_thread(read_at, local, session.at, _CHUNK)
        place = f"bytes {session.at}-{session.at + len(data) - 1}/{session.size}"
        answer = await self._ask_session(session, place, data)
        if answer.status != _RESUME:
            return answer.json()
        session.at = _checked(_kept(answer), session.at + 1, session.size)
        session.in_doubt = False
        return None

    async def _ask_session(self, session: _Session, content_range: str, data: bytes | None = None) -> _Answer:
        try:
            return await self._ask("PUT", session.url, headers={"Content-Range": content_range}, data=data)
        except _RefusedError as error:
            if error.status in {_NOT_FOUND, _GONE}:
                forgotten = _RefusedError(_GONE, "", "the store no longer knows of this upload")
                raise UploadLostError(forgotten, str(_GONE)) from None
            raise

    async def _ask(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        unpack: bool = True,
        absent: Cause = Cause.NO_OBJECT,
    ) -> _Answer:
        """One request. Raises _RefusedError where the store answers with an error."""
        file_system = self.file_system()
        sent = dict(headers or {})
        if file_system.credentials.credentials is not None:
            await asyncio.to_thread(file_system.credentials.apply, sent)  # asks for a new token where it is due
            self.keep_secret(sent.get("Authorization", "").rpartition(" ")[2])
        session = await session_of(file_system)
        # Percent-encoded here: the store wants slashes in names encoded, and the client would decode some of the rest.
        target = URL(f"{url}?{urlencode(query, quote_via=quote)}" if query else url, encoded=True)
        if data is not None:
            sent["Content-Length"] = str(len(data))
        async with session.request(
            method,
            target,
            headers=sent,
            data=None if data is None else SentOnce(data),
            timeout=_TIMEOUT,
            allow_redirects=False,
            auto_decompress=unpack,
        ) as response:
            answer = _Answer(response.status, response.headers, await response.read())
            # In an upload in chunks 308 asks for the next; anywhere else it is a redirect.
            if answer.status >= _FIRST_REDIRECT and not (answer.status == _RESUME and "Content-Range" in sent):
                raise _refused(answer, str(response.reason), absent)
        return answer

    @property
    def _root(self) -> str:
        base: str = self.file_system().base
        return base.removesuffix("storage/v1/")

    @property
    def _bucket(self) -> str:
        return f"b/{quote(self.bucket, safe='')}"

    def _object(self, name: str) -> str:
        return f"{self._root}storage/v1/{self._bucket}/o/{quote(name, safe='')}"

    def _token(self) -> Any:
        """What gcsfs takes as a token. Its own search goes on without credentials where it fails, and takes what it
        has pickled in the home folder: Google's own search does neither."""
        if self._anonymous:
            return "anon"
        path = self.variable(self._credentials_file_env)
        if path is not None:
            return self._key_file(path)
        if (self.endpoint_url or "").startswith("http://"):
            raise CredentialsError(
                f"{self.connector_id}: no credential is named, and the tokens of Google's libraries are not sent to "
                f"{self.endpoint_url}, which has no TLS. Name credentials_file_env, or set anonymous for an emulator."
            )
        return "google_default"

    def _key_file(self, path: str) -> Any:
        """The credentials of a service account. Nothing of the file is quoted, nor its path: some put the key there."""
        made_of: Any = service_account.Credentials.from_service_account_info  # has no types
        try:
            return made_of(json.loads(Path(path).read_text("utf-8")), scopes=[_SCOPE])
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except (ValueError, TypeError, KeyError, AttributeError, auth.GoogleAuthError):
            why = "is not the key file of a service account"
        raise CredentialsError(
            f"{self.connector_id}: {self.credentials_from} {why}. Let the variable hold the path of a service "
            "account's key file, in JSON."
        )


def _emulator(environ: Mapping[str, str]) -> str | None:
    place = environ.get("STORAGE_EMULATOR_HOST", "")
    if place in {"", "default"}:
        return None
    return place if place.startswith(("http://", "https://")) else f"http://{place}"


def _refused(answer: _Answer, phrase: str, absent: Cause) -> _RefusedError:
    """An error as the store gives it: in JSON, or, where content was asked for, in plain text."""
    text = answer.body.decode(errors="replace").strip()
    reason, message = "", phrase if text.startswith("<") or not text else text
    with suppress(ValueError, TypeError, KeyError, AttributeError, IndexError):
        error = json.loads(text)["error"]
        message = error["message"]
        reason = error["errors"][0]["reason"]
    return _RefusedError(answer.status, str(reason), str(message), absent)


def _cause_of_answer(error: _RefusedError) -> Cause:
    if error.reason in _CAUSE_OF_REASON:
        return _CAUSE_OF_REASON[error.reason]
    if error.status == _NOT_FOUND:
        named = not error.message.startswith("No such object") and "bucket" in error.message.lower()
        return Cause.NO_BUCKET if named else error.absent
    if "doesn't match calculated" in error.message:
        return Cause.INTERRUPTED  # a checksum
    return _CAUSE_OF_STATUS.get(error.status) or cause_of_status(error.status)


def _said(error: BaseException) -> str:
    """What an error says. Those about tokens hold the whole answer as well, of which nothing is quoted; those about
    answers hold the address, and in it the session of an upload."""
    if isinstance(error, aiohttp.ClientResponseError):
        return _shortened(f"{error.status} {error.message}".strip())
    if isinstance(error, auth.GoogleAuthError):
        return _shortened(str(error.args[0]) if error.args else "")
    return _shortened(str(error))


def _shortened(text: str) -> str:
    """The first line."""
    return quoted(text.strip().partition("\n")[0])


def _multipart(metadata: JsonObject, data: bytes) -> tuple[str, bytes]:
    """(content type, body) of an upload in one request."""
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(metadata)}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    return f"multipart/related; boundary={boundary}", b"".join(
        (head.encode(), data, f"\r\n--{boundary}--\r\n".encode())
    )


def _check_stored(stored: JsonObject, size: int, checksum: str, what: str) -> None:
    """Raise TransientError where a store says that it holds something else than was sent, NotTheStoreError where it
    does not say what it holds."""
    for name in ("size", "crc32c"):
        if name not in stored:
            raise NotTheStoreError(name)
    found = (str(stored["size"]), str(stored["crc32c"]))
    if found != (str(size), checksum):
        raise TransientError(
            f"{what}: the store has {quoted(found[0], longest=30)} bytes with CRC32C {quoted(found[1], longest=30)} "
            f"where {size} with {checksum} were sent; try again"
        )


def _check_fetched(answer: _Answer) -> None:
    """Raise ChecksumError where a whole object is not what the store says that it is."""
    stored = re.search(r"crc32c=([^,\s]+)", answer.headers.get("X-Goog-Hash", ""))
    if stored and stored[1] != _encoded(google_crc32c.value(answer.body)):
        raise ChecksumError(f"{len(answer.body)} bytes arrived, which are not those that are stored")


def _kept(answer: _Answer) -> int:
    """How many bytes an upload's session holds."""
    last = answer.headers.get("Range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() else 0


def _checked(kept: int, least: int, size: int) -> int:
    """How many bytes are kept, where that is less than all, for else it would be an object, and some progress."""
    if not least <= kept < size:
        raise _RefusedError(_RESUME, "", f"the store keeps {kept} bytes of {size}, and waits for others")
    return kept


def _crc32c_of(local: Path) -> int:
    checksum = 0
    with local.open("rb") as file:
        while data := file.read(2**20):
            checksum = google_crc32c.extend(checksum, data)
    return checksum


def _encoded(checksum: int) -> str:
    """A CRC32C as the store writes it."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
