"""What object stores have in common. A provider's module says how its store is asked, and what its errors mean.

Requests go through the client of the provider's fsspec file system, each with a time limit. What may pass is tried
again here, a few times and no longer than a minute, so that the SDKs' own retries, which differ and add up, are off.
"""

import asyncio
import io
import logging
import os
import re
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

import aiohttp
import pyarrow.fs as pafs
import stamina
from fsspec.asyn import sync

from vv_exports.connectors.base import Connector, EarlierVersion, StoredFile, UnfinishedUpload
from vv_exports.connectors.diagnosis import PASSING, Cause, Diagnosis, Failures, UploadLostError
from vv_exports.connectors.object_reader import READ_AT_ONCE, READ_SPARSELY, ObjectReader
from vv_exports.connectors.trials import refuses_taken_names, remember, remembered
from vv_exports.domain.endpoints import same_endpoint
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.domain.redaction import quoted
from vv_exports.errors import (
    CredentialsError,
    DeliveredDataError,
    DestinationError,
    ForbiddenError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
    VVExportsError,
)

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Token = TypeVar("_Token", bound=Hashable)

CONNECT_SECONDS = 10
READ_SECONDS = 60
_ATTEMPTS = 4
_RETRYING_SECONDS = 60
_LIMIT_SECONDS = 300
_SLOWEST_BYTES_PER_SECOND = 2**18
_MEBIBYTE = 2**20
WHOLE_BYTES = 16 * _MEBIBYTE
"""Files up to this size are uploaded in one request."""
_SMALLEST_PART = 16 * _MEBIBYTE
_PARTS_IN_MEMORY = 64 * _MEBIBYTE
_SENT_AT_ONCE = 2**18
_STALE_AFTER = timedelta(days=1)
_UPLOADS = 3  # of one file, where the store loses what it was sent
_DELETED_AT_ONCE = 16
_EMPTY_PAGES = 1000  # one after the other; stores may give some
_LONGEST_CODE = 100

# What comes of reading an answer, by an SDK or by us, that has another shape than it should.
_MISREAD = (LookupError, TypeError, AttributeError, ValueError)


class NotTheStoreError(aiohttp.ClientError):
    """What answers is not the store: a page to log in to a network, say. An answer like this must not be taken for an
    empty listing, or for a success."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"what answers is not the store: its answer has no {missing}")


class OddAnswerError(aiohttp.ClientError):
    """The store's answer makes no sense. Nothing is known of what was asked."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the store's answer makes no sense: {why}")


class SentOnce:
    """The body of a request, sent in pieces, that cannot be sent again.

    aiohttp by itself repeats a PUT whose kept connection turns out to be cut, which no limit of ours would count; and a
    large body in one piece would hold up everything else on its thread.
    """

    def __init__(self, body: bytes) -> None:
        self._left: bytes | None = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, self._left = self._left, None
        if body is None:
            raise aiohttp.ClientPayloadError("the connection was cut while this was sent")
        for start in range(0, len(body), _SENT_AT_ONCE):
            yield body[start : start + _SENT_AT_ONCE]


class _ForeseenError(Exception):
    """The answer that the asker has foreseen: there is such an object, or there is none."""


def _form(key: str) -> str:
    """What all files of a kind in a folder have in common: their names without hashes and numbers. Of a name that holds
    none, its ending alone."""
    folder, _, name = key.rpartition("/")
    form = re.sub("[0-9a-f]{16,}|[0-9]+", "#", name)
    return f"{folder}/{form if '#' in form else PurePosixPath(name).suffix}"


