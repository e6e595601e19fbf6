"""Exports on demand through the client: made, found again, waited for, downloaded."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.config import content_options
from vv_exports.defs.assets import launch_config
from vv_exports.defs.export_runs import attempt_now, export_asset, export_tags, key_tags, launch_with_key, trace
from vv_exports.defs.launches import IN_TURN, launch, message_of, new_run_id
from vv_exports.defs.lost_runs import close_lost
from vv_exports.defs.partitions import sync_partitions
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.exports import Export, ExportRequest, ExportStatus, export_id_of
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import NotFoundError, RequestError, RunFailedError
from vv_exports.exports.idempotency import check_key
from vv_exports.exports.on_demand import Deletion, ExportsVacuum
from vv_exports.exports.plan import ExportPlan, plan
from vv_exports.exports.records import Record

_OVER = {ExportStatus.COMPLETED, ExportStatus.FAILED}
_OPEN = {ExportStatus.PENDING, ExportStatus.PROCESSING}


@dataclass(frozen=True)
class Download:
    """An artifact that was downloaded, or would be. ``written`` is False where the file was there already with the same
    content."""

    export_id: str
    path: Path
    bytes: int
    written: bool


@tells_of_the_instance
class Exports:
    """Exports on demand."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def create_index_export(
        self,
        index_id: str,
        prompt_run_ids: Sequence[str] | None = None,
        destination_connector_id: str | None = None,
        destination_subpath: str | None = None,
        *,
        format: str | Mapping[str, Any] = "parquet",  # noqa: A002 - the configuration's word
        tables: Sequence[str] | None = None,
        fields: Mapping[str, Sequence[str]] | None = None,
        redact: Mapping[str, str] | None = None,
        compression: str | None = None,
        target_file_bytes: int | None = None,
        on_schema_conflict: str | None = None,
        contract: str | None = None,
        bag: bool = False,
        dataset_card: bool = False,
        idempotency_key: str | None = None,
    ) -> Export:
        """Export an index: all finished prompt runs, or those named. Without a connector it becomes a download.

        ``format`` and what follows it are values as the configuration holds them; None is the default there. ``bag``
        makes it a bag of BagIt, ``dataset_card`` puts a dataset card beside its tables. Raises RequestError before
        anything is written. The same ``idempotency_key`` and request give the earlier export; the same key with another
        request raises IdempotencyError.
        """
        content = _content(
            format=format,
            tables=tables,
            fields=fields,
            redact=redact,
            compression=compression,
            target_file_bytes=target_file_bytes,
            on_schema_conflict=on_schema_conflict,
            contract=contract,
        )
        run_ids = None if prompt_run_ids is None else tuple(prompt_run_ids)
        request = ExportRequest(
            "index", index_id, run_ids, destination_connector_id, destination_subpath, content, bag, dataset_card
        )
        return self.create(request, idempotency_key=idempotency_key)

    def create_prompt_run_export(
        self,
        run_id: str,
        destination_connector_id: str | None = None,
        destination_subpath: str | None = None,
        *,
        index_id: str | None = None,
        format: str | Mapping[str, Any] = "parquet",  # noqa: A002 - the configuration's word
        tables: Sequence[str] | None = None,
        fields: Mapping[str, Sequence[str]] | None = None,
        redact: Mapping[str, str] | None = None,
        compression: str | None = None,
        target_file_bytes: int | None = None,
        on_schema_conflict: str | None = None,
        contract: str | None = None,
        bag: bool = False,
        dataset_card: bool = False,
        idempotency_key: str | None = None,
    ) -> Export:
        """Export one prompt run. ``index_id`` is needed only where two configured indexes have a run of this id. What
        else there is to choose is as of ``create_index_export``."""
        content = _content(
            format=format,
            tables=tables,
            fields=fields,
            redact=redact,
            compression=compression,
            target_file_bytes=target_file_bytes,
            on_schema_conflict=on_schema_conflict,
            contract=contract,
        )
        index = index_id or self._index_of(run_id)
        request = ExportRequest(
            "prompt_run", index, (run_id,), destination_connector_id, destination_subpath, content, bag, dataset_card
        )
        return self.create(request, idempotency_key=idempotency_key)

    def create(self, request: ExportRequest, *, idempotency_key: str | None = None) -> Export:
        """What both ``create_*`` come to."""
        # Equal choices are one request, in whatever order and spelling their values come.
        request = replace(request, content=content_options(request.content.chosen))
        exports = self._deployment.pipeline.exports
        if idempotency_key is not None:
            check_key(idempotency_key)
            if (earlier := exports.completed_earlier(idempotency_key, request)) is not None:
                self._deployment.pipeline.snapshots.sweep()
                return earlier.export()
        runs = exports.check(request)  # before anything else: a wrong request leaves nothing behind, no database either
        root, created_at = new_run_id(), self._deployment.pipeline.clock()
        if idempotency_key is not None:
            # The storage knows the key. Where a backup of it was restored that does not, Dagster may know it still.
            root = launch_with_key(self._deployment.instance, idempotency_key, request) or root
            first = exports.launch_of(idempotency_key, request, root, created_at)
            root, created_at = first.run_id, first.created_at
        with IN_TURN:  # another thread with this key is waited for: it is not gone because Dagster has no run yet
            there = self._closed(exports.records.find(export_id_of(root)))
            is_first = there is None and not self._deployment.instance.has_run(root)
            attempt = attempt_now(root if is_first else new_run_id())
            record = exports.attempt(
                Record(
                    export_id=export_id_of(root),
                    launch=root,
                    request=request,
                    prompt_run_ids=tuple(run.run_id for run in runs),
                    created_at=created_at,
                    status=ExportStatus.PENDING,
                    attempts=(attempt,),
                ),
                attempt,
            )
            if record.attempts[-1] == attempt:
                self._make(record, runs, idempotency_key)
        self._deployment.pipeline.snapshots.sweep()  # a process with this key may have died while it wrote the record
        return self._over(self.retrieve(record.export_id))

    def check(self, request: ExportRequest) -> Sequence[PromptRun]:
        """The runs that a request is about, without doing anything. Raises RequestError."""
        return self._deployment.pipeline.exports.check(request)

    def plan(self, request: ExportRequest, *, idempotency_key: str | None = None) -> ExportPlan:
        """What ``create`` would come to. Writes nothing, and reads no prompt run. Raises RequestError."""
        request = replace(request, content=content_options(request.content.chosen))
        if idempotency_key is not None:
            check_key(idempotency_key)
        pipeline = self._deployment.pipeline
        return plan(pipeline.exports, pipeline.snapshots, request, idempotency_key)

    def retrieve(self, export_id: str) -> Export:
        """One export as it stands, by its id or the beginning of it. Raises NotFoundError, and RequestError where
        several ids begin like this."""
        return self._as_it_stands(self._deployment.pipeline.exports.find(export_id))

    def list(
        self,
        *,
        status: ExportStatus | str | None = None,
        index_id: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Sequence[Export]:
        """Exports, newest first, those launched from the UI included.

        ``since`` is when they were asked for; a time without an offset is in UTC. ``after`` goes on behind an export,
        which is how to page: the last one of the page before. Raises RequestError for a status that does not exist.
        """
        if status is not None and status not in set(ExportStatus):
            raise RequestError(f"status {status!r} does not exist; there are: {', '.join(ExportStatus)}")
        if limit is not None and limit < 1:
            raise RequestError(f"limit is {limit}; it must be at least 1, or left out for all")
        return list(
            islice(self._listed(None if status is None else ExportStatus(status), index_id, since, after), limit)
        )

    def delete(self, export_id: str, *, dry_run: bool = False) -> Deletion:
        """Delete the artifact of a download. Its record stays. Raises RequestError for an export to a connector."""
        return self._deployment.pipeline.exports.delete(export_id, dry_run=dry_run)

    def vacuum(self, *, dry_run: bool = False) -> ExportsVacuum:
        """Delete artifacts that are older than ``exports_keep`` in the configuration, and what is left of others."""
        return self._deployment.pipeline.exports.vacuum(dry_run=dry_run)

    def wait_for_completion(
        self, export_id: str, *, timeout: float | None = None, poll_interval: float = 1.0
    ) -> Export:
        """Wait until an export is over and return it. Raises RunFailedError where it failed, TimeoutError after
        ``timeout`` seconds (0 looks once; None waits for ever)."""
        export = self._over(self.retrieve(export_id), timeout=timeout, poll_interval=poll_interval)
        if export.status == ExportStatus.FAILED:
            raise RunFailedError(f"export {export_id} failed: {export.error_message}")
        return export

    def download(self, export_id: str, to: Path | str | None = None, *, dry_run: bool = False) -> Download:
        """Copy the artifact of a completed download export to a file, or into a folder. Never a partial file. A dry run
        only says where, how large it is, and whether it would be written."""
        export_id = self._deployment.pipeline.exports.find(export_id).export_id
        path = Path(to) if to is not None else Path.cwd()
        makes_folder = str(to).endswith(os.sep) and not path.exists()
        if path.is_dir() or str(to).endswith(os.sep):
            if not dry_run:
                path.mkdir(parents=True, exist_ok=True)
            path = path / f"{export_id}.zip"
        if dry_run:
            size, same = self._deployment.pipeline.exports.would_download(export_id, None if makes_folder else path)
            return Download(export_id, path, size, written=not same)
        written = self._deployment.pipeline.exports.download(export_id, path)
        return Download(export_id, path, path.stat().st_size, written)

    def _listed(
        self, status: ExportStatus | None, index_id: str | None, since: datetime | None, after: str | None
    ) -> Iterator[Export]:
        statuses = set(ExportStatus) if status is None else {status}
        if status == ExportStatus.FAILED:
            statuses |= _OPEN  # an attempt may have ended without its record saying so
        for record in self._deployment.pipeline.exports.newest(statuses, index_id, since, after):
            export = self._as_it_stands(record)
            if status in {None, export.status}:
                yield export

    def _as_it_stands(self, record: Record) -> Export:
        """What a record says; of one that is open, what Dagster and the process that makes it say."""
        if not record.is_open:
            return record.export()
        attempt = record.attempts[-1]
        found = trace(self._deployment.instance_if_made, attempt)
        if found.under_way:
            return record.export()
        # Looked at once more: it may have ended well since, and then says so before its run is over.
        record = self._deployment.pipeline.exports.find(record.export_id)
        if not record.is_open or record.attempts[-1] != attempt:
            return record.export()
        if found.over is not None:
            return replace(record.export(), status=ExportStatus.FAILED, error_message=found.over)
        unknown = (
            f"whether it is still under way is not known here: process {attempt.process} began it at "
            f"{attempt.began_at:%Y-%m-%d %H:%M} UTC, and this Dagster instance does not know its run. The same request "
            "with the same idempotency key makes it again."
        )
        return replace(record.export(), error_message=unknown)

    def _closed(self, record: Record | None) -> Record | None:
        """Note that an attempt is over of which the record does not say so, or that nobody here knows: making an export
        twice at once does no harm, and waiting for a machine that is gone would never end."""
        if record is None or not record.is_open:
            return record
        attempt = record.attempts[-1]
        found = trace(self._deployment.instance, attempt)
        if found.under_way:
            return record
        why = found.over or f"it was taken over from process {attempt.process}, of which nothing is known here"
        return self._deployment.pipeline.exports.failed(record.export_id, attempt.dagster_run_id, why)

    def _over(self, export: Export, *, timeout: float | None = None, poll_interval: float = 1.0) -> Export:
        """An export once it is completed or failed. Another process may be at it, and may die."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while export.status not in _OVER:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"export {export.export_id} is still {export.status} after {timeout} s")
            left = poll_interval if deadline is None else deadline - time.monotonic()
            time.sleep(max(0, min(poll_interval, left)))
            if (instance := self._deployment.instance_if_made) is not None:
                close_lost(instance, self._deployment.pipeline.clock(), self._deployment.pipeline.config.indexes)
            export = self.retrieve(export.export_id)
        return export

    def _make(self, record: Record, runs: Sequence[PromptRun], idempotency_key: str | None) -> None:
        """Launch the last attempt at an export, and see that the record says how it ended."""
        exports, attempt = self._deployment.pipeline.exports, record.attempts[-1]
        try:
            self._launch(record, runs, idempotency_key)
        except BaseException as error:
            exports.failed(record.export_id, attempt.dagster_run_id, message_of(error))
            raise
        self._closed(exports.records.find(record.export_id))

    def _launch(self, record: Record, runs: Sequence[PromptRun], idempotency_key: str | None) -> None:
        deployment, request, root = self._deployment, record.request, record.launch
        run_id = record.attempts[-1].dagster_run_id
        sync_partitions(
            deployment.instance, request.index_id, deployment.pipeline.indexes.listing(request.index_id).runs
        )
        asset = export_asset(request.index_id, request.export_type)
        config = launch_config(request)
        if request.export_type == "index" and request.prompt_run_ids is not None:
            config["prompt_run_ids"] = list(request.prompt_run_ids)
        key = partition_key(runs[0].run_id)
        tags = export_tags(root, request, [request.target_id])
        if idempotency_key is not None:
            tags |= key_tags(idempotency_key, request)
        if run_id != root:
            tags |= {"dagster/root_run_id": root, "dagster/parent_run_id": root}
        launch(
            deployment.instance,
            deployment.definitions,
            [asset],
            run_id=run_id,
            partitions=(key, key) if request.export_type == "prompt_run" else None,
            config={self._deployment.names.op(request.index_id, asset.path[-1]): config},
            tags=tags,
        )

    def _index_of(self, run_id: str) -> str:
        pipeline = self._deployment.pipeline
        found = [
            index_id for index_id in pipeline.config.indexes if run_id in pipeline.indexes.listing(index_id).run_ids
        ]
        if len(found) != 1:
            reason = (
                f"is in the indexes {', '.join(found)}; say which with index_id"
                if found
                else "does not exist in any configured index"
            )
            raise NotFoundError(f"prompt run {run_id!r} {reason}")
        return found[0]


def _content(**chosen: Any) -> ContentOptions:
    """Raises RequestError."""
    return content_options({name: value for name, value in chosen.items() if value is not None})
