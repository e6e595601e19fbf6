"""The SDK's two clients. Their exports, and the export automation of an index, are this deployment's; everything else
goes to the platform, as before.

The resources of the SDK do the talking, so their signatures, defaults, models, polling and files are theirs. What they
talk to is ours: it answers what it can, and hands on the rest. That clients keep it as ``_http``, and what it is asked,
is no public API of the SDK: ``vv_exports_tests/test_compat.py`` fails first when that changes.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar, get_type_hints

import videovector
from videovector.resources import AsyncExportsResource, ExportsResource

from vv_exports.client import VVExports
from vv_exports.client.compat.answers import Answers
from vv_exports.client.compat.errors import as_the_sdk_raises, invalid

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CREDENTIALS = ("api_key", "bearer_token", "oauth_token_provider", "auth_mode")
_CREDENTIAL_VARIABLES = ("VIDEO_VECTOR_API_KEY", "VIDEO_VECTOR_BEARER_TOKEN", "VIDEO_VECTOR_AUTH_MODE")


def _like(theirs: Callable[_P, _T]) -> Callable[[Callable[..., _T]], Callable[_P, _T]]:
    """A method of ours has the signature that it has in the SDK, whichever version that is."""

    def signed(ours: Callable[..., _T]) -> Callable[_P, _T]:
        return wraps(theirs)(ours)

    return signed


class VideoVector(videovector.VideoVector):
    """The SDK's client, with the exports of this deployment.

    It takes what the SDK's takes. The deployment is the one that the command line finds; ``of`` takes another. Where
    there are no credentials, neither given nor in the environment, exports work all the same, and the rest raises
    AuthenticationError. Raises ValidationError for a configuration that is wrong.
    """

    exports: "Exports"

    @_like(videovector.VideoVector.__init__)
    def __init__(self, *args: Any, **arguments: Any) -> None:
        self._begin(_deployment(), args, arguments)

    @classmethod
    def of(cls, deployment: VVExports, *args: Any, **arguments: Any) -> Self:
        """A client of a deployment that is open already; what else there is is as in the constructor."""
        self = cls.__new__(cls)
        self._begin(deployment, args, arguments)
        return self

    def _begin(self, deployment: VVExports, args: Sequence[Any], arguments: dict[str, Any]) -> None:
        platform = None
        if _has_credentials(args, arguments):
            super().__init__(*args, **arguments)
            platform = self._http
        http: Any = _Http(Answers(deployment), platform)
        self._http = http
        if platform is None:
            for name, resource in get_type_hints(videovector.VideoVector).items():
                setattr(self, name, resource(http))
        self.exports = Exports(http)


class AsyncVideoVector(videovector.AsyncVideoVector):
    """The SDK's async client, with the exports of this deployment, as ``VideoVector`` has them. An export is made in a
    thread; who stops waiting for ``create_*`` does not stop it."""

    exports: "AsyncExports"

    @_like(videovector.AsyncVideoVector.__init__)
    def __init__(self, *args: Any, **arguments: Any) -> None:
        self._begin(_deployment(), args, arguments)

    @classmethod
    def of(cls, deployment: VVExports, *args: Any, **arguments: Any) -> Self:
        """A client of a deployment that is open already; what else there is is as in the constructor."""
        self = cls.__new__(cls)
        self._begin(deployment, args, arguments)
        return self

    def _begin(self, deployment: VVExports, args: Sequence[Any], arguments: dict[str, Any]) -> None:
        platform = None
        if _has_credentials(args, arguments):
            super().__init__(*args, **arguments)
            platform = self._http
        http: Any = _AsyncHttp(Answers(deployment), platform)
        self._http = http
        if platform is None:
            for name, resource in get_type_hints(videovector.AsyncVideoVector).items():
                setattr(self, name, resource(http))
        self.exports = AsyncExports(http)


class Exports(ExportsResource):
    """The SDK's eight methods."""

    @_like(ExportsResource.create_index_export)
    def create_index_export(self, index_id: str, **options: Any) -> videovector.ExportCreateResult:
        _check_selection(**options)
        return super().create_index_export(index_id, **options)


class AsyncExports(AsyncExportsResource):
    """The SDK's eight methods."""

    @_like(AsyncExportsResource.create_index_export)
    async def create_index_export(self, index_id: str, **options: Any) -> videovector.ExportCreateResult:
        _check_selection(**options)
        return await super().create_index_export(index_id, **options)


