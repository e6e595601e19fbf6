"""Erasure: prompt runs, or media, are taken out of everything that the pipeline keeps or has delivered.

The tombstone comes first, so that nobody brings back what is removed after that; the pipeline's own copy goes last,
since it tells what is where. Killed anywhere, the same again completes it. The source is never touched.

It knows nothing of Dagster: whoever asks hands in what cleans the history there.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from vv_exports.automations.automation import Automation
from vv_exports.automations.places import Place
from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import sweep_spools
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import DeliveryRequest
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference
from vv_exports.delivery.erase import erase_runs
from vv_exports.delivery.log import read_log
from vv_exports.delivery.ownership import owner_of
from vv_exports.delivery.vacuum import vacuum
from vv_exports.domain.exports import ExportStatus
from vv_exports.domain.markers import Markers
from vv_exports.domain.names import path_segment, storage_segment
from vv_exports.errors import NotFoundError, RequestError, VVExportsError, first_few
from vv_exports.exports.make import reference_of, write_beside
from vv_exports.exports.records import Record
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.erasures import Kind

ALWAYS_OUT_OF_REACH = (
    "the source itself: erase it there, too",
    "copies that others made of delivered files, of downloads, or of tables that they loaded from them",
    (
        "backups, snapshots and replicas of disks, of buckets and of Dagster's database; objects that a store keeps "
        "after their deletion"
    ),
    "what processes wrote to their own standard output and error, where something else keeps that",
    "temporary folders on other machines, of processes that were killed there: the next one there removes them",
)
_NAMED = 5
_STAYS = {
    "run": "the id of the prompt run, hashes and row counts, in entries of delivery logs, records of exports and the "
    "history of Dagster: they say that it was delivered and erased, and hold nothing of its results",
    "video": "row counts and hashes of files that held its rows, in earlier entries of delivery logs, and the names of "
    "files that were named after it (webvtt, markers); names and schemas of prompts",
}


@dataclass(frozen=True)
class HistoryRequest:
    """What is to go from a history of runs: ``ids`` are those of media, ``markers`` are other texts that name them,
    ``run_ids`` are prompt runs by index whose previews may show their rows; those are erased as a whole where
    ``forgotten``."""

    ids: frozenset[str]
    markers: frozenset[str]
    run_ids: dict[str, frozenset[str]]
    forgotten: bool


@dataclass(frozen=True)
class ErasedPlace:
    """What was done at one place, or would be. ``rewritten`` files hold other rows, too; ``removed`` ones are gone."""

    what: str
    uri: str
    rewritten: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    prompt_runs: tuple[str, ...] = ()


class Cleaned(NamedTuple):
    """What was cleaned of a history, or would be. See ``ErasureReport``."""

    places: Sequence[ErasedPlace] = ()
    unreached: Sequence[str] = ()
    out_of_reach: Sequence[str] = ()


History = Callable[[HistoryRequest, bool], Cleaned]
"""Cleans a history of runs, or says what it would clean."""


@dataclass(frozen=True)
class ErasureReport:
    """What an erasure did, or would do. ``unreached`` could have been reached, and was not: the same again tries it.
    ``out_of_reach`` never can be by this; ``stays`` is what is kept on purpose. ``kept`` are collections that hold
    it and were not meant."""

    kind: Kind
    ids: tuple[str, ...]
    index_ids: tuple[str, ...]
    reason: str
    dry_run: bool
    places: tuple[ErasedPlace, ...]
    unreached: tuple[str, ...]
    out_of_reach: tuple[str, ...]
    stays: str
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Collection:
    """A destination that may hold rows: what is delivered there of which snapshots, and by whose name. ``beside``
    brings up to date what is beside the tables; ``follow_tables`` lets tables of other formats forget what goes."""

    what: str
    destination: Destination
    content: Callable[[], Content]
    export: ExportReference
    beside: Callable[[], None]
    follow_tables: Callable[[], None] = lambda: None


@dataclass
class _Erasure:
    pipeline: Pipeline
    kind: Kind
    ids: tuple[str, ...]
    index_ids: tuple[str, ...]
    reason: str
    dry_run: bool
    history: History
    only: frozenset[str] | None
    places: list[ErasedPlace] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    out_of_reach: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    snapshots_of: dict[str, frozenset[str]] = field(default_factory=dict)
    nameless: list[str] = field(default_factory=list)

    def run(self) -> ErasureReport:
        if not self.dry_run:
            self._bury()
        ids = frozenset(self.ids if self.kind == "video" else ())
        markers: set[str] = set()
        affected: dict[str, frozenset[str]] = {}
        for index_id in self.index_ids:
            affected[index_id] = frozenset(self._affected(index_id, markers))
            self._delivered(index_id, affected[index_id])
            self._kept(index_id, affected[index_id])
        forgotten = self.kind == "run" and not self.kept  # whoever keeps it shows that at its partition
        cleaned = self.history(HistoryRequest(ids, frozenset(markers) - ids, affected, forgotten), self.dry_run)
        self.places += cleaned.places
        self.unreached += cleaned.unreached
        self.out_of_reach += cleaned.out_of_reach
        if self.only is None:
            self._unknown_downloads()
        # Of a medium they tell what is where; a prompt run is found by its id.
        if not self.unreached or self.dry_run or self.kind == "run":
            for index_id, run_ids in affected.items():
                self._own_copies(index_id, run_ids)
                self._texts(index_id, run_ids, Markers(ids, markers))
            self._left_over(affected)
        else:
            self.unreached.append(
                "the pipeline's own copies of what is above, which tell what is where: the same command removes them "
                "once the rest can be reached"
            )
        if not self.dry_run and not self.unreached:
            for id_ in self.ids:
                self.pipeline.snapshots.store.tombstones.complete(self.kind, id_, self.pipeline.now())
        return ErasureReport(
            self.kind,
            self.ids,
            self.index_ids,
            self.reason,
            self.dry_run,
            tuple(self.places),
            tuple(self.unreached),
            (*self.out_of_reach, *ALWAYS_OUT_OF_REACH),
            _STAYS[self.kind],
            tuple(self.kept),
        )

    def _bury(self) -> None:
        """Set the tombstones."""
        self.pipeline.snapshots.check_storage()
        for id_ in self.ids:
            self.pipeline.snapshots.store.tombstones.add(
                self.kind, id_, self.index_ids, self.reason, self.pipeline.now(), self.only
            )

    @contextmanager
    def _guarded(self, uri: str) -> Iterator[None]:
        """One place that is out of reach does not keep the others from being cleaned."""
        try:
            yield
        except VVExportsError as error:
            self.unreached.append(f"{uri}: {error}")

    def _affected(self, index_id: str, markers: set[str]) -> Iterator[str]:
        """The prompt runs of an index that hold, or held, what is to go."""
        store = self.pipeline.snapshots.store
        if self.kind == "run":
            yield from self.ids
            return
        wanted = store.tombstones.excluding_videos(self.ids)
        known = set()
        for kept in store.kept_of_index(index_id):
            if kept.run_id is None:
                self.nameless += kept.keys  # whose rows they are is not known
                continue
            known.add(kept.run_id)
            found = False
            for snapshot in kept.revisions:
                if store.holds_erased(snapshot, wanted):
                    found = True
                    try:
                        markers |= store.markers(snapshot, wanted)
                    except VVExportsError:  # a file of it is damaged: that it is named is not lost, its id is known
                        continue
            if found or store.left_over(kept, wanted):
                yield kept.run_id
        self.snapshots_of[index_id] = frozenset(known)

    # Destinations

    def _delivered(self, index_id: str, affected: frozenset[str]) -> None:
        for one in self._collections(index_id, affected):
            with self._guarded(one.destination.uri):
                self._collection(one, index_id, affected)
        for record in self._exports(index_id):
            if record.is_download:
                with self._guarded(record.export_id):
                    self._download(record, affected)

    def _collections(self, index_id: str, affected: frozenset[str]) -> Iterator[_Collection]:
        for automation in self.pipeline.automations:
            if automation.index_id == index_id and (self.only is None or automation.id in self.only):
                yield _of_automation(automation)
                self.unreached += [
                    f"{left.place.uri}, which automation {automation.name!r} has left: `vv-exports vacuum "
                    f"{left.place.connector_id} --abandoned` removes it"
                    for left in automation.places.left()
                    if self._may_hold(left.place, index_id, affected)
                ]
        if self.only is not None:
            return
        self.unreached += [
            f"{place.uri}, where automation {name!r} of index {index_id!r} delivered, which the configuration does not "
            "have: put it back there; or delete that folder, and what the pipeline's storage has of it in "
            f"automations/{storage_segment(index_id)}/{name}"
            for name, place in self.pipeline.automations.dropped(index_id).items()
            if self._may_hold(place, index_id, affected)
        ]
        for record in self.pipeline.exports.newest(index_id=index_id):
            if not record.is_download:
                with self._guarded(f"export {record.export_id}, {_uri_of(record)}"):
                    yield self._of_export(record)

    def _may_hold(self, place: Place, index_id: str, affected: frozenset[str]) -> bool:
        """Whether a place that no automation of the configuration has may hold what is to go, as far as it can be read
        with the connectors that there are."""
        connector = next((one for one in self.pipeline.connectors.values() if one.address == place.address), None)
        if connector is None:
            return True
        try:
            held = read_log(Destination(connector, place.subpath)).runs.keys()
        except VVExportsError:
            return True
        unknown = held - self.snapshots_of[index_id] if self.kind == "video" else set[str]()
        return bool(held & affected or unknown)

    def _kept(self, index_id: str, affected: frozenset[str]) -> None:
        """Find the collections that hold it and are not meant."""
        for automation in self.pipeline.automations:
            if self.only is not None and automation.index_id == index_id and automation.id not in self.only:
                with self._guarded(automation.destination.uri):
                    if affected & automation.holdings().runs.keys():
                        self.kept.append(automation.destination.uri)

    def _exports(self, index_id: str) -> Iterator[Record]:
        return self.pipeline.exports.newest(frozenset({ExportStatus.COMPLETED, ExportStatus.FAILED}), index_id)

    def _of_export(self, record: Record) -> _Collection:
        request, exports = record.request, self.pipeline.exports
        destination = exports.folder_of(record)
        reference = reference_of(request, record.export_id)
        beside = partial(write_beside, destination, request, exports.texts_of(request))
        return _Collection("export", destination, lambda: exports.content_of(request), reference, beside)

    def _collection(self, one: _Collection, index_id: str, affected: frozenset[str]) -> None:
        destination = one.destination
        state = read_log(destination)
        if state.last is None and (not affected or owner_of(destination) is None):
            return
        held = sorted(affected & state.runs.keys())
        if self.kind == "video" and (unknown := sorted(state.runs.keys() - self.snapshots_of[index_id])):
            self.unreached.append(
                f"{destination.uri} holds {counted(len(unknown), 'prompt run')} of which there is no snapshot, so "
                f"that their media are not known: {', '.join(map(one_line, unknown[:5]))}. `vv-exports runs sync "
                f"{one_line(index_id)}` takes them where the source has them; else erase them with --run"
            )
        written: tuple[str, ...] = tuple(file.path for run_id in held for file in state.runs[run_id].files)
        if self.kind == "run" and not self.dry_run:
            erase_runs(destination, held, self.reason, self.pipeline.clock)
        elif held and not self.dry_run:
            self._rewrite(one, index_id, held)
        if held and not self.dry_run:
            one.follow_tables()
        # Without a log, all that is there was left by deliveries that died before they committed anything.
        never_committed = state.last is None
        gone = vacuum(
            destination, self.pipeline.clock, dry_run=self.dry_run, retained=True, without_log=never_committed
        )
        if gone.left_alone:
            few = ", ".join(first_few(list(map(one_line, gone.left_alone)), _NAMED))
            self.out_of_reach.append(f"files in {destination.uri} that are not the pipeline's: {few}")
        removed = (*gone.superseded, *gone.strays)
        if self.kind == "run":
            written, removed = (), tuple(dict.fromkeys((*written, *removed)))
        folders = {f"prompt_run_id={name(run_id)}" for run_id in affected for name in (path_segment, storage_segment)}
        earlier = self._earlier(
            destination.connector, destination.subpath, lambda key: not folders.isdisjoint(key.split("/"))
        )
        removed = (*removed, *gone.uploads, *map(destination.path, earlier))
        if not self.dry_run:
            one.beside()
        if held or removed:
            self.places.append(ErasedPlace(one.what, destination.uri, written, removed, tuple(held)))

    def _earlier(self, connector: Connector, folder: str, is_meant: Callable[[str], bool]) -> tuple[str, ...]:
        """Remove what a store that keeps versions still has of files that were deleted or replaced. Returns which."""
        uri = connector.uri(folder)
        try:
            found = connector.earlier(folder)
        except VVExportsError as error:  # most stores keep none, and whoever is asked for files need not let us ask
            self.out_of_reach.append(f"earlier versions of objects in {uri}, where the bucket keeps such: {error}")
            return ()
        if found is None:
            self.out_of_reach.append(
                f"earlier versions of objects, and soft-deleted ones, in {uri}, where it keeps such"
            )
            return ()
        meant = [one for one in found if is_meant(one.key)]
        if not self.dry_run:
            connector.forget(meant)
        return tuple(f"{one.key}?versionId={one.version_id}" for one in meant)

    def _rewrite(self, one: _Collection, index_id: str, run_ids: Sequence[str]) -> None:
        """Deliver runs without the rows of the medium."""
        store, now = self.pipeline.snapshots.store, self.pipeline.now()
        for run_id in run_ids:  # each by itself, as large as it may be
            snapshot = store.erase_media(index_id, run_id, now)
            if snapshot is None:
                raise RequestError(
                    f"the snapshot of prompt run {run_id!r} cannot be read; `vv-exports runs sync {index_id}` takes it "
                    "anew"
                )
            request = DeliveryRequest(
                destination=one.destination,
                export=one.export,
                content=one.content(),
                snapshots=[snapshot],
                erased_since=self.reason,
            )
            self.pipeline.deliveries.deliver(request)

    # The pipeline's own

    def _download(self, record: Record, affected: frozenset[str]) -> None:
        if record.prompt_run_ids is not None and not affected & set(record.prompt_run_ids):
            return
        removed = self.pipeline.exports.erase_artifact(record, dry_run=self.dry_run)
        if removed is not None:
            self.places.append(ErasedPlace("download", removed, removed=(removed,)))

    def _texts(self, index_id: str, run_ids: frozenset[str], markers: Markers) -> None:
        """What is remembered of failures says what failed: that may name a medium, or what is in a run."""
        if self.dry_run:
            return
        over = run_ids if self.kind == "run" else frozenset[str]()
        self.pipeline.snapshots.catalogs.rewrite(index_id, markers.without)
        self.pipeline.snapshots.catalogs.settle(index_id)
        self.pipeline.automations.rewrite(index_id, markers.without, over)
        for record in self._exports(index_id):
            self.pipeline.exports.rewrite(record, markers.without)

    def _left_over(self, affected: Mapping[str, frozenset[str]]) -> None:
        """Remove what processes that died have left: of which run or medium it is, nothing tells."""
        snapshots = self.pipeline.snapshots
        if self.nameless:
            self.places.append(ErasedPlace("snapshots", snapshots.storage.uri(""), removed=tuple(self.nameless)))
        if not self.dry_run:
            snapshots.store.remove(self.nameless)
            snapshots.sweep()
            sweep_spools()
        self._own_earlier(affected)

    def _own_earlier(self, affected: Mapping[str, frozenset[str]]) -> None:
        """What the pipeline's storage still has of files of its own that were deleted or replaced."""
        storage = self.pipeline.snapshots.storage
        folders = {
            f"snapshots/{storage_segment(index_id)}/{storage_segment(run_id)}/"
            for index_id, run_ids in affected.items()
            for run_id in run_ids
        }
        nameless = frozenset(self.nameless)

        def is_meant(key: str) -> bool:
            return "/".join(key.split("/")[:3]) + "/" in folders or key in nameless

        removed: list[str] = []
        with self._guarded(storage.uri("")):
            for index_id in affected:
                removed += self._earlier(storage, f"snapshots/{storage_segment(index_id)}", is_meant)
                for remembered in ("catalogs", "automations"):
                    removed += self._earlier(storage, f"{remembered}/{storage_segment(index_id)}", lambda _: True)
            removed += self._earlier(storage, "exports", lambda _: True)
        if removed:
            self.places.append(ErasedPlace("storage", storage.uri(""), removed=tuple(removed)))

    def _unknown_downloads(self) -> None:
        unknown = self.pipeline.exports.vacuum(dry_run=True).unknown
        if unknown:
            self.unreached.append(f"zip files of which no export tells: {', '.join(map(one_line, unknown))}")

    def _own_copies(self, index_id: str, run_ids: frozenset[str]) -> None:
        snapshots, store = self.pipeline.snapshots, self.pipeline.snapshots.store
        for run_id in sorted(run_ids):
            if self.kind == "run":
                keys = store.kept(index_id, run_id)
                if not self.dry_run:
                    snapshots.catalogs.forget(index_id, [run_id])
                    store.forget(index_id, run_id)
                written = False
            else:
                before = store.current(index_id, run_id)
                if self.dry_run:
                    keys = store.kept(index_id, run_id)
                else:
                    after = store.erase_media(index_id, run_id, self.pipeline.now())
                    if after is not None and (fingerprint := store.fingerprint(after)) is not None:
                        snapshots.catalogs.record(index_id, [(after, fingerprint)])
                    keys = store.forget_earlier(index_id, run_id)
                written = before is not None
            if keys:
                uri = snapshots.storage.uri("")
                stays = tuple(keys) if written and self.dry_run else ()
                gone = () if stays else tuple(keys)
                self.places.append(ErasedPlace("snapshots", uri, stays, gone, (run_id,)))


