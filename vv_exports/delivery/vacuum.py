"""Removing what the pipeline left at a destination beside what its log says: superseded files, and what deliveries that
died uploaded. Whatever is not provably the pipeline's stays.

A file that no delivery committed may be one that a delivery is about to commit. So the log is told first: an entry
abandons the file, and whoever commits after that sees it, and fails. Only then it is deleted.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from vv_exports.connectors.base import Connector, UnfinishedUpload
from vv_exports.connectors.lease import Lease, only_writer
from vv_exports.delivery.bag import is_bag, write_bag
from vv_exports.delivery.checkpoints import superseded_checkpoints
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference, bare_entry, named_hash, write_entry
from vv_exports.delivery.log import keep_checkpoint, read_log
from vv_exports.delivery.ownership import check_log, claim, owned_folders, owner_by_log
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import Beside, Survey, survey
from vv_exports.domain.destinations import checkpoint_sequence, log_sequence
from vv_exports.errors import DestinationError, TransientError, VVExportsError

_ATTEMPTS = 5
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vacuum:
    """What was removed of a destination, or would be. ``superseded`` were committed once, ``strays`` never;
    ``retained`` were committed once, and are kept for readers that began before they were superseded;
    ``checkpoints`` of the log have newer ones, or are of another log; ``uploads`` were never completed; ``left_alone``
    are files that are not the pipeline's. Paths are relative to the subpath."""

    subpath: str
    uri: str
    superseded: tuple[str, ...]
    strays: tuple[str, ...]
    checkpoints: tuple[str, ...]
    uploads: tuple[str, ...]
    left_alone: tuple[str, ...]
    bytes: int
    dry_run: bool
    retained: tuple[str, ...] = ()


def vacuum(
    destination: Destination,
    clock: Callable[[], datetime],
    *,
    dry_run: bool = False,
    without_log: bool = False,
    retained: bool = False,
) -> Vacuum:
    """Remove the superseded and stray files of a claimed subpath, and nothing else. Repeatable.

    A delivery that is under way there meanwhile fails, and succeeds when it is tried again. Where there is no delivery
    log, every file would be a stray one: that is refused, unless ``without_log`` says that it is meant. With
    ``retained`` superseded files go that are kept for readers that began before, too. Raises
    DestinationError then, and where the subpath is not claimed; TransientError where deliveries kept coming first.
    """
    connector = destination.connector
    with only_writer(connector, destination.subpath) as lease:
        found = survey(destination, now=clock())
        destination = replace(destination, owner=_owner(destination, found))
        if not dry_run and found.owner is None:
            claim(destination)
        for _ in range(_ATTEMPTS):
            if found.beside.strays and found.state.checkpoint is not None:
                found = survey(destination, whole_log=True, now=clock())  # a checkpoint is no reason to abandon files
            if found.log_problem is not None:
                raise found.log_problem
            check_log(destination, found.state)
            beside = found.beside
            if beside.strays and not found.state.count and not without_log:
                raise _without_log(destination, len(beside.strays))
            if dry_run or _abandon(destination, found.state, beside, clock, lease):
                break
            found = survey(destination, now=clock())
        else:
            raise TransientError(f"{destination.uri}: {_ATTEMPTS} deliveries came first; try again")
        if retained:
            beside = replace(beside, superseded={**beside.superseded, **beside.retained}, retained={})
        gone, checkpoints = {**beside.superseded, **beside.strays}, superseded_checkpoints(found.there, found.state)
        if not dry_run:
            connector.delete([destination.key(path) for path in sorted((*gone, *checkpoints))])
            sweep(connector)
            if is_bag(found.state):
                write_bag(destination, read_log(destination))  # of which the log is a part
        uploads = discard_unfinished(destination, dry_run=dry_run)
    return Vacuum(
        subpath=destination.subpath,
        uri=destination.uri,
        superseded=tuple(sorted(beside.superseded)),
        strays=tuple(sorted(beside.strays)),
        checkpoints=checkpoints,
        uploads=uploads,
        left_alone=tuple(sorted(beside.foreign)),
        bytes=sum(gone.values()),
        dry_run=dry_run,
        retained=tuple(sorted(beside.retained)),
    )


