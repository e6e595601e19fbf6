"""What storage must provide to be a destination. It knows nothing of prompt runs, formats or logs."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from vv_exports.domain.prompt_runs import JsonObject


@dataclass(frozen=True)
class StoredFile:
    """A file in storage: its key below the boundary, and its size in bytes.

    A symbolic link on a disk is one of its own, whatever it leads to: readers would follow it, and connectors do not.
    """

    key: str
    size: int
    is_link: bool = False


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload in parts that was begun, and neither completed nor aborted. It is no file, and costs storage."""

    key: str
    upload_id: str
    began_at: datetime


@dataclass(frozen=True)
class EarlierVersion:
    """What a storage that keeps versions still has of a file that was deleted or replaced."""

    key: str
    version_id: str


class Connector(Protocol):
    """A storage account and the boundary inside it (``export_base_path``).

    Keys are relative to the boundary, with ``/`` between segments; ``""`` is the boundary itself. A key that
    would leave it raises DestinationError before anything is touched. Storage errors become TransientError (it
    did not land), OutcomeUnknownError (it may have landed) or RequestError (permission, missing root).

    The pipeline keeps its own snapshots and artifacts behind the same protocol.
    """

    connector_id: str
    provider: str
    scopes: frozenset[str]
    uploads_at_once: int
    """How many ``put`` calls are best under way at a time, each from a thread of its own."""

    @property
    def pipeline_storage(self) -> "Connector | None":
        """The pipeline's own storage, as ``remember_in`` was told: what was found out is kept there, and writers take
        turns there where this storage does not decide among them."""

    def uri(self, key: str) -> str:
        """The full address of a key, for people and other tools. Never holds a secret."""

    @property
    def address(self) -> str:
        """What tells this storage from any other: its URI, and the endpoint where that is not the provider's own."""

    def decides_among_writers(self) -> bool:
        """Whether the storage itself lets one of several writers win, as ``create`` promises.

        Where not, ``create`` looks before it writes and after it, and there may be one writer at a time: see
        ``connectors/lease.py``. It may ask the storage.
        """

    def try_taken_name(self) -> bool:
        """Try it anew: create a file below the boundary twice, and remove it. True where the second was refused."""

    def introduction(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """What a check of this storage tries first: (step, what tries it and says what it found). Raises our errors."""

    def policies(self) -> dict[str, JsonObject]:
        """The least that the storage must allow, as its provider writes it: to ``deliver``, to ``verify``, and for
        ``retention``, which removes what was superseded. Empty where there are no such documents."""

    def remember_in(self, storage: "Connector") -> None:
        """Say which storage is the pipeline's own."""

    def put(self, local: Path, key: str, *, sha256: str | None = None, durable: bool = True) -> None:
        """Upload a finished file. Atomic: a reader sees all of it or nothing. An existing file is replaced.

        ``sha256`` is the file's, in hex, where it is known: storage that can compares it with what arrives. ``durable``
        as for ``create``.
        """

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """Write a small file if there is none: True, or False where one was there. Atomic.

        Without ``durable`` it may be gone or damaged after a crash of the machine, not of the process.
        """

    def many_writes(self) -> AbstractContextManager[None]:
        """Around writes of many files, for what each of them would else prepare for itself: it may write, too. None of
        them needs it."""

    def read(self, key: str) -> bytes | None:
        """The content of a small file, or None where there is none."""

    def open(self, key: str, *, sparsely: bool = False) -> BufferedIOBase:
        """Open a file for reading: ``sparsely`` where little of it is wanted, and a store is to send no more. Raises
        DeliveredDataError where there is none."""

    def files(self, prefix: str, *, after: str = "") -> list[StoredFile]:
        """Every file below a folder, by key; empty where there is no such folder. With ``after`` those whose keys come
        after it, without listing the others where the storage can begin there."""

    def delete(self, keys: list[str]) -> None:
        """Delete files; those that are gone already are no error."""

    def sweep(self) -> None:
        """Remove what writers that died left unfinished. Never touches the work of a live one."""

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """Uploads below a folder that were begun and neither completed nor aborted, where storage has such."""

    def discard(self, uploads: Iterable[UnfinishedUpload]) -> None:
        """Abort uploads. The writer of one that is still under way begins it anew, or fails with a TransientError."""

    def earlier(self, prefix: str) -> list[EarlierVersion] | None:
        """What the storage still has, below a folder, of files that were deleted or replaced. None where it may have
        such, and this cannot ask."""

    def forget(self, versions: Sequence[EarlierVersion]) -> None:
        """Remove them for good; those that are gone already are no error."""

    def arrow_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """A pyarrow file system and the path of the boundary in it, for reading datasets."""
