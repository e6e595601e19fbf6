"""What of a destination is made views of: the files of one entry of its log, by prompt and folder.

Not those of a glob: that has two states of a run at once while it is delivered again, and superseded files where they
are kept. It knows no database.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal, get_args

from msgspec import UNSET

from vv_exports.content.union import join
from vv_exports.delivery.columns import columns_of_file
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry, read_entry
from vv_exports.delivery.log import read_log
from vv_exports.delivery.state import CommittedRun
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.columns import Column, Object

View = Literal["current", "latest"]
VIEWS: tuple[View, ...] = get_args(View)
"""All prompt runs that are held, and of each prompt the complete one that was executed last, as ``reader.py`` says."""

_READ_AT_ONCE = 8
_UNUSABLE = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class ViewedFile:
    """A file of the collection, and where it is in it."""

    path: str
    run_id: str
    rows: int


@dataclass(frozen=True)
class ViewedTable:
    """A folder of a prompt. ``columns`` are those that its files have, where an engine must be told."""

    prompt_id: str
    folder: str
    files: tuple[ViewedFile, ...]
    columns: Mapping[str, Column]

    @property
    def path(self) -> str:
        """Its folder's."""
        return self.files[0].path.rpartition("/")[0].rpartition("/")[0]


@dataclass(frozen=True)
class ViewedCollection:
    """``uri`` is where the engine finds it, ``endpoint`` that of the store, where it is not the provider's own;
    ``waiting`` are the prompt runs with other columns than their tables."""

    uri: str
    endpoint: str | None
    entry: int
    tables: tuple[ViewedTable, ...]
    latest: frozenset[str]
    waiting: int

    def files(self, table: ViewedTable, view: View) -> list[ViewedFile]:
        """Those of a table that a view has."""
        return [file for file in table.files if view == "current" or file.run_id in self.latest]

    def address(self, path: str) -> str:
        """A path's."""
        return f"{self.uri}/{path}"

    def introduction(self, what_fails: str) -> list[str]:
        """What the head of any script says: of which state it is, and what becomes of it."""
        said = [
            f"{one_line(self.uri)} as of entry {self.entry} of its log.",
            "It names files: make it anew after each delivery, and run it again. Until then, queries see this state,",
            what_fails,
        ]
        if self.endpoint is not None:
            said.append(
                f"The store answers at {one_line(self.endpoint)}: a database has to be told, or cannot reach it."
            )
        if self.waiting:
            said.append(
                f"{counted(self.waiting, 'prompt run')} with other columns than their tables have by now wait to be "
                "delivered again."
            )
        return said


def viewed_collection(
    destination: Destination, views: Collection[View], *, location: str | None = None, with_columns: bool = True
) -> ViewedCollection:
    """What a destination holds now. ``location`` is the address of a copy that the engine reads in its place.

    Raises NotFoundError where nothing was delivered, and RequestError for files that are not Parquet, and for addresses
    that cannot stand in a script.
    """
    uri = (location or destination.uri).rstrip("/")
    refuse_characters(uri, _UNUSABLE)
    state = read_log(destination)
    if state.last is None:
        raise NotFoundError(f"nothing was delivered to {one_line(destination.uri)} yet: its log has no entry")
    held = state.since(0)
    for file in state.files:
        if not file.path.endswith(".parquet"):
            raise RequestError(
                f"{one_line(destination.uri_of(file.path))} is not Parquet, of which alone views are made: "
                "docs/formats.md says how to read each format"
            )
    samples = _samples(held) if with_columns else {}
    told = _told(destination, held, samples, views)
    return ViewedCollection(
        uri=uri,
        endpoint=None if location else _endpoint(destination),
        entry=state.next_sequence - 1,
        tables=tuple(_tables(held, told)),
        latest=_latest(held, told) if "latest" in views else frozenset(),
        waiting=sum(not state.has_columns_of(run) for run in held),
    )


def refuse_characters(uri: str, unusable: re.Pattern[str]) -> None:
    """Raises RequestError for an address with these in it, or what cannot be printed as it is. Ids have none of them in
    their paths."""
    if unusable.search(uri) or one_line(uri) != uri:
        raise RequestError(
            f"{one_line(uri)} has characters in it that databases take for a pattern or an escape, or that a script "
            "cannot hold: deliver to a folder of another name, or read it with vv_exports.reader"
        )