class _Http:
    """What the resources of the SDK ask. Whatever this deployment does not answer goes to the platform."""

    def __init__(self, answers: Answers, platform: Any) -> None:
        self._answers = answers
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python asks for some by itself, to copy an object for one
            raise AttributeError(name)
        return getattr(_there(self._platform, name), name)

    @property
    def base_url(self) -> str:
        return "" if self._platform is None else str(self._platform.base_url)

    def get(self, endpoint: str, **request: Any) -> Any:
        answer = self._answers.find("GET", endpoint)
        return answer(request) if answer else _there(self._platform, endpoint).get(endpoint, **request)

    def post(self, endpoint: str, **request: Any) -> Any:
        answer = self._answers.find("POST", endpoint)
        return answer(request) if answer else _there(self._platform, endpoint).post(endpoint, **request)

    def put(self, endpoint: str, **request: Any) -> Any:
        answer = self._answers.find("PUT", endpoint)
        return answer(request) if answer else _there(self._platform, endpoint).put(endpoint, **request)

    def iter_bytes(self, endpoint: str, **limits: Any) -> Iterator[bytes]:
        if (export_id := self._answers.downloaded(endpoint)) is not None:
            return self._answers.download(export_id, **limits)
        streamed: Iterator[bytes] = _there(self._platform, endpoint).iter_bytes(endpoint, **limits)
        return streamed

    def close(self) -> None:
        self._answers.close()
        if self._platform is not None:
            self._platform.close()


class _AsyncHttp:
    """The same for the async client: answers are made in threads. Exports wait for their turn here, where they do not
    take up threads that others need."""

    def __init__(self, answers: Answers, platform: Any) -> None:
        self._answers = answers
        self._platform = platform
        self._turn = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python asks for some by itself, to copy an object for one
            raise AttributeError(name)
        return getattr(_there(self._platform, name), name)

    @property
    def base_url(self) -> str:
        return "" if self._platform is None else str(self._platform.base_url)

    async def get(self, endpoint: str, **request: Any) -> Any:
        if answer := self._answers.find("GET", endpoint):
            return await asyncio.to_thread(answer, request)
        return await _there(self._platform, endpoint).get(endpoint, **request)

    async def post(self, endpoint: str, **request: Any) -> Any:
        if answer := self._answers.find("POST", endpoint):
            async with self._turn if self._answers.makes_an_export(endpoint) else nullcontext():
                return await asyncio.to_thread(answer, request)
        return await _there(self._platform, endpoint).post(endpoint, **request)

    async def put(self, endpoint: str, **request: Any) -> Any:
        if answer := self._answers.find("PUT", endpoint):
            return await asyncio.to_thread(answer, request)
        return await _there(self._platform, endpoint).put(endpoint, **request)

    async def iter_bytes(self, endpoint: str, **limits: Any) -> AsyncIterator[bytes]:
        export_id = self._answers.downloaded(endpoint)
        if export_id is None:
            async for chunk in _there(self._platform, endpoint).iter_bytes(endpoint, **limits):
                yield chunk
            return
        chunks = self._answers.download(export_id, **limits)
        try:
            while chunk := await _settled(next, chunks, b""):
                yield chunk
        finally:
            await _settled(chunks.close)

    async def close(self) -> None:
        await asyncio.to_thread(self._answers.close)
        if self._platform is not None:
            await self._platform.close()


async def _settled(call: Callable[..., _T], *args: Any) -> _T:
    """The outcome of a call in a thread. It is over before a cancellation goes on: what it uses can be closed then."""
    task = asyncio.create_task(asyncio.to_thread(call, *args))
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # looked at, so that asyncio does not complain that nobody did
        raise cancelled
    return task.result()


def _there(platform: Any, wanted: str) -> Any:
    """What talks to the platform. Raises AuthenticationError where nobody gave credentials for it."""
    if platform is not None:
        return platform
    raise videovector.AuthenticationError(
        f"{wanted} is asked of the platform, and there are no credentials for it: give api_key or bearer_token, or set "
        "VIDEO_VECTOR_API_KEY. Exports need none: they are made by this deployment, with its own.",
        status_code=401,
        error_code="authentication_missing",
    )


def _deployment() -> VVExports:
    with as_the_sdk_raises():
        return VVExports()


def _has_credentials(args: Sequence[Any], arguments: dict[str, Any]) -> bool:
    """Whether the SDK is to look at credentials, and to refuse them where they contradict each other."""
    given = [*args[:2], *(arguments.get(name) for name in _CREDENTIALS)]
    if any(one is not None for one in given):
        return any(given)
    return any(os.environ.get(name) for name in _CREDENTIAL_VARIABLES)


def _check_selection(prompt_run_ids: Any = None, **_: Any) -> None:
    """The SDK takes no ids for all of them, and would not tell what it was asked."""
    if prompt_run_ids is not None and not prompt_run_ids:
        raise invalid("prompt_run_ids is empty; name at least one prompt run, or leave it out for all")
