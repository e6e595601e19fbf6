"""Mending an export on demand: what is missing or altered in its folder is delivered again as it was, or not at all."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from vv_exports.delivery.checksums import write_checksums
from vv_exports.delivery.deliver import Delivery, DeliveryRequest
from vv_exports.delivery.log import read_log
from vv_exports.delivery.mending import Mending, complete, mending_of, move_what_is_behind
from vv_exports.delivery.ownership import claim_again
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import survey
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError
from vv_exports.exports.make import Deliver, reference_of, write_beside
from vv_exports.exports.on_demand import Exports
from vv_exports.exports.records import Record
from vv_exports.snapshots.store import Snapshot, SnapshotStore


@dataclass(frozen=True)
class ExportDamage:
    """What is wrong with an export, as far as something can be done: ``request`` delivers it again, ``outcome`` is what
    that comes to. Both are None where no prompt run is concerned. ``asked`` and ``texts`` are of what is beside it."""

    mending: Mending
    state: LogState
    lacks_owner: bool
    asked: ExportRequest
    texts: DatasetTexts
    request: DeliveryRequest | None
    outcome: Delivery | None


def damage_of_export(
    exports: Exports, record: Record, store: SnapshotStore, now: Callable[[], datetime], damaged: Collection[str]
) -> ExportDamage:
    """What is to be done with an export of which these files are missing or altered. Writes nothing.

    Raises DeliveredDataError where it cannot be delivered again as it was.
    """
    destination, asked, texts = exports.folder_of(record), record.request, exports.texts_of(record.request)
    reference = reference_of(asked, record.export_id)
    mending = mending_of(destination, reference, now, was_ours=True)  # the folder has its id for a name
    state = read_log(mending.as_mended)
    found = survey(mending.as_mended, state, now=now())
    lacks_owner = found.owner is None
    if state.runs:
        owners = {file.path: file.prompt_run_id for file in state.files}
        run_ids = {owners[path] for path in damaged if path in owners} | found.runs_unfinished(state.runs)
    else:
        run_ids = set(record.prompt_run_ids or ())
    if not run_ids:
        return ExportDamage(mending, state, lacks_owner, asked, texts, None, None)
    content = exports.content_of(asked)
    snapshots = [_snapshot(store, asked.index_id, run_id, destination.uri) for run_id in sorted(run_ids)]
    if any(state.runs and not content.is_delivered(state, one) for one in snapshots):
        raise _not_again(destination.uri, "its results have changed since, or are delivered in another form by now")
    request = DeliveryRequest(
        destination=mending.as_mended,
        export=reference,
        content=content,
        snapshots=snapshots,
        damaged=frozenset(damaged),
    )
    outcome = Rehearsal.at(mending.as_mended, store, now, state).deliver(request)
    was = record.outcome
    if not state.runs and (was is None or was.delivery_id != outcome.delivery_id):
        raise _not_again(destination.uri, "what it held is not what the snapshots of its prompt runs hold by now")
    return ExportDamage(mending, state, lacks_owner, asked, texts, request, outcome)


def _snapshot(store: SnapshotStore, index_id: str, run_id: str, uri: str) -> Snapshot:
    found = store.current(index_id, run_id)
    if found is None:
        raise _not_again(uri, f"of the prompt run {run_id!r} there is no snapshot any more")
    return found


def _not_again(uri: str, why: str) -> DeliveredDataError:
    return DeliveredDataError(f"{uri} cannot be delivered again as it was: {why}. Make a new export in place of it.")


def repair_export(damage: ExportDamage, deliver: Deliver, dagster_run_id: str | None = None) -> None:
    """Mend an export. Repeatable."""
    mending = move_what_is_behind(damage.mending)
    there = mending.as_mended
    if damage.request is not None:
        deliver(replace(damage.request, destination=there, dagster_run_id=dagster_run_id), damage.state)
    elif damage.state.last is not None:
        claim_again(there, damage.state)
    complete(mending, ())
    write_checksums(there, read_log(there))
    write_beside(there, damage.asked, damage.texts)
