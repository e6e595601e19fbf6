"""A local folder, or a share that is mounted as one.

Needs a POSIX file system with hard links and advisory locks: the commit is a hard link, which the kernel refuses
where the name is taken, and which appears with its whole content or not at all.

Others may write there too. So nothing is done by a path that was looked at before: each step begins at the open
folder of the boundary and takes one name at a time, as ``folders.py`` does it.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs as pafs

from vv_exports.connectors.arrow_files import ReadingHandler
from vv_exports.connectors.base import Connector, EarlierVersion, StoredFile, UnfinishedUpload
from vv_exports.connectors.open_folders import (
    NotAFileError,
    SymbolicLinkError,
    descend,
    entries_below,
    mode_of,
    names_in,
    open_file,
    open_top,
    sync,
)
from vv_exports.connectors.trials import refuses_taken_names
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import (
    DeliveredDataError,
    DestinationError,
    OutcomeUnknownError,
    RequestError,
    TransientError,
    VVExportsError,
)

_TEMPORARY = ".vv_exports_tmp"
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{32}")
_ATTEMPTS = 50  # writers that meet can undo each other's folders a few times

_MEND = "Mend the permissions or the path and try again."
_PERMANENT = {
    errno.EACCES: _MEND,
    errno.EPERM: _MEND,
    errno.ENOTDIR: _MEND,
    errno.EISDIR: _MEND,
    errno.EEXIST: _MEND,
    errno.ENOTEMPTY: _MEND,
    errno.ENAMETOOLONG: "The file system takes no name or path of that length; choose a shorter destination_subpath.",
    errno.EINVAL: "The file system does not take such a name; choose another destination_subpath or disk.",
    errno.EILSEQ: "The file system does not take such a name; choose another destination_subpath or disk.",
    errno.EROFS: "The file system is mounted for reading only: mount it for writing, or choose another root.",
    errno.EXDEV: "Another disk is mounted below export_base_path, and files are put in place by renaming them: let "
    "export_base_path be on that disk, in a connector of its own.",
    errno.EOPNOTSUPP: "The file system has no hard links or locks, which deliveries need; choose another disk.",
    errno.ELOOP: "Links lead in a circle; mend the path.",
}
"""What does not pass by itself, and what to do."""
_PASSING = {
    errno.EMFILE: "Too many files are open in this process: raise its limit (`ulimit -n`), and try again.",
    errno.ENFILE: "Too many files are open on this machine: close some or raise its limit, and try again.",
    errno.ESTALE: "The share was taken away or mounted anew meanwhile: see that it is mounted, and try again.",
    errno.ENOTCONN: "The share is not connected: mount it again, and try again.",
}


@dataclass(frozen=True)
class _Temporary:
    """A new file, locked, in a folder that is open; and the open folder of the boundary, on the same file system."""

    boundary: int
    folder: int
    name: str
    file: BinaryIO


class LocalConnector:
    """Files below ``root / export_base_path``. The base path is made when first needed; ``root`` must exist, since a
    disk that is not mounted looks like a missing folder, unless ``make_root`` says that it is ours."""

    provider = "local"
    uploads_at_once = 1
    pipeline_storage: Connector | None = None

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
        self._base_names = [name for name in export_base_path.split("/") if name]

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
        with self._translated("open", ""), suppress(FileNotFoundError), self._boundary():
            pass
        return f"{self._root} is there"

    def policies(self) -> dict[str, JsonObject]:
        """None: the folder's permissions are all there is."""
        return {}

    def remember_in(self, storage: Connector) -> None:
        """Nothing has to be found out."""

    def put(self, local: Path, key: str, *, sha256: str | None = None, durable: bool = True) -> None:
        """Copy, make durable, rename into place."""
        del sha256  # the kernel compares nothing
        with local.open("rb") as content:
            self.put_stream(content, key, durable=durable)

    def put_stream(self, content: BufferedIOBase, key: str, *, durable: bool = True) -> None:
        """The same from an open file, from its start."""
        *folders, name = _names(self, key)

        def write(file: BinaryIO) -> None:
            content.seek(0)
            shutil.copyfileobj(content, file, 1 << 20)

        def replace(temporary: _Temporary, folder: int) -> bool:
            self._check_no_link(folder, name, key)  # put there later, it is replaced and not followed
            if (mode := mode_of(folder, name)) is not None and stat.S_ISDIR(mode):
                raise NotAFileError(key, mode)
            os.rename(temporary.name, name, src_dir_fd=temporary.folder, dst_dir_fd=folder)
            if durable:
                sync(folder)
            return True

        with self._translated("write", key):
            self._put_in_place(key, folders, write, replace, durable=durable)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        """Write beside, make durable, hard-link into place: the kernel refuses a name that is taken."""
        *folders, name = _names(self, key)

        def write(file: BinaryIO) -> None:
            file.write(data)

        def link(temporary: _Temporary, folder: int) -> bool:
            try:
                os.link(temporary.name, name, src_dir_fd=temporary.folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                self._check_no_link(folder, name, key)
                if (mode := mode_of(folder, name)) is not None and not stat.S_ISREG(mode):
                    raise NotAFileError(key, mode) from None
                return False
            if durable:
                self._settle(folder, key)
            return True

        with self._translated("create", key):
            return self._put_in_place(key, folders, write, link, durable=durable)

    @contextmanager
    def many_writes(self) -> Iterator[None]:
        """Let a temporary file of its own keep their folder there: a file system may take longer to make and remove
        that for each file than to write the file."""
        with ExitStack() as stack:
            with suppress(OSError, VVExportsError):  # what is in the way is told by the write that meets it
                stack.enter_context(self._temporary())
            yield

    def read(self, key: str) -> bytes | None:
        """The content, or None."""
        with self._translated("read", key):
            try:
                with self._open(key) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, key: str, *, sparsely: bool = False) -> BufferedIOBase:  # noqa: ARG002 - nothing is read ahead
        """Open for reading."""
        with self._translated("read", key):
            try:
                return self._open(key)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise DeliveredDataError(f"{self.connector_id}: {self.uri(key)} is not there") from error

    def files(self, prefix: str, *, after: str = "") -> list[StoredFile]:
        """Walk the folder. Unfinished files are left out. A link counts as a file, and is not followed."""
        folders = _names(self, prefix) if prefix else []
        top = f"{prefix}/" if prefix else ""
        with self._translated("list", prefix):
            try:
                with self._boundary() as boundary, ExitStack() as stack:
                    folder = descend(stack, boundary, folders)[-1]
                    found = [
                        StoredFile(f"{top}{entry.path}", entry.size, entry.is_link)
                        for entry in entries_below(folder, skipped=_TEMPORARY, after=after.removeprefix(top))
                    ]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(found, key=lambda file: file.key)

    def delete(self, keys: list[str]) -> None:
        """Unlink, then remove the folders that this emptied."""
        for key in keys:
            *folders, name = _names(self, key)
            with (
                self._translated("delete", key),
                suppress(FileNotFoundError, NotADirectoryError),
                self._boundary() as boundary,
                ExitStack() as stack,
            ):
                opened = descend(stack, boundary, folders)
                self._check_no_link(opened[-1], name, key)  # put there later, it goes, and not what it leads to
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=opened[-1])
                with suppress(OSError):  # a folder that still holds something stays
                    for folder, parent in reversed(list(zip(folders, opened, strict=False))):
                        os.rmdir(folder, dir_fd=parent)

    def sweep(self) -> None:
        """Remove temporary files whose writer is gone: nobody holds their lock."""
        with (
            self._translated("sweep", _TEMPORARY),
            suppress(FileNotFoundError, NotADirectoryError),
            self._boundary() as boundary,
            ExitStack() as stack,
        ):
            folder = descend(stack, boundary, [_TEMPORARY])[-1]
            for name in filter(_TEMPORARY_NAME.fullmatch, names_in(folder)):
                # Locked: its writer lives. No file, or not ours to open or remove: another's, and no reason to fail.
                with suppress(OSError), open_file(folder, name) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=folder)
            with suppress(OSError):
                os.rmdir(_TEMPORARY, dir_fd=boundary)

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """None: what a writer that died left is known by its lock, and swept."""
        del prefix
        return []

    def discard(self, uploads: Iterable[UnfinishedUpload]) -> None:
        """Nothing to do."""

    def earlier(self, prefix: str) -> list[EarlierVersion] | None:
        """None are kept: what snapshots of the disk hold is not known to it."""
        del prefix
        return []

    def forget(self, versions: Sequence[EarlierVersion]) -> None:
        """Nothing to do."""

    def arrow_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Reads as ``open`` does, below the absolute base path: a link there is refused, and not followed."""
        return pafs.PyFileSystem(ReadingHandler(self)), str(self._base)

    def _open(self, key: str) -> BufferedIOBase:
        *folders, name = _names(self, key)
        with self._boundary() as boundary, ExitStack() as stack:
            folder = descend(stack, boundary, folders)[-1]
            try:
                return open_file(folder, name)
            except SymbolicLinkError as error:
                raise SymbolicLinkError(key) from error

    def _put_in_place(
        self,
        key: str,
        folders: Sequence[str],
        write: Callable[[BinaryIO], None],
        place: Callable[[_Temporary, int], bool],
        *,
        durable: bool = True,
    ) -> bool:
        """Write a temporary file, then ``place`` it in its folder, which is made. Returns what ``place`` does."""
        for _ in range(_ATTEMPTS):
            with self._temporary() as temporary:
                write(temporary.file)
                temporary.file.flush()
                if durable:
                    os.fsync(temporary.file.fileno())
                # Another delivery may tidy an emptied folder away between the opening and the placing.
                with suppress(FileNotFoundError), ExitStack() as stack:
                    return place(temporary, descend(stack, temporary.boundary, folders, make=True)[-1])
        raise TransientError(
            f"{self.connector_id}: {self.uri(key)} could not be put in place: its folder kept vanishing"
        )

    @contextmanager
    def _boundary(self, *, make: bool = False) -> Iterator[int]:
        """The folder that no key leaves, open. The way to ``root`` may lead through links, and ``export_base_path``
        through such as stay in it. Raises FileNotFoundError where it is not there, RequestError where the root is
        not: a share that is not mounted must not look like an empty one.
        """
        if make and self._make_root:
            _make_folder(self._root)
        with ExitStack() as stack:
            try:
                root = open_top(stack, self._root)
            except (FileNotFoundError, NotADirectoryError) as error:
                if self._make_root:
                    raise
                raise RequestError(
                    f"{self.connector_id}: its root {self._root} is not a folder; "
                    "create it, or mend `root` in the configuration"
                ) from error
            yield self._below_root(stack, root, make=make)

    def _below_root(self, stack: ExitStack, root: int, *, make: bool) -> int:
        names: Sequence[str] = self._base_names
        for _ in range(_ATTEMPTS):
            try:
                return descend(stack, root, names, make=make)[-1]
            except SymbolicLinkError:
                try:
                    real = Path(os.path.realpath(self._base))
                except OSError as error:
                    if error.errno == errno.EINVAL:  # a link at the first look of realpath, and none at the second
                        continue
                    raise
                real_root = os.path.realpath(self._root)
                if not real.is_relative_to(real_root):
                    break
                names = real.relative_to(real_root).parts
        raise DestinationError(
            f"{self.connector_id}: export_base_path {self._base} leads out of its root {self._root} "
            "through a symbolic link"
        )

    def _check_no_link(self, folder: int, name: str, key: str) -> None:
        mode = mode_of(folder, name)
        if mode is not None and stat.S_ISLNK(mode):
            raise SymbolicLinkError(key)

    @contextmanager
    def _temporary(self) -> Iterator[_Temporary]:
        """A new locked file on the destination's own file system. The lock dies with its process."""
        name = secrets.token_hex(16)
        with ExitStack() as stack:
            boundary, folder, descriptor = self._new_file(stack, name)
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    yield _Temporary(boundary, folder, name, file)
                finally:
                    with suppress(OSError):  # what cannot be removed now is swept later
                        with suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)
                        os.rmdir(_TEMPORARY, dir_fd=boundary)

    def _new_file(self, stack: ExitStack, name: str) -> tuple[int, int, int]:
        """The open folder of the boundary, that of the temporary files, and a new file there to write to."""
        for attempt in range(_ATTEMPTS):
            with ExitStack() as opened:
                try:
                    boundary = opened.enter_context(self._boundary(make=True))
                    with suppress(FileExistsError):
                        os.mkdir(_TEMPORARY, dir_fd=boundary)
                    folder = descend(opened, boundary, [_TEMPORARY])[-1]
                    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
                except FileNotFoundError:  # another writer removed the folder, empty as it was
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue
                stack.push(opened.pop_all())
                break
        return boundary, folder, file

    def _settle(self, folder: int, key: str) -> None:
        """Make a new name durable. Whatever goes wrong here, the file is there already."""
        try:
            sync(folder)
        except OSError as error:
            raise OutcomeUnknownError(
                f"{self.connector_id}: {self.uri(key)} may be written or not: {error.strerror or error}. "
                "Look whether it is there before trying again."
            ) from error

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        """The operating system's errors as ours."""
        could_not = f"{self.connector_id}: could not {action} {self.uri(key)}"
        try:
            yield
        except SymbolicLinkError as error:
            raise DestinationError(
                f"{could_not}: {self.uri(error.filename)} is a symbolic link, and what leads out of {self._base} or "
                "to another collection through a symbolic link is not used; remove the link or choose another "
                "destination_subpath"
            ) from error
        except NotAFileError as error:
            kind = DeliveredDataError if action == "read" else DestinationError
            raise kind(f"{could_not}: {error.strerror}. Remove it, and deliver again.") from error
        except OSError as error:
            message = f"{could_not}: {error.strerror or error}."
            if error.errno in _PERMANENT:
                raise RequestError(f"{message} {_PERMANENT[error.errno]}") from error
            advice = _PASSING.get(error.errno or 0, "Free space or mend the disk, and try again.")
            raise TransientError(f"{message} {advice}") from error


def _names(connector: LocalConnector, key: str) -> list[str]:
    """The names that a key leads through. Raises DestinationError for one that could leave the boundary."""
    names = key.split("/")
    if not all(names) or any(name in {".", ".."} or "\\" in name or "\x00" in name for name in names):
        raise DestinationError(f"{connector.connector_id}: {key!r} is not a path below {connector.uri('')}")
    try:
        os.fsencode(key)
    except UnicodeEncodeError as error:
        raise DestinationError(
            f"{connector.connector_id}: {key!r} holds half of a surrogate pair, which no file system can name"
        ) from error
    return names


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        with ExitStack() as stack:
            sync(open_top(stack, folder.parent))