def _uri_of(record: Record) -> str:
    return "which delivered nothing yet" if record.outcome is None else record.outcome.destination_uri


def erase(
    pipeline: Pipeline,
    kind: Kind,
    *ids: str,
    index_ids: Sequence[str] = (),
    reason: str,
    history: History,
    dry_run: bool = False,
    only: Collection[str] | None = None,
) -> ErasureReport:
    """Take prompt runs or media out of everything that can be reached, in these indexes, by default in all of the
    configuration. With ``only``, of the places that others read, those are meant that are collections of these
    automations; what the pipeline keeps goes all the same. Repeatable. Raises NotFoundError for an index that is not
    configured, RequestError without a reason.
    """
    if not reason.strip():
        raise RequestError("say why with --reason: it stands in the logs of the collections")
    for index_id in index_ids:
        pipeline.config.index(index_id)
    wanted = tuple(dict.fromkeys(index_ids)) or (*pipeline.config.indexes, *_dropped_indexes(pipeline))
    restricted = None if only is None else frozenset(only)
    unique = tuple(dict.fromkeys(ids))
    return _Erasure(pipeline, kind, unique, wanted, reason.strip(), dry_run, history, restricted).run()


def _dropped_indexes(pipeline: Pipeline) -> list[str]:
    """Indexes that the configuration does not name, and of which something is kept."""
    configured = set(map(storage_segment, pipeline.config.indexes))
    folders = sorted(pipeline.snapshots.catalogs.folders() - configured)
    return [one for folder in folders if (one := pipeline.snapshots.store.index_of(folder)) is not None]


