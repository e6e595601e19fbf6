"""What entries of a delivery log change of tables. Pure, but for the entries that it reads."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import UNSET

from vv_exports.delivery.columns import columns_of_file
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile, LogEntry, read_entry
from vv_exports.delivery.state import CommittedRun, LogState
from vv_exports.domain.destinations import prompt_folder
from vv_exports.errors import DeliveredDataError
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Column, List, Object
from vv_exports.table_formats.base import Added, Change

Entries = Callable[[int], LogEntry]
"""Gives an entry by its number. Raises DeliveredDataError."""


def entries_of(destination: Destination, known: Iterable[LogEntry] = ()) -> Entries:
    """Those of a destination, each read once."""
    read = {entry.sequence: entry for entry in known}

    def entry_of(sequence: int) -> LogEntry:
        if sequence not in read:
            found = read_entry(destination, sequence)
            if found is None:
                raise DeliveredDataError(f"entry {sequence} of the log of {one_line(destination.uri)} is missing")
            read[sequence] = found
        return read[sequence]

    return entry_of


def changes_of(entry: LogEntry, entries: Entries) -> dict[str, Change]:
    """What an entry changes, by table. What it supersedes is found in the entries that it names, so that this takes as
    long whatever the collection holds. Raises DeliveredDataError where one of those cannot be read."""
    superseded = {
        file.path
        for run in entry.prompt_runs
        if run.supersedes is not None
        for file in entries(run.supersedes).files
        if file.prompt_run_id == run.run_id and _is_parquet(file)
    }
    added: dict[str, list[DeliveredFile]] = {}
    removed: dict[str, list[str]] = {}
    # A file that stays is named by both: a run is delivered again, and not all of its files are others.
    for file in entry.files:
        if file.path not in superseded:
            added.setdefault(prompt_folder(file.path), []).append(file)
    for path in sorted(superseded.difference(file.path for file in entry.files)):
        removed.setdefault(prompt_folder(path), []).append(path)
    return {
        name: Change(
            entry=entry.sequence,
            committed_at=entry.moment,
            columns=_columns(entry, added[name][0]) if name in added else None,
            added=tuple(Added(file, entry.moment) for file in added.get(name, ())),
            removed=tuple(removed.get(name, ())),
        )
        for name in dict.fromkeys((*added, *removed))
    }


def is_beside_the_log(entry: LogEntry) -> bool:
    """Whether an entry does not tell what it changes of tables: it stands in the place of one that was lost, or was
    delivered in another format, while no tables were kept."""
    return entry.replaces is not UNSET or not all(map(_is_parquet, entry.files))


@dataclass(frozen=True)
class Held:
    """What a collection holds of a table: its files, each with its run; and the runs of which files are in another
    format than Parquet, that of an earlier configuration."""

    files: list[tuple[CommittedRun, DeliveredFile]] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


def held_by(state: LogState) -> dict[str, Held]:
    """What a collection holds, by table."""
    found: dict[str, Held] = {}
    for run in state.runs.values():
        for file in run.files:
            held = found.setdefault(prompt_folder(file.path), Held())
            if _is_parquet(file):
                held.files.append((run, file))
            else:
                held.others.add(file.prompt_run_id)
    return found


def _is_parquet(file: DeliveredFile) -> bool:
    return file.path.endswith(".parquet")


def columns_of(held: Iterable[tuple[CommittedRun, DeliveredFile]], entries: Entries) -> tuple[Object, frozenset[str]]:
    """The columns of the newest files of a table, and the prompt runs whose files cannot be read as these, since a
    column that both have is of another type there. To lack columns, or to have more, does no harm."""
    samples: dict[object, tuple[int, DeliveredFile]] = {}
    runs: dict[object, set[str]] = {}
    for run, file in held:
        made = run.entry
        told: Mapping[str, str] = {} if made.shapes is UNSET else made.shapes.get(file.prompt_id, {})
        earlier = None if run.earlier is None else run.earlier.get(file.folder)
        shape = told.get(file.folder) if earlier is None else earlier.files
        key = shape, made.content_id, made.layout_version
        runs.setdefault(key, set()).add(file.prompt_run_id)
        if key not in samples or samples[key][0] < made.sequence:
            samples[key] = made.sequence, file
    newest = max(samples.values(), key=lambda one: one[0])
    columns = _columns(entries(newest[0]), newest[1])
    unlike = [key for key, (number, file) in samples.items() if not _reads_as(_columns(entries(number), file), columns)]
    return columns, frozenset(run_id for key in unlike for run_id in runs[key])


def _columns(entry: LogEntry, file: DeliveredFile) -> Object:
    found = columns_of_file(entry, file)
    if found is None:
        raise DeliveredDataError(
            f"entry {entry.sequence} of the log does not say which columns {one_line(file.path)} has: it is no "
            "Parquet, or version 0.1 delivered it. Deliver again, and it does."
        )
    return found


def _reads_as(column: Column, wanted: Column) -> bool:
    """Whether values of a column can be read as those of another without changing their type."""
    match column, wanted:
        case Object(), Object():
            common = column.fields.keys() & wanted.fields.keys()
            return all(_reads_as(column.fields[name], wanted.fields[name]) for name in common)
        case List(), List():
            return _reads_as(column.item, wanted.item)
        case Object() | List(), _:
            return False
        case _, Object() | List():
            return False
    return bool(column.arrow_type == wanted.arrow_type)
