"""The snapshots of an index at a glance, in one file, so that no look at an index opens a file for each of its runs.

An index over the snapshot store, which stays the truth: an entry that is missing costs one look at the store.

Layout in the pipeline's storage: ``catalogs/<index>/<version>.json.zst``.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.domain.failures import Problem
from vv_exports.domain.names import storage_segment
from vv_exports.domain.prompt_runs import DELIVERABLE, RunStatus
from vv_exports.snapshots.store import Snapshot


class CatalogedRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The current snapshot of a run. ``fingerprint`` is what the run looked like when it was read. ``broken_rows`` are
    those whose answer breaks the prompt's schema; None where they were not checked, or not all of them."""

    executed_at: datetime
    status: RunStatus
    data_version: str
    fingerprint: str
    broken_rows: int | None = None


class IndexCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an index's runs, each by run id: snapshots, readings that failed, when a run was first missed
    at the source. ``source`` says at which, and ``never_seen`` are those of the missing ones that it has never had, as
    far as is known: they were missing when it was looked at for the first time."""

    runs: dict[str, CatalogedRun] = {}
    problems: dict[str, Problem] = {}
    gone: dict[str, datetime] = {}
    source: str = ""
    never_seen: frozenset[str] = frozenset()


class KnownRun(msgspec.Struct, frozen=True, gc=False):
    """A run as the source has it now. ``data_version`` is that of its snapshot, None where there is none of it as it is
    now: it has to be read."""

    executed_at: datetime
    status: RunStatus
    data_version: str | None


class SeenRun(msgspec.Struct, frozen=True, gc=False):
    """A run as a look at the source found it, without its record. ``fingerprint`` is what it looked like; None where
    there was no snapshot to compare with."""

    run_id: str
    executed_at: datetime
    status: RunStatus
    fingerprint: str | None

    @property
    def deliverable(self) -> bool:
        """Whether the run is over and its results are usable."""
        return self.status in DELIVERABLE


@dataclass(frozen=True)
class KnownRuns:
    """What is known of an index's runs, by run id: ``rows`` are all that there are or were; ``gone`` are those that the
    source has no more; ``problems`` are readings that failed."""

    rows: Mapping[str, KnownRun | CatalogedRun]
    gone: Collection[str]
    problems: Mapping[str, Problem]


class Catalogs:
    """The catalogs of all indexes."""

    def __init__(self, storage: Connector) -> None:
        self._storage = storage
        self._documents: dict[str, VersionedDocument[IndexCatalog]] = {}

    def read(self, index_id: str) -> IndexCatalog:
        """The catalog of an index."""
        return self._document(index_id).read()

    def as_read(self, index_id: str) -> IndexCatalog | None:
        """The catalog of an index as this process knows it, without asking the storage."""
        return self._document(index_id).as_read

    def record(
        self, index_id: str, taken: Iterable[tuple[Snapshot, str]], problems: Mapping[str, Problem] | None = None
    ) -> None:
        """Note snapshots, each with the run's fingerprint, and readings that failed."""
        rows = {
            snapshot.run_id: CatalogedRun(
                snapshot.executed_at, snapshot.status, snapshot.data_version, fingerprint, snapshot.broken_rows
            )
            for snapshot, fingerprint in taken
        }
        failed = dict(problems or {})

        def merged(catalog: IndexCatalog) -> IndexCatalog | None:
            runs = {run_id: row for run_id, row in rows.items() if catalog.runs.get(run_id) != row}
            over = rows.keys() & catalog.problems.keys()
            if not runs and not over and not failed:
                return None
            kept = {run_id: problem for run_id, problem in catalog.problems.items() if run_id not in over}
            return msgspec.structs.replace(catalog, runs=catalog.runs | runs, problems=kept | failed)

        self._document(index_id).update(merged)

    def mark_gone(self, index_id: str, missing: Iterable[str], now: datetime, source: str = "") -> list[str]:
        """Make ``missing`` all that is marked as gone from the source, which is told from others by ``source``. Returns
        those that were not marked before."""
        wanted = frozenset(missing)
        new: list[str] = []

        def marked(catalog: IndexCatalog) -> IndexCatalog | None:
            new[:] = sorted(wanted - catalog.gone.keys())
            never_seen = catalog.never_seen & wanted if catalog.source == source else wanted
            if catalog.gone.keys() == wanted and (catalog.source, catalog.never_seen) == (source, never_seen):
                return None
            gone = {one: catalog.gone.get(one, now) for one in sorted(wanted)}
            return msgspec.structs.replace(catalog, gone=gone, source=source, never_seen=never_seen)

        self._document(index_id).update(marked)
        return new

    def forget(self, index_id: str, run_ids: Iterable[str]) -> None:
        """Remove runs."""
        over = set(run_ids)

        def without(catalog: IndexCatalog) -> IndexCatalog:
            return msgspec.structs.replace(
                catalog,
                runs={run_id: row for run_id, row in catalog.runs.items() if run_id not in over},
                problems={run_id: problem for run_id, problem in catalog.problems.items() if run_id not in over},
                gone={run_id: since for run_id, since in catalog.gone.items() if run_id not in over},
                never_seen=catalog.never_seen - over,
            )

        self._document(index_id).update(without)

    def rewrite(self, index_id: str, text: Callable[[str], str]) -> None:
        """Let what is said of readings that failed be what ``text`` makes of it."""

        def rewritten(catalog: IndexCatalog) -> IndexCatalog | None:
            problems = {run_id: one.rewritten(text) for run_id, one in catalog.problems.items()}
            return None if problems == catalog.problems else msgspec.structs.replace(catalog, problems=problems)

        self._document(index_id).update(rewritten)

    def folders(self) -> set[str]:
        """The names of the folders of all indexes that have one, whether or not they are configured."""
        return {file.key.split("/")[1] for file in self._storage.files("catalogs") if file.key.count("/") > 1}

    def settle(self, index_id: str) -> None:
        """Let no earlier version of an index's catalog be kept."""
        self._document(index_id).settle()

    def _document(self, index_id: str) -> VersionedDocument[IndexCatalog]:
        if index_id not in self._documents:
            folder = f"catalogs/{storage_segment(index_id)}"
            self._documents[index_id] = VersionedDocument(self._storage, folder, IndexCatalog, IndexCatalog)
        return self._documents[index_id]
