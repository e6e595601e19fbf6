"""An archive's files in a folder of this machine. No link leads out of it, and what is no file is not opened.

It knows nothing of what the files hold.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from vv_exports.domain.prompt_runs import JsonValue
from vv_exports.errors import SourceDataError, TransientError
from vv_exports.printable import one_line
from vv_exports.sources.documents import too_large

Read = Callable[[int], bytes]

# O_PATH, where there is such: passing through a folder needs no right to list it.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW  # a FIFO that took a file's place meanwhile is not waited for
_AT_A_TIME = 1 << 20

_OF_THE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EAGAIN,
        errno.EPERM,
        errno.EINVAL,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EOVERFLOW,
    }
)
"""What the system says of one file, while others can be read."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class ArchiveFolder:
    """The files below a folder; paths are relative to it. The folder itself may be a link.

    Raises SourceDataError for what is wrong with one file, TransientError for what may be wrong with all.
    """

    def __init__(self, root: str, *, follow_links: bool) -> None:
        self._root = root
        self._follow_links = follow_links

    def show(self, path: str) -> str:
        """The full address, for messages."""
        return one_line(self._full(path))

    def names(self, folder: str) -> list[str] | None:
        """What a folder holds, sorted; None where there is no such folder."""
        with self._translated(folder), self._folder(folder) as descriptor:
            if descriptor is None:
                return None
            return sorted(os.listdir(descriptor))  # noqa: PTH208 - a path would be looked up anew

    def versions(self, folder: str) -> dict[str, JsonValue]:
        """Of every file in a folder, by name: its size and the time of its last change. A link that leads nowhere is
        told by where it leads."""
        found: dict[str, JsonValue] = {}
        with self._translated(folder), self._folder(folder) as descriptor:
            if descriptor is None:
                return found
            with os.scandir(descriptor) as entries:
                for entry in sorted(entries, key=attrgetter("name")):
                    try:
                        status = entry.stat()
                    except OSError as error:
                        found[entry.name] = [os.strerror(error.errno or 0), _target(entry.name, descriptor)]
                        continue
                    if stat.S_ISREG(status.st_mode):
                        found[entry.name] = [status.st_size, str(status.st_mtime)]
        return found

    def read(self, paths: Iterable[str], most: int) -> Iterator[bytes | SourceDataError | None]:
        """The content of each file, None where there is none, the error where it cannot be had or is over ``most``
        bytes. Of such a one nothing is read, or ``most`` + 1 bytes where its size was not known."""
        for path in paths:
            try:
                yield self._content(path, most)
            except SourceDataError as error:
                yield error

    @contextmanager
    def reader(self, path: str) -> Iterator[Read]:
        """What reads the next bytes of a file that was listed, empty at its end."""
        file = self._file(path)
        if file is None:
            raise SourceDataError(f"{self.show(path)} was there a moment ago, and is not any more: write it again")

        def read(size: int) -> bytes:
            with self._translated(path):
                return _read(file, size)

        with file:
            yield read

    def _content(self, path: str, most: int) -> bytes | None:
        file = self._file(path, buffering=0)
        if file is None:
            return None
        with file, self._translated(path):
            size = os.fstat(file.fileno()).st_size
            parts: list[bytes] = []
            held = 0
            # Not in one piece: that would take the memory of the limit, whatever there is.
            while max(size, held) <= most and (data := _read(file, min(_AT_A_TIME, max(size, held, 512) + 1 - held))):
                parts.append(data)
                held += len(data)
        if max(size, held) > most:
            raise too_large(self.show(path), most, size if size > most else None)
        return b"".join(parts)

    def _file(self, path: str, *, buffering: int = -1) -> BinaryIO | None:
        with self._translated(path):
            folder, _, name = path.rpartition("/")
            if (at := self._plainly(folder)) is not None:
                try:
                    if stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                        return self._opened_file(path, os.open(name, _READ, dir_fd=at), buffering)
                except OSError:
                    pass  # it is looked up anew, and then it is said what is wrong
                finally:
                    os.close(at)
            real = self._real(path)
            if real is None:
                return None
            self._check_kind(path, Path(real).stat().st_mode)  # opening a device can be an act
            with _opened(real, _READ) as descriptor:
                return self._opened_file(path, os.dup(descriptor), buffering)

    def _opened_file(self, path: str, descriptor: int, buffering: int) -> BinaryIO:
        try:
            self._check_kind(path, os.fstat(descriptor).st_mode)
            return os.fdopen(descriptor, "rb", buffering)
        except BaseException:
            os.close(descriptor)
            raise

    @contextmanager
    def _folder(self, path: str) -> Iterator[int | None]:
        """A folder, open to be listed; None where there is none."""
        if (at := self._plainly(path, _LIST)) is None:
            real = self._real(path)
            if real is None:
                yield None
                return
            with _opened(real, _LIST) as descriptor:
                yield descriptor
            return
        try:
            yield at
        finally:
            os.close(at)

    def _plainly(self, path: str, flags: int = _PASS) -> int | None:
        """A folder that is reached without a link below the archive's own, open; None: it is for ``_real`` to say.

        An index has a hundred thousand folders, and what is asked of the system for each of them is what a look at it
        costs: to resolve a path asks for each of its names twice.
        """
        *above, last = path.split("/")
        if not {"", ".", ".."}.isdisjoint((*above, last)):
            return None
        try:
            at = os.open(self._root, _PASS & ~os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            for name in above:
                below = os.open(name, _PASS, dir_fd=at)
                os.close(at)
                at = below
            return os.open(last, flags, dir_fd=at)
        except OSError:
            return None
        finally:
            os.close(at)

    def _check_kind(self, path: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
            raise SourceDataError(f"{self.show(path)} is {kind}, and must be a file: put the file itself there")

    def _real(self, path: str) -> str | None:
        """Where a path leads, every link followed; None where there is nothing. Raises SourceDataError for a link that
        leads nowhere, or out of the archive."""
        try:
            real = os.path.realpath(self._full(path), strict=True)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:  # of a longer name is nothing
                raise
            self._check_links(path)
            return None
        root = os.path.realpath(self._root)
        if not self._follow_links and real != root and not real.startswith(f"{root.rstrip('/')}/"):
            raise SourceDataError(
                f"{self.show(path)} leads out of the archive, to {one_line(real)}: put there what it stands for, or "
                "set `follow_links: true` under source where links out are meant"
            )
        return real

    def _check_links(self, path: str) -> None:
        place = self._root
        for name in path.split("/"):
            place = f"{place}/{name}"
            # Not of pathlib, which raises where a name is too long.
            if os.path.islink(place) and not os.path.exists(place):  # noqa: PTH110, PTH114
                raise SourceDataError(
                    f"{one_line(place)} is a link to {_target(place)}, which does not exist: fetch what it "
                    "stands for (as with `git annex get` or `dvc pull`), or put the file itself there"
                )

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where, reason = self.show(path), os.strerror(error.errno or 0)
            if error.errno in _OF_THE_FILE:
                raise SourceDataError(f"{where} cannot be read: {reason}. Mend it, or its permissions.") from error
            raise TransientError(f"{where} could not be read: {reason}. Try again later.") from error


@contextmanager
def _opened(real: str, flags: int) -> Iterator[int]:
    """Open a path that has no links, one name at a time: a folder on it that was swapped for a link meanwhile, which
    may lead out of the archive, is an error."""
    *folders, name = real.strip("/").split("/")
    with ExitStack() as stack:
        at = os.open("/", _PASS)
        stack.callback(os.close, at)
        for folder in folders:
            at = os.open(folder, _PASS, dir_fd=at)
            stack.callback(os.close, at)
        descriptor = os.open(name or ".", flags, dir_fd=at)
        stack.callback(os.close, descriptor)
        yield descriptor


def _read(file: BinaryIO, size: int) -> bytes:
    data: bytes | None = file.read(size)
    if data is None:  # of what is a file to the system, and would be waited for
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return data


def _target(link: str, folder: int | None = None) -> str:
    try:
        return one_line(str(Path(os.readlink(link, dir_fd=folder))))
    except OSError:
        return "nothing"