def _owner(destination: Destination, found: Survey) -> Owner:
    owner = found.owner.owner if found.owner is not None else owner_by_log(found.state)
    if owner is not None and not isinstance(found.owner_problem, DestinationError):
        return owner
    raise found.log_problem or found.owner_problem or _unclaimed(destination, found)


def discard_unfinished(destination: Destination, *, dry_run: bool) -> tuple[str, ...]:
    """Abort the uploads of the pipeline's files that were never completed. Returns the paths of those that are gone, or
    would be."""
    uploads = tuple(one for one in _unfinished(destination) if _is_ours(destination.path(one.key)))
    gone = uploads if dry_run else _discarded(destination.connector, uploads)
    return tuple(sorted(destination.path(one.key) for one in gone))


def _unfinished(destination: Destination) -> list[UnfinishedUpload]:
    try:
        return destination.connector.unfinished(destination.subpath)
    except VVExportsError as error:  # credentials may not, or the store is unable to; the rest is done
        _LOG.warning("unfinished uploads stay, since they cannot be listed: %s", error)
        return []


def _discarded(connector: Connector, uploads: tuple[UnfinishedUpload, ...]) -> tuple[UnfinishedUpload, ...]:
    """Abort uploads. Returns those that are gone; each of the others is told."""
    gone = []
    for upload in uploads:
        try:
            connector.discard([upload])
        except VVExportsError as error:
            _LOG.warning("the unfinished upload of %s stays: %s", connector.uri(upload.key), error)
        else:
            gone.append(upload)
    return tuple(gone)


def sweep(connector: Connector) -> None:
    """Remove what writers that died left beside the destinations, as far as that can be done."""
    try:
        connector.sweep()
    except VVExportsError as error:
        _LOG.warning("what writers that died have left beside the destination stays: %s", error)


def _is_ours(path: str) -> bool:
    return any(is_ours(path) is not None for is_ours in (named_hash, log_sequence, checkpoint_sequence))


def _abandon(
    destination: Destination, state: LogState, beside: Beside, clock: Callable[[], datetime], lease: Lease
) -> bool:
    """Let the log abandon what no delivery committed. False where it has moved on meanwhile."""
    if not beside.strays:
        return True
    owner, last = destination.claimant, state.last
    abandoned = sorted(beside.strays)
    export = _reference(owner) if last is None or owner.type == "automation" else last.export
    bare = bare_entry(destination, state.next_sequence, export, clock(), "vacuum", abandoned)
    provenance = msgspec.structs.replace(
        bare.provenance,
        snapshot_store="" if last is None else last.provenance.snapshot_store,
        format="" if last is None else last.provenance.format,
        commit="put_if_absent" if destination.connector.decides_among_writers() else "single_writer",
    )
    entry = msgspec.structs.replace(bare, provenance=provenance, abandoned=abandoned)
    if not write_entry(destination, entry, lease):
        return False
    state.apply(entry)
    keep_checkpoint(destination, state, entry.sequence)
    return True


def _reference(owner: Owner) -> ExportReference:
    """An owner's export: of an automation, or of an export on demand that has committed nothing yet."""
    if owner.type == "automation":
        name = f"{owner.index_id}/{owner.automation}"
        return ExportReference(id=name, type="automation", index_id=owner.index_id, automation=owner.automation)
    return ExportReference(id=owner.export_id or "", type="index", index_id=owner.index_id)


def _without_log(destination: Destination, count: int) -> DestinationError:
    return DestinationError(
        f"{destination.uri} has no delivery log, so that all of its {count} data files would go. Deliver there "
        "again: that keeps what is as it should be, and removes what a delivery that died has left. If nothing was "
        "ever committed there and nothing will be, say --without-log."
    )


def _unclaimed(destination: Destination, found: Survey) -> DestinationError:
    below = owned_folders(map(destination.key, found.there))
    hint = f" Below it are: {', '.join(below[:5])}{' …' if len(below) > 5 else ''}." if below else ""  # noqa: PLR2004
    return DestinationError(
        f"{destination.uri} belongs to no automation and no export, so nothing in it may be removed.{hint}"
    )