def part_size(size: int, *, most_parts: int) -> int:
    """How large the parts of a file of ``size`` bytes are: whole mebibytes, 16 at least, ``most_parts`` at most."""
    needed = -(-size // most_parts)
    return max(_SMALLEST_PART, -(-needed // _MEBIBYTE) * _MEBIBYTE)


class ObjectStoreConnector(ABC):
    """Objects below ``bucket / export_base_path``. ``bucket`` stands for what a provider calls it."""

    provider: ClassVar[str]
    scheme: ClassVar[str]
    bucket_word: ClassVar[str] = "bucket"
    sdk_errors: ClassVar[tuple[type[Exception], ...]]
    """Everything that the provider's client raises on purpose. ``diagnosed`` knows each of them."""
    uploads_at_once = 4

    def __init__(
        self,
        connector_id: str,
        bucket: str,
        export_base_path: str,
        scopes: frozenset[str],
        *,
        endpoint_url: str | None,
        environ: Mapping[str, str],
    ) -> None:
        self.connector_id = connector_id
        self.scopes = scopes
        self.bucket = bucket
        self.prefix = f"{export_base_path}/" if export_base_path else ""
        self.endpoint_url = endpoint_url
        # The providers themselves refuse a taken name. A store that only speaks their protocol must be tried.
        self._refuses_taken_names: bool | None = True if endpoint_url is None else None
        self.pipeline_storage: Connector | None = None
        self._environ = environ
        self._file_systems: dict[int, Any] = {}
        self._rooms: dict[int, asyncio.Semaphore] = {}
        self._to_sweep: set[str] = set()
        self._secrets: frozenset[str] = frozenset()

    # What a provider adds. Names are whole names in the bucket. Each makes one request and retries nothing, other
    # than `upload_in_parts`, `listed` and `delete_all`.

    @abstractmethod
    def connect(self) -> Any:
        """A new fsspec file system, with no listings cache and none of its own retries. Reads the credentials."""

    @abstractmethod
    def diagnosed(self, error: BaseException) -> Diagnosis:
        """What an error of ``sdk_errors`` means."""

    @property
    @abstractmethod
    def credentials_from(self) -> str:
        """Where the credentials come from, in words."""

    async def resolve_credentials(self) -> str:
        """Find the credentials without using them. Says where they are from."""
        return f"from {self.credentials_from}"

    @abstractmethod
    async def reach(self) -> None:
        """Ask for the bucket itself."""

    @abstractmethod
    async def upload(self, name: str, data: bytes, *, only_new: bool, sha256: str | None) -> None:
        """Write an object in one request, with a checksum that the store compares."""

    @abstractmethod
    async def upload_in_parts(self, name: str, local: Path, size: int) -> None:
        """Write a large object. What was begun and failed is aborted, as far as the store lets us.

        Raises UploadLostError where it may be begun anew.
        """

    @abstractmethod
    async def fetch(self, name: str, start: int | None, end: int | None) -> tuple[bytes, int]:
        """Bytes ``[start, end)`` of an object, or all, and the size of the whole. A range of an empty one is empty."""

    @abstractmethod
    async def listed(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """(name, size) of every object whose name begins like this. Those that stand for folders may be among them,
        with names that end in a slash; those up to ``after`` may be left out, where it is not empty."""

    @abstractmethod
    async def delete_all(self, names: Sequence[str]) -> None:
        """Delete objects, many in a request where the store can. Those that are gone are no error."""

    async def earlier_versions(self, prefix: str) -> list[EarlierVersion] | None:
        """What there still is of objects that were deleted or replaced. ``key`` is the whole name here."""
        del prefix
        return None

    async def forget_versions(self, versions: Sequence[EarlierVersion]) -> None:
        """Remove them."""
        raise NotImplementedError

    async def uploads_under_way(self, prefix: str) -> list[UnfinishedUpload]:
        """Uploads in parts that are neither completed nor aborted. ``key`` is the whole name here."""
        del prefix
        return []

    async def abort_upload(self, upload: UnfinishedUpload) -> None:
        """Abort one of them."""
        raise NotImplementedError

    @abstractmethod
    def policies(self) -> dict[str, JsonObject]:
        """The least-privilege policies, as the provider writes them."""

    # The protocol

    def uri(self, key: str) -> str:
        """``<scheme>://bucket/…``."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}{key}".rstrip("/")

    @property
    def address(self) -> str:
        """The URI, told apart from buckets of the same name in other stores."""
        return f"{same_endpoint(self.provider, self.endpoint_url, self.bucket)} {self.uri('')}".strip()

    def remember_in(self, storage: Connector) -> None:
        """Where trials are remembered."""
        self.pipeline_storage = storage

    def decides_among_writers(self) -> bool:
        """True for the provider itself. Another store is tried once, and what came of it is remembered."""
        if self._refuses_taken_names is None:
            trial = remembered(self.pipeline_storage, self.address) if self.pipeline_storage is not None else None
            self._refuses_taken_names = self.try_taken_name() if trial is None else trial.refuses_taken_names
        return self._refuses_taken_names

    def try_taken_name(self) -> bool:
        """Try whether the store refuses a name that is taken, and remember it."""
        self._refuses_taken_names = refuses_taken_names(self._create_if_absent, self.read, self.delete)
        if self.pipeline_storage is not None and self.endpoint_url is not None:
            remember(self.pipeline_storage, self.address, refuses=self._refuses_taken_names)
        return self._refuses_taken_names

    def introduction(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """Credentials, and the bucket itself."""
        return [("credentials", self._resolved_credentials), (self.bucket_word, self._reached)]

    def _resolved_credentials(self) -> str:
        return self._run("find credentials for", "", self.resolve_credentials, again=False)

    def _reached(self) -> str:
        try:
            self._run("reach", "", self.reach, foreseen=Cause.NO_OBJECT)
        except _ForeseenError:
            raise self._error(Diagnosis(Cause.NO_BUCKET, "not found"), "reach", "") from None
        except ForbiddenError:
            return "the store answers; whether these credentials may use it, the next steps say"
        return f"{self.bucket} is there"

    def put(self, local: Path, key: str, *, sha256: str | None = None, durable: bool = True) -> None:
        """Upload; the object is there whole or not at all."""
        del durable  # what a store has acknowledged is durable
        name = self._name(key)
        size = local.stat().st_size
        if size <= WHOLE_BYTES:
            data = local.read_bytes()
            self._run("write", key, partial(self.upload, name, data, only_new=False, sha256=sha256), size=size)
            return
        self._to_sweep.add(_form(key))
        limit = _LIMIT_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
        self._run("write", key, partial(self._upload_afresh, name, local, size), seconds=limit, again=False)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """Upload if there is no such object. The store decides among writers that meet."""
        del durable  # what a store has acknowledged is durable
        self._name(key)  # a bad key is refused before anything is tried
        return self._create_if_absent(key, data) if self.decides_among_writers() else self._create_alone(key, data)

    def _create_alone(self, key: str, data: bytes) -> bool:
        """The same where the store does not decide and there is one writer: look, write, look again. The condition is
        sent all the same, since the server may have changed since it was tried."""
        if self.read(key) is not None or not self._create_if_absent(key, data):
            return False
        try:
            return self.read(key) == data
        except TransientError as error:
            raise OutcomeUnknownError(
                f"{self.connector_id}: {self.uri(key)} was written, and could not be looked at afterwards: {error}"
            ) from error

    def _create_if_absent(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        failures = Failures()
        work = partial(self.upload, name, data, only_new=True, sha256=None)
        try:
            self._run("create", key, work, failures=failures, foreseen=Cause.TAKEN)
        except _ForeseenError:
            # An attempt whose answer was lost may have written what is there: ours, or the HTTP library's, which
            # sends again by itself where a connection it had kept turns out to be closed.
            return self.read(key) == data
        except TransientError as error:
            if not failures.may_have_landed:
                raise
            return self._landed(key, data, error)
        return True

    def _landed(self, key: str, data: bytes, error: TransientError) -> bool:
        """Whether a creation whose answer was lost has landed. Raises OutcomeUnknownError where nothing tells."""
        with suppress(TransientError):
            if (there := self.read(key)) is not None:
                return there == data
        raise OutcomeUnknownError(
            f"{error} {self.uri(key)} may be written or not. Look whether it is there before trying again."
        ) from error

    def read(self, key: str) -> bytes | None:
        """The content, or None."""
        name = self._name(key)
        try:
            return self._run("read", key, partial(self.fetch, name, None, None), foreseen=Cause.NO_OBJECT)[0]
        except _ForeseenError:
            return None

    def open(self, key: str, *, sparsely: bool = False) -> io.BufferedIOBase:
        """Open for reading, in ranges of 8 MiB, or of 64 KiB."""
        at_once = READ_SPARSELY if sparsely else READ_AT_ONCE
        return io.BufferedReader(ObjectReader(self, key, at_once), at_once)

    def read_range(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        """Bytes ``[start, end)``, and the size of the whole. Raises DeliveredDataError where there is no object."""
        work = partial(self.fetch, self._name(key), start, end)
        try:
            return self._run("read", key, work, foreseen=Cause.NO_OBJECT)
        except _ForeseenError:
            raise DeliveredDataError(f"{self.connector_id}: {self.uri(key)} is not there") from None

    def files(self, prefix: str, *, after: str = "") -> list[StoredFile]:
        """List the objects below a folder."""
        top = f"{self._name(prefix)}/" if prefix else self.prefix
        first = self._name(after) if after else ""

        async def below() -> list[tuple[str, int]]:
            found = [one for one in await self.listed(top, first) if one[0].startswith(top) and one[0] > first]
            if any(size < 0 for _, size in found):
                raise OddAnswerError("it lists an object of less than no bytes")
            # Consoles make objects whose name ends in a slash, to show a folder.
            return [one for one in found if not one[0].endswith("/")]

        found = self._run("list", prefix, below, seconds=float("inf"), again=False)
        keys = ((name.removeprefix(self.prefix), size) for name, size in found)
        return sorted((StoredFile(key, size) for key, size in keys), key=lambda file: file.key)

    def many_writes(self) -> AbstractContextManager[None]:
        """Nothing is prepared for a write."""
        return nullcontext()

    def delete(self, keys: list[str]) -> None:
        """Delete objects, many in one request."""
        names = [self._name(key) for key in keys]
        if names:
            self._run("delete", keys[0], partial(self.delete_all, names), seconds=float("inf"), again=False)

    def sweep(self) -> None:
        """Abort uploads that began a day ago, where this process has uploaded in parts: none that lives is that old.

        Only those of files of the same kind in the same folder: others are somebody's. A folder in which that fails
        does not keep it from the others; the last error is raised in the end.
        """
        old = datetime.now(UTC) - _STALE_AFTER
        failed: VVExportsError | None = None
        while self._to_sweep:
            form = self._to_sweep.pop()
            try:
                self.discard(
                    [
                        upload
                        for upload in self.unfinished(form.rpartition("/")[0])
                        if upload.began_at < old and _form(upload.key) == form
                    ]
                )
            except VVExportsError as error:
                failed = error
        if failed is not None:
            raise failed

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """Uploads in parts below a folder that are neither completed nor aborted."""
        top = f"{self._name(prefix)}/" if prefix else self.prefix
        found = self._run("list the uploads of", prefix, partial(self.uploads_under_way, top))
        return [UnfinishedUpload(one.key.removeprefix(self.prefix), one.upload_id, one.began_at) for one in found]

    def discard(self, uploads: Iterable[UnfinishedUpload]) -> None:
        """Abort uploads. Those that are over are no error."""
        for upload in uploads:
            whole = UnfinishedUpload(self._name(upload.key), upload.upload_id, upload.began_at)
            with suppress(_ForeseenError):
                work = partial(self.abort_upload, whole)
                self._run("abort the upload of", upload.key, work, foreseen=Cause.NO_OBJECT)

    def earlier(self, prefix: str) -> list[EarlierVersion] | None:
        """Versions below a folder that are not the current ones. None for a store that is not asked for them."""
        top = f"{self._name(prefix)}/" if prefix else self.prefix
        found = self._run(
            "list the versions of", prefix, partial(self.earlier_versions, top), seconds=float("inf"), again=False
        )
        if found is None:
            return None
        return [EarlierVersion(one.key.removeprefix(self.prefix), one.version_id) for one in found]

    def forget(self, versions: Sequence[EarlierVersion]) -> None:
        """Delete versions for good. Those that are gone are no error."""
        whole = [EarlierVersion(self._name(one.key), one.version_id) for one in versions]
        if whole:
            work = partial(self.forget_versions, whole)
            self._run("delete versions of", versions[0].key, work, seconds=float("inf"), again=False)

    def arrow_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """The provider's fsspec file system as a pyarrow one, and ``bucket/base``."""
        base = f"{self.bucket}/{self.prefix}".rstrip("/")
        return pafs.PyFileSystem(pafs.FSSpecHandler(self.file_system())), base

    # For providers

    def file_system(self) -> Any:
        """One for each process: its connections do not survive a fork."""
        if os.getpid() not in self._file_systems:
            # By default it tells of retries on stdout, where structlog is installed, as Dagster installs it.
            stamina.instrumentation.set_on_retry_hooks(())
            self._file_systems[os.getpid()] = self.connect()
        return self._file_systems[os.getpid()]

    def variable(self, name: str | None) -> str | None:
        """A credential. Raises CredentialsError where the variable that is to hold it does not."""
        if name is None:
            return None
        value = self._environ.get(name, "").strip()
        if not value:
            raise CredentialsError(
                f"{self.connector_id}: the environment variable {name} is not set, and the configuration says that it "
                "holds a credential of this connector. Set it where this runs."
            )
        return value

    def secret(self, name: str | None) -> str | None:
        """A credential that nothing may show. Raises CredentialsError as ``variable`` does."""
        value = self.variable(name)
        self.keep_secret(value or "")
        return value

    def keep_secret(self, *values: str) -> None:
        """Show these in no error and no log line, whatever the store repeats."""
        if not self._secrets.issuperset(values):
            self._secrets = self._secrets.union(filter(None, values))

    async def retried(
        self, work: Callable[[], Awaitable[_T]], failures: Failures | None = None, *, size: int = 0
    ) -> _T:
        """One request, and again where it may pass. ``size`` is that of what it sends, where it is large."""
        limit = max(READ_SECONDS + CONNECT_SECONDS, size / _SLOWEST_BYTES_PER_SECOND)
        failed = Failures() if failures is None else failures

        def passes(error: Exception) -> bool:
            if not isinstance(error, self._known_errors):
                return False
            diagnosis = self._diagnosed(error)
            if diagnosis.cause in PASSING:
                failed.causes.add(diagnosis.cause)
                _LOG.info("%s: %s %s", self.connector_id, diagnosis.code, diagnosis.said)
            return diagnosis.cause in PASSING

        async for attempt in stamina.retry_context(
            on=passes, attempts=_ATTEMPTS, timeout=_RETRYING_SECONDS, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                async with asyncio.timeout(limit):
                    return await self._understood(work)
        raise AssertionError  # a context that is through has returned or raised

    async def in_parts(
        self, local: Path, size: int, most_parts: int, upload_part: Callable[[int, bytes], Awaitable[_T]]
    ) -> list[_T]:
        """Upload the parts of a file, a few at a time, each tried again by itself. Returns what came of each.

        How many there are in memory is limited for all files of this process together.
        """
        length = part_size(size, most_parts=most_parts)
        room = asyncio.Semaphore(max(1, _PARTS_IN_MEMORY // length))
        all_rooms = self._rooms.setdefault(os.getpid(), asyncio.Semaphore(_PARTS_IN_MEMORY // _SMALLEST_PART))

        async def one(number: int) -> _T:
            async with room, all_rooms:
                data = await asyncio.to_thread(read_at, local, number * length, length)
                return await self.retried(partial(upload_part, number, data), size=len(data))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number)) for number in range(-(-size // length))]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _upload_afresh(self, name: str, local: Path, size: int) -> None:
        """Upload in parts, and once more from the beginning where the store has lost what it was sent."""
        for left in reversed(range(_UPLOADS)):
            try:
                await self.upload_in_parts(name, local, size)
            except UploadLostError as lost:
                if not left:
                    raise lost.error from None
                _LOG.info("%s: %s; the upload begins anew", self.connector_id, quoted(str(lost), self._secrets))
            else:
                return

    async def holds(self, name: str, local: Path, size: int) -> bool | None:
        """Whether an object has the content of a file, byte by byte; None where there is no object."""
        for start in range(0, size, READ_AT_ONCE):
            end = min(start + READ_AT_ONCE, size)
            try:
                data, total = await self.retried(partial(self.fetch, name, start, end))
            except self._known_errors as error:
                if self.diagnosed(error).cause is Cause.NO_OBJECT:
                    return None
                raise
            if total != size or data != await asyncio.to_thread(read_at, local, start, end - start):
                return False
        return True

    async def paged(
        self, ask: Callable[[_Token | None], Awaitable[tuple[Mapping[Any, _T], _Token | None]]]
    ) -> list[_T]:
        """Everything that a listing holds. ``ask`` gives the page that begins at a token, what is listed by its name,
        and the next page's token; None: there is none.

        Raises OddAnswerError where that would never end.
        """
        found: dict[Any, _T] = {}
        token: _Token | None = None
        seen: set[_Token] = set()
        empty = 0
        while True:
            page, token = await ask(token)
            known = len(found)
            found.update(page)
            if token is None:
                return list(found.values())
            if token in seen:
                raise OddAnswerError("it sends us to a page of the listing that we have seen")
            seen.add(token)
            if page and len(found) == known:
                raise OddAnswerError("it lists what it has listed before, and says that there is more")
            empty = 0 if page else empty + 1
            if empty > _EMPTY_PAGES:
                raise OddAnswerError(f"{empty} pages of a listing one after the other are empty")

    async def delete_each(self, names: Sequence[str], delete: Callable[[str], Awaitable[Any]]) -> None:
        """Delete objects one by one, some at a time. Those that are gone are no error."""
        left = iter(names)

        async def some() -> None:
            for name in left:
                try:
                    await self.retried(partial(delete, name))
                except self._known_errors as error:
                    if self.diagnosed(error).cause is not Cause.NO_OBJECT:
                        raise

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_DELETED_AT_ONCE, len(names))):
                    group.create_task(some())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _understood(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """One request and the reading of its answer. The SDKs and we take an answer's shape for granted: here, and
        nowhere else, what comes of one that is different becomes an error of the store."""
        try:
            return await work()
        except _MISREAD as error:
            if isinstance(error, self._known_errors):  # some of the SDKs' own are ValueErrors
                raise
            # Where, so that a mistake of ours is found. Not the whole: it would quote the answer.
            at = traceback.extract_tb(error.__traceback__)[-1]
            _LOG.info("%s: an answer could not be read at %s, line %s", self.connector_id, at.filename, at.lineno)
            raise OddAnswerError(f"reading it failed with {type(error).__name__}: {error}") from error

    def _diagnosed(self, error: BaseException) -> Diagnosis:
        """What an error means, in words that may be shown."""
        found = self.diagnosed(error)
        code = quoted(found.code, self._secrets, longest=_LONGEST_CODE)
        return replace(found, code=code, said=quoted(found.said, self._secrets))

    def _name(self, key: str) -> str:
        segments = key.split("/")
        wrong = any(s in {".", ".."} or "\\" in s or "\x00" in s or not _is_text(s) for s in segments)
        if wrong or not all(segments):
            raise DestinationError(f"{self.connector_id}: {key!r} is not a path below {self.uri('')}")
        return f"{self.prefix}{key}"

    @property
    def _known_errors(self) -> tuple[type[Exception], ...]:
        return (*self.sdk_errors, OSError, TimeoutError)

    def _run(
        self,
        action: str,
        key: str,
        work: Callable[[], Awaitable[_T]],
        *,
        seconds: float = _LIMIT_SECONDS,
        again: bool = True,
        size: int = 0,
        failures: Failures | None = None,
        foreseen: Cause | None = None,
    ) -> _T:
        """Carry out a request on the file system's own thread, and say in our words what went wrong.

        Raises _ForeseenError for the cause that is ``foreseen``.
        """

        async def bounded() -> _T:
            async with asyncio.timeout(None if seconds == float("inf") else seconds):
                return await (self.retried(work, failures, size=size) if again else self._understood(work))

        try:
            result: _T = sync(self.file_system().loop, bounded)
        except VVExportsError:
            raise
        except self._known_errors as error:
            diagnosis = self._diagnosed(error)
        else:
            return result
        # Out of the handler, and so out of the chain: what an SDK's exceptions hold on to is not for tracebacks.
        if diagnosis.cause is foreseen:
            raise _ForeseenError from None
        raise self._error(diagnosis, action, key) from None

    def _error(self, diagnosis: Diagnosis, action: str, key: str) -> VVExportsError:
        said = f": {diagnosis.said}" if diagnosis.said and diagnosis.said != diagnosis.code else ""
        what = f"{self.connector_id}: could not {action} {self.uri(key)}: {diagnosis.code}{said}"
        advice = f"{diagnosis.cause.value[0].upper()}{diagnosis.cause.value[1:]}."
        if diagnosis.cause is Cause.CREDENTIALS:
            advice = f"The credentials come from {self.credentials_from}: {diagnosis.cause.value}."
            return CredentialsError(f"{what.rstrip('.')}. {advice}")
        if diagnosis.cause is Cause.NO_BUCKET:
            advice = f"There is no {self.bucket_word} {self.bucket!r}: {diagnosis.cause.value}."
        if diagnosis.cause is Cause.FORBIDDEN:
            return ForbiddenError(f"{what.rstrip('.')}. {advice}")
        kind = TransientError if diagnosis.cause in PASSING else RequestError
        return kind(f"{what.rstrip('.')}. {advice}")


def read_at(local: Path, start: int, length: int) -> bytes:
    """``length`` bytes of a file from ``start``, fewer at its end."""
    with local.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _is_text(segment: str) -> bool:
    """Whether it can be sent: half of a surrogate pair cannot."""
    try:
        segment.encode()
    except UnicodeEncodeError:
        return False
    return True
