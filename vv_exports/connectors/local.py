"""A local folder, or a share that is mounted as one.

Needs a POSIX file system with hard links and advisory locks: the commit is a hard link, which the kernel refuses
where the name is taken, and which appears with its whole content or not at all.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs as pafs

from vv_exports.connectors.base import Connector, StoredFile, UnfinishedUpload
from vv_exports.connectors.writers import refuses_taken_names
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import (
    DeliveredDataError,
    DestinationError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
)

_TEMPORARY = ".vv_exports_tmp"
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{32}")
_ATTEMPTS = 50  # writers that meet can undo each other's folders a few times


class LocalConnector:
    """Files below ``root / export_base_path``. The base path is made when first needed; ``root`` must exist, since a
    disk that is not mounted looks like a missing folder, unless ``make_root`` says that it is ours."""

    provider = "local"
    uploads_at_once = 1

    def __init__(
        self,
        connector_id: str,
        root: Path | str,
        export_base_path: str = "",
        scopes: frozenset[str] = frozenset({"export"}),
        *,
        make_root: bool = False,
    ) -> None:
        self.connector_id = connector_id
        self.scopes = scopes
        self._root = Path(str(root).removeprefix("file://"))
        self._make_root = make_root
        self._base = self._root / export_base_path if export_base_path else self._root

    def uri(self, key: str) -> str:
        """The absolute path."""
        return str(self._base / key) if key else str(self._base)

    @property
    def address(self) -> str:
        """The absolute path, with links followed."""
        return os.path.realpath(self._base)

    def decides_among_writers(self) -> bool:
        """The kernel does."""
        return True

    def try_taken_name(self) -> bool:
        """Create a file twice."""
        return refuses_taken_names(self.create, self.read, self.delete)

    def introduction(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """Whether the root is there."""
        return [("folder", self._found_root)]

    def _found_root(self) -> str:
        self._check_root()
        self._real_base()
        return f"{self._root} is there"

    def policies(self) -> dict[str, JsonObject]:
        """None: the folder's permissions are all there is."""
        return {}

    def remember_in(self, storage: Connector) -> None:
        """Nothing has to be found out."""

    def put(self, local: Path, key: str, *, sha256: str | None = None) -> None:
        """Copy, make durable, rename into place."""
        del sha256  # the kernel compares nothing
        with local.open("rb") as content:
            self.put_stream(content, key)

    def put_stream(self, content: BufferedIOBase, key: str) -> None:
        """The same from an open file, from its start."""
        target = self._locate(key)
        with self._translated("write", key):
            for _ in range(_ATTEMPTS):
                with self._temporary() as (temporary, file):
                    content.seek(0)
                    shutil.copyfileobj(content, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                    # Another delivery may tidy an emptied folder away between these two calls.
                    with suppress(FileNotFoundError):
                        _make_folder(target.parent)
                        temporary.rename(target)
                        _fsync_folder(target.parent)
                        return
        raise TransientError(
            f"{self.connector_id}: {self.uri(key)} could not be put in place: its folder kept vanishing"
        )

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """Write beside, make durable, hard-link into place: the kernel refuses a name that is taken."""
        target = self._locate(key)
        with self._translated("create", key):
            for _ in range(_ATTEMPTS):
                with self._temporary() as (temporary, file):
                    file.write(data)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                    with suppress(FileNotFoundError):
                        _make_folder(target.parent)
                        try:
                            os.link(temporary, target)
                        except FileExistsError:
                            return False
                        if durable:
                            self._settle(target)
                        return True
        raise TransientError(
            f"{self.connector_id}: {self.uri(key)} could not be put in place: its folder kept vanishing"
        )

    def read(self, key: str) -> bytes | None:
        """The content, or None."""
        path = self._locate(key)
        with self._translated("read", key):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, key: str) -> BufferedIOBase:
        """Open for reading."""
        path = self._locate(key)
        with self._translated("read", key):
            try:
                return path.open("rb")
            except FileNotFoundError as error:
                raise DeliveredDataError(f"{self.connector_id}: {self.uri(key)} is not there") from error

    def files(self, prefix: str) -> list[StoredFile]:
        """Walk the folder. Unfinished files are left out."""
        self._check_root()
        top = self._locate(prefix) if prefix else self._base
        with self._translated("list", prefix):
            return sorted(_walk(top, self._base), key=lambda file: file.key)

    def delete(self, keys: list[str]) -> None:
        """Unlink, then remove the folders that this emptied."""
        for key in keys:
            path = self._locate(key)
            with self._translated("delete", key):
                path.unlink(missing_ok=True)
                folder = path.parent
                with suppress(OSError):  # a folder that still holds something stays
                    while folder != self._base:
                        folder.rmdir()
                        folder = folder.parent

    def sweep(self) -> None:
        """Remove temporary files whose writer is gone: nobody holds their lock."""
        folder = self._locate(_TEMPORARY)
        with self._translated("sweep", _TEMPORARY):
            for path in _children(folder):
                if not _TEMPORARY_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
                    continue
                # Locked: its writer lives. Not ours to open or remove: another user's, and no reason to fail.
                with suppress(OSError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """None: what a writer that died left is known by its lock, and swept."""
        del prefix
        return []

    def discard(self, uploads: Iterable[UnfinishedUpload]) -> None:
        """Nothing to do."""

    def arrow_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """The local file system and the absolute base path."""
        return pafs.LocalFileSystem(), str(self._base)

    def _locate(self, key: str) -> Path:
        """The path of a key. Refuses one that leaves the boundary, by its text or through a symbolic link."""
        segments = key.split("/")
        if not all(segments) or any(s in {".", ".."} or "\\" in s or "\x00" in s for s in segments):
            raise DestinationError(f"{self.connector_id}: {key!r} is not a path below {self._base}")
        self._check_root()
        boundary = self._real_base()
        path = self._base / key
        if not Path(os.path.realpath(path.parent)).is_relative_to(boundary) or path.is_symlink():
            raise DestinationError(
                f"{self.connector_id}: {path} leads out of {self._base} through a symbolic link; "
                "remove the link or choose another destination_subpath"
            )
        return path

    def _check_root(self) -> None:
        """A share that is not mounted must not look like an empty one."""
        if not self._make_root and not self._root.is_dir():
            raise RequestError(
                f"{self.connector_id}: its root {self._root} is not a folder; "
                "create it, or mend `root` in the configuration"
            )

    def _real_base(self) -> Path:
        boundary = Path(os.path.realpath(self._base))
        if not boundary.is_relative_to(os.path.realpath(self._root)):
            raise DestinationError(
                f"{self.connector_id}: export_base_path {self._base} leads out of its root {self._root} "
                "through a symbolic link"
            )
        return boundary

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new locked file on the destination's own file system. The lock dies with its process."""
        if self._make_root:
            _make_folder(self._root)
        folder = self._locate(_TEMPORARY)
        path = folder / secrets.token_hex(16)
        for attempt in range(_ATTEMPTS):
            _make_folder(self._base)
            try:
                folder.mkdir(exist_ok=True)
                file = path.open("xb")
            # Another writer removed the folder, empty as it was: before the opening, or while mkdir looked at it.
            except (FileNotFoundError, FileExistsError):
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            break
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield path, file
            finally:
                with suppress(OSError):  # what cannot be removed now is swept later
                    path.unlink(missing_ok=True)
                    folder.rmdir()

    def _settle(self, target: Path) -> None:
        """Make a new name durable. Whatever goes wrong here, the file is there already."""
        try:
            _fsync_folder(target.parent)
        except OSError as error:
            raise OutcomeUnknownError(
                f"{self.connector_id}: {target} may be written or not: {error.strerror or error}. "
                "Look whether it is there before trying again."
            ) from error

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        """The operating system's errors as ours."""
        try:
            yield
        except OSError as error:
            message = f"{self.connector_id}: could not {action} {self.uri(key)}: {error.strerror or error}"
            if error.errno in {
                errno.EACCES,
                errno.EPERM,
                errno.EROFS,
                errno.ENOTDIR,
                errno.EEXIST,
                errno.ENAMETOOLONG,
            }:
                raise RequestError(f"{message}. Mend the permissions or the path and try again.") from error
            raise TransientError(f"{message}. Free space or mend the disk, and try again.") from error


def _walk(folder: Path, base: Path) -> Iterator[StoredFile]:
    for path in _children(folder):
        if path.is_symlink() or path.name == _TEMPORARY:
            continue
        if path.is_dir():
            yield from _walk(path, base)
        else:
            with suppress(FileNotFoundError):
                yield StoredFile(path.relative_to(base).as_posix(), path.stat().st_size)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
