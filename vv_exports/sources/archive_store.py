"""An archive's files in a store, wherever fsspec can read. It knows nothing of what the files hold."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from vv_exports.domain.prompt_runs import JsonValue
from vv_exports.domain.redaction import quoted
from vv_exports.errors import RequestError, SourceDataError, TransientError
from vv_exports.printable import one_line
from vv_exports.sources.archive_folder import ArchiveFolder, Read
from vv_exports.sources.documents import too_large

_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
_SMALL = 64 << 10
_AT_ONCE = 256
_PUT_AWAY = "InvalidObjectState"  # S3's word for one object in Glacier; s3fs says that nothing may be read


class ArchiveStore:
    """The files below a URL; paths are relative to it. The store's errors come out as ours."""

    def __init__(self, filesystem: AbstractFileSystem, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")

    def show(self, path: str) -> str:
        """The full address, for messages."""
        return one_line(str(self._fs.unstrip_protocol(self._full(path))))

    def names(self, folder: str) -> list[str] | None:
        """What a folder holds, sorted; None where there is no such folder."""
        with self._translated(folder):
            try:
                found = self._fs.ls(self._full(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found})

    def versions(self, folder: str) -> dict[str, JsonValue]:
        """Of every file in a folder, by name: its size, and what the store has to tell it from another."""
        with self._translated(folder):
            found = self._fs.ls(self._full(folder), detail=True)
        files = sorted((info for info in found if info["type"] == "file"), key=lambda info: str(info["name"]))
        return {
            info["name"].rpartition("/")[2]: [
                info["size"],
                next((str(info[name]) for name in _VERSIONS if name in info), None),
            ]
            for info in files
        }

    def read(self, paths: Iterable[str], most: int) -> Iterator[bytes | SourceDataError | None]:
        """The content of each file, None where there is none, the error where it cannot be had or is over ``most``
        bytes. Of such a one no more than 64 KiB are fetched where its size is known; small ones at the same time."""
        first = min(_SMALL, most) + 1
        left = iter(paths)
        while group := list(islice(left, _AT_ONCE)):
            # cat_ranges and not cat, which takes a "[" in a path for a pattern.
            with self._translated(group[0]):
                found = self._fs.cat_ranges([self._full(path) for path in group], 0, first, on_error="return")
            for path, data in zip(group, found, strict=True):
                try:
                    yield self._content(path, data, first, most)
                except SourceDataError as error:
                    yield error

    @contextmanager
    def reader(self, path: str) -> Iterator[Read]:
        """What reads the next bytes of a file that was listed, empty at its end."""
        with self._translated(path):
            file = self._fs.open(self._full(path), "rb")

        def read(size: int) -> bytes:
            with self._translated(path):
                return bytes(file.read(size))

        try:
            yield read
        finally:
            file.close()

    def _content(self, path: str, data: bytes | Exception, first: int, most: int) -> bytes | None:
        with self._translated(path):
            if isinstance(data, FileNotFoundError | NotADirectoryError):
                return None
            if isinstance(data, Exception):
                # Some stores have no range of an empty object.
                if isinstance(data, PermissionError) or self._fs.info(self._full(path))["size"]:
                    raise data
                return b""
            if len(data) < first:
                return data
            size = self._fs.info(self._full(path))["size"] or 0  # None: a store that does not know
            if first <= most and size <= most:
                data = bytes(self._fs.cat_file(self._full(path), start=0, end=most + 1))
        if max(size, len(data)) > most:
            raise too_large(self.show(path), most, size if size > most else None)
        return data

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Around one call of the store: each has its own exceptions, and many are no OSError."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised as one of ours
            said = quoted(f"{type(error).__name__}: {error}")
            # From None: some stores repeat the headers of a request, which are not for tracebacks.
            if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
                raise SourceDataError(
                    f"{self.show(path)} is no file, or not any more: {said}. Write it again."
                ) from None
            answer = getattr(error.__cause__, "response", {})
            if answer.get("Error", {}).get("Code") == _PUT_AWAY:
                raise SourceDataError(
                    f"{self.show(path)} cannot be read: {said}. Restore it from its storage class."
                ) from None
            if isinstance(error, PermissionError):
                raise RequestError(
                    f"{self.show(path)} may not be read: {said}. Mend the permissions or the credentials."
                ) from None
            raise TransientError(f"{self.show(path)} could not be read: {said}. Try again later.") from None


def place_of(path_or_url: str, *, follow_links: bool) -> ArchiveFolder | ArchiveStore:
    """Where an archive is. Raises RequestError where fsspec cannot open such a URL here."""
    try:
        # A listing that fsspec remembered would hide the runs that were written since.
        filesystem, root = url_to_fs(path_or_url, use_listings_cache=False)
    except Exception as error:  # noqa: BLE001 - some look at what is there already, each with its own exceptions
        said = quoted(f"{type(error).__name__}: {error}")
        raise RequestError(f"The archive {path_or_url!r} cannot be opened: {said}. Check source.path.") from None
    if "file" in filesystem.protocol:
        return ArchiveFolder(root.rstrip("/"), follow_links=follow_links)
    return ArchiveStore(filesystem, root)
