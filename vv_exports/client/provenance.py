"""Where what was delivered of a prompt run comes from, and where it went, through the client."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vv_exports.automations.automation import Automation
from vv_exports.client.deployment import Deployment
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import RunProvenance
from vv_exports.delivery.provenance import provenance_of_snapshot
from vv_exports.delivery.run_provenance import RunDelivery, deliveries_of_run
from vv_exports.domain.exports import ExportStatus
from vv_exports.domain.tables import TABLES
from vv_exports.errors import NotFoundError, RequestError, VVExportsError
from vv_exports.exports.records import Record
from vv_exports.snapshots.store import Snapshot

MEDIA_LISTED = 20
"""How many media are named, unless all are asked for: a run may have a hundred thousand."""


@dataclass(frozen=True)
class KeptSnapshot:
    """The pipeline's own copy of a prompt run, from which it is delivered. ``media`` are some of ``media_count``, or
    all, each with its name; the count is None where a file of it cannot be read."""

    revision: int
    data_version: str
    content_hash: str | None
    taken_at: str
    rows: Mapping[str, int]
    erased: Mapping[str, int]
    media_count: int | None
    media: Mapping[str, str | None]


@dataclass(frozen=True)
class Download:
    """An export on demand whose artifact holds, or held, the run. Its log is in the artifact."""

    export_id: str
    uri: str
    completed_at: str | None
    delivery_id: str
    dagster_run_id: str
    artifact_deleted_at: str | None


@dataclass(frozen=True)
class PromptRunProvenance:
    """The chain of a prompt run: where it was read, by what prompt and model (``origin``), what is kept of it, and each
    delivery of it, the oldest first at each place. ``erased`` is when it was erased, and why. What cannot
    be read, and may tell more, is in ``problems``."""

    index_id: str
    run_id: str
    source_kind: str
    source: str
    status: str | None
    origin: RunProvenance | None
    snapshot: KeptSnapshot | None
    deliveries: Sequence[RunDelivery]
    downloads: Sequence[Download]
    erased: str | None
    problems: Sequence[str]


class Provenance:
    """Provenance of prompt runs."""

    def __init__(self, deployment: Deployment) -> None:
        self._pipeline = deployment.pipeline

    def of_run(self, run_id: str, index_id: str | None = None, *, all_media: bool = False) -> PromptRunProvenance:
        """The chain of a prompt run, by what is kept of it and the logs at all destinations. The source is not asked.

        Raises NotFoundError where nothing is known of it, RequestError where it is in several indexes.
        """
        wanted = list(self._pipeline.config.indexes) if index_id is None else [index_id]
        for one in wanted:
            self._pipeline.config.index(one)
        found = [known for one in wanted if (known := self._of(one, run_id, all_media=all_media)) is not None]
        if not found:
            raise NotFoundError(
                f"nothing is known of a prompt run {run_id!r}: there is no snapshot of it, and no log of a delivery "
                "names it. `vv-exports runs list INDEX` lists those that the source has"
            )
        if len(found) > 1:
            indexes = ", ".join(repr(one.index_id) for one in found)
            raise RequestError(f"there are prompt runs {run_id!r} in the indexes {indexes}: say which with --index")
        return found[0]

    def _of(self, index_id: str, run_id: str, *, all_media: bool) -> PromptRunProvenance | None:
        pipeline, store = self._pipeline, self._pipeline.snapshots.store
        deliveries: list[RunDelivery] = []
        downloads: list[Download] = []
        problems: list[str] = []
        for place in self._places(index_id, run_id):
            if isinstance(place, Download):
                downloads.append(place)
                continue
            try:
                told = deliveries_of_run(place, run_id)
            except VVExportsError as error:
                problems.append(str(error))
            else:
                deliveries += told.deliveries
                problems += told.problems
        snapshot = store.current(index_id, run_id)
        told_by = next((one.source for one in reversed(deliveries) if one.source is not None), None)
        if snapshot is None and not deliveries and not downloads:
            return None
        config = pipeline.config.source.model_dump()
        erased = next((one for one in [store.tombstones.find("run", run_id)] if one and one.is_in(index_id)), None)
        return PromptRunProvenance(
            index_id=index_id,
            run_id=run_id,
            source_kind=str(config["kind"]),
            source=str(config.get("base_url") or config.get("path") or ""),
            status=None if snapshot is None else str(snapshot.status),
            origin=told_by if snapshot is None else provenance_of_snapshot(snapshot),
            snapshot=None if snapshot is None else self._kept(snapshot, problems, all_media=all_media),
            deliveries=deliveries,
            downloads=downloads,
            erased=None if erased is None else f"{erased.at.isoformat(timespec='seconds')}: {erased.reason}",
            problems=problems,
        )

    def _kept(self, snapshot: Snapshot, problems: list[str], *, all_media: bool) -> KeptSnapshot:
        media: Mapping[str, str | None] | None = None
        try:
            media = self._pipeline.snapshots.store.media(snapshot)
        except VVExportsError as error:
            problems.append(str(error))
        listed = list((media or {}).items())
        return KeptSnapshot(
            revision=snapshot.revision,
            data_version=snapshot.data_version,
            content_hash=snapshot.content_hash,
            taken_at=snapshot.taken_at.isoformat(timespec="seconds"),
            rows={name: snapshot.rows(name) for name in TABLES if snapshot.rows(name)},
            erased=snapshot.erased,
            media_count=None if media is None else len(media),
            media=dict(listed if all_media else listed[:MEDIA_LISTED]),
        )

    def _places(self, index_id: str, run_id: str) -> Iterator[Destination | Download]:
        """Where the run may have been delivered: collections, also those that were left, and exports on demand."""
        pipeline = self._pipeline
        for automation in pipeline.automations:
            if automation.index_id == index_id:
                yield automation.destination
                yield from self._left_by(automation)
        completed = frozenset({ExportStatus.COMPLETED})
        for record in pipeline.exports.newest(completed, index_id):
            if record.prompt_run_ids is not None and run_id in record.prompt_run_ids:
                yield _download(record) if record.is_download else pipeline.exports.folder_of(record)

    def _left_by(self, automation: Automation) -> Iterator[Destination]:
        by_address = {connector.address: connector for connector in self._pipeline.connectors.values()}
        for left in automation.places.left():
            if (connector := by_address.get(left.place.address)) is not None:
                yield Destination(connector, left.place.subpath)


def _download(record: Record) -> Download:
    outcome, deleted = record.outcome, record.artifact_deleted_at
    return Download(
        export_id=record.export_id,
        uri="" if outcome is None else outcome.destination_uri,
        completed_at=None if record.completed_at is None else record.completed_at.isoformat(timespec="seconds"),
        delivery_id="" if outcome is None else outcome.delivery_id,
        dagster_run_id=record.attempts[-1].dagster_run_id,
        artifact_deleted_at=None if deleted is None else deleted.isoformat(timespec="seconds"),
    )
