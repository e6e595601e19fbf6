"""Making an export: delivered into a folder of its own at a connector, or packed into an artifact. Repeatable.

What is committed once is the export. Made again, it gets files back that somebody took away, and no other content:
it is not a collection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from msgspec import UNSET

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.bag import payload_of, write_bag
from vv_exports.delivery.cards.files import write_card
from vv_exports.delivery.checksums import write_checksums
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import DeliveredPromptRun, Delivery, DeliveryRequest
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference
from vv_exports.delivery.log import read_log
from vv_exports.delivery.ownership import check_log
from vv_exports.delivery.state import LogState
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.destinations import LOG_FOLDER
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError
from vv_exports.exports.artifacts import artifact_key, pack, unpack
from vv_exports.snapshots.store import Snapshot

Deliver = Callable[[DeliveryRequest, LogState | None], Delivery]
"""Carries out a delivery; the state is what the destination's log said a moment ago."""


@dataclass(frozen=True)
class ExportJob:
    """An export on demand with the snapshots that it holds. The id names its folder or its artifact; ``texts`` are for
    its dataset card."""

    export_id: str
    request: ExportRequest
    snapshots: Sequence[Snapshot]
    texts: DatasetTexts = field(default_factory=DatasetTexts)


@dataclass(frozen=True)
class ExportOutcome:
    """What became of an export on demand. ``bytes`` are those of the files, or of a download's artifact."""

    delivery: Delivery
    destination_uri: str
    bytes: int


def make_folder(
    job: ExportJob, content: Content, connector: Connector, parent: str, *, deliver: Deliver, run_id: str
) -> ExportOutcome:
    """Deliver an export into its own folder of a connector."""
    request = delivery_of(job, content, connector, place_of(job.request, parent, job.export_id), run_id)
    state = read_log(request.destination)
    check_log(request.destination, state)
    if state.last is not None and not all(request.content.is_delivered(state, one) for one in job.snapshots):
        delivery = _committed(state, request.uri)
        write_checksums(request.destination, state)  # whoever died after the commit has not
    else:
        delivery = deliver(request, state)
    write_beside(request.destination, job.request, job.texts)
    return ExportOutcome(delivery, connector.uri(folder_of(parent, job.export_id)), delivery.bytes)


def write_beside(destination: Destination, request: ExportRequest, texts: DatasetTexts) -> None:
    """Write what was asked for beside the tables of an export, of what its log says. A bag comes last: it has all."""
    if not (request.dataset_card or request.bag):
        return
    state = read_log(destination)
    if request.dataset_card:
        write_card(destination, state, texts)
    if request.bag:
        write_bag(destination, state)


def folder_of(parent: str, export_id: str) -> str:
    """The subpath of an export's own folder."""
    return f"{parent}/{export_id}" if parent else export_id


def place_of(request: ExportRequest, parent: str, export_id: str) -> str:
    """The subpath at which an export is delivered: its own folder, or the payload of the bag that this is."""
    folder = folder_of(parent, export_id)
    return payload_of(folder) if request.bag else folder


def reference_of(request: ExportRequest, export_id: str) -> ExportReference:
    """How its log names an export."""
    return ExportReference(
        id=export_id, type=request.export_type, index_id=request.index_id, bag=True if request.bag else UNSET
    )


def make_artifact(
    job: ExportJob,
    content: Content,
    storage: Connector,
    size: Callable[[], int | None],
    *,
    deliver: Deliver,
    run_id: str,
) -> ExportOutcome:
    """Pack an export into one zip file in the pipeline's storage. ``size`` is that of the artifact there."""
    uri = storage.uri(artifact_key(job.export_id))
    with spool_folder() as spool:
        folder = LocalConnector("download", spool)
        if size() is None:
            request = delivery_of(job, content, folder, place_of(job.request, "", job.export_id), run_id)
            delivery = deliver(replace(request, moves_on_to=uri), None)
            write_beside(request.destination, job.request, job.texts)
            archive = spool / f"{job.export_id}.zip"
            pack(spool / job.export_id, archive)
            if size() is None:  # a twin's is as good
                storage.put(archive, artifact_key(job.export_id))
        else:
            unpack(storage, job.export_id, spool, lambda name: f"/{LOG_FOLDER}/" in name)
            delivery = _committed(read_log(Destination(folder, place_of(job.request, "", job.export_id))), uri)
    return ExportOutcome(delivery, uri, size() or 0)


def _committed(state: LogState, uri: str) -> Delivery:
    """What a log says that was delivered."""
    if state.last is None:
        raise DeliveredDataError(f"{uri} holds no delivery log, so it is not what was made; delete it and export again")
    runs = tuple(
        DeliveredPromptRun(held.run.run_id, held.run.data_version, held.files, written=False)
        for held in state.runs.values()
    )
    return Delivery(state.last.delivery_id, state.last.sequence, committed=False, uri=uri, prompt_runs=runs)


def delivery_of(
    job: ExportJob, content: Content, connector: Connector, subpath: str, dagster_run_id: str | None
) -> DeliveryRequest:
    """The delivery that an export is."""
    index_id = job.request.index_id
    return DeliveryRequest(
        destination=Destination(connector, subpath, Owner(type="export", index_id=index_id, export_id=job.export_id)),
        export=reference_of(job.request, job.export_id),
        content=content,
        snapshots=job.snapshots,
        dagster_run_id=dagster_run_id,
    )