def undo(pipeline: Pipeline, kind: Kind, id_: str) -> tuple[str, ...]:
    """Lift a tombstone: what is read from now on holds again what the source has. Returns the prompt runs that are read
    again. Raises NotFoundError where there is none."""
    snapshots = pipeline.snapshots
    found = snapshots.store.tombstones.lift(kind, id_)
    if found is None:
        raise NotFoundError(f"no {kind} {id_!r} was erased; `vv-exports erase --list` lists what was")
    again = []
    for index_id in pipeline.config.indexes:
        for run_id in snapshots.store.kept_runs(index_id) if kind == "video" and found.is_in(index_id) else ():
            current = snapshots.store.current(index_id, run_id)
            if current is not None and current.erased:
                snapshots.store.look_again(index_id, run_id)
                snapshots.catalogs.forget(index_id, [run_id])
                again.append(run_id)
    return tuple(again)


def _of_automation(automation: Automation) -> _Collection:
    owner = Owner(type="automation", index_id=automation.index_id, automation=automation.name)
    reference = ExportReference(
        id=automation.id, type="automation", index_id=automation.index_id, automation=automation.name
    )
    destination = Destination(automation.destination.connector, automation.destination.subpath, owner)

    return _Collection(
        "collection",
        destination,
        lambda: automation.content,
        reference,
        automation.write_card,
        automation.follow_tables,
    )
