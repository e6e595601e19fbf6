"""Azure Blob Storage, or a store that speaks its protocol, through adlfs.

The commit is ``Put Blob`` with ``If-None-Match: *``. Every upload carries an MD5 that the service compares, and the
blob keeps the MD5 of the whole, so that whoever reads it later can compare as well.
"""

import asyncio
import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import adlfs
import aiohttp
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    DeserializationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    SerializationError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobClient, ContainerClient

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
    SentOnce,
)
from vv_exports.connectors.policies import azure_policies
from vv_exports.domain.endpoints import same_endpoint
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.redaction import quoted
from vv_exports.errors import CredentialsError, TransientError

_MOST_BLOCKS = 50_000


def _send_once(request: Any) -> None:
    body = request.http_request.data
    if isinstance(body, bytes):
        request.http_request.data = SentOnce(body)


_ONE_REQUEST: Mapping[str, Any] = {
    "retry_total": 0,
    "permit_redirects": False,
    "connection_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "raw_request_hook": _send_once,
}
"""Options of a call, since adlfs makes the client without any."""

_TOKENS_FOR = "https://storage.azure.com/.default"
_AT_AZURE = r"\.blob\.(core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn|cloudapi\.de)|storage\.azure\.net)"

_CODES: Mapping[Cause, frozenset[str]] = {
    Cause.CREDENTIALS: frozenset(
        {
            *("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"),
            *("KeyBasedAuthenticationNotPermitted", "PublicAccessNotPermitted"),
        }
    ),
    Cause.FORBIDDEN: frozenset(
        {
            *("AuthorizationFailure", "AuthorizationPermissionMismatch", "InsufficientAccountPermissions"),
            *("AccountIsDisabled", "ContainerDisabled", "UnauthorizedBlobOverwrite"),
        }
    ),
    Cause.NO_BUCKET: frozenset({"ContainerNotFound", "ContainerBeingDeleted"}),
    Cause.NO_OBJECT: frozenset({"BlobNotFound", "ResourceNotFound"}),
    Cause.TAKEN: frozenset({"BlobAlreadyExists", "ConditionNotMet"}),
    Cause.THROTTLED: frozenset({"ServerBusy", "SystemInUse", "AccountBeingCreated", "SnapshotOperationRateExceeded"}),
    Cause.INTERRUPTED: frozenset(
        {
            *("OperationTimedOut", "InternalError", "Md5Mismatch", "BlobOverwritten"),
            *("InvalidBlockList", "InvalidBlockId", "InvalidBlobOrBlock"),
        }
    ),
}
# The service does not have the blocks that it said to have, or has others at that name.
_LOST = frozenset({"InvalidBlockList", "InvalidBlockId", "InvalidBlobOrBlock"})
_CAUSE_OF_CODE = {code: cause for cause, codes in _CODES.items() for code in codes}
_CAUSE_OF_STATUS = {
    401: Cause.CREDENTIALS,
    403: Cause.FORBIDDEN,
    429: Cause.THROTTLED,
    503: Cause.THROTTLED,
}
# Only where there is no code: 409 and 412 also stand for leases, 404 for much that is no blob.
_CAUSE_OF_BARE_STATUS = {404: Cause.NO_OBJECT, 412: Cause.TAKEN}
_FIRST_ERROR = 400
_RANGE_NOT_SATISFIABLE = 416

_CAUSE_OF_ERROR: CausesOfErrors = (
    (ClientAuthenticationError, Cause.CREDENTIALS),
    (ResourceExistsError, Cause.TAKEN),
    (ResourceModifiedError, Cause.TAKEN),
    (ResourceNotFoundError, Cause.NO_OBJECT),
    (DecodeError, Cause.INTERRUPTED),
    (HttpResponseError, Cause.REFUSED),
    (ServiceRequestError, Cause.UNREACHABLE),
    (ServiceResponseTimeoutError, Cause.TIMEOUT),
    (AzureError, Cause.INTERRUPTED),
    (DeserializationError, Cause.INTERRUPTED),
    (SerializationError, Cause.REFUSED),
)

# Only here: in other errors these words are followed by others.
_SECRET = re.compile(r"(?i)\b(sig|signature|sharedkey \w+)([=: ]\s*)[^\s&;'\"]+")
_IN_CREDENTIALS = re.compile(r"(?i)(?:^|[;&?])(?:sig|accountkey)=([^;&]+)")


