"""The exports on demand of a deployment."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BufferedIOBase
from pathlib import Path

import msgspec

from vv_exports.config import Config, check_apart
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import Connectors
from vv_exports.content.known_fields import check_fields
from vv_exports.delivery.bag import check_bag
from vv_exports.delivery.content import Content, RedactionKey, content_of
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.exports import ExportRequest, ExportStatus, export_id_of
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import chosen_runs
from vv_exports.domain.tables import rows_by_table
from vv_exports.errors import DeliveryConflictError, RequestError, SelectionError
from vv_exports.exports.artifacts import (
    artifact_key,
    artifact_of,
    artifacts,
    being_read,
    check_target,
    compare_artifact,
    copy_artifact,
    opened_artifact,
    remove_artifact,
)
from vv_exports.exports.idempotency import Launch, earlier_launch, remembered_launch
from vv_exports.exports.make import Deliver, ExportJob, ExportOutcome, make_artifact, make_folder, place_of
from vv_exports.exports.records import DELETED, Attempt, Outcome, Record, Records, created_text, index_digest
from vv_exports.exports.request import check_beside, check_content, check_destination, parent_folder
from vv_exports.snapshots.schemas import KnownSchema, schemas_of
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Listing

_LEFT = frozenset({ExportStatus.FAILED, DELETED})
"""Statuses in which an artifact is one too many."""


@dataclass(frozen=True)
class Deletion:
    """An artifact that was deleted, or would be. ``is_being_read`` where somebody copies it at the moment: then nobody
    can begin to any more, and the next vacuum removes the file. ``bytes`` is its size, 0 where it was gone."""

    export_id: str
    bytes: int
    is_being_read: bool


@dataclass(frozen=True)
class ExportsVacuum:
    """The artifacts that a vacuum removed, or would. ``unknown`` are files that no record tells of: they stay."""

    keep: str | None
    deleted: tuple[Deletion, ...]
    unknown: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of what goes now."""
        return sum(one.bytes for one in self.deleted if not one.is_being_read)