def _endpoint(destination: Destination) -> str | None:
    """As ``Connector.address`` tells it before the URI."""
    endpoint, space, _ = destination.connector.address.partition(" ")
    return endpoint if space and endpoint.startswith(("http://", "https://")) else None


@dataclass(frozen=True)
class _Told:
    """What is needed of an entry: when its runs were executed, and which columns some of its files have."""

    executed: Mapping[str, datetime]
    columns: Sequence[tuple[tuple[str, str], Object]]


def _samples(held: Iterable[CommittedRun]) -> dict[int, list[DeliveredFile]]:
    """By entry, one file of each prompt and folder and columns that files have there."""
    found: dict[tuple[object, ...], tuple[int, DeliveredFile]] = {}
    for run in held:
        made = run.entry
        for file in run.files:
            folder = file.folder
            if run.earlier is not None:
                shape = run.earlier[folder].files if folder in run.earlier else None
            else:
                shape = None if made.shapes is UNSET else made.shapes.get(file.prompt_id, {}).get(folder)
            key = file.prompt_id, folder, shape, made.content_id, made.layout_version
            found[key] = made.sequence, file  # of the newest entry
    samples: dict[int, list[DeliveredFile]] = {}
    for sequence, file in found.values():
        samples.setdefault(sequence, []).append(file)
    return samples


def _told(
    destination: Destination,
    held: Iterable[CommittedRun],
    samples: Mapping[int, Sequence[DeliveredFile]],
    views: Collection[View],
) -> dict[int, _Told]:
    completed = {run.entry.sequence for run in held if run.run.status == "completed"} if "latest" in views else set()
    numbers = sorted(completed | samples.keys())
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(numbers, pool.map(partial(_of_entry, destination, samples), numbers), strict=True))


def _of_entry(destination: Destination, samples: Mapping[int, Sequence[DeliveredFile]], number: int) -> _Told:
    entry = read_entry(destination, number)
    if entry is None:
        raise DeliveredDataError(f"entry {number} of {one_line(destination.uri)} was there a moment ago")
    return _Told(
        {one.run_id: datetime.fromisoformat(one.executed_at) for one in entry.provenance.prompt_runs},
        [((file.prompt_id, file.folder), columns_of(entry, file)) for file in samples.get(number, ())],
    )


def columns_of(entry: LogEntry, file: DeliveredFile) -> Object:
    """The columns of a file of an entry, as the log says them. Raises RequestError where it does not."""
    if (found := columns_of_file(entry, file)) is None:
        raise RequestError(
            f"the log does not say which columns {one_line(file.path)} has: version 0.1 delivered it. Deliver again "
            "(`vv-exports automations run`), or take --engine duckdb, which looks into the files"
        )
    return found


def _tables(held: Iterable[CommittedRun], told: Mapping[int, _Told]) -> Iterable[ViewedTable]:
    files: dict[tuple[str, str], list[ViewedFile]] = {}
    for run in held:
        for file in run.files:
            viewed = ViewedFile(file.path, run.run.run_id, file.rows)
            files.setdefault((file.prompt_id, file.folder), []).append(viewed)
    columns: dict[tuple[str, str], Object] = {}
    for number in sorted(told, reverse=True):  # the newest have the order of the columns
        for key, found in told[number].columns:
            both = join(columns.get(key, found), found).column
            columns[key] = both if isinstance(both, Object) else found
    for key in sorted(files):
        yield ViewedTable(*key, tuple(files[key]), columns[key].fields if key in columns else {})


def _latest(held: Iterable[CommittedRun], told: Mapping[int, _Told]) -> frozenset[str]:
    """The ids of the latest complete runs of each prompt."""
    found: dict[str, tuple[datetime, str]] = {}
    for run in held:
        if run.run.status == "completed":
            moment = told[run.entry.sequence].executed[run.run.run_id], run.run.run_id
            found[run.prompt_id] = max(found.get(run.prompt_id, moment), moment)
    return frozenset(run_id for _, run_id in found.values())