class AzureConnector(ObjectStoreConnector):
    """Blobs below ``container / export_base_path``. Without the name of an environment variable, credentials come from
    where Azure's libraries look for them: their variables, the machine's identity, the Azure CLI."""

    provider = "azure"
    scheme = "abfss"
    bucket_word = "container"
    sdk_errors = (AzureError, aiohttp.ClientError, SerializationError, DeserializationError)

    def __init__(
        self,
        connector_id: str,
        storage_account: str,
        container: str,
        export_base_path: str = "",
        scopes: frozenset[str] = frozenset({"export"}),
        *,
        endpoint_url: str | None = None,
        account_key_env: str | None = None,
        connection_string_env: str | None = None,
        sas_token_env: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__(connector_id, container, export_base_path, scopes, endpoint_url=endpoint_url, environ=environ)
        self.storage_account = storage_account
        if endpoint_url and re.fullmatch(f".+{_AT_AZURE}", urlsplit(endpoint_url).hostname or ""):
            self._refuses_taken_names = True  # another of Azure's clouds is Azure as well
        self._account_key_env = account_key_env
        self._connection_string_env = connection_string_env
        self._sas_token_env = sas_token_env

    @property
    def credentials_from(self) -> str:
        """The environment variable, or the SDK's own places."""
        named = self._account_key_env or self._connection_string_env or self._sas_token_env
        return f"the environment variable {named}" if named else "where Azure's libraries look for them"

    def uri(self, key: str) -> str:
        """``abfss://container@account.dfs.core.windows.net/…``, as fsspec and Spark write it."""
        place = f"{self.bucket}@{self.storage_account}.dfs.core.windows.net"
        return f"{self.scheme}://{place}/{self.prefix}{key}".rstrip("/")

    @property
    def address(self) -> str:
        """The URI, told apart from accounts of the same name in other stores."""
        endpoint = same_endpoint(self.provider, self.endpoint_url, self.bucket, self.storage_account)
        place = f"{self.bucket}@{self.storage_account}.dfs.core.windows.net".lower()
        return f"{endpoint} {self.scheme}://{place}/{self.prefix}".strip().rstrip("/")

    def connect(self) -> Any:
        """adlfs. A named credential goes in as a connection string: adlfs prefers one to everything else, and would
        take that of the environment otherwise. It is also the only way to an endpoint without TLS."""
        connection_string = self._connection_string()
        options: dict[str, Any] = {"connection_string": connection_string} if connection_string else self._identity()
        try:
            file_system = adlfs.AzureBlobFileSystem(
                account_name=self.storage_account, skip_instance_cache=True, use_listings_cache=False, **options
            )
        except ValueError:
            # Out of the chain, and not quoted: it may hold what it could not read.
            raise self._unusable("Azure's libraries cannot read what is there") from None
        if connection_string:
            file_system.account_key = file_system.sas_token = None  # of the environment, if anything
        self._check_place(file_system.service_client.primary_hostname)
        return file_system

    def diagnosed(self, error: BaseException) -> Diagnosis:
        """By the service's code where it gave one, then by the status, else by the error's class."""
        said = self._shortened(error)
        cause, code = _cause_of(error)
        if cause is Cause.FORBIDDEN and "failed to authenticate" in said:
            cause = Cause.CREDENTIALS  # Azurite's word for it
        return Diagnosis(cause, code, said)

    async def resolve_credentials(self) -> str:
        """Where no variable is named: a token, without asking the store."""
        credential = self.file_system().credential
        if credential is not None:
            await credential.get_token(_TOKENS_FOR)
        return f"from {self.credentials_from}"

    def policies(self) -> dict[str, JsonObject]:
        """Custom roles, and the conditions of their assignments."""
        return azure_policies(self.storage_account, self.bucket, self.prefix)

    async def reach(self) -> None:
        """``List Blobs``, for one of them. A container's properties are not for SAS tokens that are for a container."""
        found = self._container().list_blobs(name_starts_with=self.prefix or None, results_per_page=1, **_ONE_REQUEST)
        await anext(found.by_page(), None)

    async def upload(self, name: str, data: bytes, *, only_new: bool, sha256: str | None) -> None:
        """``Put Blob``. The service compares MD5 alone, so that a SHA-256 is compared with what is sent, here."""
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise TransientError(f"{self.connector_id}: {name} is not what was hashed before its upload; try again")
        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if only_new else {}
        await self._blob(name).upload_blob(
            data,
            overwrite=True,  # without, the SDK replaces the service's message by its own
            validate_content=True,
            content_settings=_settings(hashlib.md5(data, usedforsecurity=False)),
            **condition,
            **_ONE_REQUEST,
        )

    async def upload_in_parts(self, name: str, local: Path, size: int) -> None:
        """``Put Block`` for each part, and ``Put Block List``.

        Blocks that are not committed are no blob: nobody sees or lists them, nothing can abort them, and the service
        drops them after a week, or when the name is written next. Their ids hold a token of this upload, so that a
        commit names its own blocks alone, and are of one length, as the service demands of all blocks of a name.
        """
        blob = self._blob(name)
        token = uuid.uuid4().hex

        async def stage(number: int, data: bytes) -> BlobBlock:
            block = BlobBlock(f"{token}-{number:05}")
            with _losses():
                await blob.stage_block(block.id, data, length=len(data), validate_content=True, **_ONE_REQUEST)
            return block

        blocks = await self.in_parts(local, size, _MOST_BLOCKS, stage)
        settings = _settings(await asyncio.to_thread(_md5_of, local))

        async def commit() -> None:
            with _losses():
                await blob.commit_block_list(blocks, content_settings=settings, validate_content=True, **_ONE_REQUEST)

        try:
            await self.retried(commit)
        except UploadLostError as lost:
            # Another writer of the name has committed, which drops the blocks of everybody else. The MD5 of a blob is
            # what its writer said, and proves nothing.
            same = await self.holds(name, local, size)
            if same is None:
                raise
            if not same:
                raise lost.error from None  # it is not ours to replace

    async def fetch(self, name: str, start: int | None, end: int | None) -> tuple[bytes, int]:
        """``Get Blob``. The SDK asks again by itself, up to twice, where a body ends early, and asks for large blobs
        in pieces."""
        ranged: dict[str, Any] = {} if start is None or end is None else {"offset": start, "length": end - start}
        try:
            stream = await self._blob(name).download_blob(**ranged, decompress=False, **_ONE_REQUEST)
            data = await stream.readall()
        except HttpResponseError as error:
            if error.status_code == _RANGE_NOT_SATISFIABLE:
                return b"", 0
            raise
        except ValueError as error:  # of the SDK, where the headers of a blob are missing
            raise NotTheStoreError("Content-Range") from error
        if len(data) != stream.size:
            raise aiohttp.ClientPayloadError(f"{len(data)} of {stream.size} bytes arrived")
        total = str(stream.properties.content_range).rpartition("/")[2]
        return data, int(total) if total.isdecimal() else len(data)

    async def listed(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """``List Blobs``, page by page, 5,000 in a page. An iterator that failed asks for the same page again."""
        del after  # the service versions that all accounts have cannot begin in the middle
        container = self._container()

        async def page(token: str | None) -> tuple[dict[str, BlobProperties], str | None]:
            blobs = container.list_blobs(name_starts_with=prefix or None, include=["metadata"], **_ONE_REQUEST)
            pages: Any = blobs.by_page(token)  # its type does not tell of the token
            try:
                listed = [one async for one in await anext(pages)]
            except AttributeError as error:  # of the SDK, where there is no listing in the answer
                raise NotTheStoreError("listing") from error
            for one in listed:
                if not isinstance(one.name, str) or not isinstance(one.size, int):
                    raise NotTheStoreError("name or length of a blob")
            return {one.name: one for one in listed}, pages.continuation_token or None

        found = await self.paged(lambda token: self.retried(partial(page, token)))
        return [(one.name, one.size) for one in found if not _is_folder(one)]

    async def delete_all(self, names: Sequence[str]) -> None:
        """``Delete Blob``, some at a time. The SDK's batches name the blobs of an emulator wrongly, unless it is on
        this machine, and each answer in them would have to be tried again by itself."""
        await self.delete_each(names, lambda name: self._blob(name).delete_blob(**_ONE_REQUEST))

    def _container(self) -> ContainerClient:
        client: ContainerClient = self.file_system().service_client.get_container_client(self.bucket)
        return client

    def _blob(self, name: str) -> BlobClient:
        client: BlobClient = self.file_system().service_client.get_blob_client(self.bucket, name)
        return client

    def _connection_string(self) -> str | None:
        """What was named, as a connection string; None where nothing was."""
        key = self.secret(self._account_key_env)
        token = (self.secret(self._sas_token_env) or "").removeprefix("?")
        whole = self.variable(self._connection_string_env)
        found = {secret for text in (token, whole or "") for secret in _IN_CREDENTIALS.findall(text)}
        self.keep_secret(*found, *map(unquote, found))
        place = self.endpoint_url or f"https://{self.storage_account}.blob.core.windows.net"
        # A semicolon would begin another setting, such as an endpoint.
        if key and not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", key):
            raise self._unusable("that is not an account key")
        if token and (";" in token or "sig=" not in token):
            raise self._unusable("that is not a SAS token")
        if key:
            return f"BlobEndpoint={place};AccountName={self.storage_account};AccountKey={key}"
        return f"BlobEndpoint={place};SharedAccessSignature={token}" if token else whole

    def _identity(self) -> dict[str, Any]:
        """Options for ``DefaultAzureCredential``. Its tokens go over TLS only, and adlfs assumes as much."""
        if self.endpoint_url is None:
            return {"anon": False}
        scheme, _, host = self.endpoint_url.partition("://")
        if scheme != "https":
            raise CredentialsError(
                f"{self.connector_id}: no credential is named, and the tokens of Azure's libraries are not sent to "
                f"{self.endpoint_url}, which has no TLS. Name account_key_env or connection_string_env."
            )
        return {"anon": False, "account_host": host}

    def _check_place(self, found: str) -> None:
        """Raise CredentialsError where a connection string leads elsewhere than the configuration says."""
        if self.endpoint_url is None:
            right = re.fullmatch(rf"{self.storage_account}(\.z\d+)?{_AT_AZURE}", found, re.IGNORECASE)
        else:
            place = urlsplit(self.endpoint_url)
            right = re.fullmatch(re.escape(f"{place.netloc}{place.path}".rstrip("/")), found, re.IGNORECASE)
        if not right:
            wanted = self.endpoint_url or f"the account {self.storage_account} at Azure"
            raise self._unusable(f"that leads to {found}, and the configuration says {wanted}")

    def _unusable(self, why: str) -> CredentialsError:
        return CredentialsError(
            f"{self.connector_id}: the credentials come from {self.credentials_from}: {self._redacted(why)}. "
            "Put valid credentials there, or mend the connector's configuration."
        )

    def _shortened(self, error: BaseException) -> str:
        """The first line. Those below hold the request's id, the time, and sometimes what was signed."""
        return self._redacted(str(error).strip().partition("\n")[0].strip())

    def _redacted(self, text: str) -> str:
        return _SECRET.sub(r"\1\2***", quoted(text, self._secrets))


def _cause_of(error: BaseException) -> tuple[Cause, str]:
    """The cause, and the service's code or the error's class."""
    if isinstance(error, HttpResponseError) and (cause := _cause_of_answer(error)):
        return cause, _code_of(error) or str(error.status_code)
    if type(error) is HttpResponseError and error.status_code and error.status_code < _FIRST_ERROR:
        return Cause.INTERRUPTED, f"unexpected {error.status_code}"  # what answers is not the store
    inner = error.inner_exception if isinstance(error, AzureError) else None
    # The transport says of each connection that failed that nothing was sent, though it may have been cut later.
    if isinstance(error, ServiceRequestError | HttpResponseError) and isinstance(
        inner, AzureError | aiohttp.ClientError
    ):
        return _cause_of(inner)
    return cause_of_error(error, _CAUSE_OF_ERROR), type(error).__name__


def _cause_of_answer(error: HttpResponseError) -> Cause | None:
    """None where the service has not answered with an error."""
    code, status = _code_of(error), error.status_code or 0
    if code in _CAUSE_OF_CODE:
        return _CAUSE_OF_CODE[code]
    if status in _CAUSE_OF_STATUS:
        return _CAUSE_OF_STATUS[status]
    if cause_of_status(status) is Cause.INTERRUPTED:
        return Cause.INTERRUPTED
    if status < _FIRST_ERROR or (isinstance(error, ClientAuthenticationError) and not code):
        return None  # what answers 400 to the request for a token is not the store
    return _CAUSE_OF_BARE_STATUS.get(status, Cause.REFUSED) if not code else Cause.REFUSED


def _code_of(error: HttpResponseError) -> str:
    """The service's code, which the SDK keeps as text or as a member of an enumeration."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


_losses = partial(telling_losses, HttpResponseError, _code_of, _LOST)


def _is_folder(blob: BlobProperties) -> bool:
    """Whether a blob stands for a folder, as accounts with a hierarchical namespace mark theirs."""
    return (blob.metadata or {}).get("hdi_isfolder", "").lower() == "true"


def _md5_of(local: Path) -> "hashlib._Hash":
    with local.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))


def _settings(digest: "hashlib._Hash") -> ContentSettings:
    return ContentSettings(content_md5=bytearray(digest.digest()))
