"""An object store in memory behind the common base of the connectors, with faults at the requests that a test names."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import get_loop

from vv_exports.connectors.base import UnfinishedUpload
from vv_exports.connectors.diagnosis import Cause, Diagnosis
from vv_exports.connectors.object_store import ObjectStoreConnector
from vv_exports.domain.prompt_runs import JsonObject


class StoreError(Exception):
    """What this store's client raises."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"the store says {cause.name}")
        self.cause = cause


class Memory:
    """What is stored, and what happens to requests. ``faults`` are taken one for each request, None for none; a fault
    that is a function is called before the request, and what it returns afterwards is raised."""

    def __init__(self, *, refuses_taken_names: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: list[UnfinishedUpload] = []
        self.refuses_taken_names = refuses_taken_names
        self.requests: list[str] = []
        self.faults: list[Cause | Callable[[], Exception | None] | None] = []
        self.under_way = 0
        self.most_under_way = 0
        self.guard = threading.Lock()


class _FileSystem:
    def __init__(self) -> None:
        self.loop = get_loop()


class MemoryStore(ObjectStoreConnector):
    """A connector to a Memory. With an ``endpoint_url`` it must be tried whether the store refuses taken names."""

    provider = "memory"
    scheme = "memory"
    sdk_errors = (StoreError,)

    def __init__(self, memory: Memory, base: str = "base", endpoint_url: str | None = None) -> None:
        super().__init__("conn", "bucket", base, frozenset({"export"}), endpoint_url=endpoint_url, environ={})
        self.memory = memory

    @property
    def credentials_from(self) -> str:
        return "nowhere"

    def connect(self) -> Any:
        return _FileSystem()

    def diagnosed(self, error: BaseException) -> Diagnosis:
        if isinstance(error, StoreError):
            return Diagnosis(error.cause, error.cause.name, str(error))
        return Diagnosis(Cause.TIMEOUT if isinstance(error, TimeoutError) else Cause.INTERRUPTED, type(error).__name__)

    def policies(self) -> dict[str, JsonObject]:
        return {}

    async def reach(self) -> None:
        await self._request("reach")

    async def upload(self, name: str, data: bytes, *, only_new: bool, sha256: str | None) -> None:
        def store() -> None:
            if only_new and self.memory.refuses_taken_names and name in self.memory.objects:
                raise StoreError(Cause.TAKEN)
            self.memory.objects[name] = data

        await self._request(f"upload {name}", store)

    async def upload_in_parts(self, name: str, local: Path, size: int) -> None:
        async def part(number: int, data: bytes) -> bytes:
            await self._request(f"part {number}", lambda: None)
            return data

        parts = await self.in_parts(local, size, 10_000, part)
        self.memory.objects[name] = b"".join(parts)

    async def fetch(self, name: str, start: int | None, end: int | None) -> tuple[bytes, int]:
        def read() -> tuple[bytes, int]:
            if name not in self.memory.objects:
                raise StoreError(Cause.NO_OBJECT)
            data = self.memory.objects[name]
            return data[start:end], len(data)

        found: tuple[bytes, int] = await self._request(f"fetch {name} {start}-{end}", read)
        return found

    async def listed(self, prefix: str, after: str) -> list[tuple[str, int]]:
        await self._request("list")
        objects = self.memory.objects.items()
        return [(name, len(data)) for name, data in objects if name.startswith(prefix) and name > after]

    async def delete_all(self, names: Sequence[str]) -> None:
        await self._request("delete", lambda: [self.memory.objects.pop(name, None) for name in names])

    async def uploads_under_way(self, prefix: str) -> list[UnfinishedUpload]:
        await self._request("list uploads")
        return [upload for upload in self.memory.uploads if upload.key.startswith(prefix)]

    async def abort_upload(self, upload: UnfinishedUpload) -> None:
        await self._request("abort", lambda: self.memory.uploads.remove(upload))

    async def _request(self, what: str, act: Callable[[], Any] = lambda: None) -> Any:
        memory = self.memory
        with memory.guard:
            memory.requests.append(what)
            fault = memory.faults.pop(0) if memory.faults else None
            memory.under_way += 1
            memory.most_under_way = max(memory.most_under_way, memory.under_way)
        try:
            await asyncio.sleep(0)
            if isinstance(fault, Cause):
                raise StoreError(fault)
            late = fault() if fault is not None else None
            done = act()
            if late is not None:
                raise late
            return done
        finally:
            with memory.guard:
                memory.under_way -= 1


def lost(cause: Cause = Cause.INTERRUPTED) -> Callable[[], Exception]:
    """The request does what it should, and its answer is lost."""
    return lambda: StoreError(cause)


def began(key: str, upload_id: str, at: datetime) -> UnfinishedUpload:
    """An upload that somebody began."""
    return UnfinishedUpload(f"base/{key}", upload_id, at.astimezone(UTC))
