"""The files of snapshots in the pipeline's storage: what each is called, and how those of a reading get there.

A run may be larger than the local disk. So a part goes as soon as the next one is begun, under a name that its content
gives, before anybody knows what the whole run holds. A reading that is killed is begun anew, finds the parts that are
there already, and uploads the others.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import has_room
from vv_exports.connectors.uploads import UploadsBehind
from vv_exports.domain.tables import TABLES
from vv_exports.errors import TransientError
from vv_exports.snapshots.reading import SpoolFile

_FOLDER = "parts"
_HASH_DIGITS = 16
PART_FILE = (
    rf"{_FOLDER}/({'|'.join(TABLES)})-[0-9]{{5,}}-[0-9a-f]{{{_HASH_DIGITS}}}(\.answers)?\.parquet"
    rf"|[0-9a-f]{{64}}(-[0-9]+)?/({'|'.join(TABLES)})-[0-9]{{5,}}(\.answers)?\.parquet"
)
"""A part, or its answers, relative to the folder of its run: as they are called, and as earlier versions of the package
called them."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file of the answers of a part's rows, as JSON text. ``key`` is its place in the pipeline's storage."""

    key: str
    bytes: int
    sha256: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of a snapshot. ``key`` is its place in the pipeline's storage. Parts of failures, and of
    snapshots that version 0.1 took, have no ``answers``."""

    key: str
    rows: int
    bytes: int
    sha256: str
    answers: Answers | None = None

    @property
    def files(self) -> "tuple[Part | Answers, ...]":
        """The part, and its answers where it has some."""
        return (self,) if self.answers is None else (self, self.answers)


class PartUploads:
    """The parts of one reading on their way to the storage; ``folder`` is the run's.

    A part that is among ``known`` ones is not uploaded again, nor one that a reading before has left. With ``anew`` all
    are: what is there may be damaged. ``held`` tells the files of all snapshots of the run, None where that is unknown.
    """

    def __init__(
        self,
        storage: Connector,
        folder: str,
        known: Iterable[Part],
        held: Callable[[], Collection[str] | None],
        *,
        anew: bool = False,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._known = {} if anew else {_content_of(part): part for part in known}
        self._held = held
        self._anew = anew
        self._parts: dict[SpoolFile, Part] = {}
        self._before: dict[str, int] | None = None  # of parts, as it was when the first one went ahead of the whole
        self._behind = UploadsBehind()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._behind.__exit__(kind, error, trace)

    def add(self, file: SpoolFile) -> None:
        """Take a finished part away in the background; where there is no room for another one beside it, at once."""
        part = self._part(file)
        if self._before is None:
            self._before = self._listed()
        self._behind.begin(partial(self._take_away, file, part))
        if not has_room(sum(one.bytes for one in part.files)):
            self._behind.wait()

    def wait(self) -> None:
        """Until what was added is gone from the local disk."""
        self._behind.wait()

    def part_of(self, file: SpoolFile) -> Part:
        """A part of the reading, which is in the storage then."""
        self._behind.wait()
        if file.path.exists():  # the last one of its table: it was not added
            self._take_away(file, self._part(file))
        return self._part(file)

    def check_all_there(self, tables: Mapping[str, Iterable[Part]]) -> None:
        """Raise TransientError where a part that went ahead is there no more: whoever read the same run meanwhile, or
        erased some of it, took it for left over."""
        if self._before is None:
            return
        there = self._listed()
        for key, size in _files_of(tables).items():
            if key.startswith(self._top) and there.get(key) != size:
                raise TransientError(f"{self._storage.uri(key)} was removed while its prompt run was read; try again")

    def remove_others(self, tables: Mapping[str, Iterable[Part]]) -> None:
        """Remove the parts that are in none of the tables, and in no snapshot: of this reading, and of those that began
        before it. They died, or will find that the run has changed meanwhile."""
        if self._before is None:
            return
        self._behind.wait()
        added = {file.key for part in self._parts.values() for file in part.files if file.key.startswith(self._top)}
        others = (self._before.keys() | added) - _files_of(tables).keys()
        if others and (held := self._held()) is not None:
            self._storage.delete(sorted(others.difference(held)))

    @property
    def _top(self) -> str:
        return f"{self._folder}/{_FOLDER}/"

    def _part(self, file: SpoolFile) -> Part:
        if file not in self._parts:
            made = _made(file, self._top)
            self._parts[file] = self._known.get(_content_of(made), made)
        return self._parts[file]

    def _take_away(self, file: SpoolFile, part: Part) -> None:
        for local, kept in zip((file, file.answers), part.files, strict=False):
            if local is not None:
                if not self._is_there(part, kept):
                    self._storage.put(local.path, kept.key, sha256=kept.sha256)
                local.path.unlink()

    def _is_there(self, part: Part, kept: Part | Answers) -> bool:
        if self._before is not None and kept.key.startswith(self._top):
            return not self._anew and self._before.get(kept.key) == kept.bytes
        return _content_of(part) in self._known

    def _listed(self) -> dict[str, int]:
        there = self._storage.files(self._top.removesuffix("/"))
        return {file.key: file.size for file in there if not file.is_link}


def _made(file: SpoolFile, top: str) -> Part:
    """A part with its place."""
    answers = None
    if (beside := file.answers) is not None:
        answers = Answers(key=top + _named(beside, ".answers.parquet"), bytes=beside.bytes, sha256=beside.sha256)
    return Part(
        key=top + _named(file, ".parquet"), rows=file.rows, bytes=file.bytes, sha256=file.sha256, answers=answers
    )


def _named(file: SpoolFile, suffix: str) -> str:
    return f"{file.path.name.removesuffix(suffix)}-{file.sha256[:_HASH_DIGITS]}{suffix}"


def _content_of(part: Part) -> tuple[str, ...]:
    """What tells it from any other: rows that are typed alike may have been answered otherwise."""
    return tuple(file.sha256 for file in part.files)


def _files_of(tables: Mapping[str, Iterable[Part]]) -> dict[str, int]:
    return {file.key: file.bytes for parts in tables.values() for part in parts for file in part.files}