class Exports:
    """Built without touching storage. Usable from several threads."""

    def __init__(
        self,
        config: Config,
        storage: Connector,
        connectors: Connectors,
        *,
        listing: Callable[[str], Listing],
        deliver: Deliver,
        schemas: Callable[[str], Sequence[KnownSchema]],
        check_not_erased: Callable[[Sequence[Snapshot]], None],
        redaction_key: RedactionKey,
        clock: Callable[[], datetime],
    ) -> None:
        self._config = config
        self._storage = storage
        self._connectors = connectors
        self._listing = listing
        self._deliver = deliver
        self._schemas = schemas
        self._check_not_erased = check_not_erased
        self._redaction_key = redaction_key
        self.clock = clock
        self.records = Records(storage)

    # What is asked for

    def check(self, request: ExportRequest) -> list[PromptRun]:
        """Everything about an export that can be wrong, before anything is written. Returns the runs it is about."""
        check_content(self._config, request.content)
        check_beside(request)
        listing, wanted = self._listing(request.index_id), request.prompt_run_ids
        listed = listing.complete() if wanted is None else listing.named(wanted)
        runs = chosen_runs(listed, wanted, index_id=request.index_id)
        if request.bag:
            check_bag(id_ for run in runs for id_ in (run.prompt_id, run.run_id))
        check_destination(self._config, self._connectors, request)
        return runs

    def check_request(self, request: ExportRequest) -> None:
        """What an export may not hold, and where it may not go, whatever runs it is of. Raises RequestError."""
        check_content(self._config, request.content)
        check_beside(request)
        check_destination(self._config, self._connectors, request)

    def launch_of(self, key: str, request: ExportRequest, run_id: str, created_at: datetime) -> Launch:
        """What an idempotency key stands for: this launch, where the key is new. Raises IdempotencyError."""
        return remembered_launch(self._storage, key, request, run_id, created_at)

    def completed_earlier(self, key: str, request: ExportRequest) -> Record | None:
        """The export that an idempotency key stands for, where it is complete and nothing is to be made: neither the
        source nor the destination is asked. Raises IdempotencyError where the key was used for another request."""
        first = self.first_launch(key, request)
        record = self.records.find(export_id_of(first.run_id)) if first is not None else None
        is_done = record is not None and record.status == ExportStatus.COMPLETED
        return record if record is not None and is_done and not self.has_lost_its_artifact(record) else None

    # What becomes of it

    def attempt(self, record: Record, attempt: Attempt) -> Record:
        """Begin an export, or try one again that failed or whose artifact is gone.

        Returns the record as it stands then: its last attempt is another one where somebody else was faster, or nothing
        is to be done.
        """
        begun = self.records.begin(msgspec.structs.replace(record, attempts=(attempt,)))
        if begun.attempts[-1] == attempt:
            return begun

        def again(there: Record) -> Record | None:
            if there.is_open or (there.status == ExportStatus.COMPLETED and not self.has_lost_its_artifact(there)):
                return None
            return _tried_again(there, attempt, ExportStatus.PENDING)

        return self.records.update(record.export_id, again)

    def processing(self, record: Record, attempt: Attempt) -> Record:
        """Note that a Dagster run makes an export now, whoever launched it. Raises RequestError where it was launched
        for another request before."""
        first = msgspec.structs.replace(record, attempts=(attempt,), status=ExportStatus.PROCESSING)
        there = self.records.begin(first)
        if there == first:
            return there
        if there.request != record.request:
            raise RequestError(
                f"export {record.export_id} was launched for another request before, which `vv-exports exports show "
                f"{record.export_id}` tells, and an export is repeated as it was; launch a new one"
            )

        def processed(there: Record) -> Record:
            """What is completed, and has its artifact, stays so while it is made once more."""
            stays = (there.status == ExportStatus.COMPLETED and not there.is_download) or there.has_artifact
            return _tried_again(there, attempt, ExportStatus.COMPLETED if stays else ExportStatus.PROCESSING)

        return self.records.update(record.export_id, processed)

    def decided(self, export_id: str, request: ExportRequest) -> list[PromptRun]:
        """The runs that an export is about, checked: those that were decided before, or now."""
        record = self.records.update(export_id, lambda _: None)
        if record.prompt_run_ids is not None:
            return self.check(replace(request, prompt_run_ids=record.prompt_run_ids))
        chosen = self.check(request)
        ids = tuple(run.run_id for run in chosen)
        record = self.records.update(
            export_id,
            lambda there: msgspec.structs.replace(there, prompt_run_ids=ids) if there.prompt_run_ids is None else None,
        )
        return chosen if record.prompt_run_ids == ids else self.decided(export_id, request)

    def content_of(self, request: ExportRequest) -> Content:
        """What is made of the snapshots. Raises CredentialsError where something is redacted by hash, without a key."""
        return content_of(request.content, self._redaction_key)

    def make(self, job: ExportJob, dagster_run_id: str) -> ExportOutcome:
        """Make an export, and record that it is complete."""
        request, content = job.request, self.content_of(job.request)
        job = replace(job, texts=self.texts_of(request))
        self._check_fields(job)
        if request.destination_connector_id is None:
            outcome = make_artifact(
                job,
                content,
                self._storage,
                lambda: self._artifact_bytes(job.export_id),
                deliver=self._deliver,
                run_id=dagster_run_id,
            )
            try:
                self._check_not_erased(job.snapshots)  # an erasure may have looked before the artifact was there
            except (SelectionError, DeliveryConflictError):
                self._storage.delete([artifact_key(job.export_id)])
                raise
        else:
            connector, parent = self.place_of(request)
            outcome = make_folder(job, content, connector, parent, deliver=self._deliver, run_id=dagster_run_id)
        delivery = outcome.delivery
        done = Outcome(
            destination_uri=outcome.destination_uri,
            rows=delivery.rows,
            rows_by_table=rows_by_table(delivery.files),
            files=len(delivery.files),
            bytes=outcome.bytes,
            delivery_id=delivery.delivery_id,
        )
        now = self.clock()

        def completed(there: Record) -> Record | None:
            if there.outcome == done and there.status == ExportStatus.COMPLETED and there.artifact_deleted_at is None:
                return None
            return msgspec.structs.replace(
                there,
                status=ExportStatus.COMPLETED,
                prompt_run_ids=tuple(run.run_id for run in delivery.prompt_runs),
                outcome=done,
                completed_at=now,
                error=None,
                artifact_deleted_at=None,
            )

        self.records.update(job.export_id, completed)
        return outcome

    def place_of(self, request: ExportRequest) -> tuple[Connector, str]:
        """The connector of a request, and the folder of it in which its exports get their own. Raises
        DestinationError where links lead it elsewhere by now."""
        connector = self._connectors.for_export(str(request.destination_connector_id))
        parent = parent_folder(connector, request)
        check_apart(self._config, connector.connector_id, parent)
        return connector, parent

    def first_launch(self, key: str, request: ExportRequest) -> Launch | None:
        """The launch that an idempotency key stands for already. Raises IdempotencyError."""
        return earlier_launch(self._storage, key, request)

    def _check_fields(self, job: ExportJob) -> None:
        """Raise SelectionError where a field is named that no schema of the index has."""
        own = [schema for snapshot in job.snapshots for schema in schemas_of(snapshot.prompt)]
        index_id = job.request.index_id
        check_fields(job.request.content, index_id, own, lambda: self._schemas(index_id))

    def failed(self, export_id: str, dagster_run_id: str, why: str) -> Record:
        """Record that an attempt failed. What another attempt has made, or is at, stays as it is."""
        now = self.clock()

        def failed(there: Record) -> Record | None:
            if not there.is_open or there.attempts[-1].dagster_run_id != dagster_run_id:
                return None
            return msgspec.structs.replace(there, status=ExportStatus.FAILED, error=why, completed_at=now)

        return self.records.update(export_id, failed)

    # What there is

    def find(self, beginning: str) -> Record:
        """An export, by its id or the beginning of it. Raises NotFoundError, RequestError where several begin so."""
        return self.records.of(self.records.entry(beginning))

    def newest(
        self,
        statuses: Collection[ExportStatus] = frozenset(ExportStatus),
        index_id: str | None = None,
        since: datetime | None = None,
        after: str | None = None,
    ) -> Iterator[Record]:
        """Exports in these recorded statuses, newest first; ``since`` is when they were asked for. ``after`` goes on
        behind an export. Records are read as they are consumed."""
        found = self.records.entries()
        if after is not None:
            last = self.records.entry(after)
            found = [one for one in found if one.age < last.age]
        if since is not None:
            since = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
            found = [one for one in found if one.created >= created_text(since)]
        if index_id is not None:
            found = [one for one in found if one.index == index_digest(index_id)]
        wanted = {*statuses, *([DELETED] if ExportStatus.COMPLETED in statuses else [])}
        for record in self.records.read(one for one in found if one.status in wanted):
            if index_id in {None, record.request.index_id}:
                yield record

    # Artifacts

    def has_lost_its_artifact(self, record: Record) -> bool:
        """Whether the artifact of a completed download was deleted, or a backup without it restored."""
        is_one = record.is_download and record.status == ExportStatus.COMPLETED
        return is_one and (record.artifact_deleted_at is not None or self._artifact_bytes(record.export_id) is None)

    def would_download(self, export_id: str, target: Path | None) -> tuple[int, bool]:
        """The size of the artifact that ``download`` would copy, and whether the target has it already; that is None
        where its folder is not there yet. Leaves no mark of a reader. Raises what ``download`` raises."""
        self._check_downloadable(self.find(export_id), None if target is None else target.resolve())
        self._check_kept(export_id)
        return compare_artifact(self._storage, export_id, target)

    def _check_downloadable(self, record: Record, target: Path | None) -> None:
        export_id = record.export_id
        if not record.is_download:
            where = record.outcome.destination_uri if record.outcome is not None else "a connector"
            raise RequestError(f"export {export_id!r} was delivered to {where}; it has no artifact to download")
        if record.status != ExportStatus.COMPLETED:
            raise RequestError(f"export {export_id!r} is {record.status}; only a completed one can be downloaded")
        if target is not None:
            check_target(target)

    def _check_kept(self, export_id: str) -> None:
        deleted_at = self.find(export_id).artifact_deleted_at
        if deleted_at is not None:
            raise RequestError(
                f"the artifact of export {export_id!r} was deleted at {deleted_at:%Y-%m-%d %H:%M} UTC; make the "
                "export again, with the same idempotency key where it had one"
            )

    def download(self, export_id: str, target: Path) -> bool:
        """Copy a completed download's artifact to a local file, atomically. False where the file is there already, the
        same."""
        target = target.resolve()
        self._check_downloadable(self.find(export_id), target)
        with being_read(self._storage, export_id, self.clock()):
            self._check_kept(export_id)  # looked at once the mark is there
            return copy_artifact(self._storage, export_id, target)

    @contextmanager
    def reading(self, export_id: str) -> Iterator[BufferedIOBase]:
        """The artifact of a completed download, opened; nobody takes it away meanwhile. Raises what ``download``
        raises."""
        self._check_downloadable(self.find(export_id), None)
        with being_read(self._storage, export_id, self.clock()):
            self._check_kept(export_id)  # looked at once the mark is there
            with opened_artifact(self._storage, export_id) as content:
                yield content

    def glimpse(self, export_id: str) -> AbstractContextManager[BufferedIOBase]:
        """The artifact of a download that has one by its record, opened for a short look, which leaves no mark. Raises
        DeliveredDataError where it is gone."""
        return opened_artifact(self._storage, export_id, sparsely=True)

    def delete(self, beginning: str, *, dry_run: bool = False) -> Deletion:
        """Delete the artifact of a completed download. The record stays, and says so. Raises RequestError for any other
        export: what was delivered to a connector is its readers'."""
        record = self.find(beginning)
        export_id = record.export_id
        if not record.is_download:
            raise RequestError(
                f"export {export_id!r} went to connector {record.request.destination_connector_id!r}, whose files "
                "belong to their readers; nothing was deleted. Remove its folder there where nobody reads it any more"
            )
        if record.status != ExportStatus.COMPLETED:
            raise RequestError(f"export {export_id!r} is {record.status}, so there is no artifact to delete")
        if dry_run:
            there = artifact_of(self._storage, export_id, self.clock())
            return Deletion(export_id, 0 if there is None else there.bytes, bool(there and there.readers))
        deletion = self._deleted(export_id, lambda _: True)
        return deletion or Deletion(export_id, 0, is_being_read=False)

    def folder_of(self, record: Record) -> Destination:
        """Where an export to a connector is delivered: its folder, or the payload in it."""
        request = record.request
        connector = self._connectors.for_export(request.destination_connector_id or "")
        parent = parent_folder(connector, request)
        owner = Owner(type="export", index_id=request.index_id, export_id=record.export_id)
        return Destination(connector, place_of(request, parent, record.export_id), owner)

    def texts_of(self, request: ExportRequest) -> DatasetTexts:
        """What the configuration says of the results of an index as a dataset."""
        index = self._config.indexes.get(request.index_id)
        return DatasetTexts() if index is None else index.dataset.texts

    def rewrite(self, record: Record, text: Callable[[str], str]) -> None:
        """Let a record say what ``text`` makes of its error."""
        if record.error is not None and text(record.error) != record.error:
            self.records.update(
                record.export_id,
                lambda one: msgspec.structs.replace(one, error=None if one.error is None else text(one.error)),
            )

    def erase_artifact(self, record: Record, *, dry_run: bool) -> str | None:
        """Remove the artifact of a download, whoever reads it at the moment. Returns its address; None where there is
        none."""
        artifact = artifact_of(self._storage, record.export_id, self.clock())
        if artifact is None:
            return None
        if not dry_run:
            self._deleted(record.export_id, lambda _: True)
            remove_artifact(self._storage, artifact)
        return self._storage.uri(artifact.key)

    def vacuum(self, *, dry_run: bool = False) -> ExportsVacuum:
        """Delete the artifacts of downloads that were completed longer ago than ``exports_keep``, and what is left of
        those that were deleted, or failed. What is being read or made stays."""
        now, keep = self.clock(), self._config.exports_kept
        listed = artifacts(self._storage, now)
        there = {one.export_id: one for one in listed if one.key == artifact_key(one.export_id)}
        known = [one for one in self.records.entries() if one.export_id in there]
        # Nothing is completed before it is asked for: most of those that stay need not be read.
        old = created_text(now - keep) if keep is not None else ""
        deleted = []
        for record in self.records.read(one for one in known if one.created <= old or one.status in _LEFT):
            artifact = there[record.export_id]
            if self._is_over(record, now, keep):
                seen = Deletion(record.export_id, artifact.bytes, bool(artifact.readers))
                over = partial(self._is_over, now=now, keep=keep)
                deletion = seen if dry_run else self._deleted(record.export_id, over)
                if deletion is not None:
                    deleted.append(deletion)
        known_keys = {there[one.export_id].key for one in known}
        unknown = tuple(one.key for one in sorted(listed, key=lambda one: one.export_id) if one.key not in known_keys)
        return ExportsVacuum(self._config.exports_keep, tuple(deleted), unknown)

    def _is_over(self, record: Record, now: datetime, keep: timedelta | None) -> bool:
        if record.artifact_deleted_at is not None or record.status == ExportStatus.FAILED:
            return True
        return keep is not None and record.completed_at is not None and now - record.completed_at > keep

    def _deleted(self, export_id: str, is_over: Callable[[Record], bool]) -> Deletion | None:
        """Delete an artifact whose record is still over when that is written; None where it is being made again by
        now, or was."""
        now = self.clock()

        def deleted(there: Record) -> Record | None:
            goes = there.has_artifact and is_over(there)
            return msgspec.structs.replace(there, artifact_deleted_at=now) if goes else None

        self.records.update(export_id, deleted)
        artifact = artifact_of(self._storage, export_id, now)
        there = self.find(export_id)
        if there.is_open or there.has_artifact:
            return None
        if artifact is None:
            return Deletion(export_id, 0, is_being_read=False)
        if not artifact.readers:
            remove_artifact(self._storage, artifact)
        return Deletion(export_id, artifact.bytes, bool(artifact.readers))

    def _artifact_bytes(self, export_id: str) -> int | None:
        found = artifact_of(self._storage, export_id, self.clock())
        return None if found is None else found.bytes


def _tried_again(there: Record, attempt: Attempt, status: ExportStatus) -> Record:
    known = there.attempts[-1].dagster_run_id == attempt.dagster_run_id
    attempts = (*there.attempts[:-1], attempt) if known else (*there.attempts, attempt)
    if status == ExportStatus.COMPLETED:
        return msgspec.structs.replace(there, attempts=attempts)
    return msgspec.structs.replace(
        there,
        status=status,
        attempts=attempts,
        completed_at=None,
        outcome=None,
        error=None,
        artifact_deleted_at=None,
    )
