"""Folders of a local disk that are held open while something is done in them.

A path is looked up anew each time it is used, and whoever may write there can swap a folder for a link between two
uses. A descriptor stays with its folder. So everything here starts at one that is open, takes one name at a time, and
follows no link. It knows nothing of connectors or keys.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader

# O_PATH, where there is such: passing through a folder needs no right to list it.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: opening a FIFO does not wait for a writer. O_NOCTTY: nor does a terminal become ours.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})  # what systems say of a link, and of a file
_ATTEMPTS = 50
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


class SymbolicLinkError(OSError):
    """A link where a folder or a file was expected. ``filename`` is its path from where the walk began."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ELOOP, "is a symbolic link", path)


class NotAFileError(OSError):
    """A folder, FIFO, socket or device where a file was expected. ``strerror`` says which."""

    def __init__(self, path: str, mode: int) -> None:
        super().__init__(errno.EEXIST, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, and no file", path)


@dataclass(frozen=True)
class Entry:
    """What is not a folder: its path from where the listing began, its size in bytes, whether it is a link."""

    path: str
    size: int
    is_link: bool


def open_top(stack: ExitStack, path: str | os.PathLike[str]) -> int:
    """Open the folder where a walk begins; the way to it may lead through links. The stack closes it."""
    return _kept(stack, os.open(path, _PASS))


def descend(stack: ExitStack, top: int, names: Sequence[str], *, make: bool = False) -> list[int]:
    """Open folders, each in the one before, and return their descriptors, ``top`` first. The stack closes them.

    With ``make`` those that are not there are made, each durable in the one that holds it. Raises SymbolicLinkError;
    NotADirectoryError for a file; FileNotFoundError, also where what was made vanishes at once.
    """
    opened = [top]
    with ExitStack() as kept:
        for depth, name in enumerate(names, 1):
            try:
                opened.append(_kept(kept, _opened(opened[-1], name)))
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=opened[-1])
                sync(opened[-1])
                opened.append(_kept(kept, _opened(opened[-1], name)))
            except SymbolicLinkError as error:
                raise SymbolicLinkError("/".join(names[:depth])) from error
        stack.push(kept.pop_all())
    return opened


def sync(folder: int) -> None:
    """Make the names in a folder durable."""
    with _listable(folder) as descriptor:
        os.fsync(descriptor)


def mode_of(folder: int, name: str) -> int | None:
    """What a name is, links not followed; None where there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def open_file(folder: int, name: str) -> BufferedReader:
    """Open a regular file for reading. Raises SymbolicLinkError, NotAFileError, FileNotFoundError."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        mode = mode_of(folder, name)
        if error.errno in _NO_FOLDER and mode is not None and stat.S_ISLNK(mode):
            raise SymbolicLinkError(name) from error
        if error.errno in {errno.ENXIO, errno.EOPNOTSUPP} and mode is not None:  # a socket
            raise NotAFileError(name, mode) from error
        raise
    with ExitStack() as stack:
        _kept(stack, descriptor)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotAFileError(name, mode)
        stack.pop_all()
    return os.fdopen(descriptor, "rb")


def names_in(folder: int) -> list[str]:
    """The names in a folder."""
    with _listable(folder) as descriptor, os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


def entries_below(folder: int, *, skipped: str, after: str = "") -> Iterator[Entry]:
    """Everything below a folder that is no folder itself and whose path comes after ``after``, in no order. No link is
    followed, and folders of the name ``skipped`` are left out. What vanishes meanwhile is left out too, and what has
    taken its place is not: of a file that is replaced again and again by one of another name, one is always there.
    """
    # Not a recursion: how deep folders are is up to whoever may write there.
    levels = [_Level(os.open(".", _LIST, dir_fd=folder), "")]
    try:
        while levels:
            level = levels[-1]
            entry = level.next_entry()
            if entry is None:
                os.close(levels.pop().descriptor)
            elif entry.name != skipped:
                path = f"{level.prefix}{entry.name}"
                if (child := _listed_folder(level.descriptor, entry)) is not None:
                    levels.append(_Level(child, f"{path}/"))
                    continue
                if path <= after:
                    continue
                try:
                    found = os.stat(entry.name, dir_fd=level.descriptor, follow_symlinks=False)
                except FileNotFoundError:
                    level.changed = True
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    yield Entry(path, found.st_size, stat.S_ISLNK(found.st_mode))
    finally:
        for level in levels:
            os.close(level.descriptor)


@dataclass
class _Level:
    """A folder that is being listed, and what of it is still to come."""

    descriptor: int
    prefix: str
    changed: bool = True
    """Something vanished since it was listed: it is listed again for what came since."""
    entries: "list[os.DirEntry[str]]" = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def next_entry(self) -> "os.DirEntry[str] | None":
        if not self.entries and self.changed:
            self.changed = False
            with os.scandir(self.descriptor) as entries:
                self.entries = [entry for entry in entries if entry.name not in self.seen]
            self.seen.update(entry.name for entry in self.entries)
        return self.entries.pop() if self.entries else None


def _listed_folder(parent: int, entry: "os.DirEntry[str]") -> int | None:
    """An open folder; None for anything else, and for what is none any more."""
    if not entry.is_dir(follow_symlinks=False):
        return None
    try:
        return os.open(entry.name, _LIST, dir_fd=parent)
    except OSError as error:
        if error.errno in _NO_FOLDER or isinstance(error, FileNotFoundError):
            return None
        raise


def _opened(parent: int, name: str) -> int:
    """Open one folder. Where it is a link at the one look and a folder at the next, that is a link."""
    for _ in range(_ATTEMPTS):
        try:
            return os.open(name, _PASS | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            mode = mode_of(parent, name)
            if mode is not None and stat.S_ISLNK(mode):
                raise SymbolicLinkError(name) from error
            if mode is not None and not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", name) from error
    raise SymbolicLinkError(name)


@contextmanager
def _listable(folder: int) -> Iterator[int]:
    """The folder opened again, since one that is only passed through can be neither listed nor synced."""
    descriptor = os.open(".", _LIST, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _kept(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
